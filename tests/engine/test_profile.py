"""What the data says of its columns: values, keys, what follows from what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine import profile as profiles
from engine.connection import Database, quoted
from engine.errors import ResourceLimitError
from engine.profile import MAX_VALUES, Profile
from queries.schema import Column, Role
from tests.engine.support import write_parquet


@pytest.fixture(params=[profiles.MAX_GROUPED_ROWS, 1], ids=["grouped", "sorted"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to see whether a key is one: of few rows, and of many."""
    monkeypatch.setattr(profiles, "MAX_GROUPED_ROWS", request.param)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database([tmp_path])
    yield database
    database.close()


def profile(database: Database, folder: Path, columns: dict[str, Any], *, key: tuple[str, ...] = ()) -> Profile:
    table = pa.table(columns)
    path = write_parquet(folder / "x.parquet", table)
    database.define("rel", f"SELECT * FROM read_parquet('{path}')")
    types = {"string": ("VARCHAR", Role.DIMENSION), "int64": ("BIGINT", Role.AXIS), "double": ("DOUBLE", Role.MEASURE)}
    described = [Column(field.name, *types[str(field.type)]) for field in table.schema]
    return Profile(database, lambda: nullcontext("rel"), described, table.num_rows, key)


def test_values(database: Database, tmp_path: Path) -> None:
    found = profile(database, tmp_path, {'a "b"': ["x", None, "x", ""], "n": [1, 1, 2, None]})
    assert found.values('a "b"') == {"x", ""}
    assert found.values("n") == {1, 2}


def test_too_many_values(database: Database, tmp_path: Path) -> None:
    found = profile(
        database, tmp_path, {"n": range(MAX_VALUES + 1), "m": [at % MAX_VALUES for at in range(MAX_VALUES + 1)]}
    )
    assert found.values("n") is None
    assert len(found.values("m") or ()) == MAX_VALUES


SWEEP = {
    "params": ["60M", "60M", "1B", "1B"],
    "step": [0, 1, 0, 1],
    "tokens": [0, 2, 0, 2],
    "value": [0.5, 0.5, 0.5, 0.5],
}


@pytest.mark.usefixtures("ways")
def test_a_declared_key_is_believed_when_the_data_agrees(database: Database, tmp_path: Path) -> None:
    assert profile(database, tmp_path, SWEEP, key=("step", "params")).key() == ("step", "params")
    assert profile(database, tmp_path, SWEEP, key=("step",)).key() == ("params", "step")
    assert profile(database, tmp_path, SWEEP, key=("gone", "params")).key() == ("params", "step")


@pytest.mark.usefixtures("ways")
def test_the_fewest_columns_that_tell_rows_apart(database: Database, tmp_path: Path) -> None:
    assert profile(database, tmp_path, SWEEP).key() == ("params", "step")
    repeated = {name: [*values, values[0]] for name, values in SWEEP.items()}
    assert profile(database, tmp_path, repeated).key() == ()
    assert profile(database, tmp_path, {"value": [1.0, 2.0]}).key() == ()


@pytest.mark.usefixtures("ways")
def test_null_is_a_value_of_a_key(database: Database, tmp_path: Path) -> None:
    columns = {"params": ["60M", None], "step": [0, 0]}
    assert profile(database, tmp_path, columns).key() == ("params",)
    assert profile(database, tmp_path, {"params": pa.array([None, None], pa.string()), "step": [0, 0]}).key() == ()


def test_many_rows_in_little_memory(tmp_path: Path) -> None:
    rows = profiles.MAX_GROUPED_ROWS + 100_001
    columns: dict[str, Any] = {
        "step": range(rows),
        "params": [f"size-{number % 7}-of-a-model" for number in range(rows)],
    }
    small = Database([tmp_path], temp_directory=tmp_path, memory_limit_bytes=24 << 20)
    try:
        found = profile(small, tmp_path, columns, key=("params", "step"))
        assert found.key() == ("params", "step")
        columns["step"] = [*range(rows - 1), 0]
        columns["params"] = [*columns["params"][:-1], columns["params"][0]]
        assert profile(small, tmp_path, columns, key=("params", "step")).key() == ()
    finally:
        small.close()


def test_keys_whose_hashes_are_equal_are_looked_at(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "MAX_GROUPED_ROWS", 1)
    monkeypatch.setattr(profiles, "HASH", "hash(len({keys}))")
    assert profile(database, tmp_path, {"params": ["60M", "1B", "4M"]}).key() == ("params",)
    assert profile(database, tmp_path, {"params": ["60M", "1B", "60M"]}).key() == ()


def test_what_cannot_be_found_is_left_out_alone(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    found = profile(database, tmp_path, {**SWEEP, "data": ["c4"] * 4})
    asked = database.table

    def refuse(sql: str, *rest: Any, **more: Any) -> pa.Table:
        if 'DISTINCT "data"' in sql or "GROUP BY" in sql:
            raise ResourceLimitError("no memory")
        return asked(sql, *rest, **more)

    monkeypatch.setattr(database, "table", refuse)
    assert found.facts() == {"values": {"params": ["1B", "60M"]}, "keys": []}
    assert [record.getMessage().split(" cannot")[0] for record in caplog.records] == ["the values of data", "the key"]


def test_what_follows(database: Database, tmp_path: Path) -> None:
    columns = {
        "step": [0, 0, 1, 1],
        "tokens": [0, 0, 2, 2],
        "none": pa.array([None] * 4, pa.int64()),
        "some": pa.array([5, None, 7, 7], pa.int64()),
        "free": [1, 2, 3, 4],
        "fixed": [9, 9, 9, 9],
    }
    found = profile(database, tmp_path, columns)
    others = ["step", "tokens", "none", "some", "free", "fixed"]
    assert found.determined_by(["step"], others) == {"tokens", "none", "fixed"}
    assert found.determined_by(["step", "free"], others) == {"tokens", "none", "some", "fixed"}
    assert found.determined_by([], others) == {"none", "fixed"}


def test_asked_once(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = profile(database, tmp_path, SWEEP)
    first = (found.key(), found.values("params"), found.determined_by(["step"], ["tokens"]))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the data was asked again")

    monkeypatch.setattr(database, "table", refuse)
    assert (found.key(), found.values("params"), found.determined_by(["step"], ["tokens"])) == first


def test_quoted() -> None:
    assert quoted('say "hi"') == '"say ""hi"""'
