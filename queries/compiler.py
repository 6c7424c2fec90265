"""Plan → one DuckDB SELECT, as a sqlglot tree and its text. Names a relation, never a file; runs nothing.

The text depends on the plan's shape alone and is cached by it; values travel only as parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVarTuple

from sqlglot import exp

from queries.aggregates import cell_type, compile_aggregate, compile_cell
from queries.bounded import BoundedCache
from queries.errors import UnknownColumnError, nearest
from queries.expressions import Expression, Scope, aliased, call, cast, fresh, name, number
from queries.pivots import side_by_side
from queries.plan import Facet, LateSort, OutputColumn, Pick, Plan, PlannedPivot, PlannedSort, Shape, Slot
from queries.predicates import compile_predicate
from queries.schema import Column, Kind


@dataclass(frozen=True, slots=True)
class CompiledQuery:
    """SQL text, its parameters in the order of their numbers, and the output columns where they are known.

    The names in the answer's own schema are SQL aliases; ``columns`` has those that the user sees, in the same order.
    """

    sql: str
    params: tuple[object, ...]
    columns: tuple[OutputColumn, ...] = ()


def compile_plan(plan: Plan, relation: str, pivot_values: Sequence[object] = ()) -> CompiledQuery:
    """Translate a plan into one DuckDB SELECT.

    Deterministic: equal plans give identical SQL text and parameter order.

    Parameters
    ----------
    relation
        Unquoted name of a relation with the physical columns and the ordinal.
    pivot_values
        For a plan with a pivot: the values that become columns, in order; see ``compile_pivot_values``.

    Returns
    -------
    CompiledQuery
        Its columns are those of the plan, or for a pivot its index and then one per value.

    Raises
    ------
    UnknownColumnError
        A sort key names a column that the pivot does not make.
    """
    shape = plan.shape
    if shape.pivot is None:
        sql, slots = _compile(shape, relation, 0, ())
        return CompiledQuery(sql, _values(plan, slots), plan.columns or ())
    shown, columns = _pivot_columns(shape.pivot, tuple(pivot_values))
    late = tuple(_late_position(key, shape.pivot, shown) for key in shape.sort if isinstance(key, LateSort))
    sql, slots = _compile(shape, relation, len(pivot_values), late)
    # The values to pivot by take the last slot.
    params = tuple(list(pivot_values) if slot == PIVOT_SLOT else plan.values[slot] for slot in slots)
    return CompiledQuery(sql, params, columns)


def compile_count(plan: Plan, relation: str) -> CompiledQuery:
    """How many rows the plan gives without its paging: one row, one column."""
    sql, slots = _compile_count(plan.shape, relation)
    return CompiledQuery(sql, _values(plan, slots))


def compile_pivot_values(plan: Plan, relation: str) -> CompiledQuery:
    """The distinct values of the pivot's column at that stage, in the order their columns have."""
    sql, slots = _compile_pivot_values(plan.shape, relation)
    return CompiledQuery(sql, _values(plan, slots))


def compile_facet(plan: Plan, facet: Facet, relation: str, most: int) -> CompiledQuery:
    """Values and their counts, most frequent first and then by value; ``most`` rows at the most."""
    sql, slots = _compile_facet(plan.shape, facet, relation, most)
    return CompiledQuery(sql, _values(plan, slots))


def compile_ties(plan: Plan, relation: str) -> CompiledQuery:
    """In how many groups of ``last_by`` or ``best_by`` several rows share the extreme: one row, one column."""
    sql, slots = _compile_ties(plan.shape, relation)
    return CompiledQuery(sql, _values(plan, slots))


