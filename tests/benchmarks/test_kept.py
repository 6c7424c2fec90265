"""Comparing recorded results, and growth over several of them. Nothing is measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import compare, growth, kept, run
from benchmarks.kept import NoResultError, find_result, read_result
from benchmarks.results import Results
from tests.benchmarks.made_up import results


def record(folder: Path, measured: Results, commit: str, size: int = 1) -> Path:
    measured.about |= {"commit": commit, "size": size, "rows": 1_861_925 * size}
    run.write_results(measured, folder)
    (path,) = folder.glob(f"*-{commit}*.json")
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of recorded results, in place of the checkout's."""
    monkeypatch.setattr(growth, "RECORDED", tmp_path)
    monkeypatch.setattr(compare, "find_result", lambda name: kept.find_result(name, tmp_path))
    monkeypatch.setattr(growth, "find_result", lambda name: kept.find_result(name, tmp_path))
    return tmp_path


def test_what_became_slower_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, results(), "aaa1111")
    record(folder, results(2.0), "bbb2222")
    assert run.main(["compare", "aaa", "bbb"]) == 0
    out = capsys.readouterr().out
    assert "# `ours`: 2026-01-02 aaa1111 → 2026-01-02 bbb2222" in out
    assert "| small | 5.50 → 11.0 | 2.00 | 20% | **slower** | 6.75 → 13.5 | 1.00 → 1.00 | 100 → 100 |" in out
    assert "| small-again | 1.05 → 1.05 | 1.00 | 10% | within the noise |" in out
    assert run.main(["compare", "bbb", "aaa"]) == 0
    assert "| 0.50 | 20% | quicker |" in capsys.readouterr().out


def test_a_ratio_above_the_most_fails_unless_it_is_noise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [record(folder, results(times), name) for times, name in ((1.0, "a1"), (2.0, "b2"), (1.15, "c3"))]
    a, b, c = map(str, paths)
    assert run.main(["compare", a, b, "--fail-above", "1.5"]) == 1
    assert "small takes 2.00 times as long" in capsys.readouterr().err
    assert run.main(["compare", a, b, "--fail-above", "2.5"]) == 0
    assert run.main(["compare", a, c, "--fail-above", "1.01"]) == 0  # the blocks lie 20% apart
    assert run.main(["compare", a, b, "--system", "nobody"]) == 2


def test_a_name_must_stand_for_one_result(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(folder, results(), "aaa1111")
    record(folder, results(), "aab2222")
    for name, words in (("2026-01-02", "several results begin"), ("zzz", "no result begins"), ("aa", "several")):
        with pytest.raises(NoResultError, match=words):
            find_result(name, folder)
    assert find_result("2026-01-02-aab", folder).about["commit"] == "aab2222"
    assert run.main(["compare", "aaa", "zzz"]) == 2
    assert "there are: 2026-01-02-aaa1111, 2026-01-02-aab2222" in capsys.readouterr().err
    (folder / "other.json").write_text("[]")
    with pytest.raises(NoResultError, match="no result of this benchmark"):
        read_result(folder / "other.json")


def test_a_result_of_the_first_format_is_still_read(tmp_path: Path) -> None:
    entry = {"ours": {"p50_ms": 4.0, "p95_ms": 5.0, "spread": 0.0}, "seed": None}
    path = tmp_path / "2025-01-01-old.json"
    path.write_text(json.dumps({"about": {"at": "2025-01-01", "commit": "old"}, "scenarios": {"small": entry}}))
    old = find_result("old", tmp_path)
    assert old.size == 1
    assert (old.series("small", "ours") or {})["p50_ms"] == 4.0
    assert old.series("small", "seed") is None
    (change,) = compare.compare_results(old, replace(old, scenarios={"small": entry, "new": entry}))
    assert (change.scenario, change.ratio, change.verdict) == ("small", 1.0, "within the noise")


def test_growth_says_where_a_cost_bends(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for times, size, name in ((1.0, 1, "a1"), (1.1, 10, "b2"), (11.0, 100, "c3")):
        record(folder, results(times), name, size)
    assert run.main(["growth", "--output", str(folder)]) == 0
    text = (folder / "growth.md").read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    assert "| small | 5.50 | 6.05 | 60.5 | 0.04 | 1.00 | after ×10 |" in text
    assert "| full-arrow | 280 | 280 | 280 | 0.00 | 0.00 | nearly flat |" in text
    assert "| small ×1 | 182 | 300 | 500 |" in text
    assert "| ×100 | 80.0 | 150 | 600 | – | – | 600 |" in text
    drawn = (folder / "growth.svg").read_text()
    growth.draw_growth([find_result(name, folder) for name in ("a1", "b2", "c3")], folder / "again.svg")
    assert (folder / "again.svg").read_text() == drawn
    assert "rows (dotted: the limit)" in drawn


def test_growth_takes_the_newest_of_each_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["growth"]) == 2
    assert "no recorded results" in capsys.readouterr().err
    for name, at in (("old", "2026-01-02T03:04:05+00:00"), ("new", "2026-03-02T03:04:05+00:00")):
        measured = results()
        measured.about["at"] = at
        record(folder, measured, name)
    (folder / "2026-other.json").write_text("{}")
    newest = growth.latest_of_each_size(growth.recorded_results(folder))
    assert [one.about["commit"] for one in newest] == ["new"]
    assert run.main(["growth", "old", "new", "--output", str(folder)]) == 0
    assert "2026-03-02 new" in (folder / "growth.md").read_text()
