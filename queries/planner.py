"""Request → plan: every name resolved against the schema, every value typed, every limit applied. Makes no SQL.

All that can be wrong with a request is raised here, so that what the compiler is given can be compiled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from queries.conditions import ConditionResolver
from queries.errors import (
    GrammarError,
    LimitExceededError,
    TypeMismatchError,
    UnknownColumnError,
)
from queries.grouping import Grouping, check_aggregate, plan_grouping
from queries.outline import OUTLINES, Outline, one_of_its_kind
from queries.plan import (
    Facet,
    LateSort,
    OutputColumn,
    Pick,
    Plan,
    PlannedPivot,
    PlannedSort,
    Shape,
    Slot,
)
from queries.request import And, BestBy, Condition, QueryRequest, SortKey
from queries.resolved import Resolved
from queries.schema import Column, Kind, Lookup, Product, Role, Schema, SizeLabel
from queries.values import canonical_json

FAR_DOWN = 20_000  # rows before a page from which on it is found by counts; before, the first rows are sorted as fast


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one request may ask."""

    max_rows: int = 5_000_000
    max_offset: int = 10_000_000  # beyond it a cursor is the way: an offset reads all that it skips
    max_columns: int = 5_000  # named in one request


@dataclass(frozen=True, slots=True)
class Position:
    """Where the page begins that a cursor asks for: how many rows stand before it, and after which ordinal."""

    offset: int = 0
    after: int | None = None


def plan_query(
    request: QueryRequest, schema: Schema, limits: Limits | None = None, position: Position | None = None
) -> Plan:
    """Resolve a request against the schema of one version.

    Parameters
    ----------
    position
        What the request's cursor says, for who can read it; it takes the place of ``offset``.

    Raises
    ------
    QueryError
        The most exact subclass for what is wrong.
    """
    return _Planner(request, schema, limits or Limits(), position).plan()


