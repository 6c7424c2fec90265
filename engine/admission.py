"""Who may work now. Two lanes with a line before each, so that long answers cannot keep short ones waiting.

Everybody enters the lane of short work. Whoever turns out to be long gives the place there back, and only then waits
for one of the few in the lane of long work: nobody waits holding what another one waits for, so no two can wait for
each other. Both lines are first come, first served, and of bounded length. Knows nothing of queries.

A piece of work turns out to be long in two ways. It says so itself, by ``Place.linger``, as a stream does that outlives
its first rows. Or it has held a short place for ``SLICE_S`` when somebody has to wait: then who waits moves it over as
soon as the other lane has room. That costs nothing while there are places enough.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from engine.errors import EngineBusyError, EngineError

SLICE_S = 1.0  # most answers are there in a tenth of it, also while many others work
MAX_RETRY_S = 60
_MEMORY = 0.2  # what one piece of work counts in the average of how long they take

_SHORT_WORDS = "too many queries are running; try again in {seconds} s"
_LONG_WORDS = "too many long answers are being read; try again in {seconds} s, or ask for less"


class Admission:
    """The two lanes. May be used by many threads.

    Parameters
    ----------
    places
        Of the lane of short work.
    long_places
        Of the lane of long work; half of ``places`` when None.
    most_waiting
        Of those who wait for a short place; whoever comes then is refused at once. Eight times ``places`` when None.
    most_long_waiting
        The same for a long place; as many as those have places when None. Each holds the first rows of its answer.
    wait_s
        How long somebody waits before being refused.
    """

    def __init__(
        self,
        places: int,
        *,
        long_places: int | None = None,
        most_waiting: int | None = None,
        most_long_waiting: int | None = None,
        wait_s: float = 10.0,
    ) -> None:
        long_places = max(1, places // 2) if long_places is None else long_places
        self._lock = threading.Lock()
        self._short = _Lane(places, 8 * places if most_waiting is None else most_waiting, _SHORT_WORDS)
        self._long = _Lane(long_places, long_places if most_long_waiting is None else most_long_waiting, _LONG_WORDS)
        self._wait_s = wait_s

    def enter(self, *, patience_s: float | None = None, waiting: Callable[[Place], None] | None = None) -> Place:
        """A place in the lane of short work.

        Parameters
        ----------
        patience_s
            For work in the background: it is not refused however many wait, waits so long, and stays where it is.
        waiting
            Given the place when it has to be waited for, so that another thread may close it.

        Raises
        ------
        EngineBusyError
            Too many wait already, or this waited too long.
        EngineError
            The place was closed meanwhile.
        """
        place = Place(self, stays=patience_s is not None)
        with self._lock:
            now = time.monotonic()
            if self._short.is_full:
                self._move_over(now)
            self._short.wait(place, is_bound=patience_s is None)
            self._give_out(now)
            if place.lane is self._short:
                return place
        self._wait(place, self._short, self._wait_s if patience_s is None else patience_s, waiting)
        return place

    @property
    def held(self) -> int:
        """How many places are held now."""
        return len(self._short.held) + len(self._long.held)

    def counts(self) -> dict[str, int]:
        """How many are where now."""
        with self._lock:
            return {
                "short": len(self._short.held),
                "short_waiting": len(self._short.line),
                "long": len(self._long.held),
                "long_waiting": len(self._long.line),
            }

    def linger(self, place: Place) -> None:
        with self._lock:
            if place.is_closed or place.lane is self._long:
                return
            if place not in self._long.line:
                self._long.wait(place, is_bound=True)
            self._short.leave(place)
            self._give_out(time.monotonic())
            if place.lane is self._long:
                return
        self._wait(place, self._long, self._wait_s)

    def close(self, place: Place) -> None:
        with self._lock:
            if not place.is_closed:
                place.is_closed = True
                self._take_out(place)
                place.changed.set()

    def _wait(self, place: Place, lane: _Lane, wait_s: float, waiting: Callable[[Place], None] | None = None) -> None:
        until = time.monotonic() + wait_s
        try:
            if waiting is not None:
                waiting(place)
            while not self._is_there(place, lane, until):
                # Not longer than a slice: by then somebody may have turned out to be long.
                place.changed.wait(max(0.0, min(SLICE_S, until - time.monotonic())))
        except BaseException:  # also when a user interrupts a notebook
            self.close(place)
            raise

    def _is_there(self, place: Place, lane: _Lane, until: float) -> bool:
        with self._lock:
            now = time.monotonic()
            if self._short.line:
                self._move_over(now)
            if place.is_closed:
                raise EngineError("nobody waits for the answer any more")
            if place.lane is not lane and now >= until:
                raise lane.refusal()
            return place.lane is lane

    def _take_out(self, place: Place) -> None:
        for lane in (self._short, self._long):
            lane.leave(place)
            lane.forget(place)
        self._give_out(time.monotonic())

    def _move_over(self, now: float) -> None:
        """Let those who have held a short place for long stand in the other line, where they work on meanwhile."""
        for place, since in self._short.held.items():
            if now - since < SLICE_S:
                break  # those after it came later
            if not place.stays:
                self._long.line.setdefault(place)
        self._give_out(now)

    def _give_out(self, now: float) -> None:
        """See that no place is free that somebody waits for."""
        while (turn := self._long.next()) is not None:
            self._short.leave(turn)  # if it still has that one
            self._long.take(turn, now)
        while (turn := self._short.next()) is not None:
            self._short.take(turn, now)


class Place:
    """Somebody's place in one of the lanes, or in a line. All methods may be called from any thread."""

    __slots__ = ("_admission", "changed", "is_closed", "lane", "stays")

    def __init__(self, admission: Admission, stays: bool) -> None:
        self._admission = admission
        self.stays = stays
        self.lane: _Lane | None = None
        self.is_closed = False
        self.changed = threading.Event()

    def linger(self) -> None:
        """Go over to the lane of long work, waiting as long as it takes, holding no place. The second time nothing.

        Raises
        ------
        EngineBusyError
            Too many wait for it already, or this waited too long. The place is lost then.
        EngineError
            It was closed meanwhile.
        """
        if not self.stays:
            self._admission.linger(self)

    def close(self) -> None:
        """Give back what is held, and stop waiting; the second time nothing."""
        self._admission.close(self)


