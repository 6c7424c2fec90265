"""CSV after RFC 4180: a header line, commas, CRLF. Carries no meta.

Null is an empty field and an empty text is ``""``; NaN and infinities are ``nan``, ``inf`` and ``-inf``; nested values
are JSON texts. Numbers and times read as in JSON, without quotes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from tests.server.encoding.first.json import data_of
from tests.server.encoding.first.json_text import holds_any, is_text, json_texts, scalar_texts, uuid_texts
from tests.server.encoding.first.nonfinite import count_nonfinite
from tests.server.encoding.first.numbers import number_texts, with_nulls_of
from tests.server.encoding.first.payload import Payload, in_steps

_EMPTY = pa.scalar(b"", pa.binary())
_COMMA = pa.scalar(b",", pa.binary())
_END = b"\r\n"


def encode_csv(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece."""
    names = _quoted(pa.array(payload.schema.names, pa.string())).to_pylist()
    yield b",".join(names) + _END
    nonfinite = 0
    for batch in in_steps(payload.schema, payload.batches):
        nonfinite += count_nonfinite(batch)
        fields = [csv_texts(column) for column in batch.columns]
        rows = pc.binary_join_element_wise(*fields, _COMMA) if len(fields) > 1 else fields[0]
        yield bytes(data_of(pc.binary_join_element_wise(rows, pa.scalar(_END, pa.binary()), _EMPTY)))
    payload.closing(nonfinite)


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
