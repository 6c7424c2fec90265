"""Columns of few different values: the texts of those values once, and for each row a number that says which.

What is the same for all rows with the same value (its quotes, its name, the comma behind it) is then written once per
value, and neighbours of few joint values become one column. Knows no format: whoever uses it brings the texts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

Texts = Callable[[pa.Array], pa.BinaryArray]
Codes = np.ndarray[tuple[int], np.dtype[Any]]

ROWS_PER_VALUE = 4  # in a column of few values, at least: what is done once per value then costs little
_MISSES = 2  # in a row; a first step may be short
_EMPTY = pa.scalar(b"", pa.binary())
_BITS = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}


@dataclass(frozen=True, slots=True)
class Coded:
    """``texts[codes[row]]`` is the text of a row."""

    codes: Codes
    texts: pa.BinaryArray

    def between(self, before: bytes, after: bytes) -> Coded:
        """With ``before`` and ``after`` around every text."""
        if not before and not after:
            return self
        around = pa.scalar(before, pa.binary()), self.texts, pa.scalar(after, pa.binary())
        return Coded(self.codes, pc.binary_join_element_wise(*around, _EMPTY))

    def merged(self, other: Coded) -> Coded | None:
        """Each text with the other's behind it, as one column; None when that does not have few values."""
        most = len(self.codes) // ROWS_PER_VALUE
        joint = self.codes.astype(np.int64) * len(other.texts) + other.codes
        if len(self.texts) * len(other.texts) <= most:
            pairs = np.arange(len(self.texts) * len(other.texts))
        else:
            encoded = pa.array(joint).dictionary_encode()
            if len(encoded.dictionary) > most:
                return None
            pairs, joint = encoded.dictionary.to_numpy(), encoded.indices.to_numpy()
        first, second = np.divmod(pairs, len(other.texts))
        both = self.texts.take(pa.array(first)), other.texts.take(pa.array(second))
        return Coded(joint, pc.binary_join_element_wise(*both, _EMPTY))

    def each(self) -> pa.BinaryArray:
        """The texts, row by row."""
        return self.texts.take(pa.array(self.codes))


class Coder:
    """Finds out whether a column has few values, batch after batch of one answer; keeps the texts of its dictionary.

    What it learns decides how quickly the column is written, never what is written.
    """

    def __init__(self, texts: Texts) -> None:
        self._texts = texts
        self._dictionary: pa.Array | None = None
        self._known = pa.array([], pa.binary())
        self._misses = 0

    def code(self, column: pa.Array) -> Coded | None:
        """The column as a coded one; None when it does not have few values, or is of a type that is not looked into."""
        kind = column.type
        if pt.is_dictionary(kind):
            return self._code_dictionary(column) if pt.is_string(kind.value_type) else None
        if not _is_hashable(kind):
            return None
        if pt.is_floating(kind):  # by their bits: 0.0 is not -0.0
            column = column.view(_BITS[kind.bit_width])
        encoded = self._encode(column)
        return encoded and Coded(encoded.indices.to_numpy(), self._texts(encoded.dictionary.view(kind)))

    def each(self, column: pa.Array) -> pa.BinaryArray | None:
        """The texts, row by row, of a column that has a dictionary of texts; None for others, and when it is large."""
        if not pt.is_dictionary(column.type) or not pt.is_string(column.type.value_type):
            return None
        known = self._texts_of(column.dictionary, len(column))
        return None if known is None else Coded(_codes(column, len(known) - 1), known).each()

    def _code_dictionary(self, column: pa.DictionaryArray) -> Coded | None:
        known = self._texts_of(column.dictionary, len(column))
        if known is not None and len(known) * ROWS_PER_VALUE <= len(column):
            return Coded(_codes(column, len(known) - 1), known)
        used = self._encode(column.indices)
        return used and Coded(used.indices.to_numpy(), self._texts(column.dictionary.take(used.dictionary)))

    def _encode(self, column: pa.Array) -> pa.DictionaryArray | None:
        """Null as a value among others; None when there are many, and soon it is no longer tried."""
        if self._misses < _MISSES:
            encoded = pc.dictionary_encode(column, null_encoding="encode")
            if len(encoded.dictionary) * ROWS_PER_VALUE <= len(column):
                self._misses = 0
                return encoded
            self._misses += 1
        return None

    def _texts_of(self, dictionary: pa.StringArray, rows: int) -> pa.BinaryArray | None:
        """The texts of a dictionary's values, and behind them that of null; made once for each dictionary.

        None when it has more values than there are ``rows`` to be written, and its texts were not made before.
        """
        if self._dictionary is None or not dictionary.equals(self._dictionary):
            if len(dictionary) > rows:
                return None
            self._known = pa.concat_arrays([self._texts(dictionary), self._texts(pa.nulls(1, dictionary.type))])
            self._dictionary = dictionary
        return self._known


def _codes(column: pa.DictionaryArray, null: int) -> Codes:
    codes = column.indices
    if codes.null_count:
        codes = codes.cast(pa.int64()).fill_null(null)
    found: Codes = codes.to_numpy()
    return found


def _is_hashable(kind: pa.DataType) -> bool:
    """Whether Arrow's kernels tell values of this type apart by their bits."""
    return bool(
        pt.is_integer(kind)
        or pt.is_floating(kind)
        or pt.is_boolean(kind)
        or pt.is_string(kind)
        or pt.is_date32(kind)
        or pt.is_timestamp(kind)
    )
