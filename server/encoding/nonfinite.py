"""How many NaN and infinities a batch holds, nested ones too: JSON makes them null, and says how many."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt


def count_nonfinite(batch: pa.RecordBatch) -> int:
    """The number of NaN and infinite values in all columns."""
    kinds = enumerate(batch.schema.types)
    return sum(_count(batch.column(position)) for position, kind in kinds if has_floats(kind))


def has_floats(kind: pa.DataType) -> bool:
    """Whether values of this type can hold a NaN anywhere."""
    if pt.is_floating(kind):
        return True
    if pt.is_dictionary(kind):
        return has_floats(kind.value_type)
    return bool(kind.num_fields) and any(has_floats(kind.field(position).type) for position in range(kind.num_fields))


def _count(array: pa.Array) -> int:
    kind = array.type
    if pt.is_floating(kind):
        values = array.to_numpy(zero_copy_only=False)  # with NaN in place of null
        return len(array) - int(np.count_nonzero(np.isfinite(values))) - int(array.null_count)
    if pt.is_dictionary(kind):
        return _count(array.dictionary_decode())
    if pt.is_struct(kind):
        return sum(_count(field) for field in array.flatten() if has_floats(field.type))
    if pt.is_map(kind):
        entry = pa.struct([pa.field("key", kind.key_type), pa.field("value", kind.item_type)])
        return _count(array.cast(pa.list_(entry)).flatten())
    if pt.is_union(kind):
        codes = array.type_codes
        return sum(
            _count(array.field(position).filter(pc.equal(codes, code)))
            for position, code in enumerate(kind.type_codes)
            if has_floats(kind.field(position).type)
        )
    return _count(array.flatten())
