"""A client on one kept-alive connection: what it waited for each answer, and how many rows the answer holds."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa

from benchmarks.process import HOST, ServerError
from benchmarks.workload import Encoding

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. ``first_ms`` is until its head was there, ``total_ms`` until the last byte."""

    status: int
    body: bytes = field(repr=False)
    etag: str | None
    first_ms: float
    total_ms: float


class Client:
    """One connection; not for two threads at once. It asks for no compression."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=TIMEOUT_S)
        self._connection.connect()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Ask once and read all of it; any status but 200 and 304 is a ServerError."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers={"Accept": "*/*", **(headers or {})})
        response = self._connection.getresponse()
        first = time.perf_counter()
        body = response.read()
        ended = time.perf_counter()
        if response.status not in (200, 304):
            raise ServerError(f"{path} was answered with {response.status}: {body[:500].decode(errors='replace')}")
        return Reply(
            response.status, body, response.headers.get("ETag"), (first - began) * 1000, (ended - began) * 1000
        )


def count_rows(body: bytes, encoding: Encoding) -> int:
    """How many rows an answer holds; an empty body, such as a 304's, none."""
    rows = rows_of(body, encoding) if body else 0
    return rows if isinstance(rows, int) else len(rows)


def rows_of(body: bytes, encoding: Encoding) -> list[dict[str, Any]] | int:
    """The rows of an answer in JSON, or their number in another encoding."""
    if encoding == "nothing":
        return 0
    if encoding == "arrow":
        return int(pa.ipc.open_stream(body).read_all().num_rows)
    answer = orjson.loads(body)
    if encoding == "columns":
        columns = answer["data"]
        lists = columns.values() if isinstance(columns, dict) else columns
        return len(next(iter(lists)))
    return list(answer["data"])
