"""Answers that are given again as they were sent: the same bytes, and only while the engine would give the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from engine import Engine, EngineConfig
from engine.footing import MOST_FILES
from server.app import Application
from server.kept import LARGEST_SHARE, KeptAnswers
from server.sharing import Sharing
from tests.server.conftest import DEFINITION, local_client, settings, sweep, wide
from tests.server.encoding.support import read_json

ROWS = "/api/datasets/sweep/rows?metric=pile-valppl&params=4M"
FORMATS = ("json", "columns", "ndjson", "csv", "arrow", "parquet")


class Asked:
    """How often the engine was asked to prepare a query."""

    def __init__(self) -> None:
        self.times = 0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    counted = Asked()
    prepare = Engine.prepare

    def counting(self: Engine, *given: Any, **named: Any) -> Any:
        counted.times += 1
        return prepare(self, *given, **named)

    monkeypatch.setattr(Engine, "prepare", counting)
    return counted


@pytest.fixture
def two_datasets(own_store: Path) -> Path:
    with Engine(EngineConfig(store=own_store, definitions=None)) as engine:
        engine.publish("wide", wide())
    return own_store


@pytest.fixture
def own(two_datasets: Path) -> Iterator[TestClient]:
    """A client whose server knows both datasets, as after any first request."""
    with local_client(settings(two_datasets)) as opened:
        opened.get("/api/datasets")
        yield opened


def kept_by(client: TestClient) -> KeptAnswers:
    app = client.app
    assert isinstance(app, Application) and isinstance(app.front, Sharing)
    return app.front.kept


def elsewhere(store: Path) -> Engine:
    """Another process, as far as the server can tell."""
    return Engine(EngineConfig(store=store, definitions=None))


def head(response: Any) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name != "server-timing"}


@pytest.mark.parametrize("coding", ["identity", "gzip", "br", "zstd"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bytes_without_the_engine(own: TestClient, asked: Asked, name: str, coding: str) -> None:
    url, headers = f"{ROWS}&format={name}", {"accept-encoding": coding}
    first = own.get(url, headers=headers)
    assert (first.status_code, asked.times) == (200, 1)
    again = own.get(url, headers=headers)
    assert (again.content, head(again)) == (first.content, head(first))
    assert again.headers["server-timing"].startswith("engine;dur=0.00, total;dur=")
    assert again.headers["server-timing"].endswith("cache;desc=hit")
    assert "hit" not in first.headers["server-timing"]
    unchanged = own.get(url, headers={**headers, "if-none-match": first.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert asked.times == 1
    fresh = own.get(f"{url}&total=1", headers={**headers, "if-none-match": "*"})  # not from what was kept
    assert asked.times == 2
    assert set(head(unchanged)) == set(head(fresh))


def test_what_the_answer_depends_on(own: TestClient, asked: Asked) -> None:
    found = [
        own.get(ROWS),
        own.get(ROWS, headers={"accept": "text/csv"}),
        own.get(ROWS, headers={"accept-encoding": "gzip"}),
        own.get(ROWS, headers={"origin": "https://bytomorrow.app"}),
        own.get(ROWS, headers={"origin": "https://example.org"}),
        own.get(f"{ROWS}&"),
        own.get(ROWS.replace("metric=pile-valppl&params=4M", "params=4M&metric=pile-valppl")),
    ]
    assert asked.times == len(found)
    assert [one.headers.get("access-control-allow-origin") for one in found] == [
        None, None, None, "https://bytomorrow.app", None, None, None,
    ]  # fmt: skip
    assert found[6].json()["links"]["self"] != found[0].json()["links"]["self"]
    again = own.get(ROWS, headers={"origin": "https://bytomorrow.app", "user-agent": "another"})
    assert head(again) == head(found[3])
    assert own.get(ROWS, headers={"origin": "https://example.com"}).status_code == 200  # as the other foreign one
    assert own.get(ROWS, headers={"accept": "application/json"}).content == found[0].content
    assert asked.times == len(found)


def test_a_head_and_a_post_are_as_ever(own: TestClient, asked: Asked) -> None:
    body = {"dataset": "sweep", "where": {"col": "params", "value": "4M"}}
    for _ in range(2):
        got = own.head(ROWS)
        assert (got.status_code, got.content) == (200, b"")
        assert "content-length" not in got.headers
        assert own.post("/api/query", json=body).status_code == 200
    assert asked.times == 4


def test_errors_are_asked_each_time(own: TestClient, asked: Asked) -> None:
    for _ in range(2):
        assert own.get(f"{ROWS}&sort=nowhere").status_code == 400
    assert asked.times == 2
    assert kept_by(own).size_bytes == 0


def test_what_explains_itself_is_found_each_time(own: TestClient, asked: Asked) -> None:
    for _ in range(2):
        assert "explain" in own.get(f"{ROWS}&explain=1").json()["meta"]
    assert asked.times == 2


def test_with_nothing_kept_each_request_is_worked_for(two_datasets: Path, asked: Asked) -> None:
    with local_client(settings(two_datasets, results_cache_bytes=0)) as client:
        first = client.get(ROWS)
        assert client.get(ROWS).content == first.content
        assert client.get(ROWS, headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert asked.times == 3


def test_the_memory_for_answers_is_shared(two_datasets: Path) -> None:
    with local_client(settings(two_datasets, results_cache_bytes=1_000_001)) as client:
        engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
        assert engine.config.results_cache_bytes + kept_by(client).most_bytes == 1_000_001


def test_old_answers_make_room(two_datasets: Path) -> None:
    with local_client(settings(two_datasets, results_cache_bytes=400_000)) as client:
        for number in range(100):
            assert client.get(f"{ROWS}&step__gte={number}").status_code == 200
            assert kept_by(client).size_bytes <= 200_000
        assert kept_by(client).size_bytes > 150_000


def test_of_a_large_answer_only_the_head_is_kept(two_datasets: Path, asked: Asked) -> None:
    url = "/api/datasets/sweep/rows"
    with local_client(settings(two_datasets, results_cache_bytes=2 * 4_096 * LARGEST_SHARE)) as client:
        client.get("/api/datasets")
        first = client.get(url)
        assert len(first.content) > 4_096
        assert client.get(url).content == first.content
        assert asked.times == 2
        assert client.get(url, headers={"if-none-match": first.headers["etag"]}).status_code == 304
        assert client.get(url, headers={"if-none-match": '"another"'}).content == first.content
        assert asked.times == 3


def test_a_streamed_answer_too(client: TestClient, asked: Asked) -> None:
    url = "/api/datasets/long/rows?format=csv&select=n,half"
    client.get("/api/datasets")
    first = client.get(url)
    assert "content-length" not in first.headers
    before = asked.times
    assert client.get(url, headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert asked.times == before
    assert client.get(url).content == first.content
    assert asked.times == before + 1


# --- what happens meanwhile


def publish(engine: Engine) -> None:
    engine.publish("sweep", sweep(7.0))


def yank(engine: Engine) -> None:
    engine.yank("sweep", "v2")


@pytest.mark.parametrize("change", [publish, yank])
def test_another_process_moves_the_latest(
    two_datasets: Path, own: TestClient, change: Callable[[Engine], None]
) -> None:
    with elsewhere(two_datasets) as engine:
        engine.publish("sweep", sweep(1.0))
        before = own.get(ROWS)
        own.get(ROWS)  # kept from here on, whatever was read before
        change(engine)
        with elsewhere(two_datasets) as expected:
            name = expected.version("sweep").version.name
    after = own.get(ROWS)
    assert before.json()["meta"]["version"] == "v2"
    assert after.json()["meta"]["version"] == name != "v2"
    assert after.headers["etag"] != before.headers["etag"]
    assert own.get(ROWS, headers={"if-none-match": before.headers["etag"]}).status_code == 200
    assert own.get(ROWS).content == after.content


def test_this_process_publishes(own: TestClient) -> None:
    assert own.get(ROWS).json()["meta"]["version"] == "v1"
    engine: Engine = own.app.state.engine  # type: ignore[attr-defined]
    engine.publish("sweep", sweep(3.0))
    assert own.get(ROWS).json()["meta"]["version"] == "v2"


def test_a_version_expires(two_datasets: Path, own: TestClient, asked: Asked) -> None:
    pinned = f"{ROWS}&version=v1"
    with elsewhere(two_datasets) as engine:
        engine.publish("sweep", sweep(1.0))
        own.get(ROWS)
        first = own.get(pinned)
        times = asked.times
        assert own.get(pinned).content == first.content
        assert asked.times == times
        engine.expire("sweep", ["v1"], keep=1)
    for headers in ({}, {"if-none-match": first.headers["etag"]}):
        gone = own.get(pinned, headers=headers)
        assert (gone.status_code, gone.json()["code"]) == (404, "version_not_found")


def damage(blob: Path) -> None:
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)


def shorten(blob: Path) -> None:
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-1])


def link(blob: Path) -> None:
    blob.symlink_to(blob.rename(blob.parent.parent / "moved"))


@pytest.mark.parametrize("harm", [damage, shorten, Path.unlink, link])
def test_a_file_is_harmed(two_datasets: Path, own: TestClient, harm: Callable[[Path], None]) -> None:
    first = own.get(ROWS)
    assert own.get(ROWS).headers["server-timing"].endswith("hit")
    (blob,) = (two_datasets / "sweep" / "_bt" / "data").glob("*.parquet")
    harm(blob)
    for headers in ({}, {"if-none-match": first.headers["etag"]}):
        found = own.get(ROWS, headers=headers)
        assert (found.status_code, found.json()["code"]) == (503, "corrupt_version")


def test_a_log_that_cannot_be_looked_into(two_datasets: Path, own: TestClient) -> None:
    own.get(ROWS)
    (two_datasets / "sweep" / "_bt" / "log" / "0000000002.json").mkdir()
    assert own.get(ROWS).status_code == 503


def test_a_query_that_two_datasets_decide(two_datasets: Path, own: TestClient, asked: Asked) -> None:
    url = "/api/queries/sweep/ft"
    first = own.get(url)
    times = asked.times
    assert own.get(url).content == first.content
    assert asked.times == times
    with elsewhere(two_datasets) as engine:
        engine.publish("wide", wide().slice(0, 4))
        shorter = own.get(url)
        assert len(read_json(shorter.content)) == 4
        assert own.get(url).content == shorter.content
        (two_datasets / "sweep" / "dataset.toml").write_text(
            DEFINITION.replace("[queries.ft.parameters]", '[queries.ft.parameters]\ngroup = "a"'), encoding="utf-8"
        )
        engine.publish("sweep", sweep(2.0))
    assert {row["group"] for row in read_json(own.get(url).content)} == {"a"}


def test_a_first_question_after_the_start_is_kept_from_the_second_on(two_datasets: Path, asked: Asked) -> None:
    """Before the first one nothing is known of the dataset that it could be compared with."""
    with local_client(settings(two_datasets)) as client:
        contents = {client.get(ROWS).content for _ in range(4)}
    assert len(contents) == 1
    assert asked.times == 2


def test_a_file_without_a_log_is_looked_at_each_time(tmp_path: Path, asked: Asked, wide_file: Path) -> None:
    folder = tmp_path / "store"
    (folder / "wide").mkdir(parents=True)
    wide_file.rename(folder / "wide" / "results.parquet")
    with local_client(settings(folder, dataset="wide")) as client:
        engine: Engine = client.app.state.engine  # type: ignore[attr-defined]
        engine.store._forced = True  # type: ignore[union-attr]  # as where the folder may not be written to
        for _ in range(3):
            assert len(client.get("/api/datasets/wide/rows").json()["data"]) == 9
    assert asked.times == 3


@pytest.fixture
def wide_file(tmp_path: Path) -> Path:
    import pyarrow.parquet as pq

    path = tmp_path / "wide.parquet"
    pq.write_table(wide(), path)
    return path


def test_a_version_of_many_files_is_asked_for(
    two_datasets: Path, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_FILES > 1
    monkeypatch.setattr("engine.footing.MOST_FILES", 0)
    with local_client(settings(two_datasets)) as client:
        for _ in range(3):
            assert client.get(ROWS).status_code == 200
    assert asked.times == 3
