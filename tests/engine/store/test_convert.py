"""CSV, JSON lines and Arrow IPC made into parquet: which types come out, and what is said of what is no table."""

from __future__ import annotations

import datetime
import json
import math
import random
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.feather
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from engine.connection import Database
from engine.errors import RejectedFileError, ResourceLimitError
from engine.store.convert import ROW_GROUP_ROWS, convert_to_parquet, detect_format
from engine.store.inspect import inspect_parquet

AT = datetime.datetime(2025, 4, 17, 10, tzinfo=datetime.UTC)


@pytest.fixture
def convert(database: Database, tmp_path: Path) -> Callable[[str, bytes], tuple[dict[str, str], dict[str, list[Any]]]]:
    """DuckDB types and values by column name, of the parquet that bytes under a name become."""

    def work(name: str, data: bytes) -> tuple[dict[str, str], dict[str, list[Any]]]:
        path, into = tmp_path / "given", tmp_path / "made.parquet"
        path.write_bytes(data)
        into.unlink(missing_ok=True)
        convert_to_parquet(database, path, into, file_format=detect_format(path, name), name=name)
        inspection = inspect_parquet(database, into)
        types = {column.name: column.type for column in inspection.schema}
        values = database.table("SELECT * FROM read_parquet(?)", [str(into)]).to_pydict()
        return types, values

    return work


Convert = Callable[[str, bytes], tuple[dict[str, str], dict[str, list[Any]]]]


@pytest.mark.parametrize(
    "text, sql_type, values",
    [
        ("1\n2\n", "BIGINT", [1, 2]),
        (" 1\n2 \n", "BIGINT", [1, 2]),
        ("9223372036854775807\n-9223372036854775808\n", "BIGINT", [2**63 - 1, -(2**63)]),
        ("18446744073709551615\n1\n", "DECIMAL(38,0)", [2**64 - 1, 1]),
        ("0.1\n1e-3\n-2\n", "DOUBLE", [0.1, 0.001, -2.0]),
        ("1\ninf\n-Infinity\n\n", "DOUBLE", [1.0, math.inf, -math.inf, None]),
        ("007\n008\n", "VARCHAR", ["007", "008"]),
        ("1\n2\nx\n", "VARCHAR", ["1", "2", "x"]),
        ("60M\n1B\n", "VARCHAR", ["60M", "1B"]),
        ("true\nfalse\n", "BOOLEAN", [True, False]),
        ("2025-04-17\n", "DATE", [datetime.date(2025, 4, 17)]),
        ("2025-04-17 10:00:00\n", "TIMESTAMP", [AT.replace(tzinfo=None)]),
        ("2025-04-17T10:00:00Z\n", "TIMESTAMP WITH TIME ZONE", [AT]),
        ('"x ""y"""\n"two\nlines"\n', "VARCHAR", ['x "y"', "two\nlines"]),
        ("NULL\nNA\nNone\n", "VARCHAR", ["NULL", "NA", "None"]),
        ("#1\n# 2\n", "VARCHAR", ["#1", "# 2"]),
        ("'a'\n", "VARCHAR", ["'a'"]),
        ("größe\n中\n", "VARCHAR", ["größe", "中"]),
        ("\n\n", "VARCHAR", [None, None]),
        ("", "VARCHAR", []),
    ],
)
def test_csv_types(convert: Convert, text: str, sql_type: str, values: list[Any]) -> None:
    types, found = convert("a.csv", f"x\n{text}".encode())
    assert types == {"x": sql_type}
    assert found == {"x": values}


def test_csv_nan_is_not_null(convert: Convert) -> None:
    _, found = convert("a.csv", b"a,b\n1,nan\n2,\n3,NaN\n")
    assert [value is None for value in found["b"]] == [False, True, False]
    assert math.isnan(found["b"][0]) and math.isnan(found["b"][2])


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_delimiters_and_ends_of_lines(convert: Convert, mark: str, end: str) -> None:
    text = f'a{mark}"b,;|\t"{end}1{mark}"x{mark}y"{end}2{mark}z'
    assert convert("a.csv", text.encode())[1] == {"a": [1, 2], "b,;|\t": [f"x{mark}y", "z"]}


