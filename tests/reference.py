"""What a query should answer, worked out slowly and plainly in Python: the truth that the property tests hold up.

Written from SPEC and ``docs/query-language.md`` without a look at the planner, and it shares nothing with it but the
request types. It knows neither SQL nor Arrow, and it expects a valid request: errors are tested elsewhere.

Everything is exact but sums, means, spreads and percentiles. Those are computed with fractions and come out as an
:class:`Approximate`, which carries how far an answer in doubles may lie from it: a few ulps of the sum of the absolute
values (of the squares for ``var``), and nothing at all where doubles cannot round.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
import struct
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from queries.request import (
    DEFAULT_FUNCTIONS,
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

EPSILON = Fraction(1, 2**52)
TINIEST = Fraction(5e-324)
LARGEST = Fraction(1.7976931348623157e308)

INTEGERS = frozenset("TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT".split())
FLOATS = frozenset({"FLOAT", "DOUBLE"})

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    sql_type: str
    role: str = "attribute"
    is_size_label: bool = False
    direction: str | None = None

    @property
    def is_integer(self) -> bool:
        return self.sql_type in INTEGERS

    @property
    def is_float(self) -> bool:
        return self.sql_type in FLOATS

    @property
    def is_decimal(self) -> bool:
        return self.sql_type.startswith("DECIMAL")

    @property
    def is_numeric(self) -> bool:
        return self.is_integer or self.is_float or self.is_decimal

    @property
    def can_be_averaged(self) -> bool:
        return self.is_numeric or self.sql_type == "BOOLEAN"

    @property
    def is_opaque(self) -> bool:
        """Whether it can be tested for null, counted, and nothing else."""
        return self.sql_type == "BLOB" or self.sql_type.endswith("]")


@dataclass(frozen=True, slots=True)
class Derived:
    """A column that is computed: a ``size_label`` as a number, a ``lookup`` in a table, or a ``product``."""

    column: Column
    kind: str
    sources: tuple[str, ...]
    table: tuple[tuple[str, int | float], ...] = ()
    factor: float = 1.0

    def of(self, row: Row) -> Any:
        cells = [row[name] for name in self.sources]
        if any(cell is None for cell in cells):
            return None
        if self.kind == "size_label":
            return label_number(cells[0])
        if self.kind == "lookup":
            return dict(self.table).get(cells[0])
        return functools.reduce(lambda product, cell: product * float(cell), cells, self.factor)


@dataclass(frozen=True, repr=False)
class Table:
    """Rows in file order.

    ``key`` names the columns that tell rows apart, () when the definition says nothing. In long form a column has the
    role ``metric``, and ``directions`` says of each metric whether lower or higher is better.
    """

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    key: tuple[str, ...] = ()
    derived: tuple[Derived, ...] = ()
    directions: tuple[tuple[str, str], ...] = ()

    @property
    def every_column(self) -> tuple[Column, ...]:
        return (*self.columns, *(one.column for one in self.derived))

    def column(self, name: str) -> Column:
        return next(column for column in self.every_column if column.name == name)

    def full_rows(self) -> list[Row]:
        """The rows with their derived columns, one after the other, for one may need another."""
        rows = [dict(row) for row in self.rows]
        for row in rows:
            for one in self.derived:
                row[one.column.name] = one.of(row)
        return list(rows)

    def __repr__(self) -> str:
        columns = [
            f"{one.name!r} {one.sql_type} {one.role}{' sizes' * one.is_size_label} {one.direction or ''}".strip()
            for one in self.columns
        ]
        rows = [str(tuple(row[column.name] for column in self.columns)) for row in self.rows]
        return "\n  ".join(["Table", *columns, *map(str, self.derived), *rows])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What hypothesis shows of a failing case."""
        printer.text(repr(self))

    @property
    def measure(self) -> Column | None:
        """The one measure, when there is exactly one."""
        found = [column for column in self.columns if column.role == "measure"]
        return found[0] if len(found) == 1 else None

    @property
    def seed(self) -> Column | None:
        return next((column for column in self.columns if column.role == "seed"), None)

    @property
    def metric(self) -> Column | None:
        return next((column for column in self.columns if column.role == "metric"), None)

    def is_metric(self, name: str) -> bool:
        """Whether a name that is no column is one of the metrics in the data."""
        columns = {column.name for column in self.every_column}
        return (
            self.metric is not None and name not in columns and any(row[self.metric.name] == name for row in self.rows)
        )


