"""Streams and their meta, over rows that a stub hands out: cutting, counting, closing."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from engine.errors import QueryTimeoutError
from engine.result import READ_AHEAD_ROWS, Extras, Identity, Page, ResultStream
from queries.plan import OutputColumn

IDENTITY = Identity("sweep", "v1", "c" * 64, "q" * 64)


class StubRows:
    """What ``engine.connection.Rows`` is to a stream: batches of one column and the ordinal."""

    def __init__(self, sizes: list[int], fail_after: int | None = None) -> None:
        self.schema = pa.schema([("x", pa.int64()), ("_ordinal", pa.int64())])
        self.engine_s = 0.25
        self.closed = 0
        self.read = 0
        self._sizes = sizes
        self._fail_after = fail_after

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        start = 0
        for at, size in enumerate(self._sizes):
            if at == self._fail_after:
                raise QueryTimeoutError("too slow")
            values = pa.array(range(start, start + size), pa.int64())
            self.read += 1
            yield pa.RecordBatch.from_arrays([values, values], schema=self.schema)
            start += size

    def close(self) -> None:
        self.closed += 1


def stream(
    rows: StubRows, limit: int | None = None, *, offset: int = 0, total: bool = True, in_all: int | None = None
) -> ResultStream:
    def count() -> int:
        assert in_all is not None, "nobody should have to count"
        return in_all

    page = Page(limit, offset, total, limit is not None, count, lambda at, after: f"{at}:{after}")
    columns = (OutputColumn("shown", "BIGINT"),)
    return ResultStream(IDENTITY, rows, columns, page, Extras(("w",)))  # type: ignore[arg-type]


def test_a_short_answer_is_read_on_opening() -> None:
    rows = StubRows([3, 2])
    opened = stream(rows)
    assert opened.complete and rows.closed
    meta = opened.meta()
    assert (meta.returned, meta.total, meta.truncated, meta.warnings) == (5, 5, False, ("w",))
    assert opened.schema.names == ["shown"]
    assert [batch.num_rows for batch in opened] == [3, 2]
    assert opened.count() == 5
    assert opened.engine_s == 0.25


def test_the_row_too_many_is_not_given() -> None:
    opened = stream(StubRows([3, 3]), 5, in_all=9)
    assert [batch.column(0).to_pylist() for batch in opened] == [[0, 1, 2], [3, 4]]
    meta = opened.meta()
    assert (meta.returned, meta.truncated, meta.next_cursor, meta.total) == (5, True, "5:4", 9)


@pytest.mark.parametrize("sizes", [[5], [2, 3], [5, 0], []])
def test_an_answer_that_just_fits_is_not_cut(sizes: list[int]) -> None:
    meta = stream(StubRows(sizes), 5).meta()
    assert (meta.truncated, meta.next_cursor, meta.total) == (False, None, sum(sizes))


def test_the_row_too_many_in_a_batch_of_its_own() -> None:
    opened = stream(StubRows([5, 1]), 5, in_all=6, offset=0)
    assert [batch.num_rows for batch in opened] == [5]
    assert opened.meta().next_cursor == "5:4"


def test_beyond_the_end_the_total_is_counted() -> None:
    assert stream(StubRows([]), 5, offset=50, in_all=7).meta().total == 7
    assert stream(StubRows([2]), 5, offset=50).meta().total == 52
    assert stream(StubRows([]), 5, offset=50, total=False).meta().total is None


def test_a_long_answer_is_read_as_far_as_it_must() -> None:
    size = READ_AHEAD_ROWS // 2
    rows = StubRows([size] * 5)
    opened = stream(rows, in_all=5 * size)
    assert not opened.complete and rows.read == 3
    meta = opened.meta()
    assert (meta.returned, meta.truncated, meta.total, meta.total_exact) == (None, None, None, False)
    assert opened.count() == 5 * size
    assert sum(batch.num_rows for batch in opened) == 5 * size
    assert opened.complete and opened.meta().returned == 5 * size
    assert opened.meta().total_exact


def test_what_fails_on_the_way_is_not_complete() -> None:
    size = READ_AHEAD_ROWS
    opened = stream(StubRows([size, size, size], fail_after=2))
    with pytest.raises(QueryTimeoutError):
        list(opened)
    assert not opened.complete


def test_what_fails_at_once_fails_on_opening() -> None:
    with pytest.raises(QueryTimeoutError):
        stream(StubRows([1, 1], fail_after=1))


def test_a_reader_that_leaves_closes() -> None:
    rows = StubRows([READ_AHEAD_ROWS] * 3)
    with stream(rows) as opened:
        next(iter(opened))
    assert rows.closed and not opened.complete
