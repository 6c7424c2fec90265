"""Asks once, checks the status, and says how many rows an answer of ours or of the seed's way holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from benchmarks.process import ServerError
from benchmarks.wire import TIMEOUT_S, Connection, WireError, request_bytes
from benchmarks.workload import Encoding

#: A longer answer is not made into dicts, which would take ten times its size.
LONGEST_PARSED_BYTES = 100_000_000
_ROW = re.compile(rb'"params"\s*:')  # every row of the demo data has one


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``first_ms`` is until the first byte of its body was there, ``total_ms`` until the last."""

    status: int
    body: bytes | bytearray = field(repr=False)
    head: bytes = field(repr=False)
    etag: str | None
    is_chunked: bool
    first_ms: float
    total_ms: float


class Client:
    """One connection; not for two threads at once. It asks for no compression."""

    def __init__(self, port: int, timeout_s: float = TIMEOUT_S) -> None:
        self._connection = Connection(port, timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask for a path and read all of it; any status but 200 and 304 is a ServerError."""
        return self.send(request_bytes("GET", path, headers))

    def send(self, request: bytes) -> Reply:
        """The same, of a request as bytes."""
        try:
            timed = self._connection.ask(request)
        except (WireError, OSError) as error:
            raise ServerError(f"{target_of(request)}: {type(error).__name__}: {error}") from error
        answer = timed.answer
        body = answer.kept if answer.kept is not None else bytearray()
        check_status(request, answer.status, body)
        return Reply(
            answer.status,
            body,
            answer.head,
            answer.header("ETag"),
            answer.is_chunked,
            timed.first_s * 1000,
            timed.total_s * 1000,
        )


def check_status(request: bytes, status: int, body: bytes | bytearray = b"") -> None:
    """Raise ServerError unless it was answered."""
    if status not in (200, 304):
        raise ServerError(
            f"{target_of(request)} was answered with {status}: {bytes(body[:500]).decode(errors='replace')}"
        )


def target_of(request: bytes) -> str:
    """Method and path of a request, to name it in an error."""
    return request.partition(b" HTTP/")[0].decode()[:300]


def count_rows(body: bytes | bytearray, encoding: Encoding) -> int:
    """How many rows an answer holds; an empty body, such as a 304's, none."""
    if not body:
        return 0
    if len(body) > LONGEST_PARSED_BYTES and encoding in ("json", "ndjson"):
        return sum(1 for _ in _ROW.finditer(body))
    rows = rows_of(body, encoding)
    return rows if isinstance(rows, int) else len(rows)


def rows_of(body: bytes | bytearray, encoding: Encoding) -> list[dict[str, Any]] | int:
    """The rows of an answer in JSON, or their number in another encoding. Facets are rows of facet, value, count."""
    if encoding == "nothing":
        return 0
    if encoding == "arrow":
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            return int(sum(batch.num_rows for batch in reader))
    if encoding == "parquet":
        return int(pq.read_metadata(BytesIO(body)).num_rows)
    if encoding == "csv":
        return int(pyarrow.csv.read_csv(BytesIO(body)).num_rows)
    if encoding == "ndjson":
        return _lines(body)
    answer = orjson.loads(body)
    if encoding == "columns":
        columns: dict[str, list[Any]] = answer["data"]
        return len(next(iter(columns.values())))
    facets = answer.get("meta", {}).get("facets") if not answer["data"] else None
    if facets is not None:
        return [{"facet": column, **entry} for column, entries in facets.items() for entry in entries]
    rows: list[dict[str, Any]] = answer["data"]
    return rows


def _lines(body: bytes | bytearray) -> int:
    """Rows of NDJSON, whose last line says how many they are.

    Raises
    ------
    ServerError
        When it does not, or says another number.
    """
    count = body.count(b"\n") - 1
    last = orjson.loads(body[body.rfind(b"\n", 0, len(body) - 1) + 1 :])
    if last.get("end") is not True or last.get("rows") != count:
        raise ServerError(f"{count:,} lines, and the last one says {last}")
    return count