@dataclass(frozen=True)
class Answer:
    """Columns and rows in order; ``total`` is the count of rows before ``limit`` and ``offset``."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    total: int
    facets: Mapping[str, list[tuple[Any, int]]] | None = None


@dataclass(frozen=True, slots=True)
class Approximate:
    """A number that an engine working in doubles may miss by ``tolerance``; infinite where doubles overflow midway."""

    value: float
    tolerance: float

    def accepts(self, given: object) -> bool:
        if not isinstance(given, float):
            return False
        if self.tolerance == math.inf or same_float(given, self.value):
            return True
        return abs(given - self.value) <= self.tolerance


class UndecidedError(Exception):
    """The answer hangs on which way a sum was rounded, so two right engines may differ."""


def settle(value: Any, other: Any) -> Any:
    """The number behind an approximate one, when comparing it with ``other`` does not hang on how it was rounded."""
    if not isinstance(value, Approximate):
        return value
    slack = value.tolerance
    if isinstance(other, Approximate):
        slack, other = slack + other.tolerance, other.value
    if slack == math.inf or abs(value.value - float(other)) <= slack:  # false when the other is NaN
        raise UndecidedError
    return value.value


def same_float(left: float, right: float) -> bool:
    return left == right or (left != left and right != right)


# --- values -----------------------------------------------------------------------------------------------------------

_LABEL = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([KMBT])\s*", re.IGNORECASE)


def label_number(text: str) -> int | None:
    match = _LABEL.fullmatch(text)
    if match is None:
        return None
    number = Fraction(match[1]) * Fraction(1000) ** ("KMBT".index(match[2].upper()) + 1)
    return round(number)


def to_float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)


def is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def typed(given: Any, column: Column) -> Any:
    """A written value as one of the column's type."""
    if column.is_size_label:
        number = label_number(given) if isinstance(given, str) else given
        return int(Decimal(given)) if number is None else number
    if column.is_integer:
        return given if isinstance(given, int) else int(Decimal(given))
    if column.is_float:
        number = float(given)
        return to_float32(number) if column.sql_type == "FLOAT" else number
    if column.is_decimal:
        return Decimal(given)
    if not isinstance(given, str):
        return given
    return _PARSERS.get(column.sql_type, str)(given)


def _instant(text: str) -> dt.datetime:
    value = dt.datetime.fromisoformat(text)
    return value.astimezone(dt.UTC) if value.tzinfo else value.replace(tzinfo=dt.UTC)


_PARSERS: dict[str, Callable[[str], Any]] = {
    "BOOLEAN": lambda text: text.lower() in ("true", "1"),
    "DATE": dt.date.fromisoformat,
    "TIME": dt.time.fromisoformat,
    "TIMESTAMP": dt.datetime.fromisoformat,
    "TIMESTAMP_NS": dt.datetime.fromisoformat,
    "TIMESTAMP WITH TIME ZONE": _instant,
    "UUID": uuid.UUID,
}


def comparable(value: Any, column: Column) -> Any:
    """A cell as it is compared and sorted: a size label by its number."""
    return label_number(value) if column.is_size_label and isinstance(value, str) else value


def identity(value: Any) -> Any:
    """What makes two cells of one column the same value: NaN is like NaN, and -0.0 like 0.0."""
    return "NaN" if is_nan(value) else value


def order_key(value: Any) -> tuple[int, Any]:
    """Ascending: values, then NaN, then null."""
    if value is None:
        return (2, 0)
    return (1, 0) if is_nan(value) else (0, value)


# --- filters ----------------------------------------------------------------------------------------------------------


