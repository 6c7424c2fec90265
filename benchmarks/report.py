"""Results as Markdown tables, for the terminal and for ``latest.md``, and whether they are what was expected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.measure import CLIENTS, Series
from benchmarks.results import (
    EXPECTED_OURS_BELOW,
    EXPECTED_RATIOS,
    EXPECTED_SEED_ABOVE,
    Memory,
    Outcome,
    Results,
)

ABSENT = "–"


def render(results: Results) -> str:
    """The whole report."""
    parts = [
        _heading(results),
        "## Latency, one client",
        _latency(results),
        "## Requests per second",
        _throughput(results),
        "## Resident memory, MB",
        _memory(results),
        "## What was expected",
        _expected(results),
        _problems(results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _heading(results: Results) -> str:
    about, machine = results.about, results.about["machine"]
    memory = machine["memory_bytes"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    sentences = [
        f"{machine['processor']}, {machine['cores']} cores, {'?' if memory is None else round(memory / 1e9)} GB, "
        f"{machine['system']}, Python {machine['python']}; {packages}.",
        f"{about['rows']:,} rows.",
        f"Load of the machine: {about['load_before']} before, {about['load_after']} after (the run makes 1 to 2).",
        f"Each block was run {about['repeat']} times, alternating between the servers; *spread* is how far apart the "
        "medians of one server's blocks are.",
        "Times are milliseconds until the last byte.",
    ]
    return f"# Benchmark of {about['at'][:10]}, commit {about['commit']}\n\n{' '.join(sentences)}"


_LATENCY_HEAD = (
    *("scenario", "rows", "KB", "p50", "p95", "p99", "CPU", "spread"),
    *("seed p50", "seed p95", "seed CPU", "seed spread", "times faster", "times less CPU"),
)


def _latency(results: Results) -> str:
    return table(_LATENCY_HEAD, [_latency_row(results, one) for one in results.outcomes if one.ours.blocks])


def _latency_row(results: Results, outcome: Outcome) -> list[str]:
    ours, ratio, cpu_ratio = outcome.ours, results.ratio(outcome), results.cpu_ratio(outcome)
    return [
        outcome.scenario.name,
        ABSENT if outcome.rows is None else f"{outcome.rows:,}",
        f"{ours.size_bytes / 1e3:,.1f}",
        *(_number(ours.percentile_ms(percent)) for percent in (50, 95, 99)),
        _number(ours.cpu_ms),
        f"{ours.spread:.0%}",
        *_seed_cells(results.seed_of(outcome)),
        ABSENT if ratio is None else f"**{_number(ratio)}**",
        _number(cpu_ratio),
    ]


def _seed_cells(seed: Series | None) -> list[str]:
    if seed is None:
        return [ABSENT] * 4
    spread = f"{seed.spread:.0%}" if len(seed.blocks) > 1 else ABSENT
    return [_number(seed.percentile_ms(50)), _number(seed.percentile_ms(95)), _number(seed.cpu_ms), spread]


def _throughput(results: Results) -> str:
    measured = [outcome for outcome in results.outcomes if outcome.ours.rates]
    if not measured:
        return ""
    head = ("scenario", *(f"{who}{clients}" for clients in CLIENTS for who in ("", "seed ")))
    rows = []
    for outcome in measured:
        seed = results.seed_of(outcome)
        cells = [
            _number(series.rate(clients) if series is not None else None)
            for clients in CLIENTS
            for series in (outcome.ours, seed)
        ]
        rows.append([outcome.scenario.name, *cells])
    return table(head, rows)


def _memory(results: Results) -> str:
    counts = sorted({clients for memory in results.memory.values() for clients in memory.clients})
    head = ("server", "idle", "views, one client", "full loads", *(_clients(count) for count in counts), "peak")
    return table(head, [[name, *_memory_cells(memory, counts)] for name, memory in results.memory.items()])


def _clients(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"


def _memory_cells(memory: Memory, counts: Iterable[int]) -> list[str]:
    under = [memory.clients.get(clients) for clients in counts]
    return [_megabytes(value) for value in (memory.idle, memory.views, memory.whole, *under, memory.peak)]


def _expected(results: Results) -> str:
    lines = []
    for name, least in EXPECTED_RATIOS.items():
        outcome = results.outcome(name)
        ratio = None if outcome is None else results.ratio(outcome)
        if ratio is not None:
            found = f"`{name}` {_number(ratio)} times faster, at least {least:.0f} expected"
            lines.append(f"- {_verdict(ratio >= least)}: {found}")
    ours, seed = (results.memory[name].peak if name in results.memory else None for name in ("ours", "seed"))
    if ours is not None:
        found = f"our peak {_megabytes(ours)} MB, below {_megabytes(EXPECTED_OURS_BELOW)} expected"
        lines.append(f"- {_verdict(ours < EXPECTED_OURS_BELOW)}: {found}")
    if seed is not None:
        found = f"the seed's peak {_megabytes(seed)} MB, over {_megabytes(EXPECTED_SEED_ABOVE)} expected"
        lines.append(f"- {_verdict(seed > EXPECTED_SEED_ABOVE)}: {found}")
    return "\n".join(lines)


def _megabytes(value: int | None) -> str:
    return ABSENT if value is None else f"{value / 1e6:,.0f}"


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _problems(results: Results) -> str:
    found = [outcome for outcome in results.outcomes if outcome.problem is not None]
    if not found:
        return ""
    return "## Problems\n\n" + "\n".join(f"- `{outcome.scenario.name}`: {outcome.problem}" for outcome in found)


def _number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ABSENT
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
