"""Which parquet is taken, what is said of the rest, and that nothing damaged is ever taken for a smaller table."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.connection import Database
from engine.errors import EngineError, RejectedFileError, ResourceLimitError
from engine.store import inspect_parquet, verify_blob
from tests.engine.store.support import Process, sha256

# What each file of parquet-testing's good ones becomes: rows, columns, some DuckDB types.
GOOD: dict[str, tuple[int, int, str]] = {
    "alltypes_dictionary.parquet": (2, 11, "INTEGER BOOLEAN BIGINT FLOAT DOUBLE BLOB TIMESTAMP"),
    "alltypes_plain.parquet": (8, 11, "INTEGER BOOLEAN BIGINT FLOAT DOUBLE BLOB TIMESTAMP"),
    "alltypes_plain.snappy.parquet": (2, 11, "INTEGER BOOLEAN BIGINT FLOAT DOUBLE BLOB TIMESTAMP"),
    "binary.parquet": (12, 1, "BLOB"),
    "byte_array_decimal.parquet": (24, 1, "DECIMAL(4,2)"),
    "byte_stream_split.zstd.parquet": (300, 2, "FLOAT DOUBLE"),
    "datapage_v2.snappy.parquet": (5, 5, "VARCHAR INTEGER DOUBLE BOOLEAN INTEGER[]"),
    "delta_binary_packed.parquet": (200, 66, "BIGINT INTEGER"),
    "delta_byte_array.parquet": (1000, 9, "VARCHAR"),
    "delta_encoding_optional_column.parquet": (100, 17, "BIGINT VARCHAR"),
    "fixed_length_decimal.parquet": (24, 1, "DECIMAL(25,2)"),
    "float16_nonzeros_and_nans.parquet": (8, 1, "FLOAT"),
    "int32_decimal.parquet": (24, 1, "DECIMAL(4,2)"),
    "int64_decimal.parquet": (24, 1, "DECIMAL(10,2)"),
    "list_columns.parquet": (3, 2, "BIGINT[] VARCHAR[]"),
    "lz4_raw_compressed.parquet": (4, 3, "BIGINT BLOB DOUBLE"),
    "nan_in_stats.parquet": (2, 1, "DOUBLE"),
    "nested_lists.snappy.parquet": (3, 2, "VARCHAR[][][] INTEGER"),
    "nested_maps.snappy.parquet": (6, 3, "MAP INTEGER DOUBLE"),
    "nested_structs.rust.parquet": (1, 36, "STRUCT"),
    "nonnullable.impala.parquet": (1, 6, "BIGINT INTEGER[] INTEGER[][] MAP STRUCT"),
    "null_list.parquet": (1, 1, "[]"),
    "nullable.impala.parquet": (7, 6, "BIGINT INTEGER[] INTEGER[][] MAP STRUCT"),
    "nulls.snappy.parquet": (8, 1, "STRUCT"),
    "single_nan.parquet": (1, 1, "DOUBLE"),
    "sort_columns.parquet": (6, 2, "BIGINT VARCHAR"),
}
REJECTED = {
    # Years 290000 and the like: no nanosecond since 1970 fits in 64 bits.
    "int96_from_spark.parquet": "int96_from_spark.parquet cannot be read: Int96 timestamp is out of range",
}


def test_the_table_above_is_complete(shared_data: Path) -> None:
    names = {path.name for path in (shared_data / "parquet-testing-good").glob("*.parquet")}
    assert names == {*GOOD, *REJECTED}


@pytest.mark.parametrize("name", sorted(GOOD))
def test_parquet_that_others_made(process: Process, shared_data: Path, name: str) -> None:
    source = shared_data / "parquet-testing-good" / name
    rows, columns, types = GOOD[name]
    version = process.publisher.publish("d", source).version
    assert (version.rows, len(version.schema)) == (rows, columns)
    listed = " ".join(column.type for column in version.schema)
    assert all(found in listed for found in types.split()), listed
    stored = verify_blob(process.store, version.files[0])
    assert stored.read_bytes() == source.read_bytes()
    assert process.database.table("SELECT * FROM read_parquet(?)", [str(stored)]).num_rows == rows


@pytest.mark.parametrize("name", sorted(REJECTED))
def test_parquet_that_cannot_be_served(process: Process, shared_data: Path, name: str) -> None:
    with pytest.raises(RejectedFileError) as caught:
        process.publisher.publish("d", shared_data / "parquet-testing-good" / name)
    assert caught.value.detail == REJECTED[name]


@pytest.mark.parametrize(
    "name, rows, columns",
    [
        ("openlm_scaling/openlm_scaling_runs_wide.parquet", 104, 94),
        ("nanogpt_speedrun/speedrun_losses.parquet", 349_650, 10),
        ("pythia/pythia_v1_zero_shot.parquet", 74_304, 11),
        ("resolving_discrepancies/isoflop_optima_rw.parquet", 59, 19),
        ("wandb/run_history.parquet", 999, 5),
    ],
)
def test_real_results_go_in_unchanged(process: Process, shared_data: Path, name: str, rows: int, columns: int) -> None:
    source = shared_data / name
    version = process.publisher.publish("d", source).version
    assert (version.rows, len(version.schema)) == (rows, columns)
    assert version.content_id == sha256(source.read_bytes())
    ours = process.database.table("SELECT * FROM read_parquet(?)", [str(verify_blob(process.store, version.files[0]))])
    theirs = pq.read_table(source)
    assert ours.column_names == theirs.column_names == [column.name for column in version.schema]
    for column in ours.column_names:  # repr: NaN is NaN, and 1 is not 1.0
        assert list(map(repr, ours[column].to_pylist())) == list(map(repr, theirs[column].to_pylist())), column


def test_nan_and_null_are_both_kept(process: Process, shared_data: Path) -> None:
    version = process.publisher.publish("d", shared_data / "nanogpt_speedrun" / "speedrun_losses.parquet").version
    sql = "SELECT count(*) FILTER (step_avg_ms IS NULL) AS nulls, count(*) FILTER (isnan(step_avg_ms)) AS nans"
    found = process.database.table(f"{sql} FROM read_parquet(?)", [str(verify_blob(process.store, version.files[0]))])
    assert found.to_pylist() == [{"nulls": 29_493, "nans": 1_136}]


def test_the_empty_export(process: Process, shared_data: Path) -> None:
    with pytest.raises(RejectedFileError, match=r"^empty\.parquet cannot be read: it has no columns$"):
        process.publisher.publish("d", shared_data / "wandb" / "empty.parquet")


FRAMES: list[tuple[bytes, str]] = [
    (b"", "x.parquet is empty"),
    (b"PAR", "x.parquet is not parquet: it does not begin with PAR1"),
    (b"a,b\n1,2\n", "x.parquet is not parquet: it does not begin with PAR1"),
    (b"PAR1", "x.parquet is cut short: it begins as parquet and does not end with PAR1"),
    (b"PAR1PAR1", "x.parquet is cut short: it begins as parquet and does not end with PAR1"),
    (b"PAR1" + bytes(100), "x.parquet is cut short: it begins as parquet and does not end with PAR1"),
    (b"PAR1" + bytes(8) + b"\xff\0\0\0PAR1", "x.parquet is corrupt: its footer is said to be longer than the file"),
    (b"PARE" + bytes(20) + b"PARE", "x.parquet is encrypted parquet, which cannot be read"),
    (b"PAR1" + bytes(20) + b"PARE", "x.parquet is encrypted parquet, which cannot be read"),
]


@pytest.mark.parametrize("data, reason", FRAMES, ids=[repr(data[:16]) for data, _ in FRAMES])
def test_frames(database: Database, tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(data)
    with pytest.raises(RejectedFileError) as caught:
        inspect_parquet(database, path)
    assert caught.value.detail == reason


@pytest.mark.parametrize("footer", [b"", b"\0", b"\x15\x04\x19", bytes(64), b"\xff" * 64])
def test_a_footer_that_says_nothing(database: Database, tmp_path: Path, footer: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    with pytest.raises(RejectedFileError, match=r"^x\.parquet ") as caught:
        inspect_parquet(database, path)
    assert str(tmp_path) not in caught.value.detail


def every_kind(rows: int = 400) -> pa.Table:
    numbers = list(range(rows))
    return pa.table(
        {
            "i": numbers,
            "s": [f"name {number % 7}" if number % 11 else None for number in numbers],
            "d": [number / 7 if number % 5 else None for number in numbers],
            "l": [[number] * (number % 4) for number in numbers],
            "st": [{"x": number, "y": str(number)} for number in numbers],
            "at": [datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)] * rows,
            "dec": [Decimal(number) for number in numbers],
        }
    )


LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"use_dictionary": False, "compression": "none"},
    "dictionary": {"compression": "snappy"},
    "v2": {"compression": "zstd", "data_page_version": "2.0"},
    "checksums": {"write_page_checksum": True},
    "delta": {
        "use_dictionary": False,
        "column_encoding": {"i": "DELTA_BINARY_PACKED", "s": "DELTA_BYTE_ARRAY", "d": "BYTE_STREAM_SPLIT"},
    },
}


@pytest.fixture
def try_it(database: Database, tmp_path: Path) -> Callable[[bytes], int | None]:
    """How many rows a damaged file is taken for; None for a proper reject. Anything else is an error."""
    path = tmp_path / "x.parquet"

    def work(data: bytes) -> int | None:
        path.unlink(missing_ok=True)  # under another inode, so that DuckDB does not take it for the one before
        path.write_bytes(data)
        try:
            return inspect_parquet(database, path).rows
        except (RejectedFileError, ResourceLimitError) as error:  # a damaged length may ask for any amount of memory
            detail = error.detail
        assert str(tmp_path) not in detail and "\n" not in detail and len(detail) < 700
        return None

    return work


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cut_short_anywhere(try_it: Callable[[bytes], int | None], tmp_path: Path, layout: str) -> None:
    pq.write_table(every_kind(), tmp_path / "whole", row_group_size=150, **LAYOUTS[layout])
    whole = (tmp_path / "whole").read_bytes()
    assert try_it(whole) == 400
    for length in {*range(0, len(whole), len(whole) // 60), *range(len(whole) - 20, len(whole))}:
        assert try_it(whole[:length]) is None, length
        assert try_it(whole[:4] + whole[len(whole) - length :]) in (None, 400), "its beginning is lost"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipped_bits_never_lose_rows_and_never_end_the_process(
    try_it: Callable[[bytes], int | None], database: Database, tmp_path: Path, layout: str
) -> None:
    """Of random damage to pages and to the footer; each file in one process, whose database must stay alive."""
    pq.write_table(every_kind(), tmp_path / "whole", row_group_size=150, **LAYOUTS[layout])
    whole = (tmp_path / "whole").read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    rng = random.Random(layout)
    outcomes = []
    for turn in range(160):
        damaged = bytearray(whole)
        first, last = (footer, len(whole) - 8) if turn % 2 else (4, footer)
        for _ in range(rng.choice([1, 1, 1, 3])):
            damaged[rng.randrange(first, last)] ^= 1 << rng.randrange(8)
        outcomes.append(try_it(bytes(damaged)))
    assert set(outcomes) == {None, 400}
    assert database.table("SELECT 1 AS a").num_rows == 1


def test_page_checksums_are_believed(try_it: Callable[[bytes], int | None], tmp_path: Path) -> None:
    """Where the writer left checksums, not one flipped bit of a page goes through.

    Where it left none, a bit of a value cannot be told from another value; from the publish on, the log's hash can.
    """
    table = pa.table({"i": pa.array(range(5000))})
    pq.write_table(table, tmp_path / "whole", use_dictionary=False, compression="none", write_page_checksum=True)
    whole = (tmp_path / "whole").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 3] ^= 1
    verdict = try_it(bytes(damaged))
    assert verdict in (None, 5000)  # DuckDB does not check them; should it begin to, the better


def test_a_footer_that_counts_wrong(database: Database, tmp_path: Path) -> None:
    """The number of rows in the file's footer is not the sum of its groups'."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": list(range(1000))}), path, row_group_size=600)
    data = bytearray(path.read_bytes())
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    position = data.index(b"\x16\xd0\x0f\x19", footer)  # field 3, i64, zigzag 1000; then the list of groups
    data[position + 1 : position + 3] = b"\xce\x0f"  # 999
    path.unlink()
    path.write_bytes(data)
    with pytest.raises(RejectedFileError, match="says it has 999 rows and holds 1000"):
        inspect_parquet(database, path)


