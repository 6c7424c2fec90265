"""A proxy in front of an object storage on loopback, which fails, slows down and damages on command, and counts.

It passes each request on byte by byte with its ``Host``, so that signatures stay true; with no fault set it only adds
latency and a limit of bandwidth. HTTP/1.1 as the storages and clients here speak it.
"""

from __future__ import annotations

import io
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

CHUNK = 1 << 16

#: What a fault may do.
KINDS = (
    "refuse",  # close the connection before anything is passed on
    "lose",  # pass the request on, and close the connection in place of the answer
    "answer",  # answer by itself with ``status``, ``headers`` and ``code``; nothing is passed on
    "slow",  # pass the answer's body on with ``rate`` bytes a second
    "stall",  # pass ``at`` bytes of the answer's body on, then nothing for ``seconds``, then close
    "truncate",  # pass ``at`` bytes of the answer's body on, then close
    "reset",  # the same, but with a TCP reset
    "flip",  # turn one bit of the answer's body, at byte ``at``
    "flip-upload",  # turn one bit of the request's body, at byte ``at``
)


@dataclass
class Fault:
    """One kind of fault, for some of the requests that match.

    ``method`` and ``path`` (a part of path and query) say which match, empty for all. The first ``skip`` of them pass,
    the ``times`` after that suffer. ``hits`` counts those.
    """

    kind: str
    method: str = ""
    path: str = ""
    skip: int = 0
    times: int = 1
    at: int = 0
    status: int = 503
    code: str = "SlowDown"
    headers: dict[str, str] = field(default_factory=dict)
    rate: float = 100_000.0
    seconds: float = 60.0
    hits: int = 0

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    def matches(self, method: str, path: str) -> bool:
        return self.method in ("", method) and self.path in path


@dataclass(frozen=True)
class Seen:
    """One request that came by: its bytes are those of the bodies."""

    method: str
    path: str
    status: int  # 0 when no answer was passed on
    bytes_up: int
    bytes_down: int


class _EndError(Exception):
    """This connection ends here, on purpose or since its other side went."""


