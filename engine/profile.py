"""What a version's data says of its columns: distinct values, keys, what determines what. Found when asked, then kept.

A version never changes, so nothing here is ever thrown away for being old.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, TypeVar

import pyarrow as pa

from engine.connection import Database, quoted
from queries.schema import Column, Kind, Role

MAX_VALUES = 10_000  # a text column with more distinct values is no dimension
MAX_RECORDED_COLUMNS = 200

_T = TypeVar("_T")


class Profile:
    """The ``ValueIndex`` of one version.

    Parameters
    ----------
    relation
        Gives the name of a relation over the whole version, with all ``columns`` in it, for as long as it is entered.
    declared_key
        The columns that the definition says identify a row; believed once the data agrees.
    recorded
        What ``facts`` gave when the version was published; asked before the data are.
    """

    def __init__(
        self,
        database: Database,
        relation: Callable[[], AbstractContextManager[str]],
        columns: Sequence[Column],
        rows: int,
        declared_key: Sequence[str] = (),
        recorded: Mapping[str, Any] | None = None,
    ) -> None:
        self._database = database
        self._relation = relation
        self._recorded = recorded or {}
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

    def facts(self) -> dict[str, Any]:
        """What a reader would have to scan the version for: values of columns, and the key; as JSON has it."""
        named = [column.name for column in self._columns.values() if column.kind in (Kind.STRING, Kind.BOOLEAN)]
        values = {name: self.values(name) for name in named[:MAX_RECORDED_COLUMNS]}
        return {
            "values": {name: None if found is None else sorted(found, key=str) for name, found in values.items()},
            "keys": [{**self._key_question(), "key": list(self.key())}],
        }

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

    def _table(self, sql: str) -> pa.Table:
        """The answer to a query of ours on the relation, which stands as {relation} in it."""
        with self._relation() as relation:
            return self._database.table(sql.replace("{relation}", quoted(relation)))

    def _values(self, column: str) -> frozenset[object] | None:
        recorded = self._recorded.get("values") or {}
        if column in recorded:
            return None if recorded[column] is None else frozenset(recorded[column])
        name = quoted(column)
        sql = f"SELECT DISTINCT {name} AS v FROM {{relation}} WHERE {name} IS NOT NULL LIMIT {MAX_VALUES + 1}"
        found = self._table(sql)["v"].to_pylist()
        return frozenset(found) if len(found) <= MAX_VALUES else None

    def _is_determined(self, keys: Sequence[str], column: str) -> bool:
        name = quoted(column)
        grouping = f"GROUP BY {', '.join(map(quoted, keys))}" if keys else ""
        several = f"count(DISTINCT {name}) > 1 OR (count({name}) > 0 AND count({name}) < count(*))"
        sql = f"SELECT 1 FROM {{relation}} {grouping} HAVING {several} LIMIT 1"
        rows: int = self._table(sql).num_rows
        return rows == 0

    def _is_unique(self, names: Sequence[str]) -> bool:
        if not names:
            return self._rows <= 1
        keys = ", ".join(map(quoted, names))
        sql = f"SELECT count(*) AS n FROM (SELECT 1 FROM {{relation}} GROUP BY {keys})"
        counted: int = self._table(sql)["n"][0].as_py()
        return counted == self._rows

    def _key_question(self) -> dict[str, list[str]]:
        """What the key depends on beside the data, which a later release may see otherwise."""
        return {"declared": list(self._declared_key), "candidates": self._candidates()}

    def _candidates(self) -> list[str]:
        return [
            column.name
            for column in self._columns.values()
            if (column.role.is_dimension or column.role is Role.AXIS) and column.kind.is_ordered
        ]

    def _key(self) -> tuple[str, ...]:
        question = self._key_question()
        for known in self._recorded.get("keys") or ():
            if {name: known.get(name) for name in question} == question:
                return tuple(known["key"])
        declared = self._declared_key
        if declared and all(name in self._columns for name in declared) and self._is_unique(declared):
            return declared
        names = self._candidates()
        if not names or not self._is_unique(names):
            return ()
        # What comes last in a file tends to follow from what comes first: compute from tokens, tokens from step.
        for name in reversed(names.copy()):
            rest = [other for other in names if other != name]
            if rest and self._is_unique(rest):
                names = rest
        return tuple(names)