def matches(where: Where | None, row: Row, columns: Mapping[str, Column]) -> bool:
    return where is None or truth(where, row, columns) is True


def truth(where: Where, row: Row, columns: Mapping[str, Column]) -> bool | None:
    """True, False, or None for unknown."""
    match where:
        case And(and_=parts):
            found = [truth(part, row, columns) for part in parts]
            return False if False in found else None if None in found else True
        case Or(or_=parts):
            found = [truth(part, row, columns) for part in parts]
            return True if True in found else None if None in found else False
        case Not(not_=part):
            inner = truth(part, row, columns)
            return None if inner is None else not inner
        case Condition():
            return condition(where, row, columns)
    raise TypeError(where)


def condition(asked: Condition, row: Row, columns: Mapping[str, Column]) -> bool | None:
    column = columns[asked.col]
    cell = comparable(row[asked.col], column)
    if asked.op is Operator.ISNULL:
        wanted = True if asked.value is None else typed(asked.value, Column("", "BOOLEAN"))
        return (cell is None) is wanted
    if cell is None:
        return None
    if asked.ref is not None:
        other = comparable(row[asked.ref], columns[asked.ref])
        if other is None:
            return None
        pair = settle(cell, other), settle(other, cell)
        return compare(asked.op, *common(*pair, column, columns[asked.ref]))
    if asked.op.takes_list:
        values = [typed(value, column) for value in asked.value]
        if asked.op is Operator.BETWEEN:
            return compare(Operator.GTE, cell, values[0]) and compare(Operator.LTE, cell, values[1])
        return any(compare(Operator.EQ, cell, value) for value in values) is (asked.op is Operator.IN)
    if asked.op in _TEXT:
        return _TEXT[asked.op](row[asked.col], asked.value)
    return compare(asked.op, cell, typed(asked.value, column))


def common(left: Any, right: Any, first: Column, second: Column) -> tuple[Any, Any]:
    """Two columns' values as they are compared: numbers of different kinds as doubles, days as midnights in UTC."""
    if isinstance(left, dt.date) and first.sql_type != second.sql_type:
        return moment(left), moment(right)
    integers = first.is_integer and second.is_integer
    if first.is_numeric and second.is_numeric and first.sql_type != second.sql_type and not integers:
        return float(left), float(right)
    return left, right


def moment(value: dt.date) -> dt.datetime:
    if not isinstance(value, dt.datetime):
        value = dt.datetime(value.year, value.month, value.day, tzinfo=dt.UTC)
    return value.replace(tzinfo=dt.UTC)


def compare(op: Operator, left: Any, right: Any) -> bool:
    """One comparison of two values that are there."""
    left = settle(left, right)
    if op in (Operator.EQ, Operator.NE):
        return (identity(left) == identity(right)) is (op is Operator.EQ)
    if is_nan(left) or is_nan(right):
        return False
    return _ORDER[op](left, right)


_ORDER: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.LT: lambda left, right: bool(left < right),
    Operator.LTE: lambda left, right: bool(left <= right),
    Operator.GT: lambda left, right: bool(left > right),
    Operator.GTE: lambda left, right: bool(left >= right),
}