def inspect_table(database: Database, path: Path, table: pa.Table) -> list[tuple[str, str, bool]]:
    path.unlink(missing_ok=True)
    pq.write_table(table, path)
    found = inspect_parquet(database, path)
    assert found.rows == table.num_rows
    return [(column.name, column.type, column.nullable) for column in found.schema]


def test_no_columns_and_no_rows(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    assert inspect_table(database, path, pa.table({"a": pa.array([], pa.int64())})) == [("a", "BIGINT", True)]
    pq.write_table(pa.table({}), path)
    with pytest.raises(RejectedFileError, match=r"^x\.parquet cannot be read: it has no columns$"):
        inspect_parquet(database, path)


def test_names(database: Database, tmp_path: Path) -> None:
    """DuckDB knows no case in names; the schema says under which name each column is found."""
    path = tmp_path / "x.parquet"
    names = ["a", "A", "filename", "file_row_number", "file_index", "größe 中", 'q"q', "a.b", "'; --", ""]
    table = pa.table([[number] for number in range(len(names))], names=names)
    found = [name for name, _, _ in inspect_table(database, path, table)]
    assert found == ["a", "A_1", *names[2:9], "C9"]
    values = database.table("SELECT * FROM read_parquet(?)", [str(path)]).to_pydict()
    assert list(values) == found and list(values.values()) == [[number] for number in range(len(names))]
    with pytest.raises(RejectedFileError, match=r"x\.parquet has a column whose name holds a zero character"):
        inspect_table(database, path, pa.table({"x\0y": [1]}))
    doubled = pa.table([[1], [2]], names=["a", "a"])
    assert [name for name, _, _ in inspect_table(database, path, doubled)] == ["a", "a_1"]


def test_types(database: Database, tmp_path: Path) -> None:
    table = pa.table(
        {
            "ns": pa.array([1], pa.timestamp("ns")),
            "s": pa.array([1], pa.timestamp("s")),
            "berlin": pa.array([1], pa.timestamp("us", "Europe/Berlin")),
            "unsigned": pa.array([2**64 - 1], pa.uint64()),
            "half": pa.array([1.5], pa.float16()),
            "decimal": pa.array([Decimal("1.50")], pa.decimal128(38, 2)),
            "bytes": [b"\xff"],
            "day": [datetime.date(2026, 1, 1)],
            "none": pa.nulls(1),
            "list": [[{"a": 1}]],
        }
    )
    assert [sql_type for _, sql_type, _ in inspect_table(database, tmp_path / "x.parquet", table)] == [
        "TIMESTAMP_NS",
        "TIMESTAMP",
        "TIMESTAMP WITH TIME ZONE",
        "UBIGINT",
        "FLOAT",
        "DECIMAL(38,2)",
        "BLOB",
        "DATE",
        '"NULL"',
        "STRUCT(a BIGINT)[]",
    ]


def test_which_columns_may_hold_null(database: Database, tmp_path: Path) -> None:
    schema = pa.schema(
        [
            pa.field("a", pa.int64(), nullable=False),
            pa.field("b", pa.struct([pa.field("x", pa.int64(), nullable=False)])),
            pa.field("c", pa.list_(pa.int64()), nullable=False),
            pa.field("d", pa.string()),
        ]
    )
    table = pa.table({"a": [1], "b": [{"x": 1}], "c": [[1]], "d": ["x"]}, schema=schema)
    found = inspect_table(database, tmp_path / "x.parquet", table)
    assert [nullable for _, _, nullable in found] == [False, True, False, True]


def test_text_that_is_not_utf8(database: Database, tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([b"\xff"], pa.binary()).view(pa.string())})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(RejectedFileError, match=r"^x\.parquet cannot be read: "):
        inspect_parquet(database, tmp_path / "x.parquet")


def test_a_folder_named_like_a_partition_adds_no_column(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "seed=4"
    folder.mkdir()
    assert [name for name, _, _ in inspect_table(database, folder / "x.parquet", pa.table({"a": [1]}))] == ["a"]


def test_what_could_not_be_found_out_is_no_reject(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(every_kind(), path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    database = Database([elsewhere], max_concurrent=1, queue_timeout_s=0.01)
    try:
        with pytest.raises(EngineError) as caught:
            inspect_parquet(database, path)  # a folder that this database may not read
        assert not isinstance(caught.value, RejectedFileError)
        with database.stream("SELECT 1"), pytest.raises(EngineError) as caught:
            inspect_parquet(database, path)
        assert not isinstance(caught.value, RejectedFileError)
    finally:
        database.close()
