"""Reading the rows of parquet files piece by piece, in little memory whatever the files are. Writes nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_SAMPLE_ROWS = 256
_BATCH_ROWS = 16_384
_READ_BUFFERS = 16 << 20  # for all columns of a file together

_pools: list[pa.MemoryPool] = []  # Arrow's own pool, and once more for each thread that does without it now
_pools_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Limits:
    """How large things may become. The memory that is needed is a few times ``chunk_bytes``."""

    file_bytes: int = 96 << 20  # a file ends with the row group that reaches this
    max_bytes: int = 128 << 20  # files up to this size need not be split
    # Of 16k to 1M rows, measured on 1.9 million sorted rows: a filter on the first column takes 1.9 ms with 64k rows a
    # group, 2.1 with 32k, 2.5 with 120k and 5.4 with 1M; full scans take the same with all of them.
    group_rows: int = 65_536
    group_bytes: int = 24 << 20  # as Arrow: wide rows make smaller groups, and file_bytes + group_bytes < max_bytes
    chunk_bytes: int = 16 << 20  # rows that are held at once, as Arrow
    # More rows are sorted in a database of their own: the shared one would take all of its 256 MB for it, and 80 more
    # that it does not count, and give them back only some time later.
    sort_rows: int = 500_000
    sort_bytes: int = 96 << 20


@contextmanager
def frugal_memory() -> Iterator[None]:
    """Arrow takes its memory from the C library, which gives it back to the system; Arrow's own pools keep a third
    more than the same work needs at its peak (mimalloc: 380 MB where this takes 280)."""
    with _pools_lock:
        if not _pools:
            _pools.append(pa.default_memory_pool())
            pa.set_memory_pool(pa.system_memory_pool())
        _pools.append(_pools[0])
    try:
        yield
    finally:
        with _pools_lock:
            before = _pools.pop()
            if len(_pools) == 1:  # the last one out
                pa.set_memory_pool(before)
                _pools.clear()
        release_memory()


def write_array(file: BinaryIO, array: np.ndarray[Any, Any]) -> None:
    """The bytes of an array. Not by ``tofile``, whose OSError does not say that the disk is full."""
    file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def release_memory() -> None:
    """Give the system back what is free."""
    pa.system_memory_pool().release_unused()


class Source:
    """The rows of parquet files of one schema, one file after the other.

    Each file is asked for when its turn comes. ``schema`` has no dictionaries, which temporary files could not hold;
    ``target`` is what is to be written. The last column is left out when it is called ``without``.
    """

    def __init__(
        self, files: Sequence[Callable[[], AbstractContextManager[Path]]], *, without: str | None = None
    ) -> None:
        self._files = tuple(files)
        with self._files[0]() as path, open_parquet(path) as first:
            self.target: pa.Schema = first.schema_arrow
            if without is not None:
                if self.target.names[-1] != without:
                    raise KeyError(f"the last column is {self.target.names[-1]} and not {without}")
                self.target = self.target.remove(len(self.target) - 1)
            self.schema: pa.Schema = pa.schema([_plain(field) for field in self.target], self.target.metadata)
            self.row_bytes = _row_bytes(first)

    def batches(self) -> Iterator[pa.RecordBatch]:
        for open_path in self._files:
            with open_path() as path, open_parquet(path) as file:
                yield from (self._decoded(batch) for batch in batches_of(file, self.row_bytes))

    def _decoded(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
            for column in batch.columns[: len(self.schema)]
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def open_parquet(path: Path) -> pq.ParquetFile:
    """A parquet file that is read piece by piece, however large its row groups are."""
    metadata = pq.read_metadata(path)
    # Without a buffer each column of a row group is read whole, and one row group may be the whole file.
    buffer_bytes = max(16 << 10, min(1 << 20, _READ_BUFFERS // max(metadata.num_columns, 1)))
    return pq.ParquetFile(path, metadata=metadata, buffer_size=buffer_bytes, pre_buffer=False)


def batches_of(
    file: pq.ParquetFile, row_bytes: int | None = None, *, row_groups: Sequence[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows in batches of a few megabytes."""
    rows = (4 << 20) // (row_bytes or _row_bytes(file))
    batch_rows = max(16, min(_BATCH_ROWS, rows))
    found: Iterator[pa.RecordBatch] = file.iter_batches(batch_rows, row_groups=row_groups, use_threads=False)
    return found


def _row_bytes(file: pq.ParquetFile) -> int:
    """About how much room a row takes as Arrow: what the footer says, or what the first rows show to be more."""
    metadata = file.metadata
    rows = max(metadata.num_rows, 1)
    said = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups)) // rows
    first = next(file.iter_batches(_SAMPLE_ROWS, use_threads=False), None)
    seen = first.nbytes // first.num_rows if first is not None and first.num_rows else 0
    return int(max(said, seen, 1))


def _plain(field: pa.Field) -> pa.Field:
    if pa.types.is_dictionary(field.type):
        return field.with_type(field.type.value_type)
    if _has_dictionary(field.type):
        raise NotImplementedError(f"{field.name} has dictionaries inside {field.type}")
    return field


def _has_dictionary(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _has_dictionary(kind.storage_type)
    return pa.types.is_dictionary(kind) or any(
        _has_dictionary(kind.field(position).type) for position in range(kind.num_fields)
    )


def chunks_of(batches: Iterable[pa.RecordBatch], limit_bytes: int) -> Iterator[pa.RecordBatch]:
    """The same rows in larger pieces, each of about so many bytes."""
    gathered: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        gathered.append(batch)
        size += batch.nbytes
        if size >= limit_bytes:
            chunk = pa.concat_batches(gathered)
            del batch
            gathered, size = [], 0  # before the caller works with the chunk, or both would be in memory
            yield chunk
            del chunk
    if gathered:
        yield pa.concat_batches(gathered)
