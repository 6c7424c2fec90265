"""Compares two versions of a dataset: settles what is compared and by which key, and runs the SQL of ``sql.py``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.connection import Parameters, quoted
from engine.diff.columns import schema_changes, shared_columns
from engine.diff.metrics import Summary, measured_columns, read_metrics
from engine.diff.result import ChangedRows, RowSample, VersionDiff
from engine.diff.sql import Tables
from engine.errors import QueryTimeoutError, VersionNotFoundError
from engine.result import python_rows
from engine.store import DatasetState, Version
from engine.versions import DatasetVersion
from queries.errors import InvalidValueError, TypeMismatchError, UnknownColumnError, nearest

if TYPE_CHECKING:
    from engine.engine import Engine

MAX_LIMIT = 10_000  # sample rows of each kind; more are for a query
_MOST_REPEATED = 0.1  # of the rows of a version: a key that more of them share with another row is none


def resolve_pair(
    state: DatasetState, before: str | int | None = None, after: str | int | None = None
) -> tuple[Version, Version]:
    """The two versions that a request means: ``after`` is the latest when not given, ``before`` the parent of it.

    Where the parent cannot be served any more, it is the version before it that can.

    Raises
    ------
    VersionNotFoundError
    """
    new = state.resolve(after)
    if before is not None:
        return state.resolve(before), new
    earlier = [version for version in state.live if version.number < new.number]
    parent = next((version for version in earlier if version.number == new.parent), None)
    if parent is None and not earlier:
        raise VersionNotFoundError(
            f"{state.dataset} {new.name} has no version before it to compare it with; name one",
            did_you_mean=[version.name for version in state.live if version != new][:3],
        )
    return parent or earlier[-1], new


class Comparison:
    """Two opened versions and how they are to be compared. Making one runs nothing; ``run`` does.

    Parameters
    ----------
    key
        The columns, by name or alias, that tell which rows are the same; None to find them.
    limit
        The most sample rows of each kind, up to ``MAX_LIMIT``.

    Raises
    ------
    UnknownColumnError, TypeMismatchError
        A column of ``key`` is not in both versions, or cannot be compared.
    InvalidValueError
    """

    def __init__(
        self,
        engine: Engine,
        before: DatasetVersion,
        after: DatasetVersion,
        *,
        key: Sequence[str] | None = None,
        limit: int = 100,
    ) -> None:
        if not 0 <= limit <= MAX_LIMIT:
            raise InvalidValueError(
                f"limit is a whole number from 0 to {MAX_LIMIT}, not {limit}", param="limit", value=limit
            )
        self.before, self.after, self.limit = before, after, limit
        self._engine = engine
        self._shared = {one.name: one for one in shared_columns(before, after)}
        self._schema = schema_changes(before.version, after.version)
        self._given = None if key is None else tuple(dict.fromkeys(map(self._key_column, key)))
        self._deadline = float("inf")
        self._warnings: list[str] = []

    @property
    def key(self) -> tuple[str, ...] | None:
        """The key that was given, by the names of the columns; None when it is to be found."""
        return self._given

    def run(self) -> VersionDiff:
        """Compare; memory stays bounded by what DuckDB may use and by the samples.

        Raises
        ------
        EngineBusyError, QueryTimeoutError, ResourceLimitError, CorruptVersionError, StoreError
        """
        self._deadline = time.monotonic() + self._engine.config.query_timeout_s
        self._warnings = []
        if self._schema.not_compared:
            self._warnings.append(f"not compared, for the types do not fit: {', '.join(self._schema.not_compared)}")
        if self.before.version.definition != self.after.version.definition:
            self._warnings.append("the definitions of the two versions differ, which units and directions come from")
        if self.before.content_id == self.after.content_id:
            return self._identical()
        with ExitStack() as stack:
            old, new = (stack.enter_context(self._engine.scan(side)).relation for side in (self.before, self.after))
            tables = self._tables(old, new)
            if not self._shared:
                return self._nothing_shared(old, new)
            return self._by_key(tables) if tables.keys else self._as_whole_rows(tables)

    # --- the key

    def _key_column(self, name: str) -> str:
        column = self.after.schema.find(name) or self.before.schema.find(name)
        physical = [{one.name for one in side.schema.physical} for side in (self.before, self.after)]
        for names, side in zip(physical, (self.before, self.after), strict=True):
            if column is None or column.name not in names:
                raise UnknownColumnError(
                    f"{side.dataset} {side.version.name} has no column {name!r}, and a key is made of columns of both",
                    param="key",
                    value=name,
                    did_you_mean=nearest(name, sorted(physical[0] & physical[1])),
                )
        assert column is not None
        shared = self._shared.get(column.name)
        if shared is None or not shared.kind.is_ordered:
            raise TypeMismatchError(
                f"{column.name} cannot be part of a key: its values in the two versions cannot be compared",
                param="key",
                value=name,
            )
        return column.name

    def _tables(self, old: str, new: str) -> Tables:
        """The relations with the first key that tells rows apart well enough, or with none."""
        usable = {name for name, one in self._shared.items() if one.kind.is_ordered}
        for names in [self._given] if self._given else self._candidates():
            if not usable.issuperset(names):
                continue
            keys = tuple(self._shared[name] for name in names)
            cells = tuple(one for one in self._shared.values() if one.name not in names)
            tables = Tables(old, new, keys, cells, self.after.schema.ordinal)
            repeats = [self._rows(tables.repeats(is_after=is_after))[0] for is_after in (False, True)]
            sides = (self.before.version, self.after.version)
            if self._given is None and any(
                found["rows"] > _MOST_REPEATED * side.rows for found, side in zip(repeats, sides, strict=True)
            ):
                continue
            if any(found["rows"] for found in repeats):
                told = ", ".join(
                    f"{found['rows']} rows of {side.name} ({found['keys']} keys)"
                    for found, side in zip(repeats, sides, strict=True)
                )
                self._warnings.append(
                    f"rows that share their key ({', '.join(names)}) with another row of their version: {told}; rows "
                    "of those keys are compared as a whole, so that they are added, removed or unchanged"
                )
                return replace(tables, repeated=True)
            return tables
        if self._shared:
            self._warnings.append(
                "no columns tell the rows of both versions apart, so rows are compared as a whole: they are added, "
                "removed or unchanged; name columns with key to see what changed"
            )
        return Tables(old, new, (), tuple(self._shared.values()), self.after.schema.ordinal)

    def _candidates(self) -> Iterator[tuple[str, ...]]:
        """Keys from the best one on: what a definition says, then what the data shows."""
        tried: set[tuple[str, ...]] = {()}
        sides = (self.after, self.before)
        for side in sides:
            if side.schema.key not in tried:
                tried.add(side.schema.key)
                yield side.schema.key
        for side in sides:
            found = side.schema.index.key() if side.schema.index else ()
            if found not in tried:
                tried.add(found)
                yield found

    # --- the answers

    def _by_key(self, tables: Tables) -> VersionDiff:
        metric, first = measured_columns(self.after.schema, tables)
        cells = [*first, *(one for one in tables.cells if one not in first)]
        summaries: list[Summary] = []
        for part in tables.batches(cells):
            its_metric = metric if not summaries else None  # its value is among the first cells
            measured = part.numbers(first if its_metric else None)
            summaries.append(Summary(self._table(part.summary(its_metric, measured)), part, its_metric, measured))
        counts = summaries[0].totals()
        changes = {name: number for summary in summaries for name, number in summary.changes().items() if number}
        batches = tables.batches(one for one in cells if one.name in changes)
        changed = counts["changed"]
        if len(summaries) > 1 and changes:
            changed = self._rows(tables.count_changed(batches))[0]["n"]
        unchanged = counts["changed"] + counts["unchanged"] - changed
        samples = []
        for is_after, side, kind in ((True, self.after, "added"), (False, self.before, "removed")):
            names = [one.name for one in side.schema.physical]
            samples.append(self._sample(tables.only(names, is_after=is_after), counts[kind], names))
        if tables.repeated:
            (whole,) = self._rows(tables.multiset_counts())
            unchanged += whole["unchanged"]
            samples = [
                self._with_repeated(sample, tables, is_after, whole[kind])
                for sample, is_after, kind in zip(samples, (True, False), ("added", "removed"), strict=True)
            ]
        metrics, metrics_total = read_metrics(summaries, self.after.schema)
        return VersionDiff(
            self.before.version,
            self.after.version,
            key=tuple(one.name for one in tables.keys),
            schema=self._schema,
            added=samples[0],
            removed=samples[1],
            changed=self._changed(tables, batches, changed),
            unchanged=unchanged,
            cells=changes,
            metrics=metrics,
            metrics_total=metrics_total,
            limit=self.limit,
            warnings=tuple(self._warnings),
        )

    def _as_whole_rows(self, tables: Tables) -> VersionDiff:
        (counts,) = self._rows(tables.multiset_counts())
        names = [one.name for one in tables.columns]
        added, removed = (
            self._sample(tables.multiset_only(is_after=is_after), counts[kind], names)
            for is_after, kind in ((True, "added"), (False, "removed"))
        )
        return self._unkeyed(added, removed, counts["unchanged"])

    def _nothing_shared(self, old: str, new: str) -> VersionDiff:
        """All rows of one side are removed, and all of the other added."""
        self._warnings.append("the versions have no columns in common that can be compared")
        added, removed = (
            self._sample(_first_rows(side, relation), side.version.rows, [one.name for one in side.schema.physical])
            for side, relation in ((self.after, new), (self.before, old))
        )
        return self._unkeyed(added, removed, 0)

    def _identical(self) -> VersionDiff:
        empty = RowSample(pa.table({}), 0)
        return self._unkeyed(empty, empty, self.after.version.rows, self._given or self.after.schema.key)

    def _unkeyed(self, added: RowSample, removed: RowSample, unchanged: int, key: tuple[str, ...] = ()) -> VersionDiff:
        return VersionDiff(
            self.before.version,
            self.after.version,
            key=tuple(name for name in key if name in self._shared),
            schema=self._schema,
            added=added,
            removed=removed,
            changed=_no_changes(),
            unchanged=unchanged,
            cells={},
            metrics=(),
            metrics_total=0,
            limit=self.limit,
            warnings=tuple(self._warnings),
        )

    def _sample(self, sql: str, total: int, names: Sequence[str]) -> RowSample:
        if not total or not self.limit:
            return RowSample(pa.table({}), total)
        return RowSample(self._table(sql, [self.limit]).rename_columns(list(names)), total)

    def _with_repeated(self, sample: RowSample, tables: Tables, is_after: bool, more: int) -> RowSample:
        """The sample with rows of repeated keys behind it; of those only the compared columns are known."""
        found = self._sample(tables.multiset_only(is_after=is_after), more, [one.name for one in tables.columns])
        room = self.limit - sample.table.num_rows
        parts = [sample.table] if sample.table.num_rows else []
        if found.table.num_rows and room:  # a table without columns has as many rows as a slice of it asks for
            parts.append(found.table.slice(0, room))
        joined = pa.concat_tables(parts, promote_options="permissive") if parts else pa.table({})
        return RowSample(joined, sample.total + found.total)

    def _changed(self, tables: Tables, batches: Sequence[Tables], total: int) -> ChangedRows:
        if not total or not self.limit:
            return replace(_no_changes(), total=total)
        ordinals = self._table(tables.find_changed(batches), [self.limit]).column("o").to_pylist()
        parts = [self._table(part.rows(), [ordinals]) for part in batches]
        keys = parts[0].select([f"k{at}" for at in range(len(tables.keys))])
        before, after, differs = (
            pa.Table.from_arrays(
                [
                    found.column(f"{side}{at}")
                    for found, part in zip(parts, batches, strict=True)
                    for at in range(len(part.cells))
                ],
                names=[one.name for part in batches for one in part.cells],
            )
            for side in "bad"
        )
        return ChangedRows(keys.rename_columns([one.name for one in tables.keys]), before, after, differs, total)

    # --- running

    def _table(self, sql: str, parameters: Parameters | None = None) -> pa.Table:
        left_s = self._deadline - time.monotonic()
        limit_s = self._engine.config.query_timeout_s
        if left_s <= 0:
            raise QueryTimeoutError(f"the comparison took longer than its limit of {limit_s:g} s and was stopped")
        return self._engine.database.table(sql, parameters, timeout_s=left_s)

    def _rows(self, sql: str) -> list[dict[str, Any]]:
        return python_rows(self._table(sql))


def _first_rows(side: DatasetVersion, relation: str) -> str:
    names = ", ".join(quoted(one.name) for one in side.schema.physical)
    return f"SELECT {names} FROM {quoted(relation)} ORDER BY {quoted(side.schema.ordinal)} LIMIT $1"


def _no_changes() -> ChangedRows:
    empty = pa.table({})
    return ChangedRows(empty, empty, empty, empty, 0)
