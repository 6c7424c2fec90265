"""What the benchmark says about its numbers: percentiles, ratios, disagreement, goals, the report and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import agreement, run
from benchmarks.agreement import DisagreementError
from benchmarks.goals import check_goals
from benchmarks.measure import Rate, Series
from benchmarks.report import render
from benchmarks.workload import SCENARIOS
from tests.benchmarks.made_up import block, results, series


def test_percentiles_take_all_blocks_and_interpolate() -> None:
    measured = Series([block(4.0, 1.0), block(2.0, 3.0)])
    assert [measured.percentile_ms(percent) for percent in (0, 50, 100)] == [1.0, 2.5, 4.0]
    assert measured.percentile_ms(95) == pytest.approx(3.85)


def test_spread_is_between_the_blocks_medians() -> None:
    assert Series([block(1.0, 2.0, 9.0), block(3.0)]).spread == pytest.approx(0.5)


def test_one_client_asks_as_soon_as_it_is_answered() -> None:
    measured = Series([block(4.0, 6.0)], [Rate(8, 100.0, None), Rate(8, 300.0, None)])
    assert [measured.rate(clients) for clients in (1, 8, 32)] == [200.0, 200.0, None]


def test_a_ratio_is_of_medians_and_may_be_borrowed() -> None:
    measured = results()
    small, again, full, health = measured.outcomes
    assert measured.ratio(small) == pytest.approx(220 / 5.5)
    assert measured.ratio(again) == pytest.approx(220 / 1.05)
    assert measured.ratio(health) is None
    assert (measured.cpu_ratio(small), measured.cpu_ratio(health)) == (1.0, None)
    assert measured.peers == ["postgres"]
    assert measured.best_peer(small) == ("postgres", 2.0)
    assert measured.best_peer(again) == ("postgres", pytest.approx(11 / 1.05))
    assert measured.best_peer(full) is None
    assert measured.busiest_peer(small, 32) == ("postgres", 900.0)


def test_the_limit_is_duckdb_and_then_the_bare_reply() -> None:
    small, again, full, health = results().outcomes
    assert (small.limit_ms, small.limit_ratio) == (2.5, pytest.approx(2.2))
    assert (again.limit_ms, again.limit_ratio) == (0.25, pytest.approx(4.2))  # no query runs
    assert (full.limit_ms, full.limit_ratio) == (200.0, pytest.approx(1.4))
    assert (health.limit_ms, health.limit_ratio) == (None, None)


def test_goals_are_checked_one_by_one() -> None:
    found = {goal.name: goal for goal in check_goals(results())}
    assert found["seed: small"].text == "`small` 40.0 times faster than the seed's way, at least 100 wanted"
    assert {name: goal.met for name, goal in found.items()} == {
        "`small`: times the limit": False,
        "`small-again`: times the bare reply": False,
        "peers: latency (p50)": True,
        "peers: requests per second, 32 clients": False,
        "peers: memory": False,
        "seed: small": False,
        "seed: memory": False,
        "`full-arrow`: first byte, ms": False,
        "`full-arrow`: times the limit": True,
        "budget: `small` p95, ms": True,
        "budget: `full-arrow` p95, ms": True,
        "budget: our peak memory, MB": False,
    }
    assert "behind in `small` (500.0/s, `postgres` 900.0/s)" in found["peers: requests per second, 32 clients"].text


def test_the_report_tells_what_was_missed_and_what_failed() -> None:
    measured = results()
    text = render(measured, check_goals(measured), ["latency.svg"])
    row = "| small | 14 | 1.9 | 5.50 | 6.75 | 6.95 | 1.00 | 20% | 2.00 | 0.50 | 2.50 | **2.20** | **40.0** | **2.00** |"
    assert f"{row} postgres |" in text
    assert "| small | 5.50 | 220 | 11.0 |" in text
    assert "| small | 32 | 500 | – | 900 | – | 1.00 / 3.00 (2 refused) |" in text
    assert "| full-arrow | 82.0 | 60.0 | 280 | 293 | 100 |" in text
    assert "- **missed**: budget: our peak memory, MB 600.00, at most 512 wanted" in text
    assert "- met: `full-arrow`: times the limit 1.40, at most 1.5 wanted" in text
    assert "- `postgres`: a database (postgresql 15.3)" in text
    assert "- `tiled`, `small`: it filters no rows" in text
    assert "- `health`: DisagreementError: it was not there" in text
    assert "- `full-arrow`, `postgres`: ServerError: it ended" in text
    assert "- `roapi`: PeerError: no network" in text
    assert "![latency](latency.svg)" in text
    assert measured.failed


def test_a_peer_that_fails_is_no_failure_of_ours_and_the_seed_that_disagrees_is() -> None:
    measured = results()
    measured.outcomes.pop()
    assert not measured.failed
    measured.outcomes[0].problems["seed"] = "DisagreementError: 13 rows"
    assert measured.failed


def test_the_json_holds_no_single_latencies(tmp_path: Path) -> None:
    run.write_results(results(), tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert path.name == "2026-01-02-abc1234.json"
    text = path.read_text()
    assert len(text) < 15_000
    found = json.loads(text)
    small = found["scenarios"]["small"]
    assert (small["seed_ratio"], small["limit_ratio"], small["best_peer"]) == (40.0, 2.2, "postgres")
    assert small["systems"]["ours"]["per_s"] == {"1": 181.82, "8": 300.0, "32": 500.0}
    assert small["systems"]["ours"]["under_load"]["32"]["refused"] == 2
    assert len(found["goals"]) == 12
    assert found["memory_bytes"]["ours"]["peak"] == 600_000_000


def test_plots_are_the_same_for_the_same_results(tmp_path: Path) -> None:
    texts = []
    for name in ("a", "b"):
        run.write_results(results(), tmp_path / name)
        plots = sorted((tmp_path / name).glob("*.svg"))
        assert [plot.name for plot in plots] == ["latency.svg", "limit.svg", "memory.svg", "throughput.svg"]
        texts.append([plot.read_text() for plot in plots])
    assert texts[0] == texts[1]
    for text, word in zip(texts[0], ("small-again", "full-arrow", "postgres", "clients"), strict=True):
        assert word in text
        assert "<dc:date>" not in text


def test_a_run_that_measured_nothing_draws_nothing(tmp_path: Path) -> None:
    empty = results()
    empty.outcomes, empty.memory, empty.problems = empty.outcomes[3:], {}, {}
    text = run.write_results(empty, tmp_path)
    assert list(tmp_path.glob("*.svg")) == []
    assert "## Requests per second" not in text
    assert "DisagreementError: it was not there" in text


@pytest.mark.parametrize(
    "here, there, agree",
    [
        ([{"a": "x", "v": 0.1 + 0.2}], [{"a": "x", "v": 0.3}], True),
        ([{"a": "y", "v": 1.0}, {"a": "x", "v": None}], [{"a": "x", "v": None}, {"a": "y", "v": 1}], True),
        ([{"a": "y", "v": 1.0}, {"a": "x", "v": 2.0}], [{"a": "x", "v": 2.0}, {"a": "y", "v": 1.0}], True),
        ([{"a": "x", "v": 1.0}], [{"a": "x", "v": 1.001}], False),
        ([{"a": "x", "v": 1.0}], [{"a": "x"}], True),
        ([{"a": "x", "v": 1.0}], [{"b": "x"}], False),
        ([{"a": "x", "v": 1.0}], [{"a": "x", "v": 1.0}, {"a": "y", "v": 1.0}], False),
    ],
    ids=["rounding", "kinds", "order", "value", "lacks-one", "lacks-all", "count"],
)
def test_agreement_is_about_rows(here: list[dict[str, Any]], there: list[dict[str, Any]], agree: bool) -> None:
    if agree:
        agreement.compare_rows("other", ("a", "v"), here, there)
    else:
        with pytest.raises((DisagreementError, ValueError)):
            agreement.compare_rows("other", ("a", "v"), here, there)


def test_wrong_arguments_are_told_before_anything_starts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--only", "nothing"]) == 2
    assert "no scenario 'nothing'" in capsys.readouterr().err
    assert run.main(["--peer", "nothing"]) == 2
    assert "no peer 'nothing'" in capsys.readouterr().err
    assert run.main(["profile", "nothing"]) == 2
    assert "no scenario 'nothing'" in capsys.readouterr().err


def test_the_list_names_each_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(SCENARIOS)


def test_only_a_full_run_is_kept_among_the_results(tmp_path: Path) -> None:
    parse = run._parser().parse_args
    assert run._default_output(parse([])) == run._default_output(parse(["--size", "10"])) == run.RECORDED
    for arguments in (["--quick"], ["--only", "small"], ["--no-seed"], ["--no-peers"], ["--store", str(tmp_path)]):
        assert run._default_output(parse(arguments)) == run.SCRATCH


def test_peers_take_part_in_a_full_run_and_when_they_are_named() -> None:
    def peers(*arguments: str) -> tuple[str, ...]:
        return run._peers(run._parser().parse_args(list(arguments)))

    every = peers()
    assert peers("--quick") == peers("--no-peers") == ()
    for name in every:
        assert peers("--quick", "--peer", name) == (name,)


def test_a_slow_block_is_seen_by_its_first_byte() -> None:
    assert series(10.0, 20.0, first_ms=4.0).first_ms == 4.0