def glob(text: str, pattern: str) -> bool:
    """``*`` is any text, ``?`` any one character, ``[a-c]`` one of a set, ``[!a]`` one outside it."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(glob(text[start:], pattern[1:]) for start in range(len(text) + 1))
    if not text:
        return False
    if pattern[0] == "?":
        return glob(text[1:], pattern[1:])
    if pattern[0] == "[":
        end = pattern.index("]", 3 if pattern[1] == "!" else 2)
        inside = re.fullmatch(_set(pattern[1:end]), text[0], re.DOTALL) is not None
        return inside and glob(text[1:], pattern[end + 1 :])
    return pattern[0] == text[0] and glob(text[1:], pattern[1:])


def _set(inside: str) -> str:
    negated = inside.startswith("!")
    members = re.escape(inside.removeprefix("!")).replace(r"\-", "-")
    return f"[{'^' if negated else ''}{members}]"


_TEXT: dict[Operator, Callable[[str, str], bool]] = {
    Operator.CONTAINS: lambda text, part: part in text,
    Operator.STARTSWITH: str.startswith,
    Operator.ENDSWITH: str.endswith,
    Operator.GLOB: glob,
}


# --- one row of each group --------------------------------------------------------------------------------------------


def grouped(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by their values in ``by``; groups and rows in order of appearance."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(identity(row[name]) for name in by), []).append(row)
    return groups


def best_rows(rows: list[Row], by: Sequence[str], column: Column, *, desc: bool) -> list[Row]:
    """The row of each group whose ``column`` is largest (``desc``) or smallest; the first of several, in row order.

    Null and NaN lose to any number; a group that has nothing else is represented by its first row.
    """
    chosen = []
    for members in grouped(rows, by).values():
        best = members[0]
        for row in members[1:]:
            new, old = comparable(row[column.name], column), comparable(best[column.name], column)
            if new is None or is_nan(new):
                continue
            if old is None or is_nan(old) or (new > old if desc else new < old):
                best = row
        chosen.append(id(best))
    return [row for row in rows if id(row) in chosen]


# --- aggregates -------------------------------------------------------------------------------------------------------


def aggregate(fn: str, values: list[Any], column: Column) -> Any:
    """``fn`` over the values of a group that are neither null nor NaN, in row order."""
    if fn == "count":
        return len(values)
    if fn == "nunique":
        return len(set(values))  # of texts: 60M and 0.06B are two
    if not values:
        return None
    if fn in ("first", "last"):
        return values[0 if fn == "first" else -1]
    if fn in ("min", "max"):
        return (min if fn == "min" else max)(values, key=lambda value: comparable(value, column))
    if fn == "median":
        return percentile(values, Fraction(1, 2))
    if fn.startswith("p"):
        return percentile(values, Fraction(int(fn[1:]), 100))
    spreads = {"mean": mean, "var": variance, "std": std, "sem": sem}
    return total(values, column) if fn == "sum" else spreads[fn](values)


def total(values: list[Any], column: Column) -> Any:
    return approximate_sum(values) if column.is_float else sum(values)


def mean(values: list[Any]) -> Any:
    found = approximate_sum(values)
    if isinstance(found, Approximate):
        exact = sum(map(Fraction, values), Fraction()) / len(values)
        return Approximate(nearest_double(exact), found.tolerance / len(values) + float(EPSILON) * abs(float(exact)))
    return found if math.isinf(found) or math.isnan(found) else float(Fraction(found) / len(values))


def approximate_sum(values: list[Any]) -> float | Approximate:
    """The sum in doubles: IEEE's when there are infinities, exact when it cannot round, else known to n·ε·Σ|x|."""
    infinities = [value for value in values if isinstance(value, float) and math.isinf(value)]
    if infinities:
        return math.fsum(infinities) if len(set(infinities)) == 1 else math.nan
    parts = [Fraction(value) for value in values]
    size = sum(map(abs, parts), Fraction())
    if exact_in_doubles(parts, size):
        return float(sum(parts))
    return Approximate(nearest_double(sum(parts, Fraction())), tolerance_of(len(parts) * EPSILON * size, size))


def exact_in_doubles(parts: Sequence[Fraction], size: Fraction) -> bool:
    """Whether no sum of some of the values, whatever the order, needs more than the 53 bits of a double."""
    unit = max(part.denominator for part in parts)
    return unit & (unit - 1) == 0 and unit < 2**1000 and size * unit <= 2**53


def tolerance_of(tolerance: Fraction, largest: Fraction) -> float:
    """As a float, infinite when doubles may overflow on the way to ``largest``."""
    return math.inf if largest >= LARGEST else nearest_double(tolerance + 4 * TINIEST)


