"""The tables of the seed's plan, with the indexes that this workload asks for, filled from the parquet files.

The seed's plan names no indexes exactly. These are what a careful administrator would make for these questions:

* rows lie in the order of the key, as after ``CLUSTER``: a metric's rows are neighbours;
* ``(metric, data, params, step)`` finds a metric, one or two curves of it, and the last step of each run;
* ``(data, params, metric)`` finds a recipe, and every metric of a recipe at some sizes;
* ``(step, ordinal)`` finds a page of the table sorted by step, with ties in the order of the file.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv

from benchmarks.peers.loading import ORDINAL, batches_in_order, schema_of, sorted_batches
from benchmarks.peers.sql import TABLES, quote

if TYPE_CHECKING:
    from psycopg import Connection, Cursor

LONG, WIDE = TABLES.values()
INDEXES = (
    f"CREATE UNIQUE INDEX ON {LONG} (metric, data, params, step)",
    f"CREATE INDEX ON {LONG} (data, params, metric)",
    f"CREATE INDEX ON {LONG} (step, {ORDINAL})",
    f"CREATE INDEX ON {WIDE} (params, data)",
)
_TYPES = {
    pa.string(): "text",
    pa.bool_(): "boolean",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.date32(): "date",
}


def fill(connection: Connection, files: Path, spill: Path) -> None:
    """Create, load, index and analyse all tables. ``connection`` commits by itself."""
    with connection.transaction(), connection.cursor() as cursor:
        # Created in the same transaction, so that no log is written of the rows.
        cursor.execute(_create(LONG, schema_of(files, "datadecide")))
        _copy_text(cursor, LONG, sorted_batches(files, spill))
        cursor.execute(_create(WIDE, schema_of(files, "ft-matched")))
        _copy_values(cursor, WIDE, batches_in_order(files, spill, "ft-matched"))
    for statement in INDEXES:
        connection.execute(statement)
    connection.execute("VACUUM (FREEZE, ANALYZE)")  # and the visibility that scans of indexes alone need
    connection.execute("CHECKPOINT")


def _create(table: str, schema: pa.Schema) -> str:
    columns = [f"{ORDINAL} bigint NOT NULL", *(f"{quote(column.name)} {type_of(column.type)}" for column in schema)]
    return f"CREATE TABLE {table} ({', '.join(columns)})"


def type_of(arrow: pa.DataType) -> str:
    """The type of a column here."""
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return f"{type_of(arrow.value_type)}[]"
    if pa.types.is_dictionary(arrow):
        return type_of(arrow.value_type)
    if pa.types.is_timestamp(arrow):
        return "timestamp with time zone" if arrow.tz else "timestamp"
    return _TYPES[arrow]


def _copy_text(cursor: Cursor, table: str, batches: Iterable[pa.RecordBatch]) -> None:
    options = pyarrow.csv.WriteOptions(include_header=False)
    names: list[str] | None = None
    for batch in batches:
        names = names or batch.schema.names
        text = io.BytesIO()
        pyarrow.csv.write_csv(batch, text, options)
        with cursor.copy(f"COPY {table} ({_listed(names)}) FROM STDIN (FORMAT csv)") as copy:
            copy.write(text.getbuffer())


def _copy_values(cursor: Cursor, table: str, batches: Iterable[pa.RecordBatch]) -> None:
    """By value, for what CSV cannot say: lists."""
    for batch in batches:
        with cursor.copy(f"COPY {table} ({_listed(batch.schema.names)}) FROM STDIN") as copy:
            for row in _rows(batch):
                copy.write_row(row)


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    return zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))
