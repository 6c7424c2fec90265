"""JSON by column: ``{"data":{"a":[…],"b":[…]},"meta":…,"links":…}``.

The first column goes out as its values come; the others of a large answer wait in a file, not in memory.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import IO

import orjson
import pyarrow as pa
import pyarrow.types as pt

from server.encoding.json_text import json_texts, simple_json_texts
from server.encoding.nonfinite import count_nonfinite
from server.encoding.numbers import is_beyond_exact, number_list
from server.encoding.payload import Payload, in_steps
from server.encoding.rows import RowWriter
from server.encoding.small import small_lists
from server.encoding.text_data import data_of

SPOOL_BYTES = 16 << 20  # answers up to this size never touch the disk


def encode_columns(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece."""
    names = [orjson.dumps(name) for name in payload.schema.names]
    if not names:  # a pivot of nothing
        nonfinite = sum(map(count_nonfinite, payload.batches))
        yield b'{"data":{},' + orjson.dumps(payload.closing(nonfinite))[1:]
        return
    lists = _Lists(len(names))
    waiting: list[list[tuple[int, int]]] = [[] for _ in names[1:]]
    nonfinite = 0
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        lead = b'{"data":{' + names[0] + b":["
        for batch in in_steps(payload.schema, payload.batches):
            nonfinite += count_nonfinite(batch)
            first, *others = lists.write(batch)
            for places, values in zip(waiting, others, strict=True):
                places.append((spool.tell(), len(values)))
                spool.write(values)
            yield b"".join((lead, first))
            lead = b","
        if lead != b",":
            yield lead
        for name, places in zip(names[1:], waiting, strict=True):
            yield b"]," + name + b":["
            yield from _read(spool, places)
    yield b"]}," + orjson.dumps(payload.closing(nonfinite))[1:]


def _read(spool: IO[bytes], places: list[tuple[int, int]]) -> Iterator[bytes]:
    for position, (start, size) in enumerate(places):
        spool.seek(start)
        values = spool.read(size)
        yield b"," + values if position else values


class _Lists:
    """Writes columns, with commas between the values."""

    def __init__(self, columns: int) -> None:
        self._columns = columns

    def write(self, batch: pa.RecordBatch) -> Sequence[bytes | memoryview]:
        small = small_lists(batch)
        if small is not None:
            return small
        return [_list(column, rows) for column, rows in zip(batch.columns, self._rows, strict=True)]

    @cached_property
    def _rows(self) -> list[RowWriter]:
        return [RowWriter([b"", b","], json_texts, simple_json_texts) for _ in range(self._columns)]


def _list(column: pa.Array, rows: RowWriter) -> memoryview:
    kind = column.type
    if pt.is_floating(kind):
        return number_list(column.fill_null(float("nan")) if column.null_count else column)
    if pt.is_integer(kind) and not column.null_count and is_beyond_exact(column) is None:
        return number_list(column)
    return data_of(rows.rows([column]))[:-1]
