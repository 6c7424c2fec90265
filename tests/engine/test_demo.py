"""The demo data: real cardinalities, determinism, values that mean something, and definitions that fit the files."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from engine.demo import DEMO_DATASETS, write_demo_parquet
from engine.demo.facts import METRICS, RECIPES, SIZES, TASKS
from engine.demo.laws import round_significant

DATASETS = Path(__file__).parents[2] / "datasets"
CHECKPOINTS = 337
KNOWN_KEYS = {
    "": {"title", "description", "source", "licence", "synthetic", "key", "sort"}
    | {"columns", "metrics", "derived", "queries"},
    "columns": {"role", "unit", "description", "alias", "direction"},
    "metrics": {"direction", "unit"},
    "derived": {"kind", "from", "table"},
    "queries": {"title", "dataset", "parameters"},
}
ROLES = {"dimension", "axis", "measure", "metric", "seed", "attribute"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("demo")
    written = {name: folder / f"{name}.parquet" for name in DEMO_DATASETS}
    for name, path in written.items():
        write_demo_parquet(name, path)
    return written


@pytest.fixture(scope="module")
def db(files: dict[str, Path]) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for view, name in {"means": "datadecide", "seeds": "datadecide-seeds", "runs": "ft-matched"}.items():
            connection.execute(f"CREATE VIEW {view} AS FROM '{files[name]}'")
        yield connection


def one(db: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = db.execute(sql).fetchone()
    assert row is not None
    return tuple(row)


def definition(name: str) -> dict[str, Any]:
    return tomllib.loads((DATASETS / name / "dataset.toml").read_text(encoding="utf-8"))


def test_names() -> None:
    assert DEMO_DATASETS == ("datadecide", "datadecide-seeds", "ft-matched")


def test_unknown_name_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="datadecide, datadecide-seeds, ft-matched"):
        write_demo_parquet("datadecida", tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_parquet("datadecide-seeds", tmp_path / "x.parquet", stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["datadecide-seeds", "ft-matched"])
def test_equal_bytes_each_run_and_progress(name: str, files: dict[str, Path], tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    write_demo_parquet(name, tmp_path / "again.parquet", lambda done, total: calls.append((done, total)))
    assert (tmp_path / "again.parquet").read_bytes() == files[name].read_bytes()
    assert [done for done, _ in calls] == list(range(1, calls[-1][1] + 1))


def test_facts_are_the_published_ones() -> None:
    assert (len(RECIPES), len(SIZES), len(METRICS), len(TASKS)) == (25, 14, 221, 10)
    assert {"DCLM-Baseline (QC 7%, FW3)", "DCLM-Baseline 25% / Dolma 75%", "Dolma1.6++"} <= set(RECIPES)
    assert list(RECIPES) == sorted(set(RECIPES))
    labels = "4M 6M 8M 10M 14M 16M 20M 60M 90M 150M 300M 530M 750M 1B"
    assert [size.label for size in SIZES] == labels.split()
    assert (SIZES[0].parameters, SIZES[-1].parameters) == (3_744_832, 1_176_832_000)
    assert (SIZES[0].last_step, SIZES[-1].last_step) == (5_725, 67_500)
    assert SIZES[0].steps == (1_250, 2_500, 3_750, 5_000, 5_725)


def test_cardinalities(db: duckdb.DuckDBPyConnection) -> None:
    counts = "count(*), count(DISTINCT params), count(DISTINCT data), count(DISTINCT metric)"
    assert one(db, f"SELECT {counts} FROM means") == (25 * 221 * CHECKPOINTS, 14, 25, 221)
    assert one(db, f"SELECT {counts}, count(DISTINCT seed) FROM seeds") == (25 * 21 * CHECKPOINTS * 3, 14, 25, 21, 3)
    assert one(db, "SELECT count(*), count(DISTINCT run_id) FROM runs") == (149, 149)
    assert one(db, "SELECT count(*) FROM (SELECT DISTINCT metric, data, params, step FROM means)") == (1_861_925,)
    assert one(db, "SELECT count(DISTINCT metric) FROM means WHERE metric LIKE '%-valppl'") == (11,)


def test_columns(files: dict[str, Path]) -> None:
    long = ["params", "data", "step", "tokens", "compute", "metric", "value"]
    assert pq.read_schema(files["datadecide"]).names == long
    assert pq.read_schema(files["datadecide-seeds"]).names == [*long[:2], "seed", *long[2:]]
    types = {field.name: str(field.type) for field in pq.read_schema(files["datadecide"])}
    assert types == dict(zip(long, ["string", "string", "int64", "int64", "double", "string", "double"], strict=True))


def test_null_share_and_no_nan(db: duckdb.DuckDBPyConnection) -> None:
    share, nan = one(db, "SELECT avg((value IS NULL)::INT), count(*) FILTER (isnan(value) OR isinf(value)) FROM means")
    assert 0.015 < share < 0.025
    assert nan == 0
    (share,) = one(db, "SELECT avg((value IS NULL)::INT) FROM seeds")
    assert 0.02 < share < 0.03


def test_step_5000_for_every_size(db: duckdb.DuckDBPyConnection) -> None:
    assert one(db, "SELECT count(DISTINCT params), count(*) FROM means WHERE step = 5000") == (14, 14 * 25 * 221)


def test_tokens_and_compute_are_exact(db: duckdb.DuckDBPyConnection) -> None:
    rows = db.execute("SELECT DISTINCT params, step, tokens, compute FROM means").fetchall()
    assert len(rows) == CHECKPOINTS
    exact = {size.label: size for size in SIZES}
    for params, step, tokens, compute in rows:
        assert tokens == step * exact[params].batch_sequences * 2_048
        assert compute == float(6 * exact[params].parameters * tokens)


@pytest.mark.parametrize("name", ["datadecide", "datadecide-seeds"])
def test_sorted_as_the_definition_says(name: str, files: dict[str, Path], db: duckdb.DuckDBPyConnection) -> None:
    order = ", ".join(f"('{size.label}', {number})" for number, size in enumerate(SIZES))
    key = ", ".join("n" if column == "params" else column for column in definition(name)["sort"])
    rows, wrong = one(
        db,
        f"""WITH size(params, n) AS (VALUES {order}),
            keyed AS (SELECT file_row_number AS i, row({key}) AS k
                      FROM read_parquet('{files[name]}', file_row_number = true) JOIN size USING (params)),
            pairs AS (SELECT k, lag(k) OVER (ORDER BY i) AS before FROM keyed)
            SELECT count(*), count(*) FILTER (before >= k) FROM pairs""",
    )
    assert (rows, wrong) == (pq.read_metadata(files[name]).num_rows, 0)


def test_a_query_of_one_metric_touches_one_row_group(files: dict[str, Path]) -> None:
    file = pq.ParquetFile(files["datadecide"])
    column = file.schema_arrow.names.index("metric")
    groups = [file.metadata.row_group(i).column(column).statistics for i in range(file.metadata.num_row_groups)]
    assert sum(group.min <= "pile-valppl" <= group.max for group in groups) == 1
    assert files["datadecide"].stat().st_size < 20e6


def test_means_are_means_of_the_seeds(db: duckdb.DuckDBPyConnection) -> None:
    worst, unmatched, joined = one(
        db,
        """SELECT max(abs(m.value / s.mean - 1)), count(*) FILTER ((m.value IS NULL) <> (s.mean IS NULL)), count(*)
           FROM means m JOIN (SELECT metric, data, params, step, avg(value) AS mean FROM seeds GROUP BY ALL) s
           USING (metric, data, params, step)""",
    )
    assert worst < 1e-5
    assert unmatched == 0
    assert joined == 25 * 21 * CHECKPOINTS


def test_perplexity_follows_a_power_law_of_size(db: duckdb.DuckDBPyConnection) -> None:
    for recipe in RECIPES:
        rows = db.execute(
            """SELECT params, arg_max(value, step) FROM means WHERE metric = 'pile-valppl' AND data = ? GROUP BY ALL""",
            [recipe],
        ).fetchall()
        counts = {size.label: size.parameters for size in SIZES}
        x, y = np.log([counts[params] for params, _ in rows]), np.log([value for _, value in rows])
        slope = np.polyfit(x, y, 1)[0]
        assert -0.7 < slope < -0.3
        assert np.corrcoef(x, y)[0, 1] ** 2 > 0.9


def test_the_law_is_found_again(db: duckdb.DuckDBPyConnection) -> None:
    """With the published exponents, log perplexity is linear in N^-0.34 and D^-0.28; the rest is noise."""
    rows = db.execute(
        "SELECT params, tokens, value FROM means WHERE metric = 'pile-valppl' AND data = 'C4' AND value IS NOT NULL"
    ).fetchall()
    counts = {size.label: size.parameters for size in SIZES}
    n = np.array([counts[params] for params, _, _ in rows], float)
    d = np.array([tokens for _, tokens, _ in rows], float)
    terms = np.stack([np.ones(len(rows)), n**-0.34, d**-0.28], axis=1)
    loss = np.log([value for _, _, value in rows])
    (irreducible, a, b), *_ = np.linalg.lstsq(terms, loss, rcond=None)
    assert np.std(loss - terms @ [irreducible, a, b]) < 0.02
    assert a == pytest.approx(0.95 * 406.4, rel=0.1)
    assert b == pytest.approx(0.95 * 410.7, rel=0.1)


@pytest.mark.parametrize("task", TASKS)
def test_scores_are_possible_and_grow_with_size(task: str, db: duckdb.DuckDBPyConnection) -> None:
    low, high = one(
        db,
        f"""SELECT min(value), max(value) FROM means
            WHERE starts_with(metric, '{task}_acc_') OR contains(metric, '{task}_norm_correct_prob')""",
    )
    assert 0 < low < high < 1
    small, large = one(
        db,
        f"""SELECT avg(value) FILTER (params = '4M'), avg(value) FILTER (params = '1B')
            FROM means WHERE metric = '{task}_primary_metric'""",
    )
    assert small < large
    differing = one(
        db,
        f"""SELECT count(*) FROM (SELECT * FROM means WHERE metric = '{task}_bits_per_byte_corr') b
            JOIN (SELECT * FROM means WHERE metric = '{task}_logits_per_char_corr') c USING (data, params, step)
            WHERE abs(b.value * ln(2) + c.value) > 1e-4""",
    )
    assert differing == (0,)


def test_wide_table_has_every_kind_of_column(files: dict[str, Path], db: duckdb.DuckDBPyConnection) -> None:
    types = {name: kind for name, kind, *_ in db.execute("DESCRIBE runs").fetchall()}
    assert len(types) == 41 + 2 * 221
    assert {types[name] for name in ("tags", "loss_curve", "loss_steps")} == {"VARCHAR[]", "DOUBLE[]", "BIGINT[]"}
    assert types["created_at"] == "TIMESTAMP WITH TIME ZONE"
    assert types["run_date"] == "DATE"
    assert types["last_evaluated_at"].startswith("TIMESTAMP")
    assert types["use_lora"] == "BOOLEAN"
    unfinished, no_rank, no_tags = one(
        db,
        "SELECT count(*) FILTER (finished_at IS NULL), count(*) FILTER (lora_rank IS NULL), "
        "count(*) FILTER (len(tags) = 0) FROM runs",
    )
    assert 0 < unfinished < 149
    assert 0 < no_rank < 149
    assert no_tags > 0
    assert one(db, "SELECT count(*) FROM runs WHERE len(loss_curve) <> len(loss_steps)") == (0,)
    assert one(db, "SELECT count(*) FROM runs WHERE finished_at <= started_at OR started_at <= created_at") == (0,)


def test_runs_match_their_checkpoints(db: duckdb.DuckDBPyConnection) -> None:
    for metric in ("pile-valppl", "mmlu_primary_metric"):
        joined, differing = one(
            db,
            f"""SELECT count(*), count(*) FILTER (r."pre_{metric}" IS DISTINCT FROM s.value)
                FROM runs r JOIN seeds s ON s.metric = '{metric}' AND s.params = r.params AND s.data = r.data
                AND s.seed = r.seed AND s.step = r.pretrain_step AND s.tokens = r.pretrain_tokens""",
        )
        assert (joined, differing) == (149, 0)


def test_rounding_keeps_six_digits() -> None:
    values = np.array([0.0, np.nan, 123456.789, -0.00012345678, 9.9999999, 1e-30, 4.5e9])
    expected = [0.0, np.nan, 123457.0, -0.000123457, 10.0, 1e-30, 4.5e9]
    np.testing.assert_array_equal(round_significant(values), expected)


@pytest.mark.parametrize("name", [*DEMO_DATASETS, "pythia"])
def test_definition_has_only_known_keys(name: str) -> None:
    found = definition(name)
    assert set(found) <= KNOWN_KEYS[""]
    for table, known in KNOWN_KEYS.items():
        for entry in found.get(table, {}).values() if table else ():
            assert set(entry) <= known
    assert {column["role"] for column in found["columns"].values()} <= ROLES
    directions = [entry.get("direction") for table in ("columns", "metrics") for entry in found.get(table, {}).values()]
    assert set(directions) <= {"lower", "higher", None}
    for derived in found["derived"].values():
        assert derived["kind"] in ("size_label", "lookup")
        assert ("table" in derived) == (derived["kind"] == "lookup")
    for query in found["queries"].values():
        assert query["title"]
        assert all(isinstance(value, str) for value in query["parameters"].values())
        assert query.get("dataset", name) in DEMO_DATASETS or name == "pythia"


@pytest.mark.parametrize("name", DEMO_DATASETS)
def test_definition_says_synthetic_and_fits_the_file(name: str, files: dict[str, Path]) -> None:
    found, columns = definition(name), set(pq.read_schema(files[name]).names)
    assert found["synthetic"] is True
    assert "SYNTHETIC" in found["description"]
    assert "2504.11393" in found["description"]
    assert set(found["columns"]) <= columns
    assert {*found["key"], *found["sort"]} <= columns
    assert {derived["from"] for derived in found["derived"].values()} <= columns
    assert found["derived"]["params_exact"]["table"] == {size.label: size.parameters for size in SIZES}
    aliases = [alias for column in found["columns"].values() for alias in column.get("alias", [])]
    assert len(aliases) == len(set(aliases))
    assert not set(aliases) & columns
    if name != "ft-matched":
        assert set(found["columns"]) == columns


def test_definition_of_pythia_fits_the_real_file() -> None:
    found = definition("pythia")
    assert found["synthetic"] is False
    assert found["licence"] == "Apache-2.0"
    expected = "params params_numeric data shots step tokens compute task metric value stderr"
    assert set(found["columns"]) == set(expected.split())


def test_no_code_beside_the_data() -> None:
    assert not list(DATASETS.rglob("*.py"))
