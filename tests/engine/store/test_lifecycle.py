"""Tags, yanking, expiring: what is allowed, who is right when two contradict each other, and what a crash leaves."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.connection import Database
from engine.errors import EngineError, InvalidNameError, PublishConflictError, StoreError, VersionNotFoundError
from engine.store import DatasetLog, LocalStore
from engine.store.lifecycle import Lifecycle, why_kept
from engine.store.state import DatasetState
from tests.engine.store.support import FaultyStore, Killed, Process, write_parquet
from tests.engine.store.witness import Witness, read_log

DAY_S = 86_400.0


def life(process: Process, *, later_s: float = 0.0) -> Lifecycle:
    return Lifecycle(process.store, process.logs, lambda: time.time() + later_s)


def state_of(process: Process) -> DatasetState:
    return process.logs.of("d").refresh()


def kinds(root: Path) -> list[str]:
    return [record["kind"] for record in read_log(root, "d")]


@pytest.fixture(scope="module")
def baseline(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with five versions in ``d``."""
    folder = tmp_path_factory.mktemp("five")
    process = Process(LocalStore(folder / "store"), database)
    for seed in range(1, 6):
        process.publisher.publish("d", write_parquet(folder / "a.parquet", seed=seed))
    return folder / "store"


@pytest.fixture
def root(baseline: Path, tmp_path: Path) -> Path:
    shutil.copytree(baseline, tmp_path / "store", copy_function=os.link)
    return tmp_path / "store"


def test_a_tag_names_a_version(process: Process, root: Path) -> None:
    lives = life(process)
    assert lives.tag("d", "paper", "v2", by="ada", message="figure 3").name == "v2"
    state = state_of(process)
    assert state.resolve("paper").name == "v2" and state.tags_of(2) == ("paper",)
    assert (read_log(root, "d")[-1]["by"], read_log(root, "d")[-1]["message"]) == ("ada", "figure 3")
    lives.tag("d", "paper", 2)
    assert kinds(root).count("tag") == 1, "nothing to write"
    with pytest.raises(PublishConflictError, match=r"the tag paper of d is on v2; moving it to v3"):
        lives.tag("d", "paper", "v3")
    assert lives.tag("d", "paper", "latest", move=True).name == "v5"
    assert state_of(process).resolve("paper").name == "v5"
    assert lives.untag("d", "paper") == 5
    assert lives.untag("d", "paper") is None
    assert kinds(root)[5:] == ["tag", "tag", "tag"]
    with pytest.raises(VersionNotFoundError):
        state_of(process).resolve("paper")


@pytest.mark.parametrize(
    "name", ["", "latest", "v3", "V3", "3", "deadbeef", "2025-01-01", "a b", "a/b", "..", "é", "x" * 64]
)
def test_names_that_no_tag_may_have(process: Process, name: str) -> None:
    with pytest.raises(InvalidNameError, match="is not a tag"):
        life(process).tag("d", name, "v1")


def test_yanking_the_latest_makes_the_one_before_that(process: Process, root: Path) -> None:
    lives = life(process)
    lives.yank("d", "latest", message="wrong seed")
    state = state_of(process)
    assert state.current is not None and state.current.number == 4
    assert state.resolve("v5").number == 5, "who names it gets it"
    lives.yank("d", 5)
    assert kinds(root)[5:] == ["yank"]
    lives.restore("d", 5)
    lives.restore("d", 5)
    assert kinds(root)[5:] == ["yank", "restore"]
    current = state_of(process).current
    assert current is not None and current.number == 5


def test_when_all_are_yanked_nothing_is_the_latest(process: Process) -> None:
    for number in range(1, 6):
        life(process).yank("d", number)
    with pytest.raises(VersionNotFoundError, match="every version of d is yanked or expired"):
        state_of(process).resolve(None)
    assert state_of(process).resolve("v3").number == 3


def test_a_yanked_version_is_not_made_the_latest(process: Process) -> None:
    life(process).yank("d", 2, message="wrong seed")
    with pytest.raises(PublishConflictError, match=r"d v2 is yanked \(wrong seed\); restore it first"):
        process.publisher.set_current("d", 2)
    life(process).restore("d", 2)
    assert process.publisher.set_current("d", 2).number == 2


