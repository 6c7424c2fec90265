"""Dropped files in a home that is elsewhere: what counts, what a look costs, and seeing what others publish."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.connection import Database
from engine.store import IngestEvent, Ingestor, LocalStore, Staged, Version, Watcher
from engine.store.definitions import ListedDefinitions
from engine.store.protocol import Progress
from tests.engine.store.support import FaultyStore, Process, place, write_parquet
from tests.engine.store.witness import Witness, read_log, sha256

NOW = 2_000_000_000.0


class Elsewhere(FaultyStore):
    """A folder that behaves like a bucket, and counts what is asked of it."""

    def __init__(self, inner: LocalStore) -> None:
        super().__init__(inner)
        self.asked: Counter[str] = Counter()
        self.while_fetching: Callable[[], Any] | None = None
        self.etag_of_content = False

    @property
    def is_remote(self) -> bool:
        return True

    def _call(self, method: str, *arguments: Any) -> Any:
        self.asked[method] += 1
        found = super()._call(method, *arguments)
        if method == "list_stats" and self.etag_of_content:
            return tuple(replace(stat, etag=self.etag(stat.key)) for stat in found)
        return found

    def etag(self, key: str) -> str:
        return sha256((self.inner.root / key).read_bytes())

    def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
        act, self.while_fetching = self.while_fetching, None
        if act is not None:
            act()
        if self.etag_of_content:
            found = self.inner.stat(key)
            assert found is not None and etag == self.etag(key)
            etag = found.etag
        return super().fetch(key, etag, into, progress)


class Cloud:
    """One process on such a store, with an ingestor as the engine makes it."""

    def __init__(self, root: Path, database: Database) -> None:
        self.root = root
        self.store = Elsewhere(LocalStore(root))
        self.process = Process(self.store, database)
        self.latest: list[Version] = []
        self.ingestor = Ingestor(
            self.process.publisher,
            self.store,
            clock=self.process.clock,
            definitions=ListedDefinitions(None, self.store),
            on_latest=self.latest.append,
        )

    def drop(self, name: str, data: bytes, at: float = NOW) -> Path:
        return place(self.root / name, data, at)

    def poll(self) -> list[tuple[str, str]]:
        return [(event.kind, event.key) for event in self.ingestor.poll()]

    def asked_by(self, work: Callable[[], Any]) -> dict[str, int]:
        self.store.asked.clear()
        work()
        return dict(self.store.asked)


@pytest.fixture
def cloud(root: Path, database: Database) -> Cloud:
    root.mkdir()
    return Cloud(root, database)


def parquet(folder: Path, seed: int = 0) -> bytes:
    return write_parquet(folder / "scratch.parquet", seed=seed).read_bytes()


@pytest.mark.parametrize("ahead_s", [0.0, 86_400.0, -86_400.0], ids=["same clock", "ahead", "behind"])
@pytest.mark.parametrize("name", ["parquet", "csv"])
def test_an_object_counts_at_once(cloud: Cloud, tmp_path: Path, ahead_s: float, name: str) -> None:
    """It appears when it is whole, and its time is by another clock."""
    data = parquet(tmp_path) if name == "parquet" else b"a\n1\n"
    cloud.drop(f"d/results.{name}", data, NOW + ahead_s)
    assert cloud.poll() == [("published", f"d/results.{name}")]
    assert cloud.poll() == []


def test_what_a_look_costs_when_nothing_is_new(cloud: Cloud, tmp_path: Path) -> None:
    for dataset in ("a", "b", "c"):
        cloud.drop(f"{dataset}/results.parquet", parquet(tmp_path))
        (cloud.root / dataset / "dataset.toml").write_text("title = 'x'\n")
        (cloud.root / dataset / "notes.txt").write_text("hello")
    (cloud.root / "empty").mkdir()
    assert [kind for kind, _ in cloud.poll()] == ["published"] * 3
    cloud.poll()
    assert cloud.asked_by(cloud.poll) == {"list": 1, "list_stats": 4, "read": 4}
    assert cloud.asked_by(cloud.ingestor.refresh_all) == {"list": 1, "read": 4}


def test_a_definition_is_read_when_it_is_another(cloud: Cloud, tmp_path: Path) -> None:
    cloud.drop("d/results.parquet", parquet(tmp_path))
    toml = cloud.root / "d" / "dataset.toml"
    toml.write_text("title = 'x'\n")
    cloud.poll()
    cloud.poll()
    assert cloud.asked_by(cloud.poll).get("read") == 1, "the log"
    toml.write_text("title = 'longer'\n")
    assert cloud.poll() == [], "two looks have to see it"
    assert cloud.poll() == [("definition", "d/dataset.toml")]
    toml.write_text("title = ")
    cloud.poll()
    assert cloud.poll() == [("warning", "d/dataset.toml")]
    assert cloud.poll() == []
    toml.unlink()
    cloud.poll()
    assert cloud.poll() == [("definition", "d/dataset.toml")]
    assert [record["kind"] for record in read_log(cloud.root, "d")] == ["publish"] * 3


def test_several_drops_in_one_look(cloud: Cloud, tmp_path: Path) -> None:
    cloud.drop("d/results.csv", b"a\n1\n", NOW - 1)
    cloud.drop("d/results.parquet", parquet(tmp_path), NOW - 2)
    cloud.drop("d/results.jsonl", b"", NOW - 3)
    cloud.drop("d/results.arrow", b"hello", NOW - 4)
    cloud.drop("e/results.tsv", b"a\tb\n1\t2\n", NOW - 5)
    assert cloud.poll() == [
        ("rejected", "d/results.arrow"),
        ("rejected", "d/results.jsonl"),
        ("published", "d/results.parquet"),
        ("published", "d/results.csv"),
        ("published", "e/results.tsv"),
    ]
    assert cloud.poll() == []
    assert [version.name for version in cloud.latest] == ["v4", "v1"], "what is latest in the end, once"
    Witness(cloud.root).check()


def test_overwriting_and_deleting(cloud: Cloud, tmp_path: Path) -> None:
    for turn, seed in enumerate((1, 2, 1)):
        path = cloud.drop("d/results.parquet", parquet(tmp_path, seed), NOW + turn)
        assert cloud.poll() == [("published", "d/results.parquet")]
    path.unlink()
    assert cloud.poll() == []
    assert cloud.process.logs.of("d").state.resolve(None).number == 3


def test_content_that_comes_back(cloud: Cloud, tmp_path: Path) -> None:
    """A bucket's etag is of the content alone: dropping an older content again makes it the latest all the same."""
    cloud.store.etag_of_content = True
    for turn, seed in enumerate((1, 2, 1)):
        cloud.drop("d/results.parquet", parquet(tmp_path, seed), NOW + 10 * turn)
        assert cloud.poll() == [("published", "d/results.parquet")]
        assert cloud.poll() == []
    versions = cloud.process.logs.of("d").state.versions
    assert versions[0].content_id == versions[2].content_id and len(versions) == 3
    cloud.drop("d/results.parquet", parquet(tmp_path, 1), NOW + 100)
    assert cloud.poll() == [("unchanged", "d/results.parquet")], "the same once more is the same"
    cloud.drop("d/results.csv", b"", NOW)
    assert cloud.poll() == [("rejected", "d/results.csv")]
    assert cloud.poll() == []
    Witness(cloud.root).check()


