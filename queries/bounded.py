"""A cache that is bounded by the weight of what it holds. Knows nothing of what that is."""

from __future__ import annotations

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

_Value = TypeVar("_Value")

#: An entry may weigh this share of the whole at the most: one giant is not worth all that it would drive out.
_LARGEST_SHARE = 8


class BoundedCache(Generic[_Value]):
    """Values by key. Beyond ``most`` in weight the oldest go; any thread may read and write.

    ``lru_cache`` counts entries, of which a thousand may be a megabyte or a gigabyte.

    >>> cache: BoundedCache[str] = BoundedCache(80)
    >>> cache.put("a", "first", 10), cache.put("b", "heavy", 11), cache.get("a"), cache.get("b")
    (None, None, 'first', None)
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._weight = 0
        self._entries: dict[Hashable, tuple[_Value, int]] = {}
        self._lock = threading.Lock()

    @property
    def weight(self) -> int:
        """What all entries weigh together."""
        return self._weight

    def get(self, key: Hashable) -> _Value | None:
        entry = self._entries.get(key)  # one step of the interpreter, so that it needs no lock
        return None if entry is None else entry[0]

    def put(self, key: Hashable, value: _Value, weight: int) -> None:
        if weight * _LARGEST_SHARE > self._most:
            return
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = (value, weight)
            self._weight += weight
            while self._weight > self._most:
                self._weight -= self._entries.pop(next(iter(self._entries)))[1]
