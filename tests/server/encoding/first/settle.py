"""Arrow arrays without anything that is no value: what lies under a null, or after the last value, reads zero.

An IPC stream holds memory as it is. What a null hides is whatever was there before, so equal answers would differ in
their bytes, and bytes of other answers could leave with them.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

Mask = np.ndarray[tuple[int], np.dtype[np.bool_]]


def settle(array: pa.Array, shown: Mask | None = None) -> pa.Array:
    """An array of the same type with the same values.

    Parameters
    ----------
    shown
        Which values can be seen at all; the others become null. None for all.
    """
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return pa.ExtensionArray.from_storage(kind, settle(array.storage, shown))
    if pt.is_dictionary(kind):
        return pa.DictionaryArray.from_arrays(settle(array.indices, shown), settle(array.dictionary))
    if pt.is_null(kind):
        return array
    if pt.is_union(kind):
        return _union(array)
    valid = _valid(array, shown)
    if pt.is_struct(kind):
        return _struct(array, valid)
    if pt.is_list(kind) or pt.is_map(kind):
        return _list(array, valid)
    if pt.is_fixed_size_list(kind):
        return _fixed_size_list(array, valid)
    if pt.is_string(kind) or pt.is_binary(kind):
        return _text(array, valid)
    if pt.is_boolean(kind):
        values = array.fill_null(False).to_numpy(zero_copy_only=False)
        return _from(kind, len(array), valid, _bits(values if valid is None else values & valid))
    return _fixed_width(array, valid)


def _valid(array: pa.Array, shown: Mask | None) -> Mask | None:
    """Which values are neither null nor hidden; None when all are."""
    if not array.null_count:
        return None if shown is None or shown.all() else shown
    valid: Mask = array.is_valid().to_numpy(zero_copy_only=False)
    return valid if shown is None else valid & shown


def _bits(mask: Mask) -> pa.Buffer:
    return pa.py_buffer(np.packbits(mask, bitorder="little"))


def _from(
    kind: pa.DataType, length: int, valid: Mask | None, *buffers: pa.Buffer, children: list[pa.Array] | None = None
) -> pa.Array:
    nulls = 0 if valid is None else int(length - np.count_nonzero(valid))
    validity = None if valid is None else _bits(valid)
    return pa.Array.from_buffers(kind, length, [validity, *buffers], nulls, children=children)


def _fixed_width(array: pa.Array, valid: Mask | None) -> pa.Array:
    kind, length = array.type, len(array)
    if length == 0:
        return pa.array([], kind)
    width = kind.bit_width // 8
    values = array.buffers()[1].slice(array.offset * width, length * width)
    if valid is not None:
        rows = np.frombuffer(values, dtype=np.uint8).reshape(length, width).copy()
        rows[~valid] = 0
        values = pa.py_buffer(rows)
    return _from(kind, length, valid, values)


def _offsets(array: pa.Array) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """The places of the values of a text or list array, the end of the last one included."""
    if len(array) == 0:
        return np.zeros(1, dtype=np.int32)
    found = np.frombuffer(array.buffers()[1], dtype=np.int32)
    return found[array.offset : array.offset + len(array) + 1]


def _text(array: pa.Array, valid: Mask | None) -> pa.Array:
    offsets = _offsets(array)
    data = array.buffers()[2]
    used = pa.py_buffer(b"") if data is None else data.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    return _from(array.type, len(array), valid, pa.py_buffer(offsets - offsets[0]), used)


def _list(array: pa.Array, valid: Mask | None) -> pa.Array:
    kind, offsets = array.type, _offsets(array)
    start, length = int(offsets[0]), int(offsets[-1] - offsets[0])
    if pt.is_map(kind):
        pairs = [settle(values.slice(start, length)) for values in (array.keys, array.items)]
        values = _from(kind.field(0).type, length, None, children=pairs)
    else:
        values = settle(array.values.slice(start, length))
    return _from(kind, len(array), valid, pa.py_buffer(offsets - offsets[0]), children=[values])


def _fixed_size_list(array: pa.Array, valid: Mask | None) -> pa.Array:
    size = array.type.list_size
    values = array.values.slice(array.offset * size, len(array) * size)
    shown = None if valid is None else np.repeat(valid, size)
    return _from(array.type, len(array), valid, children=[settle(values, shown)])


def _struct(array: pa.StructArray, valid: Mask | None) -> pa.Array:
    fields = [settle(array.field(position), valid) for position in range(array.type.num_fields)]
    return _from(array.type, len(array), valid, children=fields)


def _union(array: pa.UnionArray) -> pa.Array:
    if array.type.mode != "sparse":
        raise TypeError(f"a column of type {array.type} is not served")
    codes = array.type_codes.to_numpy()
    members = [settle(array.field(at), codes == code) for at, code in enumerate(array.type.type_codes)]
    names = [array.type.field(at).name for at in range(len(members))]
    return pa.UnionArray.from_sparse(pa.array(codes, pa.int8()), members, names, list(array.type.type_codes))
