"""Bodies of requests, read no further than allowed: small ones into memory, files onto the disk."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import anyio.to_thread
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from server.errors import HttpError

_MOST_FIELD_BYTES = 10_000  # of a form's fields beside the file


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body.

    Raises
    ------
    HttpError
        413 when it is longer than ``most_bytes``.
    """
    pieces = [piece async for piece in _limited(request, most_bytes)]
    return b"".join(pieces)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that came with a request. ``filename`` is what its sender calls it, without folders."""

    path: Path
    filename: str
    fields: Mapping[str, str]


#: What a body without a name is called, by its media type.
_NAMES = {
    b"text/csv": "upload.csv",
    b"application/x-ndjson": "upload.jsonl",
    b"application/jsonl": "upload.jsonl",
    b"application/vnd.apache.arrow.file": "upload.arrow",
    b"application/vnd.apache.arrow.stream": "upload.arrow",
    b"application/vnd.apache.parquet": "upload.parquet",
}


async def receive_file(request: Request, into: Path, most_bytes: int) -> Upload:
    """Write the file that a request brings to the new file ``into``.

    It is the whole body, or the field ``file`` of a multipart form, whose other fields come along.

    Raises
    ------
    HttpError
        413 when the body is longer than ``most_bytes``, 400 when it is no form that can be read.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    with await anyio.to_thread.run_sync(into.open, "xb") as file:
        if kind != b"multipart/form-data":
            size = 0
            async for piece in _limited(request, most_bytes):
                size += len(piece)
                await anyio.to_thread.run_sync(file.write, piece)
            if not size:
                raise HttpError(400, "bad_request", "the body is empty; send the file itself, or a form with it")
            return Upload(into, _NAMES.get(kind.lower(), ""), {})
        try:
            form = _Form(file, options[b"boundary"])
            async for piece in _limited(request, most_bytes):
                await anyio.to_thread.run_sync(form.feed, piece)
            return Upload(into, *form.finish())
        except (FormParserError, KeyError, UnicodeDecodeError) as error:
            raise HttpError(400, "bad_request", "the multipart form cannot be read") from error


async def _limited(request: Request, most_bytes: int) -> AsyncIterator[bytes]:
    too_large = HttpError(413, "body_too_large", f"the body is longer than the {most_bytes} bytes that are taken")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most_bytes:
        raise too_large
    size = 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > most_bytes:
                raise too_large
            if piece:
                yield piece
    except ClientDisconnect as error:
        raise HttpError(400, "bad_request", "the body was cut off") from error


class _Form:
    """Takes a multipart form apart as it comes: the file goes to the disk, fields stay."""

    def __init__(self, file: IO[bytes], boundary: bytes) -> None:
        self._file = file
        self._fields: dict[str, str] = {}
        self._filename: str | None = None
        self._header: tuple[bytearray, bytearray] = (bytearray(), bytearray())
        self._disposition = b""
        self._value = bytearray()
        self._name = ""
        self._is_file = False
        self._ended = False
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._take,
            "on_part_end": self._end,
            "on_end": self._finish,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, data: bytes) -> None:
        self._parser.write(data)

    def finish(self) -> tuple[str, dict[str, str]]:
        """The file's name and the fields."""
        self._parser.finalize()
        if not self._ended:
            raise FormParserError("the form has no end")
        if self._filename is None:
            raise HttpError(400, "bad_request", "the form has no field named file with a file in it", param="file")
        return self._filename, self._fields

    def _begin(self) -> None:
        self._disposition = b""
        self._value.clear()

    def _end_header(self) -> None:
        name, value = self._header
        if bytes(name).lower() == b"content-disposition":
            self._disposition = bytes(value)
        self._header = (bytearray(), bytearray())

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode("utf-8")
        self._is_file = b"filename" in options
        if self._is_file:
            if self._name != "file" or self._filename is not None:
                raise HttpError(400, "bad_request", "the form has one file, in the field named file", param=self._name)
            self._filename = options[b"filename"].decode("utf-8")

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._file.write(data[start:end])
        else:
            self._value.extend(data[start:end])
            if len(self._value) > _MOST_FIELD_BYTES:
                raise HttpError(413, "body_too_large", f"the field {self._name} is too long", param=self._name)

    def _end(self) -> None:
        if not self._is_file:
            self._fields[self._name] = self._value.decode("utf-8")

    def _finish(self) -> None:
        self._ended = True
