"""Published results of others, under our engine: known facts, and nothing lost on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import Engine
from engine.analysis.least_squares import fit_line
from engine.analysis.scaling import ScalingRequest, prepare_scaling, run_scaling
from queries.request import QueryRequest
from queries.url import parse_query

ACC = "lambada_openai-acc"
SIZES = ["70M", "160M", "410M", "1B", "1.4B", "2.8B", "6.9B", "12B"]


@pytest.fixture(scope="module")
def engine(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    files = {
        "pythia": "pythia/pythia_v1_zero_shot.parquet",
        "openlm": "openlm_scaling/openlm_scaling_runs_wide.parquet",
        "openlm-losses": "openlm_scaling/openlm_scaling_losses_long.parquet",
        "speedrun": "nanogpt_speedrun/speedrun_losses.parquet",
        "optima": "resolving_discrepancies/isoflop_optima_rw.parquet",
    }
    with Engine.open(tmp_path_factory.mktemp("real")) as engine:
        for name, path in files.items():
            engine.publish(name, shared_data / path)
        yield engine


class TestPythia:
    def test_the_value_of_the_largest_at_the_end(self, engine: Engine) -> None:
        q = engine.dataset("pythia").where(params="12B", data="Pile", step=143000, metric=ACC)
        (row,) = q.to_pylist()
        assert round(row["value"], 6) == 0.704638
        assert round(row["stderr"], 6) == 0.006356

    def test_by_size_at_the_last_step(self, engine: Engine) -> None:
        result = engine.dataset("pythia").where(metric=ACC, data="Pile").last_by("params").sort("params").run()
        rows = result.table.to_pylist()
        assert [row["params"] for row in rows] == SIZES
        assert {row["step"] for row in rows} == {143000}
        assert rows[-1]["value"] == pytest.approx(0.704638, abs=5e-7)
        assert result.meta.warnings == ()

    def test_a_column_for_each_size(self, engine: Engine) -> None:
        result = engine.dataset("pythia").where(metric=ACC, data="Pile").pivot("params").run()
        names = result.table.column_names
        assert names[-8:] == SIZES
        assert "compute" not in names and "params_numeric" not in names  # both change with the size
        assert result.table.num_rows == 27
        last = next(row for row in result.table.to_pylist() if row["step"] == 143000)
        assert round(last["12B"], 6) == 0.704638
        by_size = engine.dataset("pythia").where(metric=ACC, data="Pile").pivot("params").select("step").to_arrow()
        assert by_size.column_names == ["step", *SIZES]
        assert by_size.num_rows == 27

    def test_each_row_once_while_another_version_appears(self, engine: Engine, shared_data: Path) -> None:
        whole = pq.read_table(shared_data / "pythia/pythia_v1_zero_shot.parquet")
        number = engine.version("pythia").version.number
        pages, cursor = [], None
        while True:
            page = engine.run(engine.prepare(QueryRequest(dataset="pythia", limit=10_000, cursor=cursor)))
            pages.append(page.table)
            assert page.meta.version == f"v{number}"
            cursor = page.meta.next_cursor
            if cursor is None:
                break
            if len(pages) == 3:
                assert engine.publish("pythia", whole.slice(0, 1000)).created
        engine.set_current("pythia", number)
        assert pa.concat_tables(pages).num_rows == 74_304
        assert same(pa.concat_tables(pages), whole)

    def test_the_order_of_the_input(self, engine: Engine, shared_data: Path, tmp_path: Path) -> None:
        engine.original("pythia", tmp_path / "original.parquet")
        whole = pq.read_table(shared_data / "pythia/pythia_v1_zero_shot.parquet")
        assert pq.read_table(tmp_path / "original.parquet").equals(whole)

    def test_the_named_queries_answer(self, engine: Engine) -> None:
        version = engine.version("pythia")
        assert version.definition.problems == ()
        found = {}
        for name, query in version.definition.queries.items():
            request, _ = parse_query(query.parameters, version.schema)
            found[name] = engine.run(engine.prepare(request)).table
        assert found["small"].num_rows == 27
        assert found["final"].num_rows == 16
        assert found["by_size"].column_names == ["step", *SIZES]
        assert (found["unmelted"].num_rows, found["unmelted"].num_columns) == (432, 5 + 172)

    def test_the_declared_key_holds(self, engine: Engine) -> None:
        version = engine.version("pythia")
        assert version.schema.index is not None
        assert version.schema.index.key() == version.definition.key == ("params", "data", "metric", "step")

    def test_scaling_against_numpy(self, engine: Engine) -> None:
        request = ScalingRequest(QueryRequest(dataset="pythia"), "params_exact", "lambada_openai-ppl", ("data",))
        answer = run_scaling(engine, prepare_scaling(engine, request))
        assert [fit["n"] for fit in answer.fits] == [8, 8]
        for fit in answer.fits:
            rows = [row for row in answer.table.to_pylist() if row["data"] == fit["group"]["data"]]
            slope, intercept = np.polyfit(np.log([row["x"] for row in rows]), np.log([row["y"] for row in rows]), 1)
            assert fit["params"]["slope"] == pytest.approx(slope, rel=1e-9)
            assert fit["params"]["intercept"] == pytest.approx(intercept, rel=1e-9)


class TestUnchanged:
    def test_the_wide_table(self, engine: Engine, shared_data: Path) -> None:
        given = pq.read_table(shared_data / "openlm_scaling/openlm_scaling_runs_wide.parquet")
        served = engine.dataset("openlm").to_arrow()
        assert (served.num_rows, served.num_columns) == (104, 94)
        assert same(served, given)
        (row,) = engine.dataset("openlm").where(name="rpj-open_lm_1b-32.0").to_pylist()
        assert round(row["loss_c4_val"], 6) == 2.502054
        assert row["tokens"] == 921_468_928_000

    def test_names_with_hyphens(self, engine: Engine) -> None:
        result = (
            engine.dataset("openlm").group_by("dataset_name").agg("mean:loss_val_de-en_100", "count:acc").to_arrow()
        )
        assert result["dataset_name"].to_pylist() == ["c4_original", "rpj", "rw_original"]
        assert result["count_acc"].to_pylist() == [34, 35, 35]
        assert None not in result["mean_loss_val_de-en_100"].to_pylist()

    def test_nan_and_null_in_one_column(self, engine: Engine, shared_data: Path) -> None:
        given = pq.read_table(shared_data / "nanogpt_speedrun/speedrun_losses.parquet")
        served = engine.dataset("speedrun").to_arrow()
        assert same(served, given)
        assert served["step_avg_ms"].null_count == 29_493
        (counts,) = engine.dataset("speedrun").agg("count:step_avg_ms").to_pylist()
        assert (counts["nulls_step_avg_ms"], counts["nans_step_avg_ms"]) == (29_493, 1_136)
        assert counts["count_step_avg_ms"] == 349_650 - 29_493 - 1_136
        summary = engine.column_summary(engine.version("speedrun"), "step_avg_ms")
        assert (summary.nulls, summary.nans) == (29_493, 1_136)
        assert engine.dataset("speedrun").where(step_avg_ms=math.nan).run().meta.total == 1_136
        assert engine.dataset("speedrun").where(step_avg_ms=None).limit(1).run().meta.total == 29_493

    def test_long_form_is_found(self, engine: Engine) -> None:
        schema = engine.version("speedrun").schema
        assert (schema.metric_column, schema.value_column) == ("metric", "value")
        assert engine.dataset("speedrun").agg("min:val_loss").to_pylist()[0]["count_val_loss"] == 4_680
        roles = {column.name: column.role.value for column in schema.columns}
        assert (roles["step"], roles["total_steps"], roles["variant"]) == ("axis", "axis", "dimension")

    def test_two_columns_compared(self, engine: Engine) -> None:
        from engine import Condition

        q = engine.dataset("speedrun").where(Condition(col="step", ref="total_steps"))
        expected = [row for row in engine.dataset("speedrun").to_pylist() if row["step"] == row["total_steps"]]
        assert q.run().meta.total == len(expected) > 0


@pytest.mark.parametrize(
    "setting, exponent, points",
    [
        (("base", "long", "kaplan", "kaplan"), 0.833768, 11),
        (("base", "long", "kaplan", "standard"), 0.700899, None),
        (("base", "short", "kaplan", "standard"), 0.603528, None),
        (("base", "short", "chinchilla", "standard"), 0.571425, None),
        (("tuned", "short", "const", "standard"), 0.497029, None),
    ],
)
def test_the_published_exponents(engine: Engine, setting: tuple[str, ...], exponent: float, points: int | None) -> None:
    """Porian et al., arXiv 2406.19146: the optimal model size grows with compute to this power."""
    schema = engine.version("optima").schema
    names = ["hparams", "warmup", "decay", "param_count"]
    assert set(names) <= set(schema.by_name), list(schema.by_name)
    table = engine.dataset("optima").where(dict(zip(names, setting, strict=True))).to_arrow()
    rows = [row for row in table.to_pylist() if row["n"] is not None]
    line = fit_line([math.log(row["flops"]) for row in rows], [math.log(row["n"]) for row in rows])
    assert line is not None
    assert round(line.slope, 6) == exponent
    if points is not None:
        assert (line.n, round(line.r2 or 0, 6)) == (points, 0.998993)


def same(served: pa.Table, given: pa.Table) -> bool:
    """Equal names, and values equal to the last bit, NaN and null told apart."""
    if served.column_names != given.column_names:
        return False
    for name in given.column_names:
        left, right = served[name], given[name]
        if pa.types.is_floating(right.type):
            if left.type != right.type or bits(left) != bits(right):
                return False
        elif left.to_pylist() != right.to_pylist():
            return False
    return True


def bits(column: pa.ChunkedArray) -> tuple[Any, bytes]:
    return column.is_null().to_pylist(), column.fill_null(0.0).to_numpy().tobytes()
