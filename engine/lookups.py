"""Answers of a few rows straight from the columns of a version, without SQL, where it is often asked for such.

What can be answered so: rows as they are, in the order of what was published, whose filters are equalities with texts
and comparisons of integers, all of which must hold. Everything else is DuckDB's, and gives the same bits.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine.background import Background
from engine.column_file import ColumnFile, Rows, can_hold, write_columns
from engine.connection import Database, quoted
from engine.tables import BUILD_TIMEOUT_S, USES_BEFORE, Key, Source, enumerated
from queries.plan import Comparison, Every, Plan, Shape
from queries.request import Operator
from queries.schema import Kind

_LOGGER = logging.getLogger(__name__)

MAX_ROWS = 8_192  # of an answer; DuckDB is as fast for more
MAX_SPAN = 16_384  # rows that are read at a time to find those
MAX_PIECES = 8
MAX_COLUMNS = 64
MAX_RECIPES = 256
MAX_NAMES = 4_096  # versions whose uses are counted
FREE_SHARE = 2  # of the disk so many times what is written must be free

_TYPES = frozenset(
    "TINYINT SMALLINT INTEGER BIGINT UTINYINT USMALLINT UINTEGER UBIGINT FLOAT DOUBLE DATE TIMESTAMP".split()
)
_NUMBERS: dict[Operator, Callable[[Any, Any], Any]] = {
    Operator.EQ: np.equal,
    Operator.LT: np.less,
    Operator.LTE: np.less_equal,
    Operator.GT: np.greater,
    Operator.GTE: np.greater_equal,
}


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How plans of one shape are answered. ``texts`` are filters on enumerations, ``numbers`` those on integers."""

    texts: tuple[Comparison, ...]
    numbers: tuple[Comparison, ...]
    select: tuple[str, ...]
    ordinal: str | None


class Lookup:
    """The columns of one version, and what is known of the shapes of plans that asked them."""

    def __init__(self, file: ColumnFile) -> None:
        self.file = file
        self._recipes: dict[Shape, _Recipe | None] = {}

    def answer(self, plan: Plan) -> pa.RecordBatch | None:
        """All rows of the plan's answer; None where it is not one for a lookup.

        Raises
        ------
        OSError
            The disk failed.
        """
        recipe = self._recipe(plan.shape)
        if recipe is None:
            return None
        codes: dict[str, tuple[int, ...]] = {}
        for node in recipe.texts:
            found = self._codes(node, plan.values)
            if found is None:
                return None
            name = node.column.name
            codes[name] = found if name not in codes else tuple(code for code in codes[name] if code in found)
        keys = {name: found for name, found in codes.items() if name in self.file.keys}
        if not all(keys.values()) or not all(codes.values()):
            return self._batch(recipe, _Piece(self.file, np.empty(0, np.int64), np.empty(0, np.int64)), None)
        starts, ends = self.file.ranges(keys)
        piece = _Piece(self.file, starts, ends)
        if not piece.is_small:
            return None
        mask = self._mask(recipe, plan, piece, {name: found for name, found in codes.items() if name not in keys})
        if mask is False:
            return None
        return self._batch(recipe, piece, mask)

    def _mask(self, recipe: _Recipe, plan: Plan, piece: _Piece, codes: dict[str, tuple[int, ...]]) -> Any:
        """Which rows pass the filters that runs know nothing of; None for all, False where it cannot be said."""
        mask: Any = None
        for name, wanted in codes.items():
            raw, _ = piece.column(name)
            fits = np.isin(raw, np.asarray(wanted, raw.dtype))
            mask = fits if mask is None else mask & fits
        for node in recipe.numbers:
            values = [plan.values[slot] for slot in node.slots]
            if node.listed:
                values = list(values[0]) if isinstance(values[0], (list, tuple)) else [None]
            if not all(type(value) is int for value in values):
                return False
            raw, valid = piece.column(node.column.name)
            numbers = raw.view(self.file.columns[node.column.name].kind.to_pandas_dtype())
            fits = _compare(node.op, numbers, values)
            if valid is not None:
                fits &= valid
            mask = fits if mask is None else mask & fits
        return mask

    def _batch(self, recipe: _Recipe, piece: _Piece, mask: Any) -> pa.RecordBatch:
        chosen: Rows | None = None if mask is None else np.flatnonzero(mask)
        if recipe.ordinal is not None:
            places = piece.column(recipe.ordinal)[0].view(np.int64)
            chosen = np.argsort(places) if chosen is None else chosen[np.argsort(places[chosen])]
        arrays = []
        for name in recipe.select:
            raw, valid = piece.column(name)
            if chosen is not None:
                raw, valid = raw[chosen], None if valid is None else valid[chosen]
            arrays.append(self.file.arrow(name, raw, valid))
        return pa.RecordBatch.from_arrays(arrays, names=list(recipe.select))

    def _codes(self, node: Comparison, values: Sequence[object]) -> tuple[int, ...] | None:
        """The codes of the texts that a filter takes; None where it is about something else."""
        known = self.file.columns[node.column.name].codes or {}
        texts: list[object] = [values[slot] for slot in node.slots]
        if node.listed:
            texts = list(texts[0]) if isinstance(texts[0], (list, tuple)) else [None]
        if not all(type(text) is str for text in texts):
            return None
        return tuple(dict.fromkeys(known[str(text)] for text in texts if text in known))

    def _recipe(self, shape: Shape) -> _Recipe | None:
        try:
            return self._recipes[shape]
        except KeyError:
            if len(self._recipes) >= MAX_RECIPES:
                self._recipes.clear()
            recipe = self._recipes[shape] = self._think(shape)
            return recipe

    def _think(self, shape: Shape) -> _Recipe | None:
        parts = comparisons(shape)
        if parts is None:
            return None
        columns = self.file.columns
        texts, numbers = [], []
        for node in parts:
            column = columns.get(node.column.name)
            if column is None:
                return None
            if column.texts is not None and node.op in (Operator.EQ, Operator.IN):
                texts.append(node)
            elif node.column.kind is Kind.INTEGER and (node.op in _NUMBERS or node.op in _LISTS):
                numbers.append(node)
            else:
                return None
        if not any(node.column.name in self.file.keys for node in texts):
            return None
        select = tuple(column.name for column in shape.select)
        if any(column.derivation is not None or column.name not in columns for column in shape.select):
            return None
        if not shape.is_in_order and shape.ordinal not in columns:
            return None
        return _Recipe(tuple(texts), tuple(numbers), select, None if shape.is_in_order else shape.ordinal)


