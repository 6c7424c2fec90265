"""Deleting files: only what nothing needs, only when it is old enough, and whatever else happens at the same time."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.connection import Database
from engine.errors import CorruptVersionError, EngineError, StoreError
from engine.store import LocalStore, ObjectStat, verify_blob
from engine.store.gc import Removal, collect
from engine.store.lifecycle import Lifecycle
from engine.store.records import Body, Expire, Publish
from engine.store.state import DatasetState
from tests.engine.store.support import FaultyStore, Killed, Process, write_parquet
from tests.engine.store.witness import Witness, read_log, sha256

DAY_S = 86_400.0


def run(process: Process, *, in_days: float = 0.0, dataset: str | None = "d", **options: Any) -> list[Removal]:
    return collect(process.store, process.logs, dataset, now=time.time() + in_days * DAY_S, **options)


def why(removed: list[Removal]) -> list[str]:
    return sorted(one.why for one in removed)


def blobs(root: Path, dataset: str = "d") -> set[str]:
    folders = [root / dataset / "_bt" / name for name in ("data", "meta")]
    return {path.relative_to(root).as_posix() for folder in folders if folder.is_dir() for path in folder.iterdir()}


def needed(state: DatasetState) -> set[str]:
    return {file.key for version in state.live for file in version.all_files}


def age(path: Path, days: float) -> Path:
    past = time.time() - days * DAY_S
    os.utime(path, (past, past))
    return path


def orphan(root: Path, days: float, name: str = "20200101T000000Z-00000000-aaaaaaaaaaaa.parquet") -> Path:
    path = root / "d/_bt/data" / name
    path.write_bytes(b"PAR1 what a killed publish left PAR1")
    return age(path, days)


@pytest.fixture(scope="module")
def baseline(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six versions of ``d``: the first content comes twice; v1, v2 and v3 have expired. Of ``e`` the first has."""
    folder = tmp_path_factory.mktemp("six")
    process = Process(LocalStore(folder / "store"), database)
    for seed in (1, 2, 3, 4, 1, 5):
        process.publisher.publish("d", write_parquet(folder / "a.parquet", seed=seed))
    for seed in (1, 2):
        process.publisher.publish("e", write_parquet(folder / "a.parquet", seed=seed))
    Lifecycle(process.store, process.logs).expire("d", [1, 2, 3])
    Lifecycle(process.store, process.logs).expire("e", [1], keep=1)
    return folder / "store"


@pytest.fixture
def root(baseline: Path, tmp_path: Path) -> Path:
    shutil.copytree(baseline, tmp_path / "store")
    return tmp_path / "store"


def test_files_of_expired_versions_go_after_the_grace(process: Process, root: Path) -> None:
    before, log = blobs(root), read_log(root, "d")
    state = process.logs.of("d").refresh()
    useless = before - needed(state)
    assert useless and state.live[1].files[0].key == state.versions[0].files[0].key, "v5 has the file of v1"
    assert run(process, in_days=6.9) == []
    planned = run(process, in_days=7.1, dry_run=True)
    assert blobs(root) == before
    removed = run(process, in_days=7.1)
    assert removed == planned
    assert {one.key for one in removed} == useless and set(why(removed)) == {"expired"}
    assert all(one.dataset == "d" and one.size > 0 for one in removed)
    assert blobs(root) == needed(state)
    for version in state.live:
        verify_blob(LocalStore(root), version.files[0])
    assert read_log(root, "d") == log, "the log is never touched"
    assert run(process, in_days=100) == []


def test_the_grace_can_be_chosen(process: Process) -> None:
    assert run(process, in_days=1, grace_s=2 * DAY_S) == []
    assert len(run(process, in_days=3, grace_s=2 * DAY_S)) >= 2


def test_orphans_go_after_a_day(process: Process, root: Path) -> None:
    young, old = orphan(root, 0.9, "young.parquet"), orphan(root, 1.1, "old.parquet")
    meta = root / "d/_bt/meta"
    meta.mkdir(exist_ok=True)
    facts = age(write_parquet(meta / "facts.parquet"), 2)
    assert {Path(one.key).name for one in run(process)} == {"old.parquet", "facts.parquet"}
    assert young.exists() and not old.exists() and not facts.exists()


