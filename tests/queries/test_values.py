"""Values by the type of their column: what is taken, what is refused, and both ways of writing them."""
# ruff: noqa: DTZ001  (a TIMESTAMP is naive, and UTC)

from __future__ import annotations

import json
import math
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.errors import InvalidValueError, TypeMismatchError
from queries.schema import Column
from queries.values import canonical_value, format_value, parse_flag, parse_value
from queries.vocabulary import shown

SIZE = Column("params", "VARCHAR", is_size_label=True)
SINGLE = struct.unpack("<f", struct.pack("<f", 0.1))[0]
CODE = UUID("12345678-1234-5678-1234-567812345678")


def column(sql_type: str) -> Column:
    return SIZE if sql_type == "SIZE" else Column("col", sql_type)


def same(left: object, right: object) -> bool:
    """Equal in type and value, with NaN equal to itself."""
    if isinstance(left, float) and isinstance(right, float):
        return struct.pack("<d", left) == struct.pack("<d", right)
    if isinstance(left, datetime) and isinstance(right, datetime) and left.tzinfo is not right.tzinfo:
        return False
    return type(left) is type(right) and left == right


def case_id(sql_type: str, value: object, _: object = None) -> str:
    return f"{sql_type}-{type(value).__name__}-{shown(value, quote=False, most=30)}"


