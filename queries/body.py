"""The JSON spelling of a request: reads the body of ``POST /api/query``. Resolves no column.

Read by hand and not by pydantic, so that every error names its place in the body, no number loses a digit, and no
text passes for a number or a switch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from queries.errors import GrammarError, InvalidValueError, LimitExceededError, UnknownParameterError
from queries.numeric import read_integer
from queries.request import (
    Aggregate,
    And,
    BestBy,
    Condition,
    Not,
    Operator,
    Or,
    QueryRequest,
    SortKey,
    Where,
)
from queries.strict_json import MAX_DEPTH, MAX_ITEMS, load_json
from queries.url import MAX_COUNT
from queries.vocabulary import NOT_YET, check_function, find_operator, nearest_words, shown

MAX_BYTES = 1_000_000
MAX_CONDITIONS = 1_000  # in one tree; an engine plans each, and lists of values are no conditions

_Object = Mapping[str, Any]


def parse_body(
    data: bytes,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_items: int = MAX_ITEMS,
    max_conditions: int = MAX_CONDITIONS,
) -> QueryRequest:
    """Read a body.

    A single value may stand where a list of one is meant. A condition without ``op`` means ``eq``, or ``in`` where its
    value is a list. ``aggs`` and ``sort`` also take the short forms of a URL, ``"max:step"`` and ``"-mean"``. A field
    that is null counts as not given.

    Parameters
    ----------
    max_bytes, max_depth, max_items, max_conditions
        Bounds on the body, on JSON inside JSON, on each list, and on the conditions in ``where`` and in ``having``.

    Returns
    -------
    QueryRequest
        Values keep their JSON types; a number that no float holds exactly is a Decimal.

    Raises
    ------
    GrammarError
        Not JSON, not an object, nested too deep, a field of the wrong type, an unknown operator or function.
    UnknownParameterError
        A field that does not exist.
    InvalidValueError
        ``limit`` or ``offset`` is not a whole number in range; null in a list of values.
    LimitExceededError
        Beyond a bound, except the one on depth.
    """
    if len(data) > max_bytes:
        raise LimitExceededError(f"the body has {len(data)} bytes, and at most {max_bytes} are taken", value=len(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise GrammarError(f"the body is not UTF-8 at byte {error.start}") from None
    body = load_json(text, max_depth=max_depth, max_items=max_items)
    fields = _fields(body, "", _FIELDS)
    if "dataset" not in fields:
        raise GrammarError("a query names its dataset", param="dataset")
    for name in ("where", "having"):
        if (count := _count_conditions(fields.get(name))) > max_conditions:
            raise LimitExceededError(
                f"{name} has {count} conditions, and at most {max_conditions} are taken; in takes a list of values",
                param=name,
                value=count,
            )
    return QueryRequest(**{name: _FIELDS[name](value, name) for name, value in fields.items()})


def _count_conditions(tree: object) -> int:
    count, todo = 0, [tree]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            inner = [part[name] for name in ("and", "or", "not") if name in part]
            count += not inner
            todo.extend(inner)
        elif isinstance(part, list):
            todo.extend(part)
    return count


# --- the parts of a body


def _fields(value: object, path: str, known: Iterable[str]) -> dict[str, Any]:
    """The fields of an object that are given: all known, null left out."""
    if not isinstance(value, dict):
        where = path or "the body"
        raise _wrong(value, path, f"{where} is an object with some of {', '.join(known)}")
    for name in value:
        if name not in known:
            yet = not path and name in NOT_YET
            raise UnknownParameterError(
                f"{name} is not supported yet" if yet else f"there is no field {shown(name)} in {path or 'a query'}",
                param=_under(path, shown(name, quote=False)),
                value=shown(value[name], quote=False),
                did_you_mean=() if yet else nearest_words(name, known),
            )
    return {name: item for name, item in value.items() if item is not None}


def _under(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _wrong(value: object, path: str, expected: str) -> GrammarError:
    given = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else shown(value)
    return GrammarError(f"{expected}, and not {given}", param=path or None, value=given.strip('"'))


def _text(value: object, path: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise _wrong(value, path, f"{path} is a text that is not empty")


def _version(value: object, path: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return f"v{value}"
    return _text(value, path)


def _flag(value: object, path: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong(value, path, f"{path} is true or false")


def _count(value: object, path: str) -> int:
    if isinstance(value, str):
        raise _wrong(value, path, f"{path} is a number")
    try:
        number = read_integer(value)
    except ValueError:
        number = -1
    if not 0 <= number <= MAX_COUNT:
        raise InvalidValueError(
            f"{path} is a whole number from 0 on, and not {shown(value)}", param=path, value=shown(value)
        )
    return number


def _each(value: object, path: str) -> list[tuple[Any, str]]:
    """The items of a list and their paths; what is no list is its one item."""
    if isinstance(value, list):
        return [(item, f"{path}[{index}]") for index, item in enumerate(value)]
    return [(value, path)]


def _names(value: object, path: str) -> tuple[str, ...]:
    if value == []:
        raise GrammarError(f"{path} is an empty list; leave it out, or name something", param=path, value="[]")
    return tuple(_text(item, at) for item, at in _each(value, path))


def _keys(value: object, path: str) -> tuple[str, ...]:
    """Like :func:`_names`, for what an empty list asks nothing of."""
    return () if value == [] else _names(value, path)


def _aggregates(value: object, path: str) -> tuple[Aggregate, ...]:
    return tuple(_aggregate(item, at) for item, at in _each(value, path))


def _aggregate(value: object, path: str) -> Aggregate:
    if isinstance(value, str):
        fn, colon, name = value.partition(":")
        check_function(fn, param=path)
        return Aggregate(fn=fn, col=_text(name, path) if colon else None)
    fields = _fields(value, path, ("fn", "col", "as"))
    if "fn" not in fields:
        raise GrammarError(f"{path} names no function (fn)", param=f"{path}.fn")
    check_function(fields["fn"], param=f"{path}.fn")
    col, renamed = (_text(fields[key], f"{path}.{key}") if key in fields else None for key in ("col", "as"))
    return Aggregate(fn=fields["fn"], col=col, as_=renamed)


def _sort(value: object, path: str) -> tuple[SortKey, ...]:
    return tuple(_sort_key(item, at) for item, at in _each(value, path))


def _sort_key(value: object, path: str) -> SortKey:
    if isinstance(value, str):
        return SortKey(col=_text(value.removeprefix("-"), path), desc=value.startswith("-"))
    fields = _fields(value, path, ("col", "desc"))
    if "col" not in fields:
        raise GrammarError(f"{path} names no column (col)", param=f"{path}.col")
    return SortKey(col=_text(fields["col"], f"{path}.col"), desc=_flag(fields.get("desc", False), f"{path}.desc"))


def _best_by(value: object, path: str) -> BestBy:
    if not isinstance(value, dict):
        return BestBy(by=_names(value, path))
    fields = _fields(value, path, ("by", "col", "desc"))
    if "by" not in fields:
        raise GrammarError(f"{path} names no columns to group by (by)", param=f"{path}.by")
    return BestBy(
        by=_names(fields["by"], f"{path}.by"),
        col=_text(fields["col"], f"{path}.col") if "col" in fields else None,
        desc=_flag(fields["desc"], f"{path}.desc") if "desc" in fields else None,
    )


def _where(value: object, path: str) -> Where:
    """A tree of conditions. Recurses, no deeper than the body was allowed to nest."""
    if not isinstance(value, dict):
        raise _wrong(value, path, f"{path} is a condition, or an object with and, or, or not")
    kind = next((name for name in ("and", "or", "not") if name in value), None)
    if kind is None:
        return _condition(value, path)
    _fields(value, path, (kind,))
    inner = f"{path}.{kind}"
    if kind == "not":
        return Not(not_=_where(value[kind], inner))
    if not isinstance(value[kind], list):
        raise _wrong(value[kind], inner, f"{inner} is a list of conditions")
    parts = tuple(_where(item, at) for item, at in _each(value[kind], inner))
    return And(and_=parts) if kind == "and" else Or(or_=parts)


def _condition(value: _Object, path: str) -> Condition:
    fields = _fields(value, path, ("col", "op", "value", "ref"))
    if "col" not in fields:
        raise GrammarError(f"{path} names no column (col)", param=f"{path}.col")
    given = _value(fields.get("value"), f"{path}.value")
    default = Operator.IN if isinstance(given, tuple) else Operator.EQ
    op = find_operator(fields["op"], param=f"{path}.op") if "op" in fields else default
    ref = _text(fields["ref"], f"{path}.ref") if "ref" in fields else None
    if op in (Operator.IN, Operator.NOTIN) and not isinstance(given, tuple) and given is not None:
        given = (given,)
    if given is None and ref is None and op is not Operator.ISNULL:
        raise GrammarError(
            f"{op} needs a value; for null there is the operator isnull",
            param=f"{path}.value",
            did_you_mean=("isnull",),
        )
    return Condition(col=_text(fields["col"], f"{path}.col"), op=op, value=given, ref=ref)


def _value(value: object, path: str) -> object:
    if not isinstance(value, list):
        return _scalar(value, path)
    for item, at in _each(value, path):
        if item is None:
            raise InvalidValueError(
                "null equals nothing; test for it with isnull", param=at, value="null", did_you_mean=("isnull",)
            )
    return tuple(_scalar(item, at) for item, at in _each(value, path))


def _scalar(value: object, path: str) -> object:
    if isinstance(value, (list, dict)):
        raise _wrong(value, path, f"{path} is a text, a number, true or false")
    return value


_FIELDS: dict[str, Callable[[Any, str], Any]] = {
    "dataset": _text,
    "version": _version,
    "select": _names,
    "where": _where,
    "group_by": _keys,
    "aggs": _aggregates,
    "having": _where,
    "sort": _sort,
    "limit": _count,
    "offset": _count,
    "cursor": _text,
    "pivot": _text,
    "pivot_values": _text,
    "distinct": _flag,
    "last_by": _keys,
    "best_by": _best_by,
    "facets": _keys,
    "explain": _flag,
    "strict": _flag,
    "total": _flag,
}