def test_scratch_files_go_after_a_day(process: Process, root: Path) -> None:
    scratch = root / "d/_bt/tmp"
    for name, days in (("young.new", 0.5), ("old.new", 1.5)):
        (scratch / name).write_bytes(b"x")
        age(scratch / name, days)
    assert why(run(process)) == ["scratch"]
    assert [path.name for path in scratch.iterdir()] == ["young.new"]


def test_all_datasets_and_both_clocks(process: Process, root: Path) -> None:
    """Without ``now`` the store's clock is asked, by a scratch file that is gone afterwards."""
    orphan(root, 2)
    assert [(one.dataset, one.why) for one in collect(process.store, process.logs)] == [("d", "orphan")]
    assert list((root / "d/_bt/tmp").iterdir()) == [] == list((root / "e/_bt/tmp").iterdir())


def test_a_clock_that_runs_ahead_is_not_believed(process: Process, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr("engine.store.gc.time.time", lambda: real() + 400 * DAY_S)
    before = blobs(root)
    assert collect(process.store, process.logs, "d") == []
    assert blobs(root) == before


def test_files_from_the_future(process: Process, root: Path) -> None:
    path = orphan(root, -0.5)
    orphan(root, 3, "old.parquet")
    with pytest.raises(StoreError, match=r"12\.0 hours younger than now: the clock of this machine or of the store"):
        run(process)
    assert path.exists() and (root / "d/_bt/data/old.parquet").exists()


def test_a_writer_whose_clock_was_behind(process: Process, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its record says that the version expired long ago; the store knows better."""
    monkeypatch.setattr("engine.store.log._now", lambda: "2020-01-01T00:00:00.000Z")
    process.logs.of("d").append(lambda state: Expire((4,)), by="late")
    key = process.logs.of("d").state.versions[3].files[0].key
    assert run(process) == []
    assert key in {one.key for one in run(process, in_days=8)}


def test_a_file_that_a_record_names_meanwhile(database: Database, root: Path) -> None:
    """Listed as an orphan, and named by the time that the log is read: it stays."""
    path = orphan(root, 2)
    other = Process(LocalStore(root), database)

    class Slow(FaultyStore):
        def list_stats(self, prefix: str) -> tuple[ObjectStat, ...]:
            found = super().list_stats(prefix)
            if prefix.endswith("/data/"):
                other.logs.of("d").append(name_it, by="a slow publisher")
            return found

    def name_it(state: DatasetState) -> Body:
        made = state.resolve(4)
        entry = replace(made.files[0], key=path.relative_to(root).as_posix())
        return Publish((entry,), made.schema, made.schema_hash, made.diff, made.original)

    assert run(Process(Slow(LocalStore(root)), database)) == []
    assert path.exists()


def test_a_version_that_is_published_meanwhile(database: Database, root: Path, tmp_path: Path) -> None:
    """After the log was read, too: its files were not there when they were listed."""
    other = Process(LocalStore(root), database)
    orphan(root, 2)

    class Busy(FaultyStore):
        turn = 0

        def delete(self, key: str) -> None:
            Busy.turn += 1
            other.publisher.publish("d", write_parquet(tmp_path / "new.parquet", seed=20 + Busy.turn))
            super().delete(key)

    removed = run(Process(Busy(LocalStore(root)), database), in_days=8)
    assert "expired" in why(removed) and "orphan" in why(removed)
    state = other.logs.of("d").refresh()
    assert needed(state) <= blobs(root)


def test_expired_content_that_is_published_again(process: Process, root: Path, tmp_path: Path) -> None:
    again = process.publisher.publish("d", write_parquet(tmp_path / "a.parquet", seed=2)).version
    assert again.number == 8
    run(process, in_days=30)
    verify_blob(LocalStore(root), again.files[0])
    assert needed(process.logs.of("d").refresh()) <= blobs(root)


def _flip(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"by"', b'"bx"'))


def _strange(path: Path) -> None:
    """A record of a later release."""
    from engine.store.records import canonical_json, utc_text

    content = {"format": 1, "seq": 8, "kind": "compact", "at": utc_text(0), "by": "", "message": "", "nonce": "x"}
    content["checksum"] = sha256(canonical_json(content))
    (path.parent / "0000000008.json").write_bytes(canonical_json(content) + b"\n")
    assert json.loads((path.parent / "0000000008.json").read_bytes())["kind"] == "compact"


@pytest.mark.parametrize(
    "harm, error",
    [
        (_flip, CorruptVersionError),
        (lambda path: path.unlink(), CorruptVersionError),
        (_strange, StoreError),
    ],
    ids=["a damaged record", "a missing record", "a record of a later release"],
)
def test_a_log_that_cannot_be_read(process: Process, root: Path, harm: Any, error: type[EngineError]) -> None:
    """Nothing of that dataset is deleted; the others are seen to."""
    process.logs.of("d").refresh()
    harm(root / "d/_bt/log/0000000003.json")
    orphan(root, 5)
    before = blobs(root)
    failed: list[tuple[str, EngineError]] = []
    removed = run(process, in_days=9, dataset=None, failed=lambda *what: failed.append(what))
    assert {one.dataset for one in removed} == {"e"}
    assert [(name, type(problem)) for name, problem in failed] == [("d", error)]
    with pytest.raises(error):
        run(process, in_days=9, dataset=None)
    assert blobs(root) == before


def test_a_log_that_lost_its_end(process: Process, root: Path) -> None:
    process.logs.of("d").refresh()
    (root / "d/_bt/log/0000000007.json").unlink()
    with pytest.raises(CorruptVersionError, match="has disappeared"):
        run(process, in_days=9)


def test_a_log_that_is_gone(process: Process, root: Path) -> None:
    """Without it every file looks like an orphan."""
    shutil.rmtree(root / "d/_bt/log")
    before = blobs(root)
    assert run(process, in_days=100) == []
    assert blobs(root) == before


def test_a_read_only_store(database: Database, root: Path) -> None:
    process = Process(LocalStore(root, read_only=True), database)
    with pytest.raises(StoreError, match="read-only"):
        run(process, in_days=9)
    orphan(root, 2)
    assert why(collect(process.store, process.logs, dry_run=True)) == ["orphan"]


def test_several_at_once(database: Database, root: Path) -> None:
    orphan(root, 2)
    processes = [Process(LocalStore(root), database) for _ in range(4)]
    errors: list[BaseException] = []

    def work(process: Process) -> None:
        try:
            run(process, in_days=9)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(process,)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert blobs(root) == needed(processes[0].logs.of("d").refresh())


@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_every_step(baseline: Path, database: Database, tmp_path: Path, how: str, when: str) -> None:
    step = 0
    while True:
        step += 1
        root = tmp_path / str(step)
        shutil.copytree(baseline, root)
        orphan(root, 3)
        witness = Witness(root)
        faulty = FaultyStore(LocalStore(root))
        process = Process(faulty, database)
        faulty.arm((step, how, when))
        state = process.logs.of("d").state
        try:
            collect(faulty, process.logs, "d", grace_s=-60.0)
        except Killed:
            assert how == "kill"
        except EngineError:
            assert how == "fail"
        taken = faulty.step
        state = Process(LocalStore(root), database).logs.of("d").refresh()
        assert needed(state) <= blobs(root), "nothing that is needed is gone"
        witness.check()
        again = Process(LocalStore(root), database)
        collect(again.store, again.logs, "d", grace_s=-60.0)
        assert blobs(root) == needed(state), "the next one does the rest"
        assert len(list((root / "d/_bt/tmp").iterdir())) <= 1
        shutil.rmtree(root)
        if taken < step:
            break
    assert step > 10