TAKEN: list[tuple[str, object, object]] = [
    ("BIGINT", "5000", 5000),
    ("BIGINT", "5e3", 5000),
    ("BIGINT", "5000.0", 5000),
    ("BIGINT", "5000.", 5000),
    ("BIGINT", "+5", 5),
    ("BIGINT", "-5", -5),
    ("BIGINT", "-0", 0),
    ("BIGINT", "0e999999999", 0),
    ("BIGINT", "1500e-2", 15),
    ("BIGINT", "0" * 500 + "7", 7),
    ("BIGINT", 5, 5),
    ("BIGINT", 5.0, 5),
    ("BIGINT", 1e3, 1000),
    ("BIGINT", Decimal("5E+3"), 5000),
    ("TINYINT", "1000", 1000),
    ("BIGINT", "9007199254740993", 9007199254740993),
    ("HUGEINT", str(2**127 - 1), 2**127 - 1),
    ("HUGEINT", -(2**127), -(2**127)),
    ("UHUGEINT", str(2**128 - 1), 2**128 - 1),
    ("BIGINT", np.int64(5), 5),
    ("BIGINT", np.uint8(5), 5),
    ("BIGINT", np.float64(5.0), 5),
    ("BIGINT", np.array(5), 5),
    ("DOUBLE", "0.1", 0.1),
    ("DOUBLE", ".5", 0.5),
    ("DOUBLE", "5e3", 5000.0),
    ("DOUBLE", "nan", math.nan),
    ("DOUBLE", "NaN", math.nan),
    ("DOUBLE", "inf", math.inf),
    ("DOUBLE", "-Infinity", -math.inf),
    ("DOUBLE", "+inf", math.inf),
    ("DOUBLE", "-0.0", 0.0),
    ("DOUBLE", -0.0, 0.0),
    ("DOUBLE", "1e-400", 0.0),
    ("DOUBLE", 1, 1.0),
    ("DOUBLE", Decimal("0.1"), 0.1),
    ("DOUBLE", math.nan, math.nan),
    ("DOUBLE", np.float32(0.1), SINGLE),
    ("FLOAT", "0.1", SINGLE),
    ("FLOAT", 0.1, SINGLE),
    ("FLOAT", "inf", math.inf),
    ("FLOAT", np.float64("nan"), math.nan),
    ("DECIMAL(10,2)", "1.50", Decimal("1.5")),
    ("DECIMAL(10,2)", "100", Decimal("1E+2")),
    ("DECIMAL(10,2)", 0.1, Decimal("0.1")),
    ("DECIMAL(10,2)", 3, Decimal(3)),
    ("DECIMAL(10,2)", "-0.00", Decimal(0)),
    ("DECIMAL(10,2)", "1e3", Decimal("1E+3")),
    ("DECIMAL(38,30)", "0.123456789012345678901234567891", Decimal("0.123456789012345678901234567891")),
    ("BOOLEAN", "true", True),
    ("BOOLEAN", "False", False),
    ("BOOLEAN", "1", True),
    ("BOOLEAN", "0", False),
    ("BOOLEAN", True, True),
    ("BOOLEAN", np.bool_(False), False),
    ("VARCHAR", "1", "1"),
    ("VARCHAR", "", ""),
    ("VARCHAR", " a ", " a "),
    ("VARCHAR", np.str_("a"), "a"),
    ("ENUM('a', 'b')", "a", "a"),
    ("DATE", "2024-05-01", date(2024, 5, 1)),
    ("DATE", date(2024, 5, 1), date(2024, 5, 1)),
    ("DATE", "2024-05-01T00:00:00Z", date(2024, 5, 1)),
    ("DATE", pd.Timestamp("2024-05-01"), date(2024, 5, 1)),
    ("DATE", np.datetime64("2024-05-01"), date(2024, 5, 1)),
    ("TIMESTAMP", "2024-05-01", datetime(2024, 5, 1)),
    ("TIMESTAMP", "2024-05-01T12:30", datetime(2024, 5, 1, 12, 30)),
    ("TIMESTAMP", "2024-05-01 12:30:15", datetime(2024, 5, 1, 12, 30, 15)),
    ("TIMESTAMP", "2024-05-01T12:30:15.25Z", datetime(2024, 5, 1, 12, 30, 15, 250_000)),
    ("TIMESTAMP", "2024-05-01T12:30:15.123456000Z", datetime(2024, 5, 1, 12, 30, 15, 123_456)),
    ("TIMESTAMP", "2024-05-01T12:00:00+02:00", datetime(2024, 5, 1, 10)),
    ("TIMESTAMP", "2024-05-01t12:00:00z", datetime(2024, 5, 1, 12)),
    ("TIMESTAMP", "2024-05-01T12:00:00-0230", datetime(2024, 5, 1, 14, 30)),
    ("TIMESTAMP", "2024-05-01T12:00:00+02", datetime(2024, 5, 1, 10)),
    ("TIMESTAMP", datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))), datetime(2024, 5, 1, 10)),
    ("TIMESTAMP", date(2024, 5, 1), datetime(2024, 5, 1)),
    ("TIMESTAMP", pd.Timestamp("2024-05-01 12:00", tz="Europe/Amsterdam"), datetime(2024, 5, 1, 10)),
    ("TIMESTAMP", np.datetime64("2024-05-01T12:00:00.123456000", "ns"), datetime(2024, 5, 1, 12, 0, 0, 123_456)),
    ("TIMESTAMP_NS", "2024-05-01T00:00:00.5", datetime(2024, 5, 1, 0, 0, 0, 500_000)),
    ("TIMESTAMP WITH TIME ZONE", "2024-05-01T12:00:00+02:00", datetime(2024, 5, 1, 10, tzinfo=UTC)),
    ("TIMESTAMP WITH TIME ZONE", "2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
    ("TIMESTAMP WITH TIME ZONE", datetime(2024, 5, 1, 12), datetime(2024, 5, 1, 12, tzinfo=UTC)),
    ("TIME", "12:30", time(12, 30)),
    ("TIME", "12:30:15.5", time(12, 30, 15, 500_000)),
    ("TIME", time(12), time(12)),
    ("UUID", "12345678-1234-5678-1234-567812345678", CODE),
    ("UUID", "12345678123456781234567812345678", CODE),
    ("UUID", CODE, CODE),
    ("INTERVAL", "PT90M", timedelta(minutes=90)),
    ("INTERVAL", "P1DT2H", timedelta(days=1, hours=2)),
    ("INTERVAL", "-P1W", timedelta(days=-7)),
    ("INTERVAL", "PT0.5S", timedelta(microseconds=500_000)),
    ("INTERVAL", "40 days 00:00:03", timedelta(days=40, seconds=3)),
    ("INTERVAL", "1 day", timedelta(days=1)),
    ("INTERVAL", "-02:00:00.5", -timedelta(hours=2, microseconds=500_000)),
    ("INTERVAL", timedelta(days=3), timedelta(days=3)),
    ("INTERVAL", pd.Timedelta("3 days"), timedelta(days=3)),
    ("INTERVAL", np.timedelta64(3, "h"), timedelta(hours=3)),
    ("SIZE", "60M", 60_000_000),
    ("SIZE", "60m", 60_000_000),
    ("SIZE", "1.4B", 1_400_000_000),
    ("SIZE", "60000000", 60_000_000),
    ("SIZE", "6e7", 60_000_000),
    ("SIZE", 60_000_000, 60_000_000),
    ("SIZE", 6e7, 60_000_000),
    ("SIZE", "sixty", "sixty"),
    ("SIZE", "2.5", "2.5"),
    ("SIZE", "9" * 39 + "T", "9" * 39 + "T"),
    ("SIZE", "9" * 5_000 + "M", "9" * 5_000 + "M"),
    ("SIZE", "9" * 5_000, "9" * 5_000),
]


@pytest.mark.parametrize("sql_type, value, expected", TAKEN, ids=[case_id(*case) for case in TAKEN])
def test_taken(sql_type: str, value: object, expected: object) -> None:
    found = parse_value(column(sql_type), value, param="col")
    assert same(found, expected), repr(found)


