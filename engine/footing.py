"""What an answer was made from, so that a few looks tell whether it would be made the same way again. Makes none."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from engine.store import DatasetState, Version
from engine.store.keys import log_key
from engine.store.local import LocalStore
from engine.store.log import DatasetLog
from engine.store.verify import Identity, identity_of, verified_identity

if TYPE_CHECKING:
    from engine.engine import Engine

MOST_FILES = 32  # of a version; looking at more of them would keep an event loop from other requests for too long

#: States of datasets, as they were before a request was read.
Seen = Mapping[str, DatasetState]


class Footing:
    """States of datasets and files of a version that an answer stands on."""

    def __init__(
        self,
        logs: tuple[tuple[DatasetLog, DatasetState], ...],
        following: tuple[str, ...],
        files: tuple[Identity, ...],
        max_age_s: float | None,
    ) -> None:
        self._logs = logs
        self._following = following
        self._files = files
        self._max_age_s = max_age_s

    @property
    def holds(self) -> bool:
        """Whether the engine would answer the same again, as far as it looks at a store for each request.

        It takes microseconds and asks no bucket, so it may be called from an event loop. For a store in a folder: no
        log has grown, and each file is the one whose hash was found right. For a bucket, which no request looks at:
        what is known of it is as recent as it has to be, and no log was seen to grow. False says only that the engine
        has to be asked.
        """
        for log, state in self._logs:
            if log.state is not state:
                return False
            if self._max_age_s is not None and time.monotonic() - log.refreshed_at > self._max_age_s:
                return False
        for path in self._following:
            try:
                os.lstat(path)
            except FileNotFoundError:
                continue
            except OSError:
                return False
            return False
        return all(identity_of(file[0]) == file for file in self._files)


def states(engine: Engine) -> Seen:
    """What is known now of all datasets that were asked for so far, without a look at the store."""
    return {name: log.state for name, log in engine._logs.known().items()}


def footing(engine: Engine, seen: Seen, datasets: Collection[str], version: Version) -> Footing | None:
    """What an answer from this version stands on, where a glance can tell whether it still does; None where not.

    Parameters
    ----------
    seen
        What ``states`` gave before the request was read.
    datasets
        All whose states the request was read by.

    Raises
    ------
    CorruptVersionError, StoreError
        As ``Engine.version`` does.
    """
    known = engine._logs.known()
    logs = []
    for name in {version.dataset, *datasets}:
        log, state = known.get(name), seen.get(name)
        # Without records it is that of a file beside which there is no log, and such a file may change at any time.
        if log is None or state is None or log.state is not state or not state.seq:
            return None
        logs.append((log, state))
    store = engine.store
    if store.is_remote:
        return Footing(tuple(logs), (), (), engine.config.refresh_s)
    if not isinstance(store, LocalStore) or len(version.files) > MOST_FILES:
        return None
    following = tuple(str(store.path(log_key(log.dataset, state.seq + 1))) for log, state in logs)
    files = tuple(verified_identity(store.path(entry.key), entry) for entry in version.files)
    return Footing(tuple(logs), following, files, None)
