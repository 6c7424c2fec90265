"""``bt bench growth``: cost against rows and against clients, from recorded results of several sizes of data."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.kept import RECORDED, Kept, NoResultError, find_result, read_result
from benchmarks.plots import Page, colours, figure
from benchmarks.systems import BARE, OURS, RAW
from benchmarks.tables import ABSENT, number, table

FLAT = 0.15  # exponent of a cost that hardly grows: 1.4 times for ten times the rows
_SHOWN = (
    "small",
    "filter",
    "by-size",
    "slice",
    "scaling",
    "facets",
    "groups",
    "groups-top",
    "table-deep",
    "full-arrow",
)


def latest_of_each_size(results: Iterable[Kept]) -> list[Kept]:
    """The newest result of each size of data that has measured our server, the smallest size first."""
    found: dict[int, Kept] = {}
    for kept in results:
        before = found.get(kept.size)
        if any(kept.series(name, OURS) for name in kept.scenarios) and (
            before is None or before.about["at"] <= kept.about["at"]
        ):
            found[kept.size] = kept
    return [found[size] for size in sorted(found)]


def recorded_results(folder: Path) -> Iterator[Kept]:
    """Those in a folder, whatever else lies there."""
    for path in sorted(folder.glob("2*.json")):
        with contextlib.suppress(NoResultError):
            yield read_result(path)


def exponent(rows: tuple[int, int], cost: tuple[float, float]) -> float:
    """How the cost grows with the rows between two sizes: 0 is flat, 1 in proportion.

    >>> round(exponent((1_000, 10_000), (5.0, 50.0)), 3)
    1.0
    """
    return math.log(cost[1] / cost[0]) / math.log(rows[1] / rows[0])


def render_growth(results: list[Kept]) -> str:
    """Tables of p50 by rows with exponents, and of answers per second by clients."""
    parts = ["# Growth", _sources(results), "## Against rows: p50 of ours, ms", _ROW_WORDS, _by_rows(results)]
    parts += ["## Against clients: answers per second of ours", _by_clients(results)]
    parts += ["## Peak memory of ours, MB", _memory(results)]
    return "\n\n".join(parts) + "\n"


_ROW_WORDS = (
    f"An exponent is of rows: 0 is flat, 1 in proportion. A cost *bends* where its exponent exceeds {FLAT}: from there "
    "on it grows with the data."
)


def _sources(results: list[Kept]) -> str:
    return "\n".join(
        f"- ×{kept.size}: {kept.about['rows']:,} rows, {kept.title} (`{kept.path.name}`)" for kept in results
    )


def _by_rows(results: list[Kept]) -> str:
    pairs = list(itertools.pairwise(results))
    head = ["scenario", *(f"×{kept.size}" for kept in results)]
    head += [f"exponent ×{a.size}–×{b.size}" for a, b in pairs] + ["bends"]
    rows = []
    for name in _scenarios(results):
        costs = [_p50(kept, name, OURS) for kept in results]
        exponents = [
            exponent((a.about["rows"], b.about["rows"]), (x, y)) if x and y else None
            for (a, b), x, y in zip(pairs, costs, costs[1:], strict=False)
        ]
        shown = [ABSENT if one is None else f"{one:.2f}" for one in exponents]
        rows.append([name, *(number(cost) for cost in costs), *shown, _bend(pairs, exponents)])
    return table(head, rows)


def _bend(pairs: list[tuple[Kept, Kept]], exponents: list[float | None]) -> str:
    known = [(pair, one) for pair, one in zip(pairs, exponents, strict=True) if one is not None]
    if not known:
        return ABSENT
    found = next((pair for pair, one in known if one > FLAT), None)
    return "nearly flat" if found is None else f"after ×{found[0].size}"


def _by_clients(results: list[Kept]) -> str:
    rows = []
    for kept in results:
        for name in _scenarios([kept]):
            series = kept.series(name, OURS) or {}
            rates = series.get("per_s", {})
            if len(rates) > 1:
                rows.append([f"{name} ×{kept.size}", *(number(rates.get(count)) for count in ("1", "8", "32"))])
    return table(("scenario", "1", "8", "32"), rows)


def _memory(results: list[Kept]) -> str:
    phases = ("idle", "views", "whole", "clients_8", "clients_32", "peak")
    rows = []
    for kept in results:
        peaks = kept.memory_bytes.get(OURS, {})
        rows.append([f"×{kept.size}", *(number(value / 1e6 if (value := peaks.get(one)) else None) for one in phases)])
    return table(("size", *phases), rows)


def _scenarios(results: list[Kept]) -> list[str]:
    names = dict.fromkeys(name for kept in results for name in kept.scenarios)
    return [name for name in names if any(kept.series(name, OURS) for kept in results)]


def _p50(kept: Kept, scenario: str, system: str) -> float | None:
    series = kept.series(scenario, system)
    return None if series is None else series["p50_ms"]


def draw_growth(results: list[Kept], path: Path) -> None:
    """Cost against rows at the left, against clients at the right."""
    names = [name for name in _SHOWN if any(kept.series(name, OURS) for kept in results)]
    shades = colours(names)
    with figure(path) as page:
        page.plot.set_size_inches(9, 4.2)
        by_rows, by_clients = page.plot.subplots(1, 2)
        for name in names:
            _line_of_rows(by_rows, results, name, shades[name])
            rates = (results[0].series(name, OURS) or {}).get("per_s", {})
            points = [(int(count), rate) for count, rate in rates.items() if rate]
            if len(points) > 1:
                by_clients.plot(*zip(*points, strict=True), marker="o", markersize=3.5, color=shades[name])
        _label(page, by_rows, by_clients, results)


def _line_of_rows(axes: Any, results: list[Kept], name: str, shade: str) -> None:
    for system, style in ((OURS, "-"), ("limit", ":")):
        points = []
        for kept in results:
            cost = _limit(kept, name) if system == "limit" else _p50(kept, name, system)
            if cost:
                points.append((kept.about["rows"], cost))
        if points:
            label = name if system == OURS else None
            axes.plot(*zip(*points, strict=True), linestyle=style, marker="o", markersize=3.5, color=shade, label=label)


def _limit(kept: Kept, name: str) -> float | None:
    raw, bare = _p50(kept, name, RAW), _p50(kept, name, BARE)
    return None if raw is None or bare is None else raw + bare


def _label(page: Page, by_rows: Any, by_clients: Any, results: list[Kept]) -> None:
    for axes in (by_rows, by_clients):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(color="#e6e6e6", linewidth=0.6)
    by_rows.minorticks_off()
    by_rows.set_xticks([kept.about["rows"] for kept in results], [f"×{kept.size}" for kept in results])
    by_rows.set_xlabel("rows (dotted: the limit)")
    by_rows.set_ylabel("p50, ms, one client")
    by_clients.set_xlabel(f"clients (×{results[0].size})")
    by_clients.set_ylabel("answers per second")
    by_clients.minorticks_off()
    by_clients.set_xticks([1, 8, 32], ["1", "8", "32"])
    page.plot.legend(loc="outside right upper")


def main(argv: list[str]) -> int:
    """Draw the growth.

    Returns
    -------
    int
        0; 2 when there are no results to draw.
    """
    parser = argparse.ArgumentParser(
        prog="bt bench growth",
        description="Cost against rows and clients, from recorded results: those named, or the newest of each size.",
    )
    parser.add_argument("results", nargs="*", metavar="RESULT", help="a path, or the beginning of a date or commit")
    parser.add_argument("--output", type=Path, default=RECORDED, metavar="FOLDER", help="where growth.md and .svg go")
    arguments = parser.parse_args(argv)
    try:
        named = [find_result(name) for name in arguments.results]
    except NoResultError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    results = latest_of_each_size(named or recorded_results(RECORDED))
    if not results:
        print("bench: there are no recorded results", file=sys.stderr)
        return 2
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = render_growth(results) + "\n![growth](growth.svg)\n"
    draw_growth(results, arguments.output / "growth.svg")
    (arguments.output / "growth.md").write_text(text)
    print(text)
    return 0
