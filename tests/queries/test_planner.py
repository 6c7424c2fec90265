"""Requests → plans: what counts as the same query, what is refused and how, limits, and warnings."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from queries.compiler import compile_plan
from queries.errors import (
    GrammarError,
    InvalidValueError,
    LimitExceededError,
    QueryError,
    TypeMismatchError,
    UnknownColumnError,
    UnknownValueError,
)
from queries.planner import Limits, Position, plan_query
from queries.request import Aggregate, And, BestBy, QueryRequest
from tests.queries.support import WIDE, aggs, by, every, is_, long, not_, plan, some, wide

A, B, C = is_("data", "C4"), is_("step", "5e3", "gte"), is_("value", 1, "lt")

SAME: dict[str, tuple[QueryRequest, ...]] = {
    "order of filters": (long(where=every(A, B, C)), long(where=every(C, A, B))),
    "nested and": (long(where=every(A, B, C)), long(where=every(every(A), every(B, every(C))))),
    "repeated filter": (long(where=every(A, B)), long(where=every(A, B, A))),
    "one filter": (long(where=A), long(where=every(A)), long(where=some(A)), long(where=not_(not_(A)))),
    "order of or": (long(where=some(A, B)), long(where=some(B, A, B))),
    "alias": (long(where=A), long(where=is_("data_source", "C4")), long(where=is_("recipe", "C4"))),
    "in of one": (long(where=A), long(where=is_("data", ("C4",), "in")), long(where=is_("data", ("C4", "C4"), "in"))),
    "notin of one": (long(where=is_("data", "C4", "ne")), long(where=is_("data", ("C4",), "notin"))),
    "order of a list": (long(where=is_("step", (3, 1, 2), "in")), long(where=is_("step", ("1", "2", 3.0, "3"), "in"))),
    "spelling of a number": tuple(long(where=is_("step", value)) for value in ("5000", "5e3", 5000, 5000.0)),
    "spelling of a size": tuple(
        long(where=is_("params", value)) for value in ("60M", "60m", "0.06B", " 60 M ", 60_000_000, "60000000", "6e7")
    ),
    "isnull": (long(where=is_("note", op="isnull")), long(where=is_("note", "true", "isnull"))),
    "float32": (wide(where=is_("loss", 0.1)), wide(where=is_("loss", 0.10000000149011612))),
    "default aggregates": (long(group_by=("data",)), long(group_by=("data",), aggs=aggs("mean", "std", "count"))),
    "alias of a key": (long(group_by=("data",)), long(group_by=("recipe",)), long(group_by=("data", "recipe"))),
    "order of groups": (long(group_by=("params",)), long(group_by=("params",), sort=by("params"))),
    "alias in sort": (long(sort=by("-data")), long(sort=by("-recipe"))),
    "alias in select": (long(select=("data",)), long(select=("recipe", "data"))),
    "offset of nothing": (long(limit=5), long(limit=5, offset=0)),
    "cells of a pivot": (long(pivot="metric"), long(pivot="metric", pivot_values="value")),
    "aggregate of cells": (
        long(pivot="metric", aggs=aggs("max")),
        long(pivot="metric", aggs=aggs("max:value")),
        long(pivot="metric", pivot_values="value", aggs=aggs("max:value")),
    ),
    "groups never repeat": (long(group_by=("data",)), long(group_by=("data",), distinct=True)),
    "version": (long(), long(version="v3"), long(version=4)),
}


@pytest.mark.parametrize("requests", SAME.values(), ids=SAME)
def test_one_question_has_one_query_id(requests: tuple[QueryRequest, ...]) -> None:
    plans = [plan(request) for request in requests]
    assert len({one.canonical for one in plans}) == 1
    assert len({one.query_id for one in plans}) == 1
    compiled = [compile_plan(one, "version", ("acc",) if one.shape.pivot else ()) for one in plans]
    assert len({(one.sql, repr(one.params)) for one in compiled}) == 1
    assert len({one.columns for one in compiled}) == 1


DIFFERENT: dict[str, QueryRequest] = {
    "all": long(),
    "other dataset": wide(),
    "filter": long(where=A),
    "value": long(where=is_("data", "Dolma1.7")),
    "operator": long(where=is_("data", "C4", "ne")),
    "text and number": long(where=is_("note", "5")),
    "number": long(where=is_("tokens", 5)),
    "or": long(where=some(A, B)),
    "and": long(where=every(A, B)),
    "not": long(where=not_(A)),
    "two columns": long(where=is_("step", ref="tokens")),
    "select": long(select=("data",)),
    "select in another order": long(select=("value", "data")),
    "select in this order": long(select=("data", "value")),
    "distinct": long(select=("data",), distinct=True),
    "group": long(group_by=("data",)),
    "groups in another order": long(group_by=("params", "data")),
    "groups in this order": long(group_by=("data", "params")),
    "aggregate": long(group_by=("data",), aggs=aggs("mean")),
    "aggregate of another column": long(group_by=("data",), aggs=aggs("mean:step")),
    "aggregate of a metric": long(group_by=("data",), aggs=aggs("mean:acc")),
    "aggregate under another name": long(group_by=("data",), aggs=aggs("mean=m")),
    "order of aggregates": long(group_by=("data",), aggs=aggs("std", "mean", "count")),
    "having": long(group_by=("data",), having=is_("mean", 1, "gt")),
    "sort": long(sort=by("value")),
    "sort down": long(sort=by("-value")),
    "limit": long(limit=5),
    "offset": long(limit=5, offset=5),
    "pivot": long(pivot="metric"),
    "pivot of another column": long(pivot="metric", pivot_values="step"),
    "pivot with an aggregate": long(pivot="metric", aggs=aggs("max")),
    "pivot of groups": long(pivot="metric", group_by=("metric", "data")),
    "last_by": long(last_by=("data",)),
    "best_by": long(best_by=BestBy(by=("data",), col="step", desc=True)),
    "best_by the other way": long(best_by=BestBy(by=("data",), col="step", desc=False)),
    "facets": long(facets=("data",)),
    "explain": long(explain=True),
    "no total": long(total=False),
    "not strict": long(strict=False),
}


def test_another_question_has_another_query_id() -> None:
    ids = {case: plan(request, limits=Limits()).query_id for case, request in DIFFERENT.items()}
    assert len(set(ids.values())) == len(ids), "two of these count as the same query"


def test_the_query_id_is_the_hash_of_the_canonical_json() -> None:
    planned = plan(long(where=every(B, A), group_by=("params",), limit=3))
    assert planned.query_id == hashlib.sha256(planned.canonical.encode()).hexdigest()
    assert json.loads(planned.canonical) == {
        "dataset": "sweep",
        "where": {
            "and": [{"col": "data", "op": "eq", "value": "C4"}, {"col": "step", "op": "gte", "value": 5000}],
        },
        "group_by": ["params"],
        "aggs": [
            ["mean", "value", None, "mean", ""],
            ["std", "value", None, "std", ""],
            ["count", "value", None, "count", ""],
        ],
        "sort": json.loads(planned.canonical)["sort"],
        "limit": 3,
    }


def test_a_page_does_not_change_to_which_query_a_cursor_belongs() -> None:
    first = plan(long(where=A, limit=5))
    later = plan(long(where=A, limit=7, cursor="…"), position=Position(5, 40))
    assert first.base_id == later.base_id != plan(long(limit=5)).base_id
    assert first.query_id != later.query_id
    assert (later.offset, later.after, later.limit) == (5, 40, 7)


REFUSED: dict[str, tuple[QueryRequest, type[QueryError], dict[str, Any]]] = {
    # case: request, class, and what else the error says
    "column": (
        long(where=is_("dat", "C4")),
        UnknownColumnError,
        {"param": "where", "value": "dat", "did_you_mean": ("data", "data_source")},
    ),
    "deep in a tree": (
        long(where=every(A, some(B, not_(is_("stp", 1))))),
        UnknownColumnError,
        {"param": "where.and[1].or[1].not", "did_you_mean": ("step",)},
    ),
    "second column": (
        long(where=is_("step", ref="token")),
        UnknownColumnError,
        {"did_you_mean": ("tokens",)},
    ),
    "select": (long(select=("vale",)), UnknownColumnError, {"param": "select", "did_you_mean": ("value",)}),
    "select nothing": (long(select=()), GrammarError, {"param": "select"}),
    "sort": (long(sort=by("valeu")), UnknownColumnError, {"param": "sort", "did_you_mean": ("value",)}),
    "sort nested": (wide(sort=by("flags")), TypeMismatchError, {"param": "sort", "value": "flags"}),
    "group": (long(group_by=("parms",)), UnknownColumnError, {"param": "group_by", "did_you_mean": ("params",)}),
    "group nested": (wide(group_by=("flags",), aggs=aggs("count")), TypeMismatchError, {"param": "group_by"}),
    "sort of groups": (
        long(group_by=("data",), sort=by("value")),
        UnknownColumnError,
        {"param": "sort", "value": "value"},
    ),
    "select of groups": (
        long(group_by=("data",), select=("data", "men")),
        UnknownColumnError,
        {"param": "select", "did_you_mean": ("mean",)},
    ),
    "facets": (long(facets=("metrics",)), UnknownColumnError, {"param": "facets", "did_you_mean": ("metric",)}),
    "facets nested": (wide(facets=("raw",)), TypeMismatchError, {"param": "facets"}),
    "pivot": (long(pivot="metrik"), UnknownColumnError, {"param": "pivot", "did_you_mean": ("metric",)}),
    "pivot nested": (wide(pivot="flags", pivot_values="acc"), TypeMismatchError, {"param": "pivot"}),
    "pivot by nested": (
        wide(pivot="name", pivot_values="acc", select=("flags",)),
        TypeMismatchError,
        {"param": "select"},
    ),
    "pivot_values": (long(pivot="metric", pivot_values="val"), UnknownColumnError, {"param": "pivot_values"}),
    "pivot_values alone": (long(pivot_values="value"), GrammarError, {"param": "pivot_values"}),
    "pivot of itself": (long(pivot="value"), GrammarError, {"param": "pivot_values"}),
    "pivot of which measure": (
        wide(pivot="name"),
        GrammarError,
        {"param": "pivot", "did_you_mean": ("loss", "acc", "time")},
    ),
    "pivot with two aggregates": (long(pivot="metric", aggs=aggs("max", "min")), GrammarError, {"param": "agg"}),
    "pivot with a name": (long(pivot="metric", aggs=aggs("max=most")), GrammarError, {"param": "agg"}),
    "pivot with two cells": (
        long(pivot="metric", pivot_values="value", aggs=aggs("max:step")),
        GrammarError,
        {"param": "agg"},
    ),
    "pivot with a wrong aggregate": (
        long(pivot="metric", pivot_values="note", aggs=aggs("mean")),
        TypeMismatchError,
        {"param": "agg"},
    ),
    "pivot with an unknown aggregate": (long(pivot="metric", aggs=aggs("avg")), GrammarError, {"param": "agg"}),
    "pivot with having": (long(pivot="metric", having=is_("acc", 1)), GrammarError, {"param": "having"}),
    "pivot of groups by no key": (
        long(pivot="metric", group_by=("data", "params")),
        UnknownColumnError,
        {"param": "pivot", "value": "metric"},
    ),
    "pivot of groups by an aggregate": (
        long(pivot="mean", group_by=("data",)),
        GrammarError,
        {"param": "pivot", "did_you_mean": ("data",)},
    ),
    "pivot of groups of a key": (
        long(pivot="data", pivot_values="params", group_by=("data", "params")),
        GrammarError,
        {"param": "pivot_values"},
    ),
    "pivot of groups with select": (
        long(pivot="data", group_by=("data", "params"), select=("params",)),
        GrammarError,
        {"param": "select"},
    ),
    "last_by": (long(last_by=("parms",)), UnknownColumnError, {"param": "last_by", "did_you_mean": ("params",)}),
    "last and best": (long(last_by=("params",), best_by=BestBy(by=("params",))), GrammarError, {"param": "best_by"}),
    "best of nothing": (long(best_by=BestBy(by=())), GrammarError, {"param": "best_by"}),
    "best of nested": (wide(best_by=BestBy(by=("name",), col="flags", desc=True)), TypeMismatchError, {}),
    "best of which": (
        wide(best_by=BestBy(by=("name",))),
        GrammarError,
        {"param": "best_by", "did_you_mean": ("loss", "acc", "time")},
    ),
    "best of no direction": (wide(best_by=BestBy(by=("name",), col="time")), GrammarError, {"param": "best_by"}),
    "best of an unknown metric": (
        long(best_by=BestBy(by=("params",)), where=is_("metric", "odd")),
        GrammarError,
        {"param": "best_by"},
    ),
    "best both ways": (
        long(best_by=BestBy(by=("params",)), where=is_("metric", ("acc", "pile-valppl"), "in")),
        GrammarError,
        {"param": "best_by"},
    ),
    "having alone": (long(having=is_("mean", 1, "gt")), GrammarError, {"param": "having"}),
    "having": (
        long(group_by=("data",), having=is_("maen", 1, "gt")),
        UnknownColumnError,
        {"param": "having", "did_you_mean": ("mean",)},
    ),
    "distinct sort": (long(select=("data",), distinct=True, sort=by("step")), GrammarError, {"param": "sort"}),
    "distinct groups": (
        long(group_by=("data",), select=("mean",), distinct=True),
        GrammarError,
        {"param": "distinct"},
    ),
    "limit": (long(limit=5_000_001), LimitExceededError, {"param": "limit", "value": "5000001"}),
    "offset": (long(offset=10_000_001), LimitExceededError, {"param": "offset"}),
    "too many columns": (long(select=("data",) * 5_001), LimitExceededError, {}),
    "value": (
        long(where=is_("data", "Dolma17")),
        UnknownValueError,
        {"param": "data", "value": "Dolma17", "did_you_mean": ("Dolma1.7", "Dolma1.6++")},
    ),
    "value of one of several": (
        long(where=every(B, is_("recipe", "Dolma17"))),
        UnknownValueError,
        {"param": "recipe", "value": "Dolma17"},
    ),
    "value deep in a tree": (
        long(where=every(B, some(A, is_("data", "Dolma17")))),
        UnknownValueError,
        {"param": "where.and[1].or[1]"},
    ),
    "value with a lost plus": (
        long(where=is_("data", "Dolma1.6  ")),
        UnknownValueError,
        {"did_you_mean": ("Dolma1.6++", "Dolma1.7")},
    ),
    "value of a number": (long(where=is_("seed", 7)), UnknownValueError, {"param": "seed", "value": "7"}),
    "value of a size": (long(where=is_("params", "61M")), UnknownValueError, {"param": "params", "value": "61M"}),
    "no number": (long(where=is_("step", "many")), InvalidValueError, {"param": "step", "value": "many"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_named(case: str) -> None:
    request, error, says = REFUSED[case]
    with pytest.raises(error) as caught:
        plan(request)
    assert type(caught.value) is error
    found = {name: getattr(caught.value, name) for name in says}
    if "did_you_mean" in says:  # the best of them
        found["did_you_mean"] = found["did_you_mean"][: len(says["did_you_mean"])]
    assert found == says
    assert len(caught.value.detail) > 20


def test_last_by_needs_a_step() -> None:
    schema = replace(WIDE, columns=tuple(column for column in WIDE.columns if "step" not in column.name))
    with pytest.raises(UnknownColumnError, match="grows during training"):
        plan_query(wide(last_by=("name",)), schema)


def test_a_cursor_takes_the_place_of_an_offset() -> None:
    with pytest.raises(GrammarError) as caught:
        plan(long(limit=5, offset=5, cursor="…"), position=Position(5))
    assert caught.value.param == "offset"


@pytest.mark.parametrize("most", [10, 5_000_000])
def test_the_largest_limit_is_allowed(most: int) -> None:
    assert plan(long(limit=most), limits=Limits(max_rows=most)).limit == most
    with pytest.raises(LimitExceededError):
        plan(long(limit=most + 1), limits=Limits(max_rows=most))


class TestNotStrict:
    def test_an_unknown_value_is_a_warning(self) -> None:
        planned = plan(long(where=is_("data", ("C4", "Dolma17"), "in"), strict=False))
        assert planned.warnings == ("data has no value \"Dolma17\"; did you mean 'Dolma1.7'?",)

    def test_said_once(self) -> None:
        request = long(where=every(is_("data", "x"), is_("recipe", "x"), not_(is_("data", "x"))), strict=False)
        assert len(plan(request, limits=Limits()).warnings) == 1
        assert len(plan(request.model_copy(update={"facets": ("data", "params")})).warnings) == 1

    def test_all_else_stays_an_error(self) -> None:
        with pytest.raises(UnknownColumnError):
            plan(long(where=is_("dat", "x"), strict=False))

    @pytest.mark.parametrize("op", ["ne", "notin", "contains", "gt"])
    def test_only_equality_asks_for_known_values(self, op: str) -> None:
        assert plan(long(where=is_("data", ("x",) if op == "notin" else "x", op))).warnings == ()


@pytest.mark.parametrize(
    "where",
    [
        every(is_("metric", "acc"), A),
        every(A, is_("metric", "acc")),
        every(every(A, B), is_("metric", ("acc",), "in")),
        every(is_("metric", ("acc", "pile-valppl"), "in"), is_("metric", ("acc", "odd"), "in")),
        every(is_("metric", ("acc", "odd"), "in"), every(A, is_("metric", ("acc", "pile-valppl"), "in"))),
    ],
)
def test_however_the_metric_is_pinned_its_unit_and_direction_are_known(where: And) -> None:
    planned = plan(long(where=where, select=("value",)))
    assert planned.columns is not None
    assert [(one.unit, one.direction) for one in planned.columns] == [("accuracy", "higher")]
    pick = plan(long(where=where, best_by=BestBy(by=("params",)))).shape.pick
    assert pick is not None and pick.rising


@pytest.mark.parametrize("where", [None, A, some(is_("metric", "acc"), A), is_("metric", "acc", "ne")])
def test_a_value_of_many_metrics_has_no_unit(where: Any) -> None:
    columns = plan(long(where=where, select=("value", "step"))).columns
    assert columns is not None
    assert [one.unit for one in columns] == [None, "steps"]


def test_a_facet_looks_past_the_conditions_on_its_own_column() -> None:
    where = every(A, every(B, some(is_("recipe", "C4"), is_("data", "C4", "glob"))), some(A, B))
    flat, nested = (
        plan(long(where=tree, facets=("data", "step"))) for tree in (where, every(every(where, every()), B))
    )
    assert flat.facets == nested.facets
    assert repr(flat.facets[0].where).count("Comparison(") == 3  # B, and the one about two columns
    assert repr(flat.facets[1].where).count("Comparison(") == 5


@pytest.mark.parametrize(
    "request_, may_tie",
    [
        (long(last_by=("params",)), True),
        (long(last_by=("params", "data", "seed", "metric")), False),
        (long(last_by=("params", "data", "seed"), where=is_("metric", "acc")), False),
        (long(last_by=("params", "data", "seed"), where=is_("metric", ("acc", "odd"), "in")), True),
        (long(last_by=("data", "seed", "metric"), where=is_("params", "1B")), False),
        (long(last_by=("data", "seed", "metric"), where=is_("params", "60M")), True),  # 60m is another text
        (long(best_by=BestBy(by=("params", "data", "seed", "metric"), col="value", desc=True)), True),
        (wide(last_by=("name",)), True),
    ],
)
def test_whether_rows_may_tie(request_: QueryRequest, may_tie: bool) -> None:
    pick = plan(request_).shape.pick
    assert pick is not None and pick.may_tie is may_tie


def test_rows_in_the_order_of_the_file_are_paged_by_their_ordinal() -> None:
    assert plan(long(where=A, limit=5, select=("data",))).shape.in_given_order
    for request in (
        long(sort=by("step")),
        long(group_by=("data",)),
        long(aggs=aggs("count")),
        long(distinct=True),
        long(pivot="metric"),
        long(last_by=("data",)),
        long(best_by=BestBy(by=("data",), col="step", desc=True)),
    ):
        assert not plan(request).shape.in_given_order


def test_a_plan_tells_its_columns_but_for_a_pivot() -> None:
    columns = plan(long(group_by=("params", "recipe"), aggs=(Aggregate(fn="max", col="step"),))).columns
    assert columns is not None
    assert [(one.name, one.sql_type, one.unit) for one in columns] == [
        ("params", "VARCHAR", None),
        ("data", "VARCHAR", None),
        ("max_step", "BIGINT", "steps"),
        ("count_step", "BIGINT", None),
        ("nulls_step", "BIGINT", None),
        ("nans_step", "BIGINT", None),
        ("seeds_step", "BIGINT", None),
    ]
    assert plan(long(pivot="metric")).columns is None
