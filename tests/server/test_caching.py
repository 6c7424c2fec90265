"""ETags, conditions, and what caches are told; over a server whose engine says when it is used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from engine import Engine
from engine.store.state import is_pin
from server.caching import code_version, is_match, make_etag

ROWS = "/api/datasets/sweep/rows?metric=pile-valppl&params=4M"
FORMATS = ("json", "columns", "ndjson", "csv", "arrow", "parquet")


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, running a query is a failure of the test."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a query was run")

    monkeypatch.setattr(Engine, "stream", refuse)


@pytest.mark.parametrize(
    "header, expected",
    [
        (None, False),
        ("", False),
        ("*", True),
        ('"a"', True),
        ('W/"a"', True),
        ('"b"', False),
        ('"b", "a"', True),
        ('"b",W/"a"', True),
        ("a", False),
        ('"a,b"', False),
    ],
)
def test_matching(header: str | None, expected: bool) -> None:
    assert is_match(header, '"a"') is expected


def test_pins() -> None:
    assert is_pin("v7")
    assert is_pin(7)
    assert is_pin("0123abcd")
    assert not any(map(is_pin, ("paper", "2026-11-25", "2026-11-25T10:00:00Z", "v", "1.0")))
    assert not is_pin(None)
    assert not is_pin(" Latest")


def test_etags_tell_parts_apart() -> None:
    assert make_etag("a", "bc") != make_etag("ab", "c")
    assert make_etag("a") == make_etag("a")
    assert len(code_version()) == 16


@pytest.mark.parametrize("name", FORMATS)
def test_the_second_request_is_answered_without_the_engine(client: TestClient, name: str, no_engine: None) -> None:
    url = f"{ROWS}&format={name}"
    head = client.head(url)
    assert head.status_code == 200
    etag = head.headers["etag"]
    assert etag.startswith('"')
    for header in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = client.get(url, headers={"if-none-match": header})
        assert again.status_code == 304
        assert again.content == b""
        for kept in ("etag", "cache-control", "content-location", "vary"):
            assert again.headers[kept] == head.headers[kept]
        assert "content-type" not in again.headers


def test_unpinned(client: TestClient) -> None:
    found = client.get(ROWS)
    assert found.headers["cache-control"] == "no-cache"
    assert found.headers["vary"].startswith("Accept, Accept-Encoding")
    location = found.headers["content-location"]
    assert location == f"{ROWS}&version=v2"
    pinned = client.get(location)
    assert pinned.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-location" not in pinned.headers
    assert pinned.json()["data"] == found.json()["data"]
    assert pinned.json()["links"]["pinned"] == location


@pytest.mark.parametrize("version", ["v1", "1", "latest"])
def test_named_versions(client: TestClient, version: str) -> None:
    found = client.get(f"{ROWS}&version={version}")
    expected = "no-cache" if version == "latest" else "public, max-age=31536000, immutable"
    assert found.headers["cache-control"] == expected


def test_a_content_id_is_a_pin(client: TestClient) -> None:
    content_id = client.get(ROWS).json()["meta"]["content_id"]
    found = client.get(f"{ROWS}&version={content_id[:12]}")
    assert found.headers["cache-control"].endswith("immutable")
    assert found.json()["meta"]["version"] == "v2"


def test_etags_differ_by_what_the_bytes_depend_on(client: TestClient) -> None:
    urls = [f"{ROWS}&format={name}" for name in FORMATS]
    urls += [f"{ROWS}&version=v1", f"{ROWS}&limit=1", ROWS.replace("4M", "60M")]
    found = [client.head(url).headers["etag"] for url in urls]
    found += [client.head(urls[0], headers={"accept-encoding": name}).headers["etag"] for name in ("br", "gzip")]
    assert len(set(found)) == len(found)
    accepted = client.head(ROWS, headers={"accept": "text/csv"}).headers["etag"]
    assert accepted == found[FORMATS.index("csv")]


def test_the_same_question_in_other_words_has_the_same_etag(client: TestClient) -> None:
    other = "/api/datasets/sweep/rows?model_size__eq=4M&metric=pile-valppl"
    assert client.head(other).headers["etag"] == client.head(ROWS).headers["etag"]


def test_a_post_that_has_the_answer_already(client: TestClient) -> None:
    body = {"dataset": "sweep", "where": {"col": "params", "value": "4M"}}
    first = client.post("/api/query", json=body)
    assert first.status_code == 200
    again = client.post("/api/query", json=body, headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 412
    assert again.json()["code"] == "precondition_failed"


def test_a_head_runs_no_query(client: TestClient, no_engine: None) -> None:
    found = client.head(ROWS)
    assert found.status_code == 200
    assert found.headers["content-type"] == "application/json"
    assert found.content == b""


def test_errors_are_never_kept(client: TestClient) -> None:
    for url in ("/api/nothing", "/api/datasets/none/rows", f"{ROWS}&nope=1"):
        assert client.get(url).headers["cache-control"] == "no-store"


def test_timings_stand_in_no_body(client: TestClient) -> None:
    found = client.get(ROWS)
    assert found.headers["server-timing"].startswith("engine;dur=")
    assert found.content == client.get(ROWS).content
    assert "dur" not in json.dumps(found.json())
