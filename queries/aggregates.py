"""One SQL rule for each aggregate. All leave out null and NaN, and say how many of both there were."""

from __future__ import annotations

import math

from sqlglot import exp

from queries.expressions import Expression, Scope, call, cast, nan, number
from queries.grouping import output_type
from queries.plan import Measure, PlannedAggregate, PlannedPivot
from queries.request import PERCENTILES
from queries.schema import Column, Kind

_PERCENTILES = {fn: int(fn[1:]) / 100 for fn in PERCENTILES}
_SPREAD = {"std": "stddev_samp", "var": "var_samp"}


def compile_aggregate(one: PlannedAggregate, scope: Scope, ordinal: Expression) -> Expression:
    """The expression of an aggregate; ``ordinal`` is the column that gives rows their order."""
    if one.measure is None:
        return call("count", exp.Star())
    return _Aggregator(one.measure, scope, ordinal).of(one)


class _Aggregator:
    def __init__(self, measure: Measure, scope: Scope, ordinal: Expression) -> None:
        self.column = measure.column
        self.scope = scope
        self.ordinal = ordinal
        self.measure = measure

    @property
    def raw(self) -> Expression:
        return self.scope.value(self.column)  # made anew each time: a node has one place in a tree

    @property
    def only(self) -> Expression | None:
        """The condition that limits the aggregate to one metric."""
        if self.measure.metric_column is None or self.measure.metric is None:
            return None
        metric = self.scope.value(self.measure.metric_column)
        return exp.EQ(this=metric, expression=self.scope.parameter(self.measure.metric))

    def of(self, one: PlannedAggregate) -> Expression:
        match one.fn:
            case "count":
                return self._call("count", self.clean)
            case "nulls":
                return exp.Sub(this=self._call("count", exp.Star()), expression=self._call("count", self.raw))
            case "nans":
                if not self.column.may_be_nan:
                    return cast(number(0), "BIGINT")
                return exp.Sub(this=self._call("count", self.raw), expression=self._call("count", self.clean))
            case "seeds":
                return self._seeds(one.seed)
            case "nunique":
                return self._filtered(exp.Count(this=exp.Distinct(expressions=[self.clean])))
            case "sum":
                return self._sum()
            case "mean":
                return self._call("avg", self.plain)
            case "min" | "max" | "first" | "last":
                return self._extreme(one.fn)
            case "std" | "var" | "sem":
                return self._spread(one.fn)
            case "median":
                return self._quantile(0.5)
            case _:
                return self._quantile(_PERCENTILES[one.fn])

    @property
    def clean(self) -> Expression:
        """The value without its NaN."""
        if not self.column.may_be_nan:
            return self.raw
        return call("nullif", self.raw, cast(exp.Literal.string("nan"), self.column.sql_type))

    @property
    def plain(self) -> Expression:
        """The value as something that DuckDB takes a mean of exactly: integers as they are, the rest as doubles."""
        if self.column.kind is Kind.INTEGER and self.column.sql_type != "UHUGEINT":
            return self.clean
        return self.double

    @property
    def double(self) -> Expression:
        if self.column.sql_type == "DOUBLE":
            return self.clean
        if self.column.kind is Kind.BOOLEAN:
            return cast(cast(self.raw, "INTEGER"), "DOUBLE")
        return cast(self.clean, "DOUBLE")

    def _call(self, function: str, *arguments: Expression) -> Expression:
        return self._filtered(call(function, *arguments))

    def _filtered(self, aggregate: Expression, *conditions: Expression) -> Expression:
        wanted = [condition for condition in (self.only, *conditions) if condition is not None]
        if not wanted:
            return aggregate
        return exp.Filter(this=aggregate, expression=exp.Where(this=exp.and_(*wanted)))

    def _seeds(self, seed: Column | None) -> Expression:
        if seed is None:
            return cast(number(0), "BIGINT")
        counted = exp.Count(this=exp.Distinct(expressions=[self.scope.value(seed)]))
        return self._filtered(counted, exp.Not(this=exp.Is(this=self.clean, expression=exp.Null())))

    def _sum(self) -> Expression:
        kind, sql_type = self.column.kind, self.column.sql_type
        if kind is Kind.FLOAT or sql_type == "UHUGEINT":
            return self._call("sum", self.double)
        if kind is Kind.BOOLEAN:
            return cast(self._call("sum", cast(self.raw, "INTEGER")), "BIGINT")
        if sql_type in ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER"):
            return cast(self._call("sum", self.raw), "BIGINT")  # 2^32 rows of 2^31 fit
        return self._call("sum", self.raw)

    def _extreme(self, fn: str) -> Expression:
        if fn == "first":
            return self._call("arg_min", self.clean, self.ordinal)
        if fn == "last":
            return self._call("arg_max", self.clean, self.ordinal)
        if self.column.is_size_label:
            return self._call(f"arg_{fn}", self.raw, self._labelled_rank(fn))
        return self._call(fn, self.clean)

    def _labelled_rank(self, fn: str) -> Expression:
        """A label's number, and of labels that say the same number in two ways the first: 60M and 0.06B."""
        rank = self.scope.rank(self.column)
        place = self.ordinal if fn == "min" else exp.Neg(this=self.ordinal)
        known = exp.Not(this=exp.Is(this=rank.copy(), expression=exp.Null()))
        return exp.Case(ifs=[exp.If(this=known, true=exp.Array(expressions=[rank, place]))])

    def _spread(self, fn: str) -> Expression:
        """Sample standard deviation, variance, or standard error of the mean; null for fewer than two values.

        DuckDB refuses infinities here. With one among the values the spread is not a number, as IEEE 754 has it.
        """
        if fn == "sem":
            root = call("sqrt", self._finite(call("count", self.double)))
            spread: Expression = exp.Div(this=self._finite(call("stddev_samp", self.double)), expression=root)
        else:
            spread = self._finite(call(_SPREAD[fn], self.double))
        if not self.column.may_be_nan:
            return spread
        infinite = exp.GT(this=self._filtered(call("count", exp.Star()), call("isinf", self.raw)), expression=number(0))
        several = exp.GT(this=self._call("count", self.clean), expression=number(1))
        case = exp.If(this=exp.and_(infinite, several), true=nan())
        return exp.Case(ifs=[case], default=spread)

    def _finite(self, aggregate: Expression) -> Expression:
        if not self.column.may_be_nan:
            return self._filtered(aggregate)
        return self._filtered(aggregate, exp.Not(this=call("isinf", self.raw)))

    def _quantile(self, share: float) -> Expression:
        if math.isclose(share, 0.5):
            return self._call("median", self.double)
        return self._call("quantile_cont", self.double, exp.Literal.number(repr(share)))


