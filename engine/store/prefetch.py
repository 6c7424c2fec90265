"""Fetching into the disk cache what will probably be asked for, from one thread in the background."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence

from engine.errors import EngineError
from engine.store.cache import DiskCache
from engine.store.cache_folder import footprint
from engine.store.download import RangeSource
from engine.store.records import FileEntry

MAX_WAITING = 64  # versions; more than that were published since the first began, and the oldest are forgotten

_LOGGER = logging.getLogger(__name__)


class Prefetcher:
    """Best effort: nothing that it does can fail, and what somebody uses is not thrown away for it.

    A version that would take more than half of the budget is not prefetched: it would push out what the others need.
    """

    def __init__(self, cache: DiskCache, source: RangeSource) -> None:
        self._cache = cache
        self._source = source
        self._waiting: deque[tuple[FileEntry, ...]] = deque(maxlen=MAX_WAITING)
        self._condition = threading.Condition()
        self._stop = threading.Event()
        self._busy = False
        self._thread: threading.Thread | None = None

    def add(self, entries: Sequence[FileEntry]) -> None:
        if sum(footprint(size) for size in {entry.sha256: entry.size for entry in entries}.values()) > (
            self._cache.max_bytes // 2
        ):
            return
        with self._condition:
            if self._stop.is_set() or tuple(entries) in self._waiting:
                return
            self._waiting.append(tuple(entries))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="blob-prefetch", daemon=True)
                self._thread.start()
            self._condition.notify_all()

    def wait(self, timeout_s: float) -> bool:
        """Until nothing is left to do; False when the time passed first."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def close(self) -> None:
        """Stop, after the ranges that are under way."""
        with self._condition:
            self._stop.set()
            self._waiting.clear()
            self._condition.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._busy = False
                self._condition.notify_all()
                self._condition.wait_for(lambda: self._waiting or self._stop.is_set())
                if self._stop.is_set():
                    return
                entries = self._waiting.popleft()
                self._busy = True
            try:
                for entry in entries:
                    self._cache.unpin(self._cache.pin(entry, self._source, stop=self._stop))
            except EngineError as error:
                _LOGGER.info("A version was not prefetched: %s", error.detail)
            except Exception:
                _LOGGER.exception("A version was not prefetched")
