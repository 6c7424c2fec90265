"""JSON and CSV texts of every type that DuckDB can answer with, against values that are known."""

from __future__ import annotations

import json
import math
import random
import struct
from decimal import Decimal

import duckdb
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.encoding.csv import csv_texts
from server.encoding.json_text import json_texts
from server.encoding.nonfinite import count_nonfinite

# SQL of one value, its JSON, its CSV field.
CASES = [
    ("1::TINYINT", "1", "1"),
    ("255::UTINYINT", "255", "255"),
    ("9007199254740992::BIGINT", "9007199254740992", "9007199254740992"),
    ("9007199254740993::BIGINT", '"9007199254740993"', "9007199254740993"),
    ("-9007199254740993::BIGINT", '"-9007199254740993"', "-9007199254740993"),
    ("18446744073709551615::UBIGINT", '"18446744073709551615"', "18446744073709551615"),
    ("2::HUGEINT", "2", "2"),
    ("-9007199254740993::HUGEINT", '"-9007199254740993"', "-9007199254740993"),
    (f"{10**37}::HUGEINT", f'"{10**37}"', str(10**37)),
    ("1.50::DECIMAL(10,2)", '"1.50"', "1.50"),
    ("0.0000001::DECIMAL(30,10)", '"0.0000001000"', "0.0000001000"),
    ("7::DECIMAL(4,0)", "7", "7"),
    ("0.1::DOUBLE", "0.1", "0.1"),
    ("1::DOUBLE", "1.0", "1.0"),
    ("-0.0::DOUBLE", "-0.0", "-0.0"),
    ("1e300::DOUBLE", "1e+300", "1e+300"),
    ("0.1::FLOAT", "0.10000000149011612", "0.10000000149011612"),
    ("'nan'::DOUBLE", "null", "nan"),
    ("'inf'::FLOAT", "null", "inf"),
    ("'-inf'::DOUBLE", "null", "-inf"),
    ("true", "true", "true"),
    ("'x'", '"x"', "x"),
    ("''", '""', '""'),
    ("'a\"b\\c'", '"a\\"b\\\\c"', '"a""b\\c"'),
    ("'a,b'", '"a,b"', '"a,b"'),
    ("chr(10) || chr(1)", '"\\n\\u0001"', '"\n\x01"'),
    ("'ü😀'", '"ü😀"', "ü😀"),
    ("'x'::ENUM('x', 'y')", '"x"', "x"),
    ("'\\xC3\\xA9'::BLOB", '"w6k="', "w6k="),
    ("'9f1834da-adf1-44ca-9ab9-7cbb0d221f18'::UUID", '"9f1834da-adf1-44ca-9ab9-7cbb0d221f18"', None),
    ("DATE '2024-02-29'", '"2024-02-29"', "2024-02-29"),
    ("DATE '20000-01-01'", '"+020000-01-01"', "+020000-01-01"),
    ("DATE '0044-03-15 (BC)'", '"-000043-03-15"', "-000043-03-15"),
    ("DATE 'infinity'", '"infinity"', "infinity"),
    ("TIMESTAMP '2024-02-29 12:00:00'", '"2024-02-29T12:00:00Z"', "2024-02-29T12:00:00Z"),
    ("TIMESTAMP '1969-12-31 23:59:59.5'", '"1969-12-31T23:59:59.500Z"', None),
    ("TIMESTAMP '2024-02-29 12:00:00.000001'", '"2024-02-29T12:00:00.000001Z"', None),
    ("TIMESTAMP_NS '2024-02-29 12:00:00.000000001'", '"2024-02-29T12:00:00.000000001Z"', None),
    ("TIMESTAMP_S '2024-02-29 12:00:00'", '"2024-02-29T12:00:00Z"', None),
    ("TIMESTAMP_MS '2024-02-29 12:00:00.25'", '"2024-02-29T12:00:00.250Z"', None),
    ("TIMESTAMPTZ '2024-02-29 12:00:00+02'", '"2024-02-29T10:00:00Z"', None),
    ("TIMESTAMP '12000-01-01 00:00:00.25'", '"+012000-01-01T00:00:00.250Z"', None),
    ("TIMESTAMP '-infinity'", '"-infinity"', None),
    ("TIME '01:02:03'", '"01:02:03"', "01:02:03"),
    ("TIME '01:02:03.25'", '"01:02:03.250"', "01:02:03.250"),
    ("TIME '24:00:00'", '"24:00:00"', "24:00:00"),
    ("INTERVAL '14 months 3 days 1.5 seconds'", '"P1Y2M3DT1.5S"', "P1Y2M3DT1.5S"),
    ("INTERVAL '-1 month'", '"P-1M"', "P-1M"),
    ("INTERVAL '0 days'", '"PT0S"', "PT0S"),
    ("[1.5, NULL, 'nan'::DOUBLE]", "[1.5,null,null]", '"[1.5,null,null]"'),
    ("[]::INTEGER[]", "[]", "[]"),
    ("[[1], NULL, []]", "[[1],null,[]]", '"[[1],null,[]]"'),
    ("[1, 2, 3]::INTEGER[3]", "[1,2,3]", '"[1,2,3]"'),
    ("{'a': 1, 'b': 'x\"'}", '{"a":1,"b":"x\\""}', '"{""a"":1,""b"":""x\\""""}"'),
    ("[{'a': [1, 2]}, NULL]", '[{"a":[1,2]},null]', None),
    ("MAP {'a': 1, 'b': NULL}", '[{"key":"a","value":1},{"key":"b","value":null}]', None),
    ("union_value(k := 1)", "1", "1"),
]


