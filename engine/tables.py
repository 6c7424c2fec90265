"""Versions as tables in DuckDB's memory: those that are asked often, while they fit a budget. Answers nothing itself.

A table holds the rows of a version in the order of its files, texts of few values as ENUM. A query of it takes a third
of the time that it takes of the parquet files, and gives the same bits. For that it must not be compressed: DuckDB sums
a run of equal numbers, which a compressed column hands out as one, by a product, and 1000 · 0.1 is not what a thousand
additions make.
"""

from __future__ import annotations

import logging
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from engine.background import Background
from engine.connection import Database, quoted
from engine.errors import EngineError
from queries.schema import Schema

_LOGGER = logging.getLogger(__name__)

USES_BEFORE = 3  # a notebook that asks once or twice shall not pay for a copy of everything
HALF_LIFE = 256  # uses of all versions together after which a use counts half
BUILD_TIMEOUT_S = 120.0
MAX_NAMES = 4096  # versions whose uses are counted

_RETRY_FACTOR = 2.0  # how much more a version must be asked that gave way, or whose table could not be made
_WIDTHS = {"BOOLEAN": 1, "TINYINT": 1, "UTINYINT": 1, "SMALLINT": 2, "USMALLINT": 2, "INTEGER": 4, "UINTEGER": 4}
_WIDTHS |= {"FLOAT": 4, "DATE": 4, "HUGEINT": 16, "UHUGEINT": 16, "UUID": 16, "INTERVAL": 16}
_OTHER_WIDTH = 8
_TEXT_WIDTH = 16 + 24  # what DuckDB has of a text, and what that points to, about
_VALIDITY_WIDTH = 1 / 8
_VARIES = re.compile(r"VARCHAR|BLOB|BIT|JSON|\[|STRUCT|MAP|UNION")


class Key(NamedTuple):
    """Which version, of which dataset; ``relation`` tells apart what has the same number, ``ordinal`` completes it."""

    dataset: str
    relation: str
    ordinal: str


@dataclass(frozen=True, slots=True)
class Source:
    """What a table is made of.

    Attributes
    ----------
    key, rows, schema
        Of the version.
    columns
        Names and DuckDB types of the columns in the files.
    has_ordinal
        Whether the ordinal is to be one more column of the table, and not the number that each row has in it: where
        that is another, or a column of the files hides it.
    open
        Gives a relation over all files in their order, and what gives them back; None when they are not all near.
    """

    key: Key
    rows: int
    schema: Schema
    columns: tuple[tuple[str, str], ...]
    has_ordinal: bool
    sorted_by: tuple[str, ...]
    open: Callable[[], tuple[str, Callable[[], None]] | None]


class Loan:
    """A table in use: it stays until ``close``. That may come twice, and from any thread."""

    def __init__(self, relation: str, give_back: Callable[[], None]) -> None:
        self.relation = relation
        self._give_back: Callable[[], None] | None = give_back
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


@dataclass(eq=False)
class _Table:
    key: Key
    space: str  # the schema of DuckDB that holds the table and its types
    relation: str
    size_bytes: int
    users: int = 0
    is_retired: bool = False


@dataclass
class _Interest:
    """How much a version is asked: its uses, recent ones counting more, and how many it takes to make a table."""

    uses: float = 0.0
    wanted_from: float | None = None  # None: as many as for any


class Tables:
    """The tables of one database. May be used from many threads; they are made one at a time, in the background.

    Parameters
    ----------
    most_bytes
        Of memory for all tables together, about; 0 makes none.
    uses_before
        How many queries of a version it takes before it is copied.
    in_background
        False makes a table at once, while the query waits: for tests.
    """

    def __init__(
        self, database: Database, most_bytes: int, *, uses_before: int = USES_BEFORE, in_background: bool = True
    ) -> None:
        self._database = database
        self._most_bytes = most_bytes
        self._uses_before = uses_before
        self._tables: dict[Key, _Table] = {}
        self._interest: OrderedDict[Key, _Interest] = OrderedDict()
        self._weight = 1.0  # of a use now; it grows, so that those before count less
        self._waiting: set[Key] = set()
        self._made = 0
        self._lock = threading.Lock()
        self._background = Background("tables", database.stop_own, is_immediate=not in_background)

    @property
    def size_bytes(self) -> int:
        """What the tables take now, about."""
        with self._lock:
            return self._used_bytes()

    def lend(self, key: Key, describe: Callable[[], Source]) -> Loan | None:
        """The table of a version, when there is one; counts the use, and may begin to make one.

        ``describe`` says what the table would be made of. It is called when it is worth the while.
        """
        if not self._most_bytes:
            return None
        with self._lock:
            self._note_use(key)
            table = self._tables.get(key)
            if table is not None:
                table.users += 1
                return Loan(table.relation, lambda: self._give_back(table))
            if key in self._waiting or self._background.is_closed or not self._is_wanted(key):
                return None
            self._waiting.add(key)
        source = describe()
        if self._background.run(lambda: self._make(source)):
            return self.lend(key, describe)
        return None

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Wait until no table is being made; False when that takes longer."""
        return self._background.wait(timeout_s)

    def close(self) -> None:
        """Make no more. What is there goes with the database."""
        self._background.close()

    # --- what is asked, under the lock

    def _note_use(self, key: Key) -> None:
        self._weight *= 2 ** (1 / HALF_LIFE)
        if self._weight > 1e9:
            for interest in self._interest.values():
                interest.uses /= self._weight
            self._weight = 1.0
        self._interest.setdefault(key, _Interest()).uses += self._weight
        self._interest.move_to_end(key)
        while len(self._interest) > MAX_NAMES:
            self._interest.popitem(last=False)

    def _uses(self, key: Key) -> float:
        interest = self._interest.get(key)
        return 0.0 if interest is None else interest.uses / self._weight

    def _is_wanted(self, key: Key) -> bool:
        needed = self._interest[key].wanted_from
        if needed is None:
            # The version that follows one that is asked often will be, too.
            is_successor = any(table.key.dataset == key.dataset for table in self._tables.values())
            needed = 1.0 if is_successor else self._uses_before
        return self._uses(key) >= needed - 0.5  # uses have aged a little meanwhile

    def _decline(self, key: Key, needed: float) -> None:
        """Think about a table of this version again when it was asked that much."""
        if key in self._interest:
            self._interest[key].wanted_from = needed

    def _used_bytes(self) -> int:
        return sum(table.size_bytes for table in self._tables.values())

    def _victims(self, key: Key, size_bytes: int) -> list[_Table] | None:
        """The tables that must go for a new one; None when they are asked more than that is."""
        free = self._most_bytes - self._used_bytes()
        victims: list[_Table] = []
        worth = 0.0
        # Other versions of the same dataset go first, and for nothing: whoever pins no version has left them.
        for table in sorted(
            self._tables.values(), key=lambda one: (one.key.dataset != key.dataset, self._uses(one.key))
        ):
            if free >= size_bytes:
                break
            worth += self._uses(table.key) if table.key.dataset != key.dataset else 0.0
            victims.append(table)
            free += table.size_bytes
        return victims if free >= size_bytes and (not victims or worth < self._uses(key)) else None

    # --- making one

    def _make(self, source: Source) -> None:
        table = None
        try:
            if not self._background.is_closed:
                table = self._build(source)
        except Exception as error:  # the files still answer; one version that has no table must not end the thread
            if not self._background.is_closed:
                with self._lock:
                    self._decline(source.key, _RETRY_FACTOR * self._uses(source.key) + HALF_LIFE)
                _LOGGER.warning("%s is answered from its files alone: %s", source.key.relation, error)
        with self._lock:
            self._waiting.discard(source.key)
            if table is not None:
                self._tables[source.key] = table

    def _build(self, source: Source) -> _Table | None:
        listed = enumerated(source)
        size_bytes = estimate_bytes(source, listed)
        with self._lock:
            victims = self._victims(source.key, size_bytes)
            if victims is None:
                is_too_large = size_bytes > self._most_bytes
                self._decline(source.key, math.inf if is_too_large else _RETRY_FACTOR * self._uses(source.key))
                return None
        opened = source.open()
        if opened is None:
            with self._lock:
                self._decline(source.key, _RETRY_FACTOR * self._uses(source.key))
            return None
        relation, give_back = opened
        try:
            for victim in victims:
                self._retire(victim)
            return self._copy(source, listed, relation)
        finally:
            give_back()

    def _copy(self, source: Source, listed: Mapping[str, list[str]], relation: str) -> _Table | None:
        self._made += 1
        space = f"table {self._made}"
        before = self._database.table_bytes()
        try:
            self._database.own(statements(source, listed, relation, space), timeout_s=BUILD_TIMEOUT_S)
            size_bytes = max(self._database.table_bytes() - before, 1)
            if size_bytes > self._most_bytes:
                with self._lock:
                    self._decline(source.key, math.inf)
                self._drop(space, None)
                return None
            name = f"{source.key.relation} {space}"
            self._database.define(name, _view(source, space))
            return _Table(source.key, space, name, size_bytes)
        except BaseException:
            self._drop(space, None)
            raise

    def _retire(self, table: _Table) -> None:
        with self._lock:
            self._tables.pop(table.key, None)
            table.is_retired = True
            is_free = table.users == 0
        if is_free:
            self._drop(table.space, table.relation)

    def _give_back(self, table: _Table) -> None:
        with self._lock:
            table.users -= 1
            is_last = table.is_retired and table.users == 0
        if is_last:
            self._drop(table.space, table.relation)

    def _drop(self, space: str, relation: str | None) -> None:
        try:
            if relation is not None:
                self._database.forget(relation)
            self._database.own([f"DROP SCHEMA IF EXISTS {quoted(space)} CASCADE"], timeout_s=BUILD_TIMEOUT_S)
        except EngineError as error:
            if not self._background.is_closed:
                _LOGGER.warning("the memory of a table that nobody needs could not be given back: %s", error)


def enumerated(source: Source) -> dict[str, list[str]]:
    """The texts of the columns that become enumerations, in the order of their bytes, which is DuckDB's for texts."""
    listed = {}
    for name, sql_type in source.columns:
        values = source.schema.index.values(name) if sql_type == "VARCHAR" and source.schema.index else None
        # A text with the byte that ends one in C cannot be written in SQL.
        if values and all(isinstance(value, str) and "\0" not in value for value in values):
            listed[name] = sorted(map(str, values))
    return listed


def estimate_bytes(source: Source, listed: Mapping[str, list[str]]) -> int:
    """How much memory a table will take, about."""
    total = 8.0 if source.has_ordinal else 0.0
    for name, sql_type in source.columns:
        if name in listed:
            total += _code_width(len(listed[name]))
        else:
            total += _TEXT_WIDTH if _VARIES.search(sql_type) else _WIDTHS.get(sql_type, _OTHER_WIDTH)
        total += _VALIDITY_WIDTH
    return int(total * source.rows)


def _code_width(values: int) -> int:
    return 1 if values <= 256 else 2 if values <= 65_536 else 4


def statements(source: Source, listed: Mapping[str, list[str]], relation: str, space: str) -> list[str]:
    """The SQL that makes the table of a version out of a relation over its files."""
    made = [f"CREATE SCHEMA {quoted(space)}"]
    columns = []
    for position, (name, _) in enumerate(source.columns):
        column = quoted(name)
        if name in listed:
            kind = f"{quoted(space)}.{quoted(f'texts {position}')}"
            texts = ", ".join("'" + text.replace("'", "''") + "'" for text in listed[name])
            made.append(f"CREATE TYPE {kind} AS ENUM ({texts})")
            columns.append(f"{column}::{kind} AS {column}")
        else:
            columns.append(column)
    if source.has_ordinal:
        columns.append(quoted(source.key.ordinal))
    made.append(f"CREATE TABLE {_place(space)} AS SELECT {', '.join(columns)} FROM {quoted(relation)}")
    return made


def _view(source: Source, space: str) -> str:
    """What queries read: the columns and the ordinal. DuckDB numbers the rows of a table from 0, in their order."""
    ordinal = quoted(source.key.ordinal)
    names = [quoted(name) for name, _ in source.columns]
    number = ordinal if source.has_ordinal else f"rowid AS {ordinal}"
    return f"SELECT {', '.join([*names, number])} FROM {_place(space)}"


def _place(space: str) -> str:
    return f"{quoted(space)}.rows"
