"""Who may work now: order, bounds, what long work holds back, and that nothing is ever lost or waited for in a ring."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import engine.admission
from engine.admission import MAX_RETRY_S, SLICE_S, Admission, Place
from engine.errors import EngineBusyError, EngineError

NOBODY = {"short": 0, "short_waiting": 0, "long": 0, "long_waiting": 0}


class Clock:
    """In place of the module ``time``: it stands still."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(engine.admission, "time", clock)
    return clock


@pytest.fixture
def pool() -> Any:
    with ThreadPoolExecutor(64) as pool:
        yield pool


def eventually(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.001)


def waiting(admission: Admission, pool: ThreadPoolExecutor, number: int, **named: Any) -> list[Future[Place]]:
    """So many who wait for a short place, in this order."""
    found: list[Future[Place]] = []
    for _ in range(number):
        found.append(pool.submit(admission.enter, **named))
        eventually(lambda: admission.counts()["short_waiting"] == len(found))
    return found


def lingering(admission: Admission, pool: ThreadPoolExecutor, place: Place) -> Future[None]:
    before = admission.counts()["long_waiting"]
    found = pool.submit(place.linger)
    eventually(lambda: admission.counts()["long_waiting"] == before + 1)
    return found


def test_as_many_as_there_are_places() -> None:
    admission = Admission(2, wait_s=0)
    first, second = admission.enter(), admission.enter()
    with pytest.raises(EngineBusyError, match="too many queries"):
        admission.enter()
    first.close()
    first.close()
    third = admission.enter()
    with pytest.raises(EngineBusyError):
        admission.enter()
    second.close()
    third.close()
    assert admission.counts() == NOBODY


def test_first_come_first_served(pool: ThreadPoolExecutor) -> None:
    admission = Admission(1)
    holder, line = admission.enter(), waiting(admission, pool, 5)
    for position, future in enumerate(line):
        holder.close()
        holder = future.result(10)
        assert [later.done() for later in line[position + 1 :]] == [False] * (4 - position)
    holder.close()
    assert admission.counts() == NOBODY


def test_whoever_comes_to_a_full_line_is_refused_at_once(pool: ThreadPoolExecutor) -> None:
    admission = Admission(1, most_waiting=3, wait_s=60)
    holder, line = admission.enter(), waiting(admission, pool, 3)
    with pytest.raises(EngineBusyError):
        admission.enter()
    assert admission.counts()["short_waiting"] == 3
    for future in line:
        holder.close()
        holder = future.result(10)
    holder.close()


def test_the_error_says_how_long_the_line_is_likely_to_take(clock: Clock) -> None:
    admission = Admission(1, wait_s=0)
    for _ in range(100):
        place = admission.enter()
        clock.now += 7.0
        place.close()
    place = admission.enter()
    with pytest.raises(EngineBusyError, match="in 14 s") as caught:
        admission.enter()  # one is at work, and this one stood in line
    assert caught.value.retry_after_s == 14
    place.close()
    for _ in range(100):
        place = admission.enter()
        clock.now += 1e6
        place.close()
    place = admission.enter()
    with pytest.raises(EngineBusyError) as caught:
        admission.enter()
    assert caught.value.retry_after_s == MAX_RETRY_S


def test_long_work_leaves_its_place_to_short_work() -> None:
    admission = Admission(1, long_places=2, wait_s=0)
    long = []
    for _ in range(2):
        long.append(admission.enter())
        long[-1].linger()
        long[-1].linger()
    short = admission.enter()
    assert admission.counts() == {"short": 1, "short_waiting": 0, "long": 2, "long_waiting": 0}
    with pytest.raises(EngineBusyError, match="too many long answers"):
        short.linger()
    short.close()
    admission.enter().close()
    for place in long:
        place.close()
    assert admission.counts() == NOBODY


def test_who_waits_for_a_long_place_holds_none(pool: ThreadPoolExecutor) -> None:
    admission = Admission(1, long_places=1)
    long = admission.enter()
    long.linger()
    second = admission.enter()
    waits = lingering(admission, pool, second)
    admission.enter().close()
    long.close()
    waits.result(10)
    assert admission.counts()["long"] == 1
    second.close()
    assert admission.counts() == NOBODY


def test_the_line_of_long_work_is_bounded_too(pool: ThreadPoolExecutor) -> None:
    admission = Admission(4, long_places=1, most_long_waiting=2, wait_s=60)
    places = [admission.enter() for _ in range(4)]
    places[0].linger()
    waits = [lingering(admission, pool, place) for place in places[1:3]]
    with pytest.raises(EngineBusyError, match="ask for less"):
        places[3].linger()
    for place, wait in zip(places, waits, strict=False):
        place.close()
        wait.result(10)
    for place in places:
        place.close()
    assert admission.counts() == NOBODY


def test_who_holds_a_short_place_for_long_is_moved_over_when_it_is_wanted(clock: Clock) -> None:
    admission = Admission(2, long_places=1, wait_s=0)
    old = admission.enter()
    clock.now += SLICE_S
    young = admission.enter()
    assert admission.counts()["long"] == 0, "nobody wanted the place"
    third = admission.enter()
    assert admission.counts() == {"short": 2, "short_waiting": 0, "long": 1, "long_waiting": 0}
    with pytest.raises(EngineBusyError):
        admission.enter()
    old.linger()  # it is there already
    clock.now += SLICE_S
    with pytest.raises(EngineBusyError):
        admission.enter()
    # Both stand in the other line, and work on.
    assert admission.counts() == {"short": 2, "short_waiting": 0, "long": 1, "long_waiting": 2}
    old.close()
    assert admission.counts() == {"short": 1, "short_waiting": 0, "long": 1, "long_waiting": 1}
    for place in (young, third):
        place.close()
    assert admission.counts() == NOBODY


