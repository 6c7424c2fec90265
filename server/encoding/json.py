"""JSON as an object with a list of row objects: ``{"data":[…],"meta":…,"links":…}``. What is known last comes last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

import orjson
import pyarrow as pa

from server.encoding.json_text import json_texts, simple_json_texts
from server.encoding.nonfinite import count_nonfinite
from server.encoding.payload import Payload, in_steps
from server.encoding.rows import RowWriter
from server.encoding.small import small_objects
from server.encoding.text_data import data_of


def encode_json(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece."""
    objects = _Objects(payload.schema.names, b",\n", b"")
    nonfinite = 0
    lead = b'{"data":['  # in place of the comma before the first row
    for batch in in_steps(payload.schema, payload.batches):
        nonfinite += count_nonfinite(batch)
        yield lead + objects.write(batch)[2:] if lead else objects.write(batch)
        lead = b""
    tail = orjson.dumps(payload.closing(nonfinite))[1:]
    yield b"".join((lead, b"],", tail))


def encode_ndjson(payload: Payload) -> Iterator[bytes]:
    """One row object a line, then ``{"end":true,"rows":n}``, without which the rows are not all there."""
    objects = _Objects(payload.schema.names, b"", b"\n")
    count = 0
    for batch in in_steps(payload.schema, payload.batches):
        count += batch.num_rows
        yield objects.write(batch)
    yield orjson.dumps({"end": True, "rows": count}) + b"\n"


class _Objects:
    """Writes rows as objects, with ``before`` and ``after`` around each."""

    def __init__(self, names: Sequence[str], before: bytes, after: bytes) -> None:
        self._names = names
        self._before = before
        self._after = after

    def write(self, batch: pa.RecordBatch) -> bytes:
        small = small_objects(self._names, batch)
        if small is not None:
            return b"".join((self._before, (self._after + self._before).join(small), self._after))
        return bytes(data_of(self._rows.rows(batch.columns)))

    @cached_property
    def _rows(self) -> RowWriter:
        keys = [orjson.dumps(name) + b":" for name in self._names]
        between = [self._before + b"{" + keys[0], *(b"," + key for key in keys[1:]), b"}" + self._after]
        return RowWriter(between, json_texts, simple_json_texts)
