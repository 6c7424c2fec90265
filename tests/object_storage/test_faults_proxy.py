"""A bad network before the object storage: each kind of fault at requests of each operation, and storms of them.

What must hold: an operation that is acknowledged was done, once; no answer is ever wrong; and when the fault goes, all
goes on by itself. What each primitive does is in ``tests/engine/store/test_s3.py``.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from engine.config import EngineConfig
from engine.connection import Database
from engine.errors import EngineError
from engine.store.s3_client import Patience
from queries.request import QueryRequest
from tests.engine.store.homes import BucketHome
from tests.engine.store.support import Process
from tests.engine.store.witness import Witness
from tests.object_storage.proxy import FaultProxy
from tests.object_storage.servers import Server, fresh_bucket
from tests.tried import tried

IMPATIENT = Patience(connect_s=2.0, read_s=2.0, attempts=4)
AT_ONCE = 8  # trials; they wait most of the time

FAULTS: dict[str, dict[str, Any]] = {
    "connection refused": {"kind": "refuse"},
    "answer lost": {"kind": "lose"},
    "412 that is not true": {"kind": "answer", "method": "PUT", "status": 412, "code": "PreconditionFailed"},
    "409": {"kind": "answer", "method": "PUT", "status": 409, "code": "ConditionalRequestConflict"},
    "429 with Retry-After": {
        "kind": "answer", "status": 429, "code": "TooManyRequests", "headers": {"Retry-After": "1"},
    },
    "500": {"kind": "answer", "status": 500, "code": "InternalError"},
    "503": {"kind": "answer", "status": 503, "code": "SlowDown"},
    "slow": {"kind": "slow", "rate": 2_000.0},
    "stalled": {"kind": "stall", "at": 9},
    "truncated": {"kind": "truncate", "at": 9},
    "reset": {"kind": "reset", "at": 9},
    "corrupted answer": {"kind": "flip", "at": 40},
    "corrupted upload": {"kind": "flip-upload", "method": "PUT", "at": 0},
}  # fmt: skip

#: A log record that is damaged on the way is an error at once; a listing has no hash.
MAY_FAIL = ("corrupted answer",)


def csv(seed: int) -> bytes:
    return f"step,value\n1,{seed}.5\n2,{seed}.25\n3,{seed}.125\n".encode()


def rows(seed: int) -> list[tuple[int, float]]:
    return [(1, seed + 0.5), (2, seed + 0.25), (3, seed + 0.125)]


@dataclass
class Trial:
    """A copy of a bucket, and an engine that reaches it by way of a proxy."""

    home: BucketHome
    proxy: FaultProxy
    witness: Witness
    folder: Path

    @contextmanager
    def engine(self, name: str) -> Iterator[Engine]:
        location = self.home.bucket.through(self.proxy.endpoint)
        config = EngineConfig(
            location,
            definitions=None,
            cache_dir=self.folder / name,
            refresh_s=1e-9,
            results_cache_bytes=0,
            tables_bytes=0,
            lookup_bytes=0,
        )
        with Engine(config) as engine:
            engine.store._objects._patience = IMPATIENT  # type: ignore[attr-defined]
            yield engine
            engine.store.close()

    def ask(self, engine: Engine, version: str | None = None) -> list[tuple[int, float]]:
        result = engine.run(engine.prepare(QueryRequest(dataset="d", version=version)))
        table = result.table
        return list(zip(table["step"].to_pylist(), table["value"].to_pylist(), strict=True))


# An operation gives back what was acknowledged, and raises EngineError when nothing was.


def publish(trial: Trial, engine: Engine) -> int | None:
    path = trial.folder / "given.csv"
    path.write_bytes(csv(7))
    return engine.publish("d", path).version.number


def poll(trial: Trial, engine: Engine) -> int | None:
    numbers = [event.version.number for event in engine.poll("d") if event.version is not None]
    return numbers[0] if numbers else None


def refresh(trial: Trial, engine: Engine) -> None:
    assert engine.state("d").seq == 2


def query(trial: Trial, engine: Engine) -> None:
    assert trial.ask(engine) == rows(2)
    assert trial.ask(engine, "v1") == rows(1)


OPERATIONS: dict[str, Callable[[Trial, Engine], int | None]] = {
    "publish": publish,
    "poll": poll,
    "refresh": refresh,
    "query": query,
}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with closing(Database([tmp_path_factory.getbasetemp()])) as database:
        yield database


@pytest.fixture(scope="module")
def baseline(moto_server: Server, database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Witness]:
    """Two versions of ``d``."""
    folder = tmp_path_factory.mktemp("baseline")
    with fresh_bucket(moto_server) as bucket:
        home = BucketHome(bucket, folder / "staging")
        process = Process(home.store(), database)
        for seed in (1, 2):
            (folder / "given.csv").write_bytes(csv(seed))
            process.publisher.publish("d", folder / "given.csv")
        witness = Witness(home)
        witness.check()
        yield witness
        home.clear()
        home.close()


@contextmanager
def trial_of(baseline: Witness, folder: Path, name: str) -> Iterator[Trial]:
    home = baseline.home.copy(name)
    assert isinstance(home, BucketHome)
    folder = folder / name
    folder.mkdir()
    with FaultProxy(home.bucket.server.endpoint) as proxy:
        try:
            yield Trial(home, proxy, baseline.of_copy(home), folder)
        finally:
            proxy.clear()
            home.clear()


def run(trial: Trial, operation: str, fault: dict[str, Any] | None) -> tuple[int, str]:
    """One operation with one fault, then without; how many requests there were, and what the error was, if any."""
    work = OPERATIONS[operation]
    if operation == "poll":
        trial.home.drop("d/results.csv", csv(7), 0)
    acknowledged, failed, said = None, False, ""
    with trial.engine("first") as engine:
        hit = trial.proxy.add(**fault) if fault else None
        try:
            acknowledged = work(trial, engine)
        except EngineError as error:
            failed = True
            said = error.detail
        requests = len(trial.proxy.seen)
        trial.proxy.clear()
        assert "127.0.0.1" not in said
        trial.witness.check()
        if acknowledged is not None:
            assert acknowledged in trial.witness.model("d").versions
        if not (failed and operation == "poll"):  # which pauses after a failure
            go_on(trial, operation, engine)
    if failed and operation == "poll":
        with trial.engine("second") as engine:
            go_on(trial, operation, engine)
    return requests, said if hit is not None and hit.hits else ""


def go_on(trial: Trial, operation: str, engine: Engine) -> None:
    """The same again, with nothing failing."""
    OPERATIONS[operation](trial, engine)
    if operation in ("publish", "poll"):
        trial.witness.check()
        kinds = [record["kind"] for record in trial.witness.records["d"]]
        assert kinds == ["publish"] * 3, "once, however often it was tried"
        assert trial.ask(engine) == rows(7)
        assert trial.ask(engine, "v2") == rows(2)


def spread(count: int, most: int) -> list[int]:
    """Some of the first ``count`` numbers, the first and the last among them."""
    most = min(count, most)
    return sorted({round(place * (count - 1) / max(1, most - 1)) for place in range(most)})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_fault(baseline: Witness, tmp_path: Path, operation: str) -> None:
    with trial_of(baseline, tmp_path, f"plain-{operation}") as trial:
        total, _ = run(trial, operation, None)
        puts = sum(seen.method == "PUT" for seen in trial.proxy.seen[:total])
    cases = []
    for name, fault in FAULTS.items():
        count = puts if fault.get("method") == "PUT" else total
        most = 3 if operation == "publish" and fault.get("method") == "PUT" else 2
        cases += [(name, fault, skip) for skip in spread(count, most)]

    def one(case: tuple[str, dict[str, Any], int]) -> None:
        name, fault, skip = case
        with trial_of(baseline, tmp_path, f"{operation}-{name}-{skip}".replace(" ", "-")) as trial:
            failure = run(trial, operation, {**fault, "skip": skip})[1]
            assert not failure or name in MAY_FAIL, f"{name} at request {skip} was not made good: {failure}"

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for case, outcome in [(case, pool.submit(one, case)) for case in cases]:
            try:
                outcome.result()
            except BaseException as error:
                error.add_note(f"{operation}: {case[0]} at request {case[2]} of {total}")
                raise
    tried(len(cases))


def test_storms(baseline: Witness, tmp_path: Path) -> None:
    """Many faults at once, while several engines publish, take in drops and answer."""
    kinds = [fault for name, fault in FAULTS.items() if name not in ("stalled", "slow", "429 with Retry-After")]
    counts: Counter[str] = Counter()

    def one(number: int) -> None:
        rng = random.Random(number)
        with (
            trial_of(baseline, tmp_path, f"storm-{number}") as trial,
            trial.engine("a") as first,
            trial.engine("b") as second,
        ):
            faults = [
                trial.proxy.add(**{**rng.choice(kinds), "skip": rng.randint(0, 120), "at": rng.randint(0, 400)})
                for _ in range(25)
            ]
            given = {1: 1, 2: 2}
            for seed in range(10, 14):
                engine = rng.choice([first, second])
                path = trial.folder / "storm.csv"
                path.write_bytes(csv(seed))
                try:
                    given[engine.publish("d", path).version.number] = seed
                    counts["acknowledged"] += 1
                except EngineError:
                    counts["refused"] += 1
                version = rng.choice(sorted(given))
                try:
                    assert trial.ask(rng.choice([first, second]), f"v{version}") == rows(given[version])
                    counts["right answers"] += 1
                except EngineError:
                    counts["no answer"] += 1
            counts["faults"] += sum(fault.hits for fault in faults)
            trial.proxy.clear()
            trial.witness.check()
            for engine in (first, second):  # they go on by themselves
                for version, seed in given.items():
                    assert trial.ask(engine, f"v{version}") == rows(seed)
            (trial.folder / "storm.csv").write_bytes(csv(99))
            assert first.publish("d", trial.folder / "storm.csv").created
            assert trial.ask(second) == rows(99)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in [pool.submit(one, number) for number in range(8)]:
            outcome.result()
    tried(dict(counts))
    assert counts["acknowledged"] and counts["right answers"] and counts["faults"] > 50


@pytest.mark.parametrize("what", ["results.csv", "dataset.toml"])
def test_a_drop_that_arrives_damaged(baseline: Witness, tmp_path: Path, what: str) -> None:
    """Nobody recorded a hash of what researchers own: its etag has to do."""
    content = csv(7) if what == "results.csv" else b"title = 'seven'\n"
    spots = range(0, len(content), 5)
    with trial_of(baseline, tmp_path, f"damaged-{what}") as trial:
        for at in spots:
            key = f"d{at}/{what}"
            trial.home.drop(f"d{at}/results.csv", csv(7), 0)
            trial.home.drop(key, content, 0)
            with trial.engine("a") as engine:
                fault = trial.proxy.add("flip", method="GET", path=key, at=at)
                (event,) = engine.poll(f"d{at}")
                assert fault.hits == 1
                assert event.version is not None
                result = engine.run(engine.prepare(QueryRequest(dataset=f"d{at}")))
                assert result.table["value"].to_pylist() == [7.5, 7.25, 7.125]
                assert event.version.definition == (None if what == "results.csv" else content.decode())
            trial.proxy.clear()
    tried(len(spots))
