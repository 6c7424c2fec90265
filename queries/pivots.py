"""Long to wide in SQL: numbered cells side by side. Knows no plan; ``compiler.py`` numbers the cells."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from queries.expressions import Expression, aliased, call, fresh, name, number

#: How many columns a pivot makes of one list for each row. DuckDB's own groups by row and column and then by row: for
#: 221 metrics in the order of the file it takes 3.4 times as long, and 1.3 times where half of the cells are missing.
#: For up to 20 it filters instead, which is faster; of many more, cells of a row with gaps are sought for too long.
FEWEST_LISTED, MOST_LISTED = 21, 256


def side_by_side(
    numbered: exp.Select, index: Sequence[str], code: str, cell: str, columns: Sequence[str]
) -> exp.Subquery:
    """One row for each combination of ``index``, and one column for each number.

    Parameters
    ----------
    numbered
        Gives columns ``index``, ``code`` and ``cell``, at most one row for each combination of ``index`` and ``code``.
    columns
        The names of the columns for the numbers from 0 on. Null stands where there is no cell.
    """
    if index and FEWEST_LISTED <= len(columns) <= MOST_LISTED:
        return _listed(numbered, index, code, cell, columns).subquery("pivoted")
    return _pivoted(numbered, code, cell, columns)


def _pivoted(numbered: exp.Select, code: str, cell: str, columns: Sequence[str]) -> exp.Subquery:
    """Numbered cells side by side, by DuckDB's own PIVOT."""
    source = numbered.subquery("numbered")
    numbers = [aliased(number(position), column) for position, column in enumerate(columns)]
    source.set("pivots", [exp.Pivot(
        expressions=[call("first", name(cell))],
        fields=[exp.In(this=name(code), expressions=numbers)],
        unpivot=False,
    )])  # fmt: skip
    return source


def _listed(numbered: exp.Select, index: Sequence[str], code: str, cell: str, columns: Sequence[str]) -> exp.Select:
    """The same by lists: the cells of a row and their numbers, brought into order with null for those that are missing.

    Most rows have all cells in order, and nothing to be done for them.
    """
    cells, codes, each = (fresh(wanted, index) for wanted in ("pivot_cells", "pivot_codes", "pivot_each"))
    keys = [name(column) for column in index]
    rows = exp.select(*keys, aliased(call("list", name(cell)), cells), aliased(call("list", name(code)), codes))
    rows = rows.from_(numbered.subquery("numbered")).group_by(*[name(column) for column in index])

    def every() -> Expression:
        return call("range", number(len(columns)))

    def rising(function: str) -> Expression:
        return call(function, name(codes), exp.Literal.string("ASC"), exp.Literal.string("NULLS LAST"))

    place = call("list_position", name(codes), exp.to_identifier(each, quoted=True))
    found = exp.Lambda(
        this=call("list_extract", name(cells), place), expressions=[exp.to_identifier(each, quoted=True)], colon=True
    )
    complete = exp.Case(
        ifs=[
            exp.If(this=exp.EQ(this=name(codes), expression=every()), true=name(cells)),
            exp.If(
                this=exp.EQ(this=rising("list_sort"), expression=every()),
                true=call("list_select", name(cells), rising("list_grade_up")),
            ),
        ],
        default=call("list_transform", every(), found),
    )
    dense = exp.select(*[name(column) for column in index], aliased(complete, cells)).from_(rows.subquery("listed"))
    extracted = [
        aliased(call("list_extract", name(cells), number(position)), column)
        for position, column in enumerate(columns, start=1)
    ]
    return exp.select(*[name(column) for column in index], *extracted).from_(dense.subquery("dense"))