def nearest_double(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def variance(values: list[Any]) -> Any:
    """The sample's variance (n - 1); null for a single value. Doubles are taken to know it to 4n·ε·Σx²/(n - 1)."""
    if len(values) < 2:
        return None
    if any(isinstance(value, float) and math.isinf(value) for value in values):
        return math.nan
    parts = [Fraction(value) for value in values]
    if len(set(parts)) == 1 and parts[0].denominator & (parts[0].denominator - 1) == 0 and abs(parts[0]) <= 2**53:
        return 0.0
    n = len(parts)
    middle = sum(parts, Fraction()) / n
    exact = sum(((part - middle) ** 2 for part in parts), Fraction()) / (n - 1)
    squares = sum((part**2 for part in parts), Fraction())
    tolerance = 4 * n * EPSILON * squares / (n - 1) + n * TINIEST
    return Approximate(nearest_double(exact), tolerance_of(tolerance, 4 * n * squares))


def std(values: list[Any]) -> Any:
    found = variance(values)
    if not isinstance(found, Approximate):
        return found
    root = math.sqrt(found.value)
    # sqrt(v ± t) lies within t / sqrt(v) of sqrt(v), and within sqrt(t) where v is next to nothing.
    near = math.sqrt(found.tolerance)
    spread = found.tolerance / root if root > near else near
    return Approximate(root, spread + 4 * float(EPSILON) * root)


def sem(values: list[Any]) -> Any:
    """The standard error of the mean: std / √n."""
    found = std(values)
    if not isinstance(found, Approximate):
        return found
    root = math.sqrt(len(values))
    return Approximate(found.value / root, found.tolerance / root + 4 * float(EPSILON) * found.value / root)


def percentile(values: list[Any], at: Fraction) -> Any:
    """Linear between the two nearest ranks of 0 … n - 1."""
    ordered = sorted(values)
    rank = at * (len(ordered) - 1)
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]  # the same one where the rank is whole
    if rank.denominator == 1 or (low == high and math.isinf(low)):
        return float(low)
    if math.isinf(low) or math.isinf(high):
        return math.nan if math.isinf(low) and math.isinf(high) else low if math.isinf(low) else high
    exact = Fraction(low) + (rank - math.floor(rank)) * (Fraction(high) - Fraction(low))
    size = abs(Fraction(low)) + abs(Fraction(high))
    return Approximate(nearest_double(exact), tolerance_of(4 * len(ordered) * EPSILON * size, size))


def named(asked: Aggregate) -> str:
    return asked.as_ or (asked.fn if asked.col is None else f"{asked.fn}_{asked.col}")


def summary(
    rows: Sequence[Row], asked: Sequence[Aggregate], table: Table, taken: Sequence[str] = ()
) -> tuple[list[Column], dict[str, Any]]:
    """The output columns of a group and their values: the aggregates asked for, then what stands behind each.

    A name that a key has already (``taken``) gets the column's name behind it.
    """
    columns: list[Column] = []
    found: dict[str, Any] = dict.fromkeys(taken)

    def put(item: Aggregate, column: Column | None, value: Any) -> None:
        name = named(item)
        if name in found and column is not None:
            name = f"{item.fn}_{column.name}"
        while name in found:
            name += "_"
        like = column is not None and column.is_size_label and item.fn in ("min", "max", "first", "last")
        columns.append(Column(name, result_type(item.fn, column), is_size_label=like))
        found[name] = value

    behind: dict[str | None, None] = {}
    for item in asked:
        column, part = measured(item, rows, table)
        if column is None:
            put(item, None, len(rows))
            continue
        behind.setdefault(item.col)
        put(item, column, aggregate(item.fn, present(part, column), column))
    for col in behind:
        column, part = measured(Aggregate(fn="count", col=col), rows, table)
        assert column is not None
        for name, value in companions(part, column, table.seed).items():
            if (name, col) not in [(item.fn, item.col) for item in asked]:
                put(Aggregate(fn=name, col=col), column, value)
    return columns, {name: value for name, value in found.items() if name not in taken}


