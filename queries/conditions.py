"""Conditions as written → predicates with names resolved and values typed, and their canonical form. Makes no SQL."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from queries.errors import GrammarError, InvalidValueError, TypeMismatchError, UnknownValueError, nearest
from queries.plan import Comparison, Every, Negation, Predicate, Slot, Some
from queries.ranges import within_range
from queries.request import And, Condition, Not, Operator, Or, Where
from queries.schema import Column, Kind, Schema, parse_size_label
from queries.values import canonical_value, parse_flag, parse_value
from queries.vocabulary import shown

MOST_NAMED = 8  # values of a dimension that an error lists
LONG_LIST = 64  # from here on a list is one parameter, and not one for each of its items

_ORDERING = frozenset({Operator.LT, Operator.LTE, Operator.GT, Operator.GTE, Operator.BETWEEN})
_TEXT = frozenset({Operator.CONTAINS, Operator.STARTSWITH, Operator.ENDSWITH, Operator.GLOB})
_FLAT = re.compile(r"(?:where|having)(?:\.and\[[0-9]+\])?")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A predicate and the JSON that stands for it in the canonical query. ``predicate`` None holds for every row.

    ``parts`` are the conditions that must all hold, in canonical form: what is read off them does not depend on how a
    request was written.
    """

    predicate: Predicate | None
    canonical: Any
    parts: tuple[_Node, ...] = ()