_LISTS = (Operator.IN, Operator.BETWEEN)


def comparisons(shape: Shape) -> tuple[Comparison, ...] | None:
    """The filters of a shape that a lookup may answer; None for any other shape."""
    if not shape.in_given_order or shape.where is None or not shape.select:
        return None
    if shape.limit is not None or shape.offset is not None or shape.after is not None:
        return None
    where = shape.where
    parts = where.parts if isinstance(where, Every) else (where,)
    found = []
    for part in parts:
        if not isinstance(part, Comparison) or part.ref is not None or part.column.derivation is not None:
            return None
        found.append(part)
    return tuple(found) or None


def _compare(op: Operator, numbers: Any, values: Sequence[Any]) -> Any:
    if op is Operator.IN:
        fits = np.zeros(len(numbers), np.bool_)
        for value in values:
            fits |= np.equal(numbers, value)
        return fits
    if op is Operator.BETWEEN:
        return np.greater_equal(numbers, values[0]) & np.less_equal(numbers, values[1])
    return _NUMBERS[op](numbers, values[0])


class _Piece:
    """The rows of some ranges, read column by column when they are asked for."""

    def __init__(self, file: ColumnFile, starts: Rows, ends: Rows) -> None:
        self._file = file
        self._starts, self._ends = starts, ends
        self._columns: dict[str, tuple[Any, Any]] = {}
        self.count = int((ends - starts).sum())
        self._span = int(ends[-1] - starts[0]) if len(starts) else 0
        self._within: Rows | None = None
        if len(starts) > 1 and self._reads_span:
            steps = np.ones(self.count, np.int64)
            lengths = ends - starts
            steps[0] = 0
            steps[np.cumsum(lengths)[:-1]] = starts[1:] - ends[:-1] + 1
            self._within = np.cumsum(steps)

    @property
    def is_small(self) -> bool:
        return self.count <= MAX_ROWS and (self._reads_span or len(self._starts) <= MAX_PIECES)

    @property
    def _reads_span(self) -> bool:
        return self._span <= MAX_SPAN

    def column(self, name: str) -> tuple[Any, Any]:
        """Raw values and which are valid (None: all), in the order of the ranges."""
        known = self._columns.get(name)
        if known is None:
            known = self._columns[name] = self._read(name)
        return known

    def _read(self, name: str) -> tuple[Any, Any]:
        if not len(self._starts):
            return self._file.values(name, 0, 0), None
        if self._reads_span:
            start = int(self._starts[0])
            raw, valid = self._file.values(name, start, self._span), self._file.valid(name, start, self._span)
            if self._within is not None:
                raw, valid = raw[self._within], None if valid is None else valid[self._within]
            return raw, valid
        pieces = list(zip(self._starts.tolist(), (self._ends - self._starts).tolist(), strict=True))
        raws = [self._file.values(name, start, count) for start, count in pieces]
        valids = [self._file.valid(name, start, count) for start, count in pieces]
        known = [one for one in valids if one is not None]  # of a column it is all or none
        return np.concatenate(raws), np.concatenate(known) if known else None