def test_a_tsv_is_split_at_tabs_alone(convert: Convert) -> None:
    assert convert("a.tsv", b"a,b,c\td\n1,2,3\t4\n")[1] == {"a,b,c": ["1,2,3"], "d": [4]}


def test_a_byte_order_mark_is_no_part_of_a_name(convert: Convert) -> None:
    assert convert("a.csv", b"\xef\xbb\xbfa,b\n1,2\n")[1] == {"a": [1], "b": [2]}
    assert convert("a.jsonl", b'\xef\xbb\xbf{"a":1}\n')[1] == {"a": [1]}


def test_a_type_is_decided_by_every_row(convert: Convert) -> None:
    """What a sample would miss."""
    rows = 60_000
    lines = [f"{row},{row},{row}" for row in range(rows)]
    lines[-1] = f"{rows - 1},late,0.5"
    types, found = convert("a.csv", ("a,b,c\n" + "\n".join(lines) + "\n").encode())
    assert types == {"a": "BIGINT", "b": "VARCHAR", "c": "DOUBLE"}
    assert found["b"][-1] == "late" and found["a"] == list(range(rows)), "in the order of the file"
    lines = [json.dumps({"a": row}) for row in range(rows)] + ['{"a": 1, "late": "x"}']
    types, found = convert("a.jsonl", "\n".join(lines).encode())
    assert types == {"a": "BIGINT", "late": "VARCHAR"}
    assert found["late"][-2:] == [None, "x"] and found["a"] == [*range(rows), 1]


def test_names_that_differ_only_by_case_or_not_at_all(convert: Convert) -> None:
    """DuckDB knows no case in names; each column stays, and the schema says how it is called."""
    assert convert("a.csv", b"a,A,a,\n1,2,3,4\n")[1] == {"a": [1], "A_1": [2], "a_2": [3], "column3": [4]}
    assert convert("a.jsonl", b'{"a":1,"A":2}\n')[1] == {"a": [1], "A_1": [2]}


def test_names_that_duckdb_uses_itself(convert: Convert) -> None:
    names = ["filename", "file_row_number", "file_index", "rowid", "select", "a b", 'q"q', "'; DROP TABLE t; --"]
    values = {name: [number] for number, name in enumerate(names)}
    data = (
        ",".join('"' + name.replace('"', '""') + '"' for name in names) + "\n" + ",".join(map(str, range(len(names))))
    )
    assert convert("a.csv", data.encode())[1] == values
    assert convert("a.jsonl", json.dumps({name: number for number, name in enumerate(names)}).encode())[1] == values


@pytest.mark.parametrize(
    "lines, sql_type, values",
    [
        ('{"x":1}\n\n{"x":2}', "BIGINT", [1, 2]),
        ('{"x":1}\n{}\n', "BIGINT", [1, None]),
        ('{"x":1.5}\n{"x":NaN}\n{"x":Infinity}\n{"x":-Infinity}\n', "DOUBLE", [1.5, math.nan, math.inf, -math.inf]),
        ('{"x":18446744073709551615}\n', "DECIMAL(38,0)", [2**64 - 1]),
        ('{"x":"007"}\n', "VARCHAR", ["007"]),
        ('{"x":"null"}\n{"x":null}\n', "VARCHAR", ["null", None]),
        ('{"x":1}\n{"x":"null"}\n{"x":null}\n{"x":[1]}\n', "VARCHAR", ["1", "null", None, "[1]"]),
        ('{"x":null}\n', "VARCHAR", [None]),
        ('{"x":true}\n', "BOOLEAN", [True]),
        ('{"x":"a\\u0000b\\n\\"\\ud83d\\ude00"}\n', "VARCHAR", ['a\0b\n"😀']),
        ('{"x":[]}\n{"x":[1.5,null]}\n', "DOUBLE[]", [[], [1.5, None]]),
        ('{"x":{"a":1}}\n{"x":{"b":2}}\n', "STRUCT(a BIGINT, b BIGINT)", [{"a": 1, "b": None}, {"a": None, "b": 2}]),
    ],
)
def test_json_types(convert: Convert, lines: str, sql_type: str, values: list[Any]) -> None:
    types, found = convert("a.jsonl", lines.encode())
    assert types == {"x": sql_type}
    assert repr(found["x"]) == repr([Decimal(value) if "DECIMAL" in sql_type else value for value in values])