def measured(asked: Aggregate, rows: Sequence[Row], table: Table) -> tuple[Column | None, Sequence[Row]]:
    """What an aggregate works on, and of which rows: a column, the one measure, or one metric; None counts rows."""
    if asked.col is None:
        return table.measure, rows
    if table.is_metric(asked.col):
        assert table.metric is not None
        metric = table.metric.name
        return table.measure, [row for row in rows if row[metric] == asked.col]
    return table.column(asked.col), rows


def present(rows: Iterable[Row], column: Column) -> list[Any]:
    cells = (row[column.name] for row in rows)
    return [cell for cell in cells if cell is not None and not is_nan(cell)]


def companions(rows: Sequence[Row], column: Column, seed: Column | None) -> dict[str, int]:
    cells = [row[column.name] for row in rows]
    counts = {
        "count": len(present(rows, column)),
        "nulls": sum(cell is None for cell in cells),
        "nans": sum(is_nan(cell) for cell in cells),
    }
    if seed is not None:
        behind = [row for row in rows if row[column.name] is not None and not is_nan(row[column.name])]
        counts["seeds"] = len({identity(row[seed.name]) for row in behind if row[seed.name] is not None})
    return counts


def result_type(fn: str, column: Column | None) -> str:
    if column is None or fn in ("count", "nunique", "nulls", "nans", "seeds"):
        return "BIGINT"
    if fn in ("min", "max", "first", "last"):
        return column.sql_type
    if fn == "sum":
        return "HUGEINT" if column.is_integer else "DECIMAL(38)" if column.is_decimal else "DOUBLE"
    return "DOUBLE"


# --- the whole query, in the order of SPEC 2.2 ------------------------------------------------------------------------


@dataclass(frozen=True)
class Frame:
    """Rows in the order that breaks the ties of a sort."""

    columns: tuple[Column, ...]
    rows: list[Row]

    @property
    def by_name(self) -> dict[str, Column]:
        return {column.name: column for column in self.columns}


def evaluate(request: QueryRequest, table: Table) -> Answer:
    """Answer a valid request over a table.

    Raises
    ------
    UndecidedError
        A comparison or a sort hangs on the last bit of a sum.
    """
    by_name = {column.name: column for column in table.every_column}
    rows = [row for row in table.full_rows() if matches(request.where, row, by_name)]
    if request.last_by:
        rows = best_rows(rows, request.last_by, step_of(table), desc=True)
    if request.best_by is not None:
        rows = chosen_best(rows, request.best_by, table)
    frame = Frame(table.every_column, rows)
    if is_grouped(request):
        frame = group(request, table, rows)
    if request.pivot is not None:
        frame = pivot(request, table, frame)
    shown = output_names(request, table, frame)
    if request.distinct:
        frame = distinct(frame, shown)
    ordered = sort(frame, request.sort)
    paged = ordered[request.offset :][: request.limit]
    answer = tuple(tuple(row[name] for name in shown) for row in paged)
    return Answer(tuple(shown), answer, len(ordered), facets(request, table) if request.facets else None)


def is_grouped(request: QueryRequest) -> bool:
    """Without a ``group_by`` the aggregate of a pivot is that of its cells."""
    return bool(request.group_by or (request.aggs and request.pivot is None))


def step_of(table: Table) -> Column:
    return table.column("step")


def chosen_best(rows: list[Row], asked: BestBy, table: Table) -> list[Row]:
    column = table.column(asked.col) if asked.col is not None else table.measure
    assert column is not None
    if asked.desc is not None:
        return best_rows(rows, asked.by, column, desc=asked.desc)
    if column.direction is not None or table.metric is None:
        return best_rows(rows, asked.by, column, desc=column.direction == "higher")
    # Each metric has a direction of its own. Where they differ, a group has rows of one metric only.
    metric, chosen = table.metric.name, []
    for direction in ("lower", "higher"):
        names = [name for name, better in table.directions if better == direction]
        part = [row for row in rows if row[metric] in names]
        chosen += [id(row) for row in best_rows(part, asked.by, column, desc=direction == "higher")]
    return [row for row in rows if id(row) in chosen]


