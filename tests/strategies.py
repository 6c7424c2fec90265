"""Hypothesis strategies: small tables full of awkward values, and valid requests about them.

Cells come from a small palette per column, so that ties, duplicates and groups of several rows are common. Nothing
here runs a query; ``reference.py`` says what the answer is.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from queries.request import (
    FUNCTIONS,
    PERCENTILES,
    Aggregate,
    And,
    BestBy,
    Condition,
    Not,
    Operator,
    Or,
    QueryRequest,
    SortKey,
    Where,
)
from queries.schema import Column as SchemaColumn
from queries.schema import Derivation, Lookup, MetricInfo, Product, Role, Schema, SizeLabel
from tests.reference import (
    Approximate,
    Column,
    Derived,
    Frame,
    Table,
    grouped,
    identity,
    is_nan,
    label_number,
    named,
    summary,
)


def properties(examples: int) -> settings:
    """The settings of a property: the same examples in every run, however slow the machine."""
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )


#: Column names that a careless parser or compiler trips over.
AWKWARD_NAMES = (
    "a b", 'quo"te', "select", "limit", "ünï", "a__lt", "c.x", "it's", "100%", "semi;colon", "a,b", "(x)", "-minus",
    "ordinal", "rowid", "back\\slash", "line\nbreak", "日本", "sort", "?", "$1", "__in", "order", "total",
    "file_row_number", "count", "mean",
)  # fmt: skip

STRINGS = (
    "", " ", "a", "A", "b", "ab", "abc", "é", "e\u0301", "ß", "日本", "😀", "O'Brien", '"quoted"', "100%", "a%b_c", "_",
    "%", "back\\slash", "\\", "new\nline", "tab\t", "'; DROP TABLE t; --", "1 OR 1=1", '" OR ""="', "a,b", "(x, y)",
    "(", "[1]", "null", "NaN", "NULL", "true", "0", "-1", "*", "?", "[a]", "a*c", "$1", "{x}", ":x",
    "DCLM-Baseline (QC 7%, FW3)", "DCLM-Baseline 25% / Dolma 75%", "Dolma1.6++", "x" * 300, "a+b", " padded ",
    "Z", "z", "\u202eoverride", "nul\x00byte",
)  # fmt: skip

SIZE_LABELS = ("4M", "60M", "60m", "0.06B", "150M", "1B", "1.4b", "10M", "530K", "2T", "1000M")

FLOATS = (
    0.0, -0.0, 1.0, 1.5, -2.25, 3.0, 100.0, 0.1, 0.2, 0.3, -0.7, 1e16, 1e-300, 5e-324, 1e300, -1e300, 2.0**53,
    math.inf, -math.inf, math.nan, 1 / 3,
)  # fmt: skip
FLOATS_32 = (0.0, -0.0, 1.0, 1.5, -2.25, 3.0, 16777216.0, math.inf, -math.inf, math.nan, 0.10000000149011612)

_INTEGER_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
_SMALL_INTEGERS = (0, 1, 2, 3, 5, 10, 100)


def _integers(sql_type: str) -> tuple[int, ...]:
    if sql_type.startswith("U"):
        top = 2 ** _INTEGER_BITS[sql_type[1:]]
        bottom, found = 0, (*_SMALL_INTEGERS, top - 1, top // 2, 2**53 + 1)
    else:
        top = 2 ** (_INTEGER_BITS[sql_type] - 1)
        bottom, found = -top, (*_SMALL_INTEGERS, -1, -7, -top, 2**53, 2**53 + 1, -(2**53) - 1, top - 1)
    return tuple(dict.fromkeys(value for value in found if bottom <= value < top))


_MOMENTS = (
    dt.datetime(1970, 1, 1),  # noqa: DTZ001  a column without a zone
    dt.datetime(2024, 2, 29, 23, 59, 59, 999_999),  # noqa: DTZ001
    dt.datetime(1969, 12, 31, 23, 59, 59),  # noqa: DTZ001
    dt.datetime(2024, 3, 1, 12, 30),  # noqa: DTZ001
)

PALETTES: Mapping[str, Sequence[Any]] = {
    **{name: _integers(name) for name in _INTEGER_BITS},
    **{f"U{name}": _integers(f"U{name}") for name in _INTEGER_BITS},
    "FLOAT": FLOATS_32,
    "DOUBLE": FLOATS,
    "DECIMAL(10,2)": tuple(map(Decimal, ("0.00", "1.10", "1.25", "-3.50", "99999999.99", "0.01", "-0.01"))),
    "DECIMAL(38,0)": tuple(map(Decimal, (0, 1, 2**53 + 1, 2**64 + 1, -(10**35), 10**36 + 1, 2**100))),
    "BOOLEAN": (False, True),
    "VARCHAR": STRINGS,
    "DATE": (dt.date(1970, 1, 1), dt.date(2024, 2, 29), dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.date(2024, 3, 1)),
    "TIMESTAMP": _MOMENTS,
    "TIMESTAMP_NS": _MOMENTS,
    "TIMESTAMP WITH TIME ZONE": (
        dt.datetime(1970, 1, 1, tzinfo=dt.UTC),
        dt.datetime(2024, 2, 29, 23, 59, 59, 999_999, tzinfo=dt.UTC),
        dt.datetime(2024, 3, 31, 1, 30, tzinfo=dt.UTC),
    ),
    "TIME": (dt.time(0, 0), dt.time(23, 59, 59, 999_999), dt.time(12, 30)),
    "UUID": (uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), uuid.UUID("12345678-1234-5678-1234-567812345678")),
    "BLOB": (b"", b"\x00\xff", b"'; --"),
    "HUGEINT": (0, 1, 2**64, -(2**70), 2**126),
    "INTEGER[]": ([], [1], [1, None, 2]),
}

TEXT_OPERATORS = (Operator.CONTAINS, Operator.STARTSWITH, Operator.ENDSWITH, Operator.GLOB)
OPERATORS = tuple(op for op in Operator if op not in (*TEXT_OPERATORS, Operator.ISNULL))
ORDER_OPERATORS = (Operator.LT, Operator.LTE, Operator.GT, Operator.GTE, Operator.BETWEEN)


# --- tables -----------------------------------------------------------------------------------------------------------


@st.composite
def cells(draw: st.DrawFn, column: Column, count: int, *, wide: bool = False) -> list[Any]:
    """``count`` cells from a palette of at most five values; ``wide`` takes any value of the type for each."""
    everything = SIZE_LABELS if column.is_size_label else PALETTES[column.sql_type]
    if column.role == "metric":
        everything = [name for name, _ in METRICS]
    palette = everything if wide else draw(st.lists(st.sampled_from(everything), min_size=1, max_size=5))
    nullable = column.role != "metric" and draw(st.booleans())
    one = st.sampled_from([*palette, None]) if nullable else st.sampled_from(palette)
    return draw(st.lists(one, min_size=count, max_size=count))


EXTRA_TYPES = tuple(name for name in PALETTES if name != "HUGEINT")  # parquet has none; sums are


METRICS = (("pile-valppl", "lower"), ("acc", "higher"), ("it's, (a) 100%", "higher"), ("loss", "lower"))
EXACT_SIZES = (("60M", 57_078_144), ("1B", 1_176_832_000), ("4M", 3_744_832))
HALF_SIZES = (("60M", 0.5), ("1.4b", 1e300), ("4M", -0.25))


@st.composite
def tables(draw: st.DrawFn, *, max_rows: int = 30, extras: Sequence[str] = EXTRA_TYPES, max_extras: int = 5) -> Table:
    """A table with the columns of an experiment and a few of any type with awkward names.

    Long or wide, with or without seeds, with the columns that a definition may derive.
    """
    is_long = draw(st.integers(0, 2)) == 0
    value_types = ["DOUBLE", "FLOAT", "DOUBLE", "FLOAT", "BIGINT", "DECIMAL(10,2)"]
    columns = [
        Column("params", "VARCHAR", "dimension", is_size_label=True),
        Column("data", "VARCHAR", "dimension"),
        Column("seed", "BIGINT", "seed"),
        Column("step", draw(st.sampled_from(["BIGINT", "DOUBLE", "INTEGER"])), "axis"),
        Column("value", draw(st.sampled_from(value_types)), "measure"),
    ]
    if is_long:
        columns.append(Column("metric", "VARCHAR", "metric"))
    else:
        columns[-1] = replace(columns[-1], direction=draw(st.sampled_from(["lower", "higher"])))
    if draw(st.booleans()):
        del columns[2]
    names = draw(st.lists(st.sampled_from(AWKWARD_NAMES), max_size=max_extras, unique=True))
    columns += [Column(name, draw(st.sampled_from(extras))) for name in names]
    count = draw(st.sampled_from([size for size in (8, 15, 30, 4, 2, 1, 0) if size <= max_rows]))
    filled = {column.name: draw(cells(column, count)) for column in columns}
    rows = tuple({name: values[at] for name, values in filled.items()} for at in range(count))
    # A column of sizes is known by its values; one without any is a column of texts.
    sized = any(value is not None for value in filled["params"])
    columns = [
        replace(column, is_size_label=column.is_size_label and sized) for column in draw(st.permutations(columns))
    ]
    derived = draw(derivations(sized=sized, product=next(one for one in columns if one.name == "value").is_numeric))
    return Table(tuple(columns), rows, derived=derived, directions=METRICS if is_long else ())


@st.composite
def derivations(draw: st.DrawFn, *, sized: bool, product: bool) -> tuple[Derived, ...]:
    found: list[Derived] = []
    if draw(st.booleans()):
        sizes: tuple[tuple[str, int | float], ...] = draw(st.sampled_from([EXACT_SIZES, HALF_SIZES]))
        sql_type = "BIGINT" if sizes == EXACT_SIZES else "DOUBLE"
        found.append(Derived(Column("params_exact", sql_type, "axis"), "lookup", ("params",), sizes))
        if product and draw(st.booleans()):
            sources = draw(st.sampled_from([("params_exact", "step"), ("value",), ("step", "value")]))
            found.append(Derived(Column("compute", "DOUBLE", "axis"), "product", sources, factor=6.0))
    if sized:  # this one goes without saying
        found.append(Derived(Column("params_numeric", "BIGINT", "axis"), "size_label", ("params",)))
    return tuple(found)


# --- filters ----------------------------------------------------------------------------------------------------------


def spelled(value: Any, column: Column) -> SearchStrategy[Any]:
    """A typed value as someone may write it: as it is, or as text."""
    if isinstance(value, bool):
        return st.sampled_from([value, str(value).lower()])
    if isinstance(value, float):
        return st.sampled_from([value, repr(value)])
    if isinstance(value, int):
        plain = [value, str(value)]
        return st.sampled_from([*plain, f"{value // 10}e1"] if value and value % 10 == 0 else plain)
    if isinstance(value, Decimal):
        return st.sampled_from([value, str(value)])
    if isinstance(value, dt.date | dt.time):
        return st.sampled_from([value, value.isoformat()])
    if isinstance(value, uuid.UUID):
        return st.sampled_from([value, str(value)])
    if column.is_size_label:
        return st.sampled_from([value, label_number(value), value.lower()])
    return st.just(value)


@st.composite
def values_for(draw: st.DrawFn, column: Column, table_cells: Sequence[Any], *, nan: bool = True) -> Any:
    """A value to compare the column with: mostly one of its own."""
    everything = SIZE_LABELS if column.is_size_label else PALETTES[column.sql_type]
    own = [cell for cell in table_cells if cell is not None]
    own = [cell for cell in own if acceptable(cell, nan=nan)]
    pool: Sequence[Any] = own if own and draw(st.integers(0, 4)) else everything
    pool = [value for value in pool if acceptable(value, nan=nan)]
    if column.is_integer and draw(st.integers(0, 9)) == 0:
        pool = BEYOND  # a value need not fit the column's type to be compared with
    return draw(spelled(draw(st.sampled_from(pool)), column))


def acceptable(value: Any, *, nan: bool) -> bool:
    """Whether a value can be asked for: no NUL is taken, and no order has a place for NaN."""
    return "\0" not in value if isinstance(value, str) else nan or not is_nan(value)


BEYOND = (2**63, -(2**63) - 1, 2**64, 300, -1, 2**126)


def escaped_glob(text: str) -> str:
    """A pattern that matches exactly this text."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in text if char != "\\")


