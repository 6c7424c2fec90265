"""Work that no query waits for, one piece after the other, in a thread that ends with the engine. Knows no work."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class Background:
    """Runs jobs in a thread of its own, which begins with the first of them.

    Parameters
    ----------
    name
        Of the thread.
    stop
        Ends what a job is waiting for, so that ``close`` need not wait for long; may be called several times.
    is_immediate
        Runs each job at once and in the caller's thread: for tests.
    """

    def __init__(self, name: str, stop: Callable[[], None], *, is_immediate: bool = False) -> None:
        self._name = name
        self._stop = stop
        self._is_immediate = is_immediate
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._pending = 0
        self._idle = threading.Condition()
        self._thread: threading.Thread | None = None
        self.is_closed = False

    def run(self, job: Callable[[], None]) -> bool:
        """Have a job done, which raises nothing; True when it is done already."""
        if self._is_immediate:
            job()
            return True
        with self._idle:
            if self.is_closed:
                return False
            self._pending += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
        self._jobs.put(job)
        return False

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Wait until there is nothing to do; False when that takes longer."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._pending, timeout_s)

    def close(self) -> None:
        """End what runs, and begin nothing more."""
        with self._idle:
            self.is_closed = True
            thread = self._thread
        self._jobs.put(None)
        while thread is not None and thread.is_alive():
            self._stop()
            thread.join(0.05)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if not self.is_closed:
                    job()
            finally:
                with self._idle:
                    self._pending -= 1
                    self._idle.notify_all()
