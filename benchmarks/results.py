"""What a run found, as values and as the JSON that is kept. Draws no table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import CLIENTS, Series
from benchmarks.workload import Scenario

#: What issue 2 expected of our server beside the seed's way: times as fast, and resident memory.
EXPECTED_RATIOS = {"small": 20.0, "slice": 10.0}
EXPECTED_OURS_BELOW = 512_000_000
EXPECTED_SEED_ABOVE = 1_000_000_000


@dataclass(slots=True)
class Outcome:
    """One scenario at both servers. ``problem`` says why it was not, or not wholly, measured."""

    scenario: Scenario
    rows: int | None = None
    ours: Series = field(default_factory=Series)
    seed: Series = field(default_factory=Series)
    problem: str | None = None


@dataclass(slots=True)
class Memory:
    """Resident memory of one server, in bytes, by phase of the run, in the order of the phases."""

    idle: int | None = None
    views: int | None = None  # peak while one client asked for everything but full loads
    whole: int | None = None  # peak of full loads, one at a time
    clients: dict[int, int] = field(default_factory=dict)  # peak under that many clients

    @property
    def peak(self) -> int | None:
        known = [value for value in (self.idle, self.views, self.whole, *self.clients.values()) if value is not None]
        return max(known, default=None)


@dataclass(slots=True)
class Results:
    """A whole run."""

    about: dict[str, Any]
    outcomes: list[Outcome] = field(default_factory=list)
    memory: dict[str, Memory] = field(default_factory=dict)

    def outcome(self, name: str) -> Outcome | None:
        return next((outcome for outcome in self.outcomes if outcome.scenario.name == name), None)

    def seed_of(self, outcome: Outcome) -> Series | None:
        """The seed's series that stands beside an outcome: its own, or that of the scenario it is like."""
        other = self.outcome(outcome.scenario.like) if outcome.scenario.like else outcome
        return other.seed if other is not None and other.seed.blocks else None

    def ratio(self, outcome: Outcome) -> float | None:
        """How many times longer the seed's way takes, median by median."""
        seed = self.seed_of(outcome)
        if seed is None or not outcome.ours.blocks:
            return None
        return seed.percentile_ms(50) / outcome.ours.percentile_ms(50)

    def cpu_ratio(self, outcome: Outcome) -> float | None:
        """How many times more processor time the seed's way takes per request: what a busy machine distorts least."""
        seed = self.seed_of(outcome)
        if seed is None or not seed.cpu_ms or not outcome.ours.blocks or not outcome.ours.cpu_ms:
            return None
        return seed.cpu_ms / outcome.ours.cpu_ms

    @property
    def failed(self) -> bool:
        return any(outcome.problem is not None for outcome in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """Everything but the single latencies, which would make the file large."""
        return {
            "about": self.about,
            "scenarios": {outcome.scenario.name: self._outcome_json(outcome) for outcome in self.outcomes},
            "memory_bytes": {
                name: {
                    "idle": memory.idle,
                    "views": memory.views,
                    "whole": memory.whole,
                    **{f"clients_{clients}": peak for clients, peak in memory.clients.items()},
                }
                for name, memory in self.memory.items()
            },
        }

    def _outcome_json(self, outcome: Outcome) -> dict[str, Any]:
        ratio, cpu_ratio = self.ratio(outcome), self.cpu_ratio(outcome)
        return {
            "waits_for": outcome.scenario.waits_for,
            "first_path": outcome.scenario.paths[0],
            "paths": len(outcome.scenario.paths),
            "rows": outcome.rows,
            "ours": _series_json(outcome.ours),
            "seed": _series_json(outcome.seed),
            "seed_like": outcome.scenario.like,
            "ratio": None if ratio is None else round(ratio, 2),
            "cpu_ratio": None if cpu_ratio is None else round(cpu_ratio, 2),
            "problem": outcome.problem,
        }


def _series_json(series: Series) -> dict[str, Any] | None:
    if not series.blocks:
        return None
    return {
        "requests": len(series.latencies_ms),
        **{f"p{percent}_ms": round(series.percentile_ms(percent), 3) for percent in (50, 95, 99)},
        "first_ms": round(series.first_ms, 3),
        "spread": round(series.spread, 3),
        "bytes": series.size_bytes,
        "cpu_ms": None if series.cpu_ms is None else round(series.cpu_ms, 3),
        "peak_bytes": series.peak_bytes,
        "per_s": {str(clients): round(rate, 1) for clients in CLIENTS if (rate := series.rate(clients)) is not None},
    }
