"""Making a version of a file: stage, check, and only then let the log name it. Decides nothing about when.

The order of the last steps is what keeps a crash harmless: the blob is on the disk before a record names it, and the
record is the one thing that makes a version exist.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.connection import Database
from engine.errors import CorruptVersionError, DefinitionError, EngineError, PublishConflictError, StoreError
from engine.store.catalogue import DatasetLogs
from engine.store.convert import convert_to_parquet, detect_format
from engine.store.definitions import check_toml
from engine.store.inspect import Inspection, inspect_parquet
from engine.store.keys import check_dataset_name, new_blob_key
from engine.store.log import DatasetLog, clean_text
from engine.store.protocol import Progress, Staged, Store
from engine.store.records import (
    Body,
    FileEntry,
    Original,
    Publish,
    Record,
    Rejection,
    SchemaDiff,
    Seen,
    SetCurrent,
    Source,
    content_id_of,
    diff_schemas,
    hash_schema,
)
from engine.store.staging import copy_and_hash, hash_file
from engine.store.state import DatasetState, KnownDrop, Version
from engine.store.verify import verify_blob

SCHEMA_POLICIES = ("warn", "block-breaking")


@dataclass(frozen=True, slots=True)
class PublishOutcome:
    """The version that holds the content now; ``created`` is False when it was there before."""

    version: Version
    created: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A checked file on its way to become a version."""

    staged: Staged  # the parquet
    original: Original
    inspection: Inspection
    definition: str | None
    source: Source | None


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
    """

    def __init__(
        self,
        store: Store,
        database: Database,
        definition_of: Callable[[str], str | None],
        schema_policy: str = "warn",
        *,
        logs: DatasetLogs | None = None,
    ) -> None:
        if schema_policy not in SCHEMA_POLICIES:
            raise ValueError(f"schema_policy must be one of {', '.join(SCHEMA_POLICIES)}, not {schema_policy!r}")
        self.logs = logs or DatasetLogs(store)
        self._store = store
        self._database = database
        self.definition_of = definition_of
        self._schema_policy = schema_policy

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

        Raises
        ------
        InvalidNameError, RejectedFileError, PublishConflictError, StoreError, CorruptVersionError
        """
        path = Path(path)
        shown = clean_text(name or path.name)
        with self._scratch(dataset) as new_file:
            staged = copy_and_hash(path, new_file(), name=shown, progress=progress)
            return self._publish(dataset, staged, shown, source, message, by, progress, new_file)

    def publish_drop(self, dataset: str, source: Source, *, by: str = "drop", message: str = "") -> PublishOutcome:
        """Publish a dropped object as it is under its etag; see ``publish``.

        An object with the same bytes as the last good one under its key is the same drop again (touched, or copied to
        another disk): the log notes it, and nothing is published, even after a rollback.
        """
        shown = source.key.rpartition("/")[2]
        with self._scratch(dataset) as new_file:
            staged = self._store.fetch(source.key, source.etag, new_file())
            return self._publish(dataset, staged, shown, source, message, by, None, new_file)

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
            )

        record = log.append(write, by=by, message=message)
        if record is None:
            return PublishOutcome(log.state.resolve("latest"), created=False)
        return PublishOutcome(_published(log, record), created=True)

    def set_current(self, dataset: str, version_spec: str | int, *, by: str = "", message: str = "") -> Version:
        """Make an existing version the one that readers follow; nothing is written when it already is.

        Raises
        ------
        VersionNotFoundError, StoreError
        """
        log = self.logs.of(dataset)
        target = log.refresh().resolve(version_spec)

        def write(state: DatasetState) -> Body | None:
            return None if state.current == target else SetCurrent(target.number)

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
    ) -> PublishOutcome:
        log = self.logs.of(dataset)
        state = log.refresh()
        definition, warnings = self._definition(dataset, state)
        original = Original(staged.sha256, staged.size, name, detect_format(staged.path, name))
        if original.format != "parquet":
            into = new_file()
            convert_to_parquet(
                self._database, staged.path, into, file_format=original.format, name=name, progress=progress
            )
            staged = Staged(into, into.stat().st_size, hash_file(into))
        inspection = inspect_parquet(self._database, staged.path, name=name, progress=progress)
        attempt = _Attempt(
            self._store, dataset, self._schema_policy, _Candidate(staged, original, inspection, definition, source)
        )
        record = log.append(attempt.write, by=by, message=message)
        if record is not None and isinstance(record.body, Publish):
            version = _published(log, record)
            return PublishOutcome(version, created=True, warnings=(*warnings, *version.diff.describe()))
        attempt.discard()
        if attempt.existing is None:
            raise StoreError(f"nothing was published to {dataset}")  # not reached: no record means that one exists
        return PublishOutcome(attempt.existing, created=False, warnings=warnings)

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


