"""Each format, whole and streamed, read back by readers that are not ours."""

from __future__ import annotations

import gc
import io
import json
import math
import struct
import time
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from server.encoding import METADATA_KEY, UnsupportedColumnError
from server.encoding.payload import STEP_BYTES, in_steps
from tests.server.encoding.support import (
    arrow_meta,
    encode,
    form,
    payload,
    plain,
    read_arrow,
    read_columns,
    read_csv,
    read_json,
    read_ndjson,
    read_parquet,
)

JSON_READERS = {"json": read_json, "columns": read_columns, "ndjson": read_ndjson}
TABLE_READERS = {"arrow": read_arrow, "parquet": read_parquet}
NAMES = [*JSON_READERS, "csv", *TABLE_READERS]


def sample(rows: int = 4_321) -> pa.Table:
    floats = [math.sin(row) * 10.0 ** (row % 300 - 150) for row in range(rows)]
    return pa.table(
        {
            "n": pa.array(range(rows), pa.int64()),
            "value": pa.array([None if row % 50 == 7 else value for row, value in enumerate(floats)], pa.float64()),
            "text": pa.array([None if row % 11 == 3 else f'a "quoted", {row % 40}\n' for row in range(rows)]),
            "known": pa.array([f"kind {row % 5}" for row in range(rows)]).dictionary_encode(),
            "list": pa.array([[row, None] if row % 3 else None for row in range(rows)], pa.list_(pa.int32())),
        }
    )


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", JSON_READERS)
def test_json_formats_give_every_value(name: str, is_whole: bool) -> None:
    table = sample()
    assert JSON_READERS[name](encode(name, table, is_whole=is_whole)) == plain(table).to_pylist()


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", TABLE_READERS)
def test_binary_formats_give_every_value(name: str, is_whole: bool) -> None:
    table = sample()
    assert plain(TABLE_READERS[name](encode(name, table, is_whole=is_whole))).equals(plain(table))


def test_csv_gives_every_value() -> None:
    table = sample()
    rows = read_csv(encode("csv", table))
    for found, expected in zip(rows, plain(table).to_pylist(), strict=True):
        assert int(found["n"]) == expected["n"]
        assert (float(found["value"]) if found["value"] else None) == expected["value"]
        assert (found["text"] or None) == expected["text"]
        assert found["known"] == expected["known"]
        assert (json.loads(found["list"]) if found["list"] else None) == expected["list"]


def test_csv_is_what_the_rfc_says() -> None:
    table = pa.table({"a,b": ["x", "", None], "n": [1.5, float("nan"), float("-inf")]})
    assert encode("csv", table) == b'"a,b",n\r\nx,1.5\r\n"",nan\r\n,-inf\r\n'


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_without_rows_is_whole_too(name: str) -> None:
    table = sample(0)
    body = encode(name, table)
    if name == "csv":
        assert body == b"n,value,text,known,list\r\n"
    elif name == "columns":
        assert json.loads(body)["data"] == {column: [] for column in table.schema.names}
    else:
        found = (JSON_READERS | TABLE_READERS)[name](body)
        assert found == [] if name in JSON_READERS else found.num_rows == 0


@pytest.mark.parametrize("name", ["arrow", "parquet"])
def test_nan_and_infinities_keep_their_bits(name: str) -> None:
    bits = [0x7FF8000000000000, 0x7FF8000000000123, 0xFFF8000000000001, 0x7FF0000000000000, 0x8000000000000000]
    values = [struct.unpack("<d", struct.pack("<Q", one))[0] for one in bits]
    table = TABLE_READERS[name](encode(name, pa.table({"v": values})))
    assert [struct.unpack("<Q", struct.pack("<d", value))[0] for value in table["v"].to_pylist()] == bits


@pytest.mark.parametrize("name", ["json", "columns"])
def test_nonfinite_values_are_null_and_counted(name: str) -> None:
    nan = float("nan")
    table = pa.table({"v": [1.0, nan, float("inf"), None], "l": [[nan, 2.0], None, [], [float("-inf")]]})
    body = encode(name, table)
    assert JSON_READERS[name](body) == [
        {"v": 1.0, "l": [None, 2.0]},
        {"v": None, "l": None},
        {"v": None, "l": []},
        {"v": None, "l": [None]},
    ]
    assert json.loads(body)["meta"]["nonfinite"] == 4


def test_arrow_and_parquet_carry_the_meta() -> None:
    table = pa.table({"v": [1.0, float("nan")]})
    expected = {"returned": 2, "nonfinite": 1, "truncated": False}
    assert arrow_meta(read_arrow(encode("arrow", table))) == expected
    assert arrow_meta(read_arrow(encode("arrow", table, is_whole=False))) == {"returned": 2}
    for is_whole in (True, False):
        found = pq.read_metadata(io.BytesIO(encode("parquet", table, is_whole=is_whole)))
        assert json.loads(found.metadata[METADATA_KEY])["meta"] == expected


def test_a_streamed_arrow_answer_ends_with_its_meta() -> None:
    reader = pa.ipc.open_stream(encode("arrow", sample(), is_whole=False))
    metas = []
    while True:
        try:
            batch, meta = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            break
        metas.append((batch.num_rows, meta))
    assert all(meta is None for _, meta in metas[:-1])
    assert metas[-1][0] == 0
    assert json.loads(metas[-1][1][METADATA_KEY])["meta"]["truncated"] is False


