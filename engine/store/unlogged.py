"""A dropped parquet file in a store that we may not write to: served as it lies there, its content hash as its name.

One in a bucket is downloaded once, to learn what is in it, and again when its etag is another.
"""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import cast

from engine.connection import Database
from engine.errors import DefinitionError, RejectedFileError, StoreError
from engine.store.definitions import check_toml
from engine.store.inspect import inspect_parquet
from engine.store.keys import is_drop
from engine.store.protocol import ObjectStat, Store
from engine.store.records import FileEntry, Original, SchemaDiff, SchemaField, Source, hash_schema, utc_text
from engine.store.staging import UnsettledFileError, hash_blocks, hash_file
from engine.store.state import DatasetState, Reject, Version
from engine.store.verify import FolderStore


class UnloggedDrops:
    """The fallback of a DatasetLog for a read-only store. Only parquet: a converted file would need a place to be.

    The file is not ours, so it may be overwritten under a reader; ``verify_blob`` notices that when it is next opened.
    """

    def __init__(self, store: Store, database: Database, definition_of: Callable[[str], str | None]) -> None:
        self._store = store
        self._database = database
        self._definition_of = definition_of
        self._known: dict[str, tuple[ObjectStat, DatasetState]] = {}
        self._lock = threading.Lock()

    def __call__(self, dataset: str) -> DatasetState | None:
        if not self._store.read_only:
            return None
        drops = {stat.key: stat for stat in self._store.list_stats(f"{dataset}/") if is_drop(stat.key)}
        found = drops.get(f"{dataset}/results.parquet") or next(iter(drops.values()), None)
        if found is None:
            return None
        with self._lock:
            known = self._known.get(dataset)
        if known is None or known[0] != found:
            known = (found, self._read(dataset, found))
            with self._lock:
                self._known[dataset] = known
        return known[1]

    def _read(self, dataset: str, found: ObjectStat) -> DatasetState:
        """What the file is. Raises EngineError when that cannot be found out now; a later call tries again."""
        at = utc_text(found.modified_at)
        source = Source(found.key, found.etag, found.size, at)
        try:
            entry, schema = self._examine_copy(dataset, found) if self._store.is_remote else self._examine(found)
        except UnsettledFileError as error:
            raise StoreError(error.detail) from error
        except RejectedFileError as error:
            return DatasetState(dataset, rejects=(Reject(0, at, source, error.detail),))
        except OSError as error:
            raise StoreError(f"{found.key} cannot be read: {error.strerror}") from error
        version = Version(
            dataset=dataset,
            number=0,
            at=at,
            by="drop",
            message="",
            files=(entry,),
            schema=schema,
            schema_hash=hash_schema(schema),
            diff=SchemaDiff(),
            original=Original(entry.sha256, found.size, "results.parquet", "parquet"),
            source=source,
            definition=self._definition(dataset),
        )
        return DatasetState(dataset, versions=(version,), current=version)

    def _examine(self, found: ObjectStat) -> tuple[FileEntry, tuple[SchemaField, ...]]:
        """Look at a file where it lies."""
        path = cast("FolderStore", self._store).path(found.key)
        _require_servable(path)
        inspection = inspect_parquet(self._database, path)
        sha256 = hash_file(path)
        if self._store.stat(found.key) != found:
            raise StoreError(f"{found.key} changed while it was being read")
        entry = FileEntry(found.key, found.size, sha256, None, inspection.rows, inspection.row_groups)
        return entry, inspection.schema

    def _examine_copy(self, dataset: str, found: ObjectStat) -> tuple[FileEntry, tuple[SchemaField, ...]]:
        """Look at an object that is elsewhere. Its etag holds readers to the bytes that were looked at."""
        name = found.key.rpartition("/")[2]
        _require_parquet(name)
        copy = self._store.staging(dataset) / f"{secrets.token_hex(8)}.new"
        try:
            staged = self._store.fetch(found.key, found.etag, copy)
            inspection = inspect_parquet(self._database, copy, name=name)
            blocks = hash_blocks(copy)
        finally:
            copy.unlink(missing_ok=True)
        entry = FileEntry(
            found.key, staged.size, staged.sha256, found.etag, inspection.rows, inspection.row_groups, blocks
        )
        return entry, inspection.schema

    def _definition(self, dataset: str) -> str | None:
        try:
            text = self._definition_of(dataset)
            check_toml(dataset, text)
        except DefinitionError:
            return None
        return text


def _require_servable(path: Path) -> None:
    """Raises RejectedFileError for what a writable store would convert or copy, and OSError when it is gone."""
    _require_parquet(path.name)
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise RejectedFileError(f"{path.name} is not a regular file, and nothing else is served from a read-only store")


def _require_parquet(name: str) -> None:
    if not name.endswith(".parquet"):
        raise RejectedFileError(f"{name} would have to be converted, and this store is read-only; drop parquet")