class ConditionResolver:
    """Resolves the conditions of one request.

    Parameters
    ----------
    find
        Gives the column that a name means, or raises UnknownColumnError.
    bind
        Takes a value and gives its slot.
    strict
        Whether a value that a dimension does not have is an error, and not a warning.
    """

    def __init__(
        self,
        schema: Schema,
        find: Callable[[str, str], Column],
        bind: Callable[[object], Slot],
        warn: Callable[[str], None],
        *,
        strict: bool,
    ) -> None:
        self._schema = schema
        self._find = find
        self._bind = bind
        self._warn = warn
        self._strict = strict

    def resolve(self, where: Where | None, path: str) -> Resolved:
        """The predicate of a tree of conditions; ``path`` says in errors where it stands."""
        if where is None:
            return Resolved(None, None)
        canonical = self._canonical(where, path)
        parts = canonical.parts if canonical.kind == "and" else (canonical,)
        return Resolved(self._predicate(canonical), canonical.json, parts)

    def pinned(self, resolved: Resolved, column: Column) -> tuple[Any, ...] | None:
        """The values that a column may have, in order; None where no condition lists them."""
        found: tuple[Any, ...] | None = None
        for part in resolved.parts:
            if part.column == column and part.ref is None and part.op in (Operator.EQ, Operator.IN):
                values = self._texts(column, part.values) if column.is_size_label else part.values
                found = values if found is None else tuple(value for value in found if value in values)
        return found

    def without(self, resolved: Resolved, column: Column) -> Predicate | None:
        """The predicate without those parts that are about this column alone; None when nothing is left."""
        rest = [part for part in resolved.parts if part.names() != {column.name}]
        return Every(tuple(self._predicate(part) for part in rest)) if rest else None

    # --- first the canonical tree: names and values settled, parts flattened, sorted and without repeats

    def _canonical(self, where: Where, path: str) -> _Node:
        match where:
            case And(and_=parts):
                return _joined("and", [self._canonical(part, f"{path}.and[{i}]") for i, part in enumerate(parts)])
            case Or(or_=parts):
                return _joined("or", [self._canonical(part, f"{path}.or[{i}]") for i, part in enumerate(parts)])
            case Not(not_=part):
                inner = self._canonical(part, f"{path}.not")
                return inner.parts[0] if inner.kind == "not" else _Node("not", (inner,), {"not": inner.json})
            case Condition():
                return self._condition(where, path)

    def _condition(self, condition: Condition, path: str) -> _Node:
        op = condition.op
        column = self._find(condition.col, path)
        # One of several filters, as a URL has them, is known by its column; what stands deeper, by its place.
        own = f"having.{condition.col}" if path.startswith("having") else condition.col
        param = own if _FLAT.fullmatch(path) else path
        self._check_operator(column, op, param)
        if condition.ref is not None:
            return self._comparison(condition, column, self._find(condition.ref, path), param)
        if op is Operator.ISNULL:
            wanted = _boolean(condition.value, param)
            return _leaf(column, op, {"value": wanted}, (wanted,))
        values = self._values(column, op, condition.value, param)
        if op in (Operator.EQ, Operator.IN):
            given = condition.value if isinstance(condition.value, tuple) else (condition.value,)
            self._check_known(column, values, given, param)
        if op in (Operator.IN, Operator.NOTIN):
            values = tuple({_text(canonical_value(value)): value for value in values}.values())
            values = tuple(sorted(values, key=lambda value: _text(canonical_value(value))))
            if len(values) == 1:
                op = Operator.EQ if op is Operator.IN else Operator.NE
        written = [canonical_value(value) for value in values]
        return _leaf(column, op, {"value": written if op.takes_list else written[0]}, values)

    def _comparison(self, condition: Condition, left: Column, right: Column, param: str) -> _Node:
        if condition.value is not None:
            raise GrammarError(f"{param} has both a value and a second column (ref); give one of them", param=param)
        if not condition.op.compares:
            allowed = ", ".join(op for op in Operator if op.compares)
            raise GrammarError(
                f"{condition.op} does not compare two columns; with ref the operator is one of {allowed}", param=param
            )
        if not _comparable(left, right):
            raise TypeMismatchError(
                f"{left.name} is {left.kind} and {right.name} is {right.kind}, which do not compare", param=param
            )
        node = {"col": left.name, "op": condition.op.value, "ref": right.name}
        return _Node("leaf", (), node, left, condition.op, (), right)

    def _check_operator(self, column: Column, op: Operator, param: str) -> None:
        if op is Operator.ISNULL:
            return
        if not column.kind.is_ordered:
            raise TypeMismatchError(
                f"{column.name} is {column.kind} ({column.sql_type}), which can only be tested with isnull",
                param=param,
                value=op.value,
                did_you_mean=[f"{column.name}__isnull"],
            )
        if op in _TEXT and column.kind is not Kind.STRING:
            raise TypeMismatchError(
                f"{op} works on text, and {column.name} is {column.kind}", param=param, value=op.value
            )

    def _values(self, column: Column, op: Operator, given: object, param: str) -> tuple[Any, ...]:
        if op.takes_list:
            items = given if isinstance(given, tuple) else (given,)
            if op is Operator.BETWEEN and len(items) != 2:
                raise GrammarError(
                    f"between takes two values, the lower and the upper, and got {len(items)}",
                    param=param,
                    value=shown(given, quote=False),
                )
        else:
            if isinstance(given, tuple):
                raise GrammarError(
                    f"{op} takes one value and got {len(given)}; use in", param=param, value=shown(given, quote=False)
                )
            items = (given,)
        if any(item is None for item in items):
            raise InvalidValueError(
                "null equals nothing; test for it with isnull", param=param, value="null",
                did_you_mean=[f"{column.name}__isnull"],
            )  # fmt: skip
        if op in _TEXT:
            text = parse_value(_as_text(column), items[0], param=param)
            return (text,)
        values = tuple(parse_value(column, item, param=param) for item in items)
        if op in _ORDERING:
            self._check_ordering(column, values, param)
        return values

    def _check_ordering(self, column: Column, values: tuple[Any, ...], param: str) -> None:
        for value in values:
            if isinstance(value, float) and math.isnan(value):
                raise InvalidValueError("NaN is neither smaller nor greater than anything", param=param, value=value)
            if column.is_size_label and isinstance(value, str):
                raise InvalidValueError(
                    f"{column.name} holds sizes such as 60M or 1.4B, and {value!r} is none", param=param, value=value
                )

    def _check_known(self, column: Column, values: tuple[Any, ...], written: tuple[object, ...], param: str) -> None:
        """Refuse, or warn of, values that a dimension does not have; errors repeat them as they were written."""
        known = self._known(column)
        if known is None:
            return
        for value, text in zip(values, written, strict=True):
            if value in known:
                continue
            values_there = sorted(self._schema.values_of(column) or (), key=_rank)
            suggestions = nearest(str(text), map(str, values_there))
            detail = f"{column.name} has no value {shown(text)}"
            if self._strict:
                raise UnknownValueError(
                    f"{detail}; it has {_listed(values_there)}",
                    param=param,
                    value=shown(text, quote=False),
                    did_you_mean=suggestions,
                )
            self._warn(detail + (f"; did you mean {suggestions[0]!r}?" if suggestions else ""))

    def _known(self, column: Column) -> frozenset[object] | None:
        """What a value may be, in canonical form, where the column is a dimension whose values are all known."""
        if not column.role.is_dimension or column.kind not in (Kind.STRING, Kind.INTEGER):
            return None
        values = self._schema.values_of(column)
        if values is None:
            return None
        return frozenset(_size(value) for value in values) if column.is_size_label else values

    # --- then the predicate, in the same order, so that equal requests have their slots in equal places

    def _predicate(self, node: _Node) -> Predicate:
        match node.kind:
            case "and":
                return Every(tuple(self._predicate(part) for part in node.parts))
            case "or":
                return Some(tuple(self._predicate(part) for part in node.parts))
            case "not":
                return Negation(self._predicate(node.parts[0]))
        column, op = node.column, node.op
        if column is None or op is None:
            raise TypeError("a leaf has a column and an operator")
        if node.ref is not None:
            return Comparison(column, op, ref=node.ref)
        if op is Operator.ISNULL:
            return Comparison(column, op, negated=not node.values[0])
        values: tuple[Any, ...] = node.values
        if column.is_size_label and op not in _ORDERING | _TEXT:
            # Labels are equal when their numbers are.
            values = self._texts(column, values)
            op = Operator.IN if op in (Operator.EQ, Operator.IN) else Operator.NOTIN
        elif op not in _TEXT:
            op, values = within_range(column, op, values)
        if op in (Operator.IN, Operator.NOTIN) and len(values) > LONG_LIST:
            return Comparison(column, op, (self._bind(list(values)),), listed=True)
        return Comparison(column, op, tuple(self._bind(value) for value in values))

    def _texts(self, column: Column, numbers: tuple[Any, ...]) -> tuple[str, ...]:
        """The texts in a column of size labels that stand for one of these numbers."""
        wanted = frozenset(numbers)
        source = self._schema.by_name.get(column.labels_of or column.name, column)
        return tuple(sorted(str(text) for text in self._schema.values_of(source) or () if _size(text) in wanted))


