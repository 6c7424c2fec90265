"""SQL that was chosen for speed gives what the plain form gives, of texts and of enumerations alike.

The only tests of this folder that run queries: the plain forms are not to be had from the engine.
"""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries import compiler, pivots
from queries.compiler import CompiledQuery, compile_pivot_values, compile_plan
from queries.plan import Plan
from queries.planner import FAR_DOWN, plan_query
from queries.request import Aggregate, QueryRequest
from queries.schema import Column, Role, Schema
from tests.queries.support import Values, by, is_
from tests.strategies import properties

RELATIONS = ("texts", "enums")
NOTHING = is_("value", op="isnull")

Row = tuple[str | None, int | None, str | None, float | None]


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        yield connection


def schema(*key: str) -> Schema:
    columns = (
        Column("run", "VARCHAR", Role.DIMENSION),
        Column("step", "BIGINT", Role.AXIS),
        Column("metric", "VARCHAR", Role.METRIC),
        Column("value", "DOUBLE", Role.MEASURE),
    )
    return Schema("t", columns, metric_column="metric", value_column="value", index=Values({}, key))


def fill(database: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> None:
    """The rows as a relation with texts and as one with enumerations."""
    for name in RELATIONS:
        database.execute(f"DROP VIEW IF EXISTS {name}")
    unnested = ", ".join(
        f"unnest(${place}::{kind}[]) AS {name}"
        for place, (name, kind) in enumerate(
            (("run", "VARCHAR"), ("step", "BIGINT"), ("metric", "VARCHAR"), ("value", "DOUBLE")), start=1
        )
    )
    cells = [[row[place] for row in rows] for place in range(4)]
    database.execute(f"CREATE OR REPLACE TABLE rows AS SELECT {unnested}", cells)
    database.execute("DROP TABLE IF EXISTS enum_rows")
    for place, column in ((0, "run"), (2, "metric")):
        texts = sorted({str(row[place]) for row in rows if row[place] is not None}) or ["none"]
        listed = ", ".join("'" + text.replace("'", "''") + "'" for text in texts)
        database.execute(f"DROP TYPE IF EXISTS {column}s")
        database.execute(f"CREATE TYPE {column}s AS ENUM ({listed})")
    database.execute(
        "CREATE TABLE enum_rows AS SELECT run::runs AS run, step, metric::metrics AS metric, value FROM rows"
    )
    database.execute("CREATE VIEW texts AS SELECT *, rowid AS _ordinal FROM rows")
    database.execute("CREATE VIEW enums AS SELECT *, rowid AS _ordinal FROM enum_rows")


def answer(database: duckdb.DuckDBPyConnection, query: CompiledQuery) -> list[tuple[Any, ...]]:
    """The rows, with the bits of numbers in place of them: a NaN equals nothing."""
    found = database.execute(query.sql, list(query.params)).fetchall()
    return [tuple(struct.pack("<d", cell) if isinstance(cell, float) else cell for cell in row) for row in found]


def described(database: duckdb.DuckDBPyConnection, query: CompiledQuery) -> list[tuple[Any, ...]]:
    """Names and types of the columns."""
    return database.execute(f"DESCRIBE {query.sql}", list(query.params)).fetchall()


numbers = st.one_of(st.none(), st.floats(width=32), st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0]))
texts = st.sampled_from([None, "", "a", "b", "it's", "ü", "B"])


@st.composite
def long_rows(draw: st.DrawFn, *, unique: bool) -> list[Row]:
    """Rows in any order, of some runs all metrics and of some a few; ``unique`` gives each cell at most one."""
    metrics = draw(st.lists(st.one_of(texts, st.text("abü", max_size=4)), min_size=1, max_size=9, unique=True))
    keys = draw(st.lists(st.tuples(texts, st.sampled_from([None, 0, 1, 2])), min_size=1, max_size=6, unique=True))
    rows: list[Row] = []
    for run, step in keys:
        is_whole = draw(st.booleans())
        kept = metrics if is_whole else draw(st.lists(st.sampled_from(metrics), unique=True))
        rows += [(run, step, metric, draw(numbers)) for metric in kept]
    if not unique and rows:
        rows += draw(st.lists(st.sampled_from(rows), max_size=5))
    order = draw(st.sampled_from(["as it is", "by metric", "any"]))
    if order == "by metric":
        rows.sort(key=lambda row: (row[2] is None, row[2] or ""))
    if order == "any":
        random.Random(draw(st.integers(0, 99))).shuffle(rows)
    return rows


# --- pivots


