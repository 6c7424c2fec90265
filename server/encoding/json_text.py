"""JSON texts of Arrow arrays of any type, one text per value, made by Arrow's kernels and not row by row.

Null, NaN and infinities read ``null``. Strings: integers beyond 2^53, decimals with a scale (so that no digit is lost),
times (ISO 8601) and blobs (base64). A map is a list of ``{"key":…,"value":…}``, for its keys need not be texts.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from server.encoding.numbers import decimal_texts, ended_number_texts, float_texts, integer_texts, is_beyond_exact
from server.encoding.text_data import holds_any
from server.encoding.times import date_texts, interval_texts, time_texts, timestamp_texts

_NULL = pa.scalar(b"null", pa.binary())
_EMPTY = pa.scalar(b"", pa.binary())
_QUOTE = pa.scalar(b'"', pa.binary())


def simple_json_texts(array: pa.Array, after: bytes) -> tuple[bytes, pa.BinaryArray, bytes] | None:
    """Numbers that JSON can carry and texts without escapes, for ``rows.Simply``."""
    kind = array.type
    if pt.is_floating(kind):
        return b"", ended_number_texts(array, after[0]), after[1:]
    if array.null_count:
        return None
    if pt.is_integer(kind) and is_beyond_exact(array) is None:
        return b"", ended_number_texts(array, after[0]), after[1:]
    if is_text(kind):
        array = array.cast(pa.string())
        if not needs_escapes(array):
            return b'"', array.cast(pa.binary()), b'"' + after
    return None


def json_texts(array: pa.Array) -> pa.BinaryArray:
    """One JSON text per value of ``array``; none of them is null."""
    if isinstance(array, pa.ExtensionArray):
        array = uuid_texts(array) if str(array.type.extension_name) == "arrow.uuid" else array.storage
    kind = array.type
    if pt.is_dictionary(kind):
        return _dictionary(array)
    if pt.is_floating(kind):
        return float_texts(array)
    if pt.is_null(kind):
        return pa.array([b"null"] * len(array), pa.binary())
    if pt.is_list(kind) or pt.is_large_list(kind) or pt.is_fixed_size_list(kind) or pt.is_list_view(kind):
        texts = _list(array)
    elif pt.is_map(kind):
        entry = pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])
        texts = _list(array.cast(pa.list_(entry)))
    elif pt.is_struct(kind):
        texts = _struct(array)
    elif pt.is_union(kind) and kind.mode == "sparse":
        return _union(array)
    else:
        texts = _scalar(array)
    return texts.fill_null(_NULL) if texts.null_count else texts


def scalar_texts(array: pa.Array) -> pa.BinaryArray | None:
    """Texts without quotes of an array of integers, booleans, decimals, times or blobs, null where the array is.

    None when the array holds something else.
    """
    kind = array.type
    if pt.is_integer(kind):
        return integer_texts(array)
    if pt.is_boolean(kind):
        return pc.if_else(array, pa.scalar(b"true", pa.binary()), pa.scalar(b"false", pa.binary()))
    if pt.is_decimal(kind):
        return decimal_texts(array)
    if pt.is_date32(kind):
        return date_texts(array)
    if pt.is_timestamp(kind):
        return timestamp_texts(array)
    if pt.is_time(kind):
        return time_texts(array)
    if pt.is_interval(kind):
        return interval_texts(array)
    if is_blob(kind):
        encoded = [None if value is None else base64.b64encode(value) for value in array.to_pylist()]
        return pa.array(encoded, pa.binary())
    return None


def is_text(kind: pa.DataType) -> bool:
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind))


def is_blob(kind: pa.DataType) -> bool:
    return bool(
        pt.is_binary(kind) or pt.is_large_binary(kind) or pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind)
    )


def uuid_texts(array: pa.ExtensionArray) -> pa.StringArray:
    """Texts of an array of UUIDs, null where the array is."""
    return pa.array([None if value is None else str(value) for value in array.to_pylist()], pa.string())


def needs_escapes(array: pa.StringArray) -> bool:
    """Whether a byte stands anywhere in the texts that JSON does not take as it is."""
    return holds_any(array, b'"\\', below=0x20)


def quoted(texts: pa.BinaryArray) -> pa.BinaryArray:
    """The texts between quotes. They must hold nothing that JSON escapes."""
    return pc.binary_join_element_wise(_QUOTE, texts, _QUOTE, _EMPTY)


def members(names: Sequence[str], fields: Sequence[pa.BinaryArray], before: bytes, after: bytes) -> pa.BinaryArray:
    """One JSON object per row: ``before``, ``{"name":text,…}``, ``after``."""
    parts: list[pa.BinaryArray | pa.BinaryScalar] = []
    lead = before + b"{"
    for name, texts in zip(names, fields, strict=True):
        parts += [pa.scalar(lead + orjson.dumps(name) + b":", pa.binary()), texts]
        lead = b","
    return pc.binary_join_element_wise(*parts, pa.scalar(b"}" + after, pa.binary()), _EMPTY)


def _scalar(array: pa.Array) -> pa.BinaryArray:
    kind = array.type
    if is_text(kind):
        return _strings(array)
    texts = scalar_texts(array)
    if texts is None:
        raise TypeError(f"no JSON text is known for a column of type {kind}")
    if pt.is_boolean(kind):
        return texts
    if pt.is_integer(kind) or (pt.is_decimal(kind) and kind.scale <= 0):
        beyond = is_beyond_exact(array)
        return texts if beyond is None else pc.if_else(beyond, quoted(texts), texts)
    return quoted(texts)


def _strings(array: pa.Array) -> pa.BinaryArray:
    array = array.cast(pa.string())
    if not needs_escapes(array):
        return quoted(array.cast(pa.binary()))
    return pa.array([None if value is None else orjson.dumps(value) for value in array.to_pylist()], pa.binary())


def _dictionary(array: pa.DictionaryArray) -> pa.BinaryArray:
    if len(array.dictionary) > len(array):
        return json_texts(array.dictionary_decode())
    texts = json_texts(array.dictionary).take(array.indices)
    return texts.fill_null(_NULL) if texts.null_count else texts


def _list(array: pa.Array) -> pa.BinaryArray:
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    ends = np.zeros(len(array) + 1, dtype=np.int32)
    np.cumsum(lengths, out=ends[1:])
    # Arrow ends the whole process when it flattens some slices of lists whose values can only be null.
    values = pa.nulls(int(ends[-1])) if pt.is_null(array.type.value_type) else array.flatten()
    inside = pa.ListArray.from_arrays(pa.array(ends), json_texts(values))
    texts = pc.binary_join(inside, pa.scalar(b",", pa.binary()))
    texts = pc.binary_join_element_wise(pa.scalar(b"[", pa.binary()), texts, pa.scalar(b"]", pa.binary()), _EMPTY)
    return _null_where(array, texts)


def _struct(array: pa.StructArray) -> pa.BinaryArray:
    names = [field.name for field in array.type]
    fields = [json_texts(field) for field in array.flatten()]
    if not names:
        texts = pa.array([b"{}"] * len(array), pa.binary())
    elif len(set(names)) == len(names):
        texts = members(names, fields, b"", b"")
    else:  # a row without names: DuckDB calls each field ""
        inner = pc.binary_join_element_wise(*fields, pa.scalar(b",", pa.binary()))
        texts = pc.binary_join_element_wise(pa.scalar(b"[", pa.binary()), inner, pa.scalar(b"]", pa.binary()), _EMPTY)
    return _null_where(array, texts)


def _union(array: pa.UnionArray) -> pa.BinaryArray:
    """Each value as what it is; which member of the union it belongs to is not said."""
    codes = list(array.type.type_codes)
    members = [json_texts(array.field(position)) for position in range(len(codes))]
    return pc.choose(pa.array([codes.index(code) for code in array.type_codes.to_pylist()], pa.int64()), *members)


def _null_where(array: pa.Array, texts: pa.BinaryArray) -> pa.BinaryArray:
    return pc.if_else(array.is_valid(), texts, _NULL) if array.null_count else texts
