"""Answers: a stream of Arrow batches with what is known about it, and the same thing whole. Encodes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.connection import Rows
from queries.plan import OutputColumn

# Answers up to this large are whole before the first byte leaves; a wide one is large with few rows.
READ_AHEAD_ROWS = 65_536
READ_AHEAD_BYTES = 4 << 20

# Of the Python objects around an answer, about: of any one, of each column, and of each value of a facet.
_OVERHEAD_BYTES = 4_096
_COLUMN_BYTES = 256
_FACET_VALUE_BYTES = 400


@dataclass(frozen=True, slots=True)
class ResultMeta:
    """What an answer says about itself.

    ``total`` counts the rows without paging, None when it was not asked for; ``truncated`` says that a limit cut the
    answer, and ``next_cursor`` goes on from there. ``returned`` is None while a stream is still running.
    """

    dataset: str
    version: str
    content_id: str
    query_id: str
    columns: tuple[OutputColumn, ...]
    returned: int | None
    total: int | None
    total_exact: bool
    truncated: bool | None
    limit: int | None
    offset: int
    next_cursor: str | None
    warnings: tuple[str, ...] = ()
    facets: dict[str, list[dict[str, Any]]] | None = None
    explain: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Extras:
    """What comes with an answer beside its rows."""

    warnings: tuple[str, ...] = ()
    facets: dict[str, list[dict[str, Any]]] | None = None
    explain: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What a stream has to know to say where it stands.

    ``limit`` rows were asked for, and one more was fetched to see whether there are more. ``has_ordinal`` says that
    the last column is the row's ordinal, which is for the cursor and not for the answer.
    """

    limit: int | None
    offset: int
    total_wanted: bool
    has_ordinal: bool
    count: Callable[[], int]
    cursor: Callable[[int, int | None], str | None]


@dataclass(frozen=True, slots=True)
class Identity:
    """Which query of which version an answer is to."""

    dataset: str
    version: str
    content_id: str
    query_id: str


