"""How the rows of a version lie in its files: sorted, and in files of bounded size.

No value changes. What cannot be rewritten exactly, or comes out different in any way, is stored as it was given.
"""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.connection import Database, quoted
from engine.definition import parse_definition
from engine.store.inspect import PARQUET, SCAN_TIMEOUT_S, Inspection, describe_parquet
from engine.store.order import MAX_TEXTS, IntegerKey, Key, TextKey, fits, places_in_order
from engine.store.protocol import Progress, Staged
from engine.store.records import SchemaField
from engine.store.rewrite import FileWriter, StagedFile, UnkeptError, translated, write_rows
from engine.store.rows import Limits, Source, frugal_memory, open_parquet
from engine.store.shuffle import shuffled, write_inverse
from queries.schema import parse_size_label

MAX_GROUP_ROWS = 1 << 20  # what pyarrow and pandas write by default; a filter reads 4 ms longer in it than in ours
MIN_GROUP_ROWS, MIN_GROUP_BYTES = 4096, 1 << 20  # many groups below both cost more to know of than they save
MANY_GROUPS = 16

_ORDERED = {
    "BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT",
    "UHUGEINT", "FLOAT", "DOUBLE", "VARCHAR", "BLOB", "UUID", "DATE", "TIME", "TIME_NS", "TIMESTAMP", "TIMESTAMP_S",
    "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE",
}  # fmt: skip
MAX_SIZES = 1000  # a column with more distinct values is none of model sizes
_ORDER_ROWS = 1 << 18  # places that are written at once
_ORDER_SCHEMA = pa.schema([pa.field("row", pa.int64(), nullable=False)])
_PACKED_INTEGERS = {"BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER"}
PLACE = "_bt_place"

NewFile = Callable[[], Path]


@dataclass(frozen=True, slots=True)
class Layout:
    """The files to store.

    ``place`` is the name of the column, after those of the input, that holds the place of each row in the input. It is
    None where sorting moved nothing. ``warnings`` say what was left alone, and why.
    """

    files: tuple[StagedFile, ...]
    place: str | None = None
    sorted_by: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(file.staged.path for file in self.files)


def sort_columns(definition: str | None, schema: Sequence[SchemaField]) -> tuple[str, ...]:
    """The columns to sort by: the definition's ``sort``, else its ``key``; without those that are not there as columns
    of the file, or that have no order."""
    parsed = parse_definition(definition)
    ordered = {
        field.name for field in schema if field.type in _ORDERED or field.type.startswith("DECIMAL(")
    }  # fmt: skip
    return tuple(dict.fromkeys(name for name in parsed.sort or parsed.key if name in ordered))


def lay_out(
    database: Database,
    staged: Staged,
    inspection: Inspection,
    sorted_by: Sequence[str],
    new_file: NewFile,
    progress: Progress | None = None,
    *,
    limits: Limits | None = None,
) -> Layout:
    """Write the files of a version.

    Rows are sorted by ``sorted_by``: nulls last, NaN after all other numbers, 4M before 10M, ties as in the input. A
    file that is in order, of a good size, and has statistics and row groups that a reader can use stays as it is, byte
    for byte.

    Parameters
    ----------
    staged, inspection
        A parquet file that was inspected, in a folder that the database may read.
    new_file
        Gives names for files in such a folder; the caller removes them all.

    Raises
    ------
    StoreError, EngineBusyError, QueryTimeoutError
    """
    work = _Work(database, staged, inspection, tuple(sorted_by), new_file, progress, limits or Limits())
    given = StagedFile(staged, inspection.rows, inspection.row_groups)
    order, is_known = None, False
    try:
        with translated(), frugal_memory():
            order = work.find_order() if sorted_by and inspection.rows > 1 else None
            is_known = True
            if order is None and not _is_unfit(staged, work.limits, bool(sorted_by)):
                return Layout((given,), sorted_by=tuple(sorted_by))
            work.check_types()
            files = work.rewrite(order)
            work.verify(files, order)
    except UnkeptError as error:
        is_sorted = is_known and order is None
        wish = "cut and written anew" if is_sorted else f"sorted by {', '.join(sorted_by)}"
        warning = f"the file is stored as it was given, and not {wish}: {error}"
        return Layout((given,), sorted_by=tuple(sorted_by) if is_sorted else (), warnings=(warning,))
    return Layout(files, None if order is None else work.place(), tuple(sorted_by))


