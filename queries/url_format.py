"""The URL spelling of a request, written: what ``url.py`` reads back as the same question. Encodes no character."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from queries.errors import InvalidValueError, QueryError
from queries.lists import join_list, quote
from queries.request import Aggregate, And, Condition, Operator, Or, QueryRequest, SortKey, Where
from queries.schema import Kind, Schema
from queries.strict_json import MAX_ITEMS, is_unicode
from queries.url import MAX_PARAMETERS, filter_key, output_key, read_aggregates, read_sort_key
from queries.values import format_value, parse_flag, parse_value
from queries.vocabulary import NOT_YET, OPERATORS, RESERVED


def format_query(
    request: QueryRequest, schema: Schema, *, also_reserved: Collection[str] = ()
) -> list[tuple[str, str]] | None:
    """Spell a request as URL parameters, not yet percent-encoded.

    ``dataset`` is left out where it is the schema's, and so is everything that has its default value.

    Returns
    -------
    list of (str, str), or None
        What :func:`parse_query` reads back as the same question. None when a URL cannot say it: an ``or`` of several
        columns, ``not``, a comparison of two columns, an aggregate under another name, null as a value, or more than
        ``MAX_PARAMETERS`` parts.
    """
    try:
        pairs = [
            *_target_pairs(request, schema),
            *_condition_pairs(request.where, schema, also_reserved, having=False),
            *_shape_pairs(request),
            *_condition_pairs(request.having, schema, also_reserved, having=True),
            *_order_pairs(request, schema),
            *_page_pairs(request),
        ]
    except _Unspeakable:
        return None
    readable = len(pairs) <= MAX_PARAMETERS and all(
        key not in also_reserved and is_unicode(key) and is_unicode(text) for key, text in pairs
    )
    return pairs if readable else None


class _Unspeakable(Exception):
    """A part of a request that no URL can say."""


def _target_pairs(request: QueryRequest, schema: Schema) -> Iterable[tuple[str, str]]:
    if request.dataset != schema.dataset:
        yield "dataset", request.dataset
    if request.version is not None:
        yield "version", request.version


def _shape_pairs(request: QueryRequest) -> Iterable[tuple[str, str]]:
    if request.select is not None:
        yield "select", _name_list(request.select)
    if request.last_by:
        yield "last_by", _name_list(request.last_by)
    if request.group_by:
        yield "group_by", _name_list(request.group_by)
    if request.aggs:
        yield "agg", _name_list([_aggregate(one) for one in request.aggs])
    if request.pivot is not None:
        yield "pivot", _spoken(request.pivot)
    if request.pivot_values is not None:
        yield "pivot_values", _spoken(request.pivot_values)
    if request.distinct:
        yield "distinct", "1"
    if request.facets:
        yield "facets", _name_list(request.facets)


def _order_pairs(request: QueryRequest, schema: Schema) -> Iterable[tuple[str, str]]:
    best = request.best_by
    if best is not None:
        by = ",".join(_quoted_colon(name) for name in best.by)
        if not best.by:
            raise _Unspeakable
        if best.col is None and best.desc is None:
            yield "best_by", by
        elif best.col is None or best.desc is None:
            raise _Unspeakable
        else:
            yield "best_by", f"{by}:{_quoted_colon(_sort_item(SortKey(col=best.col, desc=best.desc), schema))}"
    if request.sort:
        yield "sort", _name_list([_sort_item(key, schema) for key in request.sort])


def _page_pairs(request: QueryRequest) -> Iterable[tuple[str, str]]:
    if request.limit is not None:
        yield "limit", str(request.limit)
    if request.offset:
        yield "offset", str(request.offset)
    if request.cursor is not None:
        yield "cursor", _spoken(request.cursor)
    if request.explain:
        yield "explain", "1"
    if not request.strict:
        yield "strict", "0"
    if not request.total:
        yield "total", "0"


def _spoken(name: str) -> str:
    if not name:
        raise _Unspeakable
    return name


def _name_list(names: Sequence[str]) -> str:
    if not 0 < len(names) <= MAX_ITEMS:
        raise _Unspeakable
    return join_list(names)


def _quoted_colon(item: str) -> str:
    """As the comma rule has it, and in quotes also for a colon, which ends the list of ``best_by``."""
    return '"{}"'.format(item.replace('"', '""')) if ":" in item else quote(item)


def _aggregate(one: Aggregate) -> str:
    item = one.fn if one.col is None else f"{one.fn}:{one.col}"
    try:
        if read_aggregates(quote(item), "agg") == (one,):
            return item
    except QueryError:
        pass
    raise _Unspeakable


def _sort_item(key: SortKey, schema: Schema) -> str:
    item = f"-{key.col}" if key.desc else key.col
    if not key.col or read_sort_key(item, schema) != key:
        raise _Unspeakable
    return item


def _condition_pairs(
    where: Where | None, schema: Schema, also_reserved: Collection[str], *, having: bool
) -> Iterable[tuple[str, str]]:
    """One pair for each part of an ``and``. A column that has several is named by as many keys."""
    used: set[str] = set()
    taken = {*RESERVED, *NOT_YET, *also_reserved}
    for part in _parts(where):
        one = _single(part)
        names = [one.col] if having else _names_of(one.col, schema)
        spelled = _spelled(one, None if having else schema)
        for key, text, target in (
            (f"{prefix}{name}{suffix}", text, (name, OPERATORS.get(suffix[2:])))
            for name in names
            for prefix in (("having.",) if having else ("c.", "") if name in taken else ("", "c."))
            for suffix, text in spelled
        ):
            if key not in used and _reads_as(key, schema, taken, having=having) == target:
                used.add(key)
                yield key, text
                break
        else:
            raise _Unspeakable


def _parts(where: Where | None) -> list[Where]:
    if where is None:
        return []
    if isinstance(where, And):
        return [inner for part in where.and_ for inner in _parts(part)]
    return [where]


def _single(part: Where) -> Condition:
    """The one condition that a part amounts to: itself, or the values that an ``or`` allows in one column."""
    if isinstance(part, Or) and len(part.or_) == 1:
        return _single(part.or_[0])
    if isinstance(part, Or) and part.or_:
        ones = [_single(inner) for inner in part.or_]
        if len({one.col for one in ones}) == 1 and all(one.op in (Operator.EQ, Operator.IN) for one in ones):
            return Condition(col=ones[0].col, op=Operator.IN, value=[item for one in ones for item in _values(one)])
    if not isinstance(part, Condition) or part.ref is not None:
        raise _Unspeakable
    return part


def _values(one: Condition) -> tuple[Any, ...]:
    return one.value if isinstance(one.value, tuple) else (one.value,)


def _names_of(name: str, schema: Schema) -> list[str]:
    """The name as written, then the column's other ones."""
    column = schema.find(name)
    if column is None:
        raise _Unspeakable
    return list(dict.fromkeys([name, column.name, *(a for a in column.aliases if schema.find(a) is column)]))