class ResultStream:
    """The rows of an answer, in order. Iterate once; a context manager, and ``close`` frees what it holds at once.

    The first rows, up to ``READ_AHEAD_ROWS`` and ``READ_AHEAD_BYTES``, are read on opening, so that most errors come
    before anything is sent.
    """

    def __init__(
        self, identity: Identity, rows: Rows, columns: tuple[OutputColumn, ...], page: Page, extras: Extras
    ) -> None:
        self.identity = identity
        self.columns = columns
        self._rows = rows
        self._page = page
        self._extras = extras
        self._returned = 0
        self._more = False
        self._last_ordinal: int | None = None
        self._total: int | None = None
        self._final: ResultMeta | None = None
        self.complete = False
        source = rows.schema
        fields = [pa.field(column.name, source.field(i).type) for i, column in enumerate(columns)]
        self.schema = pa.schema(fields)
        self._batches = self._cut(iter(rows))
        self._ahead: list[pa.RecordBatch] = []
        ahead_rows = ahead_bytes = 0
        for batch in self._batches:
            self._ahead.append(batch)
            ahead_rows += batch.num_rows
            ahead_bytes += batch.nbytes
            if ahead_rows > READ_AHEAD_ROWS or ahead_bytes > READ_AHEAD_BYTES:
                break
        else:
            self.complete = True

    @property
    def engine_s(self) -> float:
        """Seconds that the engine has worked on this so far."""
        return self._rows.engine_s

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            while self._ahead:
                yield self._ahead.pop(0)
            yield from self._batches
            self.complete = True
        finally:
            self.close()

    def close(self) -> None:
        self._rows.close()

    def __enter__(self) -> ResultStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def count(self) -> int:
        """How many rows this stream gives in all: known when it is complete, else found by a count of its own."""
        if self.complete:
            return self._returned
        total = self._count_all()
        left = max(total - self._page.offset, 0)
        return left if self._page.limit is None else min(left, self._page.limit)

    def meta(self) -> ResultMeta:
        """What is known now; final once the stream is complete."""
        if not self.complete:
            return self._describe()
        if self._final is None:
            self._final = self._describe()
        return self._final

    def _describe(self) -> ResultMeta:
        page = self._page
        truncated = self._more if self.complete else None
        cursor = None
        if truncated:
            cursor = page.cursor(page.offset + self._returned, self._last_ordinal)
        total = self._known_total()
        return ResultMeta(
            **{name: getattr(self.identity, name) for name in ("dataset", "version", "content_id", "query_id")},
            columns=self.columns,
            returned=self._returned if self.complete else None,
            total=total,
            total_exact=total is not None,
            truncated=truncated,
            limit=page.limit,
            offset=page.offset,
            next_cursor=cursor,
            warnings=self._extras.warnings,
            facets=self._extras.facets,
            explain=self._extras.explain,
        )

    def _known_total(self) -> int | None:
        if not self._page.total_wanted:
            return None
        if not self.complete:
            return self._total
        # An offset beyond the end says nothing of how many rows there are before it.
        if self._more or (self._returned == 0 and self._page.offset):
            return self._count_all()
        return self._page.offset + self._returned

    def _count_all(self) -> int:
        if self._total is None:
            self._total = self._page.count()
        return self._total

    def _cut(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches without the row that was fetched to see whether there are more, and without the ordinal."""
        limit = self._page.limit
        try:
            for batch in batches:
                if limit is not None and self._returned + batch.num_rows > limit:
                    self._more = True
                    batch = batch.slice(0, limit - self._returned)
                self._returned += batch.num_rows
                if batch.num_rows:
                    if self._page.has_ordinal:
                        self._last_ordinal = batch.columns[-1][-1].as_py()
                    yield pa.RecordBatch.from_arrays(batch.columns[: len(self.columns)], schema=self.schema)
        finally:
            self._rows.close()

    def kept(self) -> Answer | None:
        """The whole answer for a cache, before it is iterated; None when it is not complete."""
        if not self.complete:
            return None
        # What the batches hold on to, which is more than their rows where a batch was cut.
        size = sum(batch.get_total_buffer_size() for batch in self._ahead)
        size += _OVERHEAD_BYTES + _COLUMN_BYTES * len(self.columns) + sum(map(len, self._extras.warnings))
        size += _FACET_VALUE_BYTES * sum(map(len, (self._extras.facets or {}).values()))
        return Answer(self.schema, self.columns, tuple(self._ahead), self.meta(), size)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer, immutable, that may be given any number of times."""

    schema: pa.Schema
    columns: tuple[OutputColumn, ...]
    batches: tuple[pa.RecordBatch, ...]
    meta: ResultMeta
    size_bytes: int


class KnownStream:
    """An answer that was given before, as a stream: see ``ResultStream``. It holds nothing."""

    complete = True
    engine_s = 0.0

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.schema = answer.schema
        self.columns = answer.columns

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._answer.batches)

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> KnownStream:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def count(self) -> int:
        return self._answer.meta.returned or 0

    def meta(self) -> ResultMeta:
        return self._answer.meta


def plain_texts(table: pa.Table) -> pa.Table:
    """The table with texts as texts, where the engine had them as codes into a list of texts."""
    plain = pa.schema([field.with_type(_without_codes(field.type)) for field in table.schema], table.schema.metadata)
    return table if plain.equals(table.schema) else table.cast(plain)


def _without_codes(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_without_codes(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_without_codes(kind.value_type)))
    return kind


def python_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows as dictionaries; days beyond the year 9999, which Python does not have, as text."""
    rows: list[dict[str, Any]]
    try:
        rows = table.to_pylist()
    except (OverflowError, ValueError):
        for position, column in enumerate(table.columns):
            if pa.types.is_temporal(column.type) and not pa.types.is_interval(column.type):
                table = table.set_column(position, table.schema.names[position], column.cast(pa.string()))
        rows = table.to_pylist()
    return rows


@dataclass(frozen=True)
class QueryResult:
    """A whole answer in memory."""

    table: pa.Table
    meta: ResultMeta
