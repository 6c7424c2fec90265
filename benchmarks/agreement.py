"""Whether both servers give the same answer: checked first, since a comparison of different answers is worthless."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.client import Client, rows_of
from benchmarks.process import Server
from benchmarks.workload import Scenario

RELATIVE_TOLERANCE = 1e-9  # the two sum in different orders


class DisagreementError(RuntimeError):
    """The servers answer the same question differently."""


def check_agreement(scenario: Scenario, ours: Server, seed: Server | None) -> int:
    """Ask each side the scenario's first and last question, untimed, and compare.

    Rows must be as many, and equal in the columns of ``scenario.compare`` in whatever order; an answer in another
    encoding is compared with our own in JSON by the number of its rows.

    Returns
    -------
    int
        The number of rows of the first answer.

    Raises
    ------
    DisagreementError
        Names the URL and the first difference.
    """
    counts = [_compare(scenario, path, ours, seed) for path in dict.fromkeys((scenario.paths[0], scenario.paths[-1]))]
    return counts[0]


def _compare(scenario: Scenario, path: str, ours: Server, seed: Server | None) -> int:
    with Client(ours.port) as client:
        here = rows_of(client.get(path).body, scenario.encoding)
    if seed is None or not scenario.asks_seed or scenario.whole:
        return _count(here)  # `run.py` compares these by the number of their rows
    with Client(seed.port) as client:
        there = rows_of(client.get(path).body, scenario.encoding)
    if _count(here) != _count(there):
        raise DisagreementError(f"{path}: {_count(here):,} rows from {ours.name}, {_count(there):,} from {seed.name}")
    if scenario.compare and isinstance(here, list) and isinstance(there, list):
        _compare_rows(path, _keyed(here, scenario.compare), _keyed(there, scenario.compare))
    return _count(here)


def _compare_rows(path: str, here: list[tuple[Any, ...]], there: list[tuple[Any, ...]]) -> None:
    for mine, other in zip(here, there, strict=True):
        if not all(_equal(a, b) for a, b in zip(mine, other, strict=True)):
            raise DisagreementError(f"{path}: {mine} from ours, {other} from the seed's way")


def _count(rows: list[dict[str, Any]] | int) -> int:
    return rows if isinstance(rows, int) else len(rows)


def _keyed(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    """Rows as tuples of the compared columns, in an order that both sides share."""
    return sorted((tuple(row[name] for name in columns) for row in rows), key=_order)


def _order(row: tuple[Any, ...]) -> list[str]:
    """What is no number first, then the numbers, rounded so that noise in the last digits does not reorder rows."""
    numbers = [f"{cell:.6g}" for cell in row if isinstance(cell, (int, float))]
    return [repr(cell) for cell in row if not isinstance(cell, (int, float))] + numbers


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE)
    return bool(a == b)
