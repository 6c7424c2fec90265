"""Writing rows into parquet files of bounded size. What goes where is decided by who calls; see ``layout.py``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import CorruptVersionError, ResourceLimitError, StoreError
from engine.store.protocol import Staged
from engine.store.rows import Limits, release_memory
from engine.store.staging import hash_file

_UNKEPT = (pa.ArrowException, NotImplementedError, ValueError, TypeError, KeyError, OverflowError)


class UnkeptError(Exception):
    """These rows cannot be written anew as they are; the text says why."""


@contextmanager
def translated() -> Iterator[None]:
    """What Arrow or DuckDB cannot do becomes a reason to leave a file alone; a full disk is a StoreError."""
    try:
        yield
    except (CorruptVersionError, ResourceLimitError) as error:
        raise UnkeptError(error.detail) from error
    except OSError as error:
        if error.errno is None:  # Arrow's word for bytes that it cannot read
            raise UnkeptError(str(error).split("\n")[0]) from error
        raise StoreError(f"the files of the version cannot be written: {os.strerror(error.errno)}") from error
    except _UNKEPT as error:
        raise UnkeptError(str(error).split("\n")[0]) from error


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A parquet file on its way into the store."""

    staged: Staged
    rows: int
    row_groups: int


class FileWriter:
    """Writes rows into as many files as it takes. Every file but the last has about ``limits.file_bytes``.

    Parameters
    ----------
    new_file
        Gives a name for each file.
    target
        The schema to write; rows may come without its dictionaries.
    place
        The name of one more column that the rows have, of integers that mostly rise by little.
    """

    def __init__(
        self, new_file: Callable[[], Path], target: pa.Schema, limits: Limits, *, place: str | None = None
    ) -> None:
        self._new_file = new_file
        if place is not None:
            target = target.append(pa.field(place, pa.int64(), nullable=False))
        self._encodings = {} if place is None else _encodings(target, place)
        # Read from parquet, the numbers of a dictionary are 32 bits wide.
        self._target = pa.schema([_wide(field) for field in target], target.metadata)
        self._limits = limits
        self._pending: list[pa.RecordBatch] = []
        self._files: list[StagedFile] = []
        self._path: Path | None = None
        self._sink: pa.NativeFile | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self._groups = 0

    def write(self, batch: pa.RecordBatch) -> None:
        self._pending.append(batch)
        waiting = sum(part.num_rows for part in self._pending)
        size = sum(part.nbytes for part in self._pending)
        if waiting >= self._limits.group_rows or size >= self._limits.group_bytes:
            self._write_groups(last=False)

    def finish(self) -> tuple[StagedFile, ...]:
        """Write what is left; the files, hashed."""
        self._write_groups(last=True)
        if self._writer is not None or not self._files:
            self._close()
        return tuple(self._files)

    def abandon(self) -> None:
        """Let go of an unfinished file. Does nothing after ``finish``."""
        if self._sink is not None:
            self._sink.close()
            self._writer = self._sink = None

    def _write_groups(self, *, last: bool) -> None:
        if not self._pending:
            return
        rows = pa.Table.from_batches(self._pending)
        self._pending = []
        while rows.num_rows:
            count = min(self._limits.group_rows, rows.num_rows)
            is_full = count == self._limits.group_rows
            while count > 1 and rows.slice(0, count).nbytes > self._limits.group_bytes:
                count, is_full = count // 2, True
            if not is_full and not last:
                # A copy: a slice would keep all that it is cut from.
                left = rows.combine_chunks().to_batches()
                self._pending = [part.take(pa.array(np.arange(part.num_rows))) for part in left]
                return
            self._write_group(rows.slice(0, count))
            rows = rows.slice(count)

    def _write_group(self, rows: pa.Table) -> None:
        writer, sink = self._open()
        columns = [
            _encoded(column, field.type) if pa.types.is_dictionary(field.type) else column
            for column, field in zip(rows.columns, self._target, strict=True)
        ]
        writer.write_table(pa.Table.from_arrays(columns, schema=self._target), row_group_size=rows.num_rows)
        self._rows += rows.num_rows
        self._groups += 1
        if sink.tell() >= self._limits.file_bytes:
            self._close()

    def _open(self) -> tuple[pq.ParquetWriter, pa.NativeFile]:
        if self._writer is None or self._sink is None:
            self._path = self._new_file()
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pq.ParquetWriter(
                self._sink,
                self._target,
                compression="zstd",
                version="2.6",
                store_decimal_as_integer=True,
                **self._encodings,
            )
            self._rows = self._groups = 0
        return self._writer, self._sink

    def _close(self) -> None:
        writer, sink = self._open()
        writer.close()
        sink.close()
        self._writer = self._sink = None
        assert self._path is not None
        staged = Staged(self._path, self._path.stat().st_size, hash_file(self._path))
        self._files.append(StagedFile(staged, self._rows, self._groups))


def _encodings(target: pa.Schema, place: str) -> dict[str, Any]:
    """Options that keep dictionaries for all columns but the place, which takes a third of the room as differences."""
    empty = pa.BufferOutputStream()
    pq.write_table(pa.schema([_wide(field) for field in target]).empty_table(), empty, store_decimal_as_integer=True)
    schema = pq.read_metadata(pa.BufferReader(empty.getvalue())).schema
    paths = [schema.column(position).path for position in range(len(schema))]
    return {
        "use_dictionary": [path for path in paths if path != place],
        "column_encoding": {place: "DELTA_BINARY_PACKED"},
    }


def _encoded(column: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    return column.combine_chunks().dictionary_encode().cast(kind)


def _wide(field: pa.Field) -> pa.Field:
    kind = field.type
    if not pa.types.is_dictionary(kind):
        return field
    return field.with_type(pa.dictionary(pa.int32(), kind.value_type, kind.ordered))


def write_rows(
    rows: Iterator[pa.RecordBatch],
    writer: FileWriter,
    report: Callable[[int, int], None] | None = None,
    total: int = 0,
) -> tuple[StagedFile, ...]:
    """Write all rows; the files. Memory that this took goes back to the system."""
    done = 0
    try:
        for batch in rows:
            done += batch.num_rows
            writer.write(batch)
            del batch
            if report is not None:
                report(done, total)
        return writer.finish()
    finally:
        writer.abandon()
        release_memory()
