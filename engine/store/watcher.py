"""Looking at the drop zones again and again in the background. What a look does is the ingestor's business."""

from __future__ import annotations

import logging
import threading

from engine.errors import EngineError
from engine.store.ingest import IngestEvent, Ingestor

_LOGGER = logging.getLogger(__name__)


class Watcher:
    """Polls in the background until it is stopped. No error of one poll ends it.

    With ``refresh_only`` it takes nothing in, and only keeps the logs fresh.
    """

    def __init__(self, ingestor: Ingestor, interval_s: float = 15.0, *, refresh_only: bool = False) -> None:
        self._look = ingestor.refresh_all if refresh_only else ingestor.poll
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_failures: set[IngestEvent] = set()

    def start(self) -> None:
        """Begin; the first poll is at once. Does nothing when it is running."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = threading.Event()  # its own: a thread that outlived `stop` must not be revived
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="drop-watcher", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End after the poll that is under way."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._report(self._look())
            except EngineError as error:
                _LOGGER.warning("looking for dropped files failed, and will be tried again: %s", error.detail)
            except Exception:
                _LOGGER.exception("looking for dropped files failed, and will be tried again")
            stop.wait(self._interval_s)

    def _report(self, events: list[IngestEvent]) -> None:
        failures = {event for event in events if event.kind == "failed"}
        for event in events:
            if event.kind in ("failed", "rejected", "warning"):
                if event not in self._last_failures:
                    _LOGGER.warning("%s %s: %s", event.key, event.kind, event.reason)
            elif event.version is not None:
                _LOGGER.info("%s %s: %s", event.key, event.kind, event.version.name)
        self._last_failures = failures
