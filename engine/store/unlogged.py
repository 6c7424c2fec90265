"""A dropped parquet file in a store that we may not write to: served as it lies there, its content hash as its name."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from engine.connection import Database
from engine.errors import DefinitionError, EngineError
from engine.store.catalogue import list_drops
from engine.store.definitions import check_toml
from engine.store.inspect import inspect_parquet
from engine.store.protocol import ObjectStat, Store
from engine.store.records import (
    DatasetState,
    FileEntry,
    Original,
    Reject,
    SchemaDiff,
    Source,
    Version,
    hash_schema,
)
from engine.store.staging import hash_file


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
        key = f"{dataset}/results.parquet"
        if key not in list_drops(self._store, dataset):
            return None
        found = self._store.stat(key)
        if found is None:
            return None
        with self._lock:
            known = self._known.get(dataset)
            if known is None or known[0] != found:
                known = self._known[dataset] = (found, self._read(dataset, found))
            return known[1]

    def _read(self, dataset: str, found: ObjectStat) -> DatasetState:
        at = datetime.fromtimestamp(found.modified_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        source = Source(found.key, found.etag, found.size, at)
        path = self._store.path(found.key)
        try:
            inspection = inspect_parquet(self._database, path)
            sha256 = hash_file(path)
        except (EngineError, OSError) as error:
            reason = error.detail if isinstance(error, EngineError) else f"it cannot be read: {error.strerror}"
            return DatasetState(dataset, rejects=(Reject(0, at, source, reason),))
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