def group(request: QueryRequest, table: Table, rows: list[Row]) -> Frame:
    asked = request.aggs or tuple(Aggregate(fn=fn) for fn in DEFAULT_FUNCTIONS)
    keys = tuple(table.column(name) for name in request.group_by)
    columns = (*keys, *summary(rows, asked, table, request.group_by)[0])
    groups = grouped(rows, request.group_by) if keys else {(): rows}
    found: list[Row] = []
    for members in groups.values():
        values = summary(members, asked, table, request.group_by)[1]
        found.append({**{key.name: members[0][key.name] for key in keys}, **values})
    by_name = {column.name: column for column in columns}
    frame = Frame(columns, [row for row in found if matches(request.having, row, by_name)])
    return Frame(columns, in_order(frame, keys))


def in_order(frame: Frame, keys: Sequence[Column]) -> list[Row]:
    """Rows by columns that tell them apart, ascending; of two labels of one size the text decides, last of all."""

    def place(row: Row) -> list[Any]:
        sizes = [order_key(comparable(row[key.name], key)) for key in keys]
        return sizes + [order_key(row[key.name]) for key in keys]

    return sorted(frame.rows, key=place)


def pivot(request: QueryRequest, table: Table, frame: Frame) -> Frame:
    """One row for each combination of the index columns, in their order; one column for each value of the pivot."""
    assert request.pivot is not None
    across = frame.by_name[request.pivot]
    values = pivot_values(request, table, frame)
    fn = request.aggs[0].fn if request.aggs and not request.group_by else None
    asked = request.group_by or request.select or default_index(table, across, values)
    index = [frame.by_name[name] for name in asked if name not in (across.name, values.name)]
    by_value = {key: members[0][across.name] for (key,), members in grouped(frame.rows, [across.name]).items()}
    heads = sorted(by_value, key=lambda key: (order_key(comparable(by_value[key], across)), order_key(by_value[key])))
    names = head_names(across, [by_value[key] for key in heads], [column.name for column in index])
    rows: list[Row] = []
    for members in grouped(frame.rows, [column.name for column in index]).values():
        row = {column.name: members[0][column.name] for column in index}
        for head, name in zip(heads, names, strict=True):
            there = [one for one in members if identity(one[across.name]) == head]
            row[name] = cell(there, values, fn)
        rows.append(row)
    columns = (*index, *(Column(name, values.sql_type) for name in names))
    wide = Frame(columns, rows)
    return Frame(columns, in_order(wide, index))


def pivot_values(request: QueryRequest, table: Table, frame: Frame) -> Column:
    """The column that fills the cells: the one named, else the first aggregate, else the one measure."""
    if request.pivot_values is not None:
        return frame.by_name[request.pivot_values]
    if request.group_by:
        return frame.columns[len(request.group_by)]
    assert table.measure is not None
    return table.measure


def default_index(table: Table, across: Column, values: Column) -> tuple[str, ...]:
    """What a row of a pivot keeps when nothing is selected.

    The declared key without the pivot column and without what that column alone decides; and of the other dimensions
    and axes those that follow from these.
    """
    computed = next((one for one in table.derived if one.column == across), None)
    is_product = computed is not None and computed.kind == "product"
    # A label and its number are one thing; a product decides none of its factors.
    source = across.name if computed is None or is_product else computed.sources[0]
    base = [
        name
        for name in table.key
        if name not in (source, across.name, values.name)
        if is_product or not decides(table, [source], name)
    ]
    kept = [
        column.name
        for column in table.columns
        if column.role in ("dimension", "axis", "seed", "metric") and not column.is_opaque
        if column.name not in (source, across.name, values.name)
        if column.name in base or decides(table, base, column.name)
    ]
    return tuple(column.name for column in table.columns if column.name in kept or column.name in base)


def decides(table: Table, names: Sequence[str], other: str) -> bool:
    """Whether rows that are alike in ``names`` are alike in ``other``; null is a value here."""
    return all(len({identity(row[other]) for row in rows}) == 1 for rows in grouped(table.full_rows(), names).values())


