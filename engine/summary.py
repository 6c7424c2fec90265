"""What is in one column: how many values, which, how spread. Works on derived columns as on physical ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engine.connection import Database, quoted
from engine.result import python_rows
from engine.versions import DatasetVersion
from queries.compiler import CompiledQuery, compile_plan
from queries.planner import plan_query
from queries.request import QueryRequest
from queries.schema import Column, Kind, parse_size_label

BINS = 20
_QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of finite values in ``len(counts)`` bins of equal width; the last bin holds its upper edge too."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ColumnSummary:
    """A column's content.

    ``distinct`` counts the values that are not null; null and NaN are counted apart. ``values`` is one page of them
    with their counts, most frequent first, of ``matching`` that the search found. ``minimum``, ``maximum`` and
    ``quantiles`` leave out null and NaN, and are None for columns without an order.
    """

    column: Column
    rows: int
    nulls: int
    nans: int
    distinct: int | None
    minimum: Any
    maximum: Any
    quantiles: dict[str, float | None] | None
    histogram: Histogram | None
    values: tuple[dict[str, Any], ...]
    matching: int | None


def summarize_column(
    database: Database,
    version: DatasetVersion,
    name: str,
    relation: str,
    *,
    search: str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> ColumnSummary:
    """Summarise one column of a version.

    Parameters
    ----------
    relation
        A relation over the whole version.
    search
        Only values whose text contains this are listed, whatever the case of its letters; None for all.
    limit, offset
        Which page of the values.

    Raises
    ------
    UnknownColumnError
    """
    plan = plan_query(QueryRequest(dataset=version.dataset, select=(name,)), version.schema)
    column = plan.shape.select[0]
    inner = compile_plan(plan, relation)
    summary = _Summarizer(database, column, inner).summarize(search, limit, offset)
    sizes = version.schema.values_of(column) if column.is_size_label else None
    if not sizes:
        return summary
    # 4M is less than 10M, which its letters do not tell.
    ordered = sorted((str(size) for size in sizes), key=lambda size: parse_size_label(size) or 0)
    return replace(summary, minimum=ordered[0], maximum=ordered[-1])


class _Summarizer:
    def __init__(self, database: Database, column: Column, inner: CompiledQuery) -> None:
        self.database = database
        self.column = column
        self.inner = inner

    def summarize(self, search: str | None, limit: int, offset: int) -> ColumnSummary:
        kind = self.column.kind
        nan = "count(*) FILTER (isnan(v))" if kind is Kind.FLOAT else "0"
        plain = "v IS NOT NULL" + (" AND NOT isnan(v)" if kind is Kind.FLOAT else "")
        if not kind.is_ordered:
            (counted,) = self._rows("SELECT count(*) AS rows, count(*) - count(v) AS nulls FROM {inner}")
            return ColumnSummary(
                self.column, counted["rows"], counted["nulls"], 0, None, None, None, None, None, (), None
            )
        (found,) = self._rows(
            f"SELECT count(*) AS rows, count(*) - count(v) AS nulls, {nan} AS nans, count(DISTINCT v) AS distinct_, "
            f"min(v) FILTER ({plain}) AS low, max(v) FILTER ({plain}) AS high FROM {{inner}}"
        )
        values, matching = self._values(search, limit, offset)
        return ColumnSummary(
            self.column,
            found["rows"],
            found["nulls"],
            found["nans"],
            found["distinct_"],
            found["low"],
            found["high"],
            self._quantiles(plain) if kind.is_numeric else None,
            self._histogram() if kind.is_numeric else None,
            values,
            matching,
        )

    def _values(self, search: str | None, limit: int, offset: int) -> tuple[tuple[dict[str, Any], ...], int]:
        more: list[object] = []
        condition = "v IS NOT NULL"
        if search is not None:
            more.append(search)
            condition += f" AND contains(lower(CAST(v AS VARCHAR)), lower(${len(self.inner.params) + 1}))"
        source = f"(SELECT v, count(*) AS count FROM {{inner}} WHERE {condition} GROUP BY v)"
        (matching,) = self._rows(f"SELECT count(*) AS n FROM {source}", more)
        page = [*more, limit, offset]
        at = len(self.inner.params) + len(page)
        rows = self._rows(f"SELECT v, count FROM {source} ORDER BY count DESC, v LIMIT ${at - 1} OFFSET ${at}", page)
        return tuple({"value": row["v"], "count": row["count"]} for row in rows), matching["n"]

    def _quantiles(self, plain: str) -> dict[str, float | None]:
        listed = ", ".join(
            f"quantile_cont(CAST(v AS DOUBLE), {share}) FILTER ({plain}) AS {name}"
            for name, share in _QUANTILES.items()
        )
        (found,) = self._rows(f"SELECT {listed} FROM {{inner}}")
        return found

    def _histogram(self) -> Histogram | None:
        """None when there is nothing finite, or when the range is too wide for a double."""
        finite = "(SELECT CAST(v AS DOUBLE) AS x FROM {inner} WHERE v IS NOT NULL AND isfinite(CAST(v AS DOUBLE)))"
        (found,) = self._rows(f"SELECT min(x) AS low, max(x) AS high, count(*) AS n FROM {finite}")
        if not found["n"]:
            return None
        low, high = found["low"], found["high"]
        width = (high - low) / BINS
        if width == 0:
            return Histogram((low, high), (found["n"],))
        if width == float("inf"):
            return None
        at = len(self.inner.params)
        rows = self._rows(
            f"SELECT least(CAST(floor((x - ${at + 1}) / ${at + 2}) AS BIGINT), {BINS - 1}) AS bin, count(*) AS n "
            f"FROM {finite} GROUP BY bin",
            [low, width],
        )
        counts = {row["bin"]: row["n"] for row in rows}
        edges = (*(low + width * position for position in range(BINS)), high)
        return Histogram(edges, tuple(counts.get(position, 0) for position in range(BINS)))

    def _rows(self, sql: str, more: list[object] | None = None) -> list[dict[str, Any]]:
        inner = f"(SELECT {quoted(self.column.name)} AS v FROM ({self.inner.sql}))"
        text = sql.replace("{inner}", inner)
        return python_rows(self.database.table(text, [*self.inner.params, *(more or [])]))
