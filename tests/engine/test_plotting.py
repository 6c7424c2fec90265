"""Plots by matplotlib, drawn on no screen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import pytest

from queries.errors import GrammarError
from tests.engine.support import Lab

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("plots"))
    lab.sweep()
    lab.publish("odd", {"name": ["a", "b"], "x": [1.0, None], "y": [2.0, 3.0]})
    yield lab
    lab.engine.close()


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    from matplotlib import pyplot

    pyplot.close("all")


def lines(axes: Any) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}


def test_axis_and_measure_are_found(lab: Lab) -> None:
    q = lab.query().where(metric="accuracy", params="60M", data="C4").select("params", "step", "value")
    axes = q.plot()
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("step", "value", "sweep v1")
    ((xs, ys),) = lines(axes).values()
    assert (xs, ys) == ([0, 1000, 2000, 5000], [row["value"] for row in q.to_pylist()])


def test_a_line_for_each(lab: Lab) -> None:
    axes = lab.query().where(metric="accuracy", data="C4").plot("step", "value", by="params")
    assert list(lines(axes)) == ["60M", "150M", "1B"]
    assert axes.get_legend().get_title().get_text() == "params"


def test_groups(lab: Lab) -> None:
    axes = lab.query().where(metric="accuracy").group_by("step").agg("mean").plot()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step", "mean")


def test_on_given_axes(lab: Lab) -> None:
    from matplotlib import pyplot

    _, axes = pyplot.subplots()
    assert lab.query().where(metric="accuracy").plot(ax=axes) is axes


def test_what_is_null_is_left_out(lab: Lab) -> None:
    ((xs, ys),) = lines(lab.query("odd").plot("x", "y")).values()
    assert (xs, ys) == ([1.0], [2.0])


def test_names(lab: Lab) -> None:
    with pytest.raises(GrammarError, match="no column 'z'"):
        lab.query("odd").plot("z")
    with pytest.raises(GrammarError, match="no number"):
        lab.query("odd").select("name").plot()
