"""What is kept from one request for the next: it changes no plan, serves all of one shape, and stays bounded."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries import conditions, outline, planner
from queries.bounded import BoundedCache
from queries.compiler import compile_plan
from queries.errors import QueryError, UnknownValueError
from queries.plan import Plan
from queries.planner import FAR_DOWN, Position, plan_query
from queries.request import BestBy, QueryRequest
from queries.schema import Column, Role, Schema
from queries.url import parse_query
from tests.queries.support import LONG, Values, aggs, by, every, is_, long, plan, wide
from tests.strategies import properties, requests, schema_of, tables


@contextmanager
def nothing_kept() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "OUTLINES", BoundedCache(1))
        patch.setattr(conditions, "NODES", BoundedCache(1))
        patch.setattr(outline, "_SHAPES", BoundedCache(1))
        yield


def outcome(request: QueryRequest, schema: Schema) -> str:
    """A plan as text, for a NaN equals nothing; or what is wrong with the request."""
    try:
        return str(plan_query(request, schema))
    except QueryError as error:
        return f"{error.code} {error.detail} {error.param} {error.value} {error.did_you_mean}"


@properties(150)
@given(st.data())
def test_a_plan_does_not_depend_on_what_was_asked_before(data: st.DataObject) -> None:
    table = data.draw(tables(max_rows=8))
    schema = schema_of(table)
    asked = [data.draw(requests(table)) for _ in range(3)]
    # Each with the conditions of the others too: one shape, and other values.
    mixed = [one.model_copy(update={"where": other.where}) for one, other in product(asked, asked)]
    with nothing_kept():
        expected = [outcome(one, schema) for one in mixed]
    assert [outcome(one, schema) for one in [*mixed, *mixed]] == [*expected, *expected]


URLS = (
    "data=C4&params=60M&metric=acc",
    "data=Dolma1.7&params=1B,150M&metric=acc",
    "metric=odd&data=C4&params=0.06B",
    "metric=pile-valppl&best_by=params&data=C4",
    "metric=acc&best_by=params&data=C4",
    "best_by=params,metric",
    "group_by=params&agg=mean,std,p95&metric=acc",
    "group_by=params&agg=mean,std,p95&metric=c4-valppl",
    "group_by=params&agg=mean:acc,max:step&sort=-mean_acc",
    "last_by=params,data,seed&metric=acc",
    "last_by=params,data,seed&metric=acc,odd",
    "pivot=metric&select=params,step&data=C4&sort=-acc",
    "facets=params,data&data=C4&params=60M&limit=5",
    "facets=params,data&data=C4&params=1B&limit=5&offset=7",
    "data=Dolma1.6 &strict=0",
    "data=Dolma1.6 ",
    "step__gte=5e3&step__lt=1e30&value__gt=nan&strict=0",
    "step__gte=5e3&step__lt=7&sort=step&limit=10&offset=30000",
    "group_by=data&having.mean__gt=0.5&having.data=C4",
)


def read(url: str) -> QueryRequest:
    pairs = [(key, text) for key, _, text in (part.partition("=") for part in url.split("&"))]
    return parse_query(pairs, LONG)[0]


def test_kept_or_not_urls_mean_the_same() -> None:
    with nothing_kept():
        expected = [outcome(read(url), LONG) for url in URLS]
    assert len(set(expected)) == len(URLS)
    for _ in range(2):
        assert [outcome(read(url), LONG) for url in URLS] == expected


def test_threads_find_the_same_plans() -> None:
    schema = replace(LONG)  # of which nothing is known yet
    with nothing_kept():
        expected = [outcome(read(url), LONG) for url in URLS] * 20
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda url: outcome(read(url), schema), URLS * 20)) == expected


def test_requests_that_differ_in_values_share_their_shape() -> None:
    first, other = (
        plan(long(where=every(is_("data", data), is_("metric", metric)), sort=by("step"), limit=limit))
        for data, metric, limit in (("C4", "acc", 1), ("Dolma1.7", "odd", 2))
    )
    assert first.shape is other.shape
    assert first.canonical != other.canonical and first.values != other.values
    # Units differ, as the metrics' do, and the SQL does not.
    assert first.columns != other.columns


@pytest.mark.parametrize(
    "one, other",
    [
        ({"where": is_("step", 1, "gt")}, {"where": is_("step", 1, "gte")}),
        ({"where": is_("step", (1, 2), "in")}, {"where": is_("step", (1, 2, 3), "in")}),
        ({"where": is_("params", "60M")}, {"where": is_("params", "1B")}),  # 60M is written in two ways
        ({"limit": 1}, {"offset": 1}),
        (
            {"limit": 1, "sort": by("step"), "offset": FAR_DOWN - 1},
            {"limit": 1, "sort": by("step"), "offset": FAR_DOWN},
        ),
        ({"distinct": True}, {"distinct": False}),
        ({"sort": by("step")}, {"sort": by("-step")}),
        (
            {"best_by": BestBy(by=("data",), col="step", desc=True)},
            {"best_by": BestBy(by=("data",), col="step", desc=False)},
        ),
        ({"last_by": ("params", "data", "seed", "metric")}, {"last_by": ("params", "data", "seed")}),
    ],
)
def test_what_the_sql_depends_on_tells_shapes_apart(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert plan(long(**one)).shape != plan(long(**other)).shape
    assert compile_plan(plan(long(**one)), "r").sql != compile_plan(plan(long(**other)), "r").sql


def test_schemas_do_not_share_plans() -> None:
    narrow = replace(LONG, columns=LONG.columns[:7])
    request = long(where=is_("data", "C4"))
    assert len(plan_query(request, LONG).shape.select) == 8
    assert len(plan_query(request, narrow).shape.select) == 7


def test_a_value_that_was_let_pass_once_is_not_known_for_that() -> None:
    for _ in range(2):
        assert len(plan(long(where=is_("data", "C5"), strict=False)).warnings) == 1
        with pytest.raises(UnknownValueError):
            plan(long(where=is_("data", "C5")))


def test_a_shape_is_found_again_by_another_process() -> None:
    shape = plan(long(where=is_("data", "C4"), sort=by("step"))).shape
    hash(shape)
    copied = pickle.loads(pickle.dumps(shape))
    assert "_hash" not in vars(copied)
    assert copied == shape and hash(copied) == hash(shape)


# --- pages far down


@pytest.mark.parametrize(
    "sort, counted",
    [
        ("step", True),
        ("-step", True),
        ("params", True),
        ("data", True),
        ("metric", True),
        ("seed", True),
        ("value", False),  # of numbers with a fraction there are too many
        ("note", False),  # nobody knows its values
        ("params_numeric", False),
    ],
)
def test_by_which_columns_a_page_is_found_by_counts(sort: str, counted: bool) -> None:
    assert plan(long(sort=by(sort), offset=FAR_DOWN, limit=10)).shape.counted is counted
    assert not plan(long(sort=by(sort), offset=FAR_DOWN - 1, limit=10)).shape.counted
    assert not plan(long(sort=by(sort), offset=FAR_DOWN)).shape.counted
    assert not plan(long(offset=FAR_DOWN, limit=10)).shape.counted
    column = sort.removeprefix("-")
    for other in ({"distinct": True, "select": (column,)}, {"group_by": (column,)}, {"last_by": (column,)}):
        assert not plan(long(sort=by(sort), offset=FAR_DOWN, limit=10, **other)).shape.counted


def test_rows_that_a_step_tells_apart_are_not_counted_one_by_one() -> None:
    columns = (Column("step", "BIGINT", Role.AXIS), Column("loss", "DOUBLE", Role.MEASURE))
    request = QueryRequest(dataset="t", sort=by("step"), offset=FAR_DOWN, limit=10)
    for key, counted in ((("step",), False), ((), False), (("step", "loss"), True)):
        assert plan_query(request, Schema("t", columns, index=Values({}, key))).shape.counted is counted
    assert not plan_query(request, Schema("t", columns)).shape.counted
    assert not plan(wide(sort=by("step"), offset=FAR_DOWN, limit=10)).shape.counted


def test_a_cursor_that_counts_rows_goes_far_down_too() -> None:
    request = long(sort=by("step"), limit=10)
    assert plan(request, position=Position(FAR_DOWN)).shape.counted
    assert not plan(request, position=Position(5)).shape.counted
    assert not plan(request, position=Position(FAR_DOWN, 7)).shape.counted


# --- bounds


def test_the_oldest_give_way() -> None:
    cache: BoundedCache[int] = BoundedCache(80)
    for value in range(20):
        cache.put(value, value, 10)
    assert cache.weight == 80
    assert [value for value in range(20) if cache.get(value) is not None] == list(range(12, 20))
    cache.put(12, 99, 10)
    assert cache.get(12) == 12  # what is there stays
    cache.put("giant", 1, 11)
    assert cache.get("giant") is None and cache.weight == 80


def test_what_is_kept_does_not_grow_with_what_is_asked() -> None:
    def ask(count: int) -> Plan:
        names = ("data", "params", "seed", "step", "tokens", "metric", "value", "note")
        order = [names[(count // 8**place) % 8] for place in range(5)]
        return plan(long(select=tuple(dict.fromkeys(order)), sort=by(*dict.fromkeys(order)), aggs=aggs()))

    for count in range(0, 8**5, 7):
        ask(count)
    assert outline.OUTLINES.weight <= 8 * 2**20
    assert outline._SHAPES.weight <= 4 * 2**20