class _Lane:
    """Places, and the line before them. Guarded by the lock of ``Admission``."""

    def __init__(self, places: int, most_waiting: int, words: str) -> None:
        self.places = places
        self.most_waiting = most_waiting
        self.held: dict[Place, float] = {}  # and since when, the oldest first
        self.line: dict[Place, None] = {}  # as a dictionary: it is ordered, and anybody may leave it
        self._words = words
        self._average_s = 0.0  # that a place is held

    def wait(self, place: Place, *, is_bound: bool) -> None:
        """Stand in line; raises EngineBusyError when it is too long."""
        if is_bound and self.is_full and self._waiting >= self.most_waiting:
            raise self.refusal()
        self.line[place] = None

    @property
    def _waiting(self) -> int:
        """How many in the line have no place at all: who works on in the other lane needs no patience."""
        return sum(place.lane is None and not place.stays for place in self.line)

    @property
    def is_full(self) -> bool:
        return len(self.held) >= self.places

    def next(self) -> Place | None:
        """Whose turn it is, if there is a place."""
        return None if self.is_full else next(iter(self.line), None)

    def take(self, place: Place, now: float) -> None:
        self.forget(place)
        self.held[place] = now
        place.lane = self
        place.changed.set()

    def leave(self, place: Place) -> None:
        since = self.held.pop(place, None)
        if since is not None:
            place.lane = None
            place.changed.clear()
            self._average_s += _MEMORY * (time.monotonic() - since - self._average_s)

    def forget(self, place: Place) -> None:
        """Take it out of the line."""
        self.line.pop(place, None)

    def refusal(self) -> EngineBusyError:
        """The error that says how long the line is likely to take."""
        expected_s = (len(self.line) + 1) * self._average_s / self.places
        seconds = min(max(math.ceil(expected_s), 1), MAX_RETRY_S)
        return EngineBusyError(self._words.format(seconds=seconds), retry_after_s=seconds)