@pytest.mark.parametrize(
    "name",
    [
        "d/my results.parquet",
        "d/Results.parquet",
        "d/results.parquet.part",
        "d/résultats.parquet",
        "d/deeper/results.parquet",
        "d/..results.parquet",
        "d/results.xlsx",
    ],
)
def test_other_names_are_left_alone(cloud: Cloud, tmp_path: Path, name: str) -> None:
    cloud.drop(name, parquet(tmp_path))
    assert cloud.poll() == []
    assert not (cloud.root / "d/_bt/log").exists()


def test_folders_that_no_dataset_can_be_are_told_of_once(cloud: Cloud, tmp_path: Path) -> None:
    for name in ("My Data", "schön", "..d"):
        cloud.drop(f"{name}/results.parquet", parquet(tmp_path))
    (cloud.root / "also not").mkdir()
    assert cloud.poll() == [("warning", f"{name}/") for name in sorted(["My Data", "schön", "..d"])]
    assert cloud.poll() == []


def test_a_table_in_a_folder_is_told_of_once(cloud: Cloud, tmp_path: Path) -> None:
    cloud.drop("d/results.parquet/part-0.parquet", parquet(tmp_path))
    (event,) = cloud.ingestor.poll()
    assert (event.kind, event.key) == ("warning", "d/results.parquet/")
    assert event.reason == "this is a folder; one file is expected, so its files are not taken in"
    assert cloud.poll() == []
    assert [event.kind for event in cloud.ingestor.poll_dataset("d")] == ["warning"], "who asks is told again"


