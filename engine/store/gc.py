"""Deleting files that nothing needs any more: of expired versions, of publishes that were killed, and scratch files.

The order is what makes it safe beside any number of publishers, readers and others of its kind: the files are listed
first, then the log is read to its end, and only what was listed is ever deleted. So a file that appeared meanwhile is
not known here, and a record that appeared meanwhile is. Log records are never deleted.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from engine.errors import CorruptVersionError, EngineError, StoreError
from engine.store.catalogue import DatasetLogs, list_datasets
from engine.store.keys import check_dataset_name, data_prefix, log_key, meta_prefix, staging_prefix
from engine.store.lifecycle import seconds_of
from engine.store.log import DatasetLog
from engine.store.protocol import ObjectStat, Store
from engine.store.records import Expire, Publish, Rejection, Restore, Seen, SetCurrent, Tag, Yank
from engine.store.staging import STALE_S
from engine.store.state import DatasetState, Event, Mark

GRACE_S = 7 * 86_400.0  # between a version's end and that of its files: who just opened it may still read
ORPHAN_S = 86_400.0  # a publish that takes longer between its file and its record does not exist
FUTURE_S = 3_600.0  # clocks that differ by more say nothing about ages


@dataclass(frozen=True, slots=True)
class Removal:
    """A file that was deleted, or would be. ``why`` is ``expired``, ``orphan`` or ``scratch``."""

    dataset: str
    key: str
    size: int
    why: str


#: The kinds of record that can be told from those of later releases, which may name files in ways of their own.
_KINDS = frozenset(kind.kind for kind in (Expire, Publish, Rejection, Restore, Seen, SetCurrent, Tag, Yank))

#: Told of a dataset of which nothing was deleted, and why.
Failed = Callable[[str, EngineError], None]


def collect(
    store: Store,
    logs: DatasetLogs,
    dataset: str | None = None,
    *,
    dry_run: bool = False,
    now: float | None = None,
    grace_s: float = GRACE_S,
    orphan_s: float = ORPHAN_S,
    failed: Failed | None = None,
) -> list[Removal]:
    """Delete what no version needs.

    Parameters
    ----------
    dataset
        Only of this one; None for all.
    dry_run
        Only say what would be deleted.
    now
        Seconds since 1970; None asks both the store's clock and this machine's, and believes the slower one.
    grace_s, orphan_s
        How long ago a version must have expired, and how old a file that no record names must be.
    failed
        Told of each dataset that cannot be looked at, of which nothing is deleted then. When None, the first such error
        is raised, after the others were seen to.

    Raises
    ------
    StoreError, CorruptVersionError
    """
    if not dry_run and store.read_only:
        raise StoreError("the store is read-only: nothing in it can be deleted")
    names = list_datasets(store) if dataset is None else [check_dataset_name(dataset)]
    removed: list[Removal] = []
    first: EngineError | None = None
    for name in names:
        try:
            for removal in _Pass(store, logs, name, dry_run, now, grace_s, orphan_s).run():
                removed.append(removal)  # one by one: what was deleted before an error counts
        except EngineError as error:
            first = first or error
            if failed is not None:
                failed(name, error)
    if first is not None and failed is None:
        raise first
    return removed


class _Pass:
    """One look at one dataset."""

    def __init__(
        self,
        store: Store,
        logs: DatasetLogs,
        dataset: str,
        dry_run: bool,
        now: float | None,
        grace_s: float,
        orphan_s: float,
    ) -> None:
        self._store = store
        self._logs = logs
        self._dataset = dataset
        self._dry_run = dry_run
        self._now = now
        self._grace_s = grace_s
        self._orphan_s = orphan_s

    def run(self) -> Iterator[Removal]:
        prefixes = (data_prefix(self._dataset), meta_prefix(self._dataset))
        stored = [found for prefix in prefixes for found in self._store.list_stats(prefix)]
        scratch = self._store.list_stats(staging_prefix(self._dataset))
        if not stored and not scratch:
            return
        state = self._read_log()
        needed = {file.key for version in state.live for file in version.all_files}
        suspects = [found for found in stored if found.key not in needed]
        if not suspects and not scratch:
            return
        now = self._time()
        self._check_clock(now, (*stored, *scratch))
        for found, why in self._useless(state, suspects, now):
            yield self._remove(found, why)
        for found in scratch:
            if now - found.modified_at > STALE_S:
                yield self._remove(found, "scratch")

    def _read_log(self) -> DatasetState:
        """All of it, from the store: what this process remembers of it would hide that a record was lost."""
        state = DatasetLog(self._store, self._dataset).refresh()
        known = self._logs.of(self._dataset).state.seq
        if state.seq < known:
            raise CorruptVersionError(
                f"the log record {log_key(self._dataset, known)} has disappeared; nothing was deleted"
            )
        strange = next((event for event in state.history if event.kind not in _KINDS), None)
        if strange is not None:
            raise StoreError(
                f"the log record {log_key(self._dataset, strange.seq)} is of the kind {strange.kind!r}, which this "
                "release does not know and which may need files; nothing was deleted"
            )
        return state

    def _useless(self, state: DatasetState, suspects: list[ObjectStat], now: float) -> Iterator[tuple[ObjectStat, str]]:
        """Those that may go, of the files that no version which can be served needs."""
        if not state.seq:
            return  # a log that somebody lost would make orphans of everything
        named = {file.key for version in state.versions for file in version.all_files}
        kept = self._in_grace(state, {found.key for found in suspects}, now)
        for found in suspects:
            if found.key in kept:
                continue
            if found.key in named:
                yield found, "expired"
            elif now - found.modified_at > self._orphan_s:
                yield found, "orphan"

    def _in_grace(self, state: DatasetState, suspects: set[str], now: float) -> set[str]:
        """Those that versions name which expired not long enough ago."""
        kept = set()
        for mark in state.expired:
            version = state.number(mark.version)
            files = {file.key for file in version.all_files} & suspects if version is not None else set()
            if files and now - self._expired_at(state, mark) <= self._grace_s:
                kept |= files
        return kept

    def _expired_at(self, state: DatasetState, mark: Mark) -> float:
        """When a version expired: by the clock of who said so, or by the store's, whichever is later."""
        said = seconds_of(mark.at)
        stored = [self._store.stat(log_key(self._dataset, event.seq)) for event in state.history if _says(event, mark)]
        return max([said, *(found.modified_at for found in stored if found is not None)])

    def _time(self) -> float:
        if self._now is not None:
            return self._now
        return time.time() if self._store.read_only else min(time.time(), self._store_time())

    def _store_time(self) -> float:
        """What time the store's own clock says it is, which is the one that files are dated by."""
        key = f"{staging_prefix(self._dataset)}{secrets.token_hex(8)}.clock"
        self._store.put_if_absent(key, b"")
        try:
            found = self._store.stat(key)
        finally:
            with suppress(EngineError):  # it is a scratch file, and goes with those
                self._store.delete(key)
        if found is None:
            raise StoreError("the store lost a file that was just written; nothing was deleted")
        return found.modified_at

    def _check_clock(self, now: float, listed: tuple[ObjectStat, ...]) -> None:
        newest = max(listed, key=lambda found: found.modified_at)
        if newest.modified_at > now + FUTURE_S:
            raise StoreError(
                f"{newest.key} is {(newest.modified_at - now) / 3600:.1f} hours younger than now: the clock of this "
                "machine or of the store is wrong, and nothing was deleted"
            )

    def _remove(self, found: ObjectStat, why: str) -> Removal:
        if not self._dry_run:
            self._store.delete(found.key)
        return Removal(self._dataset, found.key, found.size, why)


def _says(event: Event, mark: Mark) -> bool:
    """Whether that record is the one that made a version expire."""
    return event.kind == Expire.kind and event.at == mark.at and f"v{mark.version}" in event.detail.split(", ")