def test_expiring(process: Process, root: Path) -> None:
    lives = life(process)
    assert [version.number for version in lives.expire("d", ["v1", 2, "1"], message="old")] == [1, 2]
    state = state_of(process)
    assert [version.number for version in state.live] == [3, 4, 5]
    for act in (
        lambda: state.resolve(1),
        lambda: process.publisher.set_current("d", "v1"),
        lambda: lives.restore("d", 1),
        lambda: lives.yank("d", 1),
        lambda: lives.tag("d", "old", 1),
    ):
        with pytest.raises(VersionNotFoundError, match="d v1 has expired: its files are kept no longer"):
            act()
    assert lives.expire("d", [1, 2]) == ()
    assert kinds(root)[5:] == ["expire"]


@pytest.mark.parametrize(
    "spec, keep, why",
    [
        ("latest", 0, "v5 is what readers get"),
        ("v2", 0, "v2 is tagged paper"),
        ("v4", 3, "v4 is one of the newest 3"),
        ("v3", 3, "v3 is one of the newest 3"),
    ],
)
def test_what_may_not_expire(process: Process, root: Path, spec: str, keep: int, why: str) -> None:
    life(process).tag("d", "paper", 2)
    with pytest.raises(PublishConflictError, match=f"^d keeps {why}: nothing has expired$"):
        life(process).expire("d", ["v1", spec], keep=keep)
    assert kinds(root)[5:] == ["tag"], "all of them or none"
    assert life(process).expire("d", ["v1"], dry_run=True)[0].number == 1
    assert kinds(root)[5:] == ["tag"]


def test_the_newest_are_counted_among_those_that_are_left(process: Process) -> None:
    life(process).expire("d", [3, 4], keep=1)
    state = state_of(process)
    assert [why_kept(state, version) for version in state.live] == [
        "is one of the newest 3",
        "is one of the newest 3",
        "is what readers get",
    ]


def test_expiring_by_age(process: Process) -> None:
    life(process).tag("d", "paper", 1)
    assert life(process).expire("d", older_than_s=30 * DAY_S) == ()
    late = life(process, later_s=31 * DAY_S)
    assert [one.number for one in late.expire("d", older_than_s=30 * DAY_S, dry_run=True)] == [2]
    assert [one.number for one in late.expire("d", older_than_s=30 * DAY_S, keep=1)] == [2, 3, 4]
    assert [one.number for one in state_of(process).live] == [1, 5]
    assert late.expire("d", keep=0) == ()


def test_unknown_versions(process: Process) -> None:
    lives = life(process)
    for act in (
        lambda: lives.tag("d", "x", "v9"),
        lambda: lives.yank("d", "nothing"),
        lambda: lives.restore("d", 9),
        lambda: lives.expire("d", ["v1", "v9"]),
    ):
        with pytest.raises(VersionNotFoundError):
            act()
    with pytest.raises(ValueError):
        lives.expire("d", keep=-1)


def test_a_read_only_store(database: Database, root: Path) -> None:
    process = Process(LocalStore(root, read_only=True), database)
    for act in (
        lambda: life(process).tag("d", "x", 1),
        lambda: life(process).untag("d", "x"),
        lambda: life(process).yank("d", 1),
        lambda: life(process).expire("d", [1]),
    ):
        with pytest.raises(StoreError, match="read-only"):
            act()
    assert [one.number for one in life(process).expire("d", [1], dry_run=True)] == [1]


# Two at once: the log decides, and nobody is told that something holds which does not.


class Interrupted(FaultyStore):
    """Lets another process do something just before the first log record is put."""

    def __init__(self, inner: LocalStore, other: Callable[[], Any]) -> None:
        super().__init__(inner)
        self.other: Callable[[], Any] | None = other

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        if "/log/" in key and self.other is not None:
            other, self.other = self.other, None
            other()
        return super().put_if_absent(key, content)


Act = Callable[[Process], Any]


def tagging(number: int) -> Act:
    return lambda process: life(process).tag("d", "x", number)


def expiring(process: Process) -> Any:
    return life(process).expire("d", [1])


def yanking(process: Process) -> Any:
    return life(process).yank("d", 1)


def choosing(process: Process) -> Any:
    return process.publisher.set_current("d", 1)