@dataclass(frozen=True, slots=True)
class _Work:
    """The steps of one layout."""

    database: Database
    staged: Staged
    inspection: Inspection
    sorted_by: tuple[str, ...]
    new_file: NewFile
    progress: Progress | None
    limits: Limits

    def find_order(self) -> Path | None:
        """Sort the keys alone, with the place of each row; None when every row is in its place already."""
        self._ordering(0)
        keys = self._packed_keys() if self.inspection.rows > self.limits.sort_rows else None
        path = self.new_file()
        moved, done = False, 0
        with (
            closing(self._sorted_places() if keys is None else self._packed_places(keys)) as pieces,
            _order_writer(path) as writer,
        ):
            for found in pieces:
                moved = moved or not np.array_equal(found, np.arange(done, done + len(found)))
                writer.write_table(pa.table([found], schema=_ORDER_SCHEMA), row_group_size=_ORDER_ROWS)
                done += len(found)
        if done != self.inspection.rows:
            raise UnkeptError(f"sorting gave {done} rows of {self.inspection.rows}")
        return path if moved else None

    def _sorted_places(self) -> Generator[np.ndarray[Any, np.dtype[np.int64]]]:
        """The places of the rows in their new order, sorted by the database."""
        position = self._position()
        # Not `SELECT *`: only the keys are read, and the rest of the row never enters the sort.
        names = [f"key{number}" for number in range(len(self.sorted_by))]  # the columns' own could be in the way
        sizes = [self._sizes(column) for column in self.sorted_by]
        columns = ", ".join(
            f"{quoted(column)} AS {name}"
            + (f", list_extract(?, list_position(?, {quoted(column)})) AS {name}_size" if known else "")
            for column, name, known in zip(self.sorted_by, names, sizes, strict=True)
        )
        order = ", ".join(
            f"{name}_size ASC NULLS LAST, {name} ASC NULLS LAST" if known else f"{name} ASC NULLS LAST"
            for name, known in zip(names, sizes, strict=True)
        )
        parameters = [listed for known in sizes if known for listed in (list(known.values()), list(known))]
        sql = f"SELECT place FROM (SELECT {position} AS place, {columns} FROM {PARQUET}) ORDER BY {order}, place"
        with (
            sorter(self.database, self.inspection.rows, [self.staged.path], self.new_file, self.limits) as database,
            database.stream(sql, [*parameters, str(self.staged.path)], timeout_s=SCAN_TIMEOUT_S) as rows,
        ):
            for table in _tables(rows, _ORDER_ROWS):
                yield table.column(0).to_numpy()

    def _packed_places(self, keys: Sequence[Key]) -> Generator[np.ndarray[Any, np.dtype[np.int64]]]:
        """The same from keys that fit into one number, for any number of rows."""
        columns = ", ".join(map(quoted, self.sorted_by))
        sql = f"SELECT {self._position()} AS place, {columns} FROM {PARQUET}"
        with self.database.stream(sql, [str(self.staged.path)], timeout_s=SCAN_TIMEOUT_S) as rows:
            yield from places_in_order(rows, keys, self.new_file().with_suffix(".deal"), progress=self._ordering)

    def _ordering(self, done: int) -> None:
        if self.progress is not None:
            self.progress("order", done, self.inspection.rows)

    def _packed_keys(self) -> list[Key] | None:
        """What is known of the columns to sort by; None when they do not fit into one number."""
        keys: list[Key] = []
        for column in self.sorted_by:
            key = self._packed_key(column)
            if key is None:
                return None
            keys.append(key)
        return keys if fits(keys) else None

    def _packed_key(self, column: str) -> Key | None:
        kind, name = self._kind(column), quoted(column)
        if kind == "VARCHAR":
            texts = self._texts(column, MAX_TEXTS)
            sizes = _size_labels(texts)
            # By the bytes of UTF-8, as the database orders texts.
            texts.sort(key=lambda text: (sizes.get(text, math.inf), text.encode()))
            return TextKey(tuple(texts)) if len(texts) <= MAX_TEXTS else None
        if kind in _PACKED_INTEGERS:
            sql = f"SELECT min({name})::BIGINT AS least, max({name})::BIGINT AS most FROM {PARQUET}"
            [ends] = self._table(sql, [str(self.staged.path)])
            return IntegerKey(int(str(ends["least"] or 0)), int(str(ends["most"] or 0)))
        return None

    def _sizes(self, column: str) -> dict[str, int]:
        """The numbers of a column's values where those are model sizes; else {}."""
        return _size_labels(self._texts(column, MAX_SIZES)) if self._kind(column) == "VARCHAR" else {}

    def _texts(self, column: str, most: int) -> list[str]:
        """The distinct values of a column of text; one more than ``most`` of them where there are more."""
        rows = self._table(
            f"SELECT DISTINCT {quoted(column)} AS v FROM {PARQUET} WHERE v IS NOT NULL LIMIT {most + 1}",
            [str(self.staged.path)],
        )
        return sorted(str(row["v"]) for row in rows)

    def _kind(self, column: str) -> str:
        return next(field.type for field in self.inspection.schema if field.name == column)

    def check_types(self) -> None:
        """That a file of these types, written by us, has for DuckDB exactly the columns that the given one has."""
        path = self.new_file()
        target = Source([lambda: nullcontext(self.staged.path)]).target
        writer = FileWriter(lambda: path, target, self.limits)
        writer.finish()
        self._check_schema(path)
        path.unlink()

    def rewrite(self, order: Path | None) -> tuple[StagedFile, ...]:
        source = Source([lambda: nullcontext(self.staged.path)])
        total = self.inspection.rows
        writer = FileWriter(self.new_file, source.target, self.limits, place=None if order is None else self.place())
        if order is None:
            rows = source.batches()
        else:
            rows = shuffled(source, self._inverse(order), total, self.new_file(), self.limits, self.progress)
            rows = _with_places(rows, order, self.place())
        report = None if self.progress is None else partial(self.progress, "write")
        return write_rows(rows, writer, report, total)

    def verify(self, files: Sequence[StagedFile], order: Path | None) -> None:
        """That each row, with its place in the input, is in the files once, and nothing else is.

        What is compared is the sum of a 64-bit hash of each row and its place.
        """
        for file in files:
            self._check_schema(file.staged.path)
        if sum(file.rows for file in files) != self.inspection.rows:
            raise UnkeptError("the rewritten file has another number of rows")
        columns = ", ".join(quoted(field.name) for field in self.inspection.schema)
        place = quoted(self.place())
        summed = f"SELECT count(*) AS n, CAST(sum(CAST(hash({columns}, {place}) AS HUGEINT)) AS VARCHAR) AS h"
        before = self._table(
            f"{summed} FROM (SELECT {self._position()} AS {place}, {columns} FROM {PARQUET})", [str(self.staged.path)]
        )
        paths = [str(file.staged.path) for file in files]
        rows = f"SELECT row_number() OVER () - 1 AS {place}, *" if order is None else f"SELECT {place}, {columns}"
        rows += f" FROM (SELECT {columns} FROM {PARQUET})" if order is None else f" FROM {PARQUET}"
        after = self._table(f"{summed} FROM ({rows})", [paths])
        if before != after:
            raise UnkeptError("the rewritten file has other values")

    def _table(self, sql: str, parameters: list[object]) -> list[dict[str, object]]:
        found: list[dict[str, object]] = self.database.table(sql, parameters, timeout_s=SCAN_TIMEOUT_S).to_pylist()
        return found

    def _check_schema(self, path: Path) -> None:
        found = describe_parquet(self.database, path)
        for given, made in zip(self.inspection.schema, found, strict=False):  # behind them may come the place
            if given != made:
                was, would = (f"{one.type}{'' if one.nullable else ' NOT NULL'}" for one in (given, made))
                raise UnkeptError(f"{given.name} is {was} and would become {would}")

    def _inverse(self, order: Path) -> Path:
        path = self.new_file()
        write_inverse(order, path, self.new_file())
        return path

    def _position(self) -> str:
        names = {field.name.casefold() for field in self.inspection.schema}
        return "row_number() OVER () - 1" if "file_row_number" in names else "file_row_number"

    def place(self) -> str:
        """A name that no column has."""
        names = {field.name.casefold() for field in self.inspection.schema}
        return next(name for number in itertools.count() if (name := f"{PLACE}{number or ''}") not in names)


