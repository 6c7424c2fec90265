"""Random histories of several processes, each of which dies and comes back, on both homes, against a simple model.

The model is ``witness.Model``: the log, folded by other code than ours. ``BT_TEST_MACHINE_STEPS`` sets how many steps
are taken on each home; with more than CI takes, give pytest ``-o faulthandler_timeout=0`` too.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
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

from engine import Engine
from engine.config import EngineConfig
from engine.connection import Database
from engine.errors import EngineError, PublishConflictError, StoreError, VersionNotFoundError
from engine.store import Version
from queries.request import QueryRequest
from tests.engine.store.homes import BucketHome, FolderHome, Home
from tests.engine.store.support import Clock, FaultyStore, Killed, Process
from tests.engine.store.witness import Model, Witness, sha256
from tests.object_storage.servers import Server, fresh_bucket
from tests.tried import tried

STEPS_OF_ONE = 40
#: Steps on each home in CI; one on a bucket takes as long as five on a folder.
STEPS = {"folder": 1_600, "bucket": 320, "ceph": 120}
DAY_S = 86_400.0

Fault = tuple[int, str, str] | None
FAULTS = st.none() | st.tuples(
    st.integers(1, 20), st.sampled_from(["kill", "fail"]), st.sampled_from(["before", "after"])
)
SEEDS = st.integers(0, 3)
FORMATS = st.sampled_from(["parquet", "csv"])
PROCESSES = st.integers(0, 1)
Rows = list[tuple[int, float]]


def rows_of(seed: int) -> Rows:
    """Out of order, so that sorting by ``step`` moves them; answers come in this order all the same."""
    return [(step, seed + step / 8) for step in (3, 1, 4, 2)]


def content(seed: int, file_format: str) -> bytes:
    rows = rows_of(seed)
    if file_format == "csv":
        return ("step,value\n" + "".join(f"{step},{value}\n" for step, value in rows)).encode()
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"step": [row[0] for row in rows], "value": [row[1] for row in rows]}), sink)
    return bytes(sink.getvalue())


#: SHA-256 of all that is ever given → its rows.
GIVEN = {sha256(content(seed, name)): rows_of(seed) for seed in range(4) for name in ("parquet", "csv")}
DEFINITIONS = ["", "title = 'a'\n", 'key = ["step"]\n', "a = "]


class Histories(RuleBasedStateMachine):
    """Two processes that write, two engines that read, a drop zone, and somebody who looks at all of it."""

    def __init__(self, home: Home, database: Database, scratch: Path, counts: Counter[str]) -> None:
        super().__init__()
        self.home = home
        self.database = database
        self.scratch = scratch
        self.clock = Clock()
        self.witness = Witness(home)
        self.processes: list[Process] = []
        self.readers: list[Engine] = []
        self.seqs: dict[int, int] = {}
        self.acknowledged: dict[int, str] = {}
        self.dropped: dict[str, bytes] = {}
        self.dropped_at: dict[tuple[str, str], int] = {}
        self.answers: dict[int, Rows] = {}
        self.forgetful: set[int] = set()  # versions whose files may be gone
        self.counts = counts

    # --- processes

    @initialize()
    def begin(self) -> None:
        self.processes = [self.start() for _ in range(2)]
        store = self.home.location if isinstance(self.home, BucketHome) else self.home.root  # type: ignore[attr-defined]
        for number in range(2):
            config = EngineConfig(
                store,
                definitions=None,
                cache_dir=self.scratch / f"cache-{number % 1}",  # both share one disk cache
                refresh_s=1e-9,
                results_cache_bytes=0,
                tables_bytes=0,
                lookup_bytes=0,
            )
            self.readers.append(Engine(config))
        for seed in range(3):  # or most histories would end before anything could expire
            self.publish_given(0, None, self.given(seed, "parquet"))

    def start(self) -> Process:
        return Process(FaultyStore(self.home.store()), self.database, self.clock)

    def attempt(self, which: int, fault: Fault, work: Callable[[Process], Any]) -> Any:
        """Let a process do something; None when that came to nothing, as far as the process knows."""
        process = self.processes[which]
        store = process.store
        assert isinstance(store, FaultyStore)
        store.arm(fault)
        try:
            done = work(process)
            self.counts["done"] += 1
            return done
        except Killed:
            self.counts["killed"] += 1
            self.processes[which] = self.start()
        except StoreError:
            self.counts["failed"] += 1
            assert fault is not None and fault[1] == "fail"
        finally:
            store.arm(None)
            self.witness.check()
        return None

    @property
    def model(self) -> Model:
        return self.witness.model("d")

    def versions(self) -> list[int]:
        return sorted(self.model.versions)

    @rule(which=PROCESSES, seconds=st.sampled_from([0, 1, 20, 1000]))
    def pass_time(self, which: int, seconds: int) -> None:
        self.clock.now += seconds
        if not seconds:
            self.processes[which] = self.start()

    # --- publishing and drops

    def acknowledge(self, version: Version | None) -> None:
        if version is not None:
            assert self.acknowledged.setdefault(version.number, version.content_id) == version.content_id

    @rule(which=PROCESSES, seed=SEEDS, file_format=FORMATS, fault=FAULTS)
    def publish(self, which: int, seed: int, file_format: str, fault: Fault) -> None:
        self.publish_given(which, fault, self.given(seed, file_format))

    def given(self, seed: int, file_format: str) -> Path:
        path = self.scratch / f"given.{file_format}"
        path.write_bytes(content(seed, file_format))
        return path

    def publish_given(self, which: int, fault: Fault, path: Path) -> None:
        outcome = self.attempt(which, fault, lambda process: process.publisher.publish("d", path))
        if outcome is not None:
            assert outcome.version.original.sha256 == sha256(path.read_bytes())
            self.acknowledge(outcome.version)
            current = self.model.current
            assert current is not None and current["seq"] == outcome.version.number

    @rule(seed=SEEDS, file_format=FORMATS, rubbish=st.sampled_from([None, None, b"", b"\0", b"PAR1"]))
    def drop(self, seed: int, file_format: str, rubbish: bytes | None) -> None:
        self.place(f"results.{file_format}", content(seed, file_format) if rubbish is None else rubbish)

    def place(self, name: str, data: bytes) -> None:
        self.clock.now += 1
        if self.home.kind == "bucket":
            # To the second, all that tells the same bytes of one drop from those of another.
            known = (name, sha256(data))
            while self.dropped_at.get(known) == int(time.time()):
                time.sleep(0.05)
            self.dropped_at[known] = int(time.time())
        self.home.drop(f"d/{name}", data, self.clock() - 9)
        self.dropped[name] = data

    @precondition(lambda self: self.dropped)
    @rule(gone=st.booleans(), data=st.data())
    def touch_or_remove(self, gone: bool, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.dropped)))
        self.clock.now += 1
        if gone:
            self.home.remove(f"d/{name}")
            del self.dropped[name]
        elif self.dropped[name]:  # no part of an upload may be empty
            self.home.touch(f"d/{name}", self.clock() - 9)

    @rule(text=st.sampled_from(DEFINITIONS))
    def edit_definition(self, text: str) -> None:
        self.home.drop("d/dataset.toml", text.encode(), self.clock())

    @rule(which=PROCESSES, fault=FAULTS)
    def poll(self, which: int, fault: Fault) -> None:
        for event in self.attempt(which, fault, lambda process: process.ingestor.poll()) or []:
            self.acknowledge(event.version)
            assert event.kind != "failed" or fault is not None, event

    # --- what is decided about versions

    def decide(self, which: int, fault: Fault, work: Callable[[Process], Any], refused: bool) -> bool:
        """Whether it was done and acknowledged; ``refused`` is what the model expects."""
        try:
            done = self.attempt(which, fault, work) is not None
        except (PublishConflictError, VersionNotFoundError):
            assert refused
            return False
        assert not (done and refused)
        return done

    @precondition(lambda self: self.versions())
    @rule(which=PROCESSES, data=st.data(), fault=FAULTS)
    def roll_back(self, which: int, data: st.DataObject, fault: Fault) -> None:
        number = data.draw(st.sampled_from(self.versions()))
        refused = number in self.model.yanked | self.model.expired
        if self.decide(which, fault, lambda process: process.publisher.set_current("d", number), refused):
            current = self.model.current
            assert current is not None and current["seq"] == number

    @precondition(lambda self: self.versions())
    @rule(which=PROCESSES, name=st.sampled_from(["paper", "best"]), move=st.booleans(), data=st.data(), fault=FAULTS)
    def tag(self, which: int, name: str, move: bool, data: st.DataObject, fault: Fault) -> None:
        number, model = data.draw(st.sampled_from(self.versions())), self.model
        refused = number in model.expired or (not move and model.tags.get(name, number) != number)
        work = lambda process: process.lifecycle.tag("d", name, number, move=move)  # noqa: E731
        if self.decide(which, fault, work, refused):
            assert self.model.tags[name] == number

    @rule(which=PROCESSES, name=st.sampled_from(["paper", "best"]), fault=FAULTS)
    def untag(self, which: int, name: str, fault: Fault) -> None:
        if self.attempt(which, fault, lambda process: process.lifecycle.untag("d", name)) is not None:
            assert name not in self.model.tags

    @precondition(lambda self: self.versions())
    @rule(which=PROCESSES, back=st.booleans(), data=st.data(), fault=FAULTS)
    def yank_or_restore(self, which: int, back: bool, data: st.DataObject, fault: Fault) -> None:
        model = self.model
        number = data.draw(st.sampled_from(sorted(model.yanked) if back and model.yanked else self.versions()))

        def work(process: Process) -> Version:
            return (process.lifecycle.restore if back else process.lifecycle.yank)("d", number)

        if self.decide(which, fault, work, number in model.expired):
            assert (number in self.model.yanked) is not back

    @precondition(lambda self: self.versions())
    @rule(which=PROCESSES, keep=st.sampled_from([0, 2]), data=st.data(), fault=FAULTS)
    def expire(self, which: int, keep: int, data: st.DataObject, fault: Fault) -> None:
        number, model = data.draw(st.sampled_from(self.versions())), self.model
        is_current = model.current is not None and model.current["seq"] == number
        is_new = keep > 0 and number in model.live[-keep:]
        refused = number not in model.expired and (is_current or is_new or number in model.tags.values())
        work = lambda process: process.lifecycle.expire("d", [number], keep=keep)  # noqa: E731
        if self.decide(which, fault, work, refused):
            assert number in self.model.expired

    @rule(which=PROCESSES, keep=st.sampled_from([1, 3]), fault=FAULTS)
    def expire_all(self, which: int, keep: int, fault: Fault) -> None:
        if self.attempt(which, fault, lambda process: process.lifecycle.expire("d", keep=keep)) is not None:
            model = self.model
            tagged = set(model.tags.values()) | ({model.current["seq"]} if model.current else set())
            assert set(model.live) == tagged | set(model.live[-keep:] if keep else ())

    @rule(which=PROCESSES, days=st.sampled_from([0, 2, 30]), fault=FAULTS)
    def gc(self, which: int, days: int, fault: Fault) -> None:
        if days > 7:
            self.forgetful |= self.model.expired
        removed = self.attempt(which, fault, lambda process: process.collect(time.time() + days * DAY_S))
        if removed is None:
            return
        assert days or not removed, "nothing is that old yet"
        assert days > 7 or all(one.why != "expired" for one in removed)
        if days > 7 and self.versions():
            model = self.model
            needed = {file["key"] for number in model.live for file in model.files(number)}
            assert {key for key in self.home.stamps("d/_bt/") if "/_bt/log/" not in key} == needed

    @precondition(lambda self: self.model.current)
    @rule(data=st.data())
    def lose_a_file(self, data: st.DataObject) -> None:
        """Somebody tidies up; publishing the same again must mend it, or replace it."""
        path = self.scratch / "lost.parquet"
        path.write_bytes(content(data.draw(SEEDS), "parquet"))
        process = self.processes[0]
        version = process.publisher.publish("d", path).version
        self.acknowledge(version)
        self.home.remove(data.draw(st.sampled_from([file.key for file in version.all_files])))
        again = process.publisher.publish("d", path)
        assert again.version == version and not again.created
        self.witness.check()

    # --- reading

    @rule(which=PROCESSES)
    def read_latest(self, which: int) -> None:
        engine = self.readers[which]
        self.witness.check()
        current = self.model.current
        if current is None:
            with pytest.raises(EngineError):
                self.ask(engine, None)
            return
        version, rows = self.ask(engine, None)
        assert version == f"v{current['seq']}"
        assert rows == self.expected(current["seq"])

    @precondition(lambda self: self.versions())
    @rule(which=PROCESSES, how=st.sampled_from(["number", "hash", "tag", "as of"]), data=st.data())
    def read_pinned(self, which: int, how: str, data: st.DataObject) -> None:
        engine, model = self.readers[which], self.model
        number: int | None = data.draw(st.sampled_from(self.versions()))
        spec = f"v{number}"
        if how == "hash":
            found = engine.state("d").number(number or 0)
            assert found is not None
            spec = found.content_id[:12]
        elif how == "tag":
            if not model.tags:
                return
            spec = data.draw(st.sampled_from(sorted(model.tags)))
            number = model.tags[spec]
        elif how == "as of":
            records = self.witness.records["d"]
            spec = data.draw(st.sampled_from([record["at"] for record in records]))
            then = model.as_of(records, spec)
            number = then["seq"] if then else None
        try:
            version, rows = self.ask(engine, spec)
        except VersionNotFoundError:
            assert number is None or number in model.expired or (how == "hash" and self.twin_is_gone(number))
            return
        except EngineError:
            assert number in self.forgetful
            return
        assert number is not None
        if how != "hash":  # which means the oldest version with that content
            assert version == f"v{number}"
        read = int(version[1:])
        assert rows == self.expected(read)
        assert self.answers.setdefault(read, rows) == rows, "a pinned answer has changed"

    def twin_is_gone(self, number: int) -> bool:
        files = [file["sha256"] for file in self.model.versions[number]["files"]]
        return any(
            [file["sha256"] for file in self.model.versions[one]["files"]] == files for one in self.model.expired
        )

    def ask(self, engine: Engine, spec: str | None) -> tuple[str, Rows]:
        result = engine.run(engine.prepare(QueryRequest(dataset="d", version=spec)))
        table = result.table
        self.counts["read"] += 1
        return result.meta.version, list(zip(table["step"].to_pylist(), table["value"].to_pylist(), strict=True))

    def expected(self, number: int) -> Rows:
        return GIVEN[self.model.versions[number]["original"]["sha256"]]

    # --- what was promised

    @invariant()
    def nobody_goes_back(self) -> None:
        for reader in self.readers:
            with suppress(EngineError):
                seq = reader.state("d").seq
                assert seq >= self.seqs.get(id(reader), 0), "a reader goes back"
                self.seqs[id(reader)] = seq

    @invariant()
    def nothing_is_lost(self) -> None:
        for number, content_id in self.acknowledged.items():
            hashes = [file["sha256"] for file in self.model.versions[number]["files"]]
            assert content_id == (hashes[0] if len(hashes) == 1 else content_id), "an acknowledged version is lost"

    def teardown(self) -> None:
        """In the end, with nothing failing, every drop that lies there has been dealt with, and all is quiet."""
        try:
            process = Process(self.home.store(), self.database, self.clock)
            for _ in range(3):
                self.clock.now += 1000
                assert all(event.kind != "failed" for event in process.ingestor.poll())
            assert process.ingestor.poll() == []
            self.witness.check()
            state = process.logs.of("d").refresh()
            for name, data in self.dropped.items():
                known = [drop for drop in state.drops if drop.source.key == f"d/{name}"][-1]
                lies = process.store.stat(f"d/{name}")
                assert lies is not None and known.source.etag == lies.etag
                if known.version is not None:
                    made = state.number(known.version)
                    assert made is not None and made.original.sha256 == sha256(data)
            self.counts["histories"] += 1
            self.counts.update(event.kind for event in state.history)
        finally:
            for reader in self.readers:
                reader.close()
            self.home.clear()


@pytest.fixture(params=["folder", "bucket", pytest.param("ceph", marks=pytest.mark.ceph)])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    if request.param == "folder":
        yield FolderHome(tmp_path / "store")
        return
    server: Server = request.getfixturevalue("radosgw" if request.param == "ceph" else "moto_server")
    with fresh_bucket(server) as bucket:
        home = BucketHome(bucket, tmp_path / "staging")
        yield home
        home.close()


def test_random_histories(
    home: Home,
    database: Database,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    counts: Counter[str] = Counter()
    steps = int(os.environ.get("BT_TEST_MACHINE_STEPS", STEPS[request.node.callspec.params["home"]]))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    run_state_machine_as_test(
        lambda: Histories(home, database, scratch, counts),
        settings=settings(
            max_examples=max(1, steps // STEPS_OF_ONE),
            stateful_step_count=STEPS_OF_ONE,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
    tried(dict(counts))
