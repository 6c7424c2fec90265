"""Reads what the summary of a comparison says: totals, and what became of each metric. Runs nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.diff.columns import Shared
from engine.diff.result import LargeChange, MetricChange
from engine.diff.sql import Tables
from engine.result import python_rows
from queries.schema import Schema


@dataclass(frozen=True)
class Summary:
    """What ``Tables.summary`` says of some of the cells, with what it was asked for."""

    table: pa.Table
    part: Tables
    metric: Shared | None
    measured: Sequence[int]

    def totals(self) -> dict[str, int]:
        """Counts of rows over all metrics; those that changed are known by these cells alone."""
        return {name: self._all(f"all_{name}") for name in ("added", "removed", "changed", "unchanged")}

    def changes(self) -> dict[str, int]:
        """In how many rows each of the cells changed."""
        return {one.name: self._all(f"all_c{at}") for at, one in enumerate(self.part.cells)}

    def groups(self) -> int:
        """In how many metrics anything differs."""
        return self._all("groups")

    def _all(self, name: str) -> int:
        # Without rows both versions are empty.
        return int(self.table.column(name)[0].as_py()) if self.table.num_rows else 0


def measured_columns(schema: Schema, tables: Tables) -> tuple[Shared | None, list[Shared]]:
    """For a table in long form the metric column, and the cells that belong to it; else None, and no cells."""
    metric = next((one for one in tables.columns if one.name == schema.metric_column), None)
    value = next((one for one in tables.cells if one.name == schema.value_column), None)
    if metric is None or value is None or metric == value or not value.kind.is_numeric:
        return None, []
    return metric, [value, *([] if metric in tables.keys else [metric])]


def read_metrics(summaries: Sequence[Summary], schema: Schema) -> tuple[tuple[MetricChange, ...], int]:
    """What changed in each metric, or each column of numbers, the most changed first; and in how many anything did."""
    if summaries[0].metric is not None:
        return tuple(_read(summaries[0], schema)), summaries[0].groups()
    found = [one for summary in summaries for one in _read(summary, schema)]
    return tuple(sorted(found, key=lambda one: (-one.changed, one.column))), len(found)


def _read(summary: Summary, schema: Schema) -> Iterator[MetricChange]:
    table, metric = summary.table, summary.metric
    lists = {at: [_largest(cell, summary.part) for cell in table.column(f"top{at}")] for at in summary.measured}
    wanted = [name for name in table.column_names if not name.startswith("top")]
    for number, row in enumerate(python_rows(table.select(wanted))):
        for at in summary.measured:
            if row["added"] + row["removed"] + row["changed"] if metric else row[f"c{at}"]:
                yield _metric(row, schema, summary.part, metric, at, lists[at][number])


def _metric(
    row: dict[str, Any],
    schema: Schema,
    tables: Tables,
    metric: Shared | None,
    at: int,
    largest: tuple[LargeChange, ...],
) -> MetricChange:
    column = tables.cells[at].column
    about = schema.metric_info(str(row["m"])) if metric else None
    return MetricChange(
        metric=row["m"] if metric else None,
        column=column.name,
        unit=about.unit if about else column.unit,
        direction=about.direction if about else column.direction,
        added=row["added"] if metric else 0,
        removed=row["removed"] if metric else 0,
        changed=row[f"c{at}"],
        unchanged=row["changed"] + row["unchanged"] - row[f"c{at}"],
        increased=row[f"up{at}"],
        decreased=row[f"down{at}"],
        undefined=row[f"undefined{at}"],
        mean_abs=row[f"mean{at}"],
        max_abs=row[f"max{at}"],
        largest=largest,
    )


def _largest(cell: pa.Scalar, tables: Tables) -> tuple[LargeChange, ...]:
    """The changes in one list of structs; as a table, so that odd dates find a form as they do elsewhere."""
    if not cell.is_valid:
        return ()
    structs = cell.values
    columns = pa.Table.from_arrays(structs.flatten(), names=[field.name for field in structs.type])
    return tuple(
        LargeChange({one.name: row[f"k{at}"] for at, one in enumerate(tables.keys)}, row["b"], row["a"], row["x"])
        for row in python_rows(columns)
    )
