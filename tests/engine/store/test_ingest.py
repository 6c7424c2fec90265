"""Dropped files: when they count, what becomes of them, and what must never keep the others waiting."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from engine.connection import Database
from engine.errors import StoreError
from engine.store import DatasetLog, IngestEvent, Ingestor, LocalStore, Staged, Watcher, verify_blob
from engine.store.log import ContentionError
from engine.store.protocol import Progress
from engine.store.staging import copy_and_hash
from tests.engine.store.support import Clock, FaultyStore, Process, Witness, place, read_log, write_parquet


def parquet(folder: Path, seed: int = 0, rows: int = 3) -> bytes:
    return write_parquet(folder / "scratch.parquet", rows, seed=seed).read_bytes()


def drop(process: Process, name: str, data: bytes, age_s: float = 60.0) -> Path:
    """A file in the drop zone, last changed ``age_s`` ago."""
    assert isinstance(process.store, LocalStore | FaultyStore)
    root = process.store.root if isinstance(process.store, LocalStore) else process.store.inner.root
    return place(root / name, data, process.clock() - age_s)


def kinds(events: list[IngestEvent]) -> list[tuple[str, str]]:
    return [(event.kind, event.key) for event in events]


def log_kinds(root: Path, dataset: str = "d") -> list[str]:
    return [record["kind"] for record in read_log(root, dataset)]


def test_a_drop_becomes_a_version_once(process: Process, store: LocalStore, tmp_path: Path) -> None:
    data = parquet(tmp_path)
    path = drop(process, "d/results.parquet", data)
    (event,) = process.ingestor.poll()
    assert (event.dataset, event.kind, event.key, event.reason) == ("d", "published", "d/results.parquet", "")
    version = event.version
    assert version is not None and version.source is not None and version.by == "drop"
    assert (version.source.key, version.source.size) == ("d/results.parquet", len(data))
    assert version.source.last_modified == "2033-05-18T03:32:20.000Z"
    assert verify_blob(store, version.files[0]).read_bytes() == data
    for again in (process, Process(store, process.database, process.clock)):
        assert again.ingestor.poll() == []
        assert again.ingestor.poll_dataset("d") == []
    assert path.read_bytes() == data, "the drop is not ours: it stays"


@pytest.mark.parametrize("name", ["csv", "tsv", "jsonl", "ndjson"])
def test_other_formats(process: Process, name: str) -> None:
    texts = {"csv": b"a,b\n1,x\n", "tsv": b"a\tb\n1\tx\n", "jsonl": b'{"a":1,"b":"x"}\n'}
    drop(process, f"d/results.{name}", texts[name.replace("ndjson", "jsonl")])
    (event,) = process.ingestor.poll()
    assert event.version is not None
    assert [column.type for column in event.version.schema] == ["BIGINT", "VARCHAR"]


def test_a_drop_counts_when_it_has_held_still(process: Process, clock: Clock, tmp_path: Path) -> None:
    drop(process, "d/results.parquet", parquet(tmp_path), age_s=0)
    assert process.ingestor.poll() == []
    clock.now += 1.9
    assert process.ingestor.poll() == []
    drop(process, "d/results.parquet", parquet(tmp_path, 1), age_s=0)
    clock.now += 1.9
    assert process.ingestor.poll() == [], "it changed: the time begins anew"
    clock.now += 0.1
    assert kinds(process.ingestor.poll()) == [("published", "d/results.parquet")]


def test_a_clock_in_the_future(process: Process, clock: Clock, tmp_path: Path) -> None:
    """The writer's clock is wrong: then what counts is that two polls saw the same file."""
    drop(process, "d/results.parquet", parquet(tmp_path), age_s=-86400)
    assert process.ingestor.poll() == []
    clock.now += 1.0
    assert process.ingestor.poll() == []
    clock.now += 1.0
    assert kinds(process.ingestor.poll()) == [("published", "d/results.parquet")]


