"""Results that nobody measured, for the tests of what is made of results."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Block, Rate, Series
from benchmarks.results import Memory, Outcome, Results
from benchmarks.workload import chosen

ABOUT: dict[str, Any] = {
    "at": "2026-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "quick": False,
    "repeat": 2,
    "size": 1,
    "rows": 1_861_925,
    "load_before": 0.1,
    "load_after": 1.2,
    "systems": {"postgres": {"about": "a database", "versions": {"postgresql": "15.3"}}},
    "machine": {
        "processor": "a processor",
        "cores": 2,
        "memory_bytes": 8_000_000_000,
        "system": "Linux",
        "python": "3.11",
        "packages": {"duckdb": "2.0.1"},
    },
}


def block(*total_ms: float, size_bytes: int = 1_900, first_ms: float = 1.0) -> Block:
    return Block(total_ms, (first_ms,) * len(total_ms), size_bytes, cpu_ms=1.0, peak_bytes=100_000_000)


def series(*total_ms: float, **named: Any) -> Series:
    return Series([block(*total_ms, **named)])


def results(times: float = 1.0) -> Results:
    """Four scenarios; ``times`` makes ours slower."""
    small, again, full, health = (
        Outcome(*chosen([name]), rows=14) for name in ("small", "small-again", "full-arrow", "health")
    )
    small.series["ours"] = Series(
        [block(4.0 * times, 5.0 * times, 6.0 * times), block(5.0 * times, 6.0 * times, 7.0 * times)]
    )
    small.series |= {"seed": series(200.0, 220.0, 230.0), "raw": series(2.0), "bare": series(0.5)}
    small.series["postgres"] = Series([block(11.0)], [Rate(32, 900.0, None)])
    small.series["ours"].rates += [Rate(8, 300.0, None), Rate(32, 500.0, None, 1.0, 2.0, 3.0, refused=2)]
    small.cannot["tiled"] = "it filters no rows"
    again.series |= {"ours": series(1.0, 1.1), "bare": series(0.25)}
    full.series |= {
        "ours": series(280.0, size_bytes=82_000_000, first_ms=60.0),
        "raw": series(100.0),
        "bare": series(100.0),
    }
    full.problems["postgres"] = "ServerError: it ended"
    health.problem = "DisagreementError: it was not there"
    memory = {
        "ours": Memory(80_000_000, 150_000_000, 600_000_000),
        "seed": Memory(1, 2, None, {8: 2_000_000_000}),
        "postgres": Memory(50_000_000),
    }
    return Results(dict(ABOUT), [small, again, full, health], memory, {"roapi": "PeerError: no network"})
