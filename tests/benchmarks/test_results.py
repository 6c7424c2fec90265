"""What the benchmark says about its numbers: percentiles, ratios, disagreement, the report and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import agreement, run
from benchmarks.agreement import DisagreementError
from benchmarks.measure import Block, Rate, Series
from benchmarks.report import render
from benchmarks.results import Memory, Outcome, Results
from benchmarks.workload import chosen

ABOUT: dict[str, Any] = {
    "at": "2026-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "quick": False,
    "repeat": 2,
    "rows": 1_861_925,
    "load_before": 0.1,
    "load_after": 1.2,
    "machine": {
        "processor": "a processor",
        "cores": 2,
        "memory_bytes": 8_000_000_000,
        "system": "Linux",
        "python": "3.11",
        "packages": {"duckdb": "2.0.1"},
    },
}


def block(*total_ms: float, size_bytes: int = 1_900) -> Block:
    return Block(total_ms, total_ms, size_bytes, rows=14, cpu_ms=1.0, peak_bytes=100_000_000)


def results() -> Results:
    small, again, health = (Outcome(*chosen([name]), rows=14) for name in ("small", "small-again", "health"))
    small.ours.blocks += [block(4.0, 5.0, 6.0), block(5.0, 6.0, 7.0)]
    small.seed.blocks += [block(200.0, 220.0, 230.0)]
    small.ours.rates += [Rate(8, 300.0, None), Rate(8, 500.0, None)]
    again.ours.blocks += [block(1.0, 1.1)]
    health.problem = "DisagreementError: it was not there"
    memory = {"ours": Memory(80_000_000, 150_000_000, 600_000_000), "seed": Memory(1, 2, None, {8: 2_000_000_000})}
    return Results(ABOUT, [small, again, health], memory)


def test_percentiles_take_all_blocks_and_interpolate() -> None:
    series = Series([block(4.0, 1.0), block(2.0, 3.0)])
    assert [series.percentile_ms(percent) for percent in (0, 50, 100)] == [1.0, 2.5, 4.0]
    assert series.percentile_ms(95) == pytest.approx(3.85)


def test_spread_is_between_the_blocks_medians() -> None:
    assert Series([block(1.0, 2.0, 9.0), block(3.0)]).spread == pytest.approx(0.5)


def test_a_ratio_is_of_medians_and_may_be_borrowed() -> None:
    measured = results()
    small, again, health = measured.outcomes
    assert measured.ratio(small) == pytest.approx(220 / 5.5)
    assert measured.ratio(again) == pytest.approx(220 / 1.05)
    assert measured.ratio(health) is None
    assert (measured.cpu_ratio(small), measured.cpu_ratio(health)) == (1.0, None)


def test_the_report_tells_what_was_missed_and_what_failed() -> None:
    text = render(results())
    assert "| small | 14 | 1.9 | 5.50 | 6.75 | 6.95 | 1.00 | 20% | 220 | 229 | 1.00 | – | **40.0** | 1.00 |" in text
    assert "- met: `small` 40.0 times faster, at least 20 expected" in text
    assert "- **missed**: our peak 600 MB, below 512 expected" in text
    assert "- met: the seed's peak 2,000 MB, over 1,000 expected" in text
    assert "- `health`: DisagreementError: it was not there" in text
    assert "| small | – | – | 400 | – | – | – |" in text


def test_the_json_holds_no_single_latencies() -> None:
    text = json.dumps(results().to_json())
    assert len(text) < 4_000
    assert json.loads(text)["scenarios"]["small"]["ratio"] == 40.0


@pytest.mark.parametrize(
    "here, there, agree",
    [
        ([{"a": "x", "v": 0.1 + 0.2}], [{"a": "x", "v": 0.3}], True),
        ([{"a": "y", "v": 1.0}, {"a": "x", "v": None}], [{"a": "x", "v": None}, {"a": "y", "v": 1}], True),
        ([{"a": "y", "v": 1.0}, {"a": "x", "v": 2.0}], [{"a": "x", "v": 2.0}, {"a": "y", "v": 1.0}], True),
        ([{"a": "x", "v": 1.0}], [{"a": "x", "v": 1.001}], False),
        ([{"a": "x", "v": 1.0}], [], False),
    ],
    ids=["rounding", "kinds", "order", "value", "count"],
)
def test_agreement_is_about_rows(here: list[dict[str, Any]], there: list[dict[str, Any]], agree: bool) -> None:
    keyed = [agreement._keyed(rows, ("a", "v")) for rows in (here, there)]
    if agree:
        agreement._compare_rows("/x", *keyed)
    else:
        with pytest.raises((DisagreementError, ValueError)):
            agreement._compare_rows("/x", *keyed)


def test_wrong_arguments_are_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--only", "nothing"]) == 2
    assert "no scenario 'nothing'" in capsys.readouterr().err


def test_the_list_names_each_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(chosen([]))


def test_only_a_full_run_is_kept_among_the_results(tmp_path: Path) -> None:
    parse = run._parser().parse_args
    assert run._default_output(parse([])) == run.RECORDED
    for arguments in (["--quick"], ["--only", "small"], ["--no-seed"], ["--store", str(tmp_path)]):
        assert run._default_output(parse(arguments)) == run.SCRATCH
