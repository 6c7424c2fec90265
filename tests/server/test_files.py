"""The parquet of a version: whole, in ranges, and under conditions."""

from __future__ import annotations

import hashlib
import io

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from server.errors import HttpError
from server.routes.files import satisfiable
from tests.server.conftest import sweep

FILE = "/api/datasets/sweep/versions/v2/file"


@pytest.fixture
def whole(client: TestClient) -> bytes:
    return client.get(FILE).content


def test_the_whole_file(client: TestClient, whole: bytes) -> None:
    found = client.get(FILE)
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/vnd.apache.parquet"
    assert found.headers["etag"] == f'"{hashlib.sha256(whole).hexdigest()}"'
    assert found.headers["accept-ranges"] == "bytes"
    assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert found.headers["content-disposition"] == 'attachment; filename="sweep-v2.parquet"'
    assert "last-modified" not in found.headers
    assert pq.read_table(io.BytesIO(whole)).num_rows == sweep().num_rows


def test_the_latest_file_is_not_pinned(client: TestClient) -> None:
    found = client.get("/api/datasets/sweep/versions/latest/file")
    assert found.headers["cache-control"] == "no-cache"
    assert found.headers["content-location"] == FILE


def test_it_is_never_compressed(client: TestClient) -> None:
    assert "content-encoding" not in client.get(FILE, headers={"accept-encoding": "gzip"}).headers


@pytest.mark.parametrize(
    "header, start, end",
    [("bytes=0-3", 0, 4), ("bytes=10-", 10, None), ("bytes=-8", -8, None), ("BYTES=0-99999999", 0, None)],
)
def test_one_range(client: TestClient, whole: bytes, header: str, start: int, end: int | None) -> None:
    found = client.get(FILE, headers={"range": header})
    expected = whole[start:end]
    assert found.status_code == 206
    assert found.content == expected
    first = start % len(whole)
    assert found.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(whole)}"
    assert int(found.headers["content-length"]) == len(expected)


def test_several_ranges(client: TestClient, whole: bytes) -> None:
    found = client.get(FILE, headers={"range": "bytes=0-3, 100-199, 9999999-"})
    assert found.status_code == 206
    assert found.headers["content-type"].startswith("multipart/byteranges; boundary=")
    boundary = found.headers["content-type"].partition("boundary=")[2].encode()
    parts = found.content.split(b"--" + boundary)
    assert [part.partition(b"\r\n\r\n")[2][:-2] for part in parts[1:-1]] == [whole[:4], whole[100:200]]
    assert int(found.headers["content-length"]) == len(found.content)


@pytest.mark.parametrize("header", ["bytes=99999999-", "bytes=-0", "bytes=99999999-,88888888-"])
def test_no_such_range(client: TestClient, whole: bytes, header: str) -> None:
    found = client.get(FILE, headers={"range": header})
    assert found.status_code == 416
    assert found.headers["content-range"] == f"bytes */{len(whole)}"
    assert found.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=a-b", "rows=0-3", "bytes", "bytes=0-3;4", "bytes=1--2", "bytes=-"]
)
def test_what_cannot_be_read_counts_as_absent(client: TestClient, whole: bytes, header: str) -> None:
    found = client.get(FILE, headers={"range": header})
    assert (found.status_code, found.content) == (200, whole)


def test_conditions(client: TestClient, whole: bytes) -> None:
    etag = client.head(FILE).headers["etag"]
    assert client.get(FILE, headers={"if-none-match": etag}).status_code == 304
    kept = client.get(FILE, headers={"range": "bytes=0-3", "if-range": etag})
    assert (kept.status_code, kept.content) == (206, whole[:4])
    for other in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        changed = client.get(FILE, headers={"range": "bytes=99999999-", "if-range": other})
        assert (changed.status_code, changed.content) == (200, whole)


def test_head(client: TestClient, whole: bytes) -> None:
    found = client.head(FILE)
    assert (found.status_code, found.content) == (200, b"")
    assert found.headers["content-length"] == str(len(whole))


def test_ranges_that_are_left() -> None:
    assert satisfiable("bytes=0-1,50-60,-5", 10) == "bytes=0-1,-5"
    assert satisfiable("lines=1-2", 10) is None
    with pytest.raises(HttpError):
        satisfiable("bytes=10-", 10)
