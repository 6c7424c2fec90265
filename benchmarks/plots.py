"""Results as plots (SVG), the same bytes for the same results: no date, and ids from a fixed salt. Reads no file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import CLIENTS
from benchmarks.results import Outcome, Results
from benchmarks.systems import BARE, CACHED, OURS, RAW, SEED

_SALT = "by-tomorrow"
_COLOURS = {OURS: "#0b6e4f", SEED: "#9a9a9a", "limit": "#111111", RAW: "#6b7a8f", BARE: "#b8c0cc"}
_OTHERS = (
    *("#c8553d", "#3d6fc8", "#c89b3d", "#8e44ad", "#2f9ea3"),
    *("#7a4a2b", "#e377c2", "#7f9f35", "#17355c", "#d98880"),
)
_RATES_SHOWN = ("health", "small", "filter", "by-size", "slice", "groups-top")


def draw_plots(results: Results, folder: Path, suffix: str = "") -> list[str]:
    """Write the plots of a run into a folder.

    Returns
    -------
    list of str
        The names of the files, in the order of the report; without those that nothing was measured for.
    """
    drawn = []
    plots: dict[str, Callable[[Page, Results], bool]] = {
        "latency": _latency,
        "limit": _limit,
        "throughput": _throughput,
        "memory": _memory,
    }
    for name, draw in plots.items():
        file = f"{name}{suffix}.svg"
        with figure(folder / file) as page:
            page.keep = draw(page, results)
        if page.keep:
            drawn.append(file)
    return drawn


class Page:
    """A figure that is being drawn; ``keep`` says whether it is written."""

    def __init__(self, plot: Any) -> None:
        self.plot, self.keep = plot, True


@contextmanager
def figure(path: Path) -> Iterator[Page]:
    """A matplotlib figure that becomes this file."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    style: Any = {"svg.hashsalt": _SALT, "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    with matplotlib.rc_context({**style, "axes.spines.right": False, "legend.frameon": False}):
        plot = Figure(layout="constrained")
        FigureCanvasSVG(plot)
        page = Page(plot)
        yield page
        if page.keep:
            plot.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def colours(names: Sequence[str]) -> dict[str, str]:
    """One for each system, the same in all plots of a run."""
    others = [name for name in names if name not in _COLOURS]
    return {**_COLOURS, **{name: _OTHERS[place % len(_OTHERS)] for place, name in enumerate(others)}}


def _names(results: Results) -> list[str]:
    seed = [SEED] if any(SEED in outcome.series for outcome in results.outcomes) else []
    return [OURS, *seed, *results.peers]


def _p50(results: Results, outcome: Outcome, name: str) -> float | None:
    if name == "limit":
        return outcome.limit_ms
    series = outcome.ours if name == OURS else results.beside(outcome, name)
    return series.percentile_ms(50) if series is not None and series.blocks else None


def _latency(page: Page, results: Results) -> bool:
    """A row for each scenario, a mark for each system, the limit as a line."""
    shown = [outcome for outcome in results.outcomes if outcome.ours.blocks]
    if not shown:
        return False
    names = _names(results)
    page.plot.set_size_inches(8, 1.2 + 0.27 * len(shown))
    axes = page.plot.subplots()
    places = range(len(shown))
    for name in names[::-1]:
        points = [(p50, place) for place, one in enumerate(shown) if (p50 := _p50(results, one, name)) is not None]
        size = 44 if name == OURS else 26
        axes.scatter(*zip(*points, strict=True), s=size, color=colours(names)[name], label=name, zorder=3)
    limits = [(p50, place) for place, one in enumerate(shown) if (p50 := one.limit_ms) is not None]
    if limits:
        axes.scatter(*zip(*limits, strict=True), marker="|", s=110, color="#111111", label="limit", zorder=4)
    axes.set_xscale("log")
    axes.set_yticks(list(places), [one.scenario.name for one in shown])
    axes.invert_yaxis()
    axes.grid(axis="both", color="#e6e6e6", linewidth=0.6)
    axes.set_xlabel("median until the last byte, ms (one client)")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.0 + 1.6 / (len(shown) + 4)), ncols=4)
    return True


def _limit(page: Page, results: Results) -> bool:
    shown = [outcome for outcome in results.outcomes if outcome.limit_ratio is not None]
    if not shown:
        return False
    page.plot.set_size_inches(8, 1.0 + 0.24 * len(shown))
    axes = page.plot.subplots()
    ratios = [outcome.limit_ratio or 0.0 for outcome in shown]
    bars = axes.barh(range(len(shown)), ratios, color=_COLOURS[OURS])
    axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
    axes.axvline(1.0, color="#111111", linewidth=1)
    axes.axvline(1.5, color="#111111", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(shown)), [one.scenario.name for one in shown])
    axes.invert_yaxis()
    axes.set_xlabel("ours by the limit: DuckDB alone on the best layout, and the bare reply (dotted: 1.5)")
    return True


def _throughput(page: Page, results: Results) -> bool:
    shown = [one for name in _RATES_SHOWN if (one := results.outcome(name)) is not None and one.ours.rates]
    if not shown:
        return False
    names = [*_names(results), BARE]
    page.plot.set_size_inches(8, 2.3 * ((len(shown) + 2) // 3) + 0.5)
    grid = page.plot.subplots((len(shown) + 2) // 3, min(3, len(shown)), squeeze=False).ravel()
    for axes, outcome in zip(grid, shown, strict=False):
        for name in names:
            series = outcome.ours if name == OURS else results.beside(outcome, name)
            series = outcome.series.get(BARE) if name == BARE else series
            rates = [(count, rate) for count in CLIENTS if series is not None and (rate := series.rate(count))]
            if rates:
                axes.plot(*zip(*rates, strict=True), marker="o", markersize=3.5, color=colours(names)[name], label=name)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(CLIENTS, [str(count) for count in CLIENTS])
        axes.set_title(outcome.scenario.name, fontsize=9)
        axes.grid(color="#e6e6e6", linewidth=0.6)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    handles = {label: handle for axes in grid for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    page.plot.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=5)
    page.plot.supxlabel("clients", fontsize=9)
    page.plot.supylabel("answers per second", fontsize=9)
    return True


def _memory(page: Page, results: Results) -> bool:
    peaks = {name: one.peak for name, one in results.memory.items() if one.peak and name not in (BARE, CACHED)}
    if not peaks:
        return False
    page.plot.set_size_inches(8, 0.9 + 0.32 * len(peaks))
    axes = page.plot.subplots()
    values = [peak / 1e6 for peak in peaks.values() if peak]
    shades = colours(list(peaks))
    bars = axes.barh(list(peaks), values, color=[shades[name] for name in peaks])
    axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3)
    axes.axvline(512, color="#111111", linewidth=0.8, linestyle=":")
    axes.invert_yaxis()
    axes.set_xlabel("peak resident memory of the whole run, MB (dotted: 512)")
    return True
