"""The URL spelling of a request, read; ``url_format.py`` writes it. Types no value, decodes no ``%2B``, plans nothing.

What is a parameter and what is a filter depends on the columns, so this reads a query with the schema at hand.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from queries.errors import (
    GrammarError,
    InvalidValueError,
    LimitExceededError,
    QueryError,
    UnknownColumnError,
    UnknownParameterError,
    nearest,
)
from queries.lists import BLANKS, is_json, split_items, split_list, unquote
from queries.request import Aggregate, And, BestBy, Condition, Operator, QueryRequest, SortKey, Where
from queries.schema import Schema
from queries.strict_json import MAX_ITEMS, is_unicode
from queries.values import parse_flag
from queries.vocabulary import NOT_YET, OPERATORS, RESERVED, check_function, nearest_words, shown

MAX_PARAMETERS = 200
MAX_COUNT = 2**63 - 1  # limit and offset are BIGINT

Pairs = Sequence[tuple[str, str]]

_COUNT = re.compile(r"[0-9]{1,19}")
_LISTED = frozenset({Operator.IN, Operator.NOTIN, Operator.BETWEEN})


def read_target(pairs: Pairs) -> tuple[str | None, str | None]:
    """The ``dataset`` and ``version`` that a query names, for who has to find the schema first.

    Raises
    ------
    GrammarError
        One of them is given twice, or empty.
    """
    found: dict[str, str] = {}
    for key, text in pairs:
        if key in ("dataset", "version"):
            _once(key, found)
            found[key] = _name(text, key)
    return found.get("dataset"), found.get("version")


def parse_query(
    pairs: Pairs, schema: Schema, *, also_reserved: Collection[str] = ()
) -> tuple[QueryRequest, dict[str, str]]:
    """Read a query.

    Parameters
    ----------
    pairs
        Keys and values in their order, percent-decoded.
    schema
        Says which keys are filters.
    also_reserved
        The route's own parameters. Such a name is the route's even where the language has a use for it.

    Returns
    -------
    QueryRequest
        Names and values as written: filter values are text, or what a JSON array holds. One filter is a condition,
        several are an ``and`` in the order of their keys.
    dict
        The texts of those of the route's parameters, and of ``format``, that are given.

    Raises
    ------
    GrammarError
        An unbalanced list, a key repeated that may not be, an unknown function, an empty name.
    UnknownParameterError, UnknownColumnError
        A key that is neither parameter nor filter.
    InvalidValueError
        ``limit``, ``offset`` or a switch that does not parse.
    LimitExceededError
        Over ``MAX_PARAMETERS`` keys, or ``MAX_ITEMS`` values in one list.
    """
    if len(pairs) > MAX_PARAMETERS:
        raise LimitExceededError(
            f"{len(pairs)} parameters are given, and {MAX_PARAMETERS} is the most; a JSON body has room for more",
            value=len(pairs),
        )
    given: dict[str, str] = {}
    filters: dict[str, _Filter] = {}
    having: dict[str, _Filter] = {}
    for key, text in pairs:
        _check_unicode(key, text)
        if key in also_reserved or key in RESERVED:
            _once(key, given)
            given[key] = text
        elif key in NOT_YET:
            raise UnknownParameterError(f"{key} is not supported yet", param=key, value=shown(text, quote=False))
        elif key.startswith("having."):
            _collect(having, key, output_key(key), text)
        else:
            _collect(filters, key, filter_key(key, text, schema, also_reserved), text)
    own: dict[str, str] = {}
    fields: dict[str, Any] = {"dataset": schema.dataset}
    for key, text in given.items():
        if key in also_reserved or key == "format":
            own[key] = text
        else:
            name, read = _PARAMETERS[key]
            fields[name] = read(text, key, schema)
    return QueryRequest(**fields, where=_joined(filters), having=_joined(having)), own


@dataclass(slots=True)
class _Filter:
    """All that the values of one key add up to. ``op`` None is the bare key."""

    col: str
    op: Operator | None
    values: list[Any] = field(default_factory=list)

    @property
    def condition(self) -> Condition:
        if self.op is None:
            several = len(self.values) != 1
            op, value = (Operator.IN, tuple(self.values)) if several else (Operator.EQ, self.values[0])
            return Condition(col=self.col, op=op, value=value)
        return Condition(col=self.col, op=self.op, value=tuple(self.values) if self.op in _LISTED else self.values[0])


def _collect(filters: dict[str, _Filter], key: str, target: tuple[str, Operator | None], text: str) -> None:
    col, op = target
    if op is not None and op is not Operator.IN:
        _once(key, filters)
    one = filters.get(key)
    if one is None:
        one = filters[key] = _Filter(col, op)
    if op is None or op in _LISTED:
        one.values.extend(split_list(text, key))
    elif op is Operator.ISNULL:
        one.values.append(text == "" or parse_flag(text, param=key))
    else:
        one.values.append(text)
    if len(one.values) > MAX_ITEMS:
        raise LimitExceededError(
            f"{key} lists {len(one.values)} values, and {MAX_ITEMS} is the most",
            param=key,
            value=len(one.values),
        )


def _joined(filters: dict[str, _Filter]) -> Where | None:
    conditions = tuple([one.condition for one in filters.values()])
    return And(and_=conditions) if len(conditions) > 1 else next(iter(conditions), None)


def _once(key: str, found: Collection[str]) -> None:
    if key in found:
        raise GrammarError(
            f"{key} is given twice; only a bare column and __in may be repeated, and then mean any of the values",
            param=key,
        )


def _check_unicode(key: str, text: str) -> None:
    if not is_unicode(key) or not is_unicode(text):
        raise GrammarError(
            f"{shown(key)} is not valid UTF-8", param=shown(key, quote=False), value=shown(text, quote=False)
        )


def _suffixed(key: str) -> tuple[str, Operator] | None:
    name, _, op = key.rpartition("__")
    return (name, OPERATORS[op]) if name and op in OPERATORS else None


def output_key(key: str) -> tuple[str, Operator | None]:
    """Name and operator of ``having.<name>__<op>``. The names are the answer's, so the suffix always counts."""
    name = key.removeprefix("having.")
    if not name:
        raise GrammarError(f"{key} names no column of the answer, as having.mean__gt does", param=key)
    return _suffixed(name) or (name, None)