def test_an_object_that_is_overwritten_while_it_is_fetched(cloud: Cloud, tmp_path: Path) -> None:
    newer = parquet(tmp_path, 2)
    cloud.drop("d/results.parquet", parquet(tmp_path, 1), NOW - 9)
    cloud.store.while_fetching = lambda: cloud.drop("d/results.parquet", newer, NOW)
    (event,) = cloud.ingestor.poll()
    assert event.kind == "published" and event.version is not None
    assert event.version.original.size == len(newer)
    assert cloud.poll() == []
    assert len(read_log(cloud.root, "d")) == 1


def test_an_object_that_is_overwritten_again_and_again(cloud: Cloud, tmp_path: Path) -> None:
    turns = 0

    def overwrite() -> None:
        nonlocal turns
        turns += 1
        cloud.drop("d/results.parquet", parquet(tmp_path, turns), NOW + turns)
        cloud.store.while_fetching = overwrite

    cloud.drop("d/results.parquet", parquet(tmp_path))
    cloud.store.while_fetching = overwrite
    assert cloud.poll() == [("failed", "d/results.parquet")]
    assert turns == 4
    cloud.store.while_fetching = None
    cloud.process.clock.now += 20
    assert cloud.poll() == [("published", "d/results.parquet")]


def test_an_object_that_is_deleted_while_it_is_fetched(cloud: Cloud, tmp_path: Path) -> None:
    path = cloud.drop("d/results.parquet", parquet(tmp_path))
    cloud.store.while_fetching = path.unlink
    assert cloud.poll() == [("failed", "d/results.parquet")]
    assert cloud.poll() == []


def test_what_others_publish_is_seen_without_taking_anything_in(
    cloud: Cloud, database: Database, root: Path, tmp_path: Path
) -> None:
    other = Process(LocalStore(root), database)
    for seed in (1, 2):
        other.publisher.publish("d", write_parquet(tmp_path / "a.parquet", seed=seed))
        cloud.drop("e/results.parquet", parquet(tmp_path, seed))
        assert cloud.ingestor.refresh_all() == [] == cloud.ingestor.refresh_all()
        assert cloud.process.logs.of("d").state.resolve(None).number == seed
        assert [version.number for version in cloud.latest] == list(range(1, seed + 1))
    assert not (root / "e/_bt").exists()


def test_a_log_that_cannot_be_read_hides_no_other(cloud: Cloud, database: Database, root: Path, tmp_path: Path) -> None:
    other = Process(LocalStore(root), database)
    for name in ("a", "b"):
        other.publisher.publish(name, write_parquet(tmp_path / "a.parquet"))
    record = root / "a/_bt/log/0000000001.json"
    record.chmod(0o644)
    record.write_bytes(b"{}")
    for look in (cloud.ingestor.refresh_all, cloud.ingestor.poll):
        (event,) = look()
        assert (event.dataset, event.kind) == ("a", "failed")
    assert [version.dataset for version in cloud.latest] == ["b"]


def test_a_store_that_may_not_be_written_to_is_refreshed(database: Database, root: Path, tmp_path: Path) -> None:
    other = Process(LocalStore(root), database)
    reader = Process(LocalStore(root, read_only=True), database)
    other.publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    place(root / "d/results.parquet", parquet(tmp_path, 3), NOW - 99)
    assert reader.ingestor.poll() == []
    assert reader.logs.of("d").state.resolve(None).number == 1
    other.publisher.publish("d", write_parquet(tmp_path / "a.parquet", seed=2))
    assert reader.ingestor.poll_dataset("d") == []
    assert reader.logs.of("d").state.resolve(None).number == 2


def test_a_watcher_that_only_refreshes(cloud: Cloud, database: Database, root: Path, tmp_path: Path) -> None:
    cloud.drop("e/results.parquet", parquet(tmp_path))
    watcher = Watcher(cloud.ingestor, interval_s=0.01, refresh_only=True)
    watcher.start()
    try:
        Process(LocalStore(root), database).publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
        deadline = time.monotonic() + 10
        while not cloud.latest:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        watcher.stop()
    assert not (root / "e/_bt").exists()


def test_four_processes_look_at_once(database: Database, root: Path, tmp_path: Path) -> None:
    root.mkdir()
    clouds = [Cloud(root, database) for _ in range(4)]
    events: list[IngestEvent] = []
    for turn in range(3):
        for name in ("d", "e"):
            clouds[0].drop(f"{name}/results.parquet", parquet(tmp_path, turn), NOW + turn)
        threads = [threading.Thread(target=lambda one=one: events.extend(one.ingestor.poll())) for one in clouds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in ("d", "e"):
        assert [record["kind"] for record in read_log(root, name)] == ["publish"] * 3
    assert {event.kind for event in events} <= {"published", "unchanged"}
    assert [event.kind for event in events].count("published") == 6
    Witness(root).check()
