"""Texts of number columns, a whole Arrow array at a time. Knows no format: JSON and CSV each add their own rules.

Each text is the shortest that reads back as the same double; a FLOAT is widened to a double first, which is exact.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

LARGEST_EXACT = 2**53  # beyond it a JavaScript number no longer tells two neighbours apart
_COMMA = ord(",")


def number_texts(array: pa.Array) -> pa.BinaryArray:
    """Texts of an array of integers or floats without nulls; NaN and infinities read ``null``."""
    if not len(array):
        return pa.array([], pa.binary())
    if pa.types.is_floating(array.type):
        array = array.cast(pa.float64())
    values = array.to_numpy(zero_copy_only=False)
    listed = np.frombuffer(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY), dtype=np.uint8)[1:-1]
    commas = listed == _COMMA
    offsets = np.empty(len(array) + 1, dtype=np.int32)
    offsets[0] = 0
    offsets[1:-1] = np.flatnonzero(commas) - np.arange(len(array) - 1)
    offsets[-1] = len(listed) - (len(array) - 1)
    return pa.Array.from_buffers(
        pa.binary(), len(array), [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(listed[~commas]))]
    )


def float_texts(array: pa.Array) -> pa.BinaryArray:
    """Texts of an array of floats; null, NaN and infinities all read ``null``."""
    return number_texts(array.fill_null(float("nan")) if array.null_count else array)


def integer_texts(array: pa.Array) -> pa.BinaryArray:
    """Texts of an array of integers, null where the array is."""
    texts = number_texts(array.fill_null(0) if array.null_count else array)
    return with_nulls_of(array, texts)


def is_beyond_exact(array: pa.Array) -> pa.BooleanArray | None:
    """Which integers, or decimals without a scale, a JSON number cannot carry exactly; None when it can carry all."""
    kind = array.type
    if pa.types.is_decimal(kind):
        if kind.precision <= 15:
            return None
        bound = pa.scalar(Decimal(LARGEST_EXACT), kind)
        low = pa.scalar(Decimal(-LARGEST_EXACT), kind)
    elif kind.bit_width < 64:
        return None
    else:
        bound = pa.scalar(LARGEST_EXACT, kind)
        low = None if pa.types.is_unsigned_integer(kind) else pa.scalar(-LARGEST_EXACT, kind)
    beyond = pc.greater(array, bound)
    if low is not None:
        beyond = pc.or_(beyond, pc.less(array, low))
    return beyond if pc.any(beyond).as_py() else None


def decimal_texts(array: pa.Array) -> pa.BinaryArray:
    """Texts of an array of decimals with all their digits and no exponent, null where the array is."""
    texts = array.cast(pa.string())
    exponents = pc.match_substring(texts, "E")
    if pc.any(exponents).as_py():
        texts = pa.array([None if value is None else f"{value:f}" for value in array.to_pylist()], pa.string())
    return texts.cast(pa.binary())


def with_nulls_of(array: pa.Array, texts: pa.BinaryArray) -> pa.BinaryArray:
    """The texts, null where ``array`` is."""
    return pc.if_else(array.is_valid(), texts, pa.scalar(None, pa.binary())) if array.null_count else texts