@st.composite
def patterns(draw: st.DrawFn, text: str) -> str:
    """A glob that has something to do with ``text``."""
    if not text or draw(st.integers(0, 4)) == 0:
        return draw(st.sampled_from(["*", "?", "a*", "*b*", "[a-c]*", "[!a]*", "?b?", "", "[ab][bc]*"]))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, len(text)))
    middle = draw(st.sampled_from(["*", "?" * (end - start), "*?" if end > start else "*"]))
    return escaped_glob(text[:start]) + middle + escaped_glob(text[end:])


@st.composite
def conditions(draw: st.DrawFn, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Condition:
    """One valid condition, its values mostly from the data."""
    column = draw(st.sampled_from(columns))
    table_cells = [row[column.name] for row in rows]
    table_cells = [cell.value if isinstance(cell, Approximate) else cell for cell in table_cells]
    ops: list[Operator] = [Operator.ISNULL]
    if not column.is_opaque:
        ops += OPERATORS
        if column.sql_type == "VARCHAR":
            ops += TEXT_OPERATORS
    op = draw(st.sampled_from(ops))
    if op is Operator.ISNULL:
        return Condition(col=column.name, op=op, value=draw(st.sampled_from([True, False, None, "true", "0"])))
    partners = [other for other in columns if comparable_with(column, other)]
    if op.compares and partners and draw(st.integers(0, 4)) == 0:
        return Condition(col=column.name, op=op, ref=draw(st.sampled_from(partners)).name)
    nan = op not in ORDER_OPERATORS
    one = values_for(column, table_cells, nan=nan)
    if op is Operator.BETWEEN:
        return Condition(col=column.name, op=op, value=(draw(one), draw(one)))
    if op.takes_list:
        return Condition(col=column.name, op=op, value=tuple(draw(st.lists(one, min_size=1, max_size=4))))
    value = draw(one)
    if op in TEXT_OPERATORS:
        value = str(value)
    if op is Operator.GLOB:
        value = draw(patterns(value))
    elif op in TEXT_OPERATORS:
        start = draw(st.integers(0, len(value)))
        value = value[start : draw(st.integers(start, len(value)))]
    return Condition(col=column.name, op=op, value=value)


def comparable_with(left: Column, right: Column) -> bool:
    if left.is_size_label or right.is_size_label:
        return left.is_size_label and right.is_size_label and left.name != right.name
    if left.name == right.name or left.is_opaque:
        return False
    if left.sql_type == right.sql_type or (left.is_numeric and right.is_numeric):
        return True
    return {left.sql_type, right.sql_type} <= {"DATE", "TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE"}


def trees(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], depth: int = 3) -> SearchStrategy[Where]:
    """A tree of at most ``depth`` levels of and, or and not over conditions."""
    leaf = conditions(columns, rows)
    if depth <= 1:
        return leaf
    part = trees(columns, rows, depth - 1)
    parts = st.lists(part, min_size=1, max_size=3).map(tuple)
    return st.one_of(
        leaf,
        parts.map(lambda found: And(and_=found)),
        parts.map(lambda found: Or(or_=found)),
        part.map(lambda found: Not(not_=found)),
    )


