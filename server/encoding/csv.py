"""CSV after RFC 4180: a header line, commas, CRLF. Carries no meta.

Null is an empty field and an empty text is ``""``; NaN and infinities are ``nan``, ``inf`` and ``-inf``; nested values
are JSON texts. Numbers and times read as in JSON, without quotes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from server.encoding.json_text import is_text, json_texts, scalar_texts, uuid_texts
from server.encoding.nonfinite import count_nonfinite
from server.encoding.numbers import ended_number_texts, number_texts, with_nulls_of
from server.encoding.payload import Payload, in_steps
from server.encoding.rows import RowWriter
from server.encoding.small import small_columns
from server.encoding.text_data import data_of, holds_any

_EMPTY = pa.scalar(b"", pa.binary())
_QUOTE = '"'
_UNSAFE = re.compile('[",\r\n]')
_END = b"\r\n"


def encode_csv(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece."""
    names = _quoted(pa.array(payload.schema.names, pa.string())).to_pylist()
    yield b",".join(names) + _END
    rows = RowWriter([b"", *[b","] * (len(names) - 1), _END], csv_texts, _simple_csv_texts)
    holds_lists = any(kind.num_fields for kind in payload.schema.types)
    nonfinite = 0
    for batch in in_steps(payload.schema, payload.batches):
        nonfinite += count_nonfinite(batch)
        small = None if holds_lists else small_columns(batch)
        yield bytes(data_of(rows.rows(batch.columns))) if small is None else _small_rows(small)
    payload.closing(nonfinite)


def _small_rows(columns: list[list[Any]]) -> bytes:
    fields = [[_field(value) for value in column] for column in columns]
    return "".join([",".join(row) + "\r\n" for row in zip(*fields, strict=True)]).encode()


def _field(value: Any) -> str:
    """The field of one value of those types that ``small_columns`` gives."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f'"{value.replace(_QUOTE, _QUOTE * 2)}"' if not value or _UNSAFE.search(value) else value
    if isinstance(value, float):
        return orjson.dumps(value).decode() if math.isfinite(value) else str(value)
    return str(value).lower()  # an integer or a boolean


def _simple_csv_texts(array: pa.Array, after: bytes) -> tuple[bytes, pa.BinaryArray, bytes] | None:
    """Numbers that are all there and finite, for ``rows.Simply``."""
    if array.null_count or not (pt.is_integer(array.type) or pt.is_floating(array.type)):
        return None
    if pt.is_floating(array.type) and not np.isfinite(array.to_numpy()).all():
        return None
    return b"", ended_number_texts(array, after[0]), after[1:]


def csv_texts(array: pa.Array) -> pa.BinaryArray:
    """One CSV field per value of ``array``, empty where it is null."""
    kind = array.type
    if pt.is_dictionary(kind) and len(array.dictionary) <= len(array):
        texts = csv_texts(array.dictionary).take(array.indices)
    else:
        texts = with_nulls_of(array, _texts(array.dictionary_decode() if pt.is_dictionary(kind) else array))
    return texts.fill_null(_EMPTY) if texts.null_count else texts


def _texts(array: pa.Array) -> pa.BinaryArray:
    if isinstance(array, pa.ExtensionArray):
        array = uuid_texts(array) if str(array.type.extension_name) == "arrow.uuid" else array.storage
    if pt.is_floating(array.type):
        return _floats(array)
    if is_text(array.type):
        return _quoted(array.cast(pa.string()))
    texts = scalar_texts(array)
    if texts is not None:
        return texts
    nested = json_texts(array).cast(pa.string())
    if pt.is_union(array.type):  # a union knows no null of its own
        nested = pc.if_else(pc.equal(nested, "null"), pa.scalar(None, pa.string()), nested)
    return _quoted(nested)


def _floats(array: pa.Array) -> pa.BinaryArray:
    texts = number_texts(array.fill_null(0.0) if array.null_count else array)
    for special, text in ((pc.is_nan(array), b"nan"), (pc.equal(array, float("inf")), b"inf")):
        texts = pc.if_else(special.fill_null(False), pa.scalar(text, pa.binary()), texts)
    return pc.if_else(pc.equal(array, float("-inf")).fill_null(False), pa.scalar(b"-inf", pa.binary()), texts)


def _quoted(array: pa.StringArray) -> pa.BinaryArray:
    """The fields, between quotes where the RFC asks for it or the text is empty; null stays null."""
    needed = pc.equal(pc.binary_length(array), 0)
    if holds_any(array, b'",\r\n'):  # far quicker than the pattern, and most columns hold none
        needed = pc.or_(needed, pc.match_substring_regex(array, '[",\r\n]'))
    if not pc.any(needed).as_py():
        return array.cast(pa.binary())
    doubled = pc.replace_substring(array, '"', '""')
    return pc.if_else(needed, pc.binary_join_element_wise('"', doubled, '"', ""), array).cast(pa.binary())
