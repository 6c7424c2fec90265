"""Two schemas that planner and compiler are tried on, and short ways to write requests. Needs no database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from queries.plan import Plan
from queries.planner import plan_query
from queries.request import Aggregate, And, Condition, Not, Operator, Or, QueryRequest, SortKey, Where
from queries.schema import Column, Lookup, MetricInfo, Product, Role, Schema, SizeLabel

SIZES = frozenset({"60M", "60m", "150M", "1B"})
RECIPES = frozenset({"C4", "Dolma1.7", "DCLM-Baseline (QC 7%, FW3)", "Dolma1.6++"})
METRICS = frozenset({"pile-valppl", "c4-valppl", "acc", "odd"})


class Values:
    """What the data would say: a few values, and a key."""

    def __init__(self, values: dict[str, frozenset[object]], key: tuple[str, ...], follows: Sequence[str] = ()) -> None:
        self._values, self._key, self._follows = values, key, frozenset(follows)

    def values(self, column: str) -> frozenset[object] | None:
        return self._values.get(column)

    def key(self) -> tuple[str, ...]:
        return self._key

    def determined_by(self, keys: Sequence[str], columns: Sequence[str]) -> frozenset[str]:
        return self._follows & set(columns) if "step" in keys else frozenset()


_EXACT = Lookup("params", (("60M", 57_078_144), ("150M", 151_898_880), ("1B", 1_176_832_000)))
_PARAMS_EXACT = Column("params_exact", "BIGINT", Role.AXIS, unit="parameters", derivation=_EXACT)
_TOKENS = Column("tokens", "BIGINT", Role.AXIS, unit="tokens")

#: Long form: one row per size, recipe, seed, step and metric.
LONG = Schema(
    "sweep",
    (
        Column("params", "VARCHAR", Role.DIMENSION, aliases=("model_size",), is_size_label=True),
        Column("data", "VARCHAR", Role.DIMENSION, aliases=("data_source", "recipe")),
        Column("seed", "INTEGER", Role.SEED),
        Column("step", "BIGINT", Role.AXIS, unit="steps"),
        _TOKENS,
        Column("metric", "VARCHAR", Role.METRIC),
        Column("value", "DOUBLE", Role.MEASURE),
        Column("note", "VARCHAR"),
        Column("params_numeric", "BIGINT", Role.AXIS, derivation=SizeLabel("params")),
        _PARAMS_EXACT,
        Column("compute", "DOUBLE", Role.AXIS, unit="FLOP", derivation=Product((_PARAMS_EXACT, _TOKENS), 6.0)),
    ),
    key=("params", "data", "seed", "metric", "step"),
    metric_column="metric",
    value_column="value",
    metrics=(MetricInfo("*-valppl", "lower", "perplexity"), MetricInfo("acc", "higher", "accuracy")),
    index=Values(
        {"params": SIZES, "data": RECIPES, "metric": METRICS, "seed": frozenset({0, 1, 2})},
        ("params", "data", "seed", "metric", "step"),
        ("tokens",),
    ),
)

#: Wide form: a column of each type that is treated in a way of its own, and names that are awkward in SQL.
WIDE = Schema(
    "runs",
    (
        Column("name", "VARCHAR", Role.DIMENSION),
        Column("step", "INTEGER", Role.AXIS),
        Column("total_steps", "INTEGER", Role.AXIS),
        Column("loss", "FLOAT", Role.MEASURE, direction="lower", unit="nats"),
        Column("acc", "DOUBLE", Role.MEASURE, direction="higher"),
        Column("time", "DOUBLE", Role.MEASURE),
        Column("price", "DECIMAL(10,2)"),
        Column("tiny", "TINYINT"),
        Column("done", "BOOLEAN"),
        Column("day", "DATE"),
        Column("at", "TIMESTAMP WITH TIME ZONE"),
        Column("exact_at", "TIMESTAMP_NS"),
        Column("spent", "INTERVAL"),
        Column("raw", "BLOB"),
        Column("flags", "VARCHAR[]"),
        Column('say "hi"', "BIGINT"),
        Column("count", "BIGINT"),
        Column("_ordinal", "BIGINT"),
    ),
)


def is_(col: str, value: Any = None, op: str = "eq", *, ref: str | None = None) -> Condition:
    return Condition(col=col, op=Operator(op), value=value, ref=ref)


def every(*parts: Where) -> And:
    return And(and_=parts)


def some(*parts: Where) -> Or:
    return Or(or_=parts)


def not_(part: Where) -> Not:
    return Not(not_=part)


def by(*keys: str) -> tuple[SortKey, ...]:
    return tuple(SortKey(col=key.removeprefix("-"), desc=key.startswith("-")) for key in keys)


def aggs(*texts: str) -> tuple[Aggregate, ...]:
    """``mean``, ``max:step``, or ``max:step=peak`` under another name."""
    found = []
    for text in texts:
        call, _, name = text.partition("=")
        fn, _, col = call.partition(":")
        found.append(Aggregate(fn=fn, col=col or None, as_=name or None))
    return tuple(found)


def long(**fields: Any) -> QueryRequest:
    return QueryRequest(dataset="sweep", **fields)


def wide(**fields: Any) -> QueryRequest:
    return QueryRequest(dataset="runs", **fields)


def plan(request: QueryRequest, **more: Any) -> Plan:
    return plan_query(request, LONG if request.dataset == "sweep" else WIDE, **more)
