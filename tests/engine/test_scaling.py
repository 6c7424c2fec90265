"""Scaling: which points a request selects, and the line through them, against numpy."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.analysis.least_squares import fit_line
from engine.analysis.scaling import ScalingAnswer, ScalingRequest, prepare_scaling, run_scaling
from engine.demo.facts import SIZES
from queries.errors import GrammarError, InvalidValueError, QueryError, TypeMismatchError, UnknownColumnError
from queries.request import QueryRequest
from tests.engine.support import DEFINITION, Lab
from tests.queries.support import is_


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("scaling"))
    lab.sweep()
    runs = {
        "run": ["a", "b", "c", "d", "e", "f"],
        "group": ["x", "x", "x", "y", None, "y"],
        "n": [1e6, 1e7, 1e8, 1e6, 1e6, 1e7],
        "seed": [0, 1, 2, 0, 0, 1],
        "loss": [4.0, 3.0, 2.0, 5.0, 1.0, None],
    }
    lab.publish("runs", runs, "columns.n.role = 'axis'\ncolumns.loss.direction = 'lower'\n")
    yield lab
    lab.engine.close()


def scaling(lab: Lab, x: str, y: str, dataset: str = "sweep", **more: Any) -> ScalingAnswer:
    query = QueryRequest(dataset=dataset, where=more.pop("where", None), version=more.pop("version", None))
    return run_scaling(lab.engine, prepare_scaling(lab.engine, ScalingRequest(query, x, y, **more)))


def test_the_line_is_that_of_numpy(lab: Lab) -> None:
    answer = scaling(lab, "params_numeric", "pile-valppl")
    table = lab.query().where(metric="pile-valppl", step=5000).to_arrow()
    numbers = {"60M": 60e6, "150M": 150e6, "1B": 1e9}
    x = np.log([numbers[label] for label in table["params"].to_pylist()])
    y = np.log(table["value"].to_numpy())
    (slope, intercept), covariance = np.polyfit(x, y, 1, cov=True)
    (fit,) = answer.fits
    assert (fit["group"], fit["form"], fit["loss"], fit["n"], fit["seeds"]) == ({}, "ols", "log_l2", 9, None)
    assert fit["params"] == {"slope": pytest.approx(slope, rel=1e-10), "intercept": pytest.approx(intercept, rel=1e-10)}
    errors = np.sqrt(np.diag(covariance))
    assert fit["standard_errors"]["slope"] == pytest.approx(errors[0], rel=1e-8)
    assert fit["standard_errors"]["intercept"] == pytest.approx(errors[1], rel=1e-8)
    assert fit["r2"] == pytest.approx(np.corrcoef(x, y)[0, 1] ** 2, rel=1e-8)
    assert sorted(fit["residuals"]) == pytest.approx(sorted(y - (slope * x + intercept)), abs=1e-12)
    assert answer.table.num_rows == 9 and answer.dropped == 0
    assert [column.name for column in answer.columns] == answer.table.column_names
    assert answer.table["x"].to_pylist() == sorted(answer.table["x"].to_pylist())


def test_groups_may_be_any_plain_column(lab: Lab) -> None:
    columns = {
        "run": ["a", "b", "c", "d"],
        "group": ["x", "", "x", ""],
        "day": pa.array([0, 2**31 - 1, 0, 2**31 - 1], pa.date32()),  # DuckDB's infinity, which Python has not
        "parts": [[1], [2], [1], [2]],
        "n": [1e6, 1e6, 1e7, 1e7],
        "loss": [4.0, 3.0, 2.0, 1.0],
    }
    lab.publish("plain", columns, "columns.n.role = 'axis'\ncolumns.loss.direction = 'lower'\n")
    fits = scaling(lab, "n", "loss", dataset="plain", group_by=("group",)).fits
    assert [fit["group"]["group"] for fit in fits] == ["", "x"]
    answer = scaling(lab, "n", "loss", dataset="plain", group_by=("day",))
    assert [fit["n"] for fit in answer.fits] == [2, 2] and answer.table.schema.field("day").type == pa.date32()
    with pytest.raises(TypeMismatchError, match="parts is nested"):
        scaling(lab, "n", "loss", dataset="plain", group_by=("parts",))


def test_one_fit_for_each_group(lab: Lab) -> None:
    answer = scaling(lab, "params_numeric", "accuracy", group_by=("data_source",))
    assert [fit["group"] for fit in answer.fits] == [
        {"data": "C4"}, {"data": "DCLM-Baseline (QC 7%, FW3)"}, {"data": "Dolma1.7"}
    ]  # fmt: skip
    assert [fit["n"] for fit in answer.fits] == [3, 3, 3]
    assert answer.table["data"].to_pylist() == [name for fit in answer.fits for name in [fit["group"]["data"]] * 3]


def test_groups_of_sizes_go_by_their_number(lab: Lab) -> None:
    answer = scaling(lab, "tokens", "accuracy", group_by=("params",), at="step:1000")
    assert [fit["group"]["params"] for fit in answer.fits] == ["60M", "150M", "1B"]


@pytest.mark.parametrize(
    "at, steps",
    [("last", {5000}), ("step:1000", {1000}), ("step:1e3", {1000}), ("tokens:2048000", {1000}), ("best", {0})],
)
def test_where_in_training(lab: Lab, at: str, steps: set[int]) -> None:
    answer = scaling(lab, "params_numeric", "accuracy", at=at)
    assert set(answer.table["step"].to_pylist()) == steps
    assert answer.table.num_rows == 9


@pytest.mark.parametrize("x", ["params", "params_numeric", "params_exact", "compute", "tokens"])
def test_axes(lab: Lab, x: str) -> None:
    answer = scaling(lab, x, "accuracy")
    assert all(value > 0 for value in answer.table["x"].to_pylist())
    described = {column.name: column for column in answer.columns}
    assert (described["y"].direction, described["x"].sql_type) == ("higher", "DOUBLE")


def test_a_column_as_measure(lab: Lab) -> None:
    answer = scaling(lab, "n", "loss", "runs", group_by=("group",))
    assert [(fit["group"]["group"], fit["n"], fit["seeds"]) for fit in answer.fits] == [
        ("x", 3, 3),
        ("y", 1, 1),
        (None, 1, 1),
    ]
    few = answer.fits[1]
    assert few["params"] is None and "two different x" in few["warnings"][0]
    assert answer.dropped == 1
    assert "1 of 6 points" in answer.meta.warnings[-1]


def test_what_has_no_logarithm_is_counted(lab: Lab) -> None:
    answer = scaling(lab, "tokens", "accuracy", where=is_("data", "C4"), at="step:0")
    assert (answer.table.num_rows, answer.dropped, answer.fits) == (0, 3, ())


def test_one_question_has_one_query_id(lab: Lab) -> None:
    def id_of(x: str, y: str, **more: Any) -> str:
        query = QueryRequest(dataset="sweep", where=more.pop("where", None))
        return prepare_scaling(lab.engine, ScalingRequest(query, x, y, **more)).query_id

    assert id_of("params", "accuracy") == id_of("params_numeric", "accuracy") == id_of("params", "accuracy", at="last")
    others = [
        id_of("params", "accuracy"),
        id_of("params_exact", "accuracy"),
        id_of("params", "pile-valppl"),
        id_of("params", "accuracy", group_by=("data",)),
        id_of("params", "accuracy", at="best"),
        id_of("params", "accuracy", at="step:1000"),
        id_of("params", "accuracy", where=is_("data", "C4")),
        id_of("params", "value"),
    ]
    assert len(set(others)) == len(others)


REFUSED: dict[str, tuple[dict[str, Any], type[QueryError], dict[str, Any]]] = {
    "form": ({"forms": ("power",)}, InvalidValueError, {"param": "fit", "did_you_mean": ("ols",)}),
    "x": ({"x": "parms"}, UnknownColumnError, {"param": "x_axis", "value": "parms"}),
    "x is text": ({"x": "data"}, TypeMismatchError, {"param": "x_axis"}),
    "y": ({"y": "pile-valpl"}, UnknownColumnError, {"param": "y_axis", "did_you_mean": ("pile-valppl",)}),
    "y is text": ({"y": "data"}, TypeMismatchError, {"param": "y_axis"}),
    "group": ({"group_by": ("dat",)}, UnknownColumnError, {"param": "group_by"}),
    "at": ({"at": "first"}, GrammarError, {"param": "at", "value": "first"}),
    "at nothing": ({"at": "step:"}, GrammarError, {"param": "at"}),
    "at text": ({"at": "data:C4"}, GrammarError, {"param": "at"}),
    "at no number": ({"at": "step:many"}, InvalidValueError, {"param": "at"}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(lab: Lab, case: str) -> None:
    changes, error, says = REFUSED[case]
    with pytest.raises(error) as caught:
        scaling(lab, **{"x": "params", "y": "accuracy", **changes})
    found = {name: getattr(caught.value, name) for name in says}
    if "did_you_mean" in says:
        found["did_you_mean"] = found["did_you_mean"][:1]
    assert found == says


class TestLine:
    def test_too_few(self) -> None:
        assert fit_line([], []) is None
        assert fit_line([1.0], [2.0]) is None
        assert fit_line([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) is None

    def test_two_points(self) -> None:
        line = fit_line([0.0, 2.0], [1.0, 5.0])
        assert line is not None
        assert (line.slope, line.intercept, line.objective, line.r2) == (2.0, 1.0, 0.0, 1.0)
        assert (line.slope_error, line.intercept_error) == (None, None)

    def test_a_flat_line(self) -> None:
        line = fit_line([0.0, 1.0, 2.0], [3.0, 3.0, 3.0])
        assert line is not None and (line.slope, line.r2, line.slope_error) == (0.0, None, 0.0)

    @given(st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=3, max_size=30))
    def test_no_line_is_nearer(self, points: list[tuple[float, float]]) -> None:
        x, y = [one for one, _ in points], [one for _, one in points]
        assume(max(x) - min(x) > 1e-3)
        line = fit_line(x, y)
        assert line is not None
        assert math.fsum(line.residuals) == pytest.approx(0, abs=1e-8)
        for slope, intercept in ((1e-3, 0), (-1e-3, 0), (0, 1e-3), (0, -1e-3)):
            other = sum(
                (b - (line.slope + slope) * a - line.intercept - intercept) ** 2 for a, b in zip(x, y, strict=True)
            )
            assert other >= line.objective - 1e-9


def test_a_law_is_found_again(tmp_path: Path) -> None:
    """Values made of a power law give back its exponent."""
    rows = [
        {"params": size.label, "data": "C4", "step": step, "metric": "loss", "value": 400 * size.parameters**-0.34}
        for size in SIZES
        for step in (1, 2)
    ]
    lab = Lab(tmp_path)
    with lab.engine:
        lab.publish("law", pa.Table.from_pylist(rows), DEFINITION.split("[derived")[0])
        (fit,) = scaling(lab, "params", "loss", "law").fits
    assert fit["params"]["slope"] == pytest.approx(-0.34, abs=0.01)  # labels are rounded, parameters are not
    assert fit["n"] == len(SIZES)
