"""Conditions with their names and values settled: in canonical form, and as what a predicate is built from.

Settling is ``conditions.py``'s; nothing here looks at a schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from queries.plan import Comparison, Every, Negation, Predicate, Some
from queries.request import Operator
from queries.schema import Column
from queries.values import canonical_json


class Node(NamedTuple):
    """A part of the canonical tree, and its JSON; ``kind`` is and, or, not or leaf.

    ``means`` are the operator and the values that say in SQL what ``op`` and ``values`` say of the column.
    """

    kind: str
    parts: tuple[Node, ...]
    text: str
    column: Column | None = None
    op: Operator | None = None
    values: tuple[Any, ...] = ()
    ref: Column | None = None
    means: tuple[Operator, tuple[Any, ...]] | None = None

    def names(self) -> set[str]:
        """The columns that it is about."""
        own = {column.name for column in (self.column, self.ref) if column is not None}
        return own.union(*(part.names() for part in self.parts))


def leaf(
    column: Column, op: Operator, value: str, values: tuple[Any, ...], means: tuple[Operator, tuple[Any, ...]]
) -> Node:
    """A condition; ``value`` is the JSON of its values."""
    text = f'{{"col":{canonical_json(column.name)},"op":"{op}","value":{value}}}'
    return Node("leaf", (), text, column, op, values, means=means)


def joined(kind: str, parts: Sequence[Node]) -> Node:
    """All parts, or any of them: those of its own kind with their parts, each once, and in an order of their own."""
    flat: list[Node] = []
    for part in parts:
        flat += part.parts if part.kind == kind else (part,)
    unique = {part.text: part for part in flat}
    texts = sorted(unique)
    if len(texts) == 1:
        return unique[texts[0]]
    return Node(kind, tuple([unique[text] for text in texts]), f'{{"{kind}":[{",".join(texts)}]}}')


#: A predicate not yet built: ("and" or "or", trees), ("not", tree), or the arguments of a ``Comparison``. Only a shape
#: that is new has it built; a known one is found by it.
Tree = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Resolved:
    """Conditions with their names and values settled. ``tree`` None holds for every row.

    ``canonical`` is the JSON that stands for them in the canonical query. ``parts`` are the conditions that must all
    hold, in canonical form: what is read off them does not depend on how a request was written. ``pinned`` has the
    values that a column may have, in order, for those whose values a condition lists.
    """

    tree: Tree | None = None
    canonical: str | None = None
    parts: tuple[Node, ...] = ()
    pinned: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def predicate(self) -> Predicate | None:
        return None if self.tree is None else _built(self.tree)

    def without(self, column: Column) -> Predicate | None:
        """The predicate without those parts that are about this column alone; None when nothing is left."""
        if self.tree is None:
            return None
        trees = self.tree[1] if self.tree[0] == "and" else (self.tree,)
        rest = [tree for part, tree in zip(self.parts, trees, strict=True) if part.names() != {column.name}]
        return _built(("and", tuple(rest))) if rest else None


def _built(tree: Tree) -> Predicate:
    match tree:
        case ("and", parts):
            return Every(tuple(map(_built, parts)))
        case ("or", parts):
            return Some(tuple(map(_built, parts)))
        case ("not", part):
            return Negation(_built(part))
        case _:
            return Comparison(*tree)
