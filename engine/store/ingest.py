"""Turning dropped files, and edited definitions, into versions; once, or again and again in the background."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from engine.errors import DefinitionError, EngineError, PublishConflictError, RejectedFileError
from engine.store.catalogue import Beside, has_drop, list_folders, look_beside
from engine.store.definitions import ListedDefinitions
from engine.store.keys import format_of, is_dataset_name, is_drop
from engine.store.log import ContentionError
from engine.store.protocol import ObjectStat, Store
from engine.store.publish import Publisher
from engine.store.records import Source, utc_text
from engine.store.staging import UnsettledFileError
from engine.store.state import DatasetState, Version

_LOGGER = logging.getLogger(__name__)

TEXT_PATIENCE = 4  # times settle_s
_CANNOT_TELL = ("csv", "jsonl")  # whether they are complete

OVERWRITTEN = 3  # times that a drop is taken anew at once because another one has replaced it

FIRST_PAUSE_S = 15.0  # after a failure that may pass: no room, no memory, no permission
LONGEST_PAUSE_S = 600.0


@dataclass(frozen=True, slots=True)
class IngestEvent:
    """What one poll did for one dataset.

    ``kind`` is ``published`` (a drop became a version), ``unchanged`` (a drop holds what a version holds already),
    ``rejected`` (a drop cannot become a version, and the log says so), ``definition`` (an edited definition became a
    version), ``warning`` (something that somebody should look at) or ``failed`` (it will be tried again).
    """

    dataset: str
    kind: str
    key: str
    version: Version | None = None
    reason: str = ""


@dataclass(slots=True)
class _Sighting:
    """A drop as the last poll saw it, since when, and when it may be tried again."""

    etag: str
    since: float
    not_before: float = 0.0
    pause_s: float = FIRST_PAUSE_S


class Ingestor:
    """Looks at the drop zones when told to.

    A drop counts when it has not changed for ``settle_s``: by its modification time, or, where that lies in the future
    (the clock of whoever wrote it is wrong), by what two polls saw. Text must hold still longer: half a file looks as
    whole as all of it, where parquet and Arrow end with what says that they are complete. In a bucket a drop counts at
    once: an object appears when it is whole, and its time is by another clock than ours.

    Parameters
    ----------
    definitions
        How to find a definition when the folder was just listed; None asks the publisher, who looks for itself.
    on_latest
        Told of each version that a poll finds readers to follow, once; also when another process published it.
    """

    def __init__(
        self,
        publisher: Publisher,
        store: Store,
        settle_s: float = 2.0,
        clock: Callable[[], float] = time.time,
        *,
        definitions: ListedDefinitions | None = None,
        on_latest: Callable[[Version], None] | None = None,
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._settle_s = settle_s
        self._clock = clock
        self._definitions_listed = definitions
        self._on_latest = on_latest
        self._latest: dict[str, Version] = {}
        self._sightings: dict[str, _Sighting] = {}
        self._misnamed: set[str] = set()
        self._searched: set[str] = set()
        self._definitions = _DefinitionWatch()
        self._lock = threading.Lock()

    def poll(self) -> list[IngestEvent]:
        """Look at every dataset once. What fails in one of them does not keep the others waiting.

        In a store that cannot be written to this is ``refresh_all``.

        Raises
        ------
        StoreError
            The store cannot even be listed.
        """
        if self._store.read_only:
            return self.refresh_all()
        with self._lock:
            folders = list_folders(self._store)
            return [*self._warn_of_misnamed(folders), *self._each(folders, self._poll)]

    def refresh_all(self) -> list[IngestEvent]:
        """Read every log to its end, and nothing else, so that a request need not; tells of those that cannot be read.

        Raises
        ------
        StoreError
            The store cannot even be listed.
        """
        return self._each(list_folders(self._store), self._refresh)

    def poll_dataset(self, dataset: str) -> list[IngestEvent]:
        """Look at one dataset, for somebody who waits for the answer. Raises EngineError."""
        if self._store.read_only:
            return self._refresh(dataset)
        with self._lock:
            self._searched.discard(dataset)
            return self._poll(dataset)

    def _each(self, folders: list[str], look: Callable[[str], list[IngestEvent]]) -> list[IngestEvent]:
        events = []
        for dataset in filter(is_dataset_name, folders):
            try:
                events += look(dataset)
            except EngineError as error:
                events.append(IngestEvent(dataset, "failed", f"{dataset}/", reason=error.detail))
            except Exception as error:
                events.append(IngestEvent(dataset, "failed", f"{dataset}/", reason=_unexpected(dataset, error)))
        return events

    def _poll(self, dataset: str) -> list[IngestEvent]:
        events = self._search(dataset)
        # Before the log, which then knows of what others took in meanwhile.
        beside = look_beside(self._store, dataset)
        state = self._publisher.logs.of(dataset).refresh()
        # Of several files the one written last becomes latest.
        for drop in sorted(beside.drops, key=lambda stat: (stat.modified_at, stat.key)):
            event = self._take(dataset, state, drop)
            if event is not None:
                events.append(event)
        changed = self._apply_definition(dataset, beside)
        self._tell_latest(dataset)
        return events if changed is None else [*events, changed]

    def _refresh(self, dataset: str) -> list[IngestEvent]:
        self._publisher.logs.of(dataset).refresh()
        self._tell_latest(dataset)
        return []

    def _tell_latest(self, dataset: str) -> None:
        current = self._publisher.logs.of(dataset).state.current
        if current is not None and current != self._latest.get(dataset):
            self._latest[dataset] = current
            if self._on_latest is not None:
                self._on_latest(current)

    def _search(self, dataset: str) -> list[IngestEvent]:
        """Tell, once, of folders in a bucket that are called like a drop, as some tools write a table in many files."""
        if not self._store.is_remote or dataset in self._searched:
            return []
        folders = [key for key in self._store.list(f"{dataset}/") if key.endswith("/") and is_drop(key)]
        self._searched.add(dataset)
        reason = "this is a folder; one file is expected, so its files are not taken in"
        return [IngestEvent(dataset, "warning", key, reason=reason) for key in folders]

    def _take(
        self, dataset: str, state: DatasetState, drop: ObjectStat, tries: int = OVERWRITTEN
    ) -> IngestEvent | None:
        source = Source(drop.key, drop.etag, drop.size, utc_text(drop.modified_at))
        if state.known_drop(source):
            self._sightings.pop(drop.key, None)
            return None
        sighting = self._sight(drop)
        if not self._is_settled(drop, sighting) or self._clock() < sighting.not_before:
            return None
        try:
            return self._publish(dataset, source)
        except UnsettledFileError as error:
            newer = self._store.stat(drop.key) if self._store.is_remote and tries else None
            if newer is not None and newer.etag != drop.etag:
                return self._take(dataset, state, newer, tries - 1)
            reason = error.detail
        except EngineError as error:
            reason = error.detail
        except Exception as error:
            reason = _unexpected(drop.key, error)
        sighting.not_before = self._clock() + sighting.pause_s
        sighting.pause_s = min(2 * sighting.pause_s, LONGEST_PAUSE_S)
        return IngestEvent(dataset, "failed", drop.key, reason=reason)

    def _publish(self, dataset: str, source: Source) -> IngestEvent:
        """Publish a drop, or record why it cannot be; raises what may pass."""
        try:
            outcome = self._publisher.publish_drop(dataset, source)
        except (UnsettledFileError, ContentionError):
            raise
        except (RejectedFileError, PublishConflictError) as error:
            self._publisher.reject(dataset, source, error.detail)
            return IngestEvent(dataset, "rejected", source.key, reason=error.detail)
        kind = "published" if outcome.created else "unchanged"
        return IngestEvent(dataset, kind, source.key, outcome.version, "; ".join(outcome.warnings))

    def _sight(self, drop: ObjectStat) -> _Sighting:
        sighting = self._sightings.get(drop.key)
        if sighting is None or sighting.etag != drop.etag:
            sighting = self._sightings[drop.key] = _Sighting(drop.etag, self._clock())
        return sighting

    def _is_settled(self, drop: ObjectStat, sighting: _Sighting) -> bool:
        if self._store.is_remote:
            return True
        now = self._clock()
        settle_s = self._settle_s * (TEXT_PATIENCE if format_of(drop.key) in _CANNOT_TELL else 1)
        if drop.modified_at <= now:
            return now - drop.modified_at >= settle_s
        return now - sighting.since >= max(settle_s, 0.001)  # so never at first sight

    def _apply_definition(self, dataset: str, beside: Beside) -> IngestEvent | None:
        state = self._publisher.logs.of(dataset).state
        if state.newest is None:
            return None
        try:
            text = self._definition(dataset, beside)
            if not self._definitions.is_due(dataset, text, state.newest):
                return None
            outcome = self._publisher.publish_definition(dataset, by="definition", message="the definition was changed")
        except DefinitionError as error:
            if not self._definitions.is_news(dataset, error.detail):
                return None
            reason = f"{error.detail}; it was not applied"
            return IngestEvent(dataset, "warning", f"{dataset}/dataset.toml", reason=reason)
        except EngineError as error:  # what became of the drops must still be told
            return IngestEvent(dataset, "failed", f"{dataset}/dataset.toml", reason=error.detail)
        self._definitions.applied(dataset, text, state.newest)
        if not outcome.created:
            return None
        return IngestEvent(dataset, "definition", f"{dataset}/dataset.toml", outcome.version)

    def _definition(self, dataset: str, beside: Beside) -> str | None:
        if self._definitions_listed is None or not self._store.is_remote:
            return self._publisher.definition_of(dataset)
        return self._definitions_listed(dataset, beside.definition)

    def _warn_of_misnamed(self, folders: list[str]) -> list[IngestEvent]:
        strange = (name for name in folders if not is_dataset_name(name) and name not in self._misnamed)
        news = [name for name in strange if has_drop(self._store, name)]
        self._misnamed.update(news)
        reason = "this folder's name cannot be a dataset's: use a-z, 0-9, _ and -; its files are not served"
        shown = [name.encode("utf-8", "replace").decode() for name in news]  # a name need not be valid UTF-8
        return [IngestEvent(name, "warning", f"{name}/", reason=reason) for name in shown]


def _unexpected(what: str, error: Exception) -> str:
    """Log an error that nobody foresaw, for the other datasets must not wait for it; and what to say of it."""
    _LOGGER.error("looking at %s failed unexpectedly", what, exc_info=error)
    return f"an unexpected error ({type(error).__name__}); the server's log has more"


class _DefinitionWatch:
    """When a definition that is not the newest version's should become a version.

    Each process applies a text once per content. Were the log's newest definition alone to decide, two processes with
    different definitions, as during a deploy, would publish against each other for ever.
    """

    def __init__(self) -> None:
        self._seen: dict[str, str | None] = {}
        self._applied: dict[str, tuple[str | None, str]] = {}
        self._said: dict[str, str] = {}

    def is_due(self, dataset: str, text: str | None, newest: Version) -> bool:
        settled = dataset not in self._seen or self._seen[dataset] == text
        self._seen[dataset] = text  # an editor may be half-way through: a change counts when two polls saw it
        if newest.definition == text:
            self._said.pop(dataset, None)
            self.applied(dataset, text, newest)
            return False
        return settled and self._applied.get(dataset) != (text, newest.content_id)

    def applied(self, dataset: str, text: str | None, newest: Version) -> None:
        self._applied[dataset] = (text, newest.content_id)

    def is_news(self, dataset: str, problem: str) -> bool:
        if self._said.get(dataset) == problem:
            return False
        self._said[dataset] = problem
        return True
