"""Payloads made by hand, and readers of each format that know nothing of our encoders."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from server.encoding import FORMATS, METADATA_KEY, Format, Payload


def form(name: str) -> Format:
    return next(item for item in FORMATS if item.name == name)


def payload(table: pa.Table, *, is_whole: bool = True, batch_rows: int = 1_000) -> Payload:
    """A table as an answer, in batches; reading them a second time is an error."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from table.to_batches(max_chunksize=batch_rows)

    def closing(nonfinite: int) -> dict[str, Any]:
        return {"meta": {"returned": table.num_rows, "nonfinite": nonfinite, "truncated": False}, "links": {}}

    def opening() -> dict[str, Any]:
        return {"meta": {"returned": table.num_rows}, "links": {}}

    return Payload(table.schema, batches(), is_whole, opening, closing)


def encode(name: str, table: pa.Table, **how: Any) -> bytes:
    return b"".join(form(name).encode(payload(table, **how)))


def read_json(body: bytes) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(body)["data"]
    return rows


def read_columns(body: bytes) -> list[dict[str, Any]]:
    columns = json.loads(body)["data"]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def read_ndjson(body: bytes) -> list[dict[str, Any]]:
    *rows, end = [json.loads(line) for line in body.splitlines()]
    assert end == {"end": True, "rows": len(rows)}
    return rows


def read_csv(body: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body.decode("utf-8"), newline="")))


def read_arrow(body: bytes) -> pa.Table:
    with pa.ipc.open_stream(body) as reader:
        return reader.read_all()


def read_parquet(body: bytes) -> pa.Table:
    return pq.read_table(io.BytesIO(body))


def arrow_meta(table: pa.Table) -> dict[str, Any]:
    meta: dict[str, Any] = json.loads(table.schema.metadata[METADATA_KEY])["meta"]
    return meta


def plain(table: pa.Table) -> pa.Table:
    """The table with dictionaries written out, and without metadata."""
    fields = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields)).replace_schema_metadata(None)
