"""``bt bench compare A B``: what became quicker or slower from one result to another, beyond the noise."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

from benchmarks.kept import Kept, NoResultError, find_result
from benchmarks.systems import OURS
from benchmarks.tables import number, share, table

NOISE = 0.1  # what two runs of the same code differ by on a quiet machine, whatever their blocks say


@dataclass(frozen=True, slots=True)
class Change:
    """One scenario before and after. ``ratio`` is after by before: above 1 it became slower."""

    scenario: str
    p50_ms: tuple[float, float]
    p95_ms: tuple[float, float]
    cpu_ms: tuple[float | None, float | None]
    peak_bytes: tuple[int | None, int | None]
    noise: float

    @property
    def ratio(self) -> float:
        return self.p50_ms[1] / self.p50_ms[0]

    @property
    def verdict(self) -> str:
        if self.ratio > 1 + self.noise:
            return "**slower**"
        return "quicker" if self.ratio < 1 / (1 + self.noise) else "within the noise"


def compare_results(before: Kept, after: Kept, system: str = OURS) -> list[Change]:
    """The scenarios that both have, in the order of the second."""
    found = []
    for name in after.scenarios:
        a, b = before.series(name, system), after.series(name, system)
        if a is None or b is None:
            continue
        noise = max(NOISE, a.get("spread") or 0.0, b.get("spread") or 0.0)
        found.append(
            Change(
                name,
                (a["p50_ms"], b["p50_ms"]),
                (a["p95_ms"], b["p95_ms"]),
                (a.get("cpu_ms"), b.get("cpu_ms")),
                (a.get("peak_bytes"), b.get("peak_bytes")),
                noise,
            )
        )
    return found


def render_changes(before: Kept, after: Kept, changes: list[Change], system: str) -> str:
    """As Markdown."""
    rows = [
        [
            change.scenario,
            f"{number(change.p50_ms[0])} → {number(change.p50_ms[1])}",
            number(change.ratio),
            share(change.noise),
            change.verdict,
            f"{number(change.p95_ms[0])} → {number(change.p95_ms[1])}",
            f"{number(change.cpu_ms[0])} → {number(change.cpu_ms[1])}",
            " → ".join(number(None if peak is None else peak / 1e6) for peak in change.peak_bytes),
        ]
        for change in changes
    ]
    head = ("scenario", "p50, ms", "ratio", "noise", "", "p95, ms", "CPU, ms", "peak, MB")
    parts = [f"# `{system}`: {before.title} → {after.title}", *_warnings(before, after), table(head, rows)]
    return "\n\n".join(parts)


def _warnings(before: Kept, after: Kept) -> list[str]:
    machines = [(kept.about.get("machine", {}).get("processor"), kept.size) for kept in (before, after)]
    lines = []
    if machines[0][0] != machines[1][0]:
        lines.append(f"Not the same machine: {machines[0][0]} and {machines[1][0]}.")
    if machines[0][1] != machines[1][1]:
        lines.append(f"Not the same data: ×{machines[0][1]} and ×{machines[1][1]}.")
    return lines


def main(argv: list[str]) -> int:
    """Compare two results.

    Returns
    -------
    int
        0; 1 when ``--fail-above`` was given and a scenario's ratio is above it and beyond the noise; 2 when there is no
        such result.
    """
    parser = argparse.ArgumentParser(
        prog="bt bench compare", description="What changed from one result to another: paths, or dates or commits."
    )
    parser.add_argument("before", metavar="A")
    parser.add_argument("after", metavar="B")
    parser.add_argument("--system", default=OURS, help="another system than ours")
    parser.add_argument(
        "--fail-above", type=float, metavar="RATIO", help="exit with 1 when a p50 grew by more than this"
    )
    arguments = parser.parse_args(argv)
    try:
        before, after = find_result(arguments.before), find_result(arguments.after)
    except NoResultError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    changes = compare_results(before, after, arguments.system)
    if not changes:
        print(f"bench: no scenario of {arguments.system!r} is in both", file=sys.stderr)
        return 2
    print(render_changes(before, after, changes, arguments.system))
    most = arguments.fail_above
    worse = [one for one in changes if most is not None and one.ratio > max(most, 1 + one.noise)]
    for change in worse:
        print(f"bench: {change.scenario} takes {change.ratio:.2f} times as long", file=sys.stderr)
    return 1 if worse else 0
