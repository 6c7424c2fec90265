"""A bucket behind the whole server: the same answers as from a folder, also from a cache that holds next to nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from engine import Engine
from engine.config import EngineConfig
from engine.errors import StoreError
from queries.request import QueryRequest
from server.app import create_app
from server.settings import Settings
from tests.object_storage.servers import Bucket

DEFINITION = b'key = ["metric", "step"]\nsort = ["metric", "step"]\n'
METRICS = ("accuracy", "loss", "perplexity")
PATHS = (
    "rows?metric=loss&limit=20",
    "rows?limit=7&offset=200001",
    "rows?metric=loss&group_by=step&agg=mean,std,count&sort=-mean&limit=50",
    "rows?sort=value&limit=30",
    "rows?last_by=metric",
    "rows?group_by=metric",
    "rows?metric=accuracy&pivot=metric&limit=9",
    "rows?step__between=5,7&facets=metric&limit=3",
    "columns/value",
    "columns/metric",
)


@dataclass
class Served:
    """One store in two homes, behind three servers."""

    folder: TestClient
    bucket: TestClient
    tiny: TestClient  # whose cache holds no file

    @property
    def all(self) -> tuple[TestClient, ...]:
        return self.folder, self.bucket, self.tiny


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 000 rows in no order, 4.5 MB."""
    rng = np.random.default_rng(1)
    rows = 300_000
    table = {
        "metric": pa.array(np.array(METRICS)[rng.integers(0, 3, rows)]),
        "step": rng.integers(0, 1000, rows),
        "value": rng.normal(size=rows),
    }
    path = tmp_path_factory.mktemp("given") / "given.parquet"
    pq.write_table(pa.table(table), path)
    return path


@pytest.fixture
def served(moto_bucket: Bucket, given: Path, tmp_path: Path) -> Iterator[Served]:
    moto_bucket.put("sweep/dataset.toml", DEFINITION)
    (tmp_path / "store/sweep").mkdir(parents=True)
    (tmp_path / "store/sweep/dataset.toml").write_bytes(DEFINITION)
    with ExitStack() as stack:

        def serve(name: str, **options: object) -> TestClient:
            settings = Settings.model_validate(
                {"definitions": None, "cache_dir": tmp_path / name, "ingest": False, **options}
            )
            client = TestClient(create_app(settings), client=("127.0.0.1", 50000), base_url="http://127.0.0.1")
            return stack.enter_context(client)

        folder = serve("folder", store=tmp_path / "store")
        bucket = serve("bucket", store=moto_bucket.location)
        for client in (folder, bucket):
            answer = client.post("/api/datasets/sweep/versions?filename=given.parquet", content=given.read_bytes())
            assert answer.status_code == 201, answer.text
        yield Served(folder, bucket, serve("tiny", store=moto_bucket.location, cache_bytes=1 << 20))


def test_every_home_and_every_cache_gives_the_same_bytes(served: Served) -> None:
    for path in PATHS:
        for form in ("json", "arrow", "csv") if path.startswith("rows") else ("json",):
            suffix = f"{'&' if '?' in path else '?'}version=v1" + (f"&format={form}" if path.startswith("rows") else "")
            answers = [client.get(f"/api/datasets/sweep/{path}{suffix}") for client in served.all]
            assert {answer.status_code for answer in answers} == {200}, answers[0].text
            assert len({answer.content for answer in answers}) == 1, path
            assert len({answer.headers.get("etag") for answer in answers}) == 1, path
    cache = served.tiny.get("/api/ready").json()["cache"]
    assert cache["bytes_by_range"] > 0 and cache["used_bytes"] <= 1 << 20


def test_a_file_larger_than_the_cache_comes_in_pieces(served: Served) -> None:
    url = "/api/datasets/sweep/versions/v1/file"
    whole = served.bucket.get(url)
    assert pq.read_table(pa.BufferReader(whole.content)).num_rows == 300_000
    size = len(whole.content)
    for header in (None, "bytes=-4", "bytes=0-3", "bytes=1500000-", f"bytes=5-{size + 9}", f"bytes={size}-"):
        asked = {"range": header} if header else {}
        usual, pieces = (client.get(url, headers=asked) for client in (served.bucket, served.tiny))
        assert usual.status_code == pieces.status_code, header
        if header == f"bytes={size}-":
            assert pieces.status_code == 416
            continue
        for name in ("content-length", "content-range", "etag", "cache-control", "content-disposition", "content-type"):
            assert usual.headers.get(name) == pieces.headers.get(name), (header, name)
        assert usual.content == pieces.content
    assert whole.headers["etag"] == f'"{hashlib.sha256(whole.content).hexdigest()}"'
    head = served.tiny.head(url)
    assert head.headers["content-length"] == str(size) and head.content == b""
    assert served.tiny.get(url, headers={"if-none-match": whole.headers["etag"]}).status_code == 304


def test_what_is_pinned_is_answered_without_a_word_to_the_bucket(served: Served, moto_bucket: Bucket) -> None:
    url = "/api/datasets/sweep/rows?metric=loss&group_by=metric&agg=mean&version=v1"
    before = served.bucket.get(url).content
    for key in moto_bucket.keys("sweep"):
        moto_bucket.remove(key)
    assert served.bucket.get(url + "&limit=5").status_code == 200
    assert served.bucket.get(url).content == before


@pytest.mark.parametrize("condition", ["if_latest=", "dry_run=", "if_latest=&dry_run=1"])
def test_an_empty_condition_publishes_nothing(served: Served, given: Path, condition: str) -> None:
    answer = served.folder.post(f"/api/datasets/other/versions?{condition}", content=given.read_bytes())
    assert answer.status_code == 400 and "is empty" in answer.json()["detail"]
    assert served.folder.get("/api/datasets/other").status_code == 404


def test_who_leaves_stops_what_is_fetched_for_them(moto_bucket: Bucket, given: Path, tmp_path: Path) -> None:
    config = EngineConfig(moto_bucket.location, definitions=None, cache_dir=tmp_path / "publisher")
    with Engine(config) as publisher:
        publisher.publish("sweep", given)
    with Engine(replace(config, cache_dir=tmp_path / "reader")) as engine:
        prepared = engine.prepare(QueryRequest(dataset="sweep", limit=3))
        with pytest.raises(StoreError, match="was stopped"):
            engine.stream(prepared, started=lambda going_on: going_on.close())
        metrics = engine.blobs.metrics()
        assert metrics is not None and metrics.bytes_fetched == 0
        going_on: list[object] = []
        with engine.stream(prepared, started=going_on.append) as stream:
            assert sum(batch.num_rows for batch in stream) == 3
        assert len(going_on) == 2  # the files on their way, and then the query
