"""The goals of issue 4, one by one, against what a run found. A missed one fails no run: machines differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.measure import CLIENTS
from benchmarks.results import Results
from benchmarks.systems import OURS, SEED

SIMPLE_TIMES_LIMIT = 1.5
REPEATED_TIMES_BARE = 1.3
ARROW_TIMES_LIMIT = 1.5
SEED_RATIOS = {"small": 100.0, "slice": 25.0, "unmelted-recipe": 25.0, "unmelted": 25.0}
SEED_MEMORY_SHARE = 0.25
FIRST_BYTE_MS = 50.0
JSON_MB_PER_S = 300.0
MEMORY_MB = 512.0

#: The seed's budgets (SPEC 6), in milliseconds: health, a simple query, a complex aggregation, the full dataset.
#: They hold for p95, so for nearly everybody.
BUDGETS_MS = {
    "health": 50.0,
    "small": 200.0,
    "filter": 200.0,
    "by-size": 500.0,
    "aggregated": 500.0,
    "groups": 500.0,
    "scaling": 500.0,
    "full-arrow": 2_000.0,
    "full": 2_000.0,
}


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal and what was found. ``text`` has both numbers."""

    name: str
    met: bool
    text: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def check_goals(results: Results) -> list[Goal]:
    """All goals that this run says something about, in the order of the issue."""
    return [
        *_limits(results),
        *_peers(results),
        *_seed(results),
        *_full_loads(results),
        *_budgets(results),
    ]


def _limits(results: Results) -> Iterator[Goal]:
    for outcome in results.outcomes:
        ratio, scenario = outcome.limit_ratio, outcome.scenario
        if ratio is None:
            continue
        if scenario.name in ("filter", "small", "by-size"):
            yield _at_most(f"`{scenario.name}`: times the limit", ratio, SIMPLE_TIMES_LIMIT)
        elif scenario.revalidate or scenario.keeps_answers:
            yield _at_most(f"`{scenario.name}`: times the bare reply", ratio, REPEATED_TIMES_BARE)


def _peers(results: Results) -> Iterator[Goal]:
    if not results.peers:
        return
    latency = {one.scenario.name: best for one in results.outcomes if (best := results.best_peer(one)) is not None}
    behind = [f"`{name}` (`{peer}` takes {ratio:.2f} of ours)" for name, (peer, ratio) in latency.items() if ratio <= 1]
    yield _ahead("latency (p50)", latency, behind)
    many = CLIENTS[-1]
    compared, behind = {}, []
    for outcome in results.outcomes:
        best, ours = results.busiest_peer(outcome, many), outcome.ours.rate(many)
        if best is None or ours is None:
            continue
        compared[outcome.scenario.name] = best
        if best[1] >= ours:
            behind.append(f"`{outcome.scenario.name}` ({ours:,.1f}/s, `{best[0]}` {best[1]:,.1f}/s)")
    if compared:
        yield _ahead(f"requests per second, {many} clients", compared, behind)
    peaks = {name: memory.peak for name, memory in results.memory.items() if name in results.peers and memory.peak}
    ours_peak = _peak(results)
    if peaks and ours_peak is not None:
        below = [f"`{name}` ({peak / 1e6:,.0f} MB)" for name, peak in peaks.items() if peak <= ours_peak]
        words = f"ahead of every peer in memory: ours {ours_peak / 1e6:,.0f} MB; " + (
            f"less have {', '.join(below)}" if below else "none has less"
        )
        yield Goal("peers: memory", not below, words)


def _ahead(what: str, compared: dict[str, Any], behind: list[str]) -> Goal:
    words = f"ahead of every peer in {what}: in {len(compared) - len(behind)} of {len(compared)} scenarios"
    return Goal(f"peers: {what}", not behind, words + (f"; behind in {', '.join(behind)}" if behind else ""))


def _seed(results: Results) -> Iterator[Goal]:
    for name, least in SEED_RATIOS.items():
        outcome = results.outcome(name)
        ratio = None if outcome is None else results.ratio(outcome)
        if ratio is not None:
            text = f"`{name}` {ratio:,.1f} times faster than the seed's way, at least {least:.0f} wanted"
            yield Goal(f"seed: {name}", ratio >= least, text)
    ours, seed = _peak(results), results.memory[SEED].peak if SEED in results.memory else None
    if ours is not None and seed is not None:
        text = f"our peak memory {ours / seed:.2f} of the seed's, at most {SEED_MEMORY_SHARE} wanted"
        yield Goal("seed: memory", ours <= SEED_MEMORY_SHARE * seed, text)


def _full_loads(results: Results) -> Iterator[Goal]:
    for outcome in results.outcomes:
        if not outcome.scenario.whole or not outcome.ours.blocks:
            continue
        name, ours = outcome.scenario.name, outcome.ours
        yield _at_most(f"`{name}`: first byte, ms", ours.first_ms, FIRST_BYTE_MS)
        if name == "full":
            speed = ours.size_bytes / 1e3 / ours.percentile_ms(50)
            text = f"`full` in JSON {speed:,.0f} MB/s, at least {JSON_MB_PER_S:.0f} wanted"
            yield Goal("full: MB/s", speed >= JSON_MB_PER_S, text)
        if name == "full-arrow" and outcome.limit_ratio is not None:
            yield _at_most("`full-arrow`: times the limit", outcome.limit_ratio, ARROW_TIMES_LIMIT)


def _budgets(results: Results) -> Iterator[Goal]:
    for name, most in BUDGETS_MS.items():
        outcome = results.outcome(name)
        if outcome is not None and outcome.ours.blocks:
            yield _at_most(f"budget: `{name}` p95, ms", outcome.ours.percentile_ms(95), most)
    peak = _peak(results)
    if peak is not None:
        yield _at_most("budget: our peak memory, MB", peak / 1e6, MEMORY_MB)


def _peak(results: Results) -> int | None:
    return results.memory[OURS].peak if OURS in results.memory else None


def _at_most(name: str, found: float, most: float) -> Goal:
    return Goal(name, found <= most, f"{name} {found:,.2f}, at most {most:,.4g} wanted")
