"""The rows of a version by column in a file without a name, for reading a few of them: no memory, no parsing, no SQL.

Columns of fixed width lie one after the other; texts of few values are codes into a list. Runs of rows that have the
same values in the first key columns say where to look. Decides nothing about queries.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_RUNS = 1 << 18  # 2 MB of places, and as much of codes
MIN_ROWS_PER_RUN = 4  # shorter ones say little: a table that is not sorted has a run for almost each row
MAX_KEYS = 4
MAX_CODES = 65_535  # one code is that of null

Codes = np.ndarray[Any, np.dtype[np.unsignedinteger[Any]]]
Rows = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, slots=True)
class Stored:
    """One column in the file: what it is in Arrow, and where its values and its marks of validity begin.

    ``texts`` are the values of an enumeration, by code; the code of null is ``null_code``.
    """

    kind: pa.DataType
    width: int
    offset: int
    validity: int
    texts: pa.StringArray | None = None
    codes: Mapping[str, int] | None = None

    @property
    def null_code(self) -> int:
        return 255 if self.width == 1 else 65_535


class _NamelessFile:
    """A file that is gone with the last reference to this."""

    def __init__(self, folder: Path) -> None:
        self.descriptor, path = tempfile.mkstemp(prefix="bytomorrow-columns-", dir=folder)
        os.unlink(path)

    def __del__(self) -> None:
        descriptor, self.descriptor = getattr(self, "descriptor", -1), -1
        if descriptor >= 0:
            os.close(descriptor)


class ColumnFile:
    """Columns on disk, and the runs of the key columns in memory. Immutable once written; read from any thread.

    The file ends with the last reference to it.
    """

    def __init__(
        self,
        file: _NamelessFile,
        rows: int,
        columns: Mapping[str, Stored],
        nullable: frozenset[str],
        keys: Sequence[str],
        starts: Rows,
        run_codes: Mapping[str, Codes],
    ) -> None:
        self._file = file
        self._descriptor = file.descriptor
        self.rows = rows
        self.columns = columns
        self._nullable = nullable
        self.keys = tuple(keys)
        self._starts = starts
        self._ends = np.append(starts[1:], rows)
        self._run_codes = run_codes
        self._first = _spans(run_codes[self.keys[0]]) if keys else {}

    @property
    def size_bytes(self) -> int:
        """Of disk, at most."""
        return max((one.validity + self.rows for one in self.columns.values()), default=0)

    def ranges(self, wanted: Mapping[str, Sequence[int]]) -> tuple[Rows, Rows]:
        """Where the runs with one of the wanted codes in each of these key columns begin and end, in order."""
        low, high = 0, len(self._starts)
        leading = wanted.get(self.keys[0])
        if leading is not None:
            spans = [self._first[code] for code in leading if code in self._first]
            if not spans:
                return self._starts[:0], self._ends[:0]
            low, high = min(span[0] for span in spans), max(span[1] for span in spans)
        mask: np.ndarray[Any, np.dtype[np.bool_]] | None = None
        for name, codes in wanted.items():
            here = self._run_codes[name][low:high]
            fits = here == codes[0] if len(codes) == 1 else np.isin(here, np.asarray(codes, here.dtype))
            mask = fits if mask is None else mask & fits
        starts, ends = self._starts[low:high], self._ends[low:high]
        if mask is not None:
            starts, ends = starts[mask], ends[mask]
        # Neighbours are read as one.
        if len(starts) > 1:
            apart = np.flatnonzero(starts[1:] != ends[:-1])
            starts, ends = np.append(starts[:1], starts[apart + 1]), np.append(ends[apart], ends[-1:])
        return starts, ends

    def values(self, name: str, start: int, count: int) -> Codes:
        """Values of a column as they lie in the file: raw numbers, or codes."""
        column = self.columns[name]
        data = os.pread(self._descriptor, count * column.width, column.offset + start * column.width)
        if len(data) != count * column.width:
            raise OSError("a file of columns is shorter than it was")
        return np.frombuffer(data, dtype=f"u{column.width}")

    def valid(self, name: str, start: int, count: int) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """Which values are not null; None when all of the column are not."""
        column = self.columns[name]
        if column.texts is not None or name not in self._nullable:
            return None
        data = os.pread(self._descriptor, count, column.validity + start)
        # What lies beyond the last mark reads as zeros did: valid.
        marks = np.zeros(count, np.bool_)
        found = np.frombuffer(data, dtype=np.bool_)
        marks[: len(found)] = found
        return ~marks

    def arrow(self, name: str, raw: Codes, valid: np.ndarray[Any, np.dtype[np.bool_]] | None) -> pa.Array:
        """The values as an array of Arrow, which shares their memory."""
        column = self.columns[name]
        if column.texts is not None:
            valid = raw != column.null_code
            if valid.all():
                valid = None
            else:
                raw = np.where(valid, raw, 0).astype(raw.dtype)
            indices = _array(pa.uint8() if column.width == 1 else pa.uint16(), raw, valid)
            return pa.DictionaryArray.from_arrays(indices, column.texts)
        return _array(column.kind, raw, valid)


def _array(kind: pa.DataType, raw: Codes, valid: np.ndarray[Any, np.dtype[np.bool_]] | None) -> pa.Array:
    marks = None if valid is None or valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(kind, len(raw), [marks, pa.py_buffer(np.ascontiguousarray(raw))])


def _spans(codes: Codes) -> dict[int, tuple[int, int]]:
    """Between which runs each code of the first key column stands."""
    changes = np.flatnonzero(codes[1:] != codes[:-1]) + 1
    firsts = np.append(0, changes)
    lasts = np.append(changes, len(codes))
    spans: dict[int, tuple[int, int]] = {}
    for code, first, last in zip(codes[firsts].tolist(), firsts.tolist(), lasts.tolist(), strict=True):
        known = spans.get(code)
        spans[code] = (first, last) if known is None else (known[0], last)
    return spans


def can_hold(kind: pa.DataType) -> bool:
    """Whether a column of this type can be in such a file as it is."""
    types = pa.types
    fixed = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)
    return bool(fixed or types.is_date32(kind) or types.is_timestamp(kind))


def write_columns(
    folder: Path,
    rows: int,
    schema: pa.Schema,
    listed: Mapping[str, Sequence[str]],
    keys: Sequence[str],
    batches: Iterable[pa.RecordBatch],
) -> ColumnFile | None:
    """Write all rows; None where the key columns have no runs to speak of.

    Parameters
    ----------
    schema
        Of the batches: types that ``can_hold`` takes, and texts.
    listed
        The values of the columns of texts.
    keys
        Columns of texts by whose values rows are looked for, the most telling first.

    Raises
    ------
    OSError
        The disk is full, say.
    """
    columns = _places(rows, schema, listed)
    keys = tuple(keys)[:MAX_KEYS]
    runs = _Runs(keys, columns)
    nullable: set[str] = set()
    file = _NamelessFile(folder)
    os.ftruncate(file.descriptor, max((one.validity for one in columns.values()), default=0))
    done = 0
    for batch in batches:
        codes: dict[str, Codes] = {}
        for name, values in zip(schema.names, batch.columns, strict=True):
            column = columns[name]
            raw = codes[name] = _codes(values, column) if column.texts is not None else _raw(values, column)
            _write(file.descriptor, raw, column.offset + done * column.width)
            if column.texts is None and values.null_count:
                nullable.add(name)
                _write(file.descriptor, values.is_null().to_numpy(zero_copy_only=False), column.validity + done)
        if not runs.add(codes, done, batch.num_rows):
            return None
        done += batch.num_rows
    if done != rows:
        raise OSError(f"{done} rows were read, and {rows} are recorded")
    kept, starts, run_codes = runs.finish()
    return ColumnFile(file, rows, columns, frozenset(nullable), kept, starts, run_codes)


def _places(rows: int, schema: pa.Schema, listed: Mapping[str, Sequence[str]]) -> dict[str, Stored]:
    columns: dict[str, Stored] = {}
    offset = 0
    for field in schema:
        if field.name in listed:
            texts = pa.array(listed[field.name], pa.string())
            width = 1 if len(texts) < 255 else 2
            codes = {text: code for code, text in enumerate(listed[field.name])}
            columns[field.name] = Stored(field.type, width, offset, 0, texts, codes)
        else:
            columns[field.name] = Stored(field.type, field.type.bit_width // 8, offset, 0)
        offset += columns[field.name].width * rows
    placed = {}
    for name, column in columns.items():
        placed[name] = Stored(column.kind, column.width, column.offset, offset, column.texts, column.codes)
        offset += 0 if column.texts is not None else rows
    return placed


def _codes(values: pa.Array, column: Stored) -> Codes:
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    encoded = values.dictionary_encode()
    known = pc.index_in(encoded.dictionary, value_set=column.texts)
    if known.null_count:
        raise OSError("a column has a text that is not among its values")
    table = np.append(known.to_numpy(zero_copy_only=False), column.null_code).astype(f"u{column.width}")
    places = encoded.indices.fill_null(len(known)).to_numpy(zero_copy_only=False)
    codes: Codes = table[places]
    return codes


def _raw(values: pa.Array, column: Stored) -> Codes:
    """The numbers as they lie in memory, and zeros where there is none."""
    data = values.buffers()[1].slice(values.offset * column.width, len(values) * column.width)
    raw = np.frombuffer(data, dtype=f"u{column.width}")
    if values.null_count:
        raw = np.where(values.is_valid().to_numpy(zero_copy_only=False), raw, np.zeros(1, raw.dtype))
    return raw


def _write(descriptor: int, array: np.ndarray[Any, Any], offset: int) -> None:
    data = np.ascontiguousarray(array).view(np.uint8).data
    while len(data):
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


class _Runs:
    """Finds where the values of the key columns change; when that is too often, it goes by fewer columns."""

    def __init__(self, keys: Sequence[str], columns: Mapping[str, Stored]) -> None:
        self._keys = list(keys)
        self._starts: list[Rows] = []
        self._codes: dict[str, list[Codes]] = {key: [] for key in keys}
        self._last: dict[str, int] = {}
        self._count = 0
        self._columns = columns

    def add(self, codes: Mapping[str, Codes], done: int, count: int) -> bool:
        """Take in the next rows; False when no column is left."""
        changes = np.zeros(count, np.bool_)
        for key in self._keys:
            here = codes[key]
            changes[1:] |= here[1:] != here[:-1]
            changes[:1] |= done == 0 or here[:1] != self._last[key]
            self._last[key] = int(here[-1])
        places = np.flatnonzero(changes)
        self._starts.append(places + done)
        for key in self._keys:
            self._codes[key].append(codes[key][places])
        self._count += len(places)
        while self._keys and self._count > self._most(done + count):
            self._forget_last()
        return bool(self._keys)

    @staticmethod
    def _most(rows: int) -> int:
        return min(MAX_RUNS, 1_024 + rows // MIN_ROWS_PER_RUN)

    def finish(self) -> tuple[list[str], Rows, dict[str, Codes]]:
        starts = np.concatenate([*self._starts, np.empty(0, np.int64)]).astype(np.int64)
        empty = {key: np.empty(0, f"u{self._columns[key].width}") for key in self._keys}
        return self._keys, starts, {key: np.concatenate([empty[key], *self._codes[key]]) for key in self._keys}

    def _forget_last(self) -> None:
        dropped = self._keys.pop()
        del self._codes[dropped]
        keys, starts, codes = self.finish()
        changes = np.zeros(len(starts), np.bool_)
        changes[:1] = True
        for key in keys:
            changes[1:] |= codes[key][1:] != codes[key][:-1]
        self._starts = [starts[changes]]
        self._codes = {key: [codes[key][changes]] for key in keys}
        self._count = int(changes.sum())
