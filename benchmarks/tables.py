"""Markdown tables and how numbers are written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

ABSENT = "–"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """In Markdown, all columns but the first to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
    """Three significant digits, without an exponent."""
    if value is None:
        return ABSENT
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def megabytes(value: int | None) -> str:
    """A whole number of them."""
    return ABSENT if value is None else f"{value / 1e6:,.0f}"


def share(value: float | None) -> str:
    """In per cent."""
    return ABSENT if value is None else f"{value:.0%}"
