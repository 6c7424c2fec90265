"""Group keys and aggregates of a request, resolved: what is computed, and what the columns of the answer are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from queries.errors import GrammarError, TypeMismatchError, UnknownColumnError, nearest
from queries.plan import Measure, OutputColumn, PlannedAggregate, Slot
from queries.request import DEFAULT_FUNCTIONS, PERCENTILES, Aggregate, QueryRequest
from queries.schema import Column, Kind, Role, Schema
from queries.vocabulary import check_function

_NUMERIC_ONLY = frozenset({"sum", "mean", "median", "std", "var", "sem", *PERCENTILES})
_COUNTING = frozenset({"count", "nunique", "nulls", "nans", "seeds"})
_OF_THE_COLUMN = frozenset({"min", "max", "first", "last"})
_SMALL_INTEGERS = frozenset("TINYINT SMALLINT INTEGER UTINYINT USMALLINT UINTEGER BOOLEAN".split())


class Resolver(Protocol):
    """What this needs of the planner."""

    schema: Schema

    def bind(self, value: object) -> Slot: ...
    def find(self, name: str, param: str) -> Column: ...
    def columns(self, names: Sequence[str], param: str) -> tuple[Column, ...]: ...
    def describe(self, column: Column, metric: str | None = None) -> OutputColumn: ...


@dataclass(frozen=True, slots=True)
class GroupOutput:
    """One output of a grouping: as a column of its SQL, and as the user sees it."""

    column: Column
    shown: OutputColumn


@dataclass(frozen=True, slots=True)
class Grouping:
    """``outputs`` are the keys first, then what was asked for, then what stands behind the numbers."""

    schema: Schema
    keys: tuple[Column, ...]
    aggregates: tuple[PlannedAggregate, ...]
    outputs: tuple[GroupOutput, ...]
    canonical: list[list[Any]]

    def find(self, name: str, param: str) -> Column:
        """An output by the name that the user sees, or a key by its alias."""
        found = self.schema.find(name)
        for output in self.outputs:
            if output.shown.name == name:
                return output.column
        for key in self.keys:
            if found is not None and key.name == found.name:
                return key.computed
        names = [output.shown.name for output in self.outputs]
        raise UnknownColumnError(
            f"the grouped answer has no column {name!r}; it has {', '.join(names)}",
            param=param,
            value=name,
            did_you_mean=nearest(name, names),
        )


def plan_grouping(planner: Resolver, request: QueryRequest) -> Grouping:
    """Resolve ``group_by`` and ``aggs``; no ``aggs`` means mean, std and count."""
    keys = planner.columns(request.group_by, "group_by")
    for key in keys:
        if not key.kind.is_ordered:
            raise TypeMismatchError(f"{key.name} is {key.kind}; one groups by plain columns", param="group_by")
    return _Builder(planner, keys).build(request.aggs or tuple(Aggregate(fn=fn) for fn in DEFAULT_FUNCTIONS))


class _Builder:
    def __init__(self, planner: Resolver, keys: tuple[Column, ...]) -> None:
        self.planner = planner
        self.schema = planner.schema
        self.keys = keys
        self.aggregates: list[PlannedAggregate] = []
        self.outputs = [GroupOutput(key.computed, planner.describe(key)) for key in keys]
        self.canonical: list[list[Any]] = []
        self.names = {key.name for key in keys}
        self.aliases = {key.name.casefold() for key in keys}
        self.metrics: dict[str, Slot] = {}

    def build(self, asked: Sequence[Aggregate]) -> Grouping:
        measured: dict[tuple[str, str], tuple[Measure, str | None]] = {}
        counted: set[tuple[str, str]] = set()
        for one in asked:
            check_function(one.fn, param="agg")
            measure, metric = self._measure(one)
            self._add(one.fn, measure, metric, one)
            if measure is not None:
                key = (_suffix(one, measure, metric), metric or measure.column.name)
                measured.setdefault(key, (measure, metric))
                if one.fn == "count":
                    counted.add(key)
        for (suffix, _), (measure, metric) in measured.items():
            key = (suffix, metric or measure.column.name)
            fns = [*(["count"] if key not in counted else []), "nulls", "nans", *(["seeds"] if self._seed else [])]
            for fn in fns:
                self._companion(fn, measure, suffix)
        return Grouping(self.schema, self.keys, tuple(self.aggregates), tuple(self.outputs), self.canonical)

    @property
    def _seed(self) -> Column | None:
        return self.schema.seed

    def _measure(self, one: Aggregate) -> tuple[Measure | None, str | None]:
        """What one aggregate works on; None counts rows."""
        schema = self.schema
        if one.col is None:
            if schema.value_column is not None:
                return _checked(one, Measure(schema.by_name[schema.value_column])), None
            if len(schema.measures) == 1:
                return _checked(one, Measure(schema.measures[0])), None
            if one.fn == "count":
                return None, None
            names = [f"{one.fn}:{column.name}" for column in schema.measures]
            raise GrammarError(
                f"{schema.dataset} has {len(names)} measures, so say of which column: agg={one.fn}:COLUMN",
                param="agg",
                value=one.fn,
                did_you_mean=names[:3],
            )
        column = schema.find(one.col)
        if column is not None:
            return _checked(one, Measure(self.planner.find(one.col, "agg"))), None
        if schema.metric_column is not None and schema.value_column and one.col in schema.metric_names():
            if one.col not in self.metrics:
                self.metrics[one.col] = self.planner.bind(one.col)
            measure = Measure(
                schema.by_name[schema.value_column], schema.by_name[schema.metric_column], self.metrics[one.col]
            )
            return _checked(one, measure), one.col
        metrics = sorted(str(name) for name in schema.metric_names())
        raise UnknownColumnError(
            f"{schema.dataset} has no column and no metric {one.col!r}",
            param="agg",
            value=one.col,
            did_you_mean=nearest(one.col, [*schema.by_name, *schema.by_alias, *metrics]),
        )

    def _add(self, fn: str, measure: Measure | None, metric: str | None, one: Aggregate) -> None:
        plain = one.as_ or f"{fn}{_suffix(one, measure, metric)}"
        if plain in {key.name for key in self.keys} and one.as_ is None and measure is not None:
            plain = f"{fn}_{metric or measure.column.name}"
        if plain in self.names:
            raise GrammarError(f"two columns of the answer would be called {plain!r}", param="agg", value=plain)
        self._append(fn, measure, plain, own=one.as_ is None and metric is None)
        column = measure.column.name if measure else None
        # With the suffix: under a name of one's own it is what the companions' names still tell.
        self.canonical.append([fn, column, metric, plain, _suffix(one, measure, metric)])

    def _companion(self, fn: str, measure: Measure, suffix: str) -> None:
        name = f"{fn}{suffix}"
        if name in self.names:
            name = f"{fn}_{measure.column.name}"
        while name in self.names:
            name += "_"
        self._append(fn, measure, name, own=measure.metric is None)

    def _append(self, fn: str, measure: Measure | None, name: str, *, own: bool) -> None:
        """``own`` says that the name is made of our words and the schema's, so that SQL may show it."""
        alias = name if own and name.casefold() not in self.aliases else f"agg_{len(self.aggregates)}"
        while alias.casefold() in self.aliases:
            alias += "_"
        self.names.add(name)
        self.aliases.add(alias.casefold())
        seed = self._seed if fn == "seeds" else None
        self.aggregates.append(PlannedAggregate(fn, measure, alias, seed))
        sql_type = output_type(fn, measure)
        unit = direction = None
        if measure is not None and fn not in _COUNTING:
            shown = self.planner.describe(measure.column, self._metric_name(measure))
            unit = None if fn == "var" else shown.unit
            direction = None if fn in ("std", "var", "sem", "sum") else shown.direction
        column = Column(alias, sql_type, role=Role.MEASURE, nullable=fn not in _COUNTING)
        if measure is not None and measure.column.is_size_label and fn in _OF_THE_COLUMN:
            column = replace(column, is_size_label=True, labels_of=measure.column.name)
        self.outputs.append(GroupOutput(column, OutputColumn(name, sql_type, unit, direction)))

    def _metric_name(self, measure: Measure) -> str | None:
        return next((name for name, slot in self.metrics.items() if slot == measure.metric), None)


