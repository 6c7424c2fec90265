"""What a version's data says of its columns: distinct values, keys, what determines what. Found when asked, then kept.

A version never changes, so nothing here is ever thrown away for being old.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from engine.connection import Database, quoted
from queries.schema import Column, Role

MAX_VALUES = 10_000  # a text column with more distinct values is no dimension

_T = TypeVar("_T")


class Profile:
    """The ``ValueIndex`` of one version.

    Parameters
    ----------
    relation
        Name of the version's relation, with all ``columns`` in it.
    declared_key
        The columns that the definition says identify a row; believed once the data agrees.
    """

    def __init__(
        self,
        database: Database,
        relation: str,
        columns: Sequence[Column],
        rows: int,
        declared_key: Sequence[str] = (),
    ) -> None:
        self._database = database
        self._relation = quoted(relation)
        self._columns = {column.name: column for column in columns}
        self._rows = rows
        self._declared_key = tuple(declared_key)
        self._known: dict[Any, Any] = {}
        self._lock = threading.RLock()

    def values(self, column: str) -> frozenset[object] | None:
        """The distinct non-null values of a physical column; None when there are more than MAX_VALUES."""
        return self._once(("values", column), lambda: self._values(column))

    def key(self) -> tuple[str, ...]:
        """See ``ValueIndex.key``."""
        return self._once("key", self._key)

    def determined_by(self, keys: Sequence[str], columns: Sequence[str]) -> frozenset[str]:
        """Those of ``columns`` that hold one value (or only null) for each combination of ``keys``."""
        known = tuple(dict.fromkeys(keys))
        return frozenset(
            column
            for column in columns
            if column not in known
            and self._once(("determined", frozenset(known), column), partial(self._is_determined, known, column))
        )

    def _once(self, key: Any, find: Callable[[], _T]) -> _T:
        with self._lock:
            if key not in self._known:
                self._known[key] = find()
            found: _T = self._known[key]
            return found

    def _values(self, column: str) -> frozenset[object] | None:
        name = quoted(column)
        sql = f"SELECT DISTINCT {name} AS v FROM {self._relation} WHERE {name} IS NOT NULL LIMIT {MAX_VALUES + 1}"
        found = self._database.table(sql)["v"].to_pylist()
        return frozenset(found) if len(found) <= MAX_VALUES else None

    def _is_determined(self, keys: Sequence[str], column: str) -> bool:
        name = quoted(column)
        grouping = f"GROUP BY {', '.join(map(quoted, keys))}" if keys else ""
        several = f"count(DISTINCT {name}) > 1 OR (count({name}) > 0 AND count({name}) < count(*))"
        sql = f"SELECT 1 FROM {self._relation} {grouping} HAVING {several} LIMIT 1"
        rows: int = self._database.table(sql).num_rows
        return rows == 0

    def _is_unique(self, names: Sequence[str]) -> bool:
        if not names:
            return self._rows <= 1
        keys = ", ".join(map(quoted, names))
        sql = f"SELECT count(*) AS n FROM (SELECT 1 FROM {self._relation} GROUP BY {keys})"
        counted: int = self._database.table(sql)["n"][0].as_py()
        return counted == self._rows

    def _key(self) -> tuple[str, ...]:
        declared = self._declared_key
        if declared and all(name in self._columns for name in declared) and self._is_unique(declared):
            return declared
        names = [
            column.name
            for column in self._columns.values()
            if (column.role.is_dimension or column.role is Role.AXIS) and column.kind.is_ordered
        ]
        if not names or not self._is_unique(names):
            return ()
        # What comes last in a file tends to follow from what comes first: compute from tokens, tokens from step.
        for name in reversed(names.copy()):
            rest = [other for other in names if other != name]
            if rest and self._is_unique(rest):
                names = rest
        return tuple(names)