def test_work_in_the_background_waits_beyond_the_bound_and_stays(pool: ThreadPoolExecutor, clock: Clock) -> None:
    admission = Admission(1, most_waiting=0, wait_s=60)
    holder = admission.enter(patience_s=60)
    patient = waiting(admission, pool, 1, patience_s=60)[0]
    with pytest.raises(EngineBusyError):
        admission.enter()
    clock.now += SLICE_S
    with pytest.raises(EngineBusyError):
        admission.enter()
    holder.linger()
    assert admission.counts()["long"] == 0
    holder.close()
    patient.result(10).close()
    assert admission.counts() == NOBODY


@pytest.mark.parametrize("lane", ["short", "long"])
def test_another_thread_may_end_the_waiting(pool: ThreadPoolExecutor, lane: str) -> None:
    admission = Admission(1, long_places=1, wait_s=60)
    if lane == "long":
        holder = admission.enter()
        holder.linger()
        place = admission.enter()
        future: Future[Any] = lingering(admission, pool, place)
    else:
        holder = admission.enter()
        given: list[Place] = []
        future = pool.submit(admission.enter, waiting=given.append)
        eventually(lambda: bool(given))
        place = given[0]
    place.close()
    with pytest.raises(EngineError, match="nobody waits"):
        future.result(10)
    holder.close()
    assert admission.counts() == NOBODY


def test_whatever_ends_the_waiting_leaves_the_line() -> None:
    """As when a user interrupts a notebook."""
    admission = Admission(1, wait_s=60)
    holder = admission.enter()

    def interrupt(place: Place) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        admission.enter(waiting=interrupt)
    holder.close()
    assert admission.counts() == NOBODY


def test_many_threads_never_wait_in_a_ring_and_lose_no_place() -> None:
    admission = Admission(3, long_places=2, most_waiting=20, most_long_waiting=4, wait_s=30)
    at_work = {"short": 0, "long": 0}
    most = {"short": 0, "long": 0}
    lock = threading.Lock()
    outcomes: list[str] = []

    def count(lane: str, change: int) -> None:
        with lock:
            at_work[lane] += change
            most[lane] = max(most[lane], at_work[lane])

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(60):
            try:
                place = admission.enter()
            except EngineBusyError:
                outcomes.append("refused")
                continue
            try:
                count("short", 1)
                time.sleep(rng.random() * 0.002)
                count("short", -1)
                if rng.random() < 0.5:
                    place.linger()
                    count("long", 1)
                    time.sleep(rng.random() * 0.004)
                    count("long", -1)
                outcomes.append("done")
            except EngineBusyError:
                outcomes.append("refused")
            finally:
                place.close()

    threads = [threading.Thread(target=work, args=(seed,), daemon=True) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert admission.counts() == NOBODY
    assert len(outcomes) == 24 * 60 and outcomes.count("done") > 24
    assert most["short"] <= 3 and most["long"] <= 2


class Lanes(RuleBasedStateMachine):
    """Against the obvious: sets of who is where. Nobody waits here, so that one thread tells all."""

    @initialize(places=st.integers(1, 3), long_places=st.integers(1, 3))
    def begin(self, places: int, long_places: int) -> None:
        self.clock = Clock()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(engine.admission, "time", self.clock)
        self.admission = Admission(places, long_places=long_places, wait_s=0)
        self.bounds = {"short": places, "long": long_places}
        self.places: list[Place] = []

    def teardown(self) -> None:
        for place in self.places:
            place.close()
        assert self.admission.counts() == NOBODY
        self.patch.undo()

    @rule(seconds=st.sampled_from([0.1, SLICE_S, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule(patient=st.booleans())
    def enter(self, patient: bool) -> None:
        free = self.admission.counts()["short"] < self.bounds["short"]
        try:
            self.places.append(self.admission.enter(patience_s=0 if patient else None))
        except EngineBusyError:
            assert not free

    @rule(data=st.data())
    def linger(self, data: st.DataObject) -> None:
        if not self.places:
            return
        place = data.draw(st.sampled_from(self.places))
        free = self.admission.counts()["long"] < self.bounds["long"]
        try:
            place.linger()
        except EngineBusyError:
            assert not free
            place.close()
            self.places.remove(place)

    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        if self.places:
            place = data.draw(st.sampled_from(self.places))
            self.places.remove(place)
            place.close()

    @invariant()
    def everybody_is_somewhere(self) -> None:
        if not hasattr(self, "admission"):
            return
        counts = self.admission.counts()
        assert counts["short"] + counts["long"] == len(self.places)
        assert all(counts[lane] <= bound for lane, bound in self.bounds.items())
        assert counts["short_waiting"] == 0, "whoever could not come in was refused"
        if counts["long_waiting"]:  # who works on in a short place until there is room
            assert counts["long"] == self.bounds["long"]


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