def pivot_names(pivot: PlannedPivot, values: Sequence[object]) -> tuple[str, ...]:
    """The names of a pivot's columns: the values as text, told apart from the index and each other where need be."""
    taken = {column.name for column in pivot.index}
    names = []
    for value in values:
        text = "null" if value is None else value if isinstance(value, str) else _plain(value)
        if text in taken:
            text = f"{pivot.column.name}={text}"
        while text in taken:
            text += "_"
        taken.add(text)
        names.append(text)
    return tuple(names)


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _pivot_columns(pivot: PlannedPivot, values: tuple[object, ...]) -> tuple[tuple[str, ...], tuple[OutputColumn, ...]]:
    """The names of the columns that the values become, and all columns of the answer."""
    # Texts alone: of other values some are equal that have different names.
    key = (pivot, values) if all(type(value) is str for value in values) else None
    found = None if key is None else _COLUMNS.get(key)
    if found is not None:
        return found
    shown = pivot_names(pivot, values)
    index = [OutputColumn(column.name, column.sql_type, column.unit, column.direction) for column in pivot.index]
    cell = cell_type(pivot)
    unit, direction = (pivot.cell.unit, pivot.cell.direction) if pivot.fn in _KEEPS_UNIT else (None, None)
    found = shown, (*index, *[OutputColumn(text, cell, unit, direction) for text in shown])
    if key is not None:
        _COLUMNS.put(key, found, sum(map(len, shown)) + 400 * len(found[1]))
    return found


#: By pivot and values, in bytes as estimated.
_COLUMNS: BoundedCache[tuple[tuple[str, ...], tuple[OutputColumn, ...]]] = BoundedCache(4 * 2**20)

PIVOT_SLOT: Slot = -1
_KEEPS_UNIT = (None, "mean", "median", "min", "max", "first", "last")


def _values(plan: Plan, slots: Sequence[Slot]) -> tuple[object, ...]:
    return tuple(plan.values[slot] for slot in slots)


def _late_position(key: LateSort, pivot: PlannedPivot, shown: Sequence[str]) -> int:
    """Where a sort key's pivoted column stands."""
    if shown and key.name not in shown:
        names = [*(column.name for column in pivot.index), *shown]
        raise UnknownColumnError(
            f"the pivot has no column {key.name!r}", param="sort", value=key.name, did_you_mean=nearest(key.name, names)
        )
    return shown.index(key.name) if shown else 0  # without a column there is no row to sort either


# --- texts by shape

_Text = tuple[str, tuple[Slot, ...]]
_More = TypeVarTuple("_More")

#: By builder, shape and what else it takes; in bytes as estimated. Some texts are five hundred times as long as others.
_TEXTS: BoundedCache[_Text] = BoundedCache(8 * 2**20)


def _by_shape(build: Callable[[Shape, *_More], _Text]) -> Callable[[Shape, *_More], _Text]:
    """Keep the texts that ``build`` makes."""

    def find(shape: Shape, *more: *_More) -> _Text:
        key = (build, shape, more)
        text = _TEXTS.get(key)
        if text is None:
            text = build(shape, *more)
            _TEXTS.put(key, text, len(text[0]) + shape.size_bytes)
        return text

    return find


@_by_shape
def _compile(shape: Shape, relation: str, pivoted: int, late: tuple[int, ...]) -> tuple[str, tuple[Slot, ...]]:
    builder = _Builder(shape, relation)
    query = builder.pivoted(pivoted, late) if shape.pivot else builder.plain()
    return builder.finish(query)


@_by_shape
def _compile_count(shape: Shape, relation: str) -> tuple[str, tuple[Slot, ...]]:
    builder = _Builder(shape, relation)
    counted = call("count", exp.Star())
    if shape.pivot is not None:
        query = exp.select(aliased(counted, "total")).from_(builder.pivot_rows().subquery("counted"))
    elif shape.grouped or shape.distinct:
        query = exp.select(aliased(counted, "total")).from_(builder.rows().subquery("counted"))
    else:
        query = builder.source([aliased(counted, "total")])
    return builder.finish(query)


@_by_shape
def _compile_pivot_values(shape: Shape, relation: str) -> tuple[str, tuple[Slot, ...]]:
    builder = _Builder(shape, relation)
    return builder.finish(builder.pivot_values())


@_by_shape
def _compile_facet(shape: Shape, facet: Facet, relation: str, most: int) -> tuple[str, tuple[Slot, ...]]:
    builder = _Builder(shape, relation)
    return builder.finish(builder.facet(facet, most))


@_by_shape
def _compile_ties(shape: Shape, relation: str) -> tuple[str, tuple[Slot, ...]]:
    builder = _Builder(shape, relation)
    return builder.finish(builder.ties())