@pytest.mark.parametrize("sql_type, value, expected", TAKEN, ids=[case_id(*case) for case in TAKEN])
def test_written_and_read_again(sql_type: str, value: object, expected: object) -> None:
    assert same(parse_value(column(sql_type), format_value(expected), param="col"), expected)
    json.dumps(canonical_value(expected), allow_nan=False)


REFUSED: list[tuple[str, object]] = [
    ("BIGINT", ""),
    ("BIGINT", "abc"),
    ("BIGINT", "2.5"),
    ("BIGINT", "1e-1"),
    ("BIGINT", 2.5),
    ("BIGINT", "5_000"),
    ("BIGINT", " 5"),
    ("BIGINT", "5 "),
    ("BIGINT", "5\n"),
    ("BIGINT", "٥"),  # an Arabic five: a digit to Python's own int()
    ("BIGINT", "0x10"),
    ("BIGINT", "60M"),
    ("BIGINT", True),
    ("BIGINT", None),
    ("BIGINT", "nan"),
    ("BIGINT", math.inf),
    ("BIGINT", Decimal("sNaN")),
    ("BIGINT", "1e999999999"),
    ("BIGINT", "1e-999999999"),
    ("BIGINT", "1e99999999999999999999"),
    ("BIGINT", Decimal("1e999999")),
    ("BIGINT", "9" * 5_000),
    ("BIGINT", "9" * 1_000_000),
    ("BIGINT", 10**5_000),
    ("BIGINT", str(2**128)),
    ("BIGINT", -(2**127) - 1),
    ("BIGINT", date(2024, 1, 1)),
    ("BIGINT", (1, 2)),
    ("BIGINT", np.array([1])),
    ("DOUBLE", "1e400"),
    ("DOUBLE", 10**400),
    ("DOUBLE", Decimal("1e400")),
    ("DOUBLE", True),
    ("DOUBLE", "1,5"),
    ("DOUBLE", "nano"),
    ("DOUBLE", "١.٥"),
    ("FLOAT", "1e39"),
    ("DECIMAL(10,2)", "1.005"),
    ("DECIMAL(10,2)", "nan"),
    ("DECIMAL(10,2)", math.inf),
    ("DECIMAL(10,2)", "1e40"),
    ("DECIMAL(10,2)", "1e999999999"),
    ("DECIMAL(10,2)", "1e-999999999"),
    ("DECIMAL(10,2)", "1." + "0" * 900 + "1"),
    ("DECIMAL(10,2)", Decimal("1." + "0" * 9_000 + "1")),
    ("DECIMAL(10,2)", False),
    ("BOOLEAN", "yes"),
    ("BOOLEAN", ""),
    ("BOOLEAN", 1),
    ("BOOLEAN", 0.0),
    ("VARCHAR", 5),
    ("VARCHAR", 5.0),
    ("VARCHAR", True),
    ("VARCHAR", "a\0b"),
    ("VARCHAR", "\ud800"),
    ("VARCHAR", None),
    ("VARCHAR", b"a"),
    ("VARCHAR", CODE),
    ("DATE", "2024-02-30"),
    ("DATE", "2024-5-1"),
    ("DATE", "20240501"),
    ("DATE", "2024-W01"),
    ("DATE", "2024-05-01T12:00:00Z"),
    ("DATE", 20240501),
    ("DATE", pd.NaT),
    ("DATE", np.datetime64("NaT")),
    ("TIMESTAMP", "now"),
    ("TIMESTAMP", "2024-05-01T24:00:00"),
    ("TIMESTAMP", "2024-05-01T12:00:60"),
    ("TIMESTAMP", "2024-05-01x12:00:00"),
    ("TIMESTAMP", "2024-05-01T12:00:00 02:00"),
    ("TIMESTAMP", "2024-05-01T12:00:00.1234567"),
    ("TIMESTAMP", "0001-01-01T00:00:00+10:00"),
    ("TIMESTAMP", "9999-12-31T23:59:59-10:00"),
    ("TIMESTAMP", 1714521600),
    ("TIMESTAMP", pd.Timestamp("2024-05-01 00:00:00.000000001")),
    ("TIMESTAMP", np.datetime64("2024-05-01T00:00:00.000000001", "ns")),
    ("TIMESTAMP", np.datetime64("99999-01-01")),
    ("TIMESTAMP WITH TIME ZONE", ""),
    ("TIME", "12"),
    ("TIME", "25:00"),
    ("TIME", "12:00:00Z"),
    ("TIME", time(12, tzinfo=UTC)),
    ("TIME", 12),
    ("UUID", "1234"),
    ("UUID", "{12345678-1234-5678-1234-567812345678}"),
    ("UUID", 5),
    ("INTERVAL", ""),
    ("INTERVAL", "P"),
    ("INTERVAL", "P1DT"),
    ("INTERVAL", "P1M"),
    ("INTERVAL", "P1Y"),
    ("INTERVAL", "1 month"),
    ("INTERVAL", "P999999999W"),
    ("INTERVAL", 5),
    ("SIZE", 2.5),
    ("SIZE", True),
    ("SIZE", None),
    ("SIZE", "a\0"),
]


