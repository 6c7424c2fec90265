"""Conditions as written → predicates with names resolved and values typed, and their canonical form. Makes no SQL."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Container, Hashable, Sequence
from typing import Any

from queries.bounded import BoundedCache
from queries.errors import GrammarError, InvalidValueError, TypeMismatchError, UnknownValueError, nearest
from queries.plan import Slot
from queries.ranges import within_range
from queries.request import And, Condition, Not, Operator, Or, Where
from queries.resolved import Node, Resolved, Tree, joined, leaf
from queries.schema import Column, Kind, Schema, size_of
from queries.values import canonical_json, canonical_value, parse_flag, parse_value
from queries.vocabulary import shown

MOST_NAMED = 8  # values of a dimension that an error lists
LONG_LIST = 64  # from here on a list is one parameter, and not one for each of its items

_ORDERING = frozenset({Operator.LT, Operator.LTE, Operator.GT, Operator.GTE, Operator.BETWEEN})
_TEXT = frozenset({Operator.CONTAINS, Operator.STARTSWITH, Operator.ENDSWITH, Operator.GLOB})
_FLAT = re.compile(r"(?:where|having)(?:\.and\[[0-9]+\])?")


#: Conditions on values that a dimension has, by how they are written: distinct questions ask for the same few hundred.
NODES: BoundedCache[Node] = BoundedCache(4 * 2**20)  # bytes, about
_NODE_BYTES = 1_000  # of one, with its key


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
    keeps
        Whether ``find`` knows just the columns of the schema, so that what it resolves may serve other requests too.
    """

    def __init__(
        self,
        schema: Schema,
        find: Callable[[str, str], Column],
        bind: Callable[[object], Slot],
        warn: Callable[[str], None],
        *,
        strict: bool,
        keeps: bool = False,
    ) -> None:
        self._schema = schema
        self._find = find
        self._bind = bind
        self._warn = warn
        self._strict = strict
        self._keeps = keeps

    def resolve(self, where: Where | None, path: str) -> Resolved:
        """The predicate of a tree of conditions; ``path`` says in errors where it stands."""
        if where is None:
            return Resolved()
        canonical = self._canonical(where, path)
        parts = canonical.parts if canonical.kind == "and" else (canonical,)
        return Resolved(self._tree(canonical), canonical.text, parts, _pinned(parts))

    # --- first the canonical tree: names and values settled, parts flattened, sorted and without repeats

    def _canonical(self, where: Where, path: str) -> Node:
        match where:
            case Condition():
                return self._condition(where, path)
            case And(and_=parts):
                return joined("and", [self._canonical(part, f"{path}.and[{i}]") for i, part in enumerate(parts)])
            case Or(or_=parts):
                return joined("or", [self._canonical(part, f"{path}.or[{i}]") for i, part in enumerate(parts)])
            case Not(not_=part):
                inner = self._canonical(part, f"{path}.not")
                return inner.parts[0] if inner.kind == "not" else Node("not", (inner,), f'{{"not":{inner.text}}}')

    def _condition(self, condition: Condition, path: str) -> Node:
        column = self._find(condition.col, path)
        key = self._key(condition, column)
        node = None if key is None else NODES.get(key)
        if node is not None:
            return node
        # One of several filters, as a URL has them, is known by its column; what stands deeper, by its place.
        own = f"having.{condition.col}" if path.startswith("having") else condition.col
        param = own if _FLAT.fullmatch(path) else path
        self._check_operator(column, condition.op, param)
        if condition.ref is not None:
            return self._comparison(condition, column, self._find(condition.ref, path), param)
        if condition.op is Operator.ISNULL:
            wanted = (_boolean(condition.value, param),)
            return leaf(column, condition.op, canonical_json(wanted[0]), wanted, (condition.op, wanted))
        values = self._values(column, condition.op, condition.value, param)
        is_known = condition.op in (Operator.EQ, Operator.IN) and self._check_known(column, values, condition, param)
        node = self._comparing(column, condition.op, values)
        if key is not None and is_known:
            NODES.put(key, node, _NODE_BYTES + 4 * len(node.text))
        return node

    def _key(self, condition: Condition, column: Column) -> Hashable | None:
        """What a condition on a known value is found by, the next time that it is given; None for any other.

        Texts only: of other values some are equal that are written in different ways.
        """
        value = condition.value
        items = value if type(value) is tuple else (value,)
        if not self._keeps or len(items) > LONG_LIST or [item for item in items if type(item) is not str]:
            return None
        return self._schema.identity, column.name, condition.op, value, condition.ref

    def _comparing(self, column: Column, op: Operator, values: tuple[Any, ...]) -> Node:
        if op is Operator.IN or op is Operator.NOTIN:
            by_text = {canonical_json(canonical_value(value)): value for value in values}
            texts = sorted(by_text)
            values = tuple(by_text[text] for text in texts)
            if len(values) == 1:
                op = Operator.EQ if op is Operator.IN else Operator.NE
        else:
            texts = [canonical_json(canonical_value(value)) for value in values]
        written = f"[{','.join(texts)}]" if op.takes_list else texts[0]
        return leaf(column, op, written, values, self._meaning(column, op, values))

    def _meaning(self, column: Column, op: Operator, values: tuple[Any, ...]) -> tuple[Operator, tuple[Any, ...]]:
        """The operator and the values that a column is compared with."""
        if column.is_size_label and op not in _ORDERING and op not in _TEXT:
            # Labels are equal when their numbers are.
            same = op is Operator.EQ or op is Operator.IN
            return Operator.IN if same else Operator.NOTIN, self._texts(column, values)
        return (op, values) if op in _TEXT else within_range(column, op, values)

    def _texts(self, column: Column, numbers: tuple[Any, ...]) -> tuple[str, ...]:
        """The texts in a column of size labels that stand for one of these numbers."""
        spelled = self._schema.sizes_of(column.labels_of or column.name).spelled
        return tuple(sorted([text for number in frozenset(numbers) for text in spelled.get(number, ())]))

    def _comparison(self, condition: Condition, left: Column, right: Column, param: str) -> Node:
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
        text = canonical_json({"col": left.name, "op": condition.op.value, "ref": right.name})
        return Node("leaf", (), text, left, condition.op, (), right)

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
        if [item for item in items if item is None]:
            raise InvalidValueError(
                "null equals nothing; test for it with isnull", param=param, value="null",
                did_you_mean=[f"{column.name}__isnull"],
            )  # fmt: skip
        if op in _TEXT:
            text = parse_value(_as_text(column), items[0], param=param)
            return (text,)
        values = tuple([parse_value(column, item, param=param) for item in items])
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

    def _check_known(self, column: Column, values: tuple[Any, ...], condition: Condition, param: str) -> bool:
        """Refuse, or warn of, values that a dimension does not have; errors repeat them as they were written.

        Gives whether all are known, and known to be.
        """
        known = self._known(column)
        if known is None:
            return False
        strange = [place for place, value in enumerate(values) if value not in known]
        written = condition.value if isinstance(condition.value, tuple) else (condition.value,)
        for text in [written[place] for place in strange]:
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
        return not strange

    def _known(self, column: Column) -> Container[object] | None:
        """What a value may be, in canonical form, where the column is a dimension whose values are all known."""
        if not column.role.is_dimension or column.kind not in (Kind.STRING, Kind.INTEGER):
            return None
        values = self._schema.values_of(column)
        if values is None:
            return None
        return self._schema.sizes_of(column.name).spelled if column.is_size_label else values

    # --- then the predicate, in the same order, so that equal requests have their slots in equal places

    def _tree(self, node: Node) -> Tree:
        if node.kind == "not":
            return "not", self._tree(node.parts[0])
        if node.kind != "leaf":
            return node.kind, tuple([self._tree(part) for part in node.parts])
        if node.means is None:
            return node.column, node.op, (), node.ref
        op, values = node.means
        if op is Operator.ISNULL:
            return node.column, op, (), None, not values[0]
        if len(values) > LONG_LIST and op in (Operator.IN, Operator.NOTIN):
            return node.column, op, (self._bind(list(values)),), None, False, True
        return node.column, op, tuple([self._bind(value) for value in values])


def _pinned(parts: Sequence[Node]) -> dict[str, tuple[Any, ...]]:
    """The values that columns may have, by those parts that list them; of size labels the texts."""
    pinned: dict[str, tuple[Any, ...]] = {}
    for part in parts:
        column, op, means = part.column, part.op, part.means
        if column is None or means is None or (op is not Operator.EQ and op is not Operator.IN):
            continue
        values = means[1] if column.is_size_label else part.values
        before = pinned.get(column.name)
        pinned[column.name] = values if before is None else tuple([one for one in before if one in values])
    return pinned


def _rank(value: object) -> tuple[bool, float, str]:
    """Numbers and sizes by their number, before texts."""
    number = size_of(value)
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
