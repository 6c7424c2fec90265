"""A quick look at an answer with matplotlib. Draws what it is given and computes nothing."""

from __future__ import annotations

from typing import Any

from engine.result import QueryResult
from queries.errors import GrammarError
from queries.schema import Role, Schema


def plot_result(
    result: QueryResult, schema: Schema, *, x: str | None, y: str | None, by: str | None, ax: Any = None
) -> Any:
    """Draw y over x as lines with points, one for each value of ``by``; rows where x or y is null are left out.

    Raises
    ------
    GrammarError
        A name is no column of the answer, or there is nothing to draw.
    """
    import matplotlib.pyplot as plt

    names = [column.name for column in result.meta.columns]
    numeric = [column.name for column in result.meta.columns if column.kind.is_numeric]
    axes = [name for name in numeric if (found := schema.find(name)) is not None and found.role is Role.AXIS]
    x = x or next(iter(axes or names), None)
    y = y or next((name for name in numeric if name not in axes and name != x), None)
    for name in (x, y, by):
        if name is not None and name not in names:
            raise GrammarError(f"the answer has no column {name!r}; it has {', '.join(names)}", param="plot")
    if x is None or y is None:
        raise GrammarError("there is no number in the answer to draw", param="plot")
    axis = ax if ax is not None else plt.subplots()[1]
    series: dict[Any, tuple[list[Any], list[Any]]] = {}
    for row in result.table.to_pylist():
        if row[x] is not None and row[y] is not None:
            xs, ys = series.setdefault(row[by] if by else None, ([], []))
            xs.append(row[x])
            ys.append(row[y])
    for label, (xs, ys) in series.items():
        axis.plot(xs, ys, marker="o", label=None if by is None else str(label))
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_title(f"{result.meta.dataset} {result.meta.version}")
    if by is not None:
        axis.legend(title=by)
    return axis