@contextmanager
def sorter(
    database: Database, rows: int, paths: Sequence[Path], new_file: NewFile, limits: Limits | None
) -> Iterator[Database]:
    """A database to sort and group these files in: for many rows one that spills early, whose memory is gone after."""
    limits = limits or Limits()
    if rows <= limits.sort_rows:
        yield database
        return
    folder = new_file().with_suffix(".spill")
    folders = list(dict.fromkeys(path.parent for path in paths))
    private = Database(folders, temp_directory=folder, memory_limit_bytes=limits.sort_bytes)
    try:
        yield private
    finally:
        private.close()
        shutil.rmtree(folder, ignore_errors=True)


def _with_places(rows: Iterator[pa.RecordBatch], order: Path, name: str) -> Iterator[pa.RecordBatch]:
    """The rows with the places that they come from, which stand in the same order in a file of their own."""
    field = pa.field(name, pa.int64(), nullable=False)
    with open_parquet(order) as file:
        places = file.iter_batches(_ORDER_ROWS, use_threads=False)
        waiting = pa.array([], pa.int64())
        for batch in rows:
            while len(waiting) < batch.num_rows:
                waiting = pa.concat_arrays([waiting, next(places).column(0)])
            here, waiting = waiting[: batch.num_rows], waiting[batch.num_rows :]
            yield pa.RecordBatch.from_arrays([*batch.columns, here], schema=batch.schema.append(field))


