"""A question as one SELECT, in the dialects of the peers that speak SQL. Runs nothing.

All aggregates are of ``value`` and carry the names that our server gives them. ``std`` is that of a sample, a
percentile lies between two values as far as its rank does, a null counts nowhere. An exact percentile is written out
with windows where a dialect has none, which is how one does it there.

A scaling question is one statement too: each point comes with the slope and the intercept of the line through the
logarithms of its recipe's points, by a window over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.peers.loading import DATASETS, ORDINAL
from benchmarks.peers.peer import CannotError
from benchmarks.question import Question

TABLES = dict(zip(DATASETS, ("datadecide", "ft_matched"), strict=True))
NEVER_NULL = ("params", "data", "step", "tokens", "compute", "metric")
_MULTIPLES = {"K": "1e3", "M": "1e6", "B": "1e9", "T": "1e12"}
_PERCENTILES = {"median": "0.5", "p95": "0.95"}
_PLAIN = {"mean": "avg(value)", "count": "count(value)", "min": "min(value)", "max": "max(value)"}

Value = str | int


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL text, and the values of its placeholders in order."""

    text: str
    values: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a system's SQL differs.

    Attributes
    ----------
    placeholder
        The text for the value number n, from 0: a placeholder, or a literal.
    ordinal
        The row's place in the file.
    std
        The deviation of a sample.
    percentile
        The exact percentile; None where there is none.
    filtered
        ``max(value)`` where a column is something.
    gathered
        All cells of a pivot's row as one object of JSON, the last column; None: a column for each, which is named.
    regression
        There are ``regr_slope`` and ``regr_intercept``.
    float_type
        To cast text to.
    names
        The values of columns, of which a pivot makes columns.
    """

    placeholder: Callable[[int, Value], str]
    ordinal: str = ORDINAL
    std: str = "stddev_samp(value)"
    percentile: Callable[[str], str] | None = lambda share: f"percentile_cont({share}) WITHIN GROUP (ORDER BY value)"
    filtered: Callable[[str, str], str] = lambda column, text: f"max(value) FILTER (WHERE {column} = {text})"
    gathered: Callable[[str], str] | None = None
    regression: bool = True
    float_type: str = "double precision"
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def quote(name: str) -> str:
    """A name of a column as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Value) -> str:
    """A value as SQL, for systems without placeholders."""
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def translate(question: Question, dialect: Dialect) -> Statement:
    """The SELECT that answers a question.

    Parameters
    ----------
    question
        Of any kind but ``health``.
    dialect
        Its ``names`` are the values by column that a pivot makes columns of.

    Raises
    ------
    CannotError
    """
    if question.after is not None:
        raise CannotError("pages by cursor are no part of SQL")
    return _Writer(question, dialect).statement()


