"""The layout of a version: sorted as said, cut into files, no value changed, and the first order not lost."""

from __future__ import annotations

import datetime as dt
import itertools
import math
import struct
from contextlib import nullcontext
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from engine.connection import Database
from engine.errors import CorruptVersionError, ResourceLimitError
from engine.store import SchemaField, Staged, inspect_parquet
from engine.store.inspect import describe_parquet
from engine.store.layout import Layout, lay_out, sort_columns
from engine.store.original import restore_order
from engine.store.rows import Limits
from engine.store.shuffle import write_inverse
from engine.store.staging import hash_file

# So small that a few dozen rows take several stretches, row groups and files.
TINY = Limits(file_bytes=1500, max_bytes=2500, group_rows=7, group_bytes=1 << 12, chunk_bytes=300, sort_rows=10)


class Bench:
    """A folder to work in, and what a publish would give to the layout."""

    def __init__(self, folder: Path, database: Database) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.database = database
        self._numbers = itertools.count()

    def new_file(self) -> Path:
        return self.folder / f"{next(self._numbers)}.new"

    def write(self, table: pa.Table, **options: Any) -> Path:
        path = self.new_file()
        pq.write_table(table, path, **options)
        return path

    def lay_out(self, path: Path, columns: list[str], limits: Limits | None = TINY) -> Layout:
        staged = Staged(path, path.stat().st_size, hash_file(path))
        inspection = inspect_parquet(self.database, path)
        return lay_out(self.database, staged, inspection, columns, self.new_file, limits=limits)

    def restore(self, layout: Layout) -> pa.Table:
        into = self.new_file()
        files = [partial(nullcontext, path) for path in layout.paths]
        restore_order(files, layout.place, into, self.new_file, limits=TINY)
        return pq.read_table(into)


@pytest.fixture
def bench(tmp_path: Path, database: Database) -> Bench:
    return Bench(tmp_path / "bench", database)


def read(layout: Layout) -> pa.Table:
    table = pa.concat_tables([pq.read_table(path) for path in layout.paths])
    return table if layout.place is None else table.drop_columns([layout.place])


