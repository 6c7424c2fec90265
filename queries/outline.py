"""What plans of one shape have in common, whatever values they filter by; kept, so that it is resolved but once.

Of the conditions of a request only their shape decides, which columns they hold to one value, and what is known of the
metric. So a request for another recipe finds all but its values ready, and the same ``Shape`` object with its SQL.
"""

from __future__ import annotations

from dataclasses import dataclass

from queries.bounded import BoundedCache
from queries.plan import Facet, OutputColumn, Shape

_TEXT_FACTOR = 8  # what texts take with the names in the key that they are of


@dataclass(frozen=True, slots=True)
class Outline:
    """A plan but for the values of its conditions, and its page.

    ``values`` are bound after those of the conditions. Of the canonical query ``head`` has the members before
    ``limit``, ``tail`` those between ``offset`` and ``where``, and ``base`` all that do not concern paging.
    """

    shape: Shape
    values: tuple[object, ...]
    columns: tuple[OutputColumn, ...] | None
    facets: tuple[Facet, ...]
    head: str
    tail: str
    base: str

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        texts = len(self.head) + len(self.tail) + len(self.base)
        return 1_000 + self.shape.size_bytes + 300 * len(self.columns or ()) + _TEXT_FACTOR * texts

    def canonical(self, where: str | None, limit: int | None, offset: int, after: int | None) -> str:
        """The canonical query: members by name, and nothing that is not asked for."""
        members = [self.head]
        if after is not None:
            members.insert(0, f'"after":{after}')
        if limit is not None:
            members.append(f'"limit":{limit}')
        if offset:
            members.append(f'"offset":{offset}')
        if self.tail:
            members.append(self.tail)
        return _closed(members, where)

    def base_canonical(self, where: str | None) -> str:
        """The canonical query without its page, and without what concerns only how it is answered."""
        return _closed([self.base], where)


def _closed(members: list[str], where: str | None) -> str:
    if where is not None:
        members.append(f'"where":{where}')
    return f"{{{','.join(members)}}}"


#: Of all versions of a process; in bytes, as estimated.
OUTLINES: BoundedCache[Outline] = BoundedCache(8 * 2**20)
_SHAPES: BoundedCache[Shape] = BoundedCache(4 * 2**20)


def one_of_its_kind(shape: Shape) -> Shape:
    """An equal shape that was here before, if any: what is kept by shape is then found without comparing them."""
    known = _SHAPES.get(shape)
    if known is None:
        _SHAPES.put(shape, shape, shape.size_bytes)
    return known or shape
