"""What is known of the values in a version's files, so that a reader need not look: found at publish, read back later.

Every number here is exact, or absent. Damaged or misunderstood facts would leave rows out of answers, so a reader takes
them from a blob whose hash the log has.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from engine.errors import CorruptVersionError, StoreError
from engine.store.protocol import Progress
from engine.store.records import SchemaField, canonical_json
from engine.store.rows import batches_of, frugal_memory, open_parquet

_LOGGER = logging.getLogger(__name__)

FORMAT = 1
MAX_TEXT = 200  # characters: a longer least or greatest text is left out
MAX_GROUP_COLUMNS = 200  # columns that each row group is described by
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_RANGED = (*_INTEGERS, "DOUBLE", "VARCHAR", "BOOLEAN")

Scalar = int | float | str | bool


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column of a file or row group: its nulls, and its least and greatest value, where those are known."""

    nulls: int
    min: int | float | str | bool | None = None
    max: int | float | str | bool | None = None

    @property
    def has_range(self) -> bool:
        return self.min is not None and self.max is not None


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """One row group. A column that is not listed is not known."""

    rows: int
    columns: Mapping[str, ColumnFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """One file, and its row groups in order."""

    rows: int
    columns: Mapping[str, ColumnFacts] = field(default_factory=dict)
    row_groups: tuple[GroupFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """The columns that identify a row, as found for a declared key and these candidates."""

    declared: tuple[str, ...]
    candidates: tuple[str, ...]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of a version. ``values`` has the distinct values of columns; None for one with too many."""

    files: tuple[FileFacts, ...]
    values: Mapping[str, tuple[Scalar, ...] | None] = field(default_factory=dict)
    keys: tuple[KeyFacts, ...] = ()


_ADAPTER = TypeAdapter(Facts)


def parse_facts(data: bytes) -> Facts:
    """The facts in a blob; fields that are not known are passed over.

    Raises
    ------
    CorruptVersionError
        It is no such blob, or one of a later format.
    """
    try:
        content = json.loads(data)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise CorruptVersionError(f"the facts of a version are not of format {FORMAT}, the one this release reads")
        # Strict: "1" is not 1, and true is neither. JSON text, where strict typing still takes a list for a tuple.
        return _ADAPTER.validate_json(canonical_json(content), strict=True)
    except (ValueError, RecursionError, ValidationError) as error:
        raise CorruptVersionError("the facts of a version are damaged") from error


def encode_facts(files: Sequence[FileFacts], found: Mapping[str, Any] | None = None) -> bytes:
    """The bytes of a facts blob. ``found`` has ``values`` and ``keys``, as JSON has them."""
    return canonical_json({"format": FORMAT, "files": [_file(one) for one in files], **(found or {})}) + b"\n"


def facts_of_file(
    path: Path,
    rows: int,
    schema: Sequence[SchemaField],
    first: Sequence[str] = (),
    progress: Progress | None = None,
) -> FileFacts:
    """Look at every value of a parquet file once. Of a file that Arrow cannot read, only the rows are known.

    Parameters
    ----------
    schema
        The columns by DuckDB's names and types.
    first
        Columns whose row groups are described before those of others.
    """
    names = [*first, *(column.name for column in schema if column.name not in first)]
    try:
        with frugal_memory(), open_parquet(path) as file:
            if len(file.schema_arrow) - len(schema) not in (0, 1):  # behind them may come the place of each row
                return FileFacts(rows)
            return _look(file, schema, frozenset(names[:MAX_GROUP_COLUMNS]), progress)
    except (pa.ArrowException, NotImplementedError, ValueError) as error:
        _LOGGER.info("nothing is known of the values of a file: %s", error)
    except OSError as error:
        if error.errno is not None:
            raise StoreError(f"a file of the version cannot be read: {os.strerror(error.errno)}") from error
        _LOGGER.info("nothing is known of the values of a file: %s", error)
    return FileFacts(rows)


def _look(
    file: pq.ParquetFile, schema: Sequence[SchemaField], described: Container[str], progress: Progress | None
) -> FileFacts:
    rows: int = file.metadata.num_rows
    whole = [_Column(column.type) for column in schema]
    groups, done = [], 0
    for number in range(file.metadata.num_row_groups):
        found = [_Column(column.type) for column in schema]
        for batch in batches_of(file, row_groups=[number]):
            for column, values in zip(found, batch.columns[: len(schema)], strict=True):
                column.add(values)
            done += batch.num_rows
            if progress is not None:
                progress("describe", done, rows)
        for column, part in zip(whole, found, strict=True):
            column.take_in(part)
        groups.append(GroupFacts(file.metadata.row_group(number).num_rows, _named(schema, found, described)))
    return FileFacts(rows, _named(schema, whole), tuple(groups))


def _named(
    schema: Sequence[SchemaField], columns: Sequence[_Column], names: Container[str] | None = None
) -> dict[str, ColumnFacts]:
    found = zip(schema, columns, strict=True)
    return {field.name: column.facts() for field, column in found if names is None or field.name in names}


class _Column:
    """What was seen of one column so far."""

    def __init__(self, sql_type: str) -> None:
        self._sql_type = sql_type
        self._is_known = sql_type in _RANGED
        self._nulls = 0
        self._ends: tuple[Any, Any] | None = None

    def add(self, values: pa.Array) -> None:
        self._nulls += values.null_count
        if not self._is_known or values.null_count == len(values):
            return
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        # A query sees NaN as greater than all numbers, and min_max passes over it.
        if not _is_plain(values.type, self._sql_type) or (
            self._sql_type == "DOUBLE" and pc.any(pc.is_nan(values)).as_py()
        ):
            self._is_known = False
            return
        ends = pc.min_max(values).as_py()
        self._widen((ends["min"], ends["max"]))

    def take_in(self, part: _Column) -> None:
        """Take in what was seen of other rows."""
        self._nulls += part._nulls
        self._is_known = self._is_known and part._is_known
        if part._ends is not None:
            self._widen(part._ends)

    def facts(self) -> ColumnFacts:
        if not self._is_known or self._ends is None or not all(map(_can_be_told, self._ends)):
            return ColumnFacts(self._nulls)
        return ColumnFacts(self._nulls, *self._ends)

    def _widen(self, ends: tuple[Any, Any]) -> None:
        known = self._ends or ends
        self._ends = (min(known[0], ends[0]), max(known[1], ends[1]))


def _is_plain(kind: pa.DataType, sql_type: str) -> bool:
    """Whether Arrow and DuckDB order the values of a column alike."""
    if sql_type == "VARCHAR":
        return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
    if sql_type == "BOOLEAN":
        return bool(pa.types.is_boolean(kind))
    if sql_type == "DOUBLE":
        return bool(pa.types.is_float64(kind))
    return bool(pa.types.is_integer(kind))


def _can_be_told(value: Scalar) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_TEXT
    return not isinstance(value, float) or math.isfinite(value)


def _file(facts: FileFacts) -> dict[str, Any]:
    return {**_group(facts), "row_groups": [_group(group) for group in facts.row_groups]}


def _group(facts: FileFacts | GroupFacts) -> dict[str, Any]:
    return {"rows": facts.rows, "columns": {name: _column(one) for name, one in facts.columns.items()}}


def _column(facts: ColumnFacts) -> dict[str, Any]:
    return {"nulls": facts.nulls, **({"min": facts.min, "max": facts.max} if facts.has_range else {})}
