"""What to record for one publish, given the newest state of the log; and putting its files into the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

from engine.errors import CorruptVersionError, EngineError, PreconditionFailedError, PublishConflictError, StoreError
from engine.store.keys import new_blob_key, new_meta_key
from engine.store.layout import sort_columns
from engine.store.prepare import Preparation
from engine.store.protocol import Staged, Store
from engine.store.records import (
    Body,
    FileEntry,
    Publish,
    SchemaDiff,
    SchemaField,
    Seen,
    diff_schemas,
    hash_schema,
)
from engine.store.staging import hash_blocks
from engine.store.state import DatasetState, Version
from engine.store.verify import FolderStore, verify_blob

UPLOADS = 3  # files of one version that are sent at once
_KEYS_TRIED = 3


def check_latest(state: DatasetState, expected: str | int | None) -> None:
    """See that latest is still what somebody saw before.

    Parameters
    ----------
    expected
        ``7``, ``"7"``, ``"v7"``, eight or more digits of a content id, or ``"none"``; None expects nothing.

    Raises
    ------
    PreconditionFailedError
    """
    if expected is not None and not _is_version(state.current, expected):
        now = state.current.name if state.current else "nothing"
        raise PreconditionFailedError(f"latest of {state.dataset} is {now}, and {expected!s} was expected")


def _is_version(version: Version | None, expected: str | int) -> bool:
    text = f"v{expected}" if isinstance(expected, int) else expected.strip().lower()
    if version is None or text == "none":
        return version is None and text == "none"
    if text.removeprefix("v").isdecimal() and len(text) < 8:
        return version.number > 0 and text.removeprefix("v") == str(version.number)
    return len(text) >= 8 and version.content_id.startswith(text)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a publish comes to.

    ``existing`` makes it needless, once ``must_mend`` files of it are put back; else ``reuse`` has all the files
    already; else they are those of the preparation.
    """

    schema: tuple[SchemaField, ...]
    diff: SchemaDiff
    existing: Version | None = None
    must_mend: bool = False
    reuse: Version | None = None