@pytest.mark.parametrize("modified_at", [-1e9, 0.0, 9e9])
def test_any_modification_time(
    store: LocalStore, database: Database, root: Path, tmp_path: Path, modified_at: float
) -> None:
    clock = Clock(1e10)
    process = Process(store, database, clock)
    place(root / "d/results.parquet", parquet(tmp_path), modified_at)
    (event,) = process.ingestor.poll()
    assert event.kind == "published"


def test_a_modification_time_that_no_calendar_has(
    process: Process, store: LocalStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems store 64 bits of seconds; this one may not, so the answer is altered on its way."""
    drop(process, "d/results.parquet", parquet(tmp_path))
    drop(process, "e/results.parquet", parquet(tmp_path))
    real = LocalStore.stat

    def stat(self: LocalStore, key: str) -> Any:
        found = real(self, key)
        return found and replace(found, modified_at=-1e15 if key.startswith("d") else 1e15)

    monkeypatch.setattr(LocalStore, "stat", stat)
    events = process.ingestor.poll()
    process.clock.now += 5
    events += process.ingestor.poll()
    assert [event.kind for event in events] == ["published", "published"]
    times = [event.version.source.last_modified for event in events if event.version and event.version.source]
    assert times == ["0001-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"]


def test_overwriting_makes_the_next_version(process: Process, root: Path, tmp_path: Path) -> None:
    for seed in range(3):
        drop(process, "d/results.parquet", parquet(tmp_path, seed), age_s=60 - seed)
        assert kinds(process.ingestor.poll()) == [("published", "d/results.parquet")]
    drop(process, "d/results.parquet", parquet(tmp_path, 0), age_s=10)
    (event,) = process.ingestor.poll()
    assert event.kind == "published", "an older content that was dropped again is meant to be the newest"
    assert event.version is not None and event.version.number == 4
    assert len(list((root / "d/_bt/data").iterdir())) == 3, "and is stored once"
    Witness(root).check()


def test_touching_is_noted_and_is_no_version(process: Process, root: Path, tmp_path: Path) -> None:
    path = drop(process, "d/results.parquet", parquet(tmp_path))
    process.ingestor.poll()
    for age_s in (50, 40):
        os.utime(path, (process.clock() - age_s,) * 2)
        (event,) = process.ingestor.poll()
        assert event.kind == "unchanged" and event.version is not None and event.version.number == 1
        assert process.ingestor.poll() == []
    assert log_kinds(root) == ["publish", "seen", "seen"]


def test_a_rollback_is_not_undone_by_touching_the_file(process: Process, tmp_path: Path) -> None:
    drop(process, "d/results.parquet", parquet(tmp_path))
    process.ingestor.poll()
    path = drop(process, "d/results.parquet", parquet(tmp_path, 1), age_s=50)
    process.ingestor.poll()
    process.publisher.set_current("d", 1)
    assert process.ingestor.poll() == []
    os.utime(path, (process.clock() - 40,) * 2)
    assert kinds(process.ingestor.poll()) == [("unchanged", "d/results.parquet")]
    current = process.logs.of("d").state.current
    assert current is not None and current.number == 1


def test_deleting_the_drop_deletes_nothing(process: Process, store: LocalStore, tmp_path: Path) -> None:
    path = drop(process, "d/results.parquet", parquet(tmp_path))
    process.ingestor.poll()
    path.unlink()
    assert process.ingestor.poll() == []
    fresh = Process(store, process.database, process.clock)
    assert fresh.ingestor.poll() == []
    version = fresh.logs.of("d").refresh().resolve(None)
    verify_blob(store, version.files[0])


def test_a_drop_that_vanishes_before_it_is_read(process: Process, root: Path, tmp_path: Path) -> None:
    path = drop(process, "d/results.parquet", parquet(tmp_path))

    class Vanishing(FaultyStore):
        def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
            path.unlink()
            return super().fetch(key, etag, into, progress)

    late = Process(Vanishing(LocalStore(root)), process.database, process.clock)
    (event,) = late.ingestor.poll()
    assert (event.kind, event.reason) == ("failed", "results.parquet does not exist")
    assert process.ingestor.poll() == []
    assert not (root / "d/_bt/log").exists()


BAD: list[tuple[str, bytes, str]] = [
    ("results.parquet", b"", "results.parquet is empty"),
    ("results.csv", b"", "results.csv is empty"),
    ("results.jsonl", b"", "results.jsonl is empty"),
    ("results.arrow", b"", "results.arrow is empty"),
    ("results.parquet", b"a,b\n1,2\n", "results.parquet is not parquet: it does not begin with PAR1"),
    ("results.csv", b"\x89PNG\r\n\x1a\n\0\0", "results.csv is not text: it holds zero bytes"),
    ("results.csv", b"PAR1....PAR1", "results.csv is parquet by its content; name it .parquet"),
    ("results.jsonl", b"[1, 2]\n", "results.jsonl is not JSON lines: each line must be one object, {...}"),
    ("results.arrow", b"hello", "results.arrow is not Arrow IPC by its first bytes"),
]


@pytest.mark.parametrize("name, data, reason", BAD, ids=[reason[:40] for *_, reason in BAD])
def test_what_is_no_table_is_rejected_once(process: Process, root: Path, name: str, data: bytes, reason: str) -> None:
    path = drop(process, f"d/{name}", data)
    (event,) = process.ingestor.poll()
    assert (event.kind, event.key, event.reason, event.version) == ("rejected", f"d/{name}", reason, None)
    assert process.ingestor.poll() == [] == Process(process.store, process.database, process.clock).ingestor.poll()
    (record,) = read_log(root, "d")
    assert (record["kind"], record["reason"], record["source"]["key"]) == ("reject", reason, f"d/{name}")
    state = process.logs.of("d").state
    assert state.current is None and state.rejects[0].reason == reason
    assert path.read_bytes() == data


def test_a_half_written_file_is_rejected_and_the_whole_one_is_published(
    process: Process, root: Path, tmp_path: Path
) -> None:
    whole = parquet(tmp_path)
    good = drop(process, "d/results.parquet", parquet(tmp_path, 1))
    process.ingestor.poll()
    drop(process, "d/results.parquet", whole[: len(whole) // 2], age_s=50)
    (event,) = process.ingestor.poll()
    assert event.kind == "rejected" and "is cut short" in event.reason
    current = process.logs.of("d").state.current
    assert current is not None and current.number == 1, "latest does not move"
    drop(process, "d/results.parquet", whole, age_s=40)
    assert kinds(process.ingestor.poll()) == [("published", "d/results.parquet")]
    assert log_kinds(root) == ["publish", "reject", "publish"]
    assert good.read_bytes() == whole


def test_a_folder_a_pipe_and_links(process: Process, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.parquet"
    secret.write_bytes(parquet(tmp_path))
    for name in ("folder", "pipe", "out", "absolute", "dangling", "inside", "chain"):
        (root / name).mkdir(parents=True)
    (root / "folder/results.parquet").mkdir()
    os.mkfifo(root / "pipe/results.csv")
    (root / "out/results.parquet").symlink_to(Path("../../secret.parquet"))
    (root / "absolute/results.parquet").symlink_to(secret)
    (root / "dangling/results.parquet").symlink_to("nothing")
    (root / "chain/results.parquet").symlink_to("next")
    (root / "chain/next").symlink_to(secret)
    (root / "inside/real.parquet").write_bytes(secret.read_bytes())
    (root / "inside/results.parquet").symlink_to("real.parquet")
    process.clock.now = time.time() + 100
    found = {event.dataset: (event.kind, event.reason) for event in process.ingestor.poll()}
    link = "results.parquet is a symbolic link out of its folder; put the file itself there"
    assert found == {
        "folder": ("rejected", "results.parquet is a folder; one regular file is expected"),
        "pipe": ("rejected", "results.csv is a device or a pipe; one regular file is expected"),
        "out": ("rejected", link),
        "absolute": ("rejected", link),
        "chain": ("rejected", link),
        "inside": ("published", ""),
    }


def test_a_link_that_is_turned_outwards_at_the_last_moment(process: Process, root: Path, tmp_path: Path) -> None:
    """Between the check and the opening: the file that was opened is not the one that was seen."""
    secret = tmp_path / "secret.parquet"
    secret.write_bytes(parquet(tmp_path, 7))
    (root / "d").mkdir(parents=True)
    (root / "d/real.parquet").write_bytes(parquet(tmp_path))
    link = root / "d/results.parquet"
    link.symlink_to("real.parquet")
    seen = LocalStore(root).stat("d/results.parquet")
    assert seen is not None
    link.unlink()
    link.symlink_to(secret)
    with pytest.raises(Exception, match="changed while it was being read"):
        copy_and_hash(link, tmp_path / "copy", name="results.parquet", etag=seen.etag)
    assert not (tmp_path / "copy").exists()


def test_a_dataset_folder_that_is_a_link(process: Process, root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    place(elsewhere / "results.parquet", parquet(tmp_path), 0)
    root.mkdir()
    (root / "d").symlink_to(elsewhere)
    assert process.ingestor.poll() == []
    with pytest.raises(StoreError, match="symbolic link"):
        process.ingestor.poll_dataset("d")
    assert sorted(path.name for path in elsewhere.iterdir()) == ["results.parquet"]


def test_a_file_that_changes_while_it_is_read(process: Process, root: Path, tmp_path: Path) -> None:
    drop(process, "d/results.parquet", parquet(tmp_path))
    newer = parquet(tmp_path, 1)

    class Overwritten(FaultyStore):
        def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
            def change(*_: object) -> None:
                place(root / "d/results.parquet", newer, process.clock() - 30)

            return super().fetch(key, etag, into, change)

    late = Process(Overwritten(LocalStore(root)), process.database, process.clock)
    (event,) = late.ingestor.poll()
    assert (event.kind, event.version) == ("failed", None)
    assert event.reason.startswith("results.parquet changed while it was being read")
    assert not (root / "d/_bt/log").exists(), "not a reject: nothing is wrong with the file"
    (event,) = process.ingestor.poll()
    assert event.version is not None
    assert verify_blob(process.store, event.version.files[0]).read_bytes() == newer


def test_a_failure_is_tried_again_after_a_pause(store: LocalStore, database: Database, tmp_path: Path) -> None:
    """Twice as long each time, and from the start when the file is another."""
    faulty = FaultyStore(store)
    process = Process(faulty, database)
    drop(process, "d/results.parquet", parquet(tmp_path))
    failing = True

    def fetch(key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
        if failing:
            raise StoreError("the disk is full")
        return store.fetch(key, etag, into, progress)

    faulty.fetch = fetch
    for pause_s in (15, 30, 60, 120, 240, 480, 600, 600):
        (event,) = process.ingestor.poll()
        assert (event.kind, event.key, event.reason) == ("failed", "d/results.parquet", "the disk is full")
        process.clock.now += pause_s - 0.5
        assert process.ingestor.poll() == []
        process.clock.now += 0.5
    (event,) = process.ingestor.poll()
    drop(process, "d/results.parquet", parquet(tmp_path, 1))
    (event,) = process.ingestor.poll()
    assert event.kind == "failed", "a new file does not wait for the old one's pause"
    failing = False
    process.clock.now += 15
    (event,) = process.ingestor.poll()
    assert event.kind == "published"


def test_losing_to_others_is_no_reason_to_reject(
    process: Process, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop(process, "d/results.parquet", parquet(tmp_path))

    real, calls = DatasetLog.append, 0

    def busy_at_first(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ContentionError("others keep writing to d; try again in a moment")
        return real(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(DatasetLog, "append", busy_at_first)
        (event,) = process.ingestor.poll()
    assert event.kind == "failed" and calls == 1
    process.clock.now += 15
    assert kinds(process.ingestor.poll()) == [("published", "d/results.parquet")]
    assert log_kinds(root) == ["publish"]


def test_the_schema_policy_rejects_a_drop(store: LocalStore, database: Database, root: Path, tmp_path: Path) -> None:
    process = Process(store, database, policy="block-breaking")
    drop(process, "d/results.csv", b"a,b\n1,2\n")
    drop(process, "d/results.jsonl", b'{"a":1}\n', age_s=50)
    assert kinds(process.ingestor.poll()) == [("published", "d/results.csv"), ("rejected", "d/results.jsonl")]
    assert process.ingestor.poll() == []
    assert "columns removed: b" in read_log(root, "d")[1]["reason"]


def test_of_several_drops_the_one_written_last_is_latest(process: Process, tmp_path: Path) -> None:
    drop(process, "d/results.csv", b"a\n1\n", age_s=10)
    drop(process, "d/results.parquet", parquet(tmp_path), age_s=30)
    drop(process, "d/results.jsonl", b"no", age_s=20)
    assert kinds(process.ingestor.poll()) == [
        ("published", "d/results.parquet"),
        ("rejected", "d/results.jsonl"),
        ("published", "d/results.csv"),
    ]
    current = process.logs.of("d").state.current
    assert current is not None and current.original.name == "results.csv"
    assert process.ingestor.poll() == []


def test_what_is_no_drop(process: Process, root: Path, tmp_path: Path) -> None:
    for name in ("d/other.parquet", "d/results.parquet.tmp", "d/.results.parquet", "d/sub/results.parquet"):
        drop(process, name, parquet(tmp_path))
    drop(process, "results.parquet", parquet(tmp_path))
    assert process.ingestor.poll() == []
    assert not (root / "d/_bt").exists()


def test_misnamed_folders_are_told_once(process: Process, root: Path, tmp_path: Path) -> None:
    for name in ("My Data", "größe", "d"):
        drop(process, f"{name}/results.csv", b"a\n1\n")
    drop(process, os.fsdecode(b"caf\xe9/results.csv"), b"a\n1\n")
    drop(process, "back\\slash/results.csv", b"a\n1\n")
    (root / "No Drop").mkdir()
    events = process.ingestor.poll()
    assert sorted(kinds(events)) == [
        ("published", "d/results.csv"),
        ("warning", "My Data/"),
        ("warning", "caf?/"),
        ("warning", "größe/"),
    ]
    assert all("a-z, 0-9, _ and -" in event.reason for event in events if event.kind == "warning")
    assert process.ingestor.poll() == []


def test_an_edited_definition_becomes_a_version(process: Process, root: Path) -> None:
    drop(process, "d/results.csv", b"a\n1\n")
    process.ingestor.poll()
    toml = root / "d/dataset.toml"
    toml.write_text('title = "On')
    assert process.ingestor.poll() == [], "an editor may be half-way through"
    toml.write_text('title = "One"\n')
    assert process.ingestor.poll() == []
    (event,) = process.ingestor.poll()
    assert (event.kind, event.key) == ("definition", "d/dataset.toml")
    assert event.version is not None and event.version.definition == 'title = "One"\n'
    assert (event.version.by, event.version.message) == ("definition", "the definition was changed")
    assert process.ingestor.poll() == []
    process.publisher.set_current("d", 1)
    assert process.ingestor.poll() == [], "a rollback stays"
    toml.unlink()
    events = process.ingestor.poll() + process.ingestor.poll()
    assert [event.version.definition for event in events if event.version] == [None]


def test_a_broken_definition_is_told_once_and_changes_nothing(process: Process, root: Path) -> None:
    drop(process, "d/results.csv", b"a\n1\n")
    process.ingestor.poll()
    (root / "d/dataset.toml").write_text("title = ")
    events = [event for _ in range(4) for event in process.ingestor.poll()]
    assert kinds(events) == [("warning", "d/dataset.toml")]
    assert "not valid TOML" in events[0].reason and "it was not applied" in events[0].reason
    drop(process, "d/results.csv", b"a\n2\n", age_s=9)
    assert kinds(process.ingestor.poll()) == [("published", "d/results.csv")]
    (root / "d/dataset.toml").unlink()
    (root / "d/dataset.toml").symlink_to("/etc/passwd")
    events = [event for _ in range(4) for event in process.ingestor.poll()]
    assert kinds(events) == [("warning", "d/dataset.toml")]


def test_two_processes_with_different_definitions_rest(store: LocalStore, database: Database, root: Path) -> None:
    """As during a deploy: each applies its own once, and then leaves it."""
    processes = [Process(store, database) for _ in range(2)]
    for number, process in enumerate(processes):
        process.publisher.definition_of = lambda dataset, number=number: f"n = {number}\n"
    drop(processes[0], "d/results.csv", b"a\n1\n")
    for _ in range(10):
        for process in processes:
            process.ingestor.poll()
    assert len(read_log(root, "d")) <= 3


def test_what_fails_in_one_dataset_does_not_stop_the_others(process: Process, root: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        drop(process, f"{name}/results.parquet", parquet(tmp_path))
    process.ingestor.poll()
    record = root / "b/_bt/log/0000000001.json"
    record.chmod(0o644)
    record.write_bytes(b"{}\n")
    for name in ("a", "b", "c"):
        drop(process, f"{name}/results.parquet", parquet(tmp_path, 1))
    fresh = Process(process.store, process.database, process.clock)
    found = {event.dataset: (event.kind, event.reason) for event in fresh.ingestor.poll()}
    assert found["a"] == found["c"] == ("published", "")
    assert found["b"][0] == "failed" and "b/_bt/log/0000000001.json is corrupt" in found["b"][1]


def test_an_error_that_nobody_foresaw_stops_nobody(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drop(process, "a/results.csv", b"a\n1\n")
    drop(process, "b/results.parquet", parquet(tmp_path))

    def fail(*_: object, **__: object) -> None:
        raise KeyError("surprise")

    with monkeypatch.context() as patched:
        patched.setattr("engine.store.prepare.convert_to_parquet", fail)
        events = process.ingestor.poll()
        assert kinds(events) == [("failed", "a/results.csv"), ("published", "b/results.parquet")]
        assert events[0].reason == "an unexpected error (KeyError); the server's log has more"
        assert "surprise" in caplog.text
        assert process.ingestor.poll() == [], "and it is not tried at each poll"
    with monkeypatch.context() as patched:
        patched.setattr(process.publisher, "definition_of", fail)
        assert kinds(process.ingestor.poll()) == [("failed", "b/")]
    process.clock.now += 15
    assert kinds(process.ingestor.poll()) == [("published", "a/results.csv")]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_done_is_told_even_when_the_rest_fails(
    store: LocalStore, database: Database, root: Path, tmp_path: Path, when: str
) -> None:
    """Two drops; the store fails at each step in turn. Every version there is was told of by some poll."""
    data = parquet(tmp_path)
    step = 0
    while True:
        step += 1
        here = tmp_path / f"{when}{step}"
        faulty = FaultyStore(LocalStore(here))
        process = Process(faulty, database)
        place(here / "d/results.parquet", data, process.clock() - 60)
        place(here / "d/results.csv", b"\0", process.clock() - 50)
        place(here / "d/results.jsonl", b'{"step":1}\n', process.clock() - 40)
        faulty.arm((step, "fail", when))
        events: list[IngestEvent] = []
        try:
            events = process.ingestor.poll()
        except StoreError:
            assert not (here / "d/_bt/log").exists() or not list((here / "d/_bt/log").iterdir())
        taken = faulty.step
        faulty.arm(None)
        for _ in range(6):
            process.clock.now += 100
            events += process.ingestor.poll()
        told = [event.version.number for event in events if event.kind in ("published", "unchanged") and event.version]
        records = read_log(here, "d")
        published = [record["seq"] for record in records if record["kind"] == "publish"]
        assert sorted(told) == published and len(published) == 2
        assert [event.kind for event in events].count("rejected") == 1
        assert [record["kind"] for record in records].count("reject") == 1
        if taken < step:
            break
    assert step > 10


def test_a_read_only_store_is_left_alone(database: Database, root: Path, tmp_path: Path) -> None:
    place(root / "d/results.parquet", parquet(tmp_path), 0)
    process = Process(LocalStore(root, read_only=True), database)
    assert process.ingestor.poll() == [] == process.ingestor.poll_dataset("d")
    assert sorted(path.name for path in (root / "d").iterdir()) == ["results.parquet"]


def test_two_processes_poll_at_once(store: LocalStore, database: Database, root: Path, tmp_path: Path) -> None:
    processes = [Process(store, database) for _ in range(4)]
    for turn in range(5):
        for name in ("d", "e"):
            place(root / f"{name}/results.parquet", parquet(tmp_path, turn), processes[0].clock() - 60 + turn)
        threads = [threading.Thread(target=process.ingestor.poll) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for name in ("d", "e"):
        assert log_kinds(root, name) == ["publish"] * 5
    Witness(root).check()


def wait_for(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


def test_the_watcher_publishes_what_is_dropped(process: Process, root: Path, tmp_path: Path) -> None:
    process.clock.now = time.time() + 100
    watcher = Watcher(process.ingestor, interval_s=0.01)
    watcher.start()
    watcher.start()
    try:
        assert sum(thread.name == "drop-watcher" for thread in threading.enumerate()) == 1
        place(root / "d/results.parquet", parquet(tmp_path), 0)
        wait_for(lambda: (root / "d/_bt/log/0000000001.json").exists())
    finally:
        watcher.stop()
    assert not any(thread.name == "drop-watcher" for thread in threading.enumerate())
    watcher.stop()


def test_no_error_ends_the_watcher(process: Process, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    polls = 0
    real = process.ingestor.poll

    class Failing(Ingestor):
        def poll(self) -> list[IngestEvent]:
            nonlocal polls
            polls += 1
            if polls == 1:
                raise StoreError("the store cannot be listed")
            if polls == 2:
                raise KeyError("surprise")
            return real()

    watcher = Watcher(Failing(process.publisher, process.store), interval_s=0.01)
    drop(process, "d/results.csv", b"")
    with caplog.at_level(logging.INFO):
        watcher.start()
        wait_for(lambda: polls > 5)
        watcher.stop()
    assert "the store cannot be listed" in caplog.text and "surprise" in caplog.text
    assert caplog.text.count("results.csv is empty") == 1
    assert log_kinds(root) == ["reject"]


def test_a_failure_that_stays_is_logged_once(process: Process, caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Ingestor):
        def poll(self) -> list[IngestEvent]:
            polls.append(1)
            return [IngestEvent("d", "failed", "d/results.csv", reason="the disk is full")]

    polls: list[int] = []
    watcher = Watcher(Failing(process.publisher, process.store), interval_s=0.001)
    watcher.start()
    wait_for(lambda: len(polls) > 5)
    watcher.stop()
    assert caplog.text.count("the disk is full") == 1


def test_a_watcher_that_was_stopped_in_the_middle_of_a_poll_stays_stopped(process: Process) -> None:
    class Slow(Ingestor):
        def poll(self) -> list[IngestEvent]:
            polls.append(threading.get_ident())
            if len(polls) == 1:
                release.wait(10)
            return []

    polls: list[int] = []
    release = threading.Event()
    watcher = Watcher(Slow(process.publisher, process.store), interval_s=0.01)
    watcher.start()
    wait_for(lambda: polls)
    watcher.stop(timeout_s=0.01)
    watcher.start()
    release.set()
    wait_for(lambda: len(polls) > 10)
    watcher.stop()
    assert polls.count(polls[0]) == 1


@pytest.mark.parametrize("name, settled_s", [("parquet", 2), ("arrow", 2), ("csv", 8), ("jsonl", 8)])
def test_text_must_hold_still_longer(process: Process, tmp_path: Path, name: str, settled_s: int) -> None:
    """Half a CSV file looks as whole as all of it; parquet and Arrow end with what says that they are complete."""
    table = pa.table({"a": [1, 2]})
    path = tmp_path / "table"
    if name == "parquet":
        pq.write_table(table, path)
    elif name == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_bytes(b"a\n1\n2\n" if name == "csv" else b'{"a":1}\n{"a":2}\n')
    drop(process, f"d/results.{name}", path.read_bytes(), age_s=settled_s - 0.5)
    assert process.ingestor.poll() == []
    process.clock.now += 0.5
    assert kinds(process.ingestor.poll()) == [("published", f"d/results.{name}")]
