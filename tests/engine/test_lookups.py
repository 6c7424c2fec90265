"""Lookups against DuckDB: the same bits for whatever they answer, and columns that come and go by use and budget."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Engine, QueryRequest
from engine.lookups import MAX_ROWS, Lookups
from engine.store.rewrite import Limits
from queries.errors import QueryError
from queries.request import And, Condition, Operator, Where
from tests.engine.published import Shelf
from tests.engine.support import sweep
from tests.engine.test_tables import said
from tests.reference import Table
from tests.strategies import conditions, maybe, picked, properties, tables

NUMBER = 10_000


def at_once(engine: Engine) -> Lookups:
    """Let an engine write the columns of a version before it answers the first question of it."""
    folder = engine.config.scratch_dir
    made = Lookups(engine.database, folder, engine.config.lookup_bytes, uses_before=1, in_background=False)
    engine.lookups = engine._versions._lookups = made
    return made


def looked_up(engine: Engine, request: QueryRequest) -> bool:
    prepared = engine.prepare(request)
    return engine._versions.look_up(prepared.version, prepared.plan) is not None


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"), many_files=True)
    at_once(shelf.engine)
    yield shelf
    shelf.engine.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine.open(tmp_path, definitions=None, results_cache_bytes=0, tables_bytes=0) as engine:
        yield engine


@st.composite
def plain_wheres(draw: st.DrawFn, table: Table) -> Where:
    """Filters that must all hold, an equality with a text of the table among them where it has one."""
    texts = [column for column in table.columns if column.sql_type == "VARCHAR"]
    parts: list[Where] = [draw(conditions(table.columns, table.rows)) for _ in range(draw(st.integers(0, 2)))]
    for column in draw(st.lists(st.sampled_from(texts), min_size=1, max_size=3)) if texts else []:
        seen = sorted({row[column.name] for row in table.rows if row[column.name] is not None}) or ["none"]
        chosen = draw(st.lists(st.sampled_from(seen), min_size=1, max_size=3))
        single = len(chosen) == 1
        op = Operator.EQ if single else Operator.IN
        parts.insert(0, Condition(col=column.name, op=op, value=chosen[0] if single else tuple(chosen)))
    return And(and_=tuple(parts)) if parts else draw(conditions(table.columns, table.rows))


ANSWERED: list[bool] = []


@properties(80)
@given(st.data())
def test_a_lookup_gives_the_same_bits_as_a_query(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    engine = shelf.engine
    with Engine.open(shelf.folder / "store", definitions=shelf.definitions, tables_bytes=0, lookup_bytes=0) as other:
        for _ in range(6):
            select = data.draw(maybe(picked(table.every_column, max_size=4)))
            where = data.draw(plain_wheres(table))
            request = QueryRequest(dataset=name, where=where, select=select, strict=False)
            try:
                prepared = engine.prepare(request)
            except QueryError:
                continue
            ANSWERED.append(looked_up(engine, request))
            assert said(engine.run(prepared)) == said(other.run(other.prepare(request)))


def test_lookups_had_a_part_in_that() -> None:
    """Runs after the property: were nothing looked up, it would hold for nothing."""
    assert not ANSWERED or sum(ANSWERED) > 20


def make(count: int = 60_000) -> pa.Table:
    rng = np.random.default_rng(3)
    step = np.arange(count) % 50
    return pa.table(
        {
            "metric": [f"m{number // 5_000:02}" for number in range(count)],
            "data": [("a", "b", None, "ü'")[(number // 50) % 4] for number in range(count)],
            "step": step,
            "half": pa.array([None if number % 7 == 0 else number % 100 for number in range(count)], pa.int16()),
            "value": pa.array(
                [None if number % 11 == 0 else float(x) for number, x in enumerate(rng.normal(size=count))]
            ),
            "day": pa.array((step % 30).astype("int32")).cast(pa.date32()),
        }
    )


QUESTIONS = [
    {"metric": "m03"},
    {"metric": "m03", "data": "a"},
    {"metric": ["m00", "m01"], "data": ["ü'", "b"]},
    {"metric": "m03", "data": "a", "step": 49},
    {"metric": "m03", "step__gt": 47, "half__between": [10, 60]},
    {"metric": "m03", "half__lte": 3},
    {"metric": "m03", "half": [1, 2, 99], "step__gte": 1},
    {"metric": "m05", "step__lt": -(10**12)},
    {"data": "b", "metric": "m07", "step": 2**62},
]


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
@pytest.mark.parametrize("files", [1, 9], ids=["one file", "nine files"])
def test_rows_nulls_and_integers(engine: Engine, question: dict[str, object], files: int) -> None:
    if files > 1:
        engine._publisher._limits = Limits(file_bytes=40_000, max_bytes=40_000, group_rows=4_000)
    engine.publish("made", make())
    query = engine.dataset("made").where(**question)
    wanted = query.run()
    at_once(engine)
    assert looked_up(engine, query.request)
    assert said(query.run()) == said(wanted)


def test_what_is_no_lookup_is_left_to_duckdb(engine: Engine) -> None:
    engine.publish("made", make())
    made = at_once(engine)
    dataset = engine.dataset("made")
    assert looked_up(engine, dataset.where(metric="m03", data="a").request)
    others = {
        "no key": dataset.where(step=3),
        "a float": dataset.where(metric="m03", value__gt=0.5),
        "or": dataset.where(metric__ne="m03"),
        "sorted": dataset.where(metric="m03").sort("value"),
        "grouped": dataset.where(metric="m03").group_by("data").agg("mean:value"),
        "cut": dataset.where(metric="m03").limit(3),
        "distinct": dataset.where(metric="m03").select("data").distinct(),
        "null": dataset.where(metric="m03", data=None),
        "many rows": dataset.where(metric=["m03", "m04"]),
    }
    assert {name: looked_up(engine, query.request) for name, query in others.items()} == dict.fromkeys(others, False)
    assert make().num_rows // 12 * 2 > MAX_ROWS and made.size_bytes > 0


def test_texts_that_are_not_there_give_no_row(engine: Engine) -> None:
    engine.publish("made", make())
    where = Condition(col="metric", op=Operator.IN, value=("no", "such"))
    request = QueryRequest(dataset="made", where=where, strict=False)
    wanted = engine.run(engine.prepare(request))
    at_once(engine)
    assert looked_up(engine, request)
    assert said(engine.run(engine.prepare(request))) == said(wanted) and wanted.table.num_rows == 0


def test_moved_rows_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    definitions = tmp_path / "definitions" / "moved"
    definitions.mkdir(parents=True)
    (definitions / "dataset.toml").write_text('sort = ["data", "metric"]\n')
    with Engine.open(
        tmp_path / "store", definitions=tmp_path / "definitions", results_cache_bytes=0, tables_bytes=0
    ) as engine:
        engine.publish("moved", make())
        assert engine.version("moved").version.place is not None
        query = engine.dataset("moved").where(metric=["m03", "m09"], data="a")
        wanted = query.run()
        at_once(engine)
        assert looked_up(engine, query.request)
        assert said(query.run()) == said(wanted)
        assert wanted.table["metric"].to_pylist() == sorted(wanted.table["metric"].to_pylist())


def test_rows_in_no_order_have_no_runs(engine: Engine) -> None:
    order = np.random.default_rng(1).permutation(60_000)
    engine.publish("mixed", make().take(order))
    made = at_once(engine)
    assert not looked_up(engine, engine.dataset("mixed").where(metric="m03", data="a").request)
    assert made.size_bytes == 0


def test_columns_come_with_use_and_go_with_the_budget(engine: Engine) -> None:
    for name in ("one", "two"):
        engine.publish(name, sweep(float(len(name))))
    queries = {name: engine.dataset(name).where(metric="accuracy") for name in ("one", "two")}
    for _ in range(2):
        queries["one"].run()
    assert engine.lookups.wait() and engine.lookups.size_bytes == 0
    queries["one"].run()
    assert engine.lookups.wait() and engine.lookups.size_bytes > 0
    made = at_once(engine)
    queries["one"].run()
    made._most_bytes = int(made.size_bytes * 1.5)
    queries["two"].run()
    assert [key.dataset for key in made._known] == ["two"]
    made._most_bytes = 0
    assert not looked_up(engine, queries["two"].request)


def test_a_disk_that_fails_costs_no_answer(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine.publish("sweep", sweep())
    query = engine.dataset("sweep").where(metric="accuracy")
    wanted = query.run()
    at_once(engine)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(os, "pwrite", full)
        assert said(query.run()) == said(wanted)
    assert "No space left" in caplog.text
    made = at_once(engine)
    assert said(query.run()) == said(wanted) and made.size_bytes > 0
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(os, "pread", full)
        assert said(query.run()) == said(wanted)
    assert made.size_bytes == 0