def _column_key(name: str, schema: Schema) -> tuple[str, Operator | None] | None:
    """Column or alias, and operator, of a filter's key. A whole name goes before one with a suffix."""
    if schema.find(name):
        return name, None
    found = _suffixed(name)
    return found if found and schema.find(found[0]) else None


def filter_key(key: str, text: str, schema: Schema, also_reserved: Collection[str] = ()) -> tuple[str, Operator | None]:
    found = key.startswith("c.") and _column_key(key[2:], schema)
    if not found:
        found = _column_key(key, schema)
    if not found:
        raise _unknown(key, text, schema, also_reserved)
    return found


def _unknown(key: str, text: str, schema: Schema, also_reserved: Collection[str]) -> QueryError:
    """What is wrong with a key, as exactly as can be said."""
    prefix, name = ("c.", key[2:]) if key.startswith("c.") else ("", key)
    columns = [*schema.by_name, *schema.by_alias]
    words = [*also_reserved, *RESERVED]
    head, _, tail = name.rpartition("__")
    value = shown(text, quote=False)
    if head and schema.find(head):
        operators = [f"{prefix}{head}__{op}" for op in nearest_words(tail, OPERATORS)]
        return UnknownParameterError(
            f"{shown(tail)} is no operator for {head}; the operators are {', '.join(OPERATORS)}",
            param=shown(key, quote=False),
            value=value,
            did_you_mean=[*operators, *nearest(name, columns)][:3],
        )
    if head and tail in OPERATORS:
        near = [f"c.{column}" if column in words else column for column in nearest(head, columns)]
        return UnknownColumnError(
            f"{schema.dataset} has no column {shown(head)}",
            param=shown(key, quote=False),
            value=value,
            did_you_mean=[f"{column}__{tail}" for column in near],
        )
    if prefix:
        return UnknownColumnError(
            f"{schema.dataset} has no column {shown(name)}",
            param=shown(key, quote=False),
            value=value,
            did_you_mean=[f"c.{column}" for column in nearest(name, columns)],
        )
    return UnknownParameterError(
        f"{shown(key)} is neither a parameter nor a column of {schema.dataset}",
        param=shown(key, quote=False),
        value=value,
        did_you_mean=nearest_words(key, [*columns, *words]),
    )


def _name(text: str, param: str, schema: Schema | None = None) -> str:
    if not text:
        raise GrammarError(f"{param} is empty; leave it out, or name something", param=param, value="")
    return text


