"""JSON as an object with a list of row objects: ``{"data":[…],"meta":…,"links":…}``. What is known last comes last."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pyarrow as pa

from tests.server.encoding.first.json_text import json_texts, members
from tests.server.encoding.first.nonfinite import count_nonfinite
from tests.server.encoding.first.payload import Payload, in_steps


def encode_json(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece."""
    nonfinite = 0
    head = b'{"data":['
    lead = head  # in place of the comma before the first row
    for batch in in_steps(payload.schema, payload.batches):
        rows = members(payload.schema.names, [json_texts(column) for column in batch.columns], b",\n", b"")
        nonfinite += count_nonfinite(batch)
        body = data_of(rows)
        yield b"".join((lead, body[2:])) if lead else bytes(body)
        lead = b""
    tail = orjson.dumps(payload.closing(nonfinite))[1:]
    yield b"".join((lead, b"],", tail))


def encode_ndjson(payload: Payload) -> Iterator[bytes]:
    """One row object a line, then ``{"end":true,"rows":n}``, without which the rows are not all there."""
    count = 0
    for batch in in_steps(payload.schema, payload.batches):
        rows = members(payload.schema.names, [json_texts(column) for column in batch.columns], b"", b"\n")
        count += batch.num_rows
        yield bytes(data_of(rows))
    yield orjson.dumps({"end": True, "rows": count}) + b"\n"


def data_of(texts: pa.BinaryArray) -> memoryview:
    """All the texts one after another, as they lie in memory."""
    if not len(texts):
        return memoryview(b"")
    return memoryview(texts.buffers()[2])[: texts.total_values_length]
