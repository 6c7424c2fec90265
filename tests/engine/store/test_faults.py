"""A process may be killed, or its store may fail, at any step: what was acknowledged stays, and nothing else appears.

Three ways at it: every step of every operation in turn, random histories of many processes, and real processes that
are really killed. What must hold is in SPEC 7; ``support.Witness`` reads it off the disk.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.connection import Database
from engine.errors import CorruptVersionError, EngineError, StoreError
from engine.store import DatasetLog, LocalStore, Version, verify_blob
from tests.engine.store.support import (
    Clock,
    FaultyStore,
    Killed,
    Process,
    Witness,
    current_of,
    place,
    read_log,
    sha256,
    write_parquet,
)

CSV = b"step,value\n1,0.5\n2,inf\n"


# Every step of every operation.


@dataclass(frozen=True)
class Operation:
    """Something that a process does to the store, and the kinds of record that it adds in the end."""

    name: str
    run: Callable[[Process, Path], Any]
    adds: tuple[str, ...]
    prepare: Callable[[Path, Clock], Any] = lambda root, clock: None


def publish_new(process: Process, scratch: Path) -> Version:
    return process.publisher.publish("d", write_parquet(scratch / "new.parquet", seed=5)).version


def publish_csv(process: Process, scratch: Path) -> Version:
    (scratch / "new.csv").write_bytes(CSV)
    return process.publisher.publish("d", scratch / "new.csv").version


def poll(process: Process, scratch: Path) -> Version | None:
    events = process.ingestor.poll()
    if reasons := [event.reason for event in events if event.kind == "failed"]:
        raise StoreError(reasons[0])
    return next((event.version for event in events), None)


OPERATIONS = [
    Operation("publish parquet", publish_new, ("publish",)),
    Operation("publish csv", publish_csv, ("publish",)),
    Operation(
        "drop parquet",
        poll,
        ("publish",),
        lambda root, clock: write_parquet(root / "d/results.parquet", seed=6),
    ),
    Operation("drop csv", poll, ("publish",), lambda root, clock: place(root / "d/results.csv", CSV, clock() - 9)),
    Operation("drop rubbish", poll, ("reject",), lambda root, clock: place(root / "d/results.csv", b"\0", clock() - 9)),
    Operation(
        "touch a drop",
        poll,
        ("seen",),
        lambda root, clock: place(root / "e/results.csv", CSV, clock() - 8),
    ),
    Operation(
        "edit the definition",
        poll,
        ("publish",),
        lambda root, clock: (root / "d/dataset.toml").write_text("title = 'x'\n"),
    ),
    Operation("roll back", lambda process, scratch: process.publisher.set_current("d", 1), ("set_current",)),
]


@pytest.fixture(scope="module")
def baseline(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two versions in ``d``, and a drop that became a version in ``e``."""
    folder = tmp_path_factory.mktemp("baseline")
    root = folder / "store"
    process = Process(LocalStore(root), database)
    for seed in (1, 2):
        process.publisher.publish("d", write_parquet(folder / "old.parquet", seed=seed))
    place(root / "e/results.csv", CSV, process.clock() - 60)
    assert [event.kind for event in process.ingestor.poll()] == ["published"]
    return root


def histories(root: Path) -> dict[str, list[str]]:
    return {name: [record["kind"] for record in read_log(root, name)] for name in ("d", "e")}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