def test_json_lines_of_many_fields(convert: Convert) -> None:
    """A wide table of similar columns, which DuckDB would take for one map of 300 entries."""
    types, found = convert("a.jsonl", json.dumps({f"loss_{number}": number / 7 for number in range(300)}).encode())
    assert len(types) == 300 and set(types.values()) == {"DOUBLE"}
    assert found["loss_299"] == [299 / 7]


REJECTED = [
    ("a.csv", b"", "is empty"),
    ("a.csv", b"\n1,2\n", "has an empty first line; the first line must name the columns"),
    ("a.csv", b"a,b\n1,2\n1\n", "not every line has the columns that its first line names"),
    ("a.csv", b"a,b\n1,2\n1,2,3\n", "not every line has the columns that its first line names"),
    ("a.csv", b'a,b\n"1,2\n', "a quote is never closed"),
    ("a.csv", b"a,b\n\xff\xfe,1\n", "not utf-8"),
    ("a.csv", "a,b\n1,2\n".encode("utf-16"), "it holds zero bytes"),
    ("a.csv", b"PAR1", "is parquet by its content"),
    ("a.csv", b"ARROW1\0\0", "is arrow by its content"),
    ("a.jsonl", b"", "is empty"),
    ("a.jsonl", b"[1]\n", "each line must be one object"),
    ("a.jsonl", b'"x"\n', "each line must be one object"),
    ("a.jsonl", b"{}\n", "a line is not an object with named fields"),
    ("a.jsonl", b'{"a":1}\n[1]\n', "a line is not an object with named fields"),
    ("a.jsonl", b'{"a":1}\n{"a":', "Malformed JSON .* line 3"),
    ("a.jsonl", b'{"a":1}{"a":2}\n', "unexpected content after document"),
    ("a.jsonl", b'{"a":1,"a":2}\n', 'has duplicate key "a"'),
    ("a.jsonl", b'{"a":"\xff"}\n', "invalid UTF-8"),
    ("a.jsonl", b'{"a":"\\ud800"}\n', "no low surrogate"),
    ("a.jsonl", b"{'a':1}\n", "Malformed JSON"),
    ("a.jsonl", b'{"a":' * 5000 + b"1" + b"}" * 5000, "recursion depth"),
    ("a.arrow", b"", "is empty"),
    ("a.arrow", b"hello", "is not Arrow IPC by its first bytes"),
    ("a.arrow", b"PAR1....PAR1", "is not Arrow IPC by its first bytes"),
    ("a.arrow", b"ARROW1\0\0", "File is too small"),
    ("a.arrow", b"\xff\xff\xff\xff", "Corrupted metadata length"),
    ("a.feather", b"FEA1....FEA1", "is Feather version 1"),
    ("a.xlsx", b"PK\3\4", "neither parquet nor Arrow, and its name ends in none of .parquet, .csv, "),
    ("a.pickle", b"\x80\4", "neither parquet nor Arrow"),
    ("a", b"a,b\n1,2\n", "neither parquet nor Arrow"),
]