def _size_labels(texts: Sequence[str]) -> dict[str, int]:
    """The numbers of a column's distinct values where most are size labels (``schemas.py`` decides alike); else {}."""
    known = {text: number for text in texts if (number := parse_size_label(text)) is not None}
    return known if len(texts) <= MAX_SIZES and 2 * len(known) > len(texts) else {}


def _is_unfit(staged: Staged, limits: Limits, is_sorted: bool) -> bool:
    """Whether a file should be written anew though its rows are in order."""
    # Where rows are sorted, small groups are what leaves most of them out: 3.6 ms where 100k rows a group take 6.
    most_rows = max(limits.group_rows + limits.group_rows // 2, 1) if is_sorted else MAX_GROUP_ROWS
    metadata = pq.read_metadata(staged.path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if staged.size > limits.max_bytes or any(group.num_rows > most_rows for group in groups):
        return True
    if len(groups) < 2:
        return False
    if len(groups) >= MANY_GROUPS:
        rows, size = metadata.num_rows / len(groups), sum(group.total_byte_size for group in groups) / len(groups)
        if rows < MIN_GROUP_ROWS and size < MIN_GROUP_BYTES:
            return True
    return not any(groups[0].column(number).is_stats_set for number in range(metadata.num_columns))


def _order_writer(path: Path) -> pq.ParquetWriter:
    # Rows with equal keys keep their order, so the differences of neighbours are small.
    return pq.ParquetWriter(
        path, _ORDER_SCHEMA, compression="zstd", use_dictionary=False, column_encoding={"row": "DELTA_BINARY_PACKED"}
    )


def _tables(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    gathered: list[pa.RecordBatch] = []
    for batch in batches:
        gathered.append(pa.RecordBatch.from_arrays([batch.column(0).cast(pa.int64())], schema=_ORDER_SCHEMA))
        if sum(part.num_rows for part in gathered) >= rows:
            yield pa.Table.from_batches(gathered)
            gathered = []
    if gathered:
        yield pa.Table.from_batches(gathered)
