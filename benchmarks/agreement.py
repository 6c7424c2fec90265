"""Whether systems give the same answer: checked first, since a comparison of different answers is worthless."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from benchmarks.client import Client, Reply
from benchmarks.systems import System
from benchmarks.workload import Scenario

RELATIVE_TOLERANCE = 1e-9  # they sum in different orders
PATIENCE_S = 90.0  # with one answer
LONGEST_COMPARED = 100_000  # rows; of more the number is compared


class DisagreementError(RuntimeError):
    """Systems answer the same question differently."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A system's answers to a scenario's first and last question, asked once and untimed.

    ``rows`` is the number of rows of each answer, ``values`` their rows where they are known and not too many.
    """

    name: str
    replies: tuple[Reply, ...]
    rows: tuple[int, ...]
    values: tuple[list[dict[str, Any]] | None, ...]

    @property
    def slowest_ms(self) -> float:
        return max(reply.total_ms for reply in self.replies)


def take_sample(system: System, scenario: Scenario, requests: list[bytes], once_ms: float = 1_000) -> Sample:
    """Ask; where the first answer takes longer than ``once_ms``, only that."""
    ends = list(dict.fromkeys((requests[0], requests[-1])))
    replies = []
    with Client(system.server.port, PATIENCE_S) as client:
        for request in ends:
            replies.append(client.send(request))
            if replies[0].total_ms > once_ms:
                break
    rows = tuple(system.count_rows(scenario, reply.body) for reply in replies)
    values = tuple(
        system.rows(scenario, reply.body) if count <= LONGEST_COMPARED else None
        for count, reply in zip(rows, replies, strict=True)
    )
    return Sample(system.name, tuple(replies), rows, values)


def check_agreement(scenario: Scenario, ours: Sample, other: Sample) -> None:
    """Rows must be as many, and equal in the columns of ``scenario.compare`` that both have, in whatever order.

    Raises
    ------
    DisagreementError
        Says which question, and the first difference.
    """
    for which, mine, theirs in zip(("first", "last"), ours.rows, other.rows, strict=False):
        if mine != theirs:
            raise DisagreementError(f"{which} question: {mine:,} rows from ours, {theirs:,} from {other.name}")
    for mine_rows, their_rows in zip(ours.values, other.values, strict=False):
        if mine_rows and their_rows and scenario.compare:
            compare_rows(other.name, scenario.compare, mine_rows, their_rows)


def compare_rows(name: str, columns: tuple[str, ...], here: list[dict[str, Any]], there: list[dict[str, Any]]) -> None:
    """Raises DisagreementError with the first pair of rows that differ."""
    shared = tuple(column for column in columns if column in there[0] and column in here[0])
    if not shared:
        raise DisagreementError(f"{name} names its columns {', '.join(list(there[0])[:9])}")
    for mine, theirs in zip(_keyed(here, shared), _keyed(there, shared), strict=True):
        if not all(_equal(a, b) for a, b in zip(mine, theirs, strict=True)):
            raise DisagreementError(f"{mine} from ours, {theirs} from {name}")


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
