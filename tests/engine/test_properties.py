"""The engine against the reference: random tables as parquet files, random questions, equal answers.

Each table lies in several files, and every other one is sorted: that files are left out which cannot match, and that
answers come in the order of what was published, is tested with everything else.
"""

from __future__ import annotations

import datetime as dt
import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine import QueryRequest, QueryResult
from queries.errors import UnknownValueError
from queries.request import Aggregate, BestBy, Condition, Not, Operator, SortKey
from tests.engine.published import Shelf, rows_of
from tests.reference import Answer, Approximate, Column, Derived, Table, UndecidedError, evaluate, is_nan, label_number
from tests.strategies import (
    conditions,
    default_pivots,
    group_requests,
    picked,
    pivot_requests,
    properties,
    row_requests,
    tables,
    usable,
    wheres,
)

QUESTIONS = 4  # per table: publishing is what takes the time


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"), many_files=True)
    yield shelf
    shelf.engine.close()


def expected(request: QueryRequest, table: Table) -> Answer:
    """What the reference says; the example is passed over when that hangs on rounding."""
    try:
        return evaluate(request, table)
    except UndecidedError:
        assume(False)
        raise


def check(request: QueryRequest, table: Table, result: QueryResult, *, signed_zero: bool = False) -> None:
    answer = expected(request, table)
    assert tuple(result.table.column_names) == answer.columns
    if request.pivot is not None:
        answer = replace(answer, rows=tuple(map(in_doubles, answer.rows, rows_of(result.table))))
    assert tuple(column.name for column in result.meta.columns) == answer.columns
    check_rows(answer.rows, rows_of(result.table), signed_zero=signed_zero)
    assert result.meta.total == answer.total
    assert result.meta.returned == len(answer.rows)
    assert result.meta.truncated == (request.limit is not None and answer.total > request.offset + request.limit)


def in_doubles(wanted: Sequence[Any], given: Sequence[Any]) -> tuple[Any, ...]:
    """A row of a pivot: where cells may be means, those of one row are doubles too, whatever the column was."""
    exact = int | Decimal
    return tuple(
        float(value) if isinstance(value, exact) and isinstance(cell, float) else value
        for value, cell in zip(wanted, given, strict=True)
    )


def check_rows(wanted: Sequence[Sequence[Any]], given: Sequence[Sequence[Any]], *, signed_zero: bool = False) -> None:
    assert len(given) == len(wanted), f"{len(given)} rows instead of {len(wanted)}: {given} and not {wanted}"
    for at, (row, found) in enumerate(zip(wanted, given, strict=True)):
        for value, cell in zip(row, found, strict=True):
            message = f"row {at}: {cell!r} instead of {value!r}; {found} and not {row}"
            assert same(value, cell, signed_zero=signed_zero), message


def same(wanted: Any, given: Any, *, signed_zero: bool = False) -> bool:
    """Equal to the last bit, where the reference is exact; the sign of zero counts in rows that are only passed on."""
    if isinstance(wanted, Approximate):
        return wanted.accepts(given)
    if wanted is None or given is None:
        return wanted is given
    if is_nan(wanted) or is_nan(given):
        return is_nan(wanted) and is_nan(given)
    if signed_zero and isinstance(wanted, float) and math.copysign(1, wanted) != math.copysign(1, given):
        return False
    if isinstance(wanted, uuid.UUID):
        return str(wanted) == given  # a UUID leaves DuckDB as text
    return bool(wanted == given)


