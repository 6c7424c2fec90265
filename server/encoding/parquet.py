"""Parquet with zstd, written row group by row group. Its key-value metadata holds what Arrow's schema metadata does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from server.encoding.arrow import METADATA_KEY
from server.encoding.nonfinite import count_nonfinite
from server.encoding.payload import Payload, UnsupportedColumnError
from server.encoding.plain_texts import with_plain_texts, write_out
from server.encoding.sink import Sink

ROW_GROUP_ROWS = 122_880  # DuckDB's own
ROW_GROUP_BYTES = 32 << 20


def encode_parquet(payload: Payload) -> Iterator[bytes]:
    """The bytes of a whole answer, piece by piece.

    Raises
    ------
    UnsupportedColumnError
        A column is an interval or a union, which parquet as Arrow writes it has no type for.
    """
    for field in payload.schema:
        if not _is_writable(field.type):
            raise UnsupportedColumnError(
                f"parquet cannot carry the column {field.name}, which is an interval or a union; "
                "leave it out with select=, or ask for another format"
            )
    return _encode_whole(payload) if payload.is_whole else _encode_stream(payload)


def _encode_whole(payload: Payload) -> Iterator[bytes]:
    plain = with_plain_texts(payload.schema)
    batches = [write_out(batch, plain) for batch in payload.batches]
    envelope = payload.closing(sum(map(count_nonfinite, batches)))
    # In the schema, where Arrow's own readers look first.
    schema = plain.with_metadata({METADATA_KEY: orjson.dumps(envelope)})
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        writer.write_table(pa.Table.from_batches(batches, plain), row_group_size=ROW_GROUP_ROWS)
    yield sink.getvalue().to_pybytes()


def _encode_stream(payload: Payload) -> Iterator[bytes]:
    sink = Sink()
    nonfinite = 0
    plain = with_plain_texts(payload.schema)
    with pq.ParquetWriter(sink, plain, compression="zstd") as writer:
        for group in _row_groups(write_out(batch, plain) for batch in payload.batches):
            nonfinite += sum(map(count_nonfinite, group))
            table = pa.Table.from_batches(group, schema=plain)
            group.clear()
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
            del table  # not while a slow client takes the bytes, nor while the next group comes
            yield sink.drain()
        writer.add_key_value_metadata({METADATA_KEY: orjson.dumps(payload.closing(nonfinite))})
    yield sink.drain()


def _row_groups(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    group: list[pa.RecordBatch] = []
    rows = size_bytes = 0
    for batch in batches:
        group.append(batch)
        rows += batch.num_rows
        size_bytes += batch.nbytes
        if rows >= ROW_GROUP_ROWS or size_bytes >= ROW_GROUP_BYTES:
            yield group
            group, rows, size_bytes = [], 0, 0
    if group:
        yield group


def _is_writable(kind: pa.DataType) -> bool:
    if pt.is_interval(kind) or pt.is_union(kind):
        return False
    return all(_is_writable(kind.field(position).type) for position in range(kind.num_fields))
