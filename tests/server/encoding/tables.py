"""Hypothesis strategies for tables of every type that an answer may hold, and texts turned into dictionaries.

Values come from a few or from many; rows are repeated, so that small and large batches are met; and arrays are slices
of longer ones.
"""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.types as pt
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Kind = tuple[pa.DataType, SearchStrategy[Any]]

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["", "a", "null", "nan", '"', "\\", ",", "\r\n", "\x00\x1f\x7f", "ü", "😀", 'a "b", c\n', "Dolma1.6++", "x" * 300]
)
_DOUBLES = st.floats() | st.sampled_from(
    [0.0, -0.0, 5e-324, -2.2e-308, 1e16, 1e300, 0.1, 1.0, math.nan, math.inf, -math.inf, 2.0**53, 123456789.0]
)
_SINGLES = st.floats(width=32) | st.sampled_from([0.1, -0.0, 1e-45, math.nan, math.inf])


def _integers(bits: int, signed: bool) -> SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    edges = [value for value in (0, 1, -1, 2**53 - 1, 2**53, 2**53 + 1, -(2**53), -(2**53) - 1) if low <= value <= high]
    return st.integers(low, high) | st.sampled_from([*edges, low, high])


def _decimals(digits: int, scale: int) -> SearchStrategy[Decimal]:
    edges = st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, -(2**53) - 1, 10**digits - 1])
    whole = (st.integers(-(10**digits) + 1, 10**digits - 1) | edges).filter(lambda value: abs(value) < 10**digits)
    # Not by scaleb(), which rounds to the digits of the context.
    return whole.map(lambda value: Decimal((int(value < 0), tuple(map(int, str(abs(value)))), -scale)))


_WHOLE = [
    (getattr(pa, f"{sign}int{bits}")(), _integers(bits, not sign)) for sign in ("", "u") for bits in (8, 16, 32, 64)
]
_TICKS = st.integers(-(2**62), 2**62) | st.sampled_from([0, 1, -1, 1_700_000_000, 2**63 - 1, -(2**63) + 1, 10**18])
_DAYS = st.integers(-(2**31) + 1, 2**31 - 1) | st.sampled_from([0, -1, 19_000, 2_932_896, 2_932_897])

SCALARS: list[Kind] = [
    *_WHOLE,
    (pa.float64(), _DOUBLES),
    (pa.float32(), _SINGLES),
    (pa.string(), _TEXTS),
    (pa.bool_(), st.booleans()),
    (pa.decimal128(38, 0), _decimals(38, 0)),
    (pa.decimal128(15, 0), _decimals(15, 0)),
    (pa.decimal128(18, 3), _decimals(18, 3)),
    (pa.decimal128(30, 10), _decimals(30, 10)),
    (pa.date32(), _DAYS),
    *((pa.timestamp(unit), _TICKS) for unit in ("s", "ms", "us", "ns")),
    (pa.timestamp("us", tz="UTC"), _TICKS),
    (pa.time64("us"), st.integers(0, 86_400_000_000)),
    (pa.binary(), st.binary(max_size=5)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.month_day_nano_interval(), st.tuples(*[st.integers(-40, 40)] * 3).map(pa.MonthDayNano)),
]


def _nested(inner: SearchStrategy[Kind]) -> SearchStrategy[Kind]:
    def lists(kind: Kind) -> Kind:
        return pa.list_(pa.field("l", kind[0])), st.lists(st.none() | kind[1], max_size=3)

    def arrays(kind: Kind) -> Kind:
        return pa.list_(kind[0], 2), st.lists(st.none() | kind[1], min_size=2, max_size=2)

    def structs(kinds: tuple[Kind, Kind]) -> Kind:
        names = ("a", 'b "c"')
        values = dict(zip(names, (st.none() | kind[1] for kind in kinds), strict=True))
        return pa.struct([(name, kind[0]) for name, kind in zip(names, kinds, strict=True)]), st.fixed_dictionaries(
            values
        )

    def maps(kind: Kind) -> Kind:
        return pa.map_(pa.string(), kind[0]), st.lists(st.tuples(_TEXTS, st.none() | kind[1]), max_size=2)

    return inner.map(lists) | inner.map(arrays) | st.tuples(inner, inner).map(structs) | inner.map(maps)


# Only a whole column is a large_string, and of nulls alone: with those in lists the first encoders end the process, see
# test_lists_of_nothing.
KINDS: SearchStrategy[Kind] = st.sampled_from([(pa.large_string(), _TEXTS), (pa.null(), st.none())]) | st.recursive(
    st.sampled_from(SCALARS), _nested, max_leaves=3
)