@pytest.mark.parametrize("name, data, reason", REJECTED, ids=[f"{name} {data[:12]!r}" for name, data, _ in REJECTED])
def test_what_is_no_table(convert: Convert, tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    with pytest.raises(RejectedFileError, match=f"^{name} (.*{reason}|{reason})") as caught:
        convert(name, data)
    detail = caught.value.detail
    assert str(tmp_path) not in detail and "\n" not in detail and len(detail) < 700


def test_a_reason_does_not_quote_the_whole_file(convert: Convert) -> None:
    with pytest.raises(RejectedFileError) as caught:
        convert("a.csv", b"a,b\n1,\xff" + b"x" * 100_000 + b"\n")
    assert len(caught.value.detail) < 700


def arrow_bytes(table: pa.Table, *, stream: bool = False, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    writer = pa.ipc.new_stream if stream else pa.ipc.new_file
    with writer(sink, table.schema, options=options) as opened:
        opened.write_table(table, max_chunksize=2)
    return bytes(sink.getvalue())


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_arrow(convert: Convert, stream: bool, compression: str | None) -> None:
    table = pa.table(
        {
            "a": pa.array([1, None, 3, 4, 5], pa.uint64()),
            "name": pa.array(["x", "y", None, "x", "x"]).dictionary_encode(),
            "list": [[1.5], [], None, [None], [2.5, 3.5]],
            "at": pa.array([1, 2, None, 4, 5], pa.timestamp("ns")),
            "berlin": pa.array([1, 2, None, 4, 5], pa.timestamp("us", "Europe/Berlin")),
            "half": pa.array([0.5, None, 1.5, 2.5, 3.5], pa.float16()),
        }
    )
    types, found = convert("a.arrow", arrow_bytes(table, stream=stream, compression=compression))
    assert types == {
        "a": "UBIGINT",
        "name": "VARCHAR",
        "list": "DOUBLE[]",
        "at": "TIMESTAMP_NS",
        "berlin": "TIMESTAMP WITH TIME ZONE",
        "half": "FLOAT",
    }
    for name in ("a", "name", "list", "at", "half"):
        assert found[name] == table[name].to_pylist(), name
    assert pa.array(found["berlin"]).cast(pa.int64()).to_pylist() == [1, 2, None, 4, 5]


def test_arrow_without_rows_and_without_columns(convert: Convert) -> None:
    empty = pa.table({"a": pa.array([], pa.int64())})
    for stream in (False, True):
        assert convert("a.arrow", arrow_bytes(empty, stream=stream)) == ({"a": "BIGINT"}, {"a": []})
        with pytest.raises(RejectedFileError, match="it has no columns"):
            convert("a.arrow", arrow_bytes(pa.table({}), stream=stream))


@pytest.mark.parametrize(
    "column, reason",
    [
        (pa.array([{}], pa.struct([])), "no child field"),
        (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), "Unhandled type"),
        (pa.RunEndEncodedArray.from_arrays([1], ["x"]), "Unhandled type"),
        (pa.array([1], pa.date64()), "whole number of days"),
    ],
)
def test_arrow_types_that_parquet_has_not(convert: Convert, column: pa.Array, reason: str) -> None:
    with pytest.raises(RejectedFileError, match=f"a.arrow cannot be made into parquet: .*{reason}"):
        convert("a.arrow", arrow_bytes(pa.table({"x": column})))


def test_damaged_arrow_never_ends_the_process(database: Database, tmp_path: Path) -> None:
    """Cut short at many places, and with flipped bytes: a reject, or the rows that the file says it has."""
    table = pa.table(
        {"a": list(range(50)), "s": [f"n{row % 7}" for row in range(50)], "l": [[row] for row in range(50)]}
    )
    rng = random.Random(3)
    path, into = tmp_path / "given", tmp_path / "made.parquet"
    outcomes = set()
    for stream, compression in [(False, None), (True, None), (False, "lz4")]:
        data = arrow_bytes(table, stream=stream, compression=compression)
        damaged = [data[:cut] for cut in range(1, len(data), 61)]
        for _ in range(120):
            flipped = bytearray(data)
            for _ in range(rng.randint(1, 3)):
                flipped[rng.randrange(len(data))] = rng.randrange(256)
            damaged.append(bytes(flipped))
        for case in damaged:
            path.write_bytes(case)
            into.unlink(missing_ok=True)
            try:
                convert_to_parquet(database, path, into, file_format="arrow", name="a.arrow")
                rows = inspect_parquet(database, into).rows
                # A stream that is cut between two batches is whole, as far as anyone can see.
                assert rows == 50 or (stream and rows < 50)
                outcomes.add("taken")
            except RejectedFileError as error:
                outcomes.add("a path" if str(tmp_path) in error.detail else "rejected")
    assert outcomes == {"taken", "rejected"}


def test_row_groups_are_bounded_by_rows_and_by_bytes(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, into = tmp_path / "a.csv", tmp_path / "made.parquet"
    pa.csv.write_csv(pa.table({"a": pa.array(range(300_000))}), path)
    convert_to_parquet(database, path, into, file_format="csv", name="a.csv")
    groups = [pq.ParquetFile(into).metadata.row_group(group).num_rows for group in range(3)]
    assert sum(groups) == 300_000 and max(groups) <= ROW_GROUP_ROWS + 16_384
    monkeypatch.setattr("engine.store.convert.ROW_GROUP_BYTES", 7_000_000)
    wide = pa.table({f"c{column}": pa.array(range(20_000)) for column in range(60)})  # 9.6 MB
    pyarrow.feather.write_feather(wide, str(path), compression="zstd", chunksize=4_000)
    convert_to_parquet(database, path, into, file_format="arrow", name="a.arrow")
    assert pq.ParquetFile(into).metadata.num_row_groups == 2


def test_memory_stays_bounded_while_converting(tmp_path: Path) -> None:
    path, into = tmp_path / "a.csv", tmp_path / "made.parquet"
    with open(path, "w") as writer:
        writer.write("step,recipe,metric,value\n")
        block = "".join(f"{row},recipe {row % 25},metric {row % 221},{row / 7}\n" for row in range(20_000))
        for _ in range(110):
            writer.write(block)
    assert path.stat().st_size > 80 << 20
    before = psutil.Process().memory_info().rss
    most = before

    def watch(*_: object) -> None:
        nonlocal most
        most = max(most, psutil.Process().memory_info().rss)

    with closing(Database([tmp_path], memory_limit_bytes=128 << 20)) as database:
        convert_to_parquet(database, path, into, file_format="csv", name="a.csv", progress=watch)
    assert pq.ParquetFile(into).metadata.num_rows == 110 * 20_000
    assert most - before < 350 << 20


@pytest.mark.parametrize("name, line", [("a.csv", b"1,2\n"), ("a.jsonl", b'{"a":1}\n')])
def test_too_little_memory_is_not_the_files_fault(tmp_path: Path, name: str, line: bytes) -> None:
    path = tmp_path / name
    path.write_bytes((b"a,b\n" if name == "a.csv" else b"") + line * 3_000_000)
    said = f"{name} needs more memory to be read than this server gives"
    small = closing(Database([tmp_path], memory_limit_bytes=8 << 20))
    with small as database, pytest.raises(ResourceLimitError, match=said):
        convert_to_parquet(database, path, tmp_path / "made", file_format=name[2:], name=name)


def test_the_exported_history(database: Database, tmp_path: Path, shared_data: Path) -> None:
    source, into = tmp_path / "exported_history_wide.csv", tmp_path / "made.parquet"
    source.write_bytes((shared_data / "wandb" / "exported_history_wide.csv").read_bytes())
    convert_to_parquet(database, source, into, file_format="csv", name=source.name)
    inspection = inspect_parquet(database, into)
    assert inspection.rows == 2_270
    assert [column.type for column in inspection.schema] == ["BIGINT", "DOUBLE", "DOUBLE", "DOUBLE"]
    made, read = pq.read_table(into), pyarrow.csv.read_csv(source)
    assert made.column_names == read.column_names
    for name in made.column_names:
        assert made[name].to_pylist() == read[name].to_pylist(), name
    assert "17/04/2025_22:06:37_elie-48n-1704-part1_tp_group_0 - lm_loss__MIN" in made.column_names
    assert (pc.min(made[0]).as_py(), pc.max(made[0]).as_py()) == (4, 42_509)
    assert 2.329497814178467 in made[1].to_pylist()[-1:] + made[2].to_pylist()[-1:] + made[3].to_pylist()[-1:]


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "arrow"])
def test_pythia_in_other_clothes(database: Database, tmp_path: Path, shared_data: Path, file_format: str) -> None:
    """Every value of a real table survives each way in."""
    table = pq.read_table(shared_data / "pythia" / "pythia_v1_zero_shot.parquet").slice(0, 20_000)
    path, into = tmp_path / f"a.{file_format}", tmp_path / "made.parquet"
    if file_format == "csv":
        pyarrow.csv.write_csv(table, path)
    elif file_format == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    else:
        pyarrow.feather.write_feather(table, str(path))
    convert_to_parquet(database, path, into, file_format=file_format, name=path.name)
    assert pq.read_table(into).to_pydict() == table.to_pydict()
