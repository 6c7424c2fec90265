"""Putting rows into another order out of memory, through temporary files. Values pass through Arrow and no database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from engine.store.protocol import Progress
from engine.store.rows import Limits, Source, chunks_of, open_parquet, write_array

_PLACE = "place"
_WINDOW_ROWS = 1 << 21  # places that are put in order at once


def shuffled(
    source: Source, places: Path, rows: int, spill: Path, limits: Limits, progress: Progress | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of ``source`` in the order that ``places`` says, in pieces.

    The rows are dealt to stretches of the new order that fit into memory, through a temporary file, and each stretch
    is then put in order: all is written and read twice, in large pieces, whatever the order is.

    Parameters
    ----------
    places
        A file of 64-bit integers: for each row, where it goes.
    spill
        A new file for what is in between; the caller removes it.
    """
    stretch = max(1, min(limits.chunk_bytes // source.row_bytes, rows))
    schema = source.schema.append(pa.field(_PLACE, pa.int64()))
    dealt = _Dealt(stretch, rows)
    options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
    with (
        open(places, "rb") as reader,
        pa.OSFile(str(spill), "wb") as sink,
        pa.ipc.new_file(sink, schema, options=options) as writer,
    ):
        done = 0
        for chunk in chunks_of(source.batches(), limits.chunk_bytes):
            place = np.fromfile(reader, np.int64, chunk.num_rows)
            order = np.argsort(place, kind="stable")
            place = place[order]
            moved = pa.RecordBatch.from_arrays([*chunk.take(pa.array(order)).columns, pa.array(place)], schema=schema)
            done += chunk.num_rows
            del chunk
            for piece in dealt.deal(moved, place):
                writer.write_batch(piece)
            if progress is not None:
                progress("sort", done, rows)
    with pa.OSFile(str(spill), "rb") as source_file:
        found = pa.ipc.open_file(source_file)
        for first, last, numbers in dealt.stretches(limits.chunk_bytes):
            yield _gather(found, first, last, numbers)


class _Dealt:
    """Which pieces of the temporary file belong to which stretch of the new order."""

    def __init__(self, stretch: int, rows: int) -> None:
        self._stretch = stretch
        self._rows = rows
        self._pieces: list[list[int]] = [[] for _ in range(-(-rows // stretch))]
        self._sizes = [0] * len(self._pieces)
        self._count = 0

    def deal(self, batch: pa.RecordBatch, place: np.ndarray[Any, Any]) -> Iterator[pa.RecordBatch]:
        """Cut a batch that is in order into one piece for each stretch that it has rows for."""
        cuts = np.searchsorted(place, np.arange(len(self._pieces) + 1) * self._stretch)
        for number in np.flatnonzero(np.diff(cuts)):
            piece = batch.slice(cuts[number], cuts[number + 1] - cuts[number])
            self._pieces[number].append(self._count)
            self._sizes[number] += piece.nbytes
            self._count += 1
            yield piece

    def stretches(self, limit_bytes: int) -> Iterator[tuple[int, int, list[int]]]:
        """First and last place (not included) of each stretch, and its pieces; what became too large is cut again."""
        for number, pieces in enumerate(self._pieces):
            first = number * self._stretch
            last = min(first + self._stretch, self._rows)
            parts = min(max(1, -(-self._sizes[number] // (2 * limit_bytes))), last - first)
            bounds = [first + (last - first) * part // parts for part in range(parts + 1)]
            yield from ((start, end, pieces) for start, end in itertools.pairwise(bounds))


def _gather(found: pa.ipc.RecordBatchFileReader, first: int, last: int, numbers: Sequence[int]) -> pa.RecordBatch:
    """The rows with places from ``first`` to before ``last``, in order."""
    parts = []
    for number in numbers:
        piece = found.get_batch(number)
        start, end = np.searchsorted(piece.column(piece.num_columns - 1).to_numpy(), [first, last])
        if end - start == piece.num_rows:
            parts.append(piece)
        elif end > start:  # a copy, or the slice would keep all of the piece in memory
            parts.append(piece.take(pa.array(np.arange(start, end))))
    together = pa.concat_batches(parts)
    del parts
    place = together.column(together.num_columns - 1).to_numpy()
    if place.min() != first or place.max() != last - 1 or len(place) != last - first:
        raise ValueError("the new order is not one of all rows")
    order = pa.array(np.argsort(place))
    del place
    return together.select(list(range(together.num_columns - 1))).take(order)


def write_inverse(order: Path, into: Path, spill: Path) -> None:
    """For each row of the input, its place in the new order, as a file of 64-bit integers.

    Parameters
    ----------
    order
        A parquet file with one column of integers: for each place, which row of the input goes there.
    spill
        A new file for what is in between; the caller removes it.

    Raises
    ------
    ValueError
        ``order`` does not have each row once.
    """
    with open_parquet(order) as file:
        rows: int = file.metadata.num_rows
        pieces: list[list[tuple[int, int]]] = [[] for _ in range(-(-rows // _WINDOW_ROWS))]
        bounds = np.arange(len(pieces) + 1) * _WINDOW_ROWS
        done = offset = 0
        with open(spill, "wb") as writer:
            for batch in file.iter_batches(_WINDOW_ROWS // 4, use_threads=False):
                row = batch.column(0).to_numpy()
                if len(row) and not 0 <= row.min() <= row.max() < rows:
                    raise ValueError("the new order has rows that are not there")
                by = np.argsort(row)
                cuts = np.searchsorted(row, bounds, sorter=by)
                for number in np.flatnonzero(np.diff(cuts)):
                    chosen = by[cuts[number] : cuts[number + 1]]
                    write_array(writer, np.stack([row[chosen], chosen + done]))
                    pieces[number].append((offset, len(chosen)))
                    offset += 16 * len(chosen)
                done += len(row)
    with open(spill, "rb") as reader, open(into, "wb") as writer:
        for first, window in zip(range(0, rows, _WINDOW_ROWS), pieces, strict=True):
            places = np.full(min(_WINDOW_ROWS, rows - first), -1, np.int64)
            for start, count in window:
                reader.seek(start)
                row, place = np.fromfile(reader, np.int64, 2 * count).reshape(2, count)
                places[row - first] = place
            if (places < 0).any():
                raise ValueError("the new order is not one of all rows")
            write_array(writer, places)