def _column(sql: str) -> pa.Array:
    """The value between two nulls, and once more, as DuckDB hands them over."""
    query = f"SELECT v FROM (SELECT {sql} AS v, 1 AS i UNION ALL SELECT NULL, 2 UNION ALL SELECT {sql}, 3) ORDER BY i"
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(query).to_arrow_table()["v"].combine_chunks()


@pytest.mark.parametrize("sql, expected, field", CASES, ids=[case[0] for case in CASES])
def test_a_value_reads_as_it_should(sql: str, expected: str, field: str | None) -> None:
    column = _column(sql)
    texts = [text.decode() for text in json_texts(column).to_pylist()]
    assert texts == [expected, "null", expected]
    assert [text.decode() for text in json_texts(column.slice(1)).to_pylist()] == ["null", expected]
    assert [orjson.loads(text) for text in texts] == [json.loads(text) for text in texts]
    if field is not None:
        assert [text.decode() for text in csv_texts(column).to_pylist()] == [field, "", field]


@pytest.mark.parametrize("sql, expected", [(case[0], case[1]) for case in CASES[:20]], ids=str)
def test_it_reads_the_same_inside_a_list(sql: str, expected: str) -> None:
    texts = [text.decode() for text in json_texts(_column(f"[{sql}, NULL]")).to_pylist()]
    assert texts == [f"[{expected},null]", "null", f"[{expected},null]"]


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_floats_keep_every_bit(kind: pa.DataType) -> None:
    generator = random.Random(4)
    values = [struct.unpack("<d", generator.randbytes(8))[0] for _ in range(5_000)]
    column = pa.array(values, pa.float64()).cast(kind, safe=False)
    read = [orjson.loads(text) for text in json_texts(column).to_pylist()]
    wanted = [float(value) for value in column.cast(pa.float64()).to_pylist()]
    for found, value in zip(read, wanted, strict=True):
        if math.isfinite(value):
            assert struct.pack("<d", found) == struct.pack("<d", value)
        else:
            assert found is None
    batch = pa.RecordBatch.from_arrays([column], names=["v"])
    assert count_nonfinite(batch) == sum(not math.isfinite(value) for value in wanted)


@pytest.mark.parametrize("as_dictionary", [False, True])
@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=30))
def test_texts_come_back(values: list[str | None], as_dictionary: bool) -> None:
    column = pa.array(values, pa.string())
    column = column.dictionary_encode() if as_dictionary else column
    assert [orjson.loads(text) for text in json_texts(column).to_pylist()] == values


def test_nothing_of_an_empty_column() -> None:
    for kind in (pa.int64(), pa.float32(), pa.string(), pa.timestamp("us"), pa.list_(pa.int8()), pa.decimal128(9, 2)):
        assert json_texts(pa.array([], kind)).to_pylist() == []
        assert csv_texts(pa.array([], kind)).to_pylist() == []


def test_a_struct_hides_what_is_under_its_null() -> None:
    fields = [pa.array([1.0, float("nan")]), pa.array(["x", "y"])]
    column = pa.StructArray.from_arrays(fields, names=["a", "b"], mask=pa.array([False, True]))
    assert json_texts(column).to_pylist() == [b'{"a":1.0,"b":"x"}', b"null"]
    assert count_nonfinite(pa.RecordBatch.from_arrays([column], names=["v"])) == 0


@pytest.mark.parametrize("kind", [pa.list_(pa.null(), 2), pa.list_(pa.null())], ids=["array", "list"])
def test_lists_of_nothing(kind: pa.DataType) -> None:
    column = pa.array([[None, None], None, [None, None]] * 2, kind).slice(1)
    assert json_texts(column).to_pylist() == [b"null", b"[null,null]", b"[null,null]", b"null", b"[null,null]"]
    assert csv_texts(column).to_pylist() == [b"", b'"[null,null]"', b'"[null,null]"', b"", b'"[null,null]"']
    inside = pa.StructArray.from_arrays([column], names=["a"]).slice(2)
    assert json_texts(inside).to_pylist() == [b'{"a":[null,null]}', b'{"a":null}', b'{"a":[null,null]}']


def test_dictionaries_larger_than_the_column_are_not_written_out() -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([3, None], pa.int32()), pa.array(["a", "b", "c", 'd"', "e"]))
    assert json_texts(column).to_pylist() == [b'"d\\""', b"null"]
    assert csv_texts(column).to_pylist() == [b'"d"""', b""]


def test_decimals_of_all_widths() -> None:
    for precision, scale, text in (
        (38, 37, "1.0000000000000000000000000000000000001"),
        (38, 0, "9" * 38),
        (18, 3, "-0.001"),
    ):
        column = pa.array([Decimal(text)], pa.decimal128(precision, scale))
        assert orjson.loads(json_texts(column)[0].as_py()) == text


def test_a_type_nobody_knows_is_refused() -> None:
    with pytest.raises(TypeError, match="duration"):
        json_texts(pa.array([1], pa.duration("s")))
