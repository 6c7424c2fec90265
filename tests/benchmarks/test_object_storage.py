"""The benchmark of object storage on tiny tables and moto: all systems agree, and what is counted is plausible.

Nothing here is timed. s3fs has no place in this environment, so that it is left out, and said to be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.measure import Effort
from benchmarks.object_storage.bench import Bench, Plan
from benchmarks.object_storage.cold import measure_cold
from benchmarks.object_storage.findings import Findings
from benchmarks.object_storage.home import Home, StoredFile, Traffic, matching_bytes, open_home
from benchmarks.object_storage.large import measure_large
from benchmarks.object_storage.material import METRICS, Material, make_definitions, make_file
from benchmarks.object_storage.publishing import _steps, measure_publishing
from benchmarks.object_storage.run import main
from benchmarks.object_storage.steady import measure_refresh, measure_warm
from benchmarks.object_storage.systems import difference
from tests.object_storage.proxy import Seen

TINY = Plan(1, 1, 1, 1 << 20, repeat=1, warm=2, poll_s=0.2, watch_s=1, blocks=1, effort=Effort(2, 2, 1.0))
MATERIAL = Material("tiny", 2)
ABOUT = {
    "at": "2026-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "storage": "moto's server",
    "latency_ms": 20.0,
    "bandwidth_mb_s": 60.0,
    "load_before": 0.1,
    "load_after": 0.2,
    "machine": {
        "processor": "a processor",
        "cores": 2,
        "memory_bytes": 8_000_000_000,
        "system": "Linux",
        "python": "3.11",
        "packages": {"duckdb": "2.0.1"},
    },
}


@pytest.fixture(scope="module")
def home() -> Iterator[Home]:
    with open_home("moto") as home:
        yield replace(home, quiet_s=0.2)


@pytest.fixture(scope="module")
def bench(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """With the dataset published, as its command line does it."""
    scratch = tmp_path_factory.mktemp("work") / "run"
    scratch.mkdir()
    python = Path(sys.executable)
    bench = Bench(
        home=home,
        plan=TINY,
        scratch=scratch,
        definitions=make_definitions((MATERIAL,), scratch / "definitions"),
        pythons={"duckdb-s3fs": python, "pyarrow": python},
        findings=Findings(dict(ABOUT)),
        say=lambda _: None,
    )
    measure_publishing(bench, (MATERIAL,), repeat=1)
    return bench


def test_publishing_says_what_it_stored_and_where_the_time_went(bench: Bench) -> None:
    assert bench.findings.problems == []
    ((record,),) = (table.records for table in bench.findings.tables if table.name == "publish")
    assert record["rows"] == MATERIAL.rows == 126_000
    assert record["files"] == len(bench.files["tiny"]) == 1
    assert record["stored_bytes"] == bench.files["tiny"][0].size > 500_000
    assert record["peak_bytes"] > 50_000_000
    steps = {
        step: record[f"{step}_s"] for step in ("start", "check", "order", "sort", "write", "describe", "upload", "end")
    }
    known = {step: seconds for step, seconds in steps.items() if seconds is not None}
    assert {"start", "upload", "end"} <= set(known)  # a step that is over at once may go unsaid
    assert record["peak_step"] in known
    assert all(seconds >= 0 for seconds in known.values())
    assert sum(known.values()) == pytest.approx(record["seconds"])


def test_all_systems_agree_and_what_they_fetch_is_plausible(bench: Bench) -> None:
    measure_cold(bench, (MATERIAL,))
    assert bench.findings.problems == []
    ((file,),) = bench.files.values()
    (table,) = (table for table in bench.findings.tables if table.name == "cold")
    records = {(record["system"], record["question"]): record for record in table.records}
    assert set(records) == {
        (system, question) for system in ("ours", "pyarrow") for question in ("one-metric", "group-by")
    }
    for (system, _), record in records.items():
        assert record["warm_requests"] == (0 if system == "ours" else pytest.approx(record["warm_requests"]))
        assert 20_000 < record["settled_bytes"] < 3 * file.size
        assert record["fetched_bytes"] <= record["settled_bytes"]
        assert record["peak_bytes"] > 50_000_000
    ours = records["ours", "group-by"]
    assert ours["settled_bytes"] >= file.size
    answers = {question.kind: rows for question, rows in bench.answers.items()}
    assert {kind: len(rows) for kind, rows in answers.items()} == {"one-metric": 1_050, "group-by": 60 * 14}
    assert sum(row[3] for row in answers["group-by"]) == MATERIAL.rows
    # It was asked for, and cannot run here: that is in the report, and no failure of ours.
    assert "ModuleNotFoundError" in bench.findings.missing["duckdb-s3fs"]
    assert not bench.findings.failed


def test_a_dataset_larger_than_the_cache_is_answered_alike(bench: Bench) -> None:
    measure_large(bench, MATERIAL)
    assert bench.findings.problems == []
    (table,) = (table for table in bench.findings.tables if table.name == "large")
    ours = [record for record in table.records if record["system"] == "ours"]
    assert len(ours) == len(table.records) / 2 == 7
    assert ours[1]["matching_bytes"] == bench.files["tiny"][0].size


def test_polls_and_warm_answers_are_counted(bench: Bench) -> None:
    measure_refresh(bench, MATERIAL)
    measure_warm(bench, MATERIAL)
    assert bench.findings.problems == []
    tables = {table.name: table.records for table in bench.findings.tables}
    assert [record["process"] for record in tables["refresh"]] == ["serves", "serves and looks for drops"]
    assert all(record["requests"] >= 1 and "log" in record["kinds"] for record in tables["refresh"])
    assert [record["question"] for record in tables["warm"]] == ["one-metric", "group-by"]
    assert [record["requests"] for record in tables["warm"]] == [0, 0]
    text = bench.findings.render()
    assert "## Warm answers, against a folder" in text
    assert "- `duckdb-s3fs`: cold tiny one-metric: ServerError" in text


def test_rows_are_always_the_same(tmp_path: Path) -> None:
    first, second = (make_file(MATERIAL, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
    assert Material.of_size("x", 2e9).rows == pytest.approx(2e9 / 9.85, rel=0.01)


def test_steps_are_in_order_and_fill_the_time() -> None:
    said = [
        (2.0, "checking x.parquet"),
        (3.0, "ordering x.parquet"),
        (3.2, "sorting x.parquet"),
        (3.5, "a warning"),
        (4.0, "writing x.parquet"),
    ]
    steps = _steps(1.0, said, [(6.0, 7.0), (5.5, 6.5)], 7.5)
    assert steps == pytest.approx(
        {"start": 1.0, "check": 1.0, "order": 0.2, "sort": 0.8, "write": 1.5, "upload": 1.5, "end": 0.5}
    )


def test_traffic_is_told_by_kind() -> None:
    traffic = Traffic.of(
        [
            Seen("GET", "/b/p/x/_bt/log/0000000001.json", 404, 0, 300),
            Seen("GET", "/b?list-type=2&prefix=p%2Fx", 200, 0, 700),
            Seen("PUT", "/b/p/x/_bt/data/1.parquet", 200, 5_000, 0),
        ]
    )
    assert (traffic.requests, traffic.bytes_down, traffic.bytes_up) == (3, 1_000, 5_000)
    assert traffic.kinds == {"GET log": 1, "GET list": 1, "PUT data": 1}


def test_files_that_match_are_those_with_the_metric_between_their_bounds() -> None:
    files = [StoredFile("1", 10, METRICS[0], METRICS[3]), StoredFile("2", 20, METRICS[3], METRICS[9])]
    assert [matching_bytes(files, METRICS[number]) for number in (0, 3, 9, 11)] == [10, 30, 20, 0]


@pytest.mark.parametrize(
    "here, there, found",
    [
        ([("a", 0.1 + 0.2)], [("a", 0.3)], None),
        ([("a", 1.0), ("b", 2.0)], [("b", 2.0), ("a", 1.0)], None),
        ([("a", 1.0)], [("a", 1.001)], "('a', 1.0) and ('a', 1.001)"),
        ([("a", 1.0)], [], "1 rows and 0 rows"),
    ],
    ids=["rounding", "order", "value", "count"],
)
def test_answers_differ_in_rows(here: list[tuple[str, float]], there: list[tuple[str, float]], found: str) -> None:
    assert difference([*here], [*there]) == found


def test_wrong_arguments_are_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "nothing"])
    assert "invalid choice: 'nothing'" in capsys.readouterr().err