def bits(value: Any) -> Any:
    """A value that is equal to another only when it has the same bits; every NaN is one."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack(">d", value)
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [bits(part) for part in value]
    return value


def cells(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):  # Python has no nanoseconds
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64())
    return [bits(value) for value in column.to_pylist()]


def assert_same(found: pa.Table, expected: pa.Table) -> None:
    assert found.schema.equals(expected.schema)
    for name in expected.column_names:
        assert cells(found[name]) == cells(expected[name]), name


def order_of(layout: Layout, rows: int) -> list[int]:
    if layout.place is None:
        return list(range(rows))
    tables = [pq.read_table(path) for path in layout.paths]
    assert all(table.column_names[-1] == layout.place for table in tables)
    return [place for table in tables for place in table[layout.place].to_pylist()]


def reference_order(table: pa.Table, columns: list[str]) -> list[int]:
    """The slow way: null last, NaN before it, ties as they were."""

    def rank(value: Any) -> tuple[int, Any]:
        if value is None:
            return (2, 0)
        if isinstance(value, float) and math.isnan(value):
            return (1, 0)
        return (0, value.encode() if isinstance(value, str) else value)

    rows = [[rank(value) for value in ranked(table[name])] for name in columns]
    return sorted(range(table.num_rows), key=lambda row: [column[row] for column in rows])


def ranked(column: pa.ChunkedArray) -> list[Any]:
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if column.type.bit_width == 32 else pa.int64())
    found: list[Any] = column.to_pylist()
    return found


floats = st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.5, -1.5, 5e-324, 1e308])
texts = st.sampled_from(["", "a", "b", "ab", "ä", "中", "z" * 40, "\x00", "A"])
nanoseconds = st.integers(-(2**62), 2**62)


def maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), values)


#: Arrow type, values, and whether files may be sorted by it.
TYPES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any], bool]] = {
    "i8": (pa.int8(), st.integers(-3, 3), True),
    "i64": (pa.int64(), st.sampled_from([-(2**63), -1, 0, 1, 2**63 - 1]), True),
    "u64": (pa.uint64(), st.sampled_from([0, 1, 2**63, 2**64 - 1]), True),
    "f32": (pa.float32(), st.sampled_from([0.0, -0.0, math.nan, math.inf, 0.5]), True),
    "f64": (pa.float64(), floats, True),
    "bool": (pa.bool_(), st.booleans(), True),
    "text": (pa.string(), texts, True),
    "large": (pa.large_string(), texts, True),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), texts, True),
    "blob": (pa.binary(), st.binary(max_size=5), True),
    "fixed": (pa.binary(3), st.binary(min_size=3, max_size=3), True),
    "date": (pa.date32(), st.dates(dt.date(1, 1, 1)), True),
    "s": (pa.timestamp("ms"), st.integers(-(2**40), 2**40), True),
    "us": (pa.timestamp("us"), st.integers(-(2**50), 2**50), True),
    "zoned": (pa.timestamp("us", tz="UTC"), st.integers(-(2**50), 2**50), True),
    "ns": (pa.timestamp("ns"), nanoseconds, True),
    "time": (pa.time64("us"), st.integers(0, 86_399_999_999), True),
    "decimal": (pa.decimal128(9, 2), st.sampled_from(["0.00", "-1.25", "9999999.99"]).map(Decimal), True),
    "wide": (pa.decimal128(38, 10), st.sampled_from(["0", "-1.25", "1234567890123456789.5"]).map(Decimal), True),
    "list": (pa.list_(pa.float64()), st.lists(maybe(floats), max_size=3), False),
    "struct": (
        pa.struct([("a", pa.int8()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": maybe(st.integers(-3, 3)), "b": maybe(texts)}),
        False,
    ),
    "map": (
        pa.map_(pa.string(), pa.int64()),
        st.lists(st.tuples(texts, st.integers(0, 9)), max_size=3, unique_by=lambda pair: pair[0]),
        False,
    ),
    "duration": (pa.duration("ns"), nanoseconds, True),
}  # fmt: skip


@st.composite
def tables(draw: st.DrawFn) -> tuple[pa.Table, list[str]]:
    """A table, and columns to sort it by."""
    names = draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=5, unique=True))
    rows = draw(st.integers(0, 60))
    fields, arrays = [], []
    for name in names:
        kind, values, _ = TYPES[name]
        nullable = draw(st.booleans())
        one = maybe(values) if nullable else values
        fields.append(pa.field(name, kind, nullable=nullable))
        arrays.append(pa.array(draw(st.lists(one, min_size=rows, max_size=rows)), kind))
    keys = [name for name in names if TYPES[name][2]]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields)), draw(st.permutations(keys))[:2]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(made=tables(), group=st.sampled_from([3, 20, 1000]), dictionary=st.booleans(), statistics=st.booleans())
def test_any_table_is_sorted_and_can_be_had_back(
    database: Database,
    tmp_path_factory: pytest.TempPathFactory,
    made: tuple[pa.Table, list[str]],
    group: int,
    dictionary: bool,
    statistics: bool,
) -> None:
    table, columns = made
    bench = Bench(tmp_path_factory.mktemp("layout"), database)
    path = bench.write(table, row_group_size=group, use_dictionary=dictionary, write_statistics=statistics)
    given_table = pq.read_table(path)  # parquet itself has no large text, and fewer units
    layout = bench.lay_out(path, columns)
    assert layout.warnings == () and layout.sorted_by == tuple(columns)
    expected = reference_order(given_table, columns)
    assert order_of(layout, table.num_rows) == expected
    assert (layout.place is None) == (expected == list(range(table.num_rows)))
    assert_same(read(layout), given_table.take(pa.array(expected, pa.int64())))
    assert_same(bench.restore(layout), given_table)
    for file in layout.files:
        described = describe_parquet(database, file.staged.path)
        if layout.place is not None:
            assert described[-1] == SchemaField(layout.place, "BIGINT", nullable=False)
            described = described[:-1]
        assert described == describe_parquet(database, path)
        metadata = pq.read_metadata(file.staged.path)
        assert (metadata.num_rows, metadata.num_row_groups) == (file.rows, file.row_groups)
        assert (file.staged.size, file.staged.sha256) == (
            file.staged.path.stat().st_size,
            hash_file(file.staged.path),
        )


def test_files_are_cut(bench: Bench) -> None:
    rng = np.random.default_rng(1)
    table = pa.table({"key": rng.integers(0, 1000, 500), "value": rng.normal(size=500)})
    layout = bench.lay_out(bench.write(table), ["key"])
    assert len(layout.files) > 3 and layout.place is not None
    assert all(file.staged.size > TINY.file_bytes for file in layout.files[:-1])
    assert [file.rows for file in layout.files[:-1]] == [layout.files[0].rows] * (len(layout.files) - 1)
    ends = [pq.read_table(path)["key"].to_pylist() for path in layout.paths]
    assert all(one[-1] <= other[0] for one, other in itertools.pairwise(ends))
    assert bench.restore(layout).equals(table)


def test_large_rows_make_small_groups(bench: Bench) -> None:
    """A few giants among many small rows: no stretch, group or file takes more of them than it has room for."""
    texts = ["x" * (3000 if row % 50 == 0 else 3) + str(row) for row in range(400)]
    table = pa.table({"text": texts, "key": [row % 7 for row in range(400)]})
    layout = bench.lay_out(bench.write(table, use_dictionary=False, compression="none"), ["key", "text"])
    assert bench.restore(layout).equals(table)
    for path in layout.paths:
        metadata = pq.read_metadata(path)
        assert all(metadata.row_group(number).num_rows <= TINY.group_rows for number in range(metadata.num_row_groups))


@pytest.mark.parametrize("size", [0, 1, 9])
def test_what_is_in_order_stays_byte_for_byte(bench: Bench, size: int) -> None:
    path = bench.write(pa.table({"key": list(range(size)), "value": [0.5] * size}))
    for columns in (["key"], []):
        layout = bench.lay_out(path, columns, limits=None)
        assert (layout.paths, layout.place, layout.sorted_by) == ((path,), None, tuple(columns))


UNFIT: dict[str, dict[str, Any]] = {
    "a row group that is too large": {"rows": 1_100_000, "row_group_size": 2_000_000},
    "many tiny row groups": {"rows": 200, "row_group_size": 5},
    "no statistics": {"rows": 200, "row_group_size": 100, "write_statistics": False},
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_is_of_no_use_to_readers_is_written_anew(bench: Bench, name: str) -> None:
    options = dict(UNFIT[name])
    table = pa.table({"key": np.arange(options.pop("rows"))})
    path = bench.write(table, **options)
    layout = bench.lay_out(path, ["key"], limits=None)
    assert layout.place is None and layout.sorted_by == ("key",) and layout.paths != (path,)
    metadata = pq.read_metadata(layout.paths[0])
    assert metadata.num_row_groups == -(-table.num_rows // 65_536)
    assert metadata.row_group(0).column(0).is_stats_set
    assert pq.read_table(layout.paths[0]).equals(table)


def test_a_large_file_without_a_key_is_cut_and_keeps_its_order(bench: Bench) -> None:
    table = pa.table({"value": np.random.default_rng(0).normal(size=2000)})
    layout = bench.lay_out(bench.write(table), [])
    assert len(layout.files) > 3 and layout.place is None and layout.sorted_by == ()
    assert read(layout).equals(table)


def test_what_pandas_wrote_beside_the_rows_stays(bench: Bench) -> None:
    schema = pa.schema([pa.field("key", pa.int64(), metadata={"unit": "s"})], metadata={"pandas": "{}", "made by": "x"})
    path = bench.write(pa.table({"key": [2, 1]}, schema=schema))
    layout = bench.lay_out(path, ["key"])
    found = pq.read_schema(layout.paths[0])
    assert found.remove(1).equals(pq.read_schema(path), check_metadata=True)


KEPT = {
    "uuid": "uuid() AS x",
    "hugeint as double": "1::HUGEINT AS x",
    "enum": "'a'::ENUM('a', 'b') AS x",
    "time of a zone": "TIMETZ '01:02:03+02' AS x",
    "json": """'{"a": 1}'::JSON AS x""",
    "nested": "[{'a': [1, NULL], 'b': {'c': 'x'}}] AS x",
    "interval": "INTERVAL 3 DAYS AS x",
    "uhugeint": "1::UHUGEINT AS x",
    "bit": "'101'::BIT AS x",
    "timestamp in ns": "TIMESTAMP_NS '2020-01-01 00:00:00.123456789' AS x",
}


@pytest.mark.parametrize("name", KEPT)
def test_types_of_duckdb(bench: Bench, name: str) -> None:
    """Whatever DuckDB writes comes through, or is left as it was given, with a word on why."""
    path = bench.new_file()
    sql = f"SELECT 10 - i AS key, {KEPT[name]} FROM range(30) t(i)"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({sql}) TO '{path}' (FORMAT parquet)")
        layout = bench.lay_out(path, ["key"])
        query = "SELECT key, CAST(x AS VARCHAR) FROM read_parquet(?) ORDER BY key"
        before = connection.execute(query, [[str(path)]]).fetchall()
        assert connection.execute(query, [list(map(str, layout.paths))]).fetchall() == before
    if layout.warnings:
        assert layout.paths == (path,) and layout.place is None and layout.sorted_by == ()
        assert layout.warnings[0].startswith("the file is stored as it was given, and not sorted by key: x ")
    else:
        assert layout.sorted_by == ("key",) and layout.place is not None
    assert bool(layout.warnings) == (name in LEFT_ALONE)


LEFT_ALONE = {"time of a zone", "interval"}


def test_old_timestamps_are_left_alone(bench: Bench) -> None:
    table = pa.table({"key": [2, 1], "x": pa.array([1, 2], pa.timestamp("ns"))})
    path = bench.write(table, use_deprecated_int96_timestamps=True)
    layout = bench.lay_out(path, ["key"])
    assert layout.paths == (path,)
    assert layout.warnings == (
        "the file is stored as it was given, and not sorted by key: x is TIMESTAMP and would become TIMESTAMP_NS",
    )


def test_names_that_are_in_the_way(bench: Bench) -> None:
    columns = ["file_row_number", "row", "place", 'a "b" c', "place0", "key0", "a.b", "filename"]
    table = pa.table({name: [3, 1, 2] for name in columns})
    for name in columns:
        layout = bench.lay_out(bench.write(table), [name])
        assert order_of(layout, 3) == [1, 2, 0] and read(layout)[name].to_pylist() == [1, 2, 3]
        assert bench.restore(layout).equals(table)


def test_a_check_that_fails_leaves_the_file_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should a release of Arrow write other values than it read, the file is stored as it was given."""
    table = pa.table({"key": [2, 1], "value": [1.0, 2.0]})
    path = bench.write(table)
    honest = pq.ParquetWriter.write_table

    def lying(writer: Any, rows: pa.Table, **options: Any) -> None:
        if "value" in rows.column_names and rows.num_rows:
            rows = rows.set_column(1, rows.schema.field("value"), pa.array([2.0, 2.0]))
        honest(writer, rows, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", lying)
    layout = bench.lay_out(path, ["key"])
    assert layout.paths == (path,) and "other values" in layout.warnings[0]


def test_too_little_memory_to_sort_leaves_the_file_alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.write(pa.table({"key": [2, 1]}))
    honest = Database.stream

    def stingy(database: Database, sql: str, *arguments: Any, **options: Any) -> Any:
        if "ORDER BY" in sql:
            raise ResourceLimitError("the query needs more memory than this server gives one")
        return honest(database, sql, *arguments, **options)

    monkeypatch.setattr(Database, "stream", stingy)
    layout = bench.lay_out(path, ["key"])
    assert layout.paths == (path,) and "more memory" in layout.warnings[0]


def test_an_order_that_is_none_is_found_out(bench: Bench) -> None:
    layout = bench.lay_out(bench.write(pa.table({"key": [3, 1, 2]})), ["key"])
    assert layout.place is not None
    for places in ([0, 0, 1], [0, 1, 3]):
        wrong = bench.write(pa.table({"key": [1, 2, 3], "_bt_place": pa.array(places, pa.int64())}))
        with pytest.raises(ValueError):
            write_inverse(
                bench.write(pa.table({"row": pa.array(places, pa.int64())})), bench.new_file(), bench.new_file()
            )
        with pytest.raises(CorruptVersionError, match="cannot be restored"):
            restore_order([partial(nullcontext, wrong)], "_bt_place", bench.new_file(), bench.new_file)


def test_a_column_of_the_name_that_places_have(bench: Bench) -> None:
    table = pa.table({"key": [2, 1], "_BT_place": ["a", "b"]})
    layout = bench.lay_out(bench.write(table), ["key"])
    assert layout.place == "_bt_place1"
    assert order_of(layout, 2) == [1, 0]
    assert bench.restore(layout).equals(table)


def test_which_columns_are_sorted_by(bench: Bench) -> None:
    table = pa.table({"a": [1], "b": ["x"], "c": [[1]], "d": pa.array([None], pa.decimal128(5, 2))})
    schema = inspect_parquet(bench.database, bench.write(table)).schema
    for text, expected in [
        (None, ()),
        ("", ()),
        ('key = ["b", "a"]', ("b", "a")),
        ('key = ["b"]\nsort = ["a", "nothing", "c", "d", "a"]', ("a", "d")),
        ('key = ["b"]\nsort = ["nothing"]', ()),
        ("sort = 3", ()),
    ]:
        assert sort_columns(text, schema) == expected


def test_both_ways_to_sort_agree(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    values = ["4M", "10M", "1B", "0.004B", "4m", "Ü", "ü", "", "\U0001f600", "\uffff", None]
    generator = np.random.default_rng(3)
    table = pa.table(
        {
            "params": [values[at] for at in generator.integers(0, len(values), 400)],
            "data": [values[at] for at in generator.integers(5, len(values), 400)],
            "step": pa.array(generator.integers(-9, 9, 400), pa.int16(), mask=generator.random(400) < 0.1),
            "good": pa.array(generator.random(400) < 0.5, mask=generator.random(400) < 0.1),
            "row": range(400),
        }
    )
    path = bench.write(table)
    columns = ["params", "good", "data", "step"]
    packed = bench.lay_out(path, columns)
    monkeypatch.setattr("engine.store.layout.fits", lambda keys: False)
    assert read(bench.lay_out(path, columns)).equals(read(packed))
    assert packed.place is not None and packed.warnings == ()
