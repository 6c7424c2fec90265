"""A process may be killed, or its store may fail, at any step: what was acknowledged stays, and nothing else appears.

Every step of every operation in turn, on both homes, and every call to the operating system. ``test_machine.py`` has
random histories, ``tests/object_storage`` real processes and bad networks. What must hold: SPEC 7, in ``witness.py``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.connection import Database
from engine.errors import CorruptVersionError, EngineError, StoreError
from engine.store import DatasetLog, LocalStore, Version
from engine.store.rows import Limits
from engine.versions import describe_values
from tests.engine.store.homes import BucketHome, FolderHome, Home
from tests.engine.store.support import FaultyStore, Killed, Process, Witness, write_parquet
from tests.object_storage.servers import Server, fresh_bucket
from tests.tried import tried

CSV = b"step,value\n1,0.5\n2,inf\n"
DAY_S = 86_400.0


# Every step of every operation.


@dataclass(frozen=True)
class Operation:
    """Something that a process does to the store, and the kinds of record that it adds in the end.

    ``prepare`` comes first, with nothing failing; ``options`` are those of the process.
    """

    name: str
    run: Callable[[Process, Path], Any]
    adds: tuple[str, ...] = ()
    prepare: Callable[[Home, Process], Any] = lambda home, process: None
    options: Mapping[str, Any] = field(default_factory=dict)


def publish_new(process: Process, scratch: Path) -> Version:
    return process.publisher.publish("d", write_parquet(scratch / "new.parquet", seed=5)).version


def publish_csv(process: Process, scratch: Path) -> Version:
    (scratch / "new.csv").write_bytes(CSV)
    return process.publisher.publish("d", scratch / "new.csv").version


def publish_sorted(process: Process, scratch: Path) -> Version:
    """Rows out of order, which become several files, with facts beside them."""
    steps = [row * 37 % 64 for row in range(64)]
    pq.write_table(pa.table({"step": steps, "value": [step / 7 for step in steps]}), scratch / "unsorted.parquet")
    outcome = process.publisher.publish("d", scratch / "unsorted.parquet")
    version = outcome.version
    assert len(version.files) == 4 and version.facts
    # A definition that cannot be read keeps nothing from being published.
    assert (version.place and version.sorted_by == ("step",)) or any("not applied" in text for text in outcome.warnings)
    return version


def poll(process: Process, scratch: Path) -> Version | None:
    events = process.ingestor.poll()
    if reasons := [event.reason for event in events if event.kind == "failed"]:
        raise StoreError(reasons[0])
    return next((event.version for event in events), None)


def collect(process: Process, scratch: Path) -> None:
    process.collect(time.time() + 30 * DAY_S)


def expire_first(process: Process) -> None:
    process.lifecycle.expire("d", [1], keep=0)


def leave_orphan(home: Home, process: Process) -> None:
    """A file of a publish that died, and those of an expired version."""
    expire_first(process)
    process.store.put_if_absent("d/_bt/data/20260101T000000Z-00000000-000000000000.parquet", b"orphan")


def drop(name: str, data: bytes, age_s: float = 9.0) -> Callable[[Home, Process], None]:
    return lambda home, process: home.drop(name, data, process.clock() - age_s)


def drop_again(home: Home, process: Process) -> None:
    home.drop("e/results.csv", CSV, process.clock() - 50)
    home.touch("e/results.csv", process.clock() - 40)


SMALL = Limits(file_bytes=1, max_bytes=1, group_rows=16)

OPERATIONS = [
    Operation("publish parquet", publish_new, ("publish",)),
    Operation("publish csv", publish_csv, ("publish",)),
    Operation(
        "publish sorted",
        publish_sorted,
        ("publish",),
        drop("d/dataset.toml", b'key = ["step"]\n'),
        {"limits": SMALL, "describe": describe_values},
    ),
    Operation("drop csv", poll, ("publish",), drop("d/results.csv", CSV)),
    Operation("drop jsonl", poll, ("publish",), drop("d/results.jsonl", b'{"step": 1}\n{"step": 2}\n')),
    Operation("drop rubbish", poll, ("reject",), drop("d/results.csv", b"\0")),
    Operation("drop the same again", poll, ("seen",), drop_again),
    Operation("edit the definition", poll, ("publish",), drop("d/dataset.toml", b"title = 'x'\n")),
    Operation("roll back", lambda process, scratch: process.publisher.set_current("d", 1), ("set_current",)),
    Operation("tag", lambda process, scratch: process.lifecycle.tag("d", "paper", 1), ("tag",)),
    Operation(
        "move a tag",
        lambda process, scratch: process.lifecycle.tag("d", "paper", "latest", move=True),
        ("tag",),
        lambda home, process: process.lifecycle.tag("d", "paper", 1),
    ),
    Operation("yank", lambda process, scratch: process.lifecycle.yank("d", 2), ("yank",)),
    Operation(
        "restore",
        lambda process, scratch: process.lifecycle.restore("d", 2),
        ("restore",),
        lambda home, process: process.lifecycle.yank("d", 2),
    ),
    Operation("expire", lambda process, scratch: expire_first(process), ("expire",)),
    Operation("gc", collect, (), leave_orphan),
]

#: How a process ends, or its store fails it, and at which primitives. Where nothing was written, a kill is the same as
#: one before, and losing the answer is the same as refusing.
WAYS = {
    "killed after a write": ("kill", "after", FaultyStore.WRITES),
    "refused": ("fail", "before", ()),
    "answer of a write lost": ("fail", "after", FaultyStore.WRITES),
}


ON_A_BUCKET = (
    "publish csv", "publish sorted", "drop csv", "drop rubbish", "drop the same again", "edit the definition",
    "roll back", "tag", "expire", "gc",
)  # fmt: skip


def filled(home: Home, database: Database, scratch: Path) -> Witness:
    """Two versions in ``d``, and a drop that became a version in ``e`` and went; what a copy holds is younger."""
    process = Process(home.store(), database)
    for seed in (1, 2):
        process.publisher.publish("d", write_parquet(scratch / "old.parquet", seed=seed))
    home.drop("e/results.csv", CSV, process.clock() - 60)
    assert [event.kind for event in process.ingestor.poll()] == ["published"]
    home.remove("e/results.csv")
    witness = Witness(home)
    witness.check()
    return witness


@pytest.fixture(scope="module")
def folder_baseline(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Witness:
    folder = tmp_path_factory.mktemp("baseline")
    return filled(FolderHome(folder / "store"), database, folder)


@pytest.fixture(scope="module")
def bucket_baseline(
    moto_server: Server, database: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Witness]:
    yield from filled_bucket(moto_server, database, tmp_path_factory.mktemp("baseline"))


@pytest.fixture(scope="module")
def ceph_baseline(radosgw: Server, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    yield from filled_bucket(radosgw, database, tmp_path_factory.mktemp("baseline"))


def filled_bucket(server: Server, database: Database, folder: Path) -> Iterator[Witness]:
    with fresh_bucket(server) as bucket:
        home = BucketHome(bucket, folder / "staging")
        yield filled(home, database, folder)
        home.clear()
        home.close()


def cases() -> Iterator[Any]:
    """Everything on a folder; of buckets, which are slow, what is special to them."""
    for way in WAYS:
        for operation in OPERATIONS:
            homes = ["folder"]
            homes += ["bucket"] * (operation.name in (ON_A_BUCKET if way != "refused" else ("drop csv", "expire")))
            homes += ["ceph"] * (operation.name == "drop csv" and way != "refused")
            for home in homes:
                name = f"{home}-{way}-{operation.name}".replace(" ", "_")
                marks = [pytest.mark.ceph] if home == "ceph" else []
                yield pytest.param(home, way, operation, id=name, marks=marks)


@pytest.mark.parametrize("where, way, operation", list(cases()))
def test_every_step(
    where: str,
    way: str,
    operation: Operation,
    database: Database,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    baseline: Witness = request.getfixturevalue(f"{where}_baseline")
    how, when, only = WAYS[way]
    step = 0
    while True:
        step += 1
        home = baseline.home.copy(f"{operation.name}-{way}-{step}".replace(" ", "-"))
        try:
            trial = Trial(baseline.of_copy(home), database, tmp_path, operation)
            taken = trial.run((step, how, when), only)
        finally:
            home.clear()
        if taken < step:
            break
    tried(step - 1)
    assert step > (1 if only else 3)


class Trial:
    """One operation on one home with one fault, and what comes of it."""

    def __init__(self, witness: Witness, database: Database, scratch: Path, operation: Operation) -> None:
        self.witness = witness
        self.home = witness.home
        self.scratch = scratch
        self.operation = operation
        self.start = partial(Process, database=database, **operation.options)
        operation.prepare(self.home, self.start(self.home.store()))
        witness.check()
        self.before = witness.kinds()

    def run(self, fault: tuple[int, str, str], only: tuple[str, ...]) -> int:
        """Returns how many steps there were."""
        reader, faulty = DatasetLog(self.home.store(), "d"), FaultyStore(self.home.store())
        seen = reader.refresh()
        process = self.start(faulty)
        faulty.arm(fault, only)
        acknowledged = None
        try:
            acknowledged = self.operation.run(process, self.scratch)
        except Killed:
            assert fault[1] == "kill"
        except EngineError:
            assert fault[1] == "fail"
        taken = faulty.step
        self.witness.check()
        # Who reads meanwhile sees what was, or what is: a whole version, and never less than before.
        assert reader.refresh().seq >= seen.seq
        if isinstance(acknowledged, Version) and acknowledged.dataset == "d":
            assert acknowledged in reader.state.versions
        faulty.arm(None)
        if fault[1] == "kill":
            process = self.start(self.home.store())
        process.clock.now += 100  # the pause after a failure
        self.finish(process, acknowledged)
        return taken

    def finish(self, process: Process, acknowledged: Any = None) -> None:
        """With nothing failing: what was begun is done once, and then nothing happens any more."""
        attempt(self.operation, process, self.scratch)
        self.witness.check()
        after = self.witness.kinds()
        added = [kind for name in after for kind in after[name][len(self.before[name]) :]]
        if isinstance(acknowledged, Version) and self.operation.run is publish_sorted and not acknowledged.sorted_by:
            added.remove("publish")  # the one before the definition could be read
        assert added == list(self.operation.adds), "once, however often it was tried"
        if self.operation.run is collect:
            assert process.collect(time.time() + 30 * DAY_S) == []
            model = self.witness.model("d")
            named = {file["key"] for number in model.live for file in model.files(number)}
            assert {key for key in self.home.stamps("d/_bt/") if "/log/" not in key} == named
        self.check_rest(process)

    def check_rest(self, process: Process) -> None:
        """What a new process sees is what the old one saw."""
        fresh = Process(self.home.store(), process.database, process.clock)
        fresh.clock.now += 100
        assert fresh.ingestor.poll() == [] == fresh.ingestor.poll()
        self.witness.check()
        for name in ("d", "e"):
            state = fresh.logs.of(name).refresh()
            assert state == process.logs.of(name).refresh()
            current = self.witness.model(name).current
            assert state.current is not None and current is not None and state.current.number == current["seq"]


def attempt(operation: Operation, process: Process, scratch: Path) -> None:
    """Once more; a poll may find that everything was done."""
    if operation.run is poll:
        for _ in range(3):  # a definition counts when two polls saw it
            assert all(event.kind != "failed" for event in process.ingestor.poll())
    else:
        operation.run(process, scratch)


SYSTEM_CALLS = ("link", "fsync", "write", "unlink", "mkdir", "chmod", "open")


class FaultySystem:
    """The same one floor below: the n-th call to the operating system ends the process, or fails."""

    def __init__(self, patch: pytest.MonkeyPatch, fault: tuple[int, str, str]) -> None:
        self.step = 0
        self.fault = fault
        for name in SYSTEM_CALLS:
            patch.setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.step += 1
            here = self.step == self.fault[0]
            if here and self.fault[2] == "before":
                self._raise()
            answer = real(*arguments, **named)
            if here:
                if real.__name__ == "open":
                    os.close(answer)
                self._raise()
            return answer

        return call

    def _raise(self) -> None:
        raise Killed if self.fault[1] == "kill" else OSError(5, "Input/output error")


BY_NAME = {operation.name: operation for operation in OPERATIONS}


@pytest.mark.parametrize(
    "name, how, when",
    [
        ("publish sorted", "kill", "before"),
        ("publish parquet", "fail", "before"),
        ("publish parquet", "fail", "after"),
        ("drop csv", "kill", "after"),
        ("drop csv", "fail", "after"),
        ("gc", "fail", "before"),
    ],
)
def test_every_system_call(
    folder_baseline: Witness,
    database: Database,
    tmp_path: Path,
    name: str,
    how: str,
    when: str,
) -> None:
    operation, step = BY_NAME[name], 0
    while True:
        step += 1
        home = folder_baseline.home.copy(f"system-{name}-{how}-{when}-{step}")
        trial = Trial(folder_baseline.of_copy(home), database, tmp_path, operation)
        process = trial.start(home.store())
        with pytest.MonkeyPatch.context() as patch:
            system = FaultySystem(patch, (step, how, when))
            acknowledged = None
            try:
                acknowledged = operation.run(process, tmp_path)
            except Killed:
                assert how == "kill"
            except EngineError:  # and never an OSError, whose text would name a path
                assert how == "fail"
        trial.witness.check()
        process = trial.start(home.store()) if how == "kill" else process
        process.clock.now += 100
        trial.finish(process, acknowledged)
        home.clear()
        if system.step < step:
            break
    tried(step - 1)
    assert step > (4 if name == "gc" else 15)


def test_a_witness_notices(database: Database, tmp_path: Path) -> None:
    """The invariants are worth something only if breaking them is seen."""
    root = tmp_path / "store"
    process = Process(LocalStore(root), database)
    for seed in (1, 2):
        process.publisher.publish("d", write_parquet(tmp_path / "a.parquet", seed=seed))
    witness = Witness(root)
    witness.check()
    record, blob = root / "d/_bt/log/0000000001.json", root / process.logs.of("d").state.versions[0].files[0].key
    for path in (record, blob):
        data = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(data.replace(data[30:34], b"oops"))
        with pytest.raises((AssertionError, ValueError)):
            witness.check()
        path.unlink()
        with pytest.raises((AssertionError, FileNotFoundError)):
            witness.check()
        path.write_bytes(data)
        witness.check()
    record.rename(record.with_name("0000000007.json"))
    with pytest.raises(AssertionError, match="has disappeared"):
        witness.check()
    with pytest.raises(AssertionError, match="not dense"):
        Witness(root).check()
    with pytest.raises(CorruptVersionError):
        DatasetLog(LocalStore(root), "d").refresh()
