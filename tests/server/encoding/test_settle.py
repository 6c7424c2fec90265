"""Equal values give equal bytes, whatever memory held before; and no byte of that memory leaves."""

from __future__ import annotations

from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from server.encoding.settle import settle
from tests.server.encoding.support import encode
from tests.server.encoding.test_json_text import CASES

KINDS = {
    "boolean": (pa.bool_(), [True, None, False]),
    "integer": (pa.int32(), [1, None, 3]),
    "float": (pa.float64(), [1.5, None, float("inf")]),
    "decimal": (pa.decimal128(9, 2), [None, None, 1]),
    "text": (pa.string(), ["a", None, ""]),
    "late text": (pa.string(), ["", None, "a"]),
    "blob": (pa.binary(), [b"a", None, b""]),
    "digest": (pa.binary(3), [b"abc", None, b"def"]),
    "list": (pa.list_(pa.int32()), [[1, None], None, []]),
    "array": (pa.list_(pa.int32(), 2), [[1, 2], None, [None, 4]]),
    "struct": (pa.struct({"a": pa.int32(), "b": pa.string()}), [{"a": 1, "b": None}, None, {"a": None, "b": "x"}]),
    "map": (pa.map_(pa.string(), pa.int32()), [[("a", 1)], None, [("b", None), ("c", 3)]]),
    "nested": (pa.list_(pa.struct({"a": pa.list_(pa.float32())})), [[{"a": [1.0, None]}, None], None, [{"a": None}]]),
    "choice": (pa.dictionary(pa.int32(), pa.string()), ["a", None, "b"]),
    "nothing": (pa.null(), [None, None, None]),
    "span": (pa.month_day_nano_interval(), [(1, 2, 3), None, (4, 5, 6)]),
}


@pytest.mark.parametrize("name", KINDS)
def test_values_stay(name: str) -> None:
    kind, values = KINDS[name]
    array = pa.array(values * 5, kind)
    for given in (array, array.slice(1), array.slice(4, 6), array.slice(0, 0), array.slice(2, 1), array.slice(0, 1)):
        found = settle(given)
        found.validate(full=True)
        assert found.type == given.type
        assert found.equals(given)


@pytest.mark.parametrize("sql", [case[0] for case in CASES])
def test_values_of_duckdb_stay(sql: str) -> None:
    with duckdb.connect() as connection:
        query = f"SELECT {sql} AS v FROM range(3) UNION ALL SELECT NULL FROM range(2)"
        array = connection.sql(query).to_arrow_table()["v"].combine_chunks()
    found = settle(array)
    found.validate(full="24:00" not in sql)  # a time that DuckDB has and Arrow has not
    assert found.type == array.type
    if "nan" not in sql:
        assert found.equals(array)


def _dirty(array: pa.Array, filler: int) -> pa.Array:
    """The same values, with everything that is no value set to ``filler``: under nulls, and after the end."""
    kind = array.type
    width = kind.bit_width // 8
    rows = np.frombuffer(array.buffers()[1], dtype=np.uint8)[: len(array) * width].reshape(len(array), width).copy()
    rows[array.is_null().to_numpy(zero_copy_only=False)] = filler
    values = np.concatenate([rows.ravel(), np.full(61, filler, dtype=np.uint8)])
    bits = np.packbits(array.is_valid().to_numpy(zero_copy_only=False), bitorder="little")
    bits[-1] |= (filler << (len(array) % 8)) & 0xFF
    bits = np.concatenate([bits, np.full(61, filler, dtype=np.uint8)])
    return pa.Array.from_buffers(kind, len(array), [pa.py_buffer(bits), pa.py_buffer(values)], array.null_count)


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "streamed"])
def test_no_byte_of_other_memory_leaves(is_whole: bool) -> None:
    def table(filler: int) -> pa.Table:
        loss = _dirty(pa.array([1.5, None, 2.5]), filler)
        small = _dirty(pa.array([1, 2, None], pa.int32()), filler)
        columns: dict[str, Any] = {
            "loss": loss,
            "small": small,
            "struct": pa.StructArray.from_arrays([small], names=["a"], mask=pa.array([False, True, False])),
            "list": pa.ListArray.from_arrays([0, 1, 3, 3], small),
            "array": pa.FixedSizeListArray.from_arrays(_dirty(pa.array([1, None, 3], pa.int32()), filler), 1),
        }
        return pa.table(columns)

    bodies = {encode("arrow", table(filler), is_whole=is_whole) for filler in (0x00, 0x48, 0xFF)}
    assert len(bodies) == 1


def test_what_a_null_struct_hides_is_gone() -> None:
    secret = pa.array([7, 0x4141414141414141], pa.int64())
    column = pa.StructArray.from_arrays([secret], names=["a"], mask=pa.array([False, True]))
    assert b"AAAA" not in encode("arrow", pa.table({"s": column}))