@properties(50)
@given(st.data())
def test_rows(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    for _ in range(QUESTIONS):
        request = data.draw(row_requests(table))
        check(request, table, shelf.ask(name, request), signed_zero=not request.distinct)


@properties(50)
@given(st.data())
def test_filters(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    for _ in range(6):
        request = QueryRequest(dataset=name, where=data.draw(wheres(table)), strict=False)
        check(request, table, shelf.ask(name, request), signed_zero=True)


@properties(60)
@given(st.data())
def test_groups(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    for _ in range(QUESTIONS):
        request = data.draw(group_requests(table))
        check(request, table, shelf.ask(name, request))


@properties(50)
@given(st.data())
def test_pivots(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    for _ in range(QUESTIONS):
        request = data.draw(pivot_requests(table))
        check(request, table, shelf.ask(name, request))


@properties(100)
@given(st.data())
def test_pivots_by_the_key(shelf: Shelf, data: st.DataObject) -> None:
    table, request = data.draw(tables().flatmap(default_pivots))
    answer = expected(request.model_copy(update={"sort": ()}), table)
    assume(all(key.col in answer.columns for key in request.sort))
    check(request, table, shelf.ask(shelf.put(table), request))


@properties(100)
@given(st.data())
def test_strictness(shelf: Shelf, data: st.DataObject) -> None:
    """A value that a dimension does not have is refused, or no rows and a warning; only of ``eq`` and ``in``."""
    table = data.draw(tables(max_extras=0))
    name = shelf.put(table)
    column = table.column(data.draw(st.sampled_from(["data", "params"])))
    asked = data.draw(conditions([column], table.rows))
    request = QueryRequest(dataset=name, where=asked)
    values = asked.value if asked.op is Operator.IN else (asked.value,)
    had = {identity_of(row[column.name], column) for row in table.rows}
    missing = [value for value in values if identity_of(value, column) not in had]
    if asked.op in (Operator.EQ, Operator.IN) and missing:
        with pytest.raises(UnknownValueError):
            shelf.ask(name, request)
        lenient = shelf.ask(name, request.model_copy(update={"strict": False}))
        assert lenient.meta.warnings
    else:
        assert not shelf.ask(name, request).meta.warnings


def identity_of(value: Any, column: Column) -> Any:
    if column.is_size_label:
        return label_number(value) if isinstance(value, str) else value
    return value


@properties(120)
@given(st.data())
def test_facets(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    columns = data.draw(picked(usable(table.every_column), max_size=3))
    request = QueryRequest(dataset=name, where=data.draw(wheres(table)), facets=columns, limit=0, strict=False)
    answer, result = expected(request, table), shelf.ask(name, request)
    assert answer.facets is not None and result.meta.facets is not None
    assert list(result.meta.facets) == list(answer.facets)
    for column, counts in answer.facets.items():
        check_rows(counts, [(entry["value"], entry["count"]) for entry in result.meta.facets[column]])


@properties(80)
@given(st.data())
def test_pages_give_each_row_once_and_in_order(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    kind = data.draw(st.sampled_from([row_requests, row_requests, group_requests, pivot_requests]))
    whole = data.draw(kind(table)).model_copy(update={"limit": None, "offset": 0, "dataset": name})
    size = data.draw(st.integers(1, 9))
    rows = rows_of(shelf.ask(name, whole).table)
    by_offset: list[tuple[Any, ...]] = []
    for offset in range(0, len(rows) + 1, size):
        page = whole.model_copy(update={"limit": size, "offset": offset})
        by_offset += rows_of(shelf.ask(name, page).table)
    check_rows(rows, by_offset, signed_zero=True)
    by_cursor: list[tuple[Any, ...]] = []
    cursor = None
    for _ in range(len(rows) + 1):
        page = whole.model_copy(update={"limit": size, "cursor": cursor})
        result = shelf.ask(name, page)
        by_cursor += rows_of(result.table)
        assert result.meta.total == len(rows)
        cursor = result.meta.next_cursor
        if cursor is None:
            break
    check_rows(rows, by_cursor, signed_zero=True)


# --- what once was wrong


def table_of(columns: str, *rows: tuple[Any, ...]) -> Table:
    """A table of ``name TYPE role`` columns; a role ``sizes`` is a dimension of size labels."""
    found = []
    for text in columns.split(", "):
        name, sql_type, role = text.rsplit(" ", 2)
        sizes = role == "sizes"
        direction = "lower" if role == "measure" else None
        found.append(Column(name, sql_type, "dimension" if sizes else role, is_size_label=sizes, direction=direction))
    return Table(tuple(found), tuple(dict(zip([one.name for one in found], row, strict=True)) for row in rows))


NAN = math.nan
# pyarrow leaves NaN out of a column's statistics: 1 is the least and the greatest value here.
WITH_NAN = table_of("data VARCHAR dimension, value DOUBLE measure", ("a", 1.0), ("a", NAN), ("b", NAN), ("b", None))
LABELS = table_of(
    "params VARCHAR sizes, value DOUBLE measure", ("60M", 1.0), ("0.06B", 1.0), ("150M", 1.0), ("4M", 2.0), (None, 2.0)
)
LEAST = table_of(
    "data VARCHAR dimension, value BIGINT measure", ("a", 1), ("a", -(2**63)), ("b", None), ("b", 2**63 - 1)
)
PAIRS = table_of(
    "x DOUBLE attribute, y DOUBLE attribute, n INTEGER attribute, f FLOAT attribute, wide DECIMAL(38,0) attribute, "
    "fine DECIMAL(10,2) attribute",
    (None, NAN, 16_777_217, 16_777_216.0, Decimal(10**36), Decimal("0.01")),
    (NAN, None, 2, 2.0, Decimal(1), Decimal("1.00")),
    (1.0, NAN, None, NAN, None, Decimal("-0.01")),
    (2.0, 1.0, 3, 2.5, Decimal(0), None),
)


DAYS = table_of(
    "day DATE attribute, moment TIMESTAMP_NS attribute",
    (dt.date(9999, 12, 31), dt.datetime(2024, 2, 29)),  # noqa: DTZ001
    (dt.date(2024, 2, 29), dt.datetime(2024, 2, 29)),  # noqa: DTZ001
)


def where(col: str, op: str, value: Any = None, ref: str | None = None) -> Condition:
    return Condition(col=col, op=Operator(op), value=value, ref=ref)


@pytest.mark.parametrize(
    "table, parts",
    [
        pytest.param(WITH_NAN, {"where": where("value", "eq", NAN)}, id="nan-outside-the-statistics"),
        pytest.param(WITH_NAN, {"where": where("value", "ne", 1)}, id="nan-differs-from-a-constant"),
        pytest.param(WITH_NAN, {"where": where("value", "notin", (1, 2))}, id="nan-in-no-list"),
        pytest.param(WITH_NAN, {"where": Not(not_=where("value", "lte", 1))}, id="nan-is-not-at-most"),
        pytest.param(WITH_NAN, {"group_by": ("data",)}, id="nan-is-left-out-of-means"),
        pytest.param(WITH_NAN, {"group_by": ("value",), "aggs": (Aggregate(fn="count"),)}, id="nan-as-a-group"),
        pytest.param(WITH_NAN, {"sort": (SortKey(col="value", desc=True),)}, id="nan-sorts-above-all"),
        pytest.param(WITH_NAN, {"sort": (SortKey(col="value", desc=True),), "limit": 1}, id="nan-in-the-top-row"),
        pytest.param(LABELS, {"where": Not(not_=where("params", "eq", "7M"))}, id="null-is-not-outside-a-size"),
        pytest.param(LABELS, {"where": Not(not_=where("params", "ne", "7M"))}, id="null-does-not-differ-from-a-size"),
        pytest.param(LABELS, {"group_by": ("params",)}, id="sizes-in-two-spellings-have-an-order"),
        pytest.param(
            LABELS,
            {
                "group_by": ("value",),
                "aggs": (Aggregate(fn="max", col="params"),),
                "having": where("max_params", "gt", "60M"),
                "sort": (SortKey(col="max_params"),),
            },
            id="the-largest-size-compares-as-one",
        ),
        pytest.param(
            LABELS,
            {
                "group_by": ("value",),
                "aggs": (Aggregate(fn="min", col="params"),),
                "having": where("min_params", "eq", "60000000"),
            },
            id="the-smallest-size-equals-its-number",
        ),
        pytest.param(LEAST, {"best_by": BestBy(by=("data",))}, id="the-least-integer-is-best"),
        pytest.param(LEAST, {"best_by": BestBy(by=("value",), col="data", desc=False)}, id="the-least-text-is-best"),
        pytest.param(PAIRS, {"where": Not(not_=where("x", "gt", ref="y"))}, id="null-beside-nan-is-unknown"),
        pytest.param(PAIRS, {"where": where("n", "gt", ref="f")}, id="integers-beside-a-32-bit-float"),
        pytest.param(PAIRS, {"where": where("wide", "gte", ref="fine")}, id="decimals-of-different-scales"),
        pytest.param(DAYS, {"where": where("day", "gt", ref="moment")}, id="a-day-beyond-all-nanoseconds"),
        pytest.param(
            PAIRS, {"group_by": ("n",), "aggs": (Aggregate(fn="sum", col="wide"),), "having": where("n", "lt", 2**70)},
            id="a-value-beyond-the-type",
        ),
        pytest.param(
            LABELS,
            {"pivot": "value", "select": ("value",), "pivot_values": "params", "where": where("value", "gt", 9)},
            id="a-pivot-without-rows-and-columns",
        ),
        pytest.param(
            LABELS, {"pivot": "params", "select": ("params",), "aggs": (Aggregate(fn="max"),)}, id="a-pivot-of-one-row"
        ),
    ],
)  # fmt: skip
def test_case(shelf: Shelf, table: Table, parts: dict[str, Any]) -> None:
    request = QueryRequest(dataset=shelf.put(table), strict=False, **parts)
    check(request, table, shelf.ask(request.dataset, request))


def test_a_pivot_by_a_product(shelf: Shelf) -> None:
    table = table_of("data VARCHAR dimension, step BIGINT axis, value DOUBLE measure", ("a", 1, 2.0), ("a", 2, 1.0))
    compute = Derived(Column("compute", "DOUBLE", "axis"), "product", ("step", "value"), factor=0.5)
    table = replace(table, key=("data", "step"), derived=(compute,))
    request = QueryRequest(dataset=shelf.put(table), pivot="compute")
    check(request, table, shelf.ask(request.dataset, request))


def test_times_are_utc_on_every_connection(shelf: Shelf) -> None:
    """A setting of one connection is not one of its cursors: each of these has to be global."""
    found = shelf.engine.database.table(
        "SELECT current_setting('TimeZone') AS zone, current_setting('parquet_can_have_nan')::VARCHAR AS nan"
    )
    assert found.to_pylist() == [{"zone": "UTC", "nan": "true"}]