def _checked(one: Aggregate, measure: Measure) -> Measure:
    check_aggregate(one.fn, measure.column)
    return measure


def check_aggregate(fn: str, column: Column) -> None:
    """Raise GrammarError when there is no such aggregate, and TypeMismatchError when it does not fit the column."""
    check_function(fn, param="agg")
    fits = column.kind.is_numeric or column.kind is Kind.BOOLEAN
    if fn in _NUMERIC_ONLY and not fits:
        raise TypeMismatchError(
            f"{fn} needs numbers, and {column.name} is {column.kind}", param="agg", value=f"{fn}:{column.name}"
        )
    if fn != "count" and not column.kind.is_ordered:
        raise TypeMismatchError(
            f"{column.name} is {column.kind}, of which only count can be taken", param="agg", value=fn
        )


def _suffix(one: Aggregate, measure: Measure | None, metric: str | None) -> str:
    """What follows the function in a name: nothing when no column was named, or when it goes without saying."""
    unsaid = one.col is None or one.as_ == one.fn
    return "" if unsaid or measure is None else f"_{metric or measure.column.name}"


def output_type(fn: str, measure: Measure | None) -> str:
    """The DuckDB type of an aggregate."""
    if measure is None or fn in _COUNTING:
        return "BIGINT"
    sql_type = measure.column.sql_type
    if fn in _OF_THE_COLUMN:
        return sql_type
    if fn == "sum":
        if measure.column.kind is Kind.FLOAT or sql_type == "UHUGEINT":
            return "DOUBLE"
        if measure.column.kind is Kind.DECIMAL:
            return f"DECIMAL(38,{sql_type.rstrip(')').rpartition(',')[2].strip()})"
        return "BIGINT" if sql_type in _SMALL_INTEGERS else "HUGEINT"
    return "DOUBLE"
