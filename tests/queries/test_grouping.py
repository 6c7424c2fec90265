"""Groups and aggregates: the names, types and units of what comes out, and what stands behind each number."""

from __future__ import annotations

import pytest

from queries.errors import GrammarError, QueryError, TypeMismatchError, UnknownColumnError
from queries.grouping import output_type
from queries.plan import Measure
from queries.request import FUNCTIONS, PERCENTILES, QueryRequest
from queries.schema import Column
from tests.queries.support import aggs, by, is_, long, plan, wide


def names(request: QueryRequest) -> list[str]:
    columns = plan(request).columns
    assert columns is not None
    return [column.name for column in columns]


@pytest.mark.parametrize(
    "request_, expected",
    [
        (long(group_by=("params",)), "params mean std count nulls nans seeds"),
        (long(aggs=aggs("max")), "max count nulls nans seeds"),
        (long(aggs=aggs("count")), "count nulls nans seeds"),
        (long(aggs=aggs("max", "count")), "max count nulls nans seeds"),
        (long(aggs=aggs("max:step")), "max_step count_step nulls_step nans_step seeds_step"),
        (
            long(aggs=aggs("mean", "max:step")),
            "mean max_step count nulls nans seeds count_step nulls_step nans_step seeds_step",
        ),
        (long(aggs=aggs("mean:acc")), "mean_acc count_acc nulls_acc nans_acc seeds_acc"),
        (long(aggs=aggs("mean:value", "mean")), "mean_value mean count_value nulls_value nans_value seeds_value "
         "count nulls nans seeds"),
        (long(aggs=aggs("max=top")), "top count nulls nans seeds"),
        (long(aggs=aggs("count=n")), "n nulls nans seeds"),
        (wide(aggs=aggs("count")), "count"),
        (wide(aggs=aggs("mean:acc", "count")), "mean_acc count count_acc nulls_acc nans_acc"),
        (wide(group_by=("name",), aggs=aggs("p05:loss")), "name p05_loss count_loss nulls_loss nans_loss"),
        (wide(group_by=("count",), aggs=aggs("mean:acc=nulls_acc")), "count nulls_acc count_acc nulls_acc_ nans_acc"),
        (wide(group_by=("count",), aggs=aggs("count:acc", "mean:count")), "count count_acc mean_count nulls_acc "
         "nans_acc count_count nulls_count nans_count"),
    ],
)  # fmt: skip
def test_names_of_the_columns(request_: QueryRequest, expected: str) -> None:
    assert names(request_) == expected.split()


@pytest.mark.parametrize(
    "request_, error, says, did_you_mean",
    [
        (long(aggs=aggs("avg")), GrammarError, "avg", ("mean",)),
        (long(aggs=aggs("p5")), GrammarError, "p5", ("p05",)),
        (long(aggs=aggs("p00")), GrammarError, "p00", None),
        (long(aggs=aggs("mean:note")), TypeMismatchError, "needs numbers", ()),
        (long(aggs=aggs("median:data")), TypeMismatchError, "needs numbers", ()),
        (wide(aggs=aggs("min:flags")), TypeMismatchError, "only count", ()),
        (wide(aggs=aggs("nunique:raw")), TypeMismatchError, "only count", ()),
        (long(aggs=aggs("mean:valeu")), UnknownColumnError, "no column and no metric", ("value",)),
        (long(aggs=aggs("mean:pile-valpl")), UnknownColumnError, "no metric", ("pile-valppl",)),
        (wide(aggs=aggs("mean")), GrammarError, "has 3 measures", ("mean:loss", "mean:acc", "mean:time")),
        (long(aggs=aggs("mean=x", "max=x")), GrammarError, "two columns", None),
        (long(group_by=("data",), aggs=aggs("mean=data")), GrammarError, "two columns", None),
        (wide(group_by=("count",), aggs=aggs("count")), GrammarError, "two columns", None),
    ],
)
def test_refused(
    request_: QueryRequest, error: type[QueryError], says: str, did_you_mean: tuple[str, ...] | None
) -> None:
    with pytest.raises(error, match=says) as caught:
        plan(request_)
    assert caught.value.param == "agg"
    if did_you_mean is not None:
        assert caught.value.did_you_mean[: len(did_you_mean) or 1] == did_you_mean


@pytest.mark.parametrize("fn", [*FUNCTIONS, *PERCENTILES])
def test_every_function_is_planned(fn: str) -> None:
    assert fn in names(long(aggs=aggs(fn)))


@pytest.mark.parametrize(
    "fn, sql_type, expected",
    [
        ("count", "VARCHAR", "BIGINT"),
        ("nunique", "DOUBLE", "BIGINT"),
        ("sum", "TINYINT", "BIGINT"),
        ("sum", "BOOLEAN", "BIGINT"),
        ("sum", "BIGINT", "HUGEINT"),
        ("sum", "FLOAT", "DOUBLE"),
        ("sum", "DECIMAL(10,2)", "DECIMAL(38,2)"),
        ("mean", "BIGINT", "DOUBLE"),
        ("mean", "DECIMAL(10,2)", "DOUBLE"),
        ("min", "FLOAT", "FLOAT"),
        ("last", "DATE", "DATE"),
        ("p99", "INTEGER", "DOUBLE"),
    ],
)
def test_types(fn: str, sql_type: str, expected: str) -> None:
    assert output_type(fn, Measure(Column("x", sql_type))) == expected


def test_units_and_directions() -> None:
    columns = plan(long(group_by=("step",), aggs=aggs("mean:acc", "std:acc", "var:acc", "max:step"))).columns
    assert columns is not None
    assert [(one.name, one.unit, one.direction) for one in columns[:5]] == [
        ("step", "steps", None),
        ("mean_acc", "accuracy", "higher"),
        ("std_acc", "accuracy", None),
        ("var_acc", None, None),
        ("max_step", "steps", None),
    ]
    assert {one.unit for one in columns[5:]} == {None}


@pytest.mark.parametrize("name", ["mean", "params", "model_size", "seeds"])
def test_having_sort_and_select_take_the_names_of_the_answer(name: str) -> None:
    request = long(group_by=("params",), select=(name, "count"), sort=by(f"-{name}"), having=is_(name, op="isnull"))
    assert names(request) == ["params" if name == "model_size" else name, "count"]


def test_an_output_of_the_same_name_goes_before_a_column() -> None:
    """The mean is renamed to an alias of the key: the name is the mean's from then on."""
    planned = plan(long(group_by=("data",), aggs=aggs("mean=recipe"), sort=by("recipe")))
    assert [key.column.name for key in planned.shape.sort] == ["agg_0", "data"]  # type: ignore[union-attr]
