"""The reference itself, against answers worked out by hand."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from queries.request import Aggregate, BestBy, Condition, Not, Operator, Or, QueryRequest, SortKey
from tests.reference import (
    Approximate,
    Column,
    Table,
    UndecidedError,
    aggregate,
    evaluate,
    glob,
    label_number,
    percentile,
    settle,
    std,
    to_float32,
    variance,
)

NAN, INF = math.nan, math.inf
COLUMNS = (
    Column("params", "VARCHAR", "dimension", is_size_label=True),
    Column("data", "VARCHAR", "dimension"),
    Column("seed", "BIGINT", "seed"),
    Column("step", "BIGINT", "axis"),
    Column("value", "DOUBLE", "measure", direction="lower"),
)
ROWS = (
    ("60M", "a", 0, 10, 1.0),
    ("60m", "a", 1, 20, 3.0),
    ("1B", "b", 0, 10, NAN),
    ("4M", "b", 1, None, None),
    (None, "a", 1, 20, INF),
    ("4M", None, None, 5, 2.0),
)
TABLE = Table(COLUMNS, tuple(dict(zip([c.name for c in COLUMNS], row, strict=True)) for row in ROWS))


def ask(**parts: Any) -> list[tuple[Any, ...]]:
    return list(evaluate(QueryRequest(dataset="t", **parts), TABLE).rows)


def steps(where: Any) -> list[int | None]:
    """The places in ROWS that a condition selects."""
    chosen = evaluate(QueryRequest(dataset="t", where=where), TABLE).rows
    return [next(at for at, row in enumerate(ROWS) if all(map(_same, row, found))) for found in chosen]


def _same(left: Any, right: Any) -> bool:
    return left is right or left == right


@pytest.mark.parametrize(
    "col, op, value, expected",
    [
        ("params", "eq", "60M", [0, 1]),
        ("params", "in", ["60000000", "4M"], [0, 1, 3, 5]),
        ("params", "gt", "4M", [0, 1, 2]),
        ("params", "ne", "60M", [2, 3, 5]),
        ("params", "isnull", None, [4]),
        ("params", "isnull", "false", [0, 1, 2, 3, 5]),
        ("step", "eq", "1e1", [0, 2]),
        ("step", "between", [5, 10], [0, 2, 5]),
        ("value", "eq", NAN, [2]),
        ("value", "ne", "nan", [0, 1, 4, 5]),
        ("value", "ne", 1, [1, 2, 4, 5]),
        ("value", "in", [NAN, 1.0], [0, 2]),
        ("value", "notin", [1.0], [1, 2, 4, 5]),
        ("value", "gte", -INF, [0, 1, 4, 5]),
        ("value", "lte", "inf", [0, 1, 4, 5]),
        ("data", "notin", ["a"], [2, 3]),
    ],
)
def test_conditions(col: str, op: str, value: Any, expected: list[int]) -> None:
    assert steps(Condition(col=col, op=op, value=value)) == expected


def test_unknown_stays_unknown_when_negated() -> None:
    assert steps(Not(not_=Condition(col="value", op="gt", value=1.5))) == [0, 2]
    assert steps(Not(not_=Condition(col="data", value="a"))) == [2, 3]
    unknown_or_true = Or(or_=(Condition(col="step", value=10), Condition(col="value", value=2)))
    assert steps(Not(not_=unknown_or_true)) == [1, 4]


def test_two_columns_are_compared_row_by_row() -> None:
    assert steps(Condition(col="step", op="gt", ref="value")) == [0, 1, 5]
    assert steps(Condition(col="step", op="ne", ref="value")) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    "pattern, text, expected",
    [
        ("*", "", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("[!a-c]*", "dx", True),
        ("[!a-c]*", "bx", False),
        ("[[]", "[", True),
        ("[*]", "x", False),
        ("a*b*c", "a\nbbc", True),
        ("A*", "abc", False),
    ],
)
def test_globs(pattern: str, text: str, expected: bool) -> None:
    assert glob(text, pattern) is expected


def test_labels_are_read_without_binary_fractions() -> None:
    assert [label_number(text) for text in ("1.4B", "4m", " .5 k ", "60", "B")] == [
        1_400_000_000,
        4_000_000,
        500,
        None,
        None,
    ]


def test_sorting_puts_numbers_first_then_nan_then_nulls_both_ways() -> None:
    assert [row[0] for row in ask(select=["value"], sort=[SortKey(col="value")])][:4] == [1.0, 2.0, 3.0, INF]
    falling = [row[0] for row in ask(select=["value"], sort=[SortKey(col="value", desc=True)])]
    assert falling[:4] == [INF, 3.0, 2.0, 1.0] and math.isnan(falling[4]) and falling[5] is None
    labels = [row[0] for row in ask(select=["params"], sort=[SortKey(col="params")])]
    assert labels == ["4M", "4M", "60M", "60m", "1B", None]


def test_paging_and_total() -> None:
    answer = evaluate(QueryRequest(dataset="t", select=["step"], limit=2, offset=3), TABLE)
    assert (answer.rows, answer.total) == (((None,), (20,)), 6)


def test_last_and_best_keep_the_order_of_the_file() -> None:
    assert ask(select=["data", "step"], last_by=["data"]) == [("a", 20), ("b", 10), (None, 5)]
    assert ask(select=["data", "value"], best_by=BestBy(by=("data",)))[::2] == [("a", 1.0), (None, 2.0)]
    # A group of NaN and null alone is represented by its first row.
    assert str(ask(select=["value"], best_by=BestBy(by=("data",), desc=True))) == "[(nan,), (inf,), (2.0,)]"


def test_groups_say_what_stands_behind_each_number() -> None:
    answer = evaluate(
        QueryRequest(dataset="t", group_by=["data"], where=Condition(col="step", op="lt", value=20)), TABLE
    )
    assert answer.columns == ("data", "mean", "std", "count", "nulls", "nans", "seeds")
    assert answer.rows == (("a", 1.0, None, 1, 0, 0, 1), ("b", None, None, 0, 0, 1, 0), (None, 2.0, None, 1, 0, 0, 0))


def test_having_sort_and_names() -> None:
    rows = ask(
        group_by=["data"],
        aggs=[Aggregate(fn="max", col="step"), Aggregate(fn="count", as_="n")],
        having=Condition(col="n", op="gte", value=1),
        sort=[SortKey(col="max_step")],
    )
    assert [row[:3] for row in rows] == [(None, 5, 1), ("a", 20, 3)]


def test_pivot_takes_one_value_as_it_is_and_the_mean_of_several() -> None:
    answer = evaluate(QueryRequest(dataset="t", select=["step"], pivot="data"), TABLE)
    assert answer.columns[:3] == ("step", "a", "b")


def test_facets_ignore_the_filter_on_their_own_column() -> None:
    answer = evaluate(QueryRequest(dataset="t", where=Condition(col="data", value="a"), facets=["data", "seed"]), TABLE)
    assert answer.facets == {"data": [("a", 3), ("b", 2), (None, 1)], "seed": [(1, 2), (0, 1)]}


def test_aggregates() -> None:
    whole = Column("n", "BIGINT")
    real = Column("x", "DOUBLE")
    assert aggregate("sum", [2**63, 2**63], whole) == 2**64
    assert aggregate("sum", [0.5, 0.25], real) == 0.75
    assert aggregate("sum", [], real) is None
    assert math.isnan(aggregate("sum", [INF, -INF], real))
    assert aggregate("mean", [1.0, 2.0], real) == 1.5
    assert aggregate("mean", [INF, 1.0], real) == INF
    assert aggregate("nunique", [0.0, -0.0, 1.0], real) == 2
    assert aggregate("max", ["4M", "1B", "150M"], Column("p", "VARCHAR", is_size_label=True)) == "1B"
    assert variance([1.0]) is None
    assert variance([2.0, 2.0]) == 0.0
    assert std([1.0, 2.0, 3.0, 4.0]).accepts(1.2909944487358056)
    assert not std([1.0, 2.0, 3.0, 4.0]).accepts(1.29099444874)
    assert percentile([1, 2, 3, 4], Fraction(1, 2)).accepts(2.5)
    assert percentile([Decimal("1.10"), Decimal("1.11")], Fraction(1, 2)).accepts(1.105)
    assert percentile([-INF, INF, INF], Fraction(1, 2)) == INF


def test_what_hangs_on_rounding_is_undecided() -> None:
    mean = aggregate("mean", [0.1, 0.2, 0.3], Column("x", "DOUBLE"))
    assert isinstance(mean, Approximate) and mean.accepts((0.1 + 0.2 + 0.3) / 3) and mean.tolerance < 1e-15
    with pytest.raises(UndecidedError):
        settle(mean, 0.2)
    assert settle(mean, 0.25) == mean.value


def test_values_are_typed_by_their_column() -> None:
    table = Table(
        (Column("f", "FLOAT"), Column("d", "DATE"), Column("b", "BOOLEAN")),
        ({"f": to_float32(0.1), "d": dt.date(2024, 2, 29), "b": True},),
    )
    for col, value in [("f", 0.1), ("f", "0.1"), ("d", "2024-02-29"), ("b", "true")]:
        assert (
            evaluate(QueryRequest(dataset="t", where=Condition(col=col, op=Operator.EQ, value=value)), table).total == 1
        )
