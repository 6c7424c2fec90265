"""Puts the tables of ``tests/strategies.py`` into a store, and reads answers back as plain Python. Checks nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine import Engine, QueryRequest, QueryResult
from engine.store.rewrite import Limits
from tests.reference import Column, Table

ROWS_PER_GROUP = 5  # so that statistics leave some groups out of some answers

_TYPES = {
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(),
    "USMALLINT": pa.uint16(),
    "UINTEGER": pa.uint32(),
    "UBIGINT": pa.uint64(),
    "FLOAT": pa.float32(),
    "DOUBLE": pa.float64(),
    "DECIMAL(10,2)": pa.decimal128(10, 2),
    "DECIMAL(38,0)": pa.decimal128(38, 0),
    "BOOLEAN": pa.bool_(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
    "TIMESTAMP_NS": pa.timestamp("ns"),
    "TIMESTAMP WITH TIME ZONE": pa.timestamp("us", "UTC"),
    "TIME": pa.time64("us"),
    "UUID": pa.uuid(),
    "BLOB": pa.binary(),
    "INTEGER[]": pa.list_(pa.int32()),
}


def to_arrow(table: Table) -> pa.Table:
    """The table as Arrow, with its columns in order."""
    arrays = [_array(column, [row[column.name] for row in table.rows]) for column in table.columns]
    return pa.Table.from_arrays(arrays, [column.name for column in table.columns])


def _array(column: Column, cells: list[Any]) -> pa.Array:
    arrow_type = _TYPES[column.sql_type]
    if column.sql_type != "UUID":
        return pa.array(cells, arrow_type)
    return pa.array([None if cell is None else cell.bytes for cell in cells], pa.binary(16)).cast(arrow_type)


def definition_of(table: Table, sort: Sequence[str] = ()) -> str:
    """A ``dataset.toml`` that gives each column its role, so that nothing is left to guess."""
    lines = [f"{name} = [{', '.join(map(toml_text, names))}]" for name, names in (("key", table.key), ("sort", sort))]
    for column in table.columns:
        lines += [f"[columns.{toml_text(column.name)}]", f'role = "{column.role}"']
        if column.direction is not None:
            lines.append(f'direction = "{column.direction}"')
    for one in table.derived:
        if one.kind == "size_label":
            continue  # it is inferred
        lines += [f"[derived.{one.column.name}]", f'kind = "{one.kind}"', f"from = {list(one.sources)}"]
        if one.kind == "product":
            lines.append(f"factor = {one.factor}")
        else:
            lines += [f"[derived.{one.column.name}.table]", *(f'"{text}" = {number!r}' for text, number in one.table)]
    for name, direction in table.directions:
        lines += [f"[metrics.{toml_text(name)}]", f'direction = "{direction}"']
    return "\n".join(lines) + "\n"


def toml_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


class Shelf:
    """A store and an engine on it; each table becomes a dataset of its own.

    With ``many_files`` it lies in several of them, every other one sorted by its last columns.
    """

    def __init__(self, folder: Path, *, many_files: bool = False) -> None:
        self.folder = folder
        self.definitions = folder / "definitions"
        self.definitions.mkdir(parents=True)
        (folder / "store").mkdir()
        self.engine = Engine.open(folder / "store", definitions=self.definitions)
        self._many_files = many_files
        if many_files:
            self.engine._publisher._limits = Limits(file_bytes=1, max_bytes=1, group_rows=ROWS_PER_GROUP)
        self._numbers = itertools.count()

    def put(self, table: Table) -> str:
        """Publish a table; the name of its dataset."""
        number = next(self._numbers)
        name = f"t{number}"
        sort = [column.name for column in reversed(table.columns)] if self._many_files and number % 2 else []
        (self.definitions / name).mkdir()
        (self.definitions / name / "dataset.toml").write_text(definition_of(table, sort), encoding="utf-8")
        path = self.folder / f"{name}.parquet"
        pq.write_table(to_arrow(table), path, row_group_size=ROWS_PER_GROUP)
        self.engine.publish(name, path)
        return name

    def ask(self, name: str, request: QueryRequest) -> QueryResult:
        """The answer to a request about that dataset."""
        return self.engine.run(self.engine.prepare(request.model_copy(update={"dataset": name})))


def rows_of(table: pa.Table) -> list[tuple[Any, ...]]:
    """The rows of an answer as Python values."""
    columns = [column.to_pylist() for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows
