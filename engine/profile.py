"""What a version's data says of its columns: distinct values, keys, what determines what. Found when asked, then kept.

A version never changes, so nothing here is ever thrown away for being old.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from engine.connection import Database, quoted
from engine.errors import EngineError
from queries.schema import Column, Kind, Role

_LOGGER = logging.getLogger(__name__)

MAX_VALUES = 10_000  # a text column with more distinct values is no dimension
MAX_RECORDED_COLUMNS = 200
_SAMPLE_ROWS = 131_072
# A table of more groups leaves the memory that a database may have, and spills or fails; sorted numbers spill well.
MAX_GROUPED_ROWS = 500_000
HASH = "hash({keys})"
_MAX_SUSPECTS = 1_000

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
    timeout_s
        For each query on the data; None for the database's own limit.
    """

    def __init__(
        self,
        database: Database,
        relation: Callable[[], AbstractContextManager[str]],
        columns: Sequence[Column],
        rows: int,
        declared_key: Sequence[str] = (),
        recorded: Mapping[str, Any] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> None:
        self._database = database
        self._relation = relation
        self._recorded = recorded or {}
        self._columns = {column.name: column for column in columns}
        self._rows = rows
        self._declared_key = tuple(declared_key)
        self._timeout_s = timeout_s
        self._known: dict[Any, Any] = {}
        self._lock = threading.RLock()

    def values(self, column: str) -> frozenset[object] | None:
        """The distinct non-null values of a physical column; None when there are more than MAX_VALUES."""
        return self._once(("values", column), lambda: self._values(column))

    def key(self) -> tuple[str, ...]:
        """See ``ValueIndex.key``."""
        return self._once("key", self._key)

    def facts(self) -> dict[str, Any]:
        """What a reader would have to scan the version for: values of columns, and the key; as JSON has it.

        What cannot be found, for want of memory say, is left out, and the rest is not.
        """
        named = [column.name for column in self._columns.values() if column.kind in (Kind.STRING, Kind.BOOLEAN)]
        values: dict[str, list[object] | None] = {}
        keys: list[dict[str, list[str]]] = []
        for name in named[:MAX_RECORDED_COLUMNS]:
            with _left_out(f"the values of {name}"):
                found = self.values(name)
                values[name] = None if found is None else sorted(found, key=str)
        with _left_out("the key"):
            keys.append({**self._key_question(), "key": list(self.key())})
        return {"values": values, "keys": keys}

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
            return self._database.table(sql.replace("{relation}", quoted(relation)), timeout_s=self._timeout_s)

    def _values(self, column: str) -> frozenset[object] | None:
        recorded = self._recorded.get("values") or {}
        if column in recorded:
            return None if recorded[column] is None else frozenset(recorded[column])
        name = quoted(column)
        # DISTINCT gathers all before LIMIT ends it: the first rows tell of most columns that have too many.
        for rows in ([f"(FROM {{relation}} LIMIT {_SAMPLE_ROWS})"] if self._rows > _SAMPLE_ROWS else []) + [
            "{relation}"
        ]:
            sql = f"SELECT DISTINCT {name} AS v FROM {rows} WHERE {name} IS NOT NULL LIMIT {MAX_VALUES + 1}"
            found = self._table(sql)["v"].to_pylist()
            if len(found) > MAX_VALUES:
                return None
        return frozenset(found)

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
        if self._rows > MAX_GROUPED_ROWS:
            return not self._has_equal_rows(keys)
        sql = f"SELECT count(*) AS n FROM (SELECT 1 FROM {{relation}} GROUP BY {keys})"
        counted: int = self._table(sql)["n"][0].as_py()
        return counted == self._rows

    def _has_equal_rows(self, keys: str) -> bool:
        """Whether two rows have the same keys: exact, by the rows whose keys have the same hash."""
        hashed = HASH.format(keys=keys)
        suspects: list[np.ndarray] = []
        known, last = 0, np.empty(0, np.uint64)
        with self._relation() as relation:
            sql = f"SELECT {hashed} AS h FROM {quoted(relation)} ORDER BY h"
            with self._database.stream(sql, timeout_s=self._timeout_s) as rows:
                for batch in rows:
                    hashes = np.concatenate([last, batch.column(0).to_numpy()])
                    last = hashes[-1:]
                    equal = hashes[1:][hashes[1:] == hashes[:-1]]
                    suspects.append(equal)
                    known += len(equal)
                    if known >= _MAX_SUSPECTS:  # hashes that collide are one in 10^19 pairs: these are equal rows
                        break
        if not known:
            return False
        # As text: a list of numbers above 2^63 would be read as another type.
        listed = ", ".join(map(str, np.unique(np.concatenate(suspects))[:_MAX_SUSPECTS].tolist()))
        sql = (
            f"SELECT 1 FROM {{relation}} WHERE {hashed} IN (SELECT unnest([{listed}]::UBIGINT[])) "
            f"GROUP BY {keys} HAVING count(*) > 1 LIMIT 1"
        )
        found: int = self._table(sql).num_rows
        return found > 0

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


@contextmanager
def _left_out(what: str) -> Iterator[None]:
    try:
        yield
    except EngineError as error:
        _LOGGER.warning("%s cannot be recorded, so that readers have to find out: %s", what, error)
