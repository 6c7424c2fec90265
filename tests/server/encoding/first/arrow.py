"""Arrow IPC streams: uncompressed, for browsers cannot decode compressed buffers; texts as dictionaries.

The schema's metadata holds the JSON of ``meta`` and ``links`` under ``bytomorrow``. When rows were still to come as the
schema was written, the last batch is empty and its own metadata says how the answer ended.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pyarrow as pa
import pyarrow.ipc

from tests.server.encoding.first.dictionaries import encode_dictionaries, encode_whole, with_dictionaries
from tests.server.encoding.first.nonfinite import count_nonfinite
from tests.server.encoding.first.payload import Payload
from tests.server.encoding.first.settle import settle
from tests.server.encoding.first.sink import Sink

METADATA_KEY = b"bytomorrow"
_OPTIONS = pa.ipc.IpcWriteOptions(compression=None, emit_dictionary_deltas=False)


def encode_arrow(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece."""
    return _encode_whole(payload) if payload.is_whole else _encode_stream(payload)


def _encode_whole(payload: Payload) -> Iterator[bytes]:
    batches = list(payload.batches)
    nonfinite = sum(map(count_nonfinite, batches))
    schema = _described(with_dictionaries(payload.schema), payload.closing(nonfinite))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=_OPTIONS) as writer:
        for batch in encode_whole(payload.schema, batches):
            writer.write_batch(_settled(batch, schema))
    yield sink.getvalue().to_pybytes()


def _encode_stream(payload: Payload) -> Iterator[bytes]:
    nonfinite = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal nonfinite
        for batch in payload.batches:
            nonfinite += count_nonfinite(batch)
            yield batch

    schema = _described(with_dictionaries(payload.schema), payload.opening())
    sink = Sink()
    last: pa.RecordBatch | None = None
    with pa.ipc.new_stream(sink, schema, options=_OPTIONS) as writer:
        for batch in encode_dictionaries(payload.schema, counted()):
            last = _settled(batch, schema)
            writer.write_batch(last)
            yield sink.drain()
        if last is not None:
            writer.write_batch(
                last.slice(0, 0), custom_metadata={METADATA_KEY: orjson.dumps(payload.closing(nonfinite))}
            )
    yield sink.drain()


def _settled(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([settle(column) for column in batch.columns], schema=schema)


def _described(schema: pa.Schema, envelope: dict[str, object]) -> pa.Schema:
    return schema.with_metadata({METADATA_KEY: orjson.dumps(envelope)})