class _Builder:
    """Builds the statements of one shape; each method gives one stage, with the stages before it inside."""

    def __init__(self, shape: Shape, relation: str) -> None:
        self.shape = shape
        self.relation = relation
        self.scope = Scope({table: (texts, numbers) for table, texts, numbers in shape.tables})

    def finish(self, query: exp.Select) -> tuple[str, tuple[Slot, ...]]:
        return query.sql(dialect="duckdb", pretty=True), tuple(self.scope.slots)

    # --- rows of the version

    def source(self, projections: Sequence[Expression]) -> exp.Select:
        """The filtered rows, of each group the picked one."""
        query = exp.select(*projections)
        if self.shape.pick is None:
            query = query.from_(self._table())
        else:
            query = self._picked(query, self.shape.pick)
        return self._filtered(query)

    def _table(self) -> exp.Table:
        return exp.Table(this=exp.to_identifier(self.relation, quoted=True))

    def _filtered(self, query: exp.Select) -> exp.Select:
        if self.shape.where is not None:
            query = query.where(compile_predicate(self.shape.where, self.scope))
        if self.shape.after is not None:
            after = self.scope.parameter(self.shape.after)
            query = query.where(exp.GT(this=name(self.shape.ordinal), expression=after))
        return query

    def _picked(self, query: exp.Select, pick: Pick) -> exp.Select:
        """Only rows whose ordinal is the first of those with the extreme of their group."""
        query = query.from_(self._table())
        if not pick.may_tie:
            chosen = self._extremes(pick)
            return query.where(exp.In(this=name(self.shape.ordinal), query=chosen.subquery()))
        chosen = exp.select(call("min", name("picked_ordinal"))).from_(self._candidates(pick).subquery("candidates"))
        chosen = chosen.group_by(*[name(f"picked_key_{i}") for i in range(len(pick.keys))])
        return query.where(exp.In(this=name(self.shape.ordinal), query=chosen.subquery()))

    def _extremes(self, pick: Pick) -> exp.Select:
        """The ordinal of the one row with the extreme of each group; of a group of nothing but null, of its first.

        Where rows cannot tie this takes half as long as joining them with the extremes.
        """
        rows = self._ranked(pick).subquery("ranked")
        extreme = call("arg_max" if pick.rising else "arg_min", name("picked_ordinal"), name("picked_rank"))
        chosen = exp.select(call("coalesce", extreme, call("min", name("picked_ordinal")))).from_(rows)
        return chosen.group_by(*[name(f"picked_key_{i}") for i in range(len(pick.keys))])

    def _ranked(self, pick: Pick) -> exp.Select:
        """The keys of all rows, what the picked ones have most or least of, and their ordinals."""
        keys = [aliased(self.scope.value(key), f"picked_key_{i}") for i, key in enumerate(pick.keys)]
        rank = aliased(self._merit(pick), "picked_rank")
        rows = exp.select(*keys, rank, aliased(name(self.shape.ordinal), "picked_ordinal")).from_(self._table())
        return self._filtered(rows)

    def _candidates(self, pick: Pick) -> exp.Select:
        """Keys and ordinals of all rows that share the extreme of their group."""
        rows = self._ranked(pick)
        names = [f"picked_key_{i}" for i in range(len(pick.keys))]
        extreme = call("max" if pick.rising else "min", name("picked_rank"))
        best = exp.select(*[name(key) for key in names], aliased(extreme, "picked_best"))
        best = best.from_("picked_rows").group_by(*[name(key) for key in names])
        joined = [exp.NullSafeEQ(this=name(key, "r"), expression=name(key, "b")) for key in names]
        joined.append(exp.NullSafeEQ(this=name("picked_rank", "r"), expression=name("picked_best", "b")))
        query = exp.select(*[name(key, "r") for key in names], name("picked_ordinal", "r"))
        query = query.from_("picked_rows AS r").join(best.subquery("b"), on=exp.and_(*joined))
        return query.with_("picked_rows", as_=rows, materialized=True)

    def _merit(self, pick: Pick) -> Expression:
        """What the picked row has the most of, or the least; null for null and NaN, which lose to any number."""
        value = self.scope.rank(pick.column)
        if pick.column.may_be_nan:
            value = call("nullif", value, cast(exp.Literal.string("nan"), pick.column.sql_type))
        if pick.metric_column is None:
            return value
        falling = [self.scope.parameter(slot) for slot in pick.falling_metrics]
        lower = exp.In(this=self.scope.value(pick.metric_column), expressions=falling)
        if pick.column.kind is Kind.INTEGER:
            value = cast(value, "HUGEINT")  # the least integer of a type has no negative there
        return exp.Case(ifs=[exp.If(this=lower, true=_negated(value))], default=value)

    def ties(self) -> exp.Select:
        pick = self.shape.pick
        if pick is None:
            raise ValueError("the plan picks no rows")
        names = [name(f"picked_key_{i}") for i in range(len(pick.keys))]
        groups = exp.select(aliased(number(1), "one")).from_(self._candidates(pick).subquery("candidates"))
        groups = groups.group_by(*names).having(exp.GT(this=call("count", exp.Star()), expression=number(1)))
        return exp.select(aliased(call("count", exp.Star()), "total")).from_(groups.subquery("tied"))

    # --- without a pivot

    def plain(self) -> exp.Select:
        shape = self.shape
        if (shape.sort or not shape.is_in_order) and shape.offset is not None and shape.is_every_row:
            return self._deep_page()
        query = self.rows()
        if shape.grouped:
            # Selecting and ordering by names of outputs: the grouping is one level down.
            query = exp.select(*[name(column.name) for column in shape.select]).from_(query.subquery("grouped"))
            query = self._ordered(query)
        elif shape.distinct:
            ordinal = call("min", name(shape.ordinal))
            query = self._ordered(query, last=ordinal)
        elif shape.sort:
            query = self._ordered(query, last=name(shape.ordinal))
        elif shape.pick is not None or not shape.is_in_order:
            query = query.order_by(name(shape.ordinal))
        return self._paged(query)

    def _deep_page(self) -> exp.Select:
        """A page far down a sorted answer: only keys and ordinals are sorted, and the rows of the page read after.

        Sorting whole rows to skip most of them takes three times as long, and twice the memory.
        """
        ordinal = self.shape.ordinal
        page = self._ordered(self.source([name(ordinal)]), last=name(ordinal))
        page = self._paged_by_counts(page) if self.shape.counted else self._paged(page)
        projections = [self._projected(column) for column in self.shape.select]
        if self.shape.limit is not None and self.shape.in_given_order:
            projections.append(name(ordinal))
        query = exp.select(*projections).from_(self._table())
        query = query.where(exp.In(this=name(ordinal), query=page.subquery()))
        return self._ordered(query, last=name(ordinal))

    def _paged_by_counts(self, page: exp.Select) -> exp.Select:
        """The same page where the first key has few values: of most of them a count tells that no row is on it.

        Only rows with the others are sorted. To find row 1 000 000 of 1.9 million by step so takes a fifth of the time.
        """
        shape, first = self.shape, self.shape.sort[0]
        if not isinstance(first, PlannedSort) or shape.limit is None or shape.offset is None:
            raise ValueError("the plan has no page by a column")
        offset, limit = self.scope.parameter(shape.offset), self.scope.parameter(shape.limit)

        def rank() -> Expression:
            return self.scope.rank(first.column)

        # Not the column's own name, which stands beside them.
        own, rows, upto, before = (
            fresh(f"page_{word}", [first.column.name]) for word in ("rank", "rows", "upto", "before")
        )
        counts = self.source([aliased(rank(), own), aliased(call("count", exp.Star()), rows)]).group_by(rank())
        running = exp.Window(
            this=call("sum", name(rows)),
            order=exp.Order(expressions=[_ordering(name(own), first.desc)]),
            spec=exp.WindowSpec(kind="ROWS", start="UNBOUNDED", start_side="PRECEDING", end="CURRENT ROW"),
        )
        places = exp.select(name(own), name(rows), aliased(running, upto)).from_(counts.subquery("counts"))
        start = exp.paren(exp.Sub(this=name(upto), expression=name(rows)))
        end = exp.paren(exp.Add(this=offset.copy(), expression=limit))
        ranks = exp.select(name(own), aliased(start, before)).from_(places.subquery("places"))
        ranks = ranks.where(exp.GT(this=name(upto), expression=offset), exp.LT(this=start.copy(), expression=end))
        same = exp.NullSafeEQ(this=name(own, "page_ranks"), expression=rank())
        page = page.where(exp.Exists(this=exp.select(number(1)).from_("page_ranks").where(same)))
        passed = exp.select(call("min", name(before))).from_("page_ranks").subquery()
        page = page.limit(limit.copy())
        page = page.offset(cast(exp.paren(exp.Sub(this=offset.copy(), expression=passed)), "BIGINT"))
        return page.with_("page_ranks", as_=ranks, materialized=True)

    def rows(self) -> exp.Select:
        """All rows of an answer without a pivot, not ordered."""
        shape = self.shape
        if shape.grouped:
            return self.groups()
        projections = [self._projected(column) for column in shape.select]
        if shape.limit is not None and shape.in_given_order:
            projections.append(name(shape.ordinal))  # from which a cursor goes on
        query = self.source(projections)
        if shape.distinct:
            query = query.group_by(*[self.scope.value(column) for column in shape.select])
        return query

    def _projected(self, column: Column) -> Expression:
        return name(column.name) if column.derivation is None else aliased(self.scope.value(column), column.name)

    def groups(self) -> exp.Select:
        """Groups and their aggregates, after having."""
        shape = self.shape
        keys = [self._projected(column) for column in shape.groups]
        ordinal = name(shape.ordinal)
        aggregates = [aliased(compile_aggregate(one, self.scope, ordinal), one.alias) for one in shape.aggregates]
        query = self.source([*keys, *aggregates])
        if shape.groups:
            query = query.group_by(*[self.scope.value(column) for column in shape.groups])
        if shape.having is not None:
            outer = exp.select(exp.Star()).from_(query.subquery("groups"))
            query = outer.where(compile_predicate(shape.having, self.scope))
        return query

    def _ordered(self, query: exp.Select, last: Expression | None = None) -> exp.Select:
        terms: list[Expression] = []
        for key in self.shape.sort:
            if isinstance(key, PlannedSort):
                terms.extend(_terms(self.scope.rank(key.column), key.column.sql_type, key.desc))
        if last is not None:
            terms.append(_ordering(last, False))
        if self.shape.grouped:
            terms.extend(_label_texts(self.shape.groups))
        return query.order_by(*terms) if terms else query

    def _paged(self, query: exp.Select) -> exp.Select:
        if self.shape.limit is not None:
            query = query.limit(self.scope.parameter(self.shape.limit))
        if self.shape.offset is not None:
            query = query.offset(self.scope.parameter(self.shape.offset))
        return query

    # --- with one

    def _pivot(self) -> PlannedPivot:
        if self.shape.pivot is None:
            raise ValueError("the plan has no pivot")
        return self.shape.pivot

    def pivot_values(self) -> exp.Select:
        pivot = self._pivot()
        value = name(pivot.column.name) if self.shape.grouped else self.scope.value(pivot.column)
        if self.shape.grouped:
            query = exp.select(aliased(value, "value")).from_(self.groups().subquery("grouped"))
        else:
            query = self.source([aliased(value, "value")])
        distinct = exp.select(aliased(name("value"), "value")).from_(query.subquery("pivoted")).group_by(name("value"))
        return distinct.order_by(*self._by_value(pivot.column))

    def _by_value(self, column: Column) -> list[Expression]:
        """The order of a column's values that are called "value": sizes by number, and of equal ones by their text."""
        rank = name("value")
        if column.is_size_label:
            rank = self.scope.lookup(self.scope.tables[column.name], name("value"), "BIGINT")
        return [_ordering(rank, False), _ordering(name("value"), False)]

    def pivot_rows(self) -> exp.Select:
        """One row for each row of the pivot, with its index columns."""
        pivot = self._pivot()
        query = exp.select(*([name(column.name) for column in pivot.index] or [number(1)]))
        query = query.from_(self._cells().subquery("cells"))
        if pivot.index:
            return query.group_by(*[name(column.name) for column in pivot.index])
        return query.limit(1)

    def _cells(self) -> exp.Select:
        """Index, the value to pivot by, and the cell: at most one row for each column of the result."""
        pivot = self._pivot()
        by, cell = self._names(pivot)
        if self.shape.grouped:
            index = [name(column.name) for column in pivot.index]
            query = exp.select(*index, aliased(name(pivot.column.name), by), aliased(name(pivot.cell.name), cell))
            return query.from_(self.groups().subquery("grouped"))
        index = [self._projected(column) for column in pivot.index]
        value = aliased(self.scope.value(pivot.column), by)
        if pivot.unique and pivot.fn is None:
            return self.source([*index, value, aliased(self.scope.value(pivot.cell), cell)])
        content = compile_cell(pivot, self.scope, name(self.shape.ordinal))
        query = self.source([*index, value, aliased(content, cell)])
        keys = [self.scope.value(column) for column in (*pivot.index, pivot.column)]
        return query.group_by(*keys)

    def _names(self, pivot: PlannedPivot) -> tuple[str, str]:
        taken = [column.name for column in pivot.index]
        return fresh("pivot_by", taken), fresh("pivot_cell", taken)

    def pivoted(self, width: int, late: tuple[int, ...]) -> exp.Select:
        """One column for each of ``width`` values, which are numbered: no value becomes a name in SQL."""
        pivot = self._pivot()
        by, cell = self._names(pivot)
        index = [column.name for column in pivot.index]
        if width == 0:
            empty = exp.select(*[name(column) for column in index] or [exp.Star()])
            return self._paged(empty.from_(self._cells().subquery("cells")).where(exp.false()))
        code, prefix = fresh("pivot_code", index), self._prefix(index)
        listed = cast(self.scope.parameter(PIVOT_SLOT), f"{_list_item(pivot.column)}[]")
        codes = exp.select(
            aliased(call("unnest", listed), "value"), aliased(call("unnest", call("range", number(width))), "code")
        ).subquery("codes")
        same = exp.NullSafeEQ(this=name(by, "cells"), expression=name("value", "codes"))
        numbered = exp.select(
            *[name(column, "cells") for column in index], aliased(name("code", "codes"), code), name(cell, "cells")
        ).from_(self._cells().subquery("cells")).join(codes, on=same)  # fmt: skip
        source = side_by_side(numbered, index, code, cell, [f"{prefix}{position}" for position in range(width)])
        shown = [*index, *[f"{prefix}{position}" for position in range(width)]]
        query = exp.select(*[name(column) for column in shown]).from_(source)
        terms: list[Expression] = []
        unresolved = list(late)
        for key in self.shape.sort:
            if isinstance(key, PlannedSort):
                terms.extend(_terms(self.scope.rank(key.column.computed), key.column.sql_type, key.desc))
            else:
                position = unresolved.pop(0)
                terms.extend(_terms(name(f"{prefix}{position}"), cell_type(pivot), key.desc))
        terms.extend(_label_texts(pivot.index))
        return self._paged(query.order_by(*terms) if terms else query)

    def _prefix(self, index: Sequence[str]) -> str:
        prefix = "pivot_"
        while any(column.casefold().startswith(prefix) for column in index):
            prefix += "_"
        return prefix

    # --- facets

    def facet(self, facet: Facet, most: int) -> exp.Select:
        value = self.scope.value(facet.column)
        rows = exp.select(aliased(value, "value"), aliased(call("count", exp.Star()), "count")).from_(self._table())
        if facet.where is not None:
            rows = rows.where(compile_predicate(facet.where, self.scope))
        rows = rows.group_by(value)
        query = exp.select(name("value"), name("count")).from_(rows.subquery("counted"))
        return query.order_by(_ordering(name("count"), True), *self._by_value(facet.column)).limit(most)


def _label_texts(keys: Sequence[Column]) -> list[exp.Ordered]:
    """What settles the order of groups whose size labels say one number in two ways: 60M and 0.06B."""
    return [_ordering(name(key.name), False) for key in keys if key.is_size_label]


def _list_item(column: Column) -> str:
    return "VARCHAR" if column.sql_type.upper().startswith("ENUM") else column.sql_type


def _terms(expression: Expression, sql_type: str, desc: bool) -> list[Expression]:
    """What to order by: numbers, then NaN, then nulls, in both directions. For DuckDB NaN is the largest number."""
    if not desc or sql_type not in ("FLOAT", "DOUBLE"):
        return [_ordering(expression, desc)]
    number = call("nullif", expression.copy(), cast(exp.Literal.string("nan"), sql_type))
    return [_ordering(number, True), _ordering(exp.Is(this=expression, expression=exp.Null()), False)]


def _ordering(expression: Expression, desc: bool) -> exp.Ordered:
    return exp.Ordered(this=expression, desc=desc, nulls_first=False)


def _negated(value: Expression) -> Expression:
    return exp.Neg(this=exp.paren(value))