@pytest.mark.parametrize("how", ["kill", "fail"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_every_step(
    baseline: Path, database: Database, tmp_path: Path, operation: Operation, how: str, when: str
) -> None:
    step = 0
    while True:
        step += 1
        root = tmp_path / str(step)
        shutil.copytree(baseline, root, copy_function=os.link)
        before = histories(root)
        witness, reader = Witness(root), DatasetLog(LocalStore(root), "d")
        witness.check()
        seen = reader.refresh()
        faulty = FaultyStore(LocalStore(root))
        process = Process(faulty, database)
        operation.prepare(root, process.clock)
        faulty.arm((step, how, when))
        acknowledged = None
        try:
            acknowledged = operation.run(process, tmp_path)
        except Killed:
            assert how == "kill"
        except EngineError:
            assert how == "fail"
        taken = faulty.step
        witness.check()
        # Who reads meanwhile sees what was, or what is: a whole version, and never less than before.
        assert reader.refresh().seq >= seen.seq
        for version in reader.state.versions:
            verify_blob(LocalStore(root), version.files[0])
        if isinstance(acknowledged, Version) and acknowledged.dataset == "d":
            assert acknowledged in reader.state.versions
        if how == "kill":
            process = Process(LocalStore(root), database)
        else:
            faulty.arm(None)
        process.clock.now += 100  # the pause after a failure
        attempt(operation, process, tmp_path)
        witness.check()
        after = histories(root)
        added = [kind for name in after for kind in after[name][len(before[name]) :]]
        assert added == list(operation.adds), "once, however often it was tried"
        check_rest(root, database, process)
        shutil.rmtree(root)
        if taken < step:
            break
    assert step > 3


def attempt(operation: Operation, process: Process, scratch: Path) -> None:
    """Once more; a poll may find that everything was done."""
    if operation.run is poll:
        for _ in range(3):  # a definition counts when two polls saw it
            assert all(event.kind != "failed" for event in process.ingestor.poll())
    else:
        operation.run(process, scratch)


def check_rest(root: Path, database: Database, process: Process) -> None:
    """Nothing more happens; and what a new process sees is what the old one saw."""
    fresh = Process(LocalStore(root), database, process.clock)
    fresh.clock.now += 100
    assert fresh.ingestor.poll() == [] == fresh.ingestor.poll()
    for name in ("d", "e"):
        state = fresh.logs.of(name).refresh()
        assert state == process.logs.of(name).refresh()
        current = current_of(root, name)
        assert state.current is not None and current is not None and state.current.number == current["seq"]


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


@pytest.mark.parametrize(
    "operation, how, when",
    [
        (OPERATIONS[0], "kill", "before"),
        (OPERATIONS[0], "fail", "before"),
        (OPERATIONS[0], "fail", "after"),
        (OPERATIONS[3], "kill", "after"),
        (OPERATIONS[3], "fail", "after"),
    ],
    ids=lambda value: value.name if isinstance(value, Operation) else value,
)
def test_every_system_call(
    baseline: Path, database: Database, tmp_path: Path, operation: Operation, how: str, when: str
) -> None:
    step = 0
    while True:
        step += 1
        root = tmp_path / str(step)
        shutil.copytree(baseline, root, copy_function=os.link)
        before = histories(root)
        witness = Witness(root)
        witness.check()
        process = Process(LocalStore(root), database)
        operation.prepare(root, process.clock)
        with pytest.MonkeyPatch.context() as patch:
            system = FaultySystem(patch, (step, how, when))
            try:
                operation.run(process, tmp_path)
            except Killed:
                assert how == "kill"
            except EngineError:  # and never an OSError, whose text would name a path
                assert how == "fail"
        witness.check()
        process = Process(LocalStore(root), database) if how == "kill" else process
        process.clock.now += 100
        attempt(operation, process, tmp_path)
        witness.check()
        after = histories(root)
        assert [kind for name in after for kind in after[name][len(before[name]) :]] == list(operation.adds)
        check_rest(root, database, process)
        shutil.rmtree(root)
        if system.step < step:
            break
    assert step > 15


# Random histories.

HOW, WHEN = st.sampled_from(["kill", "fail"]), st.sampled_from(["before", "after"])
FAULTS = st.none() | st.tuples(st.integers(1, 16), HOW, WHEN)
SEEDS = st.integers(0, 3)
PROCESSES = st.integers(0, 1)


class Histories(RuleBasedStateMachine):
    """Two processes, each of which dies and comes back, a drop zone, and a reader that never stops."""

    def __init__(self, root: Path, database: Database) -> None:
        super().__init__()
        self.scratch = root.with_name("scratch")
        for folder in (root, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        self.root = root
        self.database = database
        self.clock = Clock()
        self.witness = Witness(root)
        self.processes: list[Process] = []
        self.reader = DatasetLog(LocalStore(root), "d")
        self.reader_seq = 0
        self.acknowledged: dict[int, str] = {}
        self.drops = 0
        self.dropped: dict[str, bytes] = {}

    @initialize()
    def begin(self) -> None:
        self.processes = [self.start() for _ in range(2)]

    def start(self) -> Process:
        return Process(FaultyStore(LocalStore(self.root)), self.database, self.clock)

    def content(self, seed: int, file_format: str) -> bytes:
        if file_format == "csv":
            return f"step,value\n1,{seed}.5\n".encode()
        return write_parquet(self.scratch / f"{seed}.parquet", seed=seed).read_bytes()

    def attempt(self, which: int, fault: tuple[int, str, str] | None, work: Callable[[Process], Any]) -> Any:
        """Let a process do something; None when that came to nothing, as far as the process knows."""
        process = self.processes[which]
        store = process.store
        assert isinstance(store, FaultyStore)
        store.arm(fault)
        try:
            return work(process)
        except Killed:
            self.processes[which] = self.start()
        except StoreError:
            assert fault is not None and fault[1] == "fail"
        finally:
            store.arm(None)
        return None

    def acknowledge(self, version: Version | None) -> None:
        if version is not None:
            assert self.acknowledged.setdefault(version.number, version.content_id) == version.content_id

    @rule(which=PROCESSES, seed=SEEDS, file_format=st.sampled_from(["parquet", "csv"]), fault=FAULTS)
    def publish(self, which: int, seed: int, file_format: str, fault: tuple[int, str, str] | None) -> None:
        path = self.scratch / f"given.{file_format}"
        path.write_bytes(self.content(seed, file_format))
        outcome = self.attempt(which, fault, lambda process: process.publisher.publish("d", path))
        if outcome is not None:
            assert outcome.version.original.sha256 == sha256(path.read_bytes())
            self.acknowledge(outcome.version)
            assert self.processes[which].logs.of("d").state.current == outcome.version

    @rule(seed=SEEDS, file_format=st.sampled_from(["parquet", "csv"]))
    def drop(self, seed: int, file_format: str) -> None:
        self.place(f"results.{file_format}", self.content(seed, file_format))

    @rule(file_format=st.sampled_from(["parquet", "csv"]), data=st.sampled_from([b"", b"\0", b"PAR1"]))
    def drop_rubbish(self, file_format: str, data: bytes) -> None:
        self.place(f"results.{file_format}", data)

    def place(self, name: str, data: bytes) -> None:
        self.drops += 1
        self.clock.now += 1
        place(self.root / "d" / name, data, self.clock() - 3)
        self.dropped[name] = data

    @precondition(lambda self: self.dropped)
    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.dropped)))
        self.clock.now += 1
        os.utime(self.root / "d" / name, (self.clock() - 3, self.clock() - 3))

    @precondition(lambda self: self.dropped)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.dropped)))
        (self.root / "d" / name).unlink()
        del self.dropped[name]

    @rule(text=st.sampled_from(["", "a = 1\n", "a = 2\n", "a = "]))
    def edit_definition(self, text: str) -> None:
        (self.root / "d").mkdir(exist_ok=True)
        (self.root / "d/dataset.toml").write_text(text)

    @rule(which=PROCESSES, fault=FAULTS)
    def poll(self, which: int, fault: tuple[int, str, str] | None) -> None:
        for event in self.attempt(which, fault, lambda process: process.ingestor.poll()) or []:
            self.acknowledge(event.version)
            assert event.kind != "failed" or fault is not None

    @rule(seconds=st.sampled_from([1, 20, 1000]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds

    @precondition(lambda self: self.acknowledged)
    @rule(which=PROCESSES, data=st.data(), fault=FAULTS)
    def roll_back(self, which: int, data: st.DataObject, fault: tuple[int, str, str] | None) -> None:
        number = data.draw(st.sampled_from(sorted(self.acknowledged)))
        version = self.attempt(which, fault, lambda process: process.publisher.set_current("d", number))
        if version is not None:
            current = current_of(self.root, "d")
            assert current is not None and current["seq"] == number

    @precondition(lambda self: self.acknowledged)
    @rule(data=st.data(), whole=st.booleans())
    def lose_a_blob(self, data: st.DataObject, whole: bool) -> None:
        """Somebody tidies up; publishing the same again must mend it or replace it."""
        seed, before = data.draw(SEEDS), current_of(self.root, "d")
        if before is None:
            return
        path = self.scratch / "lost.parquet"
        path.write_bytes(self.content(seed, "parquet"))
        process = self.processes[0]
        version = process.publisher.publish("d", path).version
        self.acknowledge(version)
        (self.root / version.files[0].key).unlink()
        again = process.publisher.publish("d", path)
        assert again.version == version and not again.created

    @rule(which=PROCESSES)
    def restart(self, which: int) -> None:
        self.processes[which] = self.start()

    @rule()
    def read(self) -> None:
        state = self.reader.refresh()
        assert state.seq >= self.reader_seq, "a reader never goes back"
        self.reader_seq = state.seq
        current = current_of(self.root, "d")
        assert (state.current.number if state.current else None) == (current["seq"] if current else None)
        assert state == DatasetLog(LocalStore(self.root), "d").refresh(), "growing is the same as reading anew"

    @invariant()
    def what_was_promised(self) -> None:
        self.witness.check()
        if not (self.root / "d/_bt/log").is_dir():
            assert not self.acknowledged
            return
        published = {record["seq"]: record for record in read_log(self.root, "d") if record["kind"] == "publish"}
        for number, content_id in self.acknowledged.items():
            assert published[number]["files"][0]["sha256"] == content_id, "an acknowledged version is lost"

    def teardown(self) -> None:
        """In the end, with nothing failing, every drop that lies there has been dealt with, and all is quiet."""
        process = Process(LocalStore(self.root), self.database, self.clock)
        for _ in range(3):
            self.clock.now += 1000
            assert all(event.kind != "failed" for event in process.ingestor.poll())
        assert process.ingestor.poll() == []
        self.witness.check()
        state = process.logs.of("d").refresh()
        for name, data in self.dropped.items():
            known = [drop for drop in state.drops if drop.source.key == f"d/{name}"][-1]
            assert known.source.etag == LocalStore(self.root).stat(f"d/{name}").etag  # type: ignore[union-attr]
            if known.version is not None:
                made = state.number(known.version)
                assert made is not None and made.original.sha256 == sha256(data)


def test_random_histories(database: Database, tmp_path: Path) -> None:
    run_state_machine_as_test(
        lambda: Histories(tmp_path / "store", database),
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


# Real processes, really killed.

WORKER = """
import sys, time
from pathlib import Path
from engine.connection import Database
from engine.store import LocalStore
from tests.engine.store.support import Process, place, write_parquet
root, scratch, life = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
process = Process(LocalStore(root), Database([root]))
process.clock.now = time.time() + 1000
print("ready", flush=True)
for turn in range(10_000):
    seed = life * 10_000 + turn
    if turn % 3 == 0:
        place(root / "d/results.csv", b"step,value\\n1,%d.5\\n" % seed, process.clock() - 100 + turn / 1000)
        versions = [event.version for event in process.ingestor.poll() if event.version]
    elif turn % 3 == 1:
        versions = [process.publisher.publish("d", write_parquet(scratch / "new.parquet", 20_000, seed=seed)).version]
    else:
        process.publisher.set_current("d", process.logs.of("d").state.versions[0].number)
        versions = []
    for version in versions:
        print(version.number, version.content_id, flush=True)
"""


def lives(rng: random.Random, root: Path, scratch: Path) -> Iterator[list[str]]:
    """What each of ten processes acknowledged before it was killed."""
    for life in range(10):
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(root), str(scratch), str(life)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        lines = [process.stdout.readline() for _ in range(rng.randint(0, 6))]
        time.sleep(rng.uniform(0.0, 0.05))
        process.kill()
        lines += process.communicate()[0].splitlines(keepends=True)
        assert process.returncode == -9
        yield [line for line in lines if line.endswith("\n")]


def test_killed_processes(database: Database, tmp_path: Path) -> None:
    root, scratch = tmp_path / "store", tmp_path / "scratch"
    scratch.mkdir()
    root.mkdir()
    witness, reader = Witness(root), DatasetLog(LocalStore(root), "d")
    acknowledged: dict[int, str] = {}
    for lines in lives(random.Random(7), root, scratch):
        acknowledged.update({int(line.split()[0]): line.split()[1] for line in lines})
        witness.check()
        seq = reader.state.seq
        assert reader.refresh().seq >= seq
    assert len(acknowledged) > 15, "they lived long enough to do something"
    store = LocalStore(root)
    state = Process(store, database).logs.of("d").refresh()
    assert state == reader.refresh()
    for number, content_id in acknowledged.items():
        version = state.resolve(number)
        assert version.content_id == content_id
        assert sha256(verify_blob(store, version.files[0]).read_bytes()) == content_id
    process = Process(store, database)
    process.clock.now = time.time() + 10_000
    process.ingestor.poll()
    assert process.ingestor.poll() == []
    witness.check()
    # What the dead left in the scratch folder is bounded by one life each, and goes when it is a day old.
    assert len(list((root / "d/_bt/tmp").iterdir())) <= 10 * 3


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
    with pytest.raises(AssertionError, match="not dense"):
        witness.check()
    with pytest.raises(CorruptVersionError):
        DatasetLog(LocalStore(root), "d").refresh()
