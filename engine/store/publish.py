"""Making a version of a file: stage, check, lay out, and only then let the log name it. Decides nothing about when.

The order of the last steps is what keeps a crash harmless: the files are in place before a record names them, and the
record is the one thing that makes a version exist.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.connection import Database
from engine.errors import DefinitionError, PublishConflictError, StoreError
from engine.store.attempt import Attempt, Decision, check_latest
from engine.store.catalogue import DatasetLogs
from engine.store.convert import detect_format
from engine.store.definitions import check_toml
from engine.store.keys import check_dataset_name
from engine.store.lifecycle import check_usable
from engine.store.log import DatasetLog, clean_text
from engine.store.prepare import Describe, Given, Preparation
from engine.store.protocol import Progress, Staged, Store
from engine.store.records import (
    Body,
    Original,
    Publish,
    Record,
    Rejection,
    SchemaDiff,
    SchemaField,
    SetCurrent,
    Source,
    diff_schemas,
)
from engine.store.rows import Limits
from engine.store.staging import copy_and_hash
from engine.store.state import DatasetState, Version

SCHEMA_POLICIES = ("warn", "block-breaking")


@dataclass(frozen=True, slots=True)
class PublishOutcome:
    """The version that holds the content now; ``created`` is False when it was there before."""

    version: Version
    created: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishPlan:
    """What publishing a file would do.

    ``kind`` is ``new``, ``same`` (``version`` holds the content already) or ``refused`` (by the schema policy;
    ``reason`` says why). ``current`` is what readers follow now, and ``diff`` how the columns differ from its.
    ``files`` are bytes and rows of each file; ``moved`` says whether sorting moves a row.
    """

    dataset: str
    kind: str
    version: Version | None
    reason: str
    current: Version | None
    original: Original
    schema: tuple[SchemaField, ...]
    diff: SchemaDiff
    rows: int
    files: tuple[tuple[int, int], ...]
    sorted_by: tuple[str, ...] = ()
    moved: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        return sum(size for size, _ in self.files)


class Publisher:
    """Writes versions.

    Parameters
    ----------
    store, database
        The database must be allowed to read the store's staging folders.
    definition_of
        Gives the text of a dataset's definition as it is now, or None; may raise DefinitionError.
    schema_policy
        ``warn`` publishes whatever the columns are; ``block-breaking`` refuses a version that lacks or retypes a
        column of the current one.
    logs
        The process's logs, so that its readers see a new version at once; None makes its own.
    describe
        Finds what a version's facts say beyond the ranges of its columns; None leaves that out.
    limits
        How large files and row groups become; None for the usual sizes.
    """

    def __init__(
        self,
        store: Store,
        database: Database,
        definition_of: Callable[[str], str | None],
        schema_policy: str = "warn",
        *,
        logs: DatasetLogs | None = None,
        describe: Describe | None = None,
        limits: Limits | None = None,
    ) -> None:
        if schema_policy not in SCHEMA_POLICIES:
            raise ValueError(f"schema_policy must be one of {', '.join(SCHEMA_POLICIES)}, not {schema_policy!r}")
        self.logs = logs or DatasetLogs(store)
        self._store = store
        self._database = database
        self.definition_of = definition_of
        self._schema_policy = schema_policy
        self._describe = describe
        self._limits = limits

    def publish(
        self,
        dataset: str,
        path: Path,
        *,
        message: str = "",
        by: str = "",
        source: Source | None = None,
        name: str | None = None,
        progress: Progress | None = None,
        if_latest: str | int | None = None,
    ) -> PublishOutcome:
        """Publish a copy of a local file.

        What is already current (or was given before, byte for byte, and still is current) under the same definition
        gives that version again.

        Parameters
        ----------
        source
            Where the bytes come from, if that is a place which is looked at again: the log remembers it, and a source
            that it knows is never published twice.
        name
            The file's name for messages and for finding out its format; the end of ``path`` when None.
        if_latest
            What must be latest for this to be done, as ``check_latest`` takes it. The same publish asked again, after
            it succeeded, gives its version.

        Raises
        ------
        InvalidNameError, RejectedFileError, PublishConflictError, PreconditionFailedError, StoreError,
        CorruptVersionError
        """
        path = Path(path)
        shown = clean_text(name or path.name)
        with self._scratch(dataset) as new_file:
            staged = copy_and_hash(path, new_file(), name=shown, progress=progress)
            return self._publish(dataset, staged, shown, source, message, by, progress, new_file, if_latest)

    def plan(
        self,
        dataset: str,
        path: Path,
        *,
        name: str | None = None,
        progress: Progress | None = None,
        if_latest: str | int | None = None,
    ) -> PublishPlan:
        """Find out what ``publish`` would do, and do all of it but storing anything. Raises what that raises, but for
        what the schema policy refuses."""
        path = Path(path)
        shown = clean_text(name or path.name)
        with self._scratch(dataset) as new_file:
            staged = copy_and_hash(path, new_file(), name=shown, progress=progress)
            state = self.logs.of(dataset).refresh()
            prepared, warnings = self._prepare(dataset, staged, shown, None, progress, new_file, state)
            attempt = Attempt(self._store, prepared, self._schema_policy, if_latest)
            try:
                decision, reason = attempt.decide(state), ""
            except PublishConflictError as error:
                schema = prepared.inspection.schema
                diff = diff_schemas(state.current.schema, schema) if state.current else SchemaDiff()
                decision, reason = Decision(schema, diff), error.detail
            return _plan(state, prepared, decision, reason, warnings)

    def publish_drop(self, dataset: str, source: Source, *, by: str = "drop", message: str = "") -> PublishOutcome:
        """Publish a dropped object as it is under its etag; see ``publish``.

        An object with the same bytes as the last good one under its key is the same drop again (touched, or copied to
        another disk): the log notes it, and nothing is published, even after a rollback.
        """
        shown = source.key.rpartition("/")[2]
        with self._scratch(dataset) as new_file:
            staged = self._store.fetch(source.key, source.etag, new_file())
            return self._publish(dataset, staged, shown, source, message, by, None, new_file, None)

    def publish_definition(self, dataset: str, *, by: str = "", message: str = "") -> PublishOutcome:
        """Give the current data a new version under the definition that is now in force, if that is another.

        Raises
        ------
        VersionNotFoundError
            There is no data yet.
        DefinitionError
            The definition is not usable; the old one stays.
        """
        text = self.definition_of(check_dataset_name(dataset))
        check_toml(dataset, text)
        log = self.logs.of(dataset)
        log.refresh().resolve("latest")

        def write(state: DatasetState) -> Body | None:
            current, newest = state.resolve("latest"), state.newest
            # Compared with what was published last: a rollback to an older definition is meant, and stays.
            if newest is None or newest.definition == text:
                return None
            return Publish(
                current.files,
                current.schema,
                current.schema_hash,
                SchemaDiff(),
                current.original,
                parent=current.number,
                definition=text,
                sorted_by=current.sorted_by,
                place=current.place,
                facts=current.facts,
            )

        record = log.append(write, by=by, message=message)
        if record is None:
            return PublishOutcome(log.state.resolve("latest"), created=False)
        return PublishOutcome(_published(log, record), created=True)

    def set_current(
        self,
        dataset: str,
        version_spec: str | int,
        *,
        by: str = "",
        message: str = "",
        if_latest: str | int | None = None,
    ) -> Version:
        """Make an existing version the one that readers follow; nothing is written when it already is.

        Raises
        ------
        VersionNotFoundError, StoreError
        PublishConflictError
            The version is yanked.
        """
        log = self.logs.of(dataset)
        target = log.refresh().resolve(version_spec)

        def write(state: DatasetState) -> Body | None:
            check_usable(state, target)
            if state.current == target:  # perhaps by this very request, whose answer was lost
                return None
            check_latest(state, if_latest)
            return SetCurrent(target.number)

        log.append(write, by=by, message=message)
        return target

    def reject(self, dataset: str, source: Source, reason: str, *, by: str = "drop") -> None:
        """Note, once, that a dropped object cannot become a version."""

        def write(state: DatasetState) -> Body | None:
            return None if state.known_drop(source) else Rejection(source, reason)

        self.logs.of(dataset).append(write, by=by)

    def _publish(
        self,
        dataset: str,
        staged: Staged,
        name: str,
        source: Source | None,
        message: str,
        by: str,
        progress: Progress | None,
        new_file: Callable[[], Path],
        if_latest: str | int | None,
    ) -> PublishOutcome:
        log = self.logs.of(dataset)
        state = log.refresh()
        prepared, warnings = self._prepare(dataset, staged, name, source, progress, new_file, state)
        attempt = Attempt(self._store, prepared, self._schema_policy, if_latest)
        if source is None or state.known_drop(source) is None:
            attempt.decide(state)  # the long work, before the log is written to and others have to wait
        record = log.append(attempt.write, by=by, message=message)
        if record is not None and isinstance(record.body, Publish):
            version = _published(log, record)
            changes = version.diff.describe()
            return PublishOutcome(version, created=True, warnings=(*warnings, *prepared.warnings, *changes))
        attempt.discard(log.state)
        if attempt.existing is None:
            raise StoreError(f"nothing was published to {dataset}")  # not reached: no record means that one exists
        return PublishOutcome(attempt.existing, created=False, warnings=warnings)

    def _prepare(
        self,
        dataset: str,
        staged: Staged,
        name: str,
        source: Source | None,
        progress: Progress | None,
        new_file: Callable[[], Path],
        state: DatasetState,
    ) -> tuple[Preparation, tuple[str, ...]]:
        """What is to be published, and warnings about its definition."""
        definition, warnings = self._definition(dataset, state)
        original = Original(staged.sha256, staged.size, name, detect_format(staged.path, name))
        given = Given(dataset, staged, original, definition, source)
        prepared = Preparation(
            self._database, given, new_file, describe=self._describe, progress=progress, limits=self._limits
        )
        return prepared, warnings

    def _definition(self, dataset: str, state: DatasetState) -> tuple[str | None, tuple[str, ...]]:
        """The definition to record, and a warning when that is not the one that was found."""
        try:
            text = self.definition_of(dataset)
            check_toml(dataset, text)
        except DefinitionError as error:
            kept = state.newest.definition if state.newest else None
            return kept, (f"{error.detail}; it was not applied",)
        return text, ()

    @contextmanager
    def _scratch(self, dataset: str) -> Iterator[Callable[[], Path]]:
        """Names, in no part anyone's choice, for private files in the staging folder, which are gone afterwards."""
        folder = self._store.staging(check_dataset_name(dataset))
        made: list[Path] = []

        def new_file() -> Path:
            made.append(folder / f"{secrets.token_hex(8)}.new")
            return made[-1]

        try:
            yield new_file
        finally:
            for path in made:
                with suppress(OSError):  # what is left here does no harm, and the version may exist already
                    path.unlink(missing_ok=True)


def _plan(
    state: DatasetState, prepared: Preparation, decision: Decision, reason: str, warnings: tuple[str, ...]
) -> PublishPlan:
    kind = "refused" if reason else "same" if decision.existing is not None else "new"
    known = decision.existing or decision.reuse
    if known is not None:
        rows, files = known.rows, tuple((file.size, file.rows) for file in known.files)
        sorted_by, moved = known.sorted_by, known.place is not None
    else:
        layout = prepared.layout
        rows, files = prepared.inspection.rows, tuple((file.staged.size, file.rows) for file in layout.files)
        sorted_by, moved = layout.sorted_by, layout.place is not None
    return PublishPlan(
        state.dataset,
        kind,
        decision.existing,
        reason,
        state.current,
        prepared.given.original,
        decision.schema,
        decision.diff,
        rows,
        files,
        sorted_by,
        moved,
        (*warnings, *prepared.warnings, *decision.diff.describe()),
    )


def _published(log: DatasetLog, record: Record) -> Version:
    version = log.state.number(record.seq)
    if version is None:
        raise StoreError(f"record {record.seq} of {log.dataset} was written and cannot be read back")
    return version