class FaultProxy:
    """Listens on a free port of loopback from ``start`` to ``stop``; a context manager does both.

    Parameters
    ----------
    target
        ``http://127.0.0.1:port`` of the storage.
    latency_s
        Added to each request.
    bandwidth
        Bytes a second of all bodies together, in each direction; None for no limit.
    """

    def __init__(self, target: str, *, latency_s: float = 0.0, bandwidth: float | None = None) -> None:
        parts = urlsplit(target)
        self.target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self.latency_s = latency_s
        self.up, self.down = _Pace(bandwidth), _Pace(bandwidth)
        self.seen: list[Seen] = []
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        self._spawn(self._accept)
        return self

    def stop(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)

    # --- what goes wrong

    def add(self, kind: str, **settings: object) -> Fault:
        """Set one more fault; the first that applies to a request counts."""
        fault = Fault(kind, **settings)  # type: ignore[arg-type]
        with self._lock:
            self._faults.append(fault)
        return fault

    def clear(self) -> None:
        """Back to passing everything on."""
        with self._lock:
            self._faults.clear()

    def forget(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.seen = []

    # --- what came by

    @property
    def requests(self) -> Counter[str]:
        """Method → how many."""
        return Counter(seen.method for seen in self.seen)

    @property
    def bytes_down(self) -> Counter[str]:
        """Method → bytes of answers' bodies."""
        total: Counter[str] = Counter()
        for seen in self.seen:
            total[seen.method] += seen.bytes_down
        return total

    @property
    def bytes_up(self) -> Counter[str]:
        """Method → bytes of requests' bodies."""
        total: Counter[str] = Counter()
        for seen in self.seen:
            total[seen.method] += seen.bytes_up
        return total

    # --- the work

    def _spawn(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        with self._lock:
            self._threads = [*(item for item in self._threads if item.is_alive()), thread]
        thread.start()

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        upstream = _Upstream(self.target)
        try:
            reader = client.makefile("rb")
            with reader:
                while not self._stopped.is_set() and self._exchange(client, reader, upstream):
                    pass
        except (OSError, _EndError, ValueError):
            pass
        finally:
            upstream.close()
            with self._lock:
                self._open.discard(client)
            client.close()

    def _exchange(self, client: socket.socket, reader: object, upstream: _Upstream) -> bool:
        """One request and its answer; False when the connection is over."""
        head = _read_head(reader)
        if head is None:
            return False
        method, path = head.line.split(" ")[:2]
        fault = self._fault_for(method, path)
        kind = fault.kind if fault else ""
        if self.latency_s:
            time.sleep(self.latency_s)
        if kind == "refuse":
            self._note(method, path, 0, 0, 0)
            return False
        if head.get("expect").lower() == "100-continue":
            client.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            head.drop("expect")
        size = int(head.get("content-length") or 0)
        if kind == "answer":
            assert fault is not None
            for _ in _chunks(reader, size):
                pass
            body = b"" if method == "HEAD" else _error_body(fault.code)
            client.sendall(_answer_head(fault, len(body)) + body)
            self._note(method, path, fault.status, size, len(body))
            return True
        upstream.send(head.encode())
        sent = 0
        for chunk in _chunks(reader, size):
            if kind == "flip-upload" and fault is not None and sent <= fault.at < sent + len(chunk):
                chunk = _flipped(chunk, fault.at - sent)
            self.up.wait(len(chunk))
            upstream.send(chunk)
            sent += len(chunk)
        answer = upstream.head()
        status = int(answer.line.split(" ")[1])
        if kind == "lose":
            upstream.close()
            self._note(method, path, 0, size, 0)
            return False
        return self._pass_on(client, upstream, answer, method, path, status, size, fault)

    def _pass_on(
        self,
        client: socket.socket,
        upstream: _Upstream,
        answer: _Head,
        method: str,
        path: str,
        status: int,
        sent: int,
        fault: Fault | None,
    ) -> bool:
        has_body = method != "HEAD" and status not in (204, 304) and status >= 200
        length = answer.get("content-length")
        size = (int(length) if length else None) if has_body else 0
        # After a refusal a storage may close at any moment, without having said so.
        is_last = status >= 400 or answer.line.startswith("HTTP/1.0") or answer.get("connection").lower() == "close"
        answer.line = "HTTP/1.1 " + answer.line.split(" ", 1)[1]
        answer.drop("connection")
        is_chunked = has_body and answer.get("transfer-encoding").lower() == "chunked"
        if is_chunked:  # of listings only, which are small: passed on in one piece
            body = b"".join(_dechunked(upstream.reader))
            size = len(body)
            answer.drop("transfer-encoding")
            answer.headers.append(("Content-Length", str(size)))
            source: object = io.BytesIO(body)
        else:
            source = upstream.reader
        if size is None:
            answer.headers.append(("Connection", "close"))
        noted = fault is None and size is not None
        if noted:  # before the client has it, who may count at once
            self._note(method, path, status, sent, size or 0)
        client.sendall(answer.encode())
        passed = 0
        try:
            for chunk in _chunks(source, size):
                self._shaped(client, chunk, passed, fault)
                passed += len(chunk)
        finally:
            if not noted:
                self._note(method, path, status, sent, passed)
            if is_last or size is None or passed != size:
                upstream.close()
        return size is not None

    def _shaped(self, client: socket.socket, chunk: bytes, passed: int, fault: Fault | None) -> None:
        self.down.wait(len(chunk))
        kind = fault.kind if fault else ""
        if fault is None or kind not in ("slow", "stall", "truncate", "reset", "flip"):
            client.sendall(chunk)
            return
        if kind == "slow":
            piece = max(1, int(fault.rate / 20))
            for start in range(0, len(chunk), piece):
                client.sendall(chunk[start : start + piece])
                if self._stopped.wait(len(chunk[start : start + piece]) / fault.rate):
                    raise _EndError
            return
        if not passed <= fault.at < passed + len(chunk):
            client.sendall(chunk)
            return
        if kind == "flip":
            client.sendall(_flipped(chunk, fault.at - passed))
            return
        client.sendall(chunk[: fault.at - passed])
        if kind == "stall":
            self._stopped.wait(fault.seconds)
        if kind == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise _EndError

    def _fault_for(self, method: str, path: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if not fault.matches(method, path) or fault.times <= 0:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                fault.hits += 1
                return fault
        return None

    def _note(self, method: str, path: str, status: int, up: int, down: int) -> None:
        with self._lock:
            self.seen.append(Seen(method, path, status, up, down))


class _Pace:
    """Bytes of one direction, of all connections together, at a limited rate."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait(self, amount: int) -> None:
        if self.rate is None:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + amount / self.rate
            wait_s = self._free_at - now
        if wait_s > 0.001:
            time.sleep(wait_s)


@dataclass
class _Head:
    line: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        return next((value for key, value in self.headers if key.lower() == name), "")

    def drop(self, name: str) -> None:
        self.headers = [item for item in self.headers if item[0].lower() != name]

    def encode(self) -> bytes:
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Upstream:
    """The connection to the storage, made when it is needed and kept while both sides want it."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._socket: socket.socket | None = None
        self.reader: object = None

    def send(self, data: bytes) -> None:
        if self._socket is not None and data[:1].isalpha() and select.select([self._socket], [], [], 0)[0]:
            self.close()  # between two requests there is nothing to read but the end
        if self._socket is None:
            self._socket = socket.create_connection(self._target)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.reader = self._socket.makefile("rb")
        self._socket.sendall(data)

    def head(self) -> _Head:
        while True:
            head = _read_head(self.reader)
            if head is None:
                raise _EndError
            if not head.line.split(" ")[1].startswith("1"):
                return head

    def close(self) -> None:
        if self._socket is not None:
            self.reader.close()  # type: ignore[attr-defined]
            self._socket.close()
            self._socket = None


def _read_head(reader: object) -> _Head | None:
    line = reader.readline().decode("latin-1").rstrip("\r\n")  # type: ignore[attr-defined]
    if not line:
        return None
    headers = []
    while text := reader.readline().decode("latin-1").rstrip("\r\n"):  # type: ignore[attr-defined]
        name, _, value = text.partition(":")
        headers.append((name, value.strip()))
    return _Head(line, headers)


def _chunks(reader: object, size: int | None):  # type: ignore[no-untyped-def]
    left = CHUNK if size is None else size
    while left > 0:
        chunk = reader.read1(min(CHUNK, left))  # type: ignore[attr-defined]
        if not chunk:
            if size is None:
                return
            raise _EndError
        if size is not None:
            left -= len(chunk)
        yield chunk


def _dechunked(reader: object):  # type: ignore[no-untyped-def]
    while size := int(reader.readline().split(b";")[0], 16):  # type: ignore[attr-defined]
        yield from _chunks(reader, size)
        reader.readline()  # type: ignore[attr-defined]
    while reader.readline().strip():  # type: ignore[attr-defined]  # trailers
        pass


def _flipped(chunk: bytes, at: int) -> bytes:
    return chunk[:at] + bytes([chunk[at] ^ 1]) + chunk[at + 1 :]


def _error_body(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>a fault of the proxy</Message></Error>'.encode()


def _answer_head(fault: Fault, size: int) -> bytes:
    headers = {"Content-Type": "application/xml", "Content-Length": str(size), **fault.headers}
    lines = [f"HTTP/1.1 {fault.status} Fault", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