def head_names(across: Column, heads: Sequence[Any], taken: Sequence[str]) -> list[str]:
    """The values as text, told apart from the index columns and from each other where need be."""
    names = list(taken)
    for head in heads:
        text = "null" if head is None else spell(head)
        if text in names:
            text = f"{across.name}={text}"
        while text in names:
            text += "_"
        names.append(text)
    return names[len(taken) :]


def spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value.isoformat() if isinstance(value, dt.date | dt.time) else str(value)


def cell(rows: Sequence[Row], values: Column, fn: str | None) -> Any:
    """The value itself when one row has it, else the mean of those that are neither null nor NaN; the first text."""
    if fn is not None:
        return aggregate(fn, present(rows, values), values) if rows else None
    if len(rows) == 1:
        return rows[0][values.name]
    return aggregate("mean" if values.can_be_averaged else "first", present(rows, values), values)


def output_names(request: QueryRequest, table: Table, frame: Frame) -> list[str]:
    if request.pivot is not None:
        return [column.name for column in frame.columns]
    if request.select is None:
        computed = {one.column.name for one in table.derived} if not is_grouped(request) else set()
        return [column.name for column in frame.columns if column.name not in computed]
    return list(request.select)


def distinct(frame: Frame, names: Sequence[str]) -> Frame:
    rows = [members[0] for members in grouped(frame.rows, names).values()]
    return Frame(tuple(frame.by_name[name] for name in names), rows)


def sort(frame: Frame, keys: Sequence[SortKey]) -> list[Row]:
    """Numbers, then NaN, then nulls, in both directions; ties as they stand."""
    rows = list(frame.rows)
    for key in reversed(keys):  # Python's sort keeps ties in order
        column = frame.by_name[key.col]
        cells = settle_all([comparable(row[key.col], column) for row in rows])
        known = [(cell, row) for cell, row in zip(cells, rows, strict=True) if cell is not None]
        nulls = [row for cell, row in zip(cells, rows, strict=True) if cell is None]
        numbers = [pair for pair in known if not is_nan(pair[0])]
        numbers.sort(key=lambda pair: pair[0], reverse=key.desc)
        rows = [row for _, row in numbers] + [row for cell, row in known if is_nan(cell)] + nulls
    return rows


def settle_all(cells: list[Any]) -> list[Any]:
    """The numbers behind approximate cells, when their order does not hang on how they were rounded."""
    for at, cell in enumerate(cells):
        if isinstance(cell, Approximate):
            for other in cells[:at] + cells[at + 1 :]:
                if other is not None:
                    settle(cell, other)
    return [cell.value if isinstance(cell, Approximate) else cell for cell in cells]


def facets(request: QueryRequest, table: Table) -> dict[str, list[tuple[Any, int]]]:
    """Per column its values and their counts, under the filters that do not concern that column."""
    by_name = {column.name: column for column in table.every_column}
    found = {}
    for name in request.facets:
        rows = [row for row in table.full_rows() if matches(without(request.where, name), row, by_name)]
        counted = [(members[0][name], len(members)) for members in grouped(rows, [name]).values()]
        column = by_name[name]
        counted.sort(key=lambda pair: (-pair[1], order_key(comparable(pair[0], column)), order_key(pair[0])))
        found[name] = counted
    return found


def without(where: Where | None, name: str) -> Where | None:
    """The conjunction without those of its parts that speak of one column alone, when it is this one."""
    if where is None:
        return None
    if isinstance(where, And):
        parts = [without(part, name) for part in where.and_]
        return And(and_=tuple(part for part in parts if part is not None))
    return None if mentioned(where) == {name} else where


def mentioned(where: Where) -> set[str]:
    match where:
        case And(and_=parts) | Or(or_=parts):
            return set().union(*(mentioned(part) for part in parts))
        case Not(not_=part):
            return mentioned(part)
        case Condition(col=col, ref=ref):
            return {col} if ref is None else {col, ref}
    raise TypeError(where)
