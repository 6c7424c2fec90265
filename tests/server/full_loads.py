"""Reads whole answers as they come, block by block, and compares their rows with those of a table in a file."""

from __future__ import annotations

import http.client
import io
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Checker:
    """Compares rows with those expected, in their order.

    Attributes
    ----------
    expected
        All rows; may lie in a file that is mapped into memory.
    every
        Of so many blocks one is compared value by value. The rows of all are counted, so that each is in its place.
    """

    expected: pa.Table
    every: int = 1

    def read(self, port: int, path: str, name: str) -> str:
        """Ask for a whole answer in a format; what is wrong with it, or nothing."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        with closing(connection):
            connection.request("GET", f"{path}?format={name}", headers={"Accept-Encoding": "identity"})
            response = connection.getresponse()
            if response.status != 200:
                return f"{name}: {response.status} {response.read(300)!r}"
            readers: dict[str, Callable[[http.client.HTTPResponse], str]] = {
                "json": self._json,
                "columns": self._columns,
                "csv": self._csv,
                "arrow": self._arrow,
            }
            try:
                return readers[name](response)
            except (http.client.HTTPException, OSError, ValueError, pa.ArrowException) as error:
                return f"{name}: {type(error).__name__}: {error}"

    def _json(self, response: http.client.HTTPResponse) -> str:
        head = b'{"data":['
        if response.read(len(head)) != head:
            return "json: it begins with something else"
        row = 0
        for position, block in enumerate(_blocks(response, b"},\n{", b"}],", keep=(1, 2))):
            count = block.count(b"},\n{") + 1
            if position % self.every == 0:
                found = pa.Table.from_pylist(orjson.loads(b"[" + block + b"]"), self.expected.schema)
                if not found.equals(self._slice(row, count)):
                    return f"json: rows {row} to {row + count} are others"
            row += count
        return self._whole("json", row)

    def _csv(self, response: http.client.HTTPResponse) -> str:
        row = 0
        names = ",".join(self.expected.schema.names).encode() + b"\r\n"
        if response.read(len(names)) != names:
            return "csv: it begins with something else"
        types = pa.csv.ConvertOptions(column_types=self.expected.schema)
        options = pa.csv.ReadOptions(use_threads=False, column_names=self.expected.schema.names)
        for position, block in enumerate(_blocks(response, b"\r\n", None, keep=(2, 2))):
            count = block.count(b"\r\n")
            if position % self.every == 0:
                found = pa.csv.read_csv(io.BytesIO(block), read_options=options, convert_options=types)
                if not found.equals(self._slice(row, count)):
                    return f"csv: rows {row} to {row + count} are others"
            row += count
        return self._whole("csv", row)

    def _arrow(self, response: http.client.HTTPResponse) -> str:
        row = 0
        for position, batch in enumerate(pa.ipc.open_stream(response)):
            if position % self.every == 0 and batch.num_rows:
                found = pa.Table.from_batches([batch]).replace_schema_metadata(None).cast(self.expected.schema)
                if not found.equals(self._slice(row, batch.num_rows)):
                    return f"arrow: rows {row} to {row + batch.num_rows} are others"
            row += batch.num_rows
        return self._whole("arrow", row)

    def _columns(self, response: http.client.HTTPResponse) -> str:
        source = _Ahead(response)
        for number, field in enumerate(self.expected.schema):
            lead = (b'{"data":{' if number == 0 else b",") + orjson.dumps(field.name) + b":["
            if source.read(len(lead)) != lead:
                return f"columns: {field.name} is not in its place"
            row = 0
            between = b'","' if pa.types.is_string(field.type) else b","
            ends = b'"]' if pa.types.is_string(field.type) else b"]"
            keep = (1, 2) if pa.types.is_string(field.type) else (0, 1)
            for position, block in enumerate(_blocks(source, between, ends, keep=keep)):
                count = block.count(between) + 1
                if position % self.every == 0:
                    found = pa.array(orjson.loads(b"[" + block + b"]"), field.type)
                    if not found.equals(self._slice(row, count).column(number).combine_chunks()):
                        return f"columns: {field.name} has others in rows {row} to {row + count}"
                row += count
            if problem := self._whole("columns", row):
                return problem
        return "" if source.read(9) == b'},"meta":' else "columns: it ends with something else"

    def _slice(self, row: int, count: int) -> pa.Table:
        return self.expected.slice(row, count)

    def _whole(self, name: str, rows: int) -> str:
        return "" if rows == self.expected.num_rows else f"{name}: {rows} rows in place of {self.expected.num_rows}"


class _Ahead:
    """A body that can be given back what was read too far."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self._ahead = b""

    def read(self, size: int) -> bytes:
        while len(self._ahead) < size and (more := self._response.read(BLOCK_BYTES)):
            self._ahead += more
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken

    def give_back(self, data: bytes) -> None:
        self._ahead = data + self._ahead


def _blocks(source: Any, between: bytes, ends: bytes | None, *, keep: tuple[int, int]) -> Iterator[bytes]:
    """Pieces of a body, cut between two values.

    Parameters
    ----------
    between
        What stands between two values, of which the first ``keep[0]`` bytes belong to the one before, and those from
        ``keep[1]`` on to the one after.
    ends
        What the last value ends with; None when the body does.
    """
    left = b""
    while more := source.read(BLOCK_BYTES):
        left += more
        end = left.find(ends) if ends is not None else -1
        if end >= 0:
            yield left[: end + keep[0]]
            if isinstance(source, _Ahead):
                source.give_back(left[end + len(ends or b"") :])
            else:
                while source.read(BLOCK_BYTES):
                    pass
            return
        cut = left.rfind(between)
        if cut >= 0:
            yield left[: cut + keep[0]]
            left = left[cut + keep[1] :]
    if left:
        yield left
