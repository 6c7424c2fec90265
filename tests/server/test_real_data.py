"""Real files over HTTP: what goes in comes out unchanged in each format that can carry it."""

from __future__ import annotations

import base64
import contextlib
import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from engine import Engine, EngineConfig
from engine.errors import RejectedFileError
from tests.server.conftest import local_client, settings
from tests.server.encoding.support import (
    plain,
    read_arrow,
    read_columns,
    read_csv,
    read_json,
    read_ndjson,
    read_parquet,
)

LARGE = {"speedrun": "nanogpt_speedrun/speedrun_losses.parquet"}
WIDE = {
    "openlm": "openlm_scaling/openlm_scaling_runs_wide.parquet",
    "openlm-losses": "openlm_scaling/openlm_scaling_losses_long.parquet",
    "isoflop": "resolving_discrepancies/isoflop_optima_rw.parquet",
    "history": "wandb/run_history.parquet",
}


@pytest.fixture(scope="module")
def files(shared_data: Path) -> dict[str, Path]:
    small = {
        path.name.removesuffix(".parquet").replace(".", "-").lower(): path
        for path in sorted((shared_data / "parquet-testing-good").glob("*.parquet"))
    }
    return {**small, **{name: shared_data / place for name, place in (WIDE | LARGE).items()}}


@pytest.fixture(scope="module")
def served(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("real")
    with Engine(EngineConfig(store=folder, definitions=None)) as engine:
        for name, path in files.items():
            with contextlib.suppress(RejectedFileError):
                engine.publish(name, path)
    with local_client(settings(folder)) as client:
        yield client


@pytest.fixture(scope="module")
def names(served: TestClient) -> list[str]:
    return [item["name"] for item in served.get("/api/datasets").json()["data"]]


def _original(path: Path) -> pa.Table:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(f"SELECT * FROM read_parquet('{path}')").to_arrow_table()


def _slow(value: Any, kind: pa.DataType) -> Any:
    """A value as JSON should have it, by the plainest means; times come as datetimes."""
    if value is None:
        return None
    if pa.types.is_list(kind):
        return [_slow(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {field.name: _slow(value[field.name], field.type) for field in kind}
    if pa.types.is_map(kind):
        return [{"key": _slow(key, kind.key_type), "value": _slow(item, kind.item_type)} for key, item in value]
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= 2**53 else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return str(value) if kind.scale > 0 else _slow(int(value), pa.int64())
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat()
        return text[:-3] + "Z" if text.endswith("000") and "." in text else text + "Z"
    return value.isoformat() if isinstance(value, (date, time)) else value


def _comparable(table: pa.Table) -> pa.Table:
    """Without columns whose values Python's datetime cannot hold."""
    kept = []
    for name in table.schema.names:
        try:
            table[name].to_pylist()
            kept.append(name)
        except (OverflowError, ValueError):
            assert "timestamp" in str(table.schema.field(name).type)
    return table.select(kept)


def test_all_files_but_one_publish(names: list[str], files: dict[str, Path]) -> None:
    assert set(WIDE) | set(LARGE) <= set(names)
    assert set(files) - set(names) == {"int96_from_spark"}  # times outside what DuckDB can hold


def test_json_formats(served: TestClient, names: list[str], files: dict[str, Path]) -> None:
    for name in names:
        original = _original(files[name])
        original = _comparable(original.slice(0, 2_000) if name in LARGE else original)
        columns = zip(original.schema, original.columns, strict=True)
        slow = {field.name: [_slow(value, field.type) for value in column.to_pylist()] for field, column in columns}
        for form, read in (("json", read_json), ("columns", read_columns), ("ndjson", read_ndjson)):
            found = served.get(f"/api/datasets/{name}/rows?format={form}&limit=2000")
            assert found.status_code == 200, (name, found.text)
            if form == "ndjson":
                continue  # its last line says that it was cut, where it was
            rows = read(found.content)
            for column, values in slow.items():
                assert [row[column] for row in rows] == values, (name, column, form)


def test_binary_formats(served: TestClient, names: list[str], files: dict[str, Path]) -> None:
    for name in names:
        original = plain(_original(files[name]))
        for form, read in (("arrow", read_arrow), ("parquet", read_parquet)):
            found = served.get(f"/api/datasets/{name}/rows?format={form}")
            assert found.status_code == 200, (name, found.text)
            table = plain(read(found.content))
            assert table.schema.names == original.schema.names
            for column in original.schema.names:
                expected, given = original[column].combine_chunks(), table[column].combine_chunks()
                assert _same(expected, given), (name, column, form)


def _same(expected: pa.Array, given: pa.Array) -> bool:
    """Whether two columns hold the same bits; parquet may name the items of a list otherwise."""
    given = given.cast(expected.type)
    if pa.types.is_floating(expected.type):
        return bool(
            expected.is_null().equals(given.is_null())
            and expected.fill_null(0.0).to_numpy().tobytes() == given.fill_null(0.0).to_numpy().tobytes()
        )
    return bool(expected.equals(given))


def test_csv(served: TestClient, names: list[str], files: dict[str, Path]) -> None:
    for name in names:
        original = _original(files[name])
        found = served.get(f"/api/datasets/{name}/rows?format=csv")
        assert found.status_code == 200, (name, found.text)
        rows = read_csv(found.content)
        if len(original.schema.names) > 1:  # readers take an empty line for none at all
            assert len(rows) == original.num_rows, name
        for field in original.schema:
            if pa.types.is_floating(field.type) and rows:
                given = [None if row[field.name] == "" else float(row[field.name]) for row in rows]
                expected = original[field.name].cast(pa.float64()).to_pylist()
                if len(given) == len(expected):
                    assert str(given) == str(expected), (name, field.name)


def test_null_and_nan_in_one_column(served: TestClient) -> None:
    url = "/api/datasets/speedrun/rows?select=step_avg_ms"
    table = plain(read_arrow(served.get(f"{url}&format=arrow").content))
    column = table["step_avg_ms"]
    assert column.null_count == 29_493
    assert sum(math.isnan(value) for value in column.to_pylist() if value is not None) == 1_136
    content = json.loads(served.get(f"{url}&format=columns").content)
    assert content["meta"]["nonfinite"] == 1_136
    assert content["data"]["step_avg_ms"].count(None) == 29_493 + 1_136


def test_lists_of_structs(served: TestClient) -> None:
    row = served.get("/api/datasets/openlm/rows?limit=1").json()["data"][0]
    assert len(row) == 94
    assert isinstance(row["results"], list) and isinstance(row["results"][0], dict)
    assert isinstance(row["open_lm_args"], list)


def test_times_that_few_others_can_say(served: TestClient) -> None:
    (row,) = served.get("/api/datasets/nested_structs-rust/rows").json()["data"]
    found = row["ul_observation_date"]
    assert found["min"] == "+052951-07-27T10:00:00Z"  # a year that neither Python nor numpy's texts can tell