class _Writer:
    """Writes one statement, and gathers its values on the way."""

    def __init__(self, question: Question, dialect: Dialect) -> None:
        self.question, self.dialect = question, dialect
        self.values: list[Value] = []
        self.table = TABLES[question.dataset]

    def statement(self) -> Statement:
        kinds = {
            "rows": self._rows,
            "groups": self._groups,
            "pivot": self._pivot,
            "scaling": self._scaling,
            "facets": self._facets,
        }
        text = kinds[self.question.kind]()
        return Statement(text, tuple(self.values))

    def _rows(self) -> str:
        names = ", ".join(map(quote, self.question.columns)) or "*"
        page = self.question.limit is not None or self.question.offset
        order = self._order((self.dialect.ordinal,)) if self.question.sort or page else ""
        return f"SELECT {names} FROM {self.table}{self._where()}{order}{self._page()}"

    def _groups(self) -> str:
        keys = ", ".join(map(quote, self.question.group_by))
        source, aggregates = self._aggregates(keys)
        shown = ", ".join(f"{aggregates[name]} AS {quote(name)}" for name in self.question.aggs)
        ordered = self.question.sort or self.question.limit is not None
        order = self._order(tuple(map(quote, self.question.group_by))) if ordered else ""
        return f"SELECT {keys}, {shown} FROM {source} GROUP BY {keys}{order}{self._page()}"

    def _aggregates(self, keys: str) -> tuple[str, dict[str, str]]:
        """What to group, and each aggregate over it."""
        wanted, found = set(self.question.aggs), dict(_PLAIN)
        windows = []
        found["std"] = self.dialect.std
        for name, share in _PERCENTILES.items():
            if self.dialect.percentile is not None:
                found[name] = self.dialect.percentile(share)
            elif name in wanted:
                found[name] = _by_rank(share)
        if self.dialect.percentile is None and wanted & set(_PERCENTILES):
            windows.append(f"row_number() OVER (PARTITION BY {keys} ORDER BY value NULLS LAST) - 1 AS place")
            windows.append(f"count(value) OVER (PARTITION BY {keys}) - 1 AS places")
        if not windows:
            return f"{self.table}{self._where()}", found
        return f"(SELECT {keys}, value, {', '.join(windows)} FROM {self.table}{self._where()}) AS ranked", found

    def _pivot(self) -> str:
        column = self.question.pivot
        assert column is not None
        if self.dialect.gathered is not None:
            keys, cells = ", ".join(map(quote, self.question.columns)), self.dialect.gathered(quote(column))
            return f"SELECT {keys}, {cells} AS cells FROM {self.table}{self._where()} GROUP BY {keys}"
        asked = dict(self.question.where).get(column)
        texts = self.dialect.names.get(column, ()) if asked is None else tuple(map(str, asked))
        if not texts:
            raise CannotError(f"SQL has to name the columns of a pivot, and the values of {column} are not known")
        keys = ", ".join(map(quote, self.question.columns))
        cells = ", ".join(
            f"{self.dialect.filtered(quote(column), self._value(text))} AS {quote(text)}" for text in texts
        )
        return f"SELECT {keys}, {cells} FROM {self.table}{self._where()} GROUP BY {keys}"

    def _scaling(self) -> str:
        size = " ".join(f"WHEN '{unit}' THEN {factor}" for unit, factor in _MULTIPLES.items())
        number = f"CAST(substr(params, 1, length(params) - 1) AS {self.dialect.float_type})"
        points = (
            f"SELECT params, data, step, {number} * CASE substr(params, length(params)) {size} END AS x, value AS y "
            f"FROM (SELECT params, data, step, value, row_number() OVER (PARTITION BY params, data ORDER BY step DESC) "
            f"AS place FROM {self.table}{self._where()}) AS ends WHERE place = 1 AND value IS NOT NULL"
        )
        over = "OVER (PARTITION BY data)"
        if self.dialect.regression:
            slope, intercept = (f"regr_{part}(ln(y), ln(x)) {over}" for part in ("slope", "intercept"))
            return (
                f"SELECT params, data, step, x, y, {slope} AS slope, {intercept} AS intercept FROM ({points}) AS points"
            )
        deviations = (
            f"SELECT *, ln(x) - avg(ln(x)) {over} AS dx, ln(y) - avg(ln(y)) {over} AS dy, avg(ln(x)) {over} AS mx, "
            f"avg(ln(y)) {over} AS my FROM ({points}) AS points"
        )
        slopes = f"SELECT *, sum(dx * dy) {over} / sum(dx * dx) {over} AS slope FROM ({deviations}) AS deviations"
        return f"SELECT params, data, step, x, y, slope, my - slope * mx AS intercept FROM ({slopes}) AS slopes"

    def _facets(self) -> str:
        counts = (
            f"SELECT '{name}' AS facet, CAST({quote(name)} AS text) AS value, count(*) AS count "
            f"FROM {self.table}{self._where()} GROUP BY {quote(name)}"
            for name in self.question.facets
        )
        return " UNION ALL ".join(counts)

    def _where(self) -> str:
        conditions = [self._condition(name, values) for name, values in self.question.where]
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""

    def _condition(self, name: str, values: tuple[Value, ...]) -> str:
        written = [self._value(value) for value in values]
        return f"{quote(name)} = {written[0]}" if len(written) == 1 else f"{quote(name)} IN ({', '.join(written)})"

    def _value(self, value: Value) -> str:
        self.values.append(value)
        return self.dialect.placeholder(len(self.values) - 1, value)

    def _order(self, ties: tuple[str, ...]) -> str:
        written = [_direction(key) for key in self.question.sort] + list(ties)
        return f" ORDER BY {', '.join(written)}"

    def _page(self) -> str:
        limit = "" if self.question.limit is None else f" LIMIT {self.question.limit}"
        return limit + (f" OFFSET {self.question.offset}" if self.question.offset else "")


def _direction(key: str) -> str:
    """Nulls come last; said only of what may be null, since it keeps some systems from using an index."""
    name, way = (key[1:], " DESC") if key.startswith("-") else (key, "")
    return quote(name) + way + ("" if name in NEVER_NULL else " NULLS LAST")


def _by_rank(share: str) -> str:
    """A percentile from the places of the values in their group, and the place of the last value."""
    rank = f"({share} * places)"
    whole = f"floor{rank}"
    return (
        f"max(CASE WHEN place = {whole} THEN value END) + max({rank} - {whole}) * "
        f"(max(CASE WHEN place = ceil{rank} THEN value END) - max(CASE WHEN place = {whole} THEN value END))"
    )
