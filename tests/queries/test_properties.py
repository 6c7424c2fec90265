"""Whatever may be asked compiles, the same way each time, with no word of the user's in the SQL. Runs no query."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from queries.body import parse_body
from queries.compiler import (
    CompiledQuery,
    compile_count,
    compile_facet,
    compile_pivot_values,
    compile_plan,
    compile_ties,
)
from queries.plan import Plan
from queries.planner import plan_query
from queries.request import Aggregate, And, Condition, Not, Operator, Or, QueryRequest, Where
from queries.schema import Schema
from queries.url import parse_query
from queries.url_format import format_query
from tests.reference import Column, Table
from tests.strategies import DATASET, json_body, properties, requests, schema_of, tables, url_pairs

RELATION = "version of t"
MARKER = "zqx7jk"


def plan(request: QueryRequest, schema: Schema) -> Plan:
    return plan_query(request, schema)


def statements(plan: Plan, pivot_values: tuple[object, ...] = ()) -> Iterator[CompiledQuery]:
    """Every statement that an engine may run for a plan."""
    if plan.shape.pivot is not None:
        yield compile_pivot_values(plan, RELATION)
    yield compile_plan(plan, RELATION, pivot_values)
    yield compile_count(plan, RELATION)
    for facet in plan.facets:
        yield compile_facet(plan, facet, RELATION, 100)
    if plan.shape.pick is not None:
        yield compile_ties(plan, RELATION)


@properties(200)
@given(st.data())
def test_any_valid_request_compiles_and_always_to_the_same_text(data: st.DataObject) -> None:
    table = data.draw(tables(max_rows=8))
    request = data.draw(requests(table))
    schema = schema_of(table)
    once, again = plan(request, schema), plan(QueryRequest(**request.model_dump(by_alias=True)), schema)
    assert str(once) == str(again)  # as text, for a NaN equals nothing
    for first, second in zip(statements(once, (1, 2)), statements(again, (1, 2)), strict=True):
        assert first.sql == second.sql
        assert str(first.params) == str(second.params)
        assert first.sql.count("$1") >= bool(first.params)


@properties(200)
@given(st.data())
def test_three_spellings_are_one_query(data: st.DataObject) -> None:
    table = data.draw(tables(max_rows=8))
    request = data.draw(requests(table))
    schema = schema_of(table)
    said = plan(request, schema)
    body = parse_body(json.dumps(json_body(request)).encode())
    assert plan(body, schema).canonical == said.canonical
    assert plan(body, schema).query_id == said.query_id
    for pairs in (url_pairs(request), format_query(request, schema)):
        if pairs is not None:
            read, _ = parse_query(pairs, schema)
            assert plan(read, schema).canonical == said.canonical
            assert plan(read, schema).query_id == said.query_id


@properties(200)
@given(st.data())
def test_the_order_of_and_and_or_does_not_matter(data: st.DataObject) -> None:
    table = data.draw(tables(max_rows=8))
    request = data.draw(requests(table))
    assume(request.where is not None)
    turned = request.model_copy(update={"where": turn(request.where)})
    schema = schema_of(table)
    one, other = plan(turned, schema), plan(request, schema)
    assert one.query_id == other.query_id
    for first, second in zip(statements(one, (1, 2)), statements(other, (1, 2)), strict=True):
        assert first.sql == second.sql
        assert str(first.params) == str(second.params)


def turn(where: Where | None) -> Any:
    """The same condition with its parts the other way round, and each of them twice."""
    match where:
        case And(and_=parts):
            return And(and_=tuple(map(turn, parts[::-1])) + parts)
        case Or(or_=parts):
            return Or(or_=tuple(map(turn, parts[::-1])) + parts)
        case Not(not_=part):
            return Not(not_=turn(part))
    return where


# --- no user's text in SQL


def texts(column: Column) -> bool:
    return column.sql_type == "VARCHAR" and not column.is_size_label


@properties(200)
@given(st.data())
def test_no_user_text_appears_in_sql(data: st.DataObject) -> None:
    table = data.draw(tables(max_rows=8))
    marked = mark(data.draw(requests(table)), table)
    heads = (f"{MARKER} head", f'{MARKER}" head')
    compiled = plan(marked, schema_of(table))
    pivot = compiled.shape.pivot
    values = heads if pivot is not None and pivot.column.sql_type == "VARCHAR" else ()
    for statement in statements(compiled, values):
        assert MARKER not in statement.sql.casefold()


def mark(request: QueryRequest, table: Table) -> QueryRequest:
    """The request with the marker in every text that is the user's own, and numbers nobody else would write."""
    aggs = tuple(
        Aggregate(fn=one.fn, col=one.col, as_=f"{MARKER} {at}" if one.as_ else None)
        for at, one in enumerate(request.aggs)
    )
    renamed = {one.as_: f"{MARKER} {at}" for at, one in enumerate(request.aggs) if one.as_}
    sort = tuple(key.model_copy(update={"col": renamed.get(key.col, key.col)}) for key in request.sort)
    return request.model_copy(
        update={
            "aggs": aggs,
            "where": mark_where(request.where, table, {}),
            "having": mark_where(request.having, table, renamed),
            "sort": sort,
            "pivot_values": renamed.get(request.pivot_values or "", request.pivot_values),
        }
    )


