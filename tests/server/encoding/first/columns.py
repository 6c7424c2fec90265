"""JSON by column: ``{"data":{"a":[…],"b":[…]},"meta":…,"links":…}``. A large answer waits in a file, not in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

import orjson

from tests.server.encoding.first.json_text import joined, json_texts
from tests.server.encoding.first.nonfinite import count_nonfinite
from tests.server.encoding.first.payload import Payload, in_steps

SPOOL_BYTES = 16 << 20  # answers up to this size never touch the disk


def encode_columns(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece; the first comes only when all rows have been read."""
    pieces: list[list[tuple[int, int]]] = [[] for _ in payload.schema.names]
    nonfinite = 0
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        for batch in in_steps(payload.schema, payload.batches):
            nonfinite += count_nonfinite(batch)
            for places, column in zip(pieces, batch.columns, strict=True):
                values = joined(json_texts(column), b",").as_buffer()
                places.append((spool.tell(), values.size))
                spool.write(memoryview(values))
        lead = b'{"data":{'
        for name, places in zip(payload.schema.names, pieces, strict=True):
            yield lead + orjson.dumps(name) + b":["
            yield from _read(spool, places)
            lead = b"],"
        closing = b"]}," if payload.schema.names else b'{"data":{},'  # a pivot of nothing has no columns
        yield closing + orjson.dumps(payload.closing(nonfinite))[1:]


def _read(spool: IO[bytes], places: list[tuple[int, int]]) -> Iterator[bytes]:
    for position, (start, size) in enumerate(places):
        if position:
            yield b","
        spool.seek(start)
        yield spool.read(size)
