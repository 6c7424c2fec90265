"""What is recorded of the values in a file: exact, or not there at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from engine.connection import Database
from engine.errors import CorruptVersionError
from engine.store import inspect_parquet
from engine.store.facts import ColumnFacts, FileFacts, GroupFacts, KeyFacts, encode_facts, facts_of_file, parse_facts
from tests.engine.store.test_layout import tables


def facts_of(database: Database, path: Path, table: pa.Table, **options: Any) -> FileFacts:
    pq.write_table(table, path, **options)
    inspection = inspect_parquet(database, path)
    return facts_of_file(path, inspection.rows, inspection.schema)


def test_what_is_recorded_of_each_type(database: Database, tmp_path: Path) -> None:
    table = pa.table(
        {
            "int": [3, None, -1],
            "big": pa.array([2**64 - 1, 0, 5], pa.uint64()),
            "double": [0.5, None, -2.0],
            "nan": [0.5, math.nan, -2.0],
            "infinite": [0.5, math.inf, -2.0],
            "float": pa.array([0.5, 1.5, -2.0], pa.float32()),
            "text": ["b", None, "a"],
            "category": pa.array(["b", None, "a"]).dictionary_encode(),
            "long": ["b", "a", "x" * 201],
            "bool": [True, False, None],
            "none": pa.array([None] * 3, pa.int64()),
            "time": pa.array([1, None, 2], pa.timestamp("us")),
            "list": [[1], None, [2]],
        }
    )
    found = facts_of(database, tmp_path / "a.parquet", table)
    assert found.rows == 3 and len(found.row_groups) == 1
    assert found.columns == found.row_groups[0].columns == {
        "int": ColumnFacts(1, -1, 3),
        "big": ColumnFacts(0, 0, 2**64 - 1),
        "double": ColumnFacts(1, -2.0, 0.5),
        "nan": ColumnFacts(0),
        "infinite": ColumnFacts(0),
        "float": ColumnFacts(0),
        "text": ColumnFacts(1, "a", "b"),
        "category": ColumnFacts(1, "a", "b"),
        "long": ColumnFacts(0),
        "bool": ColumnFacts(1, False, True),
        "none": ColumnFacts(3),
        "time": ColumnFacts(1),
        "list": ColumnFacts(1),
    }  # fmt: skip
    assert found.columns["int"].has_range and not found.columns["none"].has_range


def test_each_row_group(database: Database, tmp_path: Path) -> None:
    table = pa.table({"a": [1, 2, None, None, 5], "b": [0.5, math.nan, 1.5, 2.5, 3.5]})
    found = facts_of(database, tmp_path / "a.parquet", table, row_group_size=2)
    assert [group.rows for group in found.row_groups] == [2, 2, 1]
    assert [group.columns["a"] for group in found.row_groups] == [
        ColumnFacts(0, 1, 2),
        ColumnFacts(2),
        ColumnFacts(0, 5, 5),
    ]
    assert [group.columns["b"] for group in found.row_groups] == [
        ColumnFacts(0),
        ColumnFacts(0, 1.5, 2.5),
        ColumnFacts(0, 3.5, 3.5),
    ]
    assert found.columns == {"a": ColumnFacts(2, 1, 5), "b": ColumnFacts(0)}, "a NaN anywhere is one in the file"


def test_columns_of_row_groups_are_not_without_end(database: Database, tmp_path: Path) -> None:
    table = pa.table({f"c{number}": [number] for number in range(250)})
    pq.write_table(table, tmp_path / "a.parquet")
    schema = inspect_parquet(database, tmp_path / "a.parquet").schema
    found = facts_of_file(tmp_path / "a.parquet", 1, schema, first=["c249", "c240"])
    assert len(found.columns) == 250
    assert list(found.row_groups[0].columns) == [*(f"c{number}" for number in range(198)), "c240", "c249"]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=tables())
def test_facts_are_true(
    database: Database, tmp_path_factory: pytest.TempPathFactory, made: tuple[pa.Table, list[str]]
) -> None:
    """Whatever is said of a column holds for every value, as the database orders them, and nothing smaller does."""
    table, _ = made
    path = tmp_path_factory.mktemp("facts") / "a.parquet"
    found = facts_of(database, path, table, row_group_size=20)
    assert parse_facts(encode_facts([found])).files == (found,)
    starts = [0]
    for group in found.row_groups:
        starts.append(starts[-1] + group.rows)
    for facts, first, last in [(found, 0, table.num_rows), *zip(found.row_groups, starts, starts[1:], strict=False)]:
        for name, column in facts.columns.items():
            sql = (
                f'SELECT count(*) - count("{name}") AS nulls, min("{name}") AS least, max("{name}") AS greatest '
                "FROM read_parquet(?) WHERE file_row_number >= ? AND file_row_number < ?"
            )
            (row,) = database.table(sql, [str(path), first, last]).to_pylist()
            assert column.nulls == row["nulls"]
            if column.has_range:
                assert (column.min, column.max) == (row["least"], row["greatest"])


def test_there_and_back() -> None:
    file = FileFacts(2, {"a": ColumnFacts(1, 3, 3), "b": ColumnFacts(2)}, (GroupFacts(2, {"a": ColumnFacts(1, 3, 3)}),))
    keys = [{"declared": ["a"], "candidates": ["a", "b"], "key": ["a"]}]
    data = encode_facts([file], {"values": {"b": ["x", "ä"], "c": None}, "keys": keys})
    found = parse_facts(data)
    assert found.files == (file,)
    assert found.values == {"b": ("x", "ä"), "c": None}
    assert found.keys == (KeyFacts(("a",), ("a", "b"), ("a",)),)
    later = {**json.loads(data), "more": 1}
    later["files"][0]["more"] = {"x": 1}
    assert parse_facts(json.dumps(later).encode()) == found, "what a later release adds is passed over"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"format":2,"files":[]}',
        b'{"format":1}',
        b'{"format":1,"files":[{"rows":"1","columns":{},"row_groups":[]}]}',
        b'{"format":1,"files":[{"rows":1,"columns":{"a":{"min":1}},"row_groups":[]}]}',
        b'{"format":1,"files":[{"rows":1,"columns":{"a":{"nulls":0,"min":NaN,"max":1}},"row_groups":[]}]}',
        b"[" * 100_000,
    ],
)
def test_what_is_damaged_is_said_to_be(data: bytes) -> None:
    with pytest.raises(CorruptVersionError):
        parse_facts(data)


def test_a_file_that_arrow_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no parquet at all PAR1")
    assert facts_of_file(tmp_path / "a.parquet", 7, ()) == FileFacts(7)