@pytest.mark.parametrize("sql_type, value", REFUSED, ids=[case_id(*case) for case in REFUSED])
def test_refused(sql_type: str, value: object) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_value(column(sql_type), value, param="where.value")
    error = caught.value
    assert error.param == "where.value"
    assert "takes" in error.detail and column(sql_type).name in error.detail
    assert len(error.detail) < 500
    error.detail.encode()


def test_the_reason_is_said() -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse_value(column("BIGINT"), "2.5", param="step")
    assert caught.value.detail == (
        '"2.5" does not fit col, which takes a whole number such as 5000 or 5e3: it is not whole'
    )
    with pytest.raises(InvalidValueError, match="%2B"):
        parse_value(column("TIMESTAMP"), "2024-05-01T12:00:00 02:00", param="at")


@pytest.mark.parametrize("sql_type", ["BLOB", "INTEGER[]", "STRUCT(a INTEGER)"])
def test_what_has_no_values(sql_type: str) -> None:
    with pytest.raises(TypeMismatchError, match="isnull"):
        parse_value(column(sql_type), "1", param="col")


@pytest.mark.parametrize(
    "value, expected", [("1", True), ("true", True), ("True", True), ("0", False), ("false", False), (True, True)]
)
def test_flag(value: object, expected: bool) -> None:
    assert parse_flag(value, param="distinct") is expected


@pytest.mark.parametrize("value", ["", "yes", "2", 1, 0, None, " 1"])
def test_no_flag(value: object) -> None:
    with pytest.raises(InvalidValueError, match="distinct takes 1, 0, true or false"):
        parse_flag(value, param="distinct")


def test_canonical_forms_tell_types_apart() -> None:
    moment = datetime(2024, 5, 1, 10)
    values = [
        1, 1.0, "1", True, None, Decimal(1), math.nan, math.inf, -math.inf, date(2024, 5, 1), moment,
        moment.replace(tzinfo=UTC), time(10), CODE, timedelta(seconds=1), "nan", "2024-05-01",
    ]  # fmt: skip
    written = [json.dumps(canonical_value(value), allow_nan=False) for value in values]
    assert len(set(written)) == len(values)
    assert canonical_value(moment.replace(tzinfo=UTC)) == {"timestamptz": "2024-05-01T10:00:00Z"}
    assert canonical_value(("a", 1)) == ["a", 1]
    assert json.dumps(canonical_value(2**100)) == str(2**100)
    with pytest.raises(TypeError, match="bytes"):
        format_value(b"a")


TYPES = {
    "HUGEINT": st.integers(-(2**127), 2**127 - 1),
    "DOUBLE": st.floats(),
    "FLOAT": st.floats(width=32),
    "DECIMAL(38,10)": st.decimals(-(10**20), 10**20, places=10),
    "BOOLEAN": st.booleans(),
    "VARCHAR": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    "DATE": st.dates(),
    "TIMESTAMP": st.datetimes(),
    "TIMESTAMP WITH TIME ZONE": st.datetimes(
        min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=st.timezones()
    ),
    "TIME": st.times(),
    "UUID": st.uuids(),
    "INTERVAL": st.timedeltas(),
}


@pytest.mark.parametrize("sql_type", TYPES)
@given(data=st.data())
def test_any_value_survives(sql_type: str, data: st.DataObject) -> None:
    """Parsing settles at once, and the text and the canonical form of a value are its own."""
    first = parse_value(column(sql_type), data.draw(TYPES[sql_type]), param="col")
    assert same(parse_value(column(sql_type), first, param="col"), first)
    assert same(parse_value(column(sql_type), format_value(first), param="col"), first)
    form = canonical_value(first)
    assert json.loads(json.dumps(form, allow_nan=False)) == form


@given(st.sampled_from([*TYPES, "BIGINT", "SIZE"]), st.text() | st.text("0123456789.eE+-:TZPDHMS nainf"))
def test_any_text_is_taken_or_refused(sql_type: str, text: str) -> None:
    try:
        first = parse_value(column(sql_type), text, param="col")
    except InvalidValueError:
        return
    assert same(parse_value(column(sql_type), format_value(first), param="col"), first)
