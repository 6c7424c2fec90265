"""The answer to what changed between two versions, as frozen values. Finds out nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import pyarrow as pa

from engine.result import python_rows
from engine.store import SchemaField, Version
from engine.store.records import Retyped


@dataclass(frozen=True, slots=True)
class SchemaChanges:
    """How the columns differ. ``not_compared`` are those of ``retyped`` whose values have no type in common."""

    added: tuple[SchemaField, ...] = ()
    removed: tuple[SchemaField, ...] = ()
    widened: tuple[Retyped, ...] = ()
    retyped: tuple[Retyped, ...] = ()
    not_compared: tuple[str, ...] = ()

    def lines(self) -> tuple[str, ...]:
        """One line for each kind of change; nothing when there is none."""
        found = []
        if self.added:
            found.append(f"columns added: {', '.join(f'{one.name} ({one.type})' for one in self.added)}")
        if self.removed:
            found.append(f"columns removed: {', '.join(f'{one.name} ({one.type})' for one in self.removed)}")
        if self.widened:
            found.append(f"columns of a wider type: {_types(self.widened)}")
        if self.retyped:
            found.append(f"columns of another type: {_types(self.retyped)}")
        return tuple(found)


@dataclass(frozen=True)
class RowSample:
    """The first rows of a kind, in the order of the key, and how many there are in all."""

    table: pa.Table
    total: int

    @property
    def truncated(self) -> bool:
        return bool(self.table.num_rows < self.total)


@dataclass(frozen=True)
class ChangedRows:
    """The first changed rows, in the order of the key.

    Attributes
    ----------
    keys
        Their key columns.
    before, after, differs
        The columns that changed in any row of the two versions, as they were, as they are, and whether they differ
        in this row.
    total
        How many rows changed in all.
    """

    keys: pa.Table
    before: pa.Table
    after: pa.Table
    differs: pa.Table
    total: int

    @property
    def truncated(self) -> bool:
        return bool(self.keys.num_rows < self.total)

    def __iter__(self) -> Iterator[tuple[dict[str, Any], dict[str, tuple[Any, Any]]]]:
        """For each row its key, and for each column that changed in it the values before and after."""
        parts = (python_rows(part) for part in (self.keys, self.before, self.after, self.differs))
        for key, before, after, differs in zip(*parts, strict=True):
            yield key, {name: (before[name], after[name]) for name, is_other in differs.items() if is_other}

    def to_arrow(self) -> pa.Table:
        """Key columns, then ``<column>_before`` and ``<column>_after`` for each column that changed anywhere."""
        arrays, names = list(self.keys.columns), list(self.keys.column_names)
        for at, name in enumerate(self.before.column_names):
            for part, suffix in ((self.before, "before"), (self.after, "after")):
                label = f"{name}_{suffix}"
                while label in names:
                    label += "_"
                arrays.append(part.column(at))
                names.append(label)
        return pa.Table.from_arrays(arrays, names=names)


@dataclass(frozen=True, slots=True)
class LargeChange:
    """One value that changed: where, from what to what; ``change`` is after minus before, as a float."""

    key: Mapping[str, Any]
    before: Any
    after: Any
    change: float


@dataclass(frozen=True, slots=True)
class MetricChange:
    """What became of a metric of a long table, or of a column of numbers.

    Attributes
    ----------
    metric
        The metric in a long table, where ``column`` is the one with its value; else None.
    added, removed, unchanged
        Rows of the metric, of those compared by key. Without a metric ``unchanged`` counts values, and the others
        are 0.
    changed
        Values that changed, of which ``increased`` and ``decreased`` did so by a finite number; of ``undefined`` ones
        the change is no number, as from null or to NaN.
    mean_abs, max_abs
        Of the absolute values of the finite changes; None without any.
    largest
        The largest of the finite changes, by absolute value, then by key.
    """

    metric: Any
    column: str
    unit: str | None
    direction: str | None
    added: int
    removed: int
    changed: int
    unchanged: int
    increased: int
    decreased: int
    undefined: int
    mean_abs: float | None
    max_abs: float | None
    largest: tuple[LargeChange, ...]


@dataclass(frozen=True)
class VersionDiff:
    """What changed between two versions of a dataset.

    Attributes
    ----------
    before, after
        The versions.
    key
        The columns that tell which rows are the same row; () when rows were compared as a whole, and none is changed.
    schema
        How the columns differ. Columns of one side alone are not compared.
    added, removed, changed, unchanged
        Rows. Samples hold up to ``limit`` rows, and say how many there are.
    cells
        For each compared column outside the key that changed anywhere, in how many rows.
    metrics, metrics_total
        What changed in each metric or column of numbers, the most changed first; and how many did.
    warnings
        What one has to know to read the numbers rightly.
    """

    before: Version
    after: Version
    key: tuple[str, ...]
    schema: SchemaChanges
    added: RowSample
    removed: RowSample
    changed: ChangedRows
    unchanged: int
    cells: Mapping[str, int]
    metrics: tuple[MetricChange, ...]
    metrics_total: int
    limit: int
    warnings: tuple[str, ...] = field(default=())

    @property
    def is_identical(self) -> bool:
        """Whether the columns and the compared rows of both are the same."""
        return self.schema == SchemaChanges() and not (self.added.total or self.removed.total or self.changed.total)

    def to_arrow(self) -> pa.Table:
        """The changed rows, up to ``limit``; see ``ChangedRows.to_arrow``."""
        return self.changed.to_arrow()

    def headline(self) -> str:
        """One line of counts."""
        by = f"by {', '.join(self.key)}" if self.key else "as whole rows"
        return (
            f"{self.after.dataset} {self.before.name} → {self.after.name}: {self.added.total:,} added, "
            f"{self.removed.total:,} removed, {self.changed.total:,} changed, {self.unchanged:,} unchanged ({by})"
        )

    def __str__(self) -> str:
        lines = [self.headline(), *self.schema.lines()]
        lines += [_line(one) for one in self.metrics[:20]]
        if self.metrics_total > 20:
            lines.append(f"… and {self.metrics_total - 20} more")
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def _types(changes: tuple[Retyped, ...]) -> str:
    return ", ".join(f"{change.name} ({change.before} to {change.after})" for change in changes)


def _line(one: MetricChange) -> str:
    name = one.column if one.metric is None else str(one.metric)
    text = f"  {name}: {one.changed:,} changed"
    if one.added or one.removed:
        text += f", {one.added:,} added, {one.removed:,} removed"
    if one.largest:
        top = one.largest[0]
        where = ", ".join(f"{column}={value}" for column, value in top.key.items() if value != one.metric)
        text += f"; most: {top.change:+.6g} ({top.before} → {top.after}) at {where}"
    return text
