"""Text columns as dictionaries with int32 indices, for Arrow IPC streams. Other columns stay as they are.

A stream's dictionaries may be replaced from batch to batch. They grow while they are small, so that columns with few
values are sent once; a column with many gets a new one with each batch, and memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from tests.server.encoding.first.json_text import is_text

MOST_GROWN = 65_536  # values; a dictionary beyond that starts anew
_TARGET = pa.dictionary(pa.int32(), pa.string())


def with_dictionaries(schema: pa.Schema) -> pa.Schema:
    """The schema that ``encode_dictionaries`` gives."""
    return pa.schema([field.with_type(_TARGET) if _is_text(field.type) else field for field in schema])


def encode_whole(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
    """All batches, sharing one dictionary per column."""
    table = pa.Table.from_batches(list(batches), schema=schema)
    for position, field in enumerate(schema):
        if _is_text(field.type):
            plain = table.column(position).cast(pa.string())
            encoded = pc.dictionary_encode(plain).unify_dictionaries()
            table = table.set_column(position, field.with_type(_TARGET), encoded.cast(_TARGET))
    return list(table.to_batches())


def encode_dictionaries(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches one by one, each with the dictionaries that hold its values."""
    target = with_dictionaries(schema)
    grown: dict[int, pa.StringArray] = {}
    for batch in batches:
        columns = list(batch.columns)
        for position, field in enumerate(schema):
            if _is_text(field.type):
                columns[position], grown[position] = _encode(columns[position], grown.get(position))
        yield pa.RecordBatch.from_arrays(columns, schema=target)


def _encode(column: pa.Array, known: pa.StringArray | None) -> tuple[pa.DictionaryArray, pa.StringArray]:
    """The column as a dictionary array, and its dictionary: ``known`` itself when that has all of its values."""
    encoded = column.cast(pa.string()).dictionary_encode()
    own = encoded.dictionary
    if known is None:
        return encoded.cast(_TARGET), own
    missing = own.filter(pc.is_null(pc.index_in(own, value_set=known)))
    if len(missing):
        if len(known) + len(missing) > MOST_GROWN:
            return encoded.cast(_TARGET), own
        known = pa.concat_arrays([known, missing])
    places = pc.index_in(own, value_set=known)
    return pa.DictionaryArray.from_arrays(places.take(encoded.indices), known), known


def _is_text(kind: pa.DataType) -> bool:
    return is_text(kind) or (pt.is_dictionary(kind) and is_text(kind.value_type))
