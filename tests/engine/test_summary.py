"""Summaries of columns of each kind."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from engine import Engine, EngineConfig
from engine.summary import BINS, ColumnSummary
from queries.errors import UnknownColumnError
from tests.engine.support import DEFINITION, Lab, sweep

INF, NAN = math.inf, math.nan


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("summary"))
    lab.sweep()
    columns: dict[str, Any] = {
        "n": pa.array([1, 2, 2, 3, None], pa.int8()),
        "x": pa.array([0.0, 10.0, NAN, INF, None]),
        "single": pa.array([0.5, 1.5, NAN, -INF, None], pa.float32()),
        "same": [7.0] * 5,
        "wide": [-1.7e308, 1.7e308, 0.0, 1.0, None],
        "nans": [NAN] * 5,
        "nothing": pa.array([None] * 5, pa.int64()),
        "text": ["b", "a", "B", "b", None],
        "flag": [True, False, True, None, True],
        "day": pa.array([dt.date(2024, 5, 1), dt.date(2024, 5, 2), None, None, None]),
        "at": pa.array([dt.datetime(2024, 5, 1, 12, tzinfo=dt.UTC)] * 5),
        "price": pa.array([Decimal("1.50"), Decimal("2.50"), None, None, None], pa.decimal128(10, 2)),
        "huge": pa.array([2**64 - 1, 0, 0, 0, 0], pa.uint64()),
        "raw": [b"a", None, b"b", b"", b"a"],
        "flags": [["x"], None, [], ["y"], ["x"]],
        'we"ird': [1, 2, 3, 4, 5],
    }
    lab.publish("kinds", columns)
    lab.publish("empty", {"x": pa.array([], pa.float64()), "text": pa.array([], pa.string())})
    yield lab
    lab.engine.close()


def summary(lab: Lab, column: str, dataset: str = "kinds", **more: Any) -> ColumnSummary:
    return lab.engine.column_summary(lab.engine.version(dataset), column, **more)


@pytest.mark.parametrize(
    "column, nulls, nans, distinct, minimum, maximum",
    [
        ("n", 1, 0, 3, 1, 3),
        ("x", 1, 1, 4, 0.0, INF),
        ("single", 1, 1, 4, -INF, 1.5),
        ("same", 0, 0, 1, 7.0, 7.0),
        ("nans", 0, 5, 1, None, None),
        ("nothing", 5, 0, 0, None, None),
        ("text", 1, 0, 3, "B", "b"),
        ("flag", 1, 0, 2, False, True),
        ("day", 3, 0, 2, dt.date(2024, 5, 1), dt.date(2024, 5, 2)),
        ("price", 3, 0, 2, Decimal("1.50"), Decimal("2.50")),
        ("huge", 0, 0, 2, 0, 2**64 - 1),
        ('we"ird', 0, 0, 5, 1, 5),
    ],
)
def test_counts_and_extremes(
    lab: Lab, column: str, nulls: int, nans: int, distinct: int, minimum: Any, maximum: Any
) -> None:
    found = summary(lab, column)
    assert (found.rows, found.nulls, found.nans, found.distinct) == (5, nulls, nans, distinct)
    assert (found.minimum, found.maximum) == (minimum, maximum)
    assert found.column.name == column


@pytest.mark.parametrize("column", ["raw", "flags"])
def test_what_has_no_order(lab: Lab, column: str) -> None:
    found = summary(lab, column)
    assert (found.rows, found.nulls, found.distinct, found.minimum, found.values) == (5, 1, None, None, ())


def test_an_empty_table(lab: Lab) -> None:
    for column in ("x", "text"):
        found = summary(lab, column, "empty")
        assert (found.rows, found.distinct, found.minimum, found.histogram, found.values) == (0, 0, None, None, ())


class TestValues:
    def test_the_most_frequent_first(self, lab: Lab) -> None:
        found = summary(lab, "text")
        assert found.values == ({"value": "b", "count": 2}, {"value": "B", "count": 1}, {"value": "a", "count": 1})
        assert found.matching == 3

    def test_search_looks_past_case(self, lab: Lab) -> None:
        found = summary(lab, "text", search="B")
        assert [one["value"] for one in found.values] == ["b", "B"]
        assert (found.matching, found.distinct) == (2, 3)
        assert summary(lab, "n", search="2").matching == 1
        assert summary(lab, "text", search="%").matching == 0
        assert summary(lab, "text", search="").matching == 3

    def test_pages(self, lab: Lab) -> None:
        page = summary(lab, 'we"ird', limit=2, offset=3)
        assert [one["value"] for one in page.values] == [4, 5]
        assert page.matching == 5
        assert summary(lab, "n", limit=0).values == ()


class TestNumbers:
    def test_quantiles(self, lab: Lab) -> None:
        found = summary(lab, 'we"ird')
        assert found.quantiles == pytest.approx({"p05": 1.2, "p25": 2.0, "p50": 3.0, "p75": 4.0, "p95": 4.8})
        assert summary(lab, "text").quantiles is None
        assert summary(lab, "nans").quantiles == dict.fromkeys(("p05", "p25", "p50", "p75", "p95"))

    def test_the_histogram_counts_what_is_finite(self, lab: Lab) -> None:
        histogram = summary(lab, "x").histogram
        assert histogram is not None
        assert histogram.counts == (1, *[0] * (BINS - 2), 1)
        assert (histogram.edges[0], histogram.edges[-1], len(histogram.edges)) == (0.0, 10.0, BINS + 1)

    def test_values_that_are_all_the_same(self, lab: Lab) -> None:
        histogram = summary(lab, "same").histogram
        assert histogram is not None and (histogram.edges, histogram.counts) == ((7.0, 7.0), (5,))

    @pytest.mark.parametrize("column", ["wide", "nans", "nothing", "text", "day", "flag"])
    def test_no_histogram(self, lab: Lab, column: str) -> None:
        assert summary(lab, column).histogram is None

    def test_it_counts_every_value(self, lab: Lab) -> None:
        for column in ("value", "step", "tokens", "params_numeric", "params_exact"):
            histogram = summary(lab, column, "sweep").histogram
            assert histogram is not None and sum(histogram.counts) == 72


class TestDerived:
    def test_a_derived_column(self, lab: Lab) -> None:
        found = summary(lab, "params_exact", "sweep")
        assert (found.minimum, found.maximum, found.distinct) == (57_078_144, 1_176_832_000, 3)
        assert summary(lab, "params_exact", "sweep", search="570").matching == 1

    def test_sizes_by_their_number(self, lab: Lab) -> None:
        found = summary(lab, "model_size", "sweep")
        assert (found.column.name, found.minimum, found.maximum) == ("params", "60M", "1B")

    def test_no_such_column(self, lab: Lab) -> None:
        with pytest.raises(UnknownColumnError) as caught:
            summary(lab, "parms", "sweep")
        assert caught.value.did_you_mean[0] == "params"


def test_a_summary_is_of_its_version(lab: Lab) -> None:
    before = summary(lab, "value", "sweep").maximum
    lab.publish("sweep", sweep(100.0), DEFINITION)
    assert summary(lab, "value", "sweep").maximum == pytest.approx(before + 100)
    assert lab.engine.column_summary(lab.engine.version("sweep", 1), "value").maximum == before


def test_days_that_python_does_not_have(tmp_path: Path) -> None:
    with Engine(EngineConfig(store=tmp_path / "store", definitions=None)) as engine:
        days = pa.array([0, 10_000_000, None], pa.int32()).cast(pa.date32())
        engine.publish("days", pa.table({"day": days, "n": [1, 2, 3]}))
        found = engine.column_summary(engine.version("days"), "day")
        assert (found.minimum, found.maximum) == ("1970-01-01", "29349-01-26")
        assert found.nulls == 1