def cell_type(pivot: PlannedPivot) -> str:
    """The DuckDB type of a pivot's cells."""
    if pivot.fn is not None:
        return output_type(pivot.fn, Measure(pivot.cell))
    if pivot.unique or not (pivot.cell.kind.is_numeric or pivot.cell.kind is Kind.BOOLEAN):
        return pivot.cell.sql_type
    return "DOUBLE"


def compile_cell(pivot: PlannedPivot, scope: Scope, ordinal: Expression) -> Expression:
    """What stands in one cell of a pivot whose rows may repeat.

    Without an aggregate the value of a single row is kept as it is (NaN too); of several numbers the mean is taken,
    of several other values the first.
    """
    measure = Measure(pivot.cell)
    if pivot.fn is not None:
        return compile_aggregate(PlannedAggregate(pivot.fn, measure, ""), scope, ordinal)
    value = scope.value(pivot.cell)
    if pivot.unique:
        return call("first", value)
    if not (pivot.cell.kind.is_numeric or pivot.cell.kind is Kind.BOOLEAN):
        return compile_aggregate(PlannedAggregate("first", measure, ""), scope, ordinal)
    single = call("first", cast(cast(value, "INTEGER") if pivot.cell.kind is Kind.BOOLEAN else value, "DOUBLE"))
    mean = compile_aggregate(PlannedAggregate("mean", measure, ""), scope, ordinal)
    one = exp.EQ(this=call("count", exp.Star()), expression=number(1))
    return exp.Case(ifs=[exp.If(this=one, true=single)], default=mean)