def pivoted(plan: Plan, relation: str, values: Sequence[object], *, listed: bool) -> CompiledQuery:
    """The pivot by lists, or by DuckDB's own PIVOT."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pivots, "FEWEST_LISTED", 1 if listed else 10**9)
        patch.setattr(compiler, "_TEXTS", type(compiler._TEXTS)(1))  # which keeps nothing
        compiled = compile_plan(plan, relation, values)
    assert ("PIVOT(" in compiled.sql) is not listed
    return compiled


@pytest.mark.parametrize("unique", [True, False])
@properties(50)
@given(data=st.data())
def test_a_pivot_by_lists_is_the_pivot(database: duckdb.DuckDBPyConnection, data: st.DataObject, unique: bool) -> None:
    rows = data.draw(long_rows(unique=unique))
    fill(database, rows)
    request = QueryRequest(
        dataset="t",
        pivot="metric",
        select=data.draw(st.sampled_from([("run", "step"), ("step",), ("run",)])),
        aggs=data.draw(st.sampled_from([(), (Aggregate(fn="max"),), (Aggregate(fn="count"),)])),
        limit=data.draw(st.sampled_from([None, 3])),
    )
    plan = plan_query(request, schema(*(("run", "step", "metric") if unique else ())))
    values = [row[0] for row in answer(database, compile_pivot_values(plan, "texts"))]
    if values and data.draw(st.booleans()):
        named = compiler.pivot_names(plan.shape.pivot, values)  # type: ignore[arg-type]
        sort = by(data.draw(st.sampled_from(["", "-"])) + data.draw(st.sampled_from(named)))
        plan = plan_query(request.model_copy(update={"sort": sort}), schema(*(("run", "step", "metric"))))
    if not values:
        return
    for relation in RELATIONS:
        expected = pivoted(plan, relation, values, listed=False)
        compiled = pivoted(plan, relation, values, listed=True)
        assert answer(database, compiled) == answer(database, expected)
        assert compiled.columns == expected.columns
        described = [
            database.execute(f"DESCRIBE {one.sql}", list(one.params)).fetchall() for one in (compiled, expected)
        ]
        assert described[0] == described[1]  # names and types


def test_many_columns_are_made_by_lists(database: duckdb.DuckDBPyConnection) -> None:
    metrics = [f"m{i:03}" for i in range(300)]
    rows: list[Row] = [(run, 1, metric, float(len(run) * i)) for run in ("a", "bb") for i, metric in enumerate(metrics)]
    fill(database, rows[:-1])
    plan = plan_query(QueryRequest(dataset="t", pivot="metric"), schema("run", "step", "metric"))
    for width, is_listed in ((20, False), (21, True), (256, True), (257, False)):
        compiled = compile_plan(plan, "texts", metrics[:width])
        assert ("PIVOT(" in compiled.sql) is not is_listed
        found = database.execute(compiled.sql, list(compiled.params)).fetchall()
        assert found == [("a", 1, *map(float, range(width))), ("bb", 1, *(2.0 * i for i in range(width)))]


# --- the rest


@properties(60)
@given(data=st.data())
def test_a_page_found_by_counts_is_the_page(database: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    rows = data.draw(long_rows(unique=False))
    fill(database, rows)
    known = replace(schema("run", "step", "metric"), index=Values({"run": frozenset({"a"})}, ("run", "step", "metric")))
    first = data.draw(st.sampled_from(["step", "-step", "run", "-run"]))
    request = QueryRequest(
        dataset="t",
        sort=by(first, data.draw(st.sampled_from(["-value", "metric"]))),
        where=data.draw(st.sampled_from([None, is_("step", 1, "lte"), NOTHING])),
        offset=FAR_DOWN,
        limit=data.draw(st.integers(0, 8)),
    )
    plan = plan_query(request, known)
    assert plan.shape.counted and plan.shape.offset is not None
    offset = data.draw(st.integers(0, 12))
    near = replace(plan, values=(*plan.values[:-1], offset))
    assert plan.values[plan.shape.offset] == FAR_DOWN and plan.shape.offset == len(plan.values) - 1
    for relation in RELATIONS:
        plain = replace(near, shape=replace(plan.shape, counted=False))
        assert answer(database, compile_plan(near, relation)) == answer(database, compile_plan(plain, relation))


@properties(60)
@given(data=st.data())
def test_the_last_rows_are_the_same_where_none_can_tie(
    database: duckdb.DuckDBPyConnection, data: st.DataObject
) -> None:
    fill(database, data.draw(long_rows(unique=True)))
    request = QueryRequest(dataset="t", last_by=("run", "metric"), where=data.draw(st.sampled_from([None, NOTHING])))
    plan = plan_query(request, schema("run", "step", "metric"))
    assert plan.shape.pick is not None and not plan.shape.pick.may_tie
    tying = replace(plan, shape=replace(plan.shape, pick=replace(plan.shape.pick, may_tie=True)))
    for relation in RELATIONS:
        assert answer(database, compile_plan(plan, relation)) == answer(database, compile_plan(tying, relation))