@dataclass(frozen=True, slots=True)
class _Node:
    """A part of the canonical tree; ``kind`` is and, or, not or leaf."""

    kind: str
    parts: tuple[_Node, ...]
    json: Any
    column: Column | None = None
    op: Operator | None = None
    values: tuple[Any, ...] = ()
    ref: Column | None = None

    def names(self) -> set[str]:
        """The columns that it is about."""
        own = {column.name for column in (self.column, self.ref) if column is not None}
        return own.union(*(part.names() for part in self.parts))


def _leaf(column: Column, op: Operator, more: dict[str, Any], values: tuple[Any, ...]) -> _Node:
    return _Node("leaf", (), {"col": column.name, "op": op.value, **more}, column, op, values)


def _joined(kind: str, parts: list[_Node]) -> _Node:
    flat: list[_Node] = []
    for part in parts:
        flat += part.parts if part.kind == kind else (part,)
    unique = {_text(part.json): part for part in flat}
    ordered = tuple(unique[text] for text in sorted(unique))
    if len(ordered) == 1:
        return ordered[0]
    return _Node(kind, ordered, {kind: [part.json for part in ordered]})


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _size(value: object) -> object:
    """A size label as the number it stands for."""
    number = parse_size_label(value) if isinstance(value, str) else None
    return value if number is None else number


def _rank(value: object) -> tuple[bool, float, str]:
    """Numbers and sizes by their number, before texts."""
    number = _size(value)
    is_text = not isinstance(number, (int, float))
    return is_text, 0.0 if is_text else float(str(number)), str(value)


def _listed(values: list[object]) -> str:
    named = ", ".join(shown(value) for value in values[:MOST_NAMED])
    rest = len(values) - MOST_NAMED
    return f"{named} and {rest} more" if rest > 0 else named or "none"


def _as_text(column: Column) -> Column:
    return Column(column.name, "VARCHAR")


def _boolean(value: object, param: str) -> bool:
    """What isnull asks for; true when nothing is said. JSON may write the numbers 1 and 0."""
    if value is None:
        return True
    if isinstance(value, str):
        value = value.strip()
    elif type(value) is int and value in (0, 1):
        return value == 1
    try:
        return parse_flag(value, param=param)
    except InvalidValueError:
        raise InvalidValueError(
            f"isnull takes true or false (1 or 0), not {shown(value)}", param=param, value=shown(value, quote=False)
        ) from None


def _comparable(left: Column, right: Column) -> bool:
    times = (Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ)
    return (
        (left.kind.is_numeric and right.kind.is_numeric)
        or left.kind is right.kind
        or (left.kind in times and right.kind in times)
    )
