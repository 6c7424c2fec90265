"""What a scenario asks, said once for all systems. Each peer spells it in its own language (``peers/``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Question:
    """What a scenario asks, in no system's language.

    Columns are those of the demo data (params, data, step, tokens, compute, metric, value).

    Attributes
    ----------
    kind
        What comes back: rows, groups, a table with a column per value, the last point of each run with a fit, counts of
        values, or nothing but a sign of life.
    where
        Column in (values); all must hold.
    columns
        Of rows: which columns, ``()`` for all. Of a pivot: its index.
    group_by, aggs
        Of groups: the keys, and functions of ``value``: mean std count min max median p95.
    sort
        ``"step"``, ``"-mean"``; ties by the order of the file.
    limit, offset
        A page; ``None`` is all rows.
    after
        Reserved; ``None``.
    pivot
        This column's values become columns of ``value``; the index is ``columns``.
    facets
        Columns whose values are counted.
    dataset
        ``"datadecide"`` or ``"ft-matched"``.
    """

    kind: Literal["rows", "groups", "pivot", "scaling", "facets", "health"]
    where: tuple[tuple[str, tuple[str | int, ...]], ...] = ()
    columns: tuple[str, ...] = ()
    group_by: tuple[str, ...] = ()
    aggs: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    limit: int | None = None
    offset: int = 0
    after: tuple[int, int] | None = None
    pivot: str | None = None
    facets: tuple[str, ...] = ()
    dataset: str = "datadecide"
