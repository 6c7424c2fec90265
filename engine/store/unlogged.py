"""A dropped parquet file in a store that we may not write to: served as it lies there, its content hash as its name."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

from engine.connection import Database
from engine.errors import DefinitionError, RejectedFileError, StoreError
from engine.store.catalogue import list_drops
from engine.store.definitions import check_toml
from engine.store.inspect import inspect_parquet
from engine.store.protocol import ObjectStat, Store
from engine.store.records import FileEntry, Original, SchemaDiff, Source, hash_schema, utc_text
from engine.store.staging import hash_file
from engine.store.state import DatasetState, Reject, Version


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
        drops = list_drops(self._store, dataset)
        key = f"{dataset}/results.parquet"
        key = key if key in drops else next((drop for drop in drops if not drop.endswith("/")), "")
        found = self._store.stat(key) if key else None
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
        path = self._store.path(found.key)
        try:
            _require_servable(path)
            inspection = inspect_parquet(self._database, path)
            sha256 = hash_file(path)
        except RejectedFileError as error:
            return DatasetState(dataset, rejects=(Reject(0, at, source, error.detail),))
        except OSError as error:
            raise StoreError(f"{found.key} cannot be read: {error.strerror}") from error
        if self._store.stat(found.key) != found:
            raise StoreError(f"{found.key} changed while it was being read")
        entry = FileEntry(found.key, found.size, sha256, None, inspection.rows, inspection.row_groups)
        version = Version(
            dataset=dataset,
            number=0,
            at=at,
            by="drop",
            message="",
            files=(entry,),
            schema=inspection.schema,
            schema_hash=hash_schema(inspection.schema),
            diff=SchemaDiff(),
            original=Original(sha256, found.size, "results.parquet", "parquet"),
            source=source,
            definition=self._definition(dataset),
        )
        return DatasetState(dataset, versions=(version,), current=version)

    def _definition(self, dataset: str) -> str | None:
        try:
            text = self._definition_of(dataset)
            check_toml(dataset, text)
        except DefinitionError:
            return None
        return text


def _require_servable(path: Path) -> None:
    """Raises RejectedFileError for what a writable store would convert or copy, and OSError when it is gone."""
    if path.suffix != ".parquet":
        raise RejectedFileError(f"{path.name} would have to be converted, and this store is read-only; drop parquet")
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise RejectedFileError(f"{path.name} is not a regular file, and nothing else is served from a read-only store")