def mark_where(where: Where | None, table: Table, renamed: dict[str, str]) -> Any:
    match where:
        case And(and_=parts):
            return And(and_=tuple(mark_where(part, table, renamed) for part in parts))
        case Or(or_=parts):
            return Or(or_=tuple(mark_where(part, table, renamed) for part in parts))
        case Not(not_=part):
            return Not(not_=mark_where(part, table, renamed))
        case Condition(col=col, value=value):
            column = next((one for one in table.columns if one.name == col), None)
            updated: dict[str, Any] = {"col": renamed.get(col, col), "ref": renamed.get(where.ref or "", where.ref)}
            if column is not None and texts(column) and where.op is not Operator.ISNULL and where.ref is None:
                one = f"{MARKER}'\""
                updated["value"] = tuple(one + str(item) for item in value) if where.op.takes_list else one
            return where.model_copy(update=updated)
    return where


SIMPLE = Table(
    (
        Column("data", "VARCHAR", "dimension"),
        Column("step", "BIGINT", "axis"),
        Column("value", "DOUBLE", "measure", direction="lower"),
    ),
    ({"data": MARKER, "step": 1, "value": 1.0},),
)


@pytest.mark.parametrize("op", list(Operator))
def test_values_never_appear_in_sql(op: Operator) -> None:
    value: object = MARKER
    if op.takes_list:
        value = (MARKER, MARKER + "2")
    if op is Operator.ISNULL:
        value = True
    where = Condition(col="data", op=op, value=value)
    request = QueryRequest(dataset=DATASET, where=where, facets=("data", "step"), strict=False)
    for statement in statements(plan(request, schema_of(SIMPLE))):
        assert MARKER not in statement.sql


def test_numbers_are_parameters_too() -> None:
    request = QueryRequest(
        dataset=DATASET,
        where=And(
            and_=(
                Condition(col="step", op=Operator.BETWEEN, value=(740_001, 740_002)),
                Condition(col="value", op=Operator.GT, value=740_003.5),
            )
        ),
        group_by=("data",),
        having=Condition(col="mean", op=Operator.LT, value=740_004.25),
        limit=740_005,
        offset=740_006,
    )
    compiled = compile_plan(plan(request, schema_of(SIMPLE)), RELATION)
    assert "7400" not in compiled.sql
    assert sorted(map(float, compiled.params)) == [740_001, 740_002, 740_003.5, 740_004.25, 740_005, 740_006]


@properties(200)
@given(st.sampled_from(["", "x"]), st.booleans(), st.integers(1, 80))
@example("", True, 65)
def test_requests_that_differ_in_values_share_one_text(prefix: str, negate: bool, count: int) -> None:
    def text(start: int) -> str:
        listed = Condition(col="data", op=Operator.IN, value=tuple(f"{prefix}{start + at}" for at in range(count)))
        where = Not(not_=listed) if negate else listed
        request = QueryRequest(dataset=DATASET, where=where, limit=start + 1, strict=False)
        return compile_plan(plan(request, schema_of(SIMPLE)), RELATION).sql

    assert text(0) == text(1000)
