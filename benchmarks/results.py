"""What a run found, as values and as the JSON that is kept. Draws no table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import CLIENTS, Series
from benchmarks.systems import BARE, CACHED, OURS, OWN, RAW, SEED
from benchmarks.workload import Scenario

FORMAT = 2  # of the JSON; `compare` reads 1 too


@dataclass(slots=True)
class Outcome:
    """One scenario at all systems.

    Attributes
    ----------
    rows
        Of our answer to the first question.
    series
        By system; "raw" is DuckDB alone and "bare" the reply of stored bytes.
    cannot
        By system: why it was not asked.
    problem
        Why it was not, or not wholly, measured at ours.
    problems
        By other system: how it failed or disagreed.
    """

    scenario: Scenario
    rows: int | None = None
    series: dict[str, Series] = field(default_factory=dict)
    cannot: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    problems: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> Series:
        return self.series.get(CACHED if self.scenario.keeps_answers else OURS) or Series()

    def p50_ms(self, name: str) -> float | None:
        series = self.series.get(name)
        return series.percentile_ms(50) if series is not None and series.blocks else None

    @property
    def limit_ms(self) -> float | None:
        """What no server could beat: DuckDB on the best layout and then the bare reply, one after the other."""
        bare, raw = self.p50_ms(BARE), self.p50_ms(RAW)
        if bare is None or (raw is None and not self.scenario.is_bare):
            return None
        return bare + (raw or 0.0)

    @property
    def limit_ratio(self) -> float | None:
        limit = self.limit_ms
        return self.ours.percentile_ms(50) / limit if limit and self.ours.blocks else None


@dataclass(slots=True)
class Memory:
    """Resident memory of one system, in bytes, by phase of the run, in the order of the phases."""

    idle: int | None = None
    views: int | None = None  # peak while one client asked for everything but full loads
    whole: int | None = None  # peak of full loads, one at a time
    clients: dict[int, int] = field(default_factory=dict)  # peak under that many clients

    @property
    def peak(self) -> int | None:
        known = [value for value in (self.idle, self.views, self.whole, *self.clients.values()) if value is not None]
        return max(known, default=None)

    def at_least(self, phase: str, value: int | None) -> None:
        """Note a peak of a phase, or of a number of clients."""
        if value is None:
            return
        if phase.isdigit():
            self.clients[int(phase)] = max(value, self.clients.get(int(phase), 0))
        else:
            setattr(self, phase, max(value, getattr(self, phase) or 0))


@dataclass(slots=True)
class Results:
    """A whole run. ``problems`` are those of no scenario: a peer that did not start."""

    about: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)

    def outcome(self, name: str) -> Outcome | None:
        return next((outcome for outcome in self.outcomes if outcome.scenario.name == name), None)

    def beside(self, outcome: Outcome, name: str) -> Series | None:
        """A system's series that stands beside an outcome: its own, or that of the scenario it is like.

        A peer that has this format is not given another's numbers, nor is one that failed in it.
        """
        own = outcome.series.get(name)
        if own is not None and own.blocks:
            return own
        like = self.outcome(outcome.scenario.like) if outcome.scenario.like else None
        borrows = name == SEED or outcome.scenario.revalidate or outcome.scenario.keeps_answers
        other = like.series.get(name) if like is not None and borrows else None
        return other if other is not None and other.blocks else None

    def ratio(self, outcome: Outcome, name: str = SEED) -> float | None:
        """How many times longer another system takes, median by median."""
        other = self.beside(outcome, name)
        if other is None or not outcome.ours.blocks:
            return None
        return other.percentile_ms(50) / outcome.ours.percentile_ms(50)

    def cpu_ratio(self, outcome: Outcome, name: str = SEED) -> float | None:
        """How many times more processor time another takes per request: what a busy machine distorts least."""
        other = self.beside(outcome, name)
        if other is None or not other.cpu_ms or not outcome.ours.blocks or not outcome.ours.cpu_ms:
            return None
        return other.cpu_ms / outcome.ours.cpu_ms

    @property
    def peers(self) -> list[str]:
        """Those of whom something was measured, in the order of the run."""
        names = dict.fromkeys(name for outcome in self.outcomes for name in outcome.series)
        return [name for name in names if name not in (*OWN, SEED)]

    def best_peer(self, outcome: Outcome) -> tuple[str, float] | None:
        """The quickest peer, and how many times longer than ours it takes."""
        ratios = {name: ratio for name in self.peers if (ratio := self.ratio(outcome, name)) is not None}
        return min(ratios.items(), key=lambda one: one[1]) if ratios else None

    def busiest_peer(self, outcome: Outcome, clients: int) -> tuple[str, float] | None:
        """The peer that answers most per second to that many clients, and how many."""
        found = {
            name: rate
            for name in self.peers
            if (series := self.beside(outcome, name)) is not None and (rate := series.rate(clients)) is not None
        }
        return max(found.items(), key=lambda one: one[1]) if found else None

    @property
    def failed(self) -> bool:
        """Whether ours or the seed's way failed or disagreed; a peer's failure is in the report."""
        own = any(outcome.problem is not None or SEED in outcome.problems for outcome in self.outcomes)
        return own or not self.outcomes

    def to_json(self, goals: list[dict[str, Any]]) -> dict[str, Any]:
        """Everything but the single latencies, which would make the file large."""
        return {
            "format": FORMAT,
            "about": self.about,
            "scenarios": {outcome.scenario.name: self._outcome_json(outcome) for outcome in self.outcomes},
            "memory_bytes": {
                name: {
                    "idle": memory.idle,
                    "views": memory.views,
                    "whole": memory.whole,
                    **{f"clients_{clients}": peak for clients, peak in memory.clients.items()},
                    "peak": memory.peak,
                }
                for name, memory in self.memory.items()
            },
            "goals": goals,
            "problems": self.problems,
        }

    def _outcome_json(self, outcome: Outcome) -> dict[str, Any]:
        best = self.best_peer(outcome)
        systems = {
            OURS if name == CACHED else name: series_json(series)
            for name, series in outcome.series.items()
            if series.blocks
        }
        return {
            "waits_for": outcome.scenario.waits_for,
            "first_path": outcome.scenario.paths[0],
            "paths": len(outcome.scenario.paths),
            "encoding": outcome.scenario.encoding,
            "like": outcome.scenario.like,
            "rows": outcome.rows,
            "systems": systems,
            "limit_ms": _rounded(outcome.limit_ms),
            "limit_ratio": _rounded(outcome.limit_ratio),
            "seed_ratio": _rounded(self.ratio(outcome)),
            "seed_cpu_ratio": _rounded(self.cpu_ratio(outcome)),
            "best_peer": best and best[0],
            "best_peer_ratio": best and _rounded(best[1]),
            "cannot": outcome.cannot,
            "problem": outcome.problem,
            "problems": outcome.problems,
        }


def series_json(series: Series) -> dict[str, Any]:
    """The numbers of a series that has blocks."""
    return {
        "requests": len(series.latencies_ms),
        "blocks": len(series.blocks),
        **{f"p{percent}_ms": _rounded(series.percentile_ms(percent)) for percent in (50, 95, 99)},
        "first_ms": _rounded(series.first_ms),
        "spread": _rounded(series.spread),
        "bytes": series.size_bytes,
        "cpu_ms": _rounded(series.cpu_ms),
        "peak_bytes": series.peak_bytes,
        "per_s": {str(clients): round(rate, 2) for clients in CLIENTS if (rate := series.rate(clients)) is not None},
        "under_load": {
            str(rate.clients): {
                "p50_ms": _rounded(rate.p50_ms),
                "p95_ms": _rounded(rate.p95_ms),
                "p99_ms": _rounded(rate.p99_ms),
                "refused": rate.refused,
                "cut": rate.cut,
                "peak_bytes": rate.peak_bytes,
            }
            for rate in series.rates
        },
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
