"""Which files of a version a plan need not look at, by what is known of their values. Reads nothing.

Only ever errs on the safe side: a file is left out when no row of it can pass the plan's filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from queries.plan import Comparison, Every, Negation, Plan, Predicate, Some
from queries.request import Operator


class ColumnRange(Protocol):
    """What is known of a column's values in a file: how many are null, and perhaps the least and the greatest."""

    @property
    def nulls(self) -> int: ...
    @property
    def min(self) -> Any: ...
    @property
    def max(self) -> Any: ...


class FileRange(Protocol):
    """One file of a version: how many rows it has, and what is known of its columns."""

    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> Mapping[str, ColumnRange]: ...


def files_of_plan(plan: Plan, files: Sequence[FileRange]) -> tuple[int, ...]:
    """The positions of the files that the plan's rows can come from, in order.

    The helper queries of a plan (its count, the values of its pivot, its ties) have the same filters, and so the same
    files; its facets do not.
    """
    shape = plan.shape
    chosen = list(range(len(files)))
    if shape.where is not None:
        where = shape.where
        chosen = [i for i in chosen if may_match(where, plan.values, files[i])]
    if plan.after is not None and shape.is_in_order:
        ends = _ends(files)
        chosen = [i for i in chosen if ends[i] > plan.after + 1]
    if plan.limit is not None and shape.where is None and shape.in_given_order and shape.is_in_order:
        first = plan.offset if plan.after is None else plan.after + 1
        starts = [end - file.rows for end, file in zip(_ends(files), files, strict=True)]
        chosen = [i for i in chosen if starts[i] <= first + plan.limit + 1]  # one more row tells whether more follow
    return tuple(chosen)


def _ends(files: Sequence[FileRange]) -> list[int]:
    ends, total = [], 0
    for file in files:
        total += file.rows
        ends.append(total)
    return ends


def may_match(predicate: Predicate, values: Sequence[object], file: FileRange) -> bool:
    """Whether a row of the file might make the predicate true."""
    match predicate:
        case Every(parts=parts):
            return all(may_match(part, values, file) for part in parts)
        case Some(parts=parts):
            return any(may_match(part, values, file) for part in parts)
        case Negation():
            return True
        case Comparison():
            return _may_compare(predicate, values, file)


def _may_compare(node: Comparison, values: Sequence[object], file: FileRange) -> bool:
    known = file.columns.get(node.column.name) if node.column.derivation is None else None
    if known is None:
        return True
    if node.op is Operator.ISNULL:
        return known.nulls < file.rows if node.negated else known.nulls > 0
    if known.nulls == file.rows:  # of null nothing is true
        return False
    test = _TESTS.get(node.op)
    low, high = known.min, known.max
    if test is None or node.ref is not None or low is None or high is None:
        return True
    wanted: list[Any] = [values[slot] for slot in node.slots]
    if node.listed:
        wanted = list(wanted[0])
    if not all(_is_comparable(value, low) for value in wanted):
        return True
    return test(low, high, wanted)


def _is_comparable(value: Any, bound: Any) -> bool:
    """Whether DuckDB compares the two as Python does: the same kind, and no rounding on the way."""
    if value != value:  # NaN
        return False
    if isinstance(bound, float):
        return isinstance(value, float)
    return type(value) is type(bound)


_TESTS: dict[Operator, Callable[[Any, Any, list[Any]], bool]] = {
    Operator.EQ: lambda low, high, wanted: low <= wanted[0] <= high,
    Operator.IN: lambda low, high, wanted: any(low <= value <= high for value in wanted),
    Operator.LT: lambda low, high, wanted: low < wanted[0],
    Operator.LTE: lambda low, high, wanted: low <= wanted[0],
    Operator.GT: lambda low, high, wanted: high > wanted[0],
    Operator.GTE: lambda low, high, wanted: high >= wanted[0],
    Operator.BETWEEN: lambda low, high, wanted: low <= wanted[1] and high >= wanted[0],
}
