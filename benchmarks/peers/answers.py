"""The rows in a peer's answer, from the formats that they have in common. Asks nobody."""

from __future__ import annotations

from typing import Any

import orjson
import pyarrow as pa


def json_rows(body: bytes) -> list[dict[str, Any]]:
    """An array of objects. What only some rows have is null in the others: some writers leave out what is null."""
    rows: list[dict[str, Any]] = orjson.loads(body)
    names = dict.fromkeys(name for row in rows for name in row)
    return rows if all(len(row) == len(names) for row in rows) else [{n: row.get(n) for n in names} for row in rows]


def arrow_table(body: bytes) -> pa.Table:
    """Arrow IPC, as a stream or a file."""
    reader = pa.ipc.open_file(body) if body.startswith(b"ARROW1") else pa.ipc.open_stream(body)
    return reader.read_all()