@st.composite
def columns(draw: st.DrawFn, kind: Kind, rows: int) -> pa.Array:
    """An array of that many rows, a slice of a longer one."""
    before = draw(st.sampled_from([0, 0, 1, 7, 8, 9]))
    values = draw(st.lists(st.none() | kind[1] if draw(st.booleans()) else kind[1], min_size=1, max_size=25))
    chance = random.Random(draw(st.integers(0, 2**32)))
    many = [chance.choice(values) for _ in range(before + rows)] if draw(st.booleans()) else values * (before + rows)
    if pt.is_floating(kind[0]) and draw(st.booleans()):  # more different values than anyone draws
        many = [chance.uniform(-1, 1) * 10 ** chance.randint(-4, 4) for _ in range(before + rows)]
    return pa.array(many[: before + rows], kind[0]).slice(before)


@st.composite
def answers(draw: st.DrawFn) -> list[pa.RecordBatch]:
    """The batches of an answer of 1 to 5 columns; some are empty, and there is at least one."""
    kinds = draw(st.lists(KINDS, min_size=1, max_size=5))
    kinds += draw(st.sampled_from([[], [(pa.string(), _TEXTS)], [(pa.string(), _TEXTS), (pa.float64(), _DOUBLES)]]))
    names = [f"c{position}" for position in range(len(kinds))]
    names[0] = draw(st.sampled_from(["params", "", 'a "b"\n', "ü,", "c1"]))
    lengths = draw(st.lists(st.sampled_from([0, 1, 3, 8, 50, 300, 1_500]), min_size=1, max_size=3))
    schema = pa.schema([pa.field(name, kind[0]) for name, kind in zip(names, kinds, strict=True)])
    return [
        pa.RecordBatch.from_arrays([draw(columns(kind, rows)) for kind in kinds], schema=schema) for rows in lengths
    ]


def with_enums(batches: list[pa.RecordBatch], seed: int) -> list[pa.RecordBatch]:
    """The same rows with texts as dictionaries, at any depth, each batch with dictionaries of its own."""
    chance = random.Random(seed)
    most = max(batch.num_rows for batch in batches) * 3 + 3  # lists and structs have several texts a row
    index = chance.choice([kind for kind in (pa.uint8(), pa.uint16(), pa.uint32()) if most < 2**kind.bit_width])
    kinds = [_enum(field.type, index) for field in batches[0].schema]
    schema = pa.schema([field.with_type(kind) for field, kind in zip(batches[0].schema, kinds, strict=True)])
    return [
        pa.RecordBatch.from_arrays(
            [_coded(column, kind, chance) for column, kind in zip(batch.columns, kinds, strict=True)], schema=schema
        )
        for batch in batches
    ]


def _enum(kind: pa.DataType, index: pa.DataType) -> pa.DataType:
    if pt.is_string(kind):
        return pa.dictionary(index, pa.string())
    if pt.is_list(kind):
        return pa.list_(kind.value_field.with_type(_enum(kind.value_type, index)))
    if pt.is_fixed_size_list(kind):
        return pa.list_(kind.value_field.with_type(_enum(kind.value_type, index)), kind.list_size)
    if pt.is_struct(kind):
        return pa.struct([field.with_type(_enum(field.type, index)) for field in kind])
    return kind


def _coded(array: pa.Array, kind: pa.DataType, chance: random.Random) -> pa.Array:
    if array.type.equals(kind):
        return array
    if pt.is_dictionary(kind):
        texts = [*{text for text in array.to_pylist() if text is not None}, "unused", "", 'un"used']
        texts = list(dict.fromkeys(texts))
        chance.shuffle(texts)
        places = {text: place for place, text in enumerate(texts)}
        codes = pa.array([None if text is None else places[text] for text in array.to_pylist()], kind.index_type)
        return pa.DictionaryArray.from_arrays(codes, pa.array(texts, pa.string()))
    if pt.is_struct(kind):
        fields = [_coded(array.field(at), kind.field(at).type, chance) for at in range(kind.num_fields)]
        return pa.StructArray.from_arrays(fields, fields=list(kind), mask=array.is_null())
    values = _coded(array.flatten(), kind.value_type, chance)
    if pt.is_fixed_size_list(kind):
        whole = array.fill_null([None] * kind.list_size) if array.null_count else array
        values = _coded(whole.flatten(), kind.value_type, chance)
        return pa.FixedSizeListArray.from_arrays(values, type=kind, mask=array.is_null())
    lengths = [0 if item is None else len(item) for item in array.to_pylist()]
    ends = pa.array([sum(lengths[:at]) for at in range(len(lengths) + 1)], pa.int32())
    return pa.ListArray.from_arrays(ends, values, type=kind, mask=array.is_null())


__all__ = ["KINDS", "SCALARS", "answers", "with_enums"]