class Lookups:
    """The columns of versions that are often asked for a few rows. May be used from many threads.

    Parameters
    ----------
    folder
        Where the columns are written, to files without a name.
    most_bytes
        Of disk in all; 0 makes none.
    uses_before
        How many questions of a version it takes.
    in_background
        False makes them at once, while the query waits: for tests.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        most_bytes: int,
        *,
        uses_before: int = USES_BEFORE,
        in_background: bool = True,
    ) -> None:
        self._database = database
        self._folder = folder
        self._most_bytes = most_bytes
        self._uses_before = uses_before
        self._known: OrderedDict[Key, Lookup] = OrderedDict()
        self._uses: OrderedDict[Key, float] = OrderedDict()  # infinite once it was tried
        self._lock = threading.Lock()
        self._background = Background("lookups", database.stop_own, is_immediate=not in_background)

    @property
    def size_bytes(self) -> int:
        """What is on the disk now."""
        with self._lock:
            return sum(lookup.file.size_bytes for lookup in self._known.values())

    def answer(self, key: Key, plan: Plan, describe: Callable[[], Source]) -> pa.RecordBatch | None:
        """All rows of a plan's answer, where they can be had so; None where DuckDB has to be asked.

        ``describe`` says what the columns of a version are made of. It is called when it is worth the while.
        """
        if not self._most_bytes:
            return None
        lookup = self._known.get(key)
        if lookup is None:
            if comparisons(plan.shape) is None or not self._is_wanted(key):
                return None
            self._background.run(partial(self._make, describe()))
            lookup = self._known.get(key)
        if lookup is None:
            return None
        try:
            return lookup.answer(plan)
        except OSError as error:
            _LOGGER.warning("%s is looked up in its files: %s", key.relation, error.strerror or error)
            with self._lock:
                self._known.pop(key, None)
            return None

    def wait(self, timeout_s: float = 60.0) -> bool:
        """Wait until nothing is being made; False when that takes longer."""
        return self._background.wait(timeout_s)

    def close(self) -> None:
        """Make no more, and give the disk back."""
        self._background.close()
        self._known.clear()

    def _is_wanted(self, key: Key) -> bool:
        with self._lock:
            uses = self._uses.get(key, 0.0) + 1
            is_wanted = uses >= self._uses_before and uses != float("inf") and not self._background.is_closed
            self._uses[key] = float("inf") if is_wanted else uses
            self._uses.move_to_end(key)
            while len(self._uses) > MAX_NAMES:
                self._uses.popitem(last=False)
        return is_wanted

    def _make(self, source: Source) -> None:
        try:
            file = self._write(source)
        except Exception as error:  # answers come from elsewhere; and the thread goes on
            if not self._background.is_closed:
                _LOGGER.warning("%s is looked up in its files: %s", source.key.relation, error)
            return
        if file is None:
            return
        with self._lock:
            self._known[source.key] = Lookup(file)
            total = sum(lookup.file.size_bytes for lookup in self._known.values())
            while total > self._most_bytes and len(self._known) > 1:
                gone, lookup = self._known.popitem(last=False)
                total -= lookup.file.size_bytes
                self._uses.pop(gone, None)  # when it is asked again, it may come back

    def _write(self, source: Source) -> ColumnFile | None:
        listed = enumerated(source)
        names = [name for name, sql_type in source.columns if name in listed or sql_type in _TYPES]
        keys = [name for name in source.sorted_by or source.schema.key or tuple(listed) if name in listed]
        size_bytes = source.rows * sum(2 if name in listed else 9 for name in names)
        if not keys or len(names) > MAX_COLUMNS or size_bytes > self._most_bytes:
            return None
        self._folder.mkdir(parents=True, exist_ok=True)
        found = os.statvfs(self._folder)
        if found.f_bavail * found.f_frsize < FREE_SHARE * size_bytes:
            return None
        opened = source.open()
        if opened is None:
            return None
        relation, give_back = opened
        if source.has_ordinal:
            names.append(source.key.ordinal)
        try:
            sql = f"SELECT {', '.join(map(quoted, names))} FROM {quoted(relation)}"
            with self._database.stream(sql, timeout_s=BUILD_TIMEOUT_S, nested=True) as rows:
                schema = rows.schema
                odd = [field.name for field in schema if field.name not in listed and not can_hold(field.type)]
                if odd:
                    return None
                return write_columns(self._folder, source.rows, schema, listed, keys, rows)
        finally:
            give_back()
