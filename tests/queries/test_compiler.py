"""Plan → SQL: every case beside its text in ``golden/``. BT_TEST_UPDATE_GOLDEN=1 writes the texts anew."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from queries.compiler import (
    CompiledQuery,
    compile_count,
    compile_facet,
    compile_pivot_values,
    compile_plan,
    compile_ties,
    pivot_names,
)
from queries.errors import UnknownColumnError
from queries.plan import Plan
from queries.planner import Position
from queries.request import BestBy, QueryRequest
from tests.queries.support import aggs, by, every, is_, long, not_, plan, some, wide

GOLDEN = Path(__file__).parent / "golden"
UPDATE = os.environ.get("BT_TEST_UPDATE_GOLDEN") == "1"
VERSION = "version"  # the relation

ROWS: dict[str, QueryRequest] = {
    "everything": long(),
    "eq": long(where=is_("data", "C4")),
    "ne": long(where=is_("data", "C4", "ne")),
    "lt": long(where=is_("value", "0.5", "lt")),
    "lte": long(where=is_("step", "5e3", "lte")),
    "gt_leaves_nan_out": long(where=is_("value", 0.5, "gt")),
    "gte_of_integers": long(where=is_("step", 5000, "gte")),
    "in": long(where=is_("step", (1, 2, 3), "in")),
    "in_nothing": long(where=is_("step", (), "in")),
    "in_long_list": long(where=is_("step", tuple(range(65)), "in")),
    "notin": long(where=is_("note", ("a", "b"), "notin")),
    "notin_nothing": long(where=is_("note", (), "notin")),
    "between": long(where=is_("value", (0, 1), "between")),
    "isnull": long(where=is_("value", op="isnull")),
    "isnull_false": long(where=is_("value", False, "isnull")),
    "contains": long(where=is_("data", "C", "contains")),
    "startswith": long(where=is_("data", "C", "startswith")),
    "endswith": long(where=is_("data", "4", "endswith")),
    "glob": long(where=is_("metric", "*-valppl", "glob")),
    "and_or_not": long(
        where=every(is_("step", 1, "gt"), some(is_("data", "C4"), is_("seed", 1)), not_(is_("note", "x")))
    ),
    "nothing_of_nothing": long(where=some()),
    "size_label_eq": long(where=is_("params", "60M")),
    "size_label_notin": long(where=is_("params", ("0.06B", "1B"), "notin")),
    "size_label_range": long(where=is_("params", ("100M", "2B"), "between"), sort=by("-params")),
    "derived_size": long(where=is_("params_numeric", 1e8, "gte"), select=("params", "params_numeric")),
    "derived_lookup_and_product": long(
        select=("params_exact", "compute"), where=is_("compute", 1e15, "gt"), sort=by("compute")
    ),
    "float32": wide(where=every(is_("loss", 0.1), is_("loss", (0.1, 0.2), "notin"), is_("loss", 2, "gt"))),
    "two_columns": wide(where=every(is_("step", ref="total_steps"), is_("loss", op="lt", ref="acc"))),
    "types": wide(
        where=every(
            is_("price", "1.50"),
            is_("done", True),
            is_("day", "2024-05-01", "gte"),
            is_("at", "2024-05-01T12:00:00Z", "lt"),
            is_("spent", "P1DT2H", "gt"),
            is_("raw", op="isnull"),
        )
    ),
    "beyond_the_type": wide(
        where=every(is_("tiny", 1000, "lt"), is_("tiny", 1000, "ne"), is_("tiny", (1, 1000), "in"))
    ),
    "quoted_names": wide(select=('say "hi"', "count", "_ordinal"), where=is_('say "hi"', 1), limit=5),
    "sort_and_page": long(sort=by("-value", "step"), limit=100, offset=200),
    "page_far_down": long(sort=by("-params", "step"), limit=100, offset=20_000, where=is_("data", "C4")),
    "page_in_file_order": long(limit=100, offset=200),
    "distinct": long(select=("data", "params"), distinct=True),
    "distinct_sorted": long(select=("data", "params"), distinct=True, sort=by("params"), limit=3),
    "last_by": long(last_by=("params", "data")),
    "last_by_of_runs": long(last_by=("params", "data", "seed", "metric"), where=is_("data", "C4")),
    "last_by_filtered_and_sorted": long(last_by=("params",), where=is_("metric", "acc"), sort=by("value"), limit=2),
    "best_by_lower": long(best_by=BestBy(by=("params",)), where=is_("metric", "pile-valppl")),
    "best_by_metric": long(
        best_by=BestBy(by=("params", "metric")), where=is_("metric", ("acc", "c4-valppl", "pile-valppl"), "in")
    ),
    "best_by_said_outright": long(best_by=BestBy(by=("data",), col="step", desc=True)),
    "best_by_earliest": wide(best_by=BestBy(by=("name",), col="day", desc=False)),
    "best_by_direction": wide(best_by=BestBy(by=("name",), col="loss")),
    "group_by": long(group_by=("params", "data_source")),
    "group_by_nothing": long(aggs=aggs("mean")),
    "group_by_derived": long(group_by=("params_numeric",), aggs=aggs("count"), sort=by("-params_numeric")),
    "aggregates": long(
        group_by=("data",),
        aggs=aggs(*"count sum mean min max median std var sem first last nunique p05 p99".split()),
    ),
    "aggregates_of_float32": wide(group_by=("name",), aggs=aggs("sum:loss", "mean:loss", "std:loss", "first:loss")),
    "aggregates_of_others": wide(
        group_by=("name",),
        aggs=aggs("sum:tiny", "sum:done", "mean:done", "sum:price", "mean:price", "max:day", "count:flags"),
    ),
    "aggregate_of_size_label": long(aggs=aggs("min:params", "max:params")),
    "metric_as_measure": long(group_by=("params",), aggs=aggs("mean:acc", "mean:pile-valppl", "max:step")),
    "renamed_aggregate": long(group_by=("params",), aggs=aggs("mean:acc=Robert'); DROP TABLE")),
    "count_of_rows": wide(group_by=("name",), aggs=aggs("count=n")),
    "clashing_names": wide(group_by=("count",), aggs=aggs("count:acc", "mean:acc=count_")),
    "having": long(group_by=("params",), having=every(is_("mean", 0.4, "gt"), is_("params", "1B", "lt"))),
    "group_select_sort_page": long(
        group_by=("params", "data"), select=("data", "mean"), sort=by("-mean"), limit=5, offset=5
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_golden(case: str) -> None:
    check(case, compile_plan(plan(ROWS[case]), VERSION))


PIVOTS: dict[str, tuple[QueryRequest, tuple[object, ...]]] = {
    "pivot_unique": (long(pivot="metric"), ("acc", "pile-valppl")),
    "pivot_repeating": (long(pivot="metric", select=("params",)), ("acc", "pile-valppl", None)),
    "pivot_repeating_texts": (long(pivot="metric", pivot_values="note", select=("step",)), ("acc",)),
    "pivot_with_aggregate": (long(pivot="params", select=("data",), aggs=aggs("max")), ("60M", "1B")),
    "pivot_of_groups": (long(group_by=("params", "data"), aggs=aggs("mean"), pivot="data"), ("C4", "Dolma1.7")),
    "pivot_of_groups_values": (
        long(group_by=("params", "data"), aggs=aggs("mean", "std"), pivot="params", pivot_values="std"),
        ("60M",),
    ),
    "pivot_sorted": (long(pivot="metric", select=("step",), sort=by("-acc", "step"), limit=5), ("acc", "odd")),
    "pivot_of_many": (long(pivot="metric", sort=by("-m7"), limit=5), tuple(f"m{i}" for i in range(21))),
    "pivot_of_nothing": (long(pivot="metric", sort=by("acc")), ()),
    "pivot_without_index": (long(pivot="metric", select=()), ("acc",)),
}


@pytest.mark.parametrize("case", PIVOTS)
def test_golden_pivot(case: str) -> None:
    request, values = PIVOTS[case]
    check(case, compile_plan(plan(request), VERSION, values))


OTHERS: dict[str, CompiledQuery] = {
    "count": compile_count(plan(long(where=is_("data", "C4"), sort=by("value"), limit=5)), VERSION),
    "count_distinct": compile_count(plan(long(select=("data",), distinct=True)), VERSION),
    "count_groups": compile_count(plan(long(group_by=("data",), having=is_("count", 1, "gt"))), VERSION),
    "count_pivot": compile_count(plan(long(pivot="metric")), VERSION),
    "count_picked": compile_count(plan(long(last_by=("data",))), VERSION),
    "pivot_values": compile_pivot_values(plan(long(pivot="metric", where=is_("data", "C4"))), VERSION),
    "pivot_values_of_sizes": compile_pivot_values(plan(long(pivot="params", last_by=("params",))), VERSION),
    "pivot_values_of_groups": compile_pivot_values(plan(long(pivot="data", group_by=("params", "data"))), VERSION),
    "ties": compile_ties(plan(long(last_by=("params", "data"))), VERSION),
    "cursor": compile_plan(plan(long(limit=10), position=Position(20, 4711)), VERSION),
    "cursor_count": compile_count(plan(long(limit=10), position=Position(20, 4711)), VERSION),
    "cursor_of_sorted": compile_plan(plan(long(limit=10, sort=by("value")), position=Position(20)), VERSION),
}


def facet(request: QueryRequest) -> CompiledQuery:
    planned = plan(request)
    return compile_facet(planned, planned.facets[0], VERSION, 100)


OTHERS |= {
    "facet": facet(long(where=every(is_("data", "C4"), is_("step", 1, "gt")), facets=("data",))),
    "facet_of_sizes": facet(long(where=is_("params", "60M"), facets=("params",))),
}


@pytest.mark.parametrize("case", OTHERS)
def test_golden_of_the_other_statements(case: str) -> None:
    check(case, OTHERS[case])


def check(case: str, compiled: CompiledQuery) -> None:
    path = GOLDEN / f"{case}.sql"
    text = f"{compiled.sql}\n" + "".join(
        f"-- ${at}: {parameter(value)}\n" for at, value in enumerate(compiled.params, start=1)
    )
    if UPDATE:
        GOLDEN.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
    (statement,) = sqlglot.parse(compiled.sql, dialect="duckdb")
    assert isinstance(statement, exp.Select)
    assert {int(number) for number in re.findall(r"\$(\d+)", compiled.sql)} == set(range(1, len(compiled.params) + 1))


def parameter(value: object) -> str:
    text = repr(value)
    return text if len(text) < 90 else f"{text[:80]}… ({len(text)} characters)"


def test_each_golden_file_belongs_to_a_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*")} == {*ROWS, *PIVOTS, *OTHERS}


@pytest.mark.parametrize(
    "one, other",
    [
        (long(where=is_("data", "C4")), long(where=is_("data", "Dolma1.7"))),
        (long(where=is_("step", (1, 2, 3), "in")), long(where=is_("step", (7, 8, 9), "in"))),
        (long(where=is_("step", tuple(range(65)), "in")), long(where=is_("step", tuple(range(1000)), "in"))),
        (long(limit=10, offset=5), long(limit=99, offset=7)),
        (long(group_by=("data",), having=is_("mean", 1, "gt")), long(group_by=("data",), having=is_("mean", 2, "gt"))),
        (long(aggs=aggs("mean:acc")), long(aggs=aggs("mean:pile-valppl"))),
    ],
    ids=["eq", "in", "long list", "page", "having", "metric"],
)
def test_requests_that_differ_in_values_alone_share_one_text(one: QueryRequest, other: QueryRequest) -> None:
    first, second = compile_plan(plan(one), VERSION), compile_plan(plan(other), VERSION)
    assert first.sql is second.sql
    assert first.params != second.params


def test_a_position_of_a_cursor_is_a_value_too() -> None:
    first = compile_plan(plan(long(limit=10), position=Position(10, 99)), VERSION)
    second = compile_plan(plan(long(limit=10), position=Position(20, 1234)), VERSION)
    assert first.sql is second.sql


def test_the_columns_of_a_pivot_are_its_index_and_its_values() -> None:
    compiled = compile_plan(plan(long(pivot="metric", select=("params", "step"))), VERSION, ("acc", "pile-valppl"))
    assert [(column.name, column.sql_type) for column in compiled.columns] == [
        ("params", "VARCHAR"),
        ("step", "BIGINT"),
        ("acc", "DOUBLE"),
        ("pile-valppl", "DOUBLE"),
    ]


@pytest.mark.parametrize(
    "values, names",
    [
        (("acc", None), ("acc", "null")),
        ((None, "null"), ("null", "metric=null")),
        (("params",), ("metric=params",)),
        (("params", "metric=params"), ("metric=params", "metric=metric=params")),
        ((True, False), ("true", "false")),
        ((1.0, 0.5, float("nan")), ("1", "0.5", "nan")),
        ((1e300,), ("1e+300",)),
    ],
)
def test_pivoted_columns_have_names_of_their_own(values: Sequence[object], names: tuple[str, ...]) -> None:
    pivot = plan(long(pivot="metric", select=("params",))).shape.pivot
    assert pivot is not None
    assert pivot_names(pivot, values) == names


def test_sorting_by_a_column_that_the_pivot_does_not_make() -> None:
    planned = plan(long(pivot="metric", select=("step",), sort=by("acd")))
    with pytest.raises(UnknownColumnError) as caught:
        compile_plan(planned, VERSION, ("acc", "odd"))
    assert (caught.value.param, caught.value.value, caught.value.did_you_mean) == ("sort", "acd", ("acc", "odd")[:1])


def test_a_plan_without_a_pick_has_no_ties() -> None:
    with pytest.raises(ValueError, match="picks no rows"):
        compile_ties(plan(long()), VERSION)


def test_no_value_is_in_the_text() -> None:
    word = "zqx7jk"
    requests: list[Any] = [
        long(where=is_("note", word)),
        long(where=is_("note", tuple(f"{word}{i}" for i in range(70)), "in")),
        long(where=is_("data", word, "glob")),
        long(group_by=("data",), aggs=aggs(f"mean=x{word}")),
        long(pivot="metric", sort=by(word)),
    ]
    for request in requests:
        planned: Plan = plan(request)
        assert word not in compile_plan(planned, VERSION, (word,) if planned.shape.pivot else ()).sql
