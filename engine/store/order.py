"""The order of very many rows by keys that fit into one number: dealt to files by the number, and sorted file by file.

A database that sorts holds a page of each of its sorted runs when it merges them, so there is a number of rows that it
cannot sort in a given memory: 200 million in 200 MB. Here that number is the disk's.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.store.rows import write_array

MAX_TEXTS = 1 << 16  # distinct values of a column of text
MAX_CODES = 1 << 62
_FILES = 256  # that the rows are dealt to at once
_DEAL_ROWS = 1 << 20  # before they are written: rows of one file shall lie together
_SORT_ROWS = 1 << 21  # that are sorted at once, 32 bytes each and a few times so much while it lasts
_PAIR = np.dtype([("code", np.int64), ("place", np.int64)])

Pairs = np.ndarray[Any, np.dtype[np.void]]


@dataclass(frozen=True, slots=True)
class TextKey:
    """A column of text with these distinct values, in their order. Null comes after all."""

    values: tuple[str, ...]

    @property
    def size(self) -> int:
        return len(self.values) + 1

    def ranks(self, column: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
        found = pc.index_in(column, value_set=pa.array(self.values, column.type))
        if found.null_count > column.null_count:
            raise ValueError("a column has another value than it had a moment ago")
        return _integers(found.cast(pa.int64()), len(self.values))


@dataclass(frozen=True, slots=True)
class IntegerKey:
    """A column of integers or booleans from ``least`` to ``most``. Null comes after all."""

    least: int
    most: int

    @property
    def size(self) -> int:
        return self.most - self.least + 2

    def ranks(self, column: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
        whole = column.cast(pa.int64())
        ends = pc.min_max(whole).as_py()
        if ends["min"] is not None and not self.least <= ends["min"] <= ends["max"] <= self.most:
            raise ValueError("a column has another value than it had a moment ago")
        return _integers(whole, self.most + 1) - self.least


Key = TextKey | IntegerKey


def fits(keys: Sequence[Key]) -> bool:
    """Whether these keys together fit into one number."""
    return math.prod(key.size for key in keys) <= MAX_CODES and all(
        isinstance(key, TextKey) or key.most < MAX_CODES for key in keys
    )


def places_in_order(
    batches: Iterable[pa.RecordBatch],
    keys: Sequence[Key],
    folder: Path,
    *,
    deal_rows: int = _DEAL_ROWS,
    sort_rows: int = _SORT_ROWS,
    progress: Callable[[int], None] | None = None,
) -> Generator[np.ndarray[Any, np.dtype[np.int64]]]:
    """The places of rows, ordered by their keys and then by place, in pieces.

    Parameters
    ----------
    batches
        For each row its place, a 64-bit integer, and then its keys; places rise.
    folder
        A folder that is not there yet, for what is in between; it is gone when all was read, or when this is closed.
    progress
        Told how many rows were dealt so far.

    Raises
    ------
    ValueError
        A row has a key that ``keys`` does not know.
    """
    folder.mkdir()
    try:
        pairs, codes = _together(_codes(batches, keys), deal_rows), math.prod(key.size for key in keys)
        yield from _ordered(pairs, 0, codes, folder / "0", deal_rows, sort_rows, progress)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _codes(batches: Iterable[pa.RecordBatch], keys: Sequence[Key]) -> Iterator[Pairs]:
    for batch in batches:
        pairs = np.empty(batch.num_rows, _PAIR)
        pairs["place"] = batch.column(0).to_numpy()
        code = np.zeros(batch.num_rows, np.int64)
        for key, column in zip(keys, batch.columns[1:], strict=True):
            code *= key.size
            code += key.ranks(column)
        pairs["code"] = code
        yield pairs


def _ordered(
    pieces: Iterable[Pairs],
    first: int,
    last: int,
    folder: Path,
    deal_rows: int,
    sort_rows: int,
    progress: Callable[[int], None] | None,
) -> Iterator[np.ndarray[Any, np.dtype[np.int64]]]:
    """Deal rows whose codes are from ``first`` to before ``last`` to files, and order each; too large a file again."""
    folder.mkdir()
    width = -(-(last - first) // _FILES)
    counts = np.zeros(_FILES, np.int64)
    done = 0
    for pairs in pieces:
        number = (pairs["code"] - first) // width
        by = np.argsort(number, kind="stable")
        pairs, number = pairs[by], number[by]
        cuts = np.searchsorted(number, np.arange(_FILES + 1))
        for at in np.flatnonzero(np.diff(cuts)):
            with open(folder / str(at), "ab") as file:
                write_array(file, pairs[cuts[at] : cuts[at + 1]])
        counts += np.diff(cuts)
        done += len(pairs)
        if progress is not None:
            progress(done)
    for at in np.flatnonzero(counts):
        path = folder / str(at)
        start = first + int(at) * width
        if width == 1:  # equal keys: they lie in the order of their places
            for pairs in _read(path, sort_rows):
                yield pairs["place"]
        elif counts[at] <= sort_rows:
            pairs = np.fromfile(path, _PAIR)
            yield pairs["place"][np.argsort(pairs["code"], kind="stable")]
        else:
            deeper = folder / f"{at}-again"
            yield from _ordered(_read(path, deal_rows), start, start + width, deeper, deal_rows, sort_rows, None)
        path.unlink()


def _read(path: Path, rows: int) -> Iterator[Pairs]:
    with open(path, "rb") as file:
        while len(pairs := np.fromfile(file, _PAIR, rows)):
            yield pairs


def _together(pieces: Iterable[Pairs], rows: int) -> Iterator[Pairs]:
    waiting: list[Pairs] = []
    count = 0
    for piece in pieces:
        waiting.append(piece)
        count += len(piece)
        if count >= rows:
            yield np.concatenate(waiting)
            waiting, count = [], 0
    if waiting:
        yield np.concatenate(waiting)


def _integers(column: pa.Array, null: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    found: np.ndarray[Any, np.dtype[np.int64]] = pc.fill_null(column, null).to_numpy(zero_copy_only=False)
    return found
