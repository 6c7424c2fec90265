"""Results as Markdown, for the terminal and to be kept: what was measured, beside what, and whether goals were met."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.goals import Goal
from benchmarks.measure import CLIENTS, Series
from benchmarks.results import Memory, Outcome, Results
from benchmarks.systems import BARE, CACHED, OURS, RAW, SEED
from benchmarks.tables import ABSENT, megabytes, number, share, table

__all__ = ["render", "table"]


def render(results: Results, goals: list[Goal], plots: Iterable[str] = ()) -> str:
    """The whole report; ``plots`` are names of files beside it."""
    parts = [
        _heading(results),
        "\n".join(f"![{name.partition('.')[0]}]({name})" for name in plots),
        "## Goals",
        _goals(goals),
        "## Latency of ours and the limit, one client",
        _LATENCY_WORDS,
        _latency(results),
        "## Median latency of all systems, ms",
        _systems(results),
        "## Full loads",
        _full_loads(results),
        "## Requests per second",
        _throughput(results),
        "## Processor time per request, ms",
        _cpu(results),
        "## Resident memory, MB",
        _memory(results),
        _cannot(results),
        _problems(results),
    ]
    return "\n\n".join(_without_empty_sections(parts)) + "\n"


def _without_empty_sections(parts: list[str]) -> list[str]:
    """Drops what is empty, and headings with nothing below."""
    kept = [part for part in parts if part]
    return [
        part
        for place, part in enumerate(kept)
        if not part.startswith("## ")
        or "\n" in part
        or (place + 1 < len(kept) and not kept[place + 1].startswith("## "))
    ]


def _heading(results: Results) -> str:
    about, machine = results.about, results.about["machine"]
    memory = machine["memory_bytes"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    size = f"×{about['size']}, " if "size" in about else ""
    sentences = [
        f"{machine['processor']}, {machine['cores']} cores, {'?' if memory is None else round(memory / 1e9)} GB, "
        f"{machine['system']}, Python {machine['python']}; {packages}.",
        f"{size}{about['rows']:,} rows.",
        f"Load of the machine: {about['load_before']} before, {about['load_after']} after (the run makes 1 to 2).",
        f"Blocks of each system: {about['repeat']}, in turn; *spread* is how far apart the medians of one system's "
        "blocks are. Times are milliseconds until the last byte.",
        "Ours has its cache of answers on throughout." if about.get("cached") else "",
    ]
    others = [
        f"- `{name}`: {one['about']}{_versions(one['versions'])}" for name, one in about.get("systems", {}).items()
    ]
    text = f"# Benchmark of {about['at'][:10]}, commit {about['commit']}\n\n{' '.join(filter(None, sentences))}"
    return "\n\n".join(filter(None, [text, "\n".join(others)]))


def _versions(versions: dict[str, str]) -> str:
    return f" ({', '.join(f'{name} {version}' for name, version in versions.items())})" if versions else ""


def _goals(goals: list[Goal]) -> str:
    return "\n".join(f"- {'met' if goal.met else '**missed**'}: {goal.text}" for goal in goals)


_LATENCY_WORDS = (
    "*limit* is DuckDB alone on the best layout and then the bare reply of the same bytes; *× limit* is our p50 by it. "
    "*× seed* and *× peer* say how many times longer the seed's way and the quickest peer take."
)
_LATENCY_HEAD = (
    *("scenario", "rows", "KB", "p50", "p95", "p99", "CPU", "spread"),
    *("DuckDB", "bare", "limit", "× limit", "× seed", "× peer", "quickest peer"),
)


def _latency(results: Results) -> str:
    return table(_LATENCY_HEAD, [_latency_row(results, one) for one in results.outcomes if one.ours.blocks])


def _latency_row(results: Results, outcome: Outcome) -> list[str]:
    ours, peer = outcome.ours, results.best_peer(outcome)
    return [
        outcome.scenario.name,
        ABSENT if outcome.rows is None else f"{outcome.rows:,}",
        f"{ours.size_bytes / 1e3:,.1f}",
        *(number(ours.percentile_ms(percent)) for percent in (50, 95, 99)),
        number(ours.cpu_ms),
        share(ours.spread if len(ours.blocks) > 1 else None),
        number(outcome.p50_ms(RAW)),
        number(outcome.p50_ms(BARE)),
        number(outcome.limit_ms),
        _bold(outcome.limit_ratio),
        _bold(results.ratio(outcome)),
        _bold(None if peer is None else peer[1]),
        ABSENT if peer is None else peer[0],
    ]


def _bold(value: float | None) -> str:
    return ABSENT if value is None else f"**{number(value)}**"


def _shown(results: Results) -> list[str]:
    """The systems with a column of their own."""
    names = [OURS]
    if any(SEED in outcome.series for outcome in results.outcomes):
        names.append(SEED)
    return [*names, *results.peers]


def _of(results: Results, outcome: Outcome, name: str) -> Series | None:
    return outcome.ours if name == OURS else results.beside(outcome, name)


def _systems(results: Results) -> str:
    names = _shown(results)
    if len(names) == 1:
        return ""
    rows = []
    for outcome in (one for one in results.outcomes if one.ours.blocks):
        found = [_of(results, outcome, name) for name in names]
        rows.append(
            [outcome.scenario.name, *(_p50(outcome, name, one) for name, one in zip(names, found, strict=True))]
        )
    return table(["scenario", *names], rows)


def _p50(outcome: Outcome, name: str, series: Series | None) -> str:
    if series is not None and series.blocks:
        return number(series.percentile_ms(50))
    if name in outcome.problems:
        return "failed"
    return "cannot" if name in outcome.cannot and name != SEED else ABSENT


def _full_loads(results: Results) -> str:
    rows = []
    for outcome in results.outcomes:
        ours = outcome.ours
        if not outcome.scenario.whole or not ours.blocks:
            continue
        p50 = ours.percentile_ms(50)
        rows.append(
            [
                outcome.scenario.name,
                f"{ours.size_bytes / 1e6:,.1f}",
                number(ours.first_ms),
                number(p50),
                number(ours.size_bytes / 1e3 / p50),
                megabytes(ours.peak_bytes),
            ]
        )
    head = ("scenario", "MB", "first byte, ms", "last byte, ms", "MB/s", "peak memory, MB")
    return table(head, rows) if rows else ""


def _throughput(results: Results) -> str:
    measured = [outcome for outcome in results.outcomes if outcome.ours.rates]
    names = [*_shown(results), BARE]
    counts = [count for count in CLIENTS if any(one.ours.rate(count) is not None for one in measured)]
    rows = []
    for outcome in measured:
        for count in counts:
            found = [outcome.series.get(name) if name == BARE else _of(results, outcome, name) for name in names]
            rates = [number(one.rate(count) if one is not None else None) for one in found]
            rows.append([outcome.scenario.name, str(count), *rates, _waits(outcome.ours, count)])
    return table(["scenario", "clients", *names, "ours waits, p50 / p99 ms"], rows) if rows else ""


def _waits(series: Series, clients: int) -> str:
    found = [rate for rate in series.rates if rate.clients == clients]
    if not found:
        return ABSENT
    rate = found[-1]
    text = f"{number(rate.p50_ms)} / {number(rate.p99_ms)}"
    notes = [f"{rate.refused} refused"] * bool(rate.refused) + [f"{rate.cut} not waited for"] * bool(rate.cut)
    return f"{text} ({', '.join(notes)})" if notes else text


def _cpu(results: Results) -> str:
    names = [*_shown(results), RAW, BARE]
    if len(names) == 3:
        return ""
    rows = []
    for outcome in (one for one in results.outcomes if one.ours.blocks):
        found = [outcome.series.get(name) if name in (RAW, BARE) else _of(results, outcome, name) for name in names]
        rows.append([outcome.scenario.name, *(number(one.cpu_ms if one is not None else None) for one in found)])
    return table(["scenario", *names], rows)


def _memory(results: Results) -> str:
    counts = sorted({clients for memory in results.memory.values() for clients in memory.clients})
    head = ("system", "idle", "views, one client", "full loads", *(f"{count} clients" for count in counts), "peak")
    shown = {name: memory for name, memory in results.memory.items() if name not in (BARE, CACHED)}
    return table(head, [[name, *_memory_cells(memory, counts)] for name, memory in shown.items()]) if shown else ""


def _memory_cells(memory: Memory, counts: Iterable[int]) -> list[str]:
    under = [memory.clients.get(clients) for clients in counts]
    return [megabytes(value) for value in (memory.idle, memory.views, memory.whole, *under, memory.peak)]


def _cannot(results: Results) -> str:
    """What a peer cannot express, with its reason; the seed's one format is said in the README."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for outcome in results.outcomes:
        for name, why in outcome.cannot.items():
            if name not in (SEED, BARE) and not (outcome.scenario.revalidate or outcome.scenario.keeps_answers):
                reasons.setdefault((name, why), []).append(f"`{outcome.scenario.name}`")
    lines = [f"- `{name}`, {', '.join(scenarios)}: {why}" for (name, why), scenarios in sorted(reasons.items())]
    return "## What they cannot express\n\n" + "\n".join(lines) if lines else ""


def _problems(results: Results) -> str:
    lines = [f"- `{name}`: {words}" for name, words in results.problems.items()]
    for outcome in results.outcomes:
        if outcome.problem is not None:
            lines.append(f"- `{outcome.scenario.name}`: {outcome.problem}")
        lines += [f"- `{outcome.scenario.name}`, `{name}`: {words}" for name, words in outcome.problems.items()]
    return "## Problems\n\n" + "\n".join(lines) if lines else ""