class Attempt:
    """One publish. ``write`` is asked again each time that another writer was first."""

    def __init__(
        self, store: Store, prepared: Preparation, schema_policy: str, if_latest: str | int | None = None
    ) -> None:
        self.existing: Version | None = None
        self._store = store
        self._prepared = prepared
        self._given = prepared.given
        self._schema_policy = schema_policy
        self._if_latest = if_latest
        self._stored: dict[str, FileEntry] = {}

    def decide(self, state: DatasetState) -> Decision:
        """Stores nothing; takes as long as it takes to prepare the files, when they are needed.

        Raises
        ------
        PreconditionFailedError, PublishConflictError, RejectedFileError, StoreError
        """
        existing, current = self._existing(state), state.current
        self._check_latest(state, existing)
        if existing is not None and (existing != current or self._is_sound(existing)):
            return Decision(existing.schema, SchemaDiff(), existing)
        reuse = self._reusable(state) if existing is None else None
        schema = reuse.schema if reuse is not None else self._prepared.inspection.schema
        diff = diff_schemas(current.schema, schema) if current else SchemaDiff()
        if existing is None:
            self._check_policy(diff)  # before the work of the layout: what breaks something is not what is current
            if reuse is None and self._has_definition_of(current) and self._holds(current):
                existing = current
        must_mend = existing is not None and not self._is_sound(existing)
        return Decision(schema, diff, existing, must_mend, reuse)

    def write(self, state: DatasetState) -> Body | None:
        given = self._given
        if given.source is not None and (known := state.known_drop(given.source)) and known.version:
            self.existing = state.number(known.version)
            return None
        decision = self.decide(state)
        existing = decision.existing
        if existing is not None and (not decision.must_mend or self._mend(existing)):
            self.existing = existing
            return None if given.source is None else Seen(given.source, existing.number)
        # A current version that lies damaged, and cannot be mended, is no reason to refuse the bytes that it needs.
        self.existing = None
        if decision.reuse is not None:
            version = decision.reuse
            files, facts = version.files, version.facts
            sorted_by, place = version.sorted_by, version.place
        else:
            files, facts = self._store_files(state)
            sorted_by, place = self._prepared.layout.sorted_by, self._prepared.layout.place
        return Publish(
            files,
            decision.schema,
            hash_schema(decision.schema),
            decision.diff,
            given.original,
            source=given.source,
            parent=state.current.number if state.current else None,
            definition=given.definition,
            sorted_by=sorted_by,
            place=place,
            facts=facts,
        )

    def discard(self, state: DatasetState) -> None:
        """Remove the blobs that turned out not to be needed: those that no record of the newest state names."""
        named = {file.key for version in state.versions for file in version.all_files}
        for entry in self._stored.values():
            if entry.key in named:
                continue
            with suppress(EngineError):  # an orphan does no harm
                self._store.delete(entry.key)

    def _existing(self, state: DatasetState) -> Version | None:
        """The version that makes publishing these very bytes needless."""
        given, current = self._given, state.current
        if given.source is not None:
            last = state.last_drop(given.source.key)
            if last is not None and last.original.sha256 == given.original.sha256 and not state.is_expired(last.number):
                return last
        return current if self._has_definition_of(current) and self._is_made_of(current) else None

    def _has_definition_of(self, version: Version | None) -> bool:
        return version is not None and version.definition == self._given.definition

    def _is_made_of(self, version: Version | None) -> bool:
        given = self._given.original
        return version is not None and (version.original.sha256, version.original.format) == (
            given.sha256,
            given.format,
        )

    def _holds(self, version: Version | None) -> bool:
        """Whether a version has this content, its rows in this order."""
        return version is not None and version.content_id == self._prepared.files.content_id

    def _reusable(self, state: DatasetState) -> Version | None:
        """A version of these very bytes whose files are as they would be made again."""
        for version in reversed(state.live):
            if (
                self._is_made_of(version)
                and version.facts is not None
                and version.sorted_by == sort_columns(self._given.definition, version.schema)
                and self._is_sound(version)
            ):
                return version
        return None

    def _check_latest(self, state: DatasetState, existing: Version | None) -> None:
        try:
            check_latest(state, self._if_latest)
        except PreconditionFailedError:
            # What was asked for is there, made upon what was expected: the same request again, its answer lost.
            if existing is None or existing != state.current or self._if_latest is None:
                raise
            parent = state.number(existing.parent) if existing.parent else None
            if not _is_version(parent, self._if_latest):
                raise

    def _check_policy(self, diff: SchemaDiff) -> None:
        if diff.is_breaking and self._schema_policy == "block-breaking":
            changes = "; ".join(diff.describe())
            raise PublishConflictError(f"this file would break queries on {self._given.dataset}: {changes}")

    def _store_files(self, state: DatasetState) -> tuple[tuple[FileEntry, ...], FileEntry]:
        """The entries of all files. Those that a version has already are not stored again."""
        files, dataset = self._prepared.files, self._given.dataset
        data = {file.sha256: file for version in state.live for file in version.files}
        meta = {version.facts.sha256: version.facts for version in state.live if version.facts}
        puts: list[Callable[[], FileEntry]] = []
        for file in files.layout.files:
            put = partial(self._put, file.staged, partial(new_blob_key, dataset, file.staged.sha256))
            puts.append(partial(self._entry, data, file.staged.sha256, put, file.rows, file.row_groups))
        put = partial(self._put, files.facts, partial(new_meta_key, dataset, files.facts.sha256, "json"))
        puts.append(partial(self._entry, meta, files.facts.sha256, put, 0, 0))
        entries = self._run(puts)
        return tuple(entries[:-1]), entries[-1]

    def _run(self, puts: Iterable[Callable[[], FileEntry]]) -> list[FileEntry]:
        if not self._store.is_remote:
            return [put() for put in puts]
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="publish") as pool:
            return list(pool.map(lambda put: put(), puts))

    def _entry(
        self,
        known: dict[str, FileEntry],
        sha256: str,
        put: Callable[[], FileEntry],
        rows: int,
        row_groups: int,
    ) -> FileEntry:
        if sha256 in self._stored:
            return self._stored[sha256]
        if sha256 in known and self._is_whole(known[sha256]):
            return known[sha256]
        entry = put()
        entry = replace(entry, rows=rows, row_groups=row_groups)
        self._stored[sha256] = entry
        return entry

    def _put(self, staged: Staged, new_key: Callable[[], str]) -> FileEntry:
        for _ in range(_KEYS_TRIED):
            key = new_key()
            # A client that tried twice is told that its own first try was in the way.
            if self._store.put_if_absent(key, staged.path) or self._is_there(key, staged):
                found = self._store.stat(key) if self._store.is_remote else None
                etag = found.etag if found else None
                return FileEntry(key, staged.size, staged.sha256, etag, 0, 0, hash_blocks(staged.path))
        raise StoreError(f"the store says of {_KEYS_TRIED} names never used before that they are taken")

    def _is_there(self, key: str, staged: Staged) -> bool:
        found = self._store.stat(key)
        if found is None or found.size != staged.size:
            return False
        return self._store.fetch(key, found.etag, self._prepared.new_file()).sha256 == staged.sha256

    def _is_sound(self, version: Version) -> bool:
        return all(map(self._is_whole, version.all_files))

    def _is_whole(self, entry: FileEntry) -> bool:
        """Whether a file is as its record says; of one elsewhere, whether it looks so."""
        if self._store.is_remote:
            found = self._store.stat(entry.key)
            return found is not None and found.size == entry.size and entry.etag in (None, found.etag)
        try:
            verify_blob(cast("FolderStore", self._store), entry)
        except CorruptVersionError:
            return False
        return True

    def _mend(self, version: Version) -> bool:
        """Put back files that were deleted behind our back, now that their exact bytes are at hand again.

        Returns whether all of the version's files are as they should be.
        """
        prepared = self._prepared
        at_hand = {prepared.parquet.sha256: prepared.parquet, prepared.given.staged.sha256: prepared.given.staged}
        missing = [entry for entry in version.all_files if self._store.stat(entry.key) is None]
        if any(entry.sha256 not in at_hand for entry in missing):
            files = prepared.files
            laid_out = (*(file.staged for file in files.layout.files), files.facts)
            at_hand |= {staged.sha256: staged for staged in laid_out}
        for entry in missing:
            if entry.sha256 in at_hand:
                self._store.put_if_absent(entry.key, at_hand[entry.sha256].path)
        return self._is_sound(version)