class _Attempt:
    """What to record for one candidate, given the newest state of the log; asked again when another was first."""

    def __init__(self, store: Store, dataset: str, schema_policy: str, candidate: _Candidate) -> None:
        self.existing: Version | None = None
        self._store = store
        self._dataset = dataset
        self._schema_policy = schema_policy
        self._candidate = candidate
        self._content_id = content_id_of([candidate.staged.sha256])
        self._stored: FileEntry | None = None

    def write(self, state: DatasetState) -> Body | None:
        candidate, source = self._candidate, self._candidate.source
        if source is not None and (known := self._known(state, source)):
            self.existing = known
            return None
        self.existing = self._existing(state)
        # A current version that lies damaged, and cannot be mended, is no reason to refuse the bytes that it needs.
        if self.existing is not None and (self._restore(self.existing) or self.existing != state.current):
            return None if source is None else Seen(source, self.existing.number)
        parent = state.current
        schema = candidate.inspection.schema
        diff = diff_schemas(parent.schema, schema) if parent else SchemaDiff()
        if diff.is_breaking and self._schema_policy == "block-breaking":
            changes = "; ".join(diff.describe())
            raise PublishConflictError(f"this file would break queries on {self._dataset}: {changes}")
        return Publish(
            self._files(state),
            schema,
            hash_schema(schema),
            diff,
            candidate.original,
            source=source,
            parent=parent.number if parent else None,
            definition=candidate.definition,
        )

    def discard(self) -> None:
        """Remove the blob that turned out not to be needed. No record was ever stored that names it."""
        if self._stored is not None:
            with suppress(EngineError):  # an orphan does no harm
                self._store.delete(self._stored.key)

    def _known(self, state: DatasetState, source: Source) -> Version | None:
        known: KnownDrop | None = state.known_drop(source)
        return state.number(known.version) if known and known.version else None

    def _existing(self, state: DatasetState) -> Version | None:
        """The version that makes publishing this candidate needless."""
        candidate = self._candidate
        if candidate.source is not None:
            last = state.last_drop(candidate.source.key)
            if last is not None and last.original.sha256 == candidate.original.sha256:
                return last
        current = state.current
        if current is not None and current.definition == candidate.definition and self._holds(current):
            return current
        return None

    def _holds(self, version: Version) -> bool:
        """Whether a version has this content, or was made of the very same bytes."""
        given, made = self._candidate.original, version.original
        return version.content_id == self._content_id or ((given.sha256, given.format) == (made.sha256, made.format))

    def _files(self, state: DatasetState) -> tuple[FileEntry, ...]:
        """The stored files: those of an older version with this content, or a new blob."""
        for version in state.versions:
            if version.content_id == self._content_id and self._is_sound(version):
                return version.files
        if self._stored is None:
            staged, inspection = self._candidate.staged, self._candidate.inspection
            entry = FileEntry(
                new_blob_key(self._dataset, staged.sha256),
                staged.size,
                staged.sha256,
                None,
                inspection.rows,
                inspection.row_groups,
            )
            if not self._store.put_if_absent(entry.key, staged.path):
                raise StoreError(f"{entry.key} exists already; publish again")  # 32 random bits within one second
            self._stored = entry
        return (self._stored,)

    def _is_sound(self, version: Version) -> bool:
        try:
            for file in version.files:
                verify_blob(self._store, file)
        except CorruptVersionError:
            return False
        return True

    def _restore(self, version: Version) -> bool:
        """Put back a blob that was deleted behind our back, now that its exact bytes are at hand again.

        Returns whether all of the version's files are as they should be.
        """
        for file in version.files:
            if file.sha256 == self._candidate.staged.sha256 and self._store.stat(file.key) is None:
                self._store.put_if_absent(file.key, self._candidate.staged.path)
        return self._is_sound(version)


def _published(log: DatasetLog, record: Record) -> Version:
    version = log.state.number(record.seq)
    if version is None:
        raise StoreError(f"record {record.seq} of {log.dataset} was written and cannot be read back")
    return version
