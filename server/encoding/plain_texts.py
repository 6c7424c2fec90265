"""Texts that came with a dictionary, written out: the types of an answer do not depend on how its rows were found."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.types as pt

from server.encoding.json_text import is_text

_DICTIONARY = pa.dictionary(pa.int8(), pa.string()).id


def is_coded_text(kind: pa.DataType) -> bool:
    """Whether this is a dictionary of texts, as DuckDB gives an ENUM."""
    return kind.id == _DICTIONARY and is_text(kind.value_type)


def with_plain_texts(schema: pa.Schema, *, nested_only: bool = False) -> pa.Schema:
    """The schema without dictionaries of texts; with ``nested_only`` those stay that are a whole column."""
    types = schema.types
    plain = [kind if nested_only and is_coded_text(kind) else _plain(kind) for kind in types]
    if all(one is other for one, other in zip(plain, types, strict=True)):
        return schema
    fields = [field.with_type(kind) for field, kind in zip(schema, plain, strict=True)]
    return pa.schema(fields, metadata=schema.metadata)


def write_out(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows in a schema that ``with_plain_texts`` made."""
    if schema is batch.schema or batch.schema.equals(schema):
        return batch
    columns = [_cast(column, field.type) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type with texts in place of dictionaries of them, at any depth; names of fields stay."""
    if kind.id == _DICTIONARY:
        return kind.value_type if is_text(kind.value_type) else kind
    if not kind.num_fields:
        return kind
    fields = [kind.field(position) for position in range(kind.num_fields)]
    plain = [field.with_type(_plain(field.type)) for field in fields]
    if plain == fields:
        return kind
    if pt.is_list(kind):
        return pa.list_(plain[0])
    if pt.is_fixed_size_list(kind):
        return pa.list_(plain[0], kind.list_size)
    if pt.is_map(kind):
        entry = plain[0].type
        return pa.map_(entry.field(0), entry.field(1), keys_sorted=kind.keys_sorted)
    if pt.is_struct(kind):
        return pa.struct(plain)
    if pt.is_union(kind):
        return pa.union(plain, kind.mode, list(kind.type_codes))
    return kind


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type.equals(kind):
        return array
    if not pt.is_union(kind):
        return array.cast(kind)
    members = [_cast(array.field(position), kind.field(position).type) for position in range(kind.num_fields)]
    names = [kind.field(position).name for position in range(kind.num_fields)]
    return pa.UnionArray.from_sparse(array.type_codes, members, names, list(kind.type_codes))
