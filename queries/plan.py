"""A request with every name resolved and every value typed: what the compiler turns into SQL. Holds no logic.

Values are kept apart from the plan's shape: a node holds the *slots* of its values, and ``Plan.values`` the values. Two
requests that differ only in their values so have equal shapes, and share one SQL text.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from queries.request import Operator
from queries.schema import Column, Kind, kind_of

Slot = int


@dataclass(frozen=True, slots=True)
class Comparison:
    """``column op values``; ``ref`` is the second column of a comparison without values.

    For a size label ``in`` and ``notin`` hold texts, the ordering operators numbers. ``listed`` says that the one slot
    holds a whole list, as long ones do.
    """

    column: Column
    op: Operator
    slots: tuple[Slot, ...] = ()
    ref: Column | None = None
    negated: bool = False  # of isnull: whether false was asked for
    listed: bool = False


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold; true without parts."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds; false without parts."""

    parts: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True)
class Negation:
    part: Predicate


Predicate = Comparison | Every | Some | Negation


@dataclass(frozen=True, slots=True)
class Pick:
    """Keep one row of each group of ``keys``: the extreme of ``column``, of equal ones the first.

    ``rising`` says that the largest wins. Where the metric decides, ``falling_metrics`` are the slots of those metrics
    for which the smallest wins, in the column ``metric_column``.
    """

    keys: tuple[Column, ...]
    column: Column
    rising: bool
    metric_column: Column | None = None
    falling_metrics: tuple[Slot, ...] = ()
    may_tie: bool = True  # whether two rows of a group can share the extreme, as far as the schema tells


@dataclass(frozen=True, slots=True)
class Measure:
    """What an aggregate works on: a column, in long form perhaps only where the metric is the one in ``metric``."""

    column: Column
    metric_column: Column | None = None
    metric: Slot | None = None


@dataclass(frozen=True, slots=True)
class PlannedAggregate:
    """``fn`` over a measure, or a count of rows without one. ``fn`` may also be nulls, nans or seeds."""

    fn: str
    measure: Measure | None
    alias: str  # the name in SQL, never a user's text
    seed: Column | None = None


@dataclass(frozen=True, slots=True)
class PlannedPivot:
    """Long to wide. ``index`` stays, each value of ``column`` becomes a column of ``cell``.

    After a group by all three name output columns of the grouping. ``fn`` None takes the value of a single row as it
    is, and the mean of several.
    """

    column: Column
    cell: Column
    index: tuple[Column, ...]
    fn: str | None
    unique: bool  # no two rows share index and column: there is nothing to aggregate


@dataclass(frozen=True, slots=True)
class PlannedSort:
    column: Column
    desc: bool


@dataclass(frozen=True, slots=True)
class LateSort:
    """A sort key that is the name of a pivoted column, known once the pivot's values are."""

    name: str
    desc: bool


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """One column of an answer. ``sql_type`` is the DuckDB type as planned."""

    name: str
    sql_type: str
    unit: str | None = None
    direction: str | None = None

    @property
    def kind(self) -> Kind:
        return kind_of(self.sql_type)


@dataclass(frozen=True)
class Shape:
    """All of a plan but its values: equal shapes have the same SQL.

    ``ordinal`` is the relation's column with the place of each row in what was published, and ``is_in_order`` whether
    the relation gives its rows in that order by itself.
    ``tables`` are those of size labels and lookups: a column's name, and the slots of its texts and of their numbers.
    ``counted`` says that the page begins far down, and that the first sort key has few values, as far as one can tell.
    """

    ordinal: str
    where: Predicate | None
    pick: Pick | None
    select: tuple[Column, ...]
    distinct: bool
    grouped: bool
    groups: tuple[Column, ...]
    aggregates: tuple[PlannedAggregate, ...]
    having: Predicate | None
    pivot: PlannedPivot | None
    sort: tuple[PlannedSort | LateSort, ...]
    limit: Slot | None
    offset: Slot | None
    after: Slot | None
    tables: tuple[tuple[str, Slot, Slot], ...]
    is_in_order: bool = True
    counted: bool = False

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        """Found once: a shape of many columns is asked for by each of its queries."""
        return hash((self.where, self.select, self.groups, self.aggregates, self.pivot, self.sort, self.limit))

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value for name, value in vars(self).items() if name != "_hash"
        }  # another process has other hashes

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory, with columns that are shared with others left out."""
        return 2_000 + 200 * (len(self.select) + len(self.groups) + 2 * len(self.aggregates) + len(self.sort))

    @property
    def in_given_order(self) -> bool:
        """Whether the rows are the version's own, in their order, so that a page can begin after an ordinal."""
        return not self.sort and self.is_every_row

    @property
    def is_every_row(self) -> bool:
        """Whether each row that passes the filters is a row of the answer."""
        return not (self.grouped or self.distinct or self.pivot or self.pick)


@dataclass(frozen=True, slots=True)
class Facet:
    """Counts of a column's values under the filters on the other columns."""

    column: Column
    where: Predicate | None


@dataclass(frozen=True)
class Plan:
    """What will be done. ``canonical`` is the exact JSON whose SHA-256 is ``query_id``.

    ``base_id`` identifies the query without paging: a cursor belongs to it. ``columns`` is None until a pivot's
    values are known.
    """

    shape: Shape
    values: tuple[object, ...]
    columns: tuple[OutputColumn, ...] | None
    facets: tuple[Facet, ...]
    warnings: tuple[str, ...]
    canonical: str
    query_id: str
    base_id: str
    limit: int | None
    offset: int
    after: int | None
    total: bool
    explain: bool