def _texts(rows: int) -> pa.Table:
    return pa.table(
        {
            "unique": [f"row {row}" for row in range(rows)],
            "late": [("a", "b", "c", "d")[4 * row // rows] for row in range(rows)],
            "some": [None if row % 9 == 0 else f"v{row % 100}" for row in range(rows)],
            "all null": pa.array([None] * rows, pa.string()),
        }
    )


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "streamed"])
def test_texts_are_dictionaries_that_others_can_read(is_whole: bool) -> None:
    # Above 65 536 distinct values a streamed dictionary starts anew.
    table = _texts(100_000)
    body = encode("arrow", table, is_whole=is_whole, batch_rows=10_000)
    found = read_arrow(body)
    assert all(field.type == pa.dictionary(pa.int32(), pa.string()) for field in found.schema)
    assert plain(found).equals(table)
    frame = pl.read_ipc_stream(io.BytesIO(body))
    for name in table.schema.names:
        assert frame[name].cast(pl.String).to_list() == table[name].to_pylist()


def test_a_whole_answer_has_one_dictionary_per_column() -> None:
    batches = pa.ipc.open_stream(encode("arrow", _texts(5_000), batch_rows=500))
    sizes = {tuple(len(column.dictionary) for column in batch.columns) for batch in batches}
    assert sizes == {(5_000, 4, 100, 0)}


def test_arrow_is_not_compressed() -> None:
    table = pa.table({"v": [0.0] * 10_000})
    assert len(encode("arrow", table)) > 80_000


def test_parquet_refuses_what_it_cannot_carry() -> None:
    table = pa.table({"ok": [1], "span": pa.array([pa.MonthDayNano([1, 2, 3])])})
    with pytest.raises(UnsupportedColumnError, match="span"):
        encode("parquet", table)


def test_the_end_of_ndjson_is_the_same_when_a_limit_cut_it() -> None:
    """Whoever gave the limit knows it; where it goes on is in the Link header."""
    cut = payload(pa.table({"n": [1]}))
    meta: dict[str, Any] = {"meta": {"truncated": True, "next_cursor": "xyz"}, "links": {}}
    given = type(cut)(cut.schema, cut.batches, True, lambda: meta, lambda nonfinite: meta)
    lines = b"".join(form("ndjson").encode(given)).splitlines()
    assert json.loads(lines[-1]) == {"end": True, "rows": 1}


def test_names_are_escaped() -> None:
    table = pa.table({'a "b"\n': [1], "ü,": [2], "": [3]})
    for name in JSON_READERS:
        assert JSON_READERS[name](encode(name, table)) == [{'a "b"\n': 1, "ü,": 2, "": 3}]
    assert read_csv(encode("csv", table)) == [{'a "b"\n': "1", "ü,": "2", "": "3"}]


def test_wide_batches_are_cut_into_steps() -> None:
    table = pa.table({"text": ["x" * 1_000_000] * 64})
    steps = list(in_steps(table.schema, table.to_batches()))
    assert sum(step.num_rows for step in steps) == 64
    assert all(step.nbytes <= STEP_BYTES for step in steps)
    assert max(map(len, form("json").encode(payload(table, batch_rows=64)))) <= STEP_BYTES


def test_steps_are_equally_long() -> None:
    table = pa.table({f"c{column}": pa.array(range(16_384), pa.float64()) for column in range(40)})
    lengths = [step.num_rows for step in in_steps(table.schema, table.to_batches())]
    assert sum(lengths) == 16_384
    assert len(lengths) > 1 and max(lengths) - min(lengths) < len(lengths)


@pytest.mark.parametrize("name", NAMES)
def test_a_large_answer_begins_before_its_rows_are_read(name: str) -> None:
    """Parquet waits for its first row group; what leaves stays small, and so does what Arrow holds meanwhile."""
    table = sample(16_384)
    given = 0

    def batches() -> Any:
        nonlocal given
        for _ in range(30):
            given += 1
            yield from table.to_batches()

    whole = payload(table)
    before = pa.total_allocated_bytes()
    held, seen, sizes = [], [], []
    for piece in form(name).encode(type(whole)(whole.schema, batches(), False, whole.opening, whole.closing)):
        held.append(pa.total_allocated_bytes() - before)
        seen.append(given)
        sizes.append(len(piece))
    assert seen[0] <= (8 if name == "parquet" else 1)
    assert given == 30
    assert max(held) < 8 << 20
    assert max(sizes) <= STEP_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_among_the_rows_is_not_swallowed(name: str) -> None:
    def batches() -> Any:
        yield from sample(100).to_batches()
        raise RuntimeError("the disk is gone")

    whole = payload(sample(100))
    broken = type(whole)(whole.schema, batches(), False, whole.opening, whole.closing)
    with pytest.raises(RuntimeError, match="disk"):
        b"".join(form(name).encode(broken))
    gc.collect()  # nothing that the encoder left behind may complain


def test_rows_as_json_are_quick() -> None:
    """35 000 rows of 7 columns; 12 ms of processor time on the machine that this was written on."""
    rows = 35_000
    table = pa.table(
        {
            "params": pa.array([f"{row % 14}M" for row in range(rows)]).dictionary_encode(),
            "data": pa.array([f"recipe, {row % 25}%" for row in range(rows)]).dictionary_encode(),
            "step": pa.array(range(rows), pa.int64()),
            "tokens": pa.array([row * 12_345_678 for row in range(rows)], pa.int64()),
            "compute": pa.array([math.sqrt(row + 2) * 1e18 for row in range(rows)]),
            "metric": pa.array(["pile-valppl"] * rows).dictionary_encode(),
            "value": pa.array([math.sqrt(row) for row in range(rows)]),
        }
    )
    spent = []
    for _ in range(5):
        started = time.thread_time()
        encode("json", table, batch_rows=16_384)
        spent.append(time.thread_time() - started)
    assert min(spent) < 0.15  # many times what it takes, for slow machines; row by row it would be 200 ms and more