def _names(text: str, param: str, schema: Schema | None = None) -> tuple[str, ...]:
    names = split_list(_name(text.strip(BLANKS), param), param)
    if not names:
        raise GrammarError(f"{param} is an empty list; leave it out, or name something", param=param, value=text)
    if len(names) > MAX_ITEMS:
        raise LimitExceededError(
            f"{param} lists {len(names)} names, and {MAX_ITEMS} is the most", param=param, value=len(names)
        )
    for name in names:
        if not isinstance(name, str):
            raise GrammarError(f"{param} takes names, and {shown(name)} is none", param=param, value=shown(name))
    return tuple(map(str, names))


def _items(text: str, param: str) -> list[tuple[str, bool]]:
    """The items of a list of names with marks on them, and whether a part of an item may still be in quotes."""
    names = _names(text, param)
    if is_json(text):
        return [(name, False) for name in names]
    return [(name, name == item) for name, item in zip(names, split_items(text, param), strict=True)]


def read_aggregates(text: str, param: str, schema: Schema | None = None) -> tuple[Aggregate, ...]:
    return (_known_aggregates if len(text) <= _LONGEST_KNOWN else _aggregates)(text, param)


def _aggregates(text: str, param: str) -> tuple[Aggregate, ...]:
    found = []
    for item, quotable in _items(text, param):
        fn, colon, col = item.partition(":")
        check_function(fn, param=param)
        if colon:
            col = _name(unquote(col) if quotable else col, param)
        found.append(Aggregate(fn=fn, col=col if colon else None))
    return tuple(found)


_LONGEST_KNOWN = 256  # characters: beyond it a text is seldom given twice
_known_aggregates = lru_cache(maxsize=256)(_aggregates)  # seven of them take as long to read as all else of a request


def read_sort_key(item: str, schema: Schema, *, quotable: bool = False) -> SortKey:
    """``-mean`` is descending, unless that is what a column is called."""
    if not item.startswith("-") or schema.find(item):
        return SortKey(col=item)
    return SortKey(col=_name(unquote(item[1:]) if quotable else item[1:], item), desc=True)


def _sort(text: str, param: str, schema: Schema) -> tuple[SortKey, ...]:
    return tuple(read_sort_key(item, schema, quotable=quotable) for item, quotable in _items(text, param))


def _best_by(text: str, param: str, schema: Schema) -> BestBy:
    """``a,b`` or ``a,b:column`` (smallest is best) or ``a,b:-column`` (largest is best)."""
    end = _last_colon(text)
    by = _names(text if end is None else text[:end], param)
    if end is None:
        return BestBy(by=by)
    column = text[end + 1 :].strip(BLANKS)
    key = read_sort_key(_name(unquote(column), param), schema, quotable=unquote(column) == column)
    return BestBy(by=by, col=key.col, desc=key.desc)


def _last_colon(text: str) -> int | None:
    """Where the list of ``best_by`` ends: the last colon outside quotes."""
    start, quoted, found = 0, False, None
    if is_json(text):
        try:
            start = json.JSONDecoder().raw_decode(text, len(text) - len(text.lstrip(BLANKS)))[1]
        except (ValueError, RecursionError):
            return None  # the list itself will say what is wrong with it
    for index in range(start, len(text)):
        if text[index] == '"':
            quoted = not quoted
        elif text[index] == ":" and not quoted:
            found = index
    return found


def _count(text: str, param: str, schema: Schema | None = None) -> int:
    if _COUNT.fullmatch(text) and int(text) <= MAX_COUNT:
        return int(text)
    raise InvalidValueError(
        f"{param} takes a whole number from 0 on, and not {shown(text)}", param=param, value=shown(text, quote=False)
    )


def _flag(text: str, param: str, schema: Schema | None = None) -> bool:
    return parse_flag(text, param=param)


#: Parameter → the request's field, and how its text is read.
_PARAMETERS: dict[str, tuple[str, Callable[[str, str, Schema], Any]]] = {
    "dataset": ("dataset", _name),
    "version": ("version", _name),
    "select": ("select", _names),
    "group_by": ("group_by", _names),
    "agg": ("aggs", read_aggregates),
    "sort": ("sort", _sort),
    "limit": ("limit", _count),
    "offset": ("offset", _count),
    "cursor": ("cursor", _name),
    "pivot": ("pivot", _name),
    "pivot_values": ("pivot_values", _name),
    "distinct": ("distinct", _flag),
    "last_by": ("last_by", _names),
    "best_by": ("best_by", _best_by),
    "facets": ("facets", _names),
    "explain": ("explain", _flag),
    "strict": ("strict", _flag),
    "total": ("total", _flag),
}