#: What two processes want, where the second is first; and what the first one is told.
RACES: dict[str, tuple[Act, Act, type[EngineError] | None]] = {
    "expire what is made the latest": (expiring, choosing, PublishConflictError),
    "make the latest what expires": (choosing, expiring, VersionNotFoundError),
    "make the latest what is yanked": (choosing, yanking, PublishConflictError),
    "expire what is tagged": (expiring, tagging(1), PublishConflictError),
    "tag what expires": (tagging(1), expiring, VersionNotFoundError),
    "yank what expires": (yanking, expiring, VersionNotFoundError),
    "two taggers": (tagging(1), tagging(2), PublishConflictError),
    "expire twice": (expiring, expiring, None),
    "yank twice": (yanking, yanking, None),
    "tag twice": (tagging(1), tagging(1), None),
}


@pytest.mark.parametrize("one, two, error", RACES.values(), ids=RACES)
def test_races(
    database: Database,
    root: Path,
    one: Callable[[Process], Any],
    two: Callable[[Process], Any],
    error: type[EngineError] | None,
) -> None:
    other = Process(LocalStore(root), database)
    store = Interrupted(LocalStore(root), lambda: two(other))
    process = Process(store, database)
    if error is None:
        one(process)
    else:
        with pytest.raises(error):
            one(process)
    assert store.other is None and len(kinds(root)) == 6, "only the first of them was recorded"
    assert state_of(process) == state_of(other)


def test_a_publish_takes_the_protection_away(database: Database, root: Path, tmp_path: Path) -> None:
    """What was the latest when the request came is not when the record is written."""
    other = Process(LocalStore(root), database)
    new = write_parquet(tmp_path / "new.parquet", seed=9)
    store = Interrupted(LocalStore(root), lambda: other.publisher.publish("d", new))
    process = Process(store, database)
    assert [one.number for one in life(process).expire("d", [2])] == [2]
    assert kinds(root)[5:] == ["publish", "expire"]


def test_moving_a_tag_at_the_same_time(database: Database, root: Path) -> None:
    other = Process(LocalStore(root), database)
    process = Process(Interrupted(LocalStore(root), lambda: life(other).tag("d", "x", 2)), database)
    life(process).tag("d", "x", 1, move=True)
    assert dict(state_of(other).tags) == {"x": 1}


def test_many_taggers(database: Database, root: Path) -> None:
    won: list[int] = []
    lost: list[str] = []

    def attempt(number: int) -> None:
        try:
            won.append(life(Process(LocalStore(root), database)).tag("d", "x", number).number)
        except PublishConflictError as error:
            lost.append(error.detail)

    threads = [threading.Thread(target=attempt, args=(number,)) for number in range(1, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 4
    assert all(f"is on v{won[0]}" in detail for detail in lost)


# Every step of every operation, killed and failed.


@dataclass(frozen=True)
class Operation:
    name: str
    run: Callable[[Process], Any]
    adds: str


OPERATIONS = [
    Operation("tag", lambda process: life(process).tag("d", "paper", 1), "tag"),
    Operation("move a tag", lambda process: life(process).tag("d", "old", 3, move=True), "tag"),
    Operation("untag", lambda process: life(process).untag("d", "old"), "tag"),
    Operation("yank", lambda process: life(process).yank("d", 5), "yank"),
    Operation("restore", lambda process: life(process).restore("d", 4), "restore"),
    Operation("expire", lambda process: life(process).expire("d", [1]), "expire"),
]


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
        first = Process(LocalStore(root), database)
        life(first).tag("d", "old", 2)
        life(first).yank("d", 4)
        before, witness, reader = kinds(root), Witness(root), DatasetLog(LocalStore(root), "d")
        witness.check()
        seen = reader.refresh()
        faulty = FaultyStore(LocalStore(root))
        process = Process(faulty, database)
        faulty.arm((step, how, when))
        done = False
        try:
            operation.run(process)
            done = True
        except Killed:
            assert how == "kill"
        except EngineError:
            assert how == "fail"
        taken = faulty.step
        witness.check()
        assert reader.refresh().seq >= seen.seq
        if done:
            assert kinds(root) == [*before, operation.adds], "what was acknowledged is recorded"
        faulty.arm(None)
        process = Process(LocalStore(root), database) if how == "kill" else process
        operation.run(process)
        witness.check()
        assert kinds(root) == [*before, operation.adds], "once, however often it was tried"
        assert state_of(process) == reader.refresh() == DatasetLog(LocalStore(root), "d").refresh()
        shutil.rmtree(root)
        if taken < step:
            break
    assert step > 3