def maybe(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


def wheres(table: Table) -> SearchStrategy[Where | None]:
    return maybe(trees(table.every_column, table.full_rows()))


# --- requests ---------------------------------------------------------------------------------------------------------

DATASET = "t"

limits = st.sampled_from([None, None, None, None, 1, 3, 10, 0])
offsets = st.sampled_from([0, 0, 0, 0, 0, 0, 1, 3, 40])


def usable(columns: Sequence[Column]) -> list[Column]:
    """The columns that can be sorted and grouped by."""
    return [column for column in columns if not column.is_opaque]


@st.composite
def sorts(draw: st.DrawFn, columns: Sequence[Column], max_size: int = 3) -> tuple[SortKey, ...]:
    names = draw(
        st.lists(st.sampled_from([c.name for c in usable(columns)]), unique=True, min_size=0, max_size=max_size)
    )
    return tuple(SortKey(col=name, desc=draw(st.booleans())) for name in names)


@st.composite
def picked(draw: st.DrawFn, columns: Sequence[Column], *, min_size: int = 1, max_size: int = 3) -> tuple[str, ...]:
    names = [column.name for column in columns]
    return tuple(draw(st.lists(st.sampled_from(names), unique=True, min_size=min_size, max_size=max_size)))


@st.composite
def row_requests(draw: st.DrawFn, table: Table) -> QueryRequest:
    """Rows as they are: filters, the last or best of each group, columns, distinct, sort and paging."""
    select = draw(maybe(picked(table.every_column, max_size=4)))
    distinct = draw(st.booleans())
    sortable = table.every_column
    if distinct:
        names = select or [column.name for column in table.columns]
        select = tuple(name for name in names if not table.column(name).is_opaque) or ("data",)
        sortable = tuple(table.column(name) for name in select)
    keys = draw(picked(usable(table.every_column), max_size=2))
    choice = draw(st.sampled_from(["none", "none", "last", "best"]))
    return QueryRequest(
        dataset=DATASET,
        select=select,
        where=draw(wheres(table)),
        distinct=distinct,
        last_by=keys if choice == "last" else (),
        best_by=draw(bests(table, keys)) if choice == "best" else None,
        sort=draw(sorts(sortable)) if usable(sortable) else (),
        limit=draw(limits),
        offset=draw(offsets),
        strict=False,
    )


@st.composite
def bests(draw: st.DrawFn, table: Table, keys: tuple[str, ...]) -> BestBy:
    """The best of each group; the direction is left out only where it is known."""
    col = draw(maybe(st.sampled_from([column.name for column in usable(table.every_column)])))
    if col is not None:
        return BestBy(by=keys, col=col, desc=draw(st.booleans()))
    if table.metric is not None and table.metric.name not in keys:
        keys = (*keys, table.metric.name)  # of some metrics the least is best, of others the most
    return BestBy(by=keys)


def functions_for(column: Column) -> tuple[str, ...]:
    if column.is_opaque:
        return ("count",)
    if column.is_numeric or column.sql_type == "BOOLEAN":
        return (*FUNCTIONS, *PERCENTILES[4:99:5])
    return ("count", "min", "max", "first", "last", "nunique")


@st.composite
def aggregates(draw: st.DrawFn, table: Table, keys: Sequence[str]) -> tuple[Aggregate, ...]:
    """Up to four aggregates whose names differ from each other and from the keys'."""
    found: dict[str, Aggregate] = {}
    metrics = sorted({str(row[table.metric.name]) for row in table.rows}) if table.metric is not None else []
    assert table.measure is not None
    for _ in range(draw(st.integers(0, 4))):
        column = draw(st.sampled_from([*table.every_column, *metrics]))
        if draw(st.booleans()):
            asked = Aggregate(fn=draw(st.sampled_from(functions_for(table.measure))))
        elif isinstance(column, str):
            asked = Aggregate(fn=draw(st.sampled_from(functions_for(table.measure))), col=column)
        else:
            asked = Aggregate(fn=draw(st.sampled_from(functions_for(column))), col=column.name)
        if draw(st.integers(0, 3)) == 0:
            asked = Aggregate(fn=asked.fn, col=asked.col, as_=draw(st.sampled_from(["x", "it's", 'my "mean"', "π"])))
        if named(asked) not in keys:
            found.setdefault(named(asked), asked)
    return tuple(found.values())


@st.composite
def group_requests(draw: st.DrawFn, table: Table) -> QueryRequest:
    """Groups and what is known of each, with a condition on the result."""
    keys = draw(picked(usable(table.every_column), min_size=0, max_size=2))
    aggs = draw(aggregates(table, keys))
    if not keys and not aggs:
        aggs = (Aggregate(fn="mean"),)
    asked = aggs or tuple(Aggregate(fn=fn) for fn in ("mean", "std", "count"))
    rows = table.full_rows()
    columns, values = summary(rows, asked, table, keys)
    frame = Frame((*(table.column(name) for name in keys), *columns), [{**row, **values} for row in rows])
    return QueryRequest(
        dataset=DATASET,
        select=draw(maybe(picked(frame.columns, max_size=4))),
        where=draw(wheres(table)),
        group_by=keys,
        aggs=aggs,
        having=draw(maybe(trees(having_columns(frame), frame.rows, depth=2))),
        sort=draw(sorts(frame.columns)),
        limit=draw(limits),
        offset=draw(offsets),
        strict=False,
    )


def having_columns(frame: Frame) -> list[Column]:
    return [column for column in frame.columns if column.sql_type in PALETTES]


@st.composite
def pivot_requests(draw: st.DrawFn, table: Table) -> QueryRequest:
    """Long to wide, of rows or of groups."""
    plain = usable(table.every_column)
    if draw(st.booleans()):
        keys = draw(picked(plain, max_size=3))
        aggs = draw(aggregates(table, keys))
        values = draw(maybe(st.sampled_from([named(one) for one in aggs]))) if aggs else None
        return QueryRequest(
            dataset=DATASET,
            where=draw(wheres(table)),
            group_by=keys,
            aggs=aggs,
            pivot=draw(st.sampled_from(keys)),
            pivot_values=values,
            limit=draw(limits),
            offset=draw(offsets),
            strict=False,
        )
    across = draw(st.sampled_from(plain)).name
    values = draw(maybe(st.sampled_from([column.name for column in plain if column.name != across])))
    if across == "value":
        values = values or "step"
    keys = draw(picked([column for column in plain if column.name not in (across, values or "value")], max_size=2))
    cell = table.column(values or "value")
    return QueryRequest(
        dataset=DATASET,
        select=keys,
        where=draw(wheres(table)),
        aggs=(Aggregate(fn=draw(st.sampled_from(functions_for(cell)))),) if draw(st.integers(0, 3)) == 0 else (),
        pivot=across,
        pivot_values=values,
        sort=draw(sorts([table.column(name) for name in keys])),
        limit=draw(limits),
        offset=draw(offsets),
        strict=False,
    )


@st.composite
def default_pivots(draw: st.DrawFn, table: Table) -> tuple[Table, QueryRequest]:
    """A pivot that leaves its rows to the declared key, with a sort by one of the columns that it makes."""
    dimensions = [one for one in table.columns if one.role in ("dimension", "axis", "seed", "metric")]
    key = draw(picked(dimensions, max_size=len(dimensions)))
    rows = tuple(members[0] for members in grouped(table.rows, key).values())
    # Without a size that is left, the column would be one of texts.
    assume(not table.column("params").is_size_label or any(row["params"] is not None for row in rows))
    keyed = replace(table, key=key, rows=rows)
    across = draw(st.sampled_from([one for one in usable(table.every_column) if one.name != "value"]))
    heads = [row[across.name] for row in keyed.full_rows()]
    sort = []
    if heads and across.sql_type in ("VARCHAR", "BIGINT", "INTEGER"):
        head = draw(st.sampled_from(heads))
        sort = [SortKey(col="null" if head is None else str(head), desc=draw(st.booleans()))]
    return keyed, QueryRequest(dataset=DATASET, pivot=across.name, sort=tuple(sort), limit=draw(limits))


def requests(table: Table) -> SearchStrategy[QueryRequest]:
    return st.one_of(row_requests(table), group_requests(table), pivot_requests(table))


# --- what the planner wants to know of a table ------------------------------------------------------------------------


@dataclass(frozen=True)
class TableIndex:
    """The ``ValueIndex`` of a table in memory."""

    table: Table

    def values(self, column: str) -> frozenset[object] | None:
        return frozenset(row[column] for row in self.table.rows if row[column] is not None)

    def key(self) -> tuple[str, ...]:
        return ()

    def determined_by(self, keys: Sequence[str], columns: Sequence[str]) -> frozenset[str]:
        return frozenset(column for column in columns if self._follows(keys, column))

    def _follows(self, keys: Sequence[str], column: str) -> bool:
        found: dict[tuple[object, ...], set[object]] = {}
        for row in self.table.rows:
            found.setdefault(tuple(identity(row[key]) for key in keys), set()).add(identity(row[column]))
        return all(len(values) == 1 for values in found.values())


def schema_of(table: Table) -> Schema:
    """The planner's view of a table, as a definition that gives every column its role would make it."""
    columns: dict[str, SchemaColumn] = {}
    for column in table.every_column:
        columns[column.name] = SchemaColumn(
            column.name,
            column.sql_type,
            role=Role(column.role),
            direction=column.direction,
            is_size_label=column.is_size_label,
            role_source="definition",
        )
    for one in table.derived:
        derivation: Derivation
        if one.kind == "size_label":
            derivation = SizeLabel(one.sources[0])
        elif one.kind == "lookup":
            derivation = Lookup(one.sources[0], one.table)
        else:
            derivation = Product(tuple(columns[name] for name in one.sources), one.factor)
        columns[one.column.name] = replace(columns[one.column.name], derivation=derivation)
    return Schema(
        DATASET,
        tuple(columns.values()),
        key=table.key,
        metric_column=table.metric.name if table.metric is not None else None,
        value_column="value" if table.metric is not None else None,
        metrics=tuple(MetricInfo(name, direction) for name, direction in table.directions),
        index=TableIndex(table),
    )


# --- spellings --------------------------------------------------------------------------------------------------------


def json_where(where: Where | None) -> Any:
    """A tree of conditions as the JSON of a body; values that JSON has no type for as text."""
    match where:
        case None:
            return None
        case And(and_=parts):
            return {"and": [json_where(part) for part in parts]}
        case Or(or_=parts):
            return {"or": [json_where(part) for part in parts]}
        case Not(not_=part):
            return {"not": json_where(part)}
        case Condition(col=col, op=op, ref=ref) if ref is not None:
            return {"col": col, "op": op.value, "ref": ref}
        case Condition(col=col, op=op, value=value):
            if op is Operator.ISNULL:
                return {"col": col, "op": op.value} if value is None else {"col": col, "op": op.value, "value": value}
            return {"col": col, "op": op.value, "value": json_value(value)}


def json_value(value: Any) -> Any:
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    if isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return plain_text(value)


def plain_text(value: Any) -> str:
    """A value as one types it into a URL."""
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def json_body(request: QueryRequest) -> dict[str, Any]:
    """The body of ``POST /api/query``, written by hand from SPEC 2.3."""
    body: dict[str, Any] = {"dataset": request.dataset}
    body["where"] = json_where(request.where)
    body["having"] = json_where(request.having)
    body["aggs"] = [{"fn": one.fn, "col": one.col, "as": one.as_} for one in request.aggs]
    body["sort"] = [{"col": key.col, "desc": key.desc} for key in request.sort]
    if request.best_by is not None:
        body["best_by"] = {"by": list(request.best_by.by), "col": request.best_by.col, "desc": request.best_by.desc}
    for name in ("select", "group_by", "last_by", "facets"):
        if getattr(request, name):
            body[name] = list(getattr(request, name))
    for name in ("limit", "offset", "pivot", "pivot_values", "distinct", "strict", "total"):
        body[name] = getattr(request, name)
    return body


def flat_conditions(where: Where | None) -> list[Condition] | None:
    """The conditions that a URL's parameters can say, each key at most once; None when there are others."""
    parts: Iterable[Where] = () if where is None else where.and_ if isinstance(where, And) else (where,)
    found = []
    for part in parts:
        if not isinstance(part, Condition) or part.ref is not None:
            return None
        found.append(part)
    keys = [(part.col, part.op) for part in found]
    return found if len(set(keys)) == len(keys) else None


def json_list(values: Iterable[str]) -> str:
    return json.dumps(list(values), ensure_ascii=False)


def url_pairs(request: QueryRequest) -> list[tuple[str, str]] | None:
    """The URL spelling, written by hand from SPEC 2.1 and 2.2; None when there is none.

    Every list is a JSON array and every filter has its suffix: the spelling that needs no rule about commas.
    """
    filters, having = flat_conditions(request.where), flat_conditions(request.having)
    if filters is None or having is None or any(one.as_ for one in request.aggs):
        return None
    pairs = [(f"c.{one.col}__{one.op.value}", url_value(one)) for one in filters]
    pairs += [(f"having.{one.col}__{one.op.value}", url_value(one)) for one in having]
    for name in ("select", "group_by", "last_by", "facets"):
        if getattr(request, name):
            pairs.append((name, json_list(getattr(request, name))))
    if request.aggs:
        pairs.append(("agg", json_list(one.fn if one.col is None else f"{one.fn}:{one.col}" for one in request.aggs)))
    if any(key.col.startswith("-") for key in request.sort):
        return None  # a minus in front of it would be ambiguous to this simple hand
    if request.sort:
        pairs.append(("sort", json_list(f"-{key.col}" if key.desc else key.col for key in request.sort)))
    if request.best_by is not None:
        if request.best_by.col is not None:
            return None
        pairs.append(("best_by", json_list(request.best_by.by)))
    for name in ("pivot", "pivot_values", "limit"):
        if getattr(request, name) is not None:
            pairs.append((name, str(getattr(request, name))))
    pairs.append(("offset", str(request.offset)))
    pairs += [(name, str(int(getattr(request, name)))) for name in ("distinct", "strict", "total")]
    return pairs


def url_value(one: Condition) -> str:
    if one.op is Operator.ISNULL:
        return "" if one.value is None else plain_text(one.value)
    if one.op.takes_list:
        return json_list(plain_text(value) for value in one.value)
    return plain_text(one.value)
