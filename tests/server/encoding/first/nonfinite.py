"""How many NaN and infinities a batch holds, nested ones too: JSON makes them null, and says how many."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt


def count_nonfinite(batch: pa.RecordBatch) -> int:
    """The number of NaN and infinite values in all columns."""
    return sum(_count(column) for column in batch.columns)


def has_floats(kind: pa.DataType) -> bool:
    """Whether values of this type can hold a NaN anywhere."""
    if pt.is_floating(kind):
        return True
    if pt.is_dictionary(kind):
        return has_floats(kind.value_type)
    return any(has_floats(kind.field(position).type) for position in range(kind.num_fields))


def _count(array: pa.Array) -> int:
    kind = array.type
    if not has_floats(kind):
        return 0
    if pt.is_floating(kind):
        return int(len(array) - array.null_count) - int(pc.sum(pc.is_finite(array.cast(pa.float64()))).as_py() or 0)
    if pt.is_dictionary(kind):
        return _count(array.dictionary_decode())
    if pt.is_struct(kind):
        return sum(_count(field) for field in array.flatten())
    if pt.is_map(kind):
        entry = pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])
        return _count(array.cast(pa.list_(entry)).flatten())
    if pt.is_union(kind):
        codes = array.type_codes
        return sum(
            _count(array.field(position).filter(pc.equal(codes, code))) for position, code in enumerate(kind.type_codes)
        )
    return _count(array.flatten())
