"""Opening a version: its files checked, a relation over them, and the schema that plans are made against."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.connection import Database, quoted
from engine.definition import DatasetDefinition, parse_definition
from engine.profile import Profile
from engine.schemas import build_schema, guess_columns
from engine.store import Store, Version, verify_blob
from queries.schema import Schema

MAX_OPEN = 256  # versions whose profile is kept; beyond it the one used longest ago is opened anew when needed


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable version, opened. ``relation`` is its name in SQL."""

    version: Version
    definition: DatasetDefinition
    schema: Schema
    relation: str

    @property
    def dataset(self) -> str:
        return self.version.dataset

    @property
    def content_id(self) -> str:
        return self.version.content_id


class OpenVersions:
    """The versions that this process has opened, each once."""

    def __init__(self, store: Store, database: Database) -> None:
        self._store = store
        self._database = database
        self._open: OrderedDict[tuple[str, int, str, str | None], DatasetVersion] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, version: Version) -> DatasetVersion:
        """The version with its files checked: their sizes now, their hashes when they are new to this process.

        Raises
        ------
        CorruptVersionError
            A file is missing or is not what the record says.
        """
        paths = tuple(verify_blob(self._store, file) for file in version.files)
        # Without a log, a version has no number, and its definition may change.
        key = (version.dataset, version.number, version.content_id, version.definition)
        with self._lock:
            opened = self._open.get(key)
            if opened is not None:
                self._open.move_to_end(key)
                return opened
        opened = self._opened(version, paths)
        with self._lock:
            opened = self._open.setdefault(key, opened)
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened

    def _opened(self, version: Version, paths: Sequence[Path]) -> DatasetVersion:
        definition = parse_definition(version.definition)
        columns = guess_columns(version.schema, definition)
        bare = Schema(version.dataset, columns)
        # With the number: a version of the same content may have another definition, and so another ordinal.
        relation = f"{version.dataset}@{version.number}-{version.content_id[:16]}"
        self._make_relation(relation, bare.ordinal, tuple(paths), [column.name for column in columns])
        key = [name for name in definition.key if name in bare.by_name]
        profile = Profile(self._database, relation, columns, version.rows, key)
        schema = build_schema(version.dataset, definition, columns, profile)
        if schema.ordinal != bare.ordinal:  # a derived column took the name
            self._make_relation(relation, schema.ordinal, tuple(paths), [column.name for column in columns])
        return DatasetVersion(version, definition, schema, relation)

    def _make_relation(self, relation: str, ordinal: str, paths: tuple[Path, ...], names: Sequence[str]) -> None:
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        source = f"read_parquet([{listed}], hive_partitioning = false)"
        if len(paths) > 1 or "file_row_number" in {name.casefold() for name in names}:
            # DuckDB's number begins anew in each file, and a column of that name in the file hides it.
            number = "row_number() OVER () - 1"
        else:
            number = "file_row_number"
        columns = ", ".join([*map(quoted, names), f"{number} AS {quoted(ordinal)}"])
        self._database.define(relation, f"SELECT {columns} FROM {source}")