class _Planner:
    def __init__(self, request: QueryRequest, schema: Schema, limits: Limits, position: Position | None) -> None:
        self.request = request
        self.schema = schema
        self.limits = limits
        self.position = position
        self.values: list[object] = []
        self.warnings: list[str] = []
        self.tables: dict[str, tuple[Slot, Slot]] = {}
        self.where = Resolved()

    # --- what every part needs

    def bind(self, value: object) -> Slot:
        self.values.append(value)
        return len(self.values) - 1

    def warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def find(self, name: str, param: str) -> Column:
        """The column of that name or alias."""
        return self.use(self.schema.require(name, param))

    def use(self, column: Column) -> Column:
        """Bind the tables that a column's expression needs."""
        derivation = column.derivation
        if derivation is None and not column.is_size_label:
            return column
        if isinstance(derivation, Product):
            for source in derivation.columns:
                self.use(source)
        elif isinstance(derivation, Lookup):
            self._table(column.name, [text for text, _ in derivation.table], [number for _, number in derivation.table])
        elif isinstance(derivation, SizeLabel):
            self._size_table(column.name, derivation.source)
        elif column.is_size_label:
            self._size_table(column.name, column.name)
        return column

    def _size_table(self, name: str, source: str) -> None:
        sizes = self.schema.sizes_of(source)
        self._table(name, sizes.texts, sizes.numbers)

    def _table(self, name: str, texts: list[str], numbers: list[Any]) -> None:
        if name not in self.tables:
            self.tables[name] = (self.bind(texts), self.bind(numbers))

    def columns(self, names: Sequence[str], param: str) -> tuple[Column, ...]:
        """The columns of a list, each once."""
        if len(names) > self.limits.max_columns:
            raise LimitExceededError(
                f"{param} names {len(names)} columns; {self.limits.max_columns} is the most", param=param
            )
        return tuple({column.name: column for column in (self.find(name, param) for name in names)}.values())

    # --- the parts, in the order of work

    def plan(self) -> Plan:
        request = self.request = self._with_best_metric(self.request)
        # Not kept: each would hold the other, and only the garbage collector would free them.
        resolver = ConditionResolver(self.schema, self.find, self.bind, self.warn, strict=request.strict, keeps=True)
        where = self.where = resolver.resolve(request.where, "where")
        outline = self._outline()
        limit, offset, after = self._page()
        paging = (limit, (offset or None) if after is None else None, after)
        canonical = outline.canonical(where.canonical, limit, offset, after)
        return Plan(
            shape=outline.shape,
            values=(*self.values, *outline.values, *[number for number in paging if number is not None]),
            columns=outline.columns,
            facets=outline.facets,
            warnings=tuple(self.warnings),
            canonical=canonical,
            query_id=_sha256(canonical),
            base_id=_sha256(outline.base_canonical(where.canonical)),
            limit=limit,
            offset=offset,
            after=after,
            total=request.total,
            explain=request.explain,
        )

    # --- what does not depend on the values of the conditions

    def _outline(self) -> Outline:
        if self.request.having is not None:  # its conditions have values too
            return self._new_outline()
        key = self._outline_key()
        outline = OUTLINES.get(key)
        if outline is None:
            outline = self._new_outline()
            OUTLINES.put(key, outline, outline.size_bytes + len(self.where.canonical or "") * 4)
        return outline

    def _outline_key(self) -> Hashable:
        """All that ``_new_outline`` looks at. It sees the values of conditions only in what is said here of them."""
        request, where, schema = self.request, self.where, self.schema
        best, metric = request.best_by, None
        if schema.metric_column is not None:
            metric = where.pinned.get(schema.metric_column)
        info = schema.metric_info(metric[0]) if metric is not None and len(metric) == 1 else None
        return (
            schema.identity,
            self.limits.max_columns,
            where.tree,
            tuple(self.tables),
            tuple([name for name, values in where.pinned.items() if len(values) == 1]),
            info,
            request.select,
            request.group_by,
            tuple([(one.fn, one.col, one.as_) for one in request.aggs]),
            tuple([(one.col, one.desc) for one in request.sort]),
            request.pivot,
            request.pivot_values,
            request.distinct,
            request.last_by,
            None if best is None else (best.by, best.col, best.desc, metric),
            request.facets,
            (request.strict, request.total, request.explain),
            (self._is_paged(), self._is_far_down()),
        )

    def _is_paged(self) -> tuple[bool, bool, bool]:
        """Whether there are a limit, an offset, and an ordinal after which to begin."""
        position = self._begin()
        goes_on = position.after is not None
        return self.request.limit is not None, bool(position.offset) and not goes_on, goes_on

    def _begin(self) -> Position:
        return self.position or Position(self.request.offset)

    def _is_far_down(self) -> bool:
        return self.request.limit is not None and self._begin().offset >= FAR_DOWN and self._begin().after is None

    def _is_counted(self, shape: Shape) -> bool:
        """Whether counting the rows of each value of the first sort key is likely to find a page sooner than sorting.

        Steps, tokens, sizes and dimensions have few values. Of an integer that alone tells all rows apart each row
        would be counted, and of numbers with a fraction most.
        """
        if not self._is_far_down() or not shape.is_every_row or not shape.sort:
            return False
        first = shape.sort[0]
        if not isinstance(first, PlannedSort) or first.column.derivation is not None:
            return False
        column = first.column
        if column.kind is Kind.STRING:
            return column.role.is_dimension and self.schema.values_of(column) is not None
        key = self.schema.index.key() if self.schema.index is not None else ()
        grows = column.role is Role.AXIS or column.role.is_dimension
        return column.kind is Kind.INTEGER and grows and key != () and key != (column.name,)

    def _new_outline(self) -> Outline:
        request, where = self.request, self.where
        bound = len(self.values)
        pick = self._pick()
        # The aggregate of a pivot without groups is that of its cells.
        is_grouped = bool(request.group_by or (request.aggs and request.pivot is None))
        grouping = plan_grouping(self, request) if is_grouped else None
        having = self._having(grouping)
        pivot = self._pivot(grouping)
        select = self._select(grouping, pivot)
        sort = self._sort(grouping, pivot, select)
        distinct = self._distinct(grouping, pivot)
        facets = self._facets()
        core = {
            "aggs": grouping.canonical if grouping else None,
            **self._canonical_pick(pick),
            "dataset": self.schema.dataset,
            "distinct": distinct or None,
            "group_by": [column.name for column in grouping.keys] if grouping else None,
            **self._canonical_pivot(pivot),
            "select": [column.name for column in select] if request.select is not None else None,
            "sort": [_canonical_sort(key) for key in sort] or None,
        }
        asked = {
            "explain": request.explain or None,
            "facets": [facet.column.name for facet in facets] or None,
            "strict": None if request.strict else False,
            "total": None if request.total else False,
        }
        own, more = _members(core), _members(asked)
        if having.canonical is not None:
            own["having"] = f'"having":{having.canonical}'
        every = sorted({**own, **more}.items())
        extra = tuple(self.values[bound:])
        del self.values[bound:]
        slots = iter(range(bound + len(extra), bound + len(extra) + 3))
        limit, offset, after = (next(slots) if given else None for given in self._is_paged())
        shape = Shape(
            ordinal=self.schema.ordinal,
            where=where.predicate,
            pick=pick,
            select=select,
            distinct=distinct,
            grouped=grouping is not None,
            groups=grouping.keys if grouping else (),
            aggregates=grouping.aggregates if grouping else (),
            having=having.predicate,
            pivot=pivot,
            sort=sort,
            limit=limit,
            offset=offset,
            after=after,
            tables=tuple((name, *slots) for name, slots in sorted(self.tables.items())),
            is_in_order=self.schema.is_in_order,
        )
        if self._is_counted(shape):
            shape = replace(shape, counted=True)
        return Outline(
            one_of_its_kind(shape),
            extra,
            None if pivot else self._outputs(grouping, select),
            facets,
            head=",".join(text for name, text in every if name < "limit"),
            tail=",".join(text for name, text in every if name > "limit"),
            base=",".join(text for _, text in sorted(own.items())),
        )

    def _pick(self) -> Pick | None:
        request = self.request
        if request.last_by and request.best_by:
            raise GrammarError("last_by and best_by exclude each other; give one of them", param="best_by")
        if request.last_by:
            keys = self.columns(request.last_by, "last_by")
            return Pick(keys, self.use(self._step()), rising=True, may_tie=self._may_tie(keys, self._step()))
        if request.best_by:
            return self._best(request.best_by)
        return None

    def _with_best_metric(self, request: QueryRequest) -> QueryRequest:
        """``best_by=…:-accuracy`` in long form: the best row of that metric."""
        best, schema = request.best_by, self.schema
        if best is None or best.col is None or schema.metric_column is None or schema.find(best.col) is not None:
            return request
        if best.col not in schema.metric_names():
            return request
        parts = () if request.where is None else (request.where,)
        where = And(and_=(*parts, Condition(col=schema.metric_column, value=best.col)))
        return request.model_copy(
            update={"where": where, "best_by": best.model_copy(update={"col": schema.value_column})}
        )

    def _step(self) -> Column:
        step = self.schema.step
        if step is None:
            raise UnknownColumnError(
                f"last_by needs a column that grows during training, such as step; {self.schema.dataset} has none",
                param="last_by",
            )
        return step

    def _may_tie(self, keys: Sequence[Column], extreme: Column) -> bool:
        """Whether two rows may share the keys and the extreme, as far as the filters and the declared key tell."""
        return not self._identify({column.name for column in (*keys, extreme)})

    def _identify(self, names: set[str]) -> bool:
        """Whether columns tell all rows under the filters apart, those that the filters fix to one value included."""
        for column in self.schema.physical:
            values = self.where.pinned.get(column.name)
            if values is not None and len(values) == 1:
                names = names | {column.name}
        key = self.schema.index.key() if self.schema.index is not None else ()
        return bool(key) and set(key) <= names

    def _best(self, best: BestBy) -> Pick:
        keys = self.columns(best.by, "best_by")
        if not keys:
            raise GrammarError("best_by needs at least one column", param="best_by")
        if best.col is None:
            column = self._only_measure("best_by")
        else:
            column = self.find(best.col, "best_by")
        if not column.kind.is_ordered:
            raise TypeMismatchError(
                f"best_by needs a column that has an order; {column.name} is {column.kind}", param="best_by"
            )
        if best.desc is not None:
            return Pick(keys, column, rising=best.desc)
        return self._best_by_direction(keys, column)

    def _best_by_direction(self, keys: tuple[Column, ...], column: Column) -> Pick:
        schema = self.schema
        if column.direction is not None:
            return Pick(keys, column, rising=column.direction == "higher")
        if schema.metric_column is None or column.name != schema.value_column:
            raise GrammarError(
                f"it is not known whether lower or higher {column.name} is better; say best_by=…:{column.name} for the "
                f"smallest or best_by=…:-{column.name} for the largest",
                param="best_by",
            )
        metric_column = schema.by_name[schema.metric_column]
        pinned = self.where.pinned.get(metric_column.name)
        names = pinned if pinned is not None else sorted(str(name) for name in schema.metric_names())
        directions = {name: info.direction if (info := schema.metric_info(name)) else None for name in names}
        unknown = [name for name, direction in directions.items() if direction is None]
        if unknown:
            raise GrammarError(
                f"it is not known whether lower or higher {unknown[0]} is better; filter by metric, or say "
                f"best_by=…:{column.name} for the smallest or best_by=…:-{column.name} for the largest",
                param="best_by",
            )
        if len(set(directions.values())) <= 1:
            return Pick(keys, column, rising="higher" in directions.values())
        if metric_column not in keys:
            raise GrammarError(
                "of some of these metrics the lowest value is best, of others the highest: add "
                f"{metric_column.name} to best_by, or filter by it",
                param="best_by",
            )
        falling = [name for name, direction in directions.items() if direction == "lower"]
        return Pick(keys, column, True, metric_column, tuple(self.bind(name) for name in falling))

    def _only_measure(self, param: str) -> Column:
        schema = self.schema
        if schema.value_column is not None:
            return schema.by_name[schema.value_column]
        if len(schema.measures) == 1:
            return schema.measures[0]
        names = [column.name for column in schema.measures]
        raise GrammarError(
            f"{schema.dataset} has {len(names)} measures; name one of them"
            if names
            else f"{schema.dataset} has no measure; name a column",
            param=param,
            did_you_mean=names[:3],
        )

    def _having(self, grouping: Grouping | None) -> Resolved:
        if self.request.having is None:
            return Resolved()
        if grouping is None:
            raise GrammarError("having needs a group_by or an agg; use a filter for single rows", param="having")
        resolver = ConditionResolver(self.schema, grouping.find, self.bind, self.warn, strict=False)
        return resolver.resolve(self.request.having, "having")

    def _pivot(self, grouping: Grouping | None) -> PlannedPivot | None:
        request = self.request
        if request.pivot is None:
            if request.pivot_values is not None:
                raise GrammarError("pivot_values needs pivot", param="pivot_values")
            return None
        if grouping is not None:
            return self._pivot_of_groups(grouping, request.pivot)
        column = self.find(request.pivot, "pivot")
        cell, fn = self._pivot_cell()
        if not column.kind.is_ordered:
            raise TypeMismatchError(f"pivot needs a plain column; {column.name} is {column.kind}", param="pivot")
        if cell == column:
            raise GrammarError("pivot and pivot_values name the same column", param="pivot_values")
        if request.select is not None:
            chosen = self.columns(request.select, "select")
            index = tuple(one for one in chosen if one not in (column, cell))
        else:
            index = tuple(self.use(one) for one in self.schema.pivot_index(column, cell))
        for one in index:
            if not one.kind.is_ordered:
                raise TypeMismatchError(f"a pivot cannot group by {one.name}, which is {one.kind}", param="select")
        unique = self._identify({one.name for one in (*index, column)})
        return PlannedPivot(column, cell, index, fn, unique)

    def _pivot_cell(self) -> tuple[Column, str | None]:
        """The column that fills the cells of a pivot without groups, and the aggregate of those that repeat."""
        given, aggs = self.request.pivot_values, self.request.aggs
        if len(aggs) > 1 or (aggs and aggs[0].as_ is not None):
            raise GrammarError(
                "a pivot without group_by takes one aggregate, which its columns are not named by", param="agg"
            )
        named = [
            self.find(name, param)
            for name, param in ((given, "pivot_values"), *((one.col, "agg") for one in aggs))
            if name
        ]
        if len(set(named)) > 1:
            raise GrammarError(
                f"pivot_values is {named[0].name}, and the aggregate is of {named[1].name}; name one column",
                param="agg",
            )
        cell = named[0] if named else self._only_measure("pivot")
        for one in aggs:
            check_aggregate(one.fn, cell)
        return cell, aggs[0].fn if aggs else None

    def _pivot_of_groups(self, grouping: Grouping, name: str) -> PlannedPivot:
        column = grouping.find(name, "pivot")
        if column.name not in {key.name for key in grouping.keys}:
            raise GrammarError(
                f"with a group_by, pivot names one of its columns, not {name!r}",
                param="pivot",
                value=name,
                did_you_mean=[key.name for key in grouping.keys],
            )
        values = self.request.pivot_values
        cell = grouping.find(values, "pivot_values") if values else grouping.outputs[len(grouping.keys)].column
        if cell.name == column.name or cell.name in {key.name for key in grouping.keys}:
            raise GrammarError("pivot_values must be one of the aggregates", param="pivot_values", value=values)
        index = tuple(key.computed for key in grouping.keys if key.name != column.name)
        return PlannedPivot(column.computed, cell, index, None, unique=True)

    def _select(self, grouping: Grouping | None, pivot: PlannedPivot | None) -> tuple[Column, ...]:
        request = self.request
        if pivot is not None:
            if grouping is not None and request.select is not None:
                raise GrammarError("select does not go with group_by and pivot together", param="select")
            return pivot.index
        if grouping is not None:
            if request.select is None:
                return tuple(output.column for output in grouping.outputs)
            return tuple(grouping.find(name, "select") for name in dict.fromkeys(request.select))
        if request.select is None:
            return self.schema.physical
        if not request.select:
            raise GrammarError("select names no column", param="select")
        return self.columns(request.select, "select")

    def _sort(
        self, grouping: Grouping | None, pivot: PlannedPivot | None, select: tuple[Column, ...]
    ) -> tuple[PlannedSort | LateSort, ...]:
        keys: list[PlannedSort | LateSort] = []
        for key in self.request.sort:
            if pivot is not None:
                keys.append(self._sort_pivoted(pivot, key))
                continue
            column = grouping.find(key.col, "sort") if grouping else self.find(key.col, "sort")
            if not column.kind.is_ordered:
                raise TypeMismatchError(
                    f"{column.name} is {column.kind}, which has no order to sort by", param="sort", value=key.col
                )
            if self.request.distinct and grouping is None and column not in select:
                raise GrammarError(
                    f"with distinct, sort by a selected column; {column.name} is not selected", param="sort"
                )
            keys.append(PlannedSort(column, key.desc))
        if grouping is not None and pivot is None:
            # Groups have no place in the file: what is left undecided goes by their keys.
            taken = {key.column.name for key in keys if isinstance(key, PlannedSort)}
            rest = [key.computed for key in grouping.keys if key.name not in taken and key.kind.is_ordered]
            keys += [PlannedSort(column, desc=False) for column in rest]
        if pivot is not None:
            taken = {key.column.name for key in keys if isinstance(key, PlannedSort)}
            keys += [PlannedSort(column, desc=False) for column in pivot.index if column.name not in taken]
        return tuple(keys)

    def _sort_pivoted(self, pivot: PlannedPivot, key: SortKey) -> PlannedSort | LateSort:
        found = self.schema.find(key.col)
        name = found.name if found else key.col
        column = next((column for column in pivot.index if column.name == name), None)
        return PlannedSort(column, key.desc) if column is not None else LateSort(key.col, key.desc)

    def _distinct(self, grouping: Grouping | None, pivot: PlannedPivot | None) -> bool:
        """Whether rows may repeat that are to come once: groups and rows of a pivot never do."""
        if self.request.distinct and grouping is not None and self.request.select is not None:
            raise GrammarError(
                "distinct does not go with group_by and select; leave out what is not to tell groups apart",
                param="distinct",
            )
        return self.request.distinct and grouping is None and pivot is None

    def _facets(self) -> tuple[Facet, ...]:
        facets = []
        for column in self.columns(self.request.facets, "facets"):
            if not column.kind.is_ordered:
                raise TypeMismatchError(f"facets needs plain columns; {column.name} is {column.kind}", param="facets")
            facets.append(Facet(column, self.where.without(column)))
        return tuple(facets)

    def _page(self) -> tuple[int | None, int, int | None]:
        """Limit, offset and the ordinal after which to begin."""
        request, limits = self.request, self.limits
        if request.limit is not None and request.limit > limits.max_rows:
            raise LimitExceededError(
                f"limit is {request.limit}; {limits.max_rows} is the most, and cursor reads on from there",
                param="limit",
                value=request.limit,
            )
        if self.position is not None:
            if request.offset:
                raise GrammarError("cursor and offset exclude each other; give one of them", param="offset")
            return request.limit, self.position.offset, self.position.after
        if request.offset > limits.max_offset:
            raise LimitExceededError(
                f"offset is {request.offset}; {limits.max_offset} is the most, and cursor goes further",
                param="offset",
                value=request.offset,
            )
        return request.limit, request.offset, None

    def _outputs(self, grouping: Grouping | None, select: tuple[Column, ...]) -> tuple[OutputColumn, ...]:
        if grouping is not None:
            by_alias = {output.column.name: output.shown for output in grouping.outputs}
            return tuple(by_alias[column.name] for column in select)
        return tuple(self.describe(column) for column in select)

    def describe(self, column: Column, metric: str | None = None) -> OutputColumn:
        """A schema column as an output. In long form unit and direction of the value are those of its one metric."""
        unit, direction = column.unit, column.direction
        schema = self.schema
        if schema.metric_column is not None and column.name == schema.value_column:
            if metric is None:
                pinned = self.where.pinned.get(schema.metric_column)
                metric = pinned[0] if pinned is not None and len(pinned) == 1 else None
            info = schema.metric_info(metric) if metric is not None else None
            if info is not None:
                unit, direction = unit or info.unit, direction or info.direction
        return OutputColumn(column.name, column.sql_type, unit, direction)

    # --- the canonical query

    def _canonical_pick(self, pick: Pick | None) -> dict[str, Any]:
        if pick is None:
            return {}
        keys = [column.name for column in pick.keys]
        if self.request.last_by:
            return {"last_by": keys}
        desc = None if self.request.best_by is None else self.request.best_by.desc
        return {"best_by": {"by": keys, "col": pick.column.name, "desc": desc}}

    def _canonical_pivot(self, pivot: PlannedPivot | None) -> dict[str, Any]:
        if pivot is None:
            return {}
        return {"pivot": pivot.column.name, "pivot_values": pivot.cell.name, "pivot_fn": pivot.fn}


def _members(content: dict[str, Any]) -> dict[str, str]:
    """The members of a JSON object by their names, without those that are not asked for."""
    return {name: f'"{name}":{canonical_json(value)}' for name, value in content.items() if value is not None}


def _canonical_sort(key: PlannedSort | LateSort) -> list[Any]:
    return [key.name if isinstance(key, LateSort) else key.column.name, "desc" if key.desc else "asc"]


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