def _reads_as(key: str, schema: Schema, taken: Collection[str], *, having: bool) -> tuple[str, Operator | None] | None:
    if having:
        return output_key(key)
    if key in taken or key.startswith("having."):
        return None
    return filter_key(key, "", schema)


def _spelled(one: Condition, schema: Schema | None) -> list[tuple[str, str]]:
    """The ways to write a condition, best first: a suffix for the key, and the text."""
    if one.op is Operator.ISNULL:
        return [("__isnull", "1" if one.value is None or _spoken_flag(one.value) else "0")]
    if len(_values(one)) > MAX_ITEMS:
        raise _Unspeakable
    texts = [_text(value, one.col, schema) for value in _values(one)]
    if one.op is Operator.IN:
        joined = join_list(texts)
        return [("", joined), ("__in", joined)] if len(texts) > 1 else [("__in", joined)]
    if one.op.takes_list:
        return [(f"__{one.op}", join_list(texts))]
    if isinstance(one.value, tuple):
        raise _Unspeakable
    text = texts[0]
    if one.op is not Operator.EQ:
        return [(f"__{one.op}", text)]
    bare = ("", quote(text))
    return [bare, ("__eq", text), ("__in", quote(text))] if bare[1] == text else [("__eq", text), bare]


def _spoken_flag(value: object) -> bool:
    try:
        return parse_flag(value, param="")
    except InvalidValueError:
        raise _Unspeakable from None


def _text(value: object, name: str, schema: Schema | None) -> str:
    """A value as text, provided that the text means the same: "5" fits a column of text, and the number 5 does not."""
    try:
        column = schema.find(name) if schema else None
        if column is not None and column.kind in (Kind.STRING, Kind.BOOLEAN) and not isinstance(value, str):
            parse_value(column, value, param=name)
        return format_value(value)
    except (QueryError, TypeError, ValueError):
        raise _Unspeakable from None
