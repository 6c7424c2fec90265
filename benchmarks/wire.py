"""HTTP/1.1 on a raw socket, as little of it as measuring needs: keep-alive, Content-Length, chunked. No compression.

``http.client`` costs 0.2 ms a request, as much as a whole answer of a fast server. This costs about 0.02 ms, and is as
strict as a client must be to notice that an answer is not whole. ``load.py`` uses it in a process of its own, so this
imports the standard library only.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

HOST = "127.0.0.1"
TIMEOUT_S = 300.0
RECEIVE_BYTES = 1 << 20
_LONGEST_HEAD = 1 << 16
_LONGEST_LINE = 1 << 12
_NO_BODY = (204, 304)


class WireError(RuntimeError):
    """What came is no whole HTTP answer."""


def request_bytes(method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes | None = None) -> bytes:
    """A request as it is sent.

    >>> request_bytes("GET", "/x").splitlines()[0]
    b'GET /x HTTP/1.1'

    Raises
    ------
    ValueError
        When the path could not stand in a request line.
    """
    if not path.startswith("/") or any(character <= " " or character > "~" for character in path):
        raise ValueError(f"{path!r} is no path as HTTP has it; percent-encode it")
    given = {"Host": HOST, "Accept": "*/*", **(headers or {})}
    if body is not None:
        given["Content-Length"] = str(len(body))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


@dataclass(slots=True)
class Answer:
    """One answer as it comes in. ``size_bytes`` counts the body, which is kept only when somebody wants it."""

    status: int = 0
    head: bytes = b""
    size_bytes: int = 0
    kept: bytearray | None = None
    keeps_alive: bool = True
    is_chunked: bool = False

    def header(self, name: str) -> str | None:
        """The first header of that name, however it is spelt."""
        wanted = name.lower()
        return next((value for key, value in self.headers() if key.lower() == wanted), None)

    def headers(self) -> Iterator[tuple[str, str]]:
        """Name and value of each."""
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            name, colon, value = line.partition(":")
            if colon:
                yield name, value.strip()


class Parser:
    """One answer out of blocks of bytes, however they are cut. ``feed`` says when it is whole."""

    __slots__ = ("_at_end", "_left", "_pending", "_state", "answer")

    def __init__(self, *, keep: bool) -> None:
        self.answer = Answer(kept=bytearray() if keep else None)
        self._pending = b""  # of a head or a line that is not whole yet
        self._state = "head"
        self._left = 0  # bytes of the body, or of this chunk
        self._at_end = False

    @property
    def has_body(self) -> bool:
        """Whether the first byte of the body is there."""
        return self.answer.size_bytes > 0

    def feed(self, block: memoryview) -> bool:
        """Take what came.

        Raises
        ------
        WireError
            When it is no HTTP, or more came than one answer.
        """
        while not self._at_end and len(block):
            block = self._data(block) if self._state in ("length", "chunk", "close") else self._line(block)
        if self._at_end and len(block):
            raise WireError(f"{len(block)} bytes more than the answer has")
        return self._at_end

    def close(self) -> bool:
        """The other side has closed: whether that ends the answer, which it does for one without a length.

        Raises
        ------
        WireError
            When something is missing.
        """
        if self._state == "close":
            return True
        raise WireError(
            f"the connection was closed in the {self._state} of an answer, after {self.answer.size_bytes:,} bytes"
        )

    def _data(self, block: memoryview) -> memoryview:
        taken = len(block) if self._state == "close" else min(self._left, len(block))
        answer = self.answer
        answer.size_bytes += taken
        if answer.kept is not None:
            answer.kept += block[:taken]
        if self._state != "close":
            self._left -= taken
            if self._left == 0:
                self._at_end = self._state == "length"
                self._state = "end of a chunk" if self._state == "chunk" else self._state
        return block[taken:]

    def _line(self, block: memoryview) -> memoryview:
        """Up to the end of the head or of a line about chunks; what is not whole waits."""
        mark = b"\r\n\r\n" if self._state == "head" else b"\r\n"
        most = _LONGEST_HEAD if self._state == "head" else _LONGEST_LINE
        before = len(self._pending)
        text = self._pending + bytes(block[:most])
        found = text.find(mark)
        if found < 0:
            if len(text) > most:
                raise WireError(f"no end of the {self._state} in {most} bytes")
            self._pending = text
            return block[len(block) :] if len(block) <= most else block[most:]
        self._pending = b""
        self._take(text[:found])
        return block[found + len(mark) - before :]

    def _take(self, text: bytes) -> None:
        if self._state == "head":
            self._head(text)
        elif self._state == "size of a chunk":
            self._left = _number(text.partition(b";")[0], 16)
            self._state = "chunk" if self._left else "trailer"
        elif self._state == "end of a chunk":
            if text:
                raise WireError(f"{text[:20]!r} after a chunk")
            self._state = "size of a chunk"
        elif not text:  # of the trailer
            self._at_end = True

    def _head(self, text: bytes) -> None:
        answer = self.answer
        if text[:7] != b"HTTP/1." or not text[9:12].isdigit():
            raise WireError(f"no HTTP/1 answer: {text[:60]!r}")
        answer.head, answer.status = text, int(text[9:12])
        lower = text.lower()
        answer.keeps_alive = b"\r\nconnection: close" not in lower and text[7:8] == b"1"
        length = _header(lower, b"\r\ncontent-length:")
        if answer.status in _NO_BODY:
            self._at_end = True
        elif b"chunked" in (_header(lower, b"\r\ntransfer-encoding:") or b""):
            answer.is_chunked, self._state = True, "size of a chunk"
        elif length is None:
            self._state = "close"
        else:
            self._left, self._state = _number(length, 10), "length"
            self._at_end = self._left == 0


def _header(lower: bytes, name: bytes) -> bytes | None:
    at = lower.find(name)
    return None if at < 0 else lower[at + len(name) :].partition(b"\r\n")[0].strip()


def _number(text: bytes, base: int) -> int:
    digits = text.strip()
    if not digits or not all(character in b"0123456789abcdefABCDEF" for character in digits):
        raise WireError(f"{text[:20]!r} is no length")
    return int(digits, base)


@dataclass(slots=True)
class Timed:
    """An answer, and what was waited for it: until its first byte, the first byte of its body, the last byte."""

    answer: Answer = field(repr=False)
    head_s: float
    first_s: float
    total_s: float


class Connection:
    """One kept-alive connection, not for two threads at once; opened again when the other side closed it."""

    def __init__(self, port: int, timeout_s: float = TIMEOUT_S) -> None:
        self._address, self._timeout_s = (HOST, port), timeout_s
        self._buffer = memoryview(bytearray(RECEIVE_BYTES))
        self._socket = open_socket(port, timeout_s)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave."""
        self._socket.close()

    def ask(self, request: bytes, *, keep: bool = True) -> Timed:
        """Send and read until the last byte.

        Raises
        ------
        WireError
            When what came is no whole answer.
        OSError
            When the connection fails.
        """
        parser, buffer, clock = Parser(keep=keep), self._buffer, time.perf_counter
        receive = self._socket.recv_into
        head = first = 0.0
        began = clock()
        self._socket.sendall(request)
        while True:
            count = receive(buffer)
            now = clock()
            head = head or now
            if parser.close() if count == 0 else parser.feed(buffer[:count]):
                break
            if not first and parser.has_body:
                first = now
        ended = clock()
        if count == 0 or not parser.answer.keeps_alive:
            self._socket.close()
            self._socket = open_socket(self._address[1], self._timeout_s)
        return Timed(parser.answer, head - began, (first or ended) - began, ended - began)


def open_socket(port: int, timeout_s: float | None) -> socket.socket:
    """Connected, and without waiting for more to send."""
    connected = socket.create_connection((HOST, port), timeout=timeout_s)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected
