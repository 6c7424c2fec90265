"""The builder: SPEC 4's example, immutability, one query_id in every spelling, and every way out of it."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from engine import Aggregate, Condition, Engine, Not, Or, Query, QueryRequest
from engine.versions import Scan
from queries.body import parse_body
from queries.errors import GrammarError, LimitExceededError, UnknownColumnError
from queries.url import parse_query
from tests.engine.support import DEFINITION, Lab, sweep


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("query"))
    lab.sweep()
    lab.publish(
        "wide",
        {
            "run": ["a", "b", "<b>&"],
            "loss": [0.5, math.nan, None],
            "value__lt": [1, 2, 3],
            "c": [1, 2, None],
            "day": pa.array([dt.date(2024, 5, 1), None, dt.date(2024, 6, 1)]),
            "price": pa.array([Decimal("1.50"), Decimal("2.25"), None], pa.decimal128(10, 2)),
            "flags": [["x"], [], None],
            "limit": [1, 2, 3],
        },
    )
    yield lab
    lab.engine.close()


def test_the_example_of_the_contract(lab: Lab) -> None:
    """SPEC 4, but for the names of dataset and version."""
    engine = lab.engine
    q = (engine.dataset("sweep", version="v1")
           .where(data="Dolma1.7", params=["60M", "150M"], metric="pile-valppl")
           .group_by("params").agg("mean", "std", "count").sort("-mean"))  # fmt: skip
    assert isinstance(q, Query)
    assert q.sql.startswith("SELECT") and f"${len(q.params)}" in q.sql
    assert q.url.startswith("/api/datasets/sweep/rows?version=v1&data=Dolma1.7&params=60M%2C150M&metric=pile-valppl&")
    assert len(q.query_id) == 64
    assert set(q.explain()) == {"sql", "plan", "files", "files_left_out", "rows_read"}
    rows = q.to_pylist()
    assert [row["params"] for row in rows] == ["150M", "60M"]
    assert [row["count"] for row in rows] == [4, 4]
    for made in (q.to_arrow().to_pylist(), q.to_pandas().to_dict("records"), q.to_polars().to_dicts()):
        assert made == rows
    assert q.relation().fetchall() == [tuple(row.values()) for row in rows]
    assert pa.table(q).to_pylist() == rows
    assert pl.DataFrame(q).to_dicts() == rows
    assert "150M" in q._repr_html_()
    assert engine.publish("my-sweep", q.to_arrow(), message="rerun with seed 4").created


STEPS: dict[str, Callable[[Query], Query]] = {
    "where": lambda q: q.where(params="60M"),
    "where again": lambda q: q.where(params="60M").where(step__gte=1000),
    "where twice": lambda q: q.where(params="60M", metric="accuracy").where(step__gte=1000, data=["C4"]),
    "mapping": lambda q: q.where({"step__between": [1000, 2000], "data_source__ne": "C4"}),
    "or": lambda q: q.where(Or(or_=(Condition(col="step", value=0), Condition(col="data", value="C4")))),
    "not": lambda q: q.where(Not(not_=Condition(col="data", value="C4"))),
    "none": lambda q: q.where(value=None),
    "isnull": lambda q: q.where(value__isnull=False),
    "select": lambda q: q.select("params", "value"),
    "group": lambda q: q.group_by("params", "data_source"),
    "aggregates": lambda q: q.group_by("params").agg("p05", "max:step", "mean:accuracy"),
    "having": lambda q: q.group_by("params").having(mean__gt=0.4).having({"count__lt": 100}),
    "sort": lambda q: q.sort("-value", "step"),
    "page": lambda q: q.limit(5, offset=10),
    "distinct": lambda q: q.select("data").distinct(),
    "last_by": lambda q: q.last_by("params", "data"),
    "best_by": lambda q: q.where(metric="accuracy").best_by("params"),
    "best_by outright": lambda q: q.best_by("params", of="-step"),
    "pivot": lambda q: q.pivot("metric"),
    "pivot values": lambda q: q.pivot("metric", "step").select("params"),
    "facets": lambda q: q.facets("params", "data"),
    "lenient": lambda q: q.where(params="61M").lenient(),
    "quoted": lambda q: q.where(data="DCLM-Baseline (QC 7%, FW3)"),
    "numpy": lambda q: q.where(step=np.int64(1000), value__lt=np.float64(0.5)),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_every_spelling_has_one_query_id(lab: Lab, step: Callable[[Query], Query]) -> None:
    start = lab.query()
    q = step(start)
    assert start.request == QueryRequest(dataset="sweep"), "a step changes nothing but its result"
    body = parse_body(json.dumps(q.body).encode())
    assert lab.engine.prepare(body).query_id == q.query_id
    try:
        pairs = parse_qsl(urlsplit(q.url).query, keep_blank_values=True)
    except GrammarError:
        assert {"or", "not"} & set(json.dumps(q.body).split('"'))
        return
    read, _ = parse_query(pairs, lab.engine.version("sweep").schema)
    assert lab.engine.prepare(read).query_id == q.query_id
    assert read.dataset == "sweep"


@pytest.mark.parametrize(
    "value",
    [
        [0, 1000], (1000, 0), {0, 1000}, frozenset({0, 1000}), np.array([0, 1000]), [np.int64(0), np.int32(1000)],
        pd.Series([0, 1000]), pl.Series([0, 1000]), pd.Index([0, 1000]), ["0", 1e3], range(0, 1001, 1000),
    ],
    ids=lambda value: type(value).__module__ + "." + type(value).__name__,
)  # fmt: skip
def test_whatever_holds_several_values(lab: Lab, value: Any) -> None:
    q = lab.query().where(step=value)
    assert q.query_id == lab.query().where(step__in=[0, 1000]).query_id
    assert lab.engine.prepare(parse_body(json.dumps(q.body).encode())).query_id == q.query_id
    assert "step" in repr(q)
    assert q.run().meta.total == 36


@pytest.mark.parametrize(
    "where, rows",
    [
        ({"day": dt.date(2024, 5, 1)}, 1),
        ({"day__gt": "2024-05-01"}, 1),
        ({"day": np.datetime64("2024-05-01")}, 1),
        ({"price": Decimal("2.25")}, 1),
        ({"loss": math.nan}, 1),
        ({"loss": None}, 1),
        ({"loss__lt": np.float32(0.75)}, 1),
        ({"value__lt": 2}, 1),
        ({"value__lt__lt": 2}, 1),
        ({"flags": None}, 1),
        ({"limit": 2}, 1),
        ({"run": "<b>&"}, 1),
    ],
    ids=str,
)
def test_values_of_other_types(lab: Lab, where: dict[str, Any], rows: int) -> None:
    q = lab.query("wide").where(where)
    assert q.run().meta.total == rows
    assert lab.engine.prepare(parse_body(json.dumps(q.body, allow_nan=True).encode())).query_id == q.query_id
    pairs = parse_qsl(urlsplit(q.url).query, keep_blank_values=True)
    assert lab.engine.prepare(parse_query(pairs, lab.engine.version("wide").schema)[0]).query_id == q.query_id


def test_what_is_no_condition(lab: Lab) -> None:
    with pytest.raises(GrammarError, match="conditions or mappings"):
        lab.query().where("step > 5")  # type: ignore[arg-type]
    with pytest.raises(GrammarError, match="conditions or mappings"):
        lab.query().group_by("params").having("mean > 5")  # type: ignore[arg-type]
    with pytest.raises(UnknownColumnError):
        lab.query().where(stp=5).run()


def test_aggregates_under_names_of_their_own(lab: Lab) -> None:
    q = lab.query().group_by("params").agg("count", Aggregate(fn="max"), best=("min", "value"), first="first:step")
    assert q.run().table.column_names[:5] == ["params", "count", "max", "best", "first"]
    with pytest.raises(GrammarError, match="cannot be written as a URL"):
        _ = q.url


def test_null_and_nan_stay_two_things(lab: Lab) -> None:
    q = lab.query("wide").select("loss", "c")
    assert q.to_arrow()["loss"].to_pylist()[2] is None and math.isnan(q.to_arrow()["loss"].to_pylist()[1])
    frame = q.to_pandas()
    assert list(frame["loss"].isna()) == [False, False, True] or list(frame["loss"].isna()) == [False, True, True]
    assert pa.Table.from_pandas(frame)["loss"].null_count == 1
    assert str(frame["c"].dtype) == "int64[pyarrow]"
    assert q.to_polars()["loss"].null_count() == 1


def test_a_relation_goes_on_in_sql(lab: Lab) -> None:
    relation = lab.query().where(metric="accuracy").relation()
    assert relation.aggregate("max(step) AS most").fetchall() == [(5000,)]
    assert lab.query().pivot("metric").relation().columns[-2:] == ["pivot_0", "pivot_1"]


def test_explain_of_a_pivot(lab: Lab) -> None:
    assert "PIVOT" in lab.query().pivot("metric").explain()["sql"]


class TestReprs:
    def test_a_repr_runs_nothing(self, lab: Lab) -> None:
        assert repr(lab.query()) == "<Query of sweep latest: {'dataset': 'sweep'}>"
        assert "'params'" in repr(lab.query(version=1).where(params="60M"))
        assert repr(lab.engine.dataset("not-there")).startswith("<Query of not-there latest")

    def test_html_is_escaped(self, lab: Lab) -> None:
        shown = lab.query("wide").select("run", "loss")._repr_html_()
        assert "<td>&lt;b&gt;&amp;</td><td></td>" in shown
        assert "<b>" not in shown
        assert "3 of 3 rows" in shown

    def test_html_shows_a_few_rows(self, lab: Lab) -> None:
        shown = lab.query()._repr_html_()
        assert shown.count("<tr>") == 11
        assert "10 of 72 rows" in shown
        assert lab.query().limit(3)._repr_html_().count("<tr>") == 4
        assert lab.query().limit(0)._repr_html_().count("<tr>") == 1


class TestPublish:
    @pytest.fixture
    def engine(self, tmp_path: Path) -> Iterator[Engine]:
        with Engine.open(tmp_path, definitions=None) as engine:
            yield engine

    @pytest.mark.parametrize(
        "make",
        [
            lambda table: table,
            lambda table: table.to_batches()[0],
            lambda table: table.to_pandas(),
            lambda table: table.to_pandas(types_mapper=pd.ArrowDtype),
            lambda table: pl.from_arrow(table),
        ],
        ids=["pyarrow", "batch", "pandas", "pandas on Arrow", "polars"],
    )
    def test_tables(self, engine: Engine, make: Callable[[pa.Table], Any]) -> None:
        outcome = engine.publish("t", make(sweep()), message="m", by="b")
        assert (outcome.version.message, outcome.version.by, outcome.version.rows) == ("m", "b", 72)
        assert engine.dataset("t").to_pylist() == sweep().to_pylist()

    def test_a_filtered_frame_has_no_column_more(self, engine: Engine) -> None:
        frame = sweep().to_pandas()
        engine.publish("t", frame[frame["step"] > 0])
        assert engine.dataset("t").to_arrow().column_names == sweep().column_names

    def test_a_named_index_is_data(self, engine: Engine) -> None:
        engine.publish("t", sweep().to_pandas().set_index("step"))
        assert engine.dataset("t").to_arrow().column_names[0] == "step"

    def test_the_answer_to_a_query(self, engine: Engine) -> None:
        engine.publish("t", sweep())
        engine.publish("means", engine.dataset("t").group_by("params").agg("mean"))
        assert engine.dataset("means").run().meta.total == 3


def test_a_definition_beside_the_data(tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "dataset.toml").write_text(DEFINITION, encoding="utf-8")
    with Engine.open(tmp_path, definitions=None) as engine:
        engine.publish("sweep", sweep())
        assert engine.dataset("sweep").where(data_source="C4").run().meta.total == 24


def test_a_lazy_relation_that_cannot_be_made_holds_no_files(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    q = lab.query().pivot("metric")
    q.relation()
    closed: list[Scan] = []
    monkeypatch.setattr(Scan, "close", lambda scan: closed.append(scan))
    monkeypatch.setattr("engine.engine.MAX_PIVOT_COLUMNS", 1)
    with pytest.raises(LimitExceededError):
        q.relation()
    assert len(closed) == 1
