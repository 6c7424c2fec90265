"""The response that sends what a thread makes: driven as an ASGI server would, and by a real one over sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import http.client
import json
import re
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio.to_thread
import duckdb
import pytest

from engine import Engine, EngineConfig
from server.streaming import Head, ProducedResponse
from tests.object_storage.processes import running, url_of


class _Made:
    """A production whose pieces and failures a test decides."""

    def __init__(self, make: Callable[[_Made], Iterator[bytes]], size: int | None = None) -> None:
        self.make = make
        self.size = size
        self.cancelled = threading.Event()
        self.closed = 0

    def begin(self) -> tuple[Head, Iterator[bytes]]:
        return Head({"X-Made": "yes"}, self.size), self.make(self)

    def cancel(self) -> None:
        self.cancelled.set()

    def close(self) -> None:
        self.closed += 1


async def _drive(made: _Made, *, leave_after: int | None = None, http_version: str = "1.1") -> list[dict[str, Any]]:
    """What is sent. The client goes away after that many messages."""
    sent: list[dict[str, Any]] = []
    is_gone = asyncio.Event()
    if leave_after == 0:
        is_gone.set()

    async def receive() -> dict[str, Any]:
        await is_gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(dict(message))
        if leave_after is not None and len(sent) >= leave_after:
            is_gone.set()

    scope = {"type": "http", "http_version": http_version, "method": "GET"}
    await asyncio.wait_for(ProducedResponse(made, {"ETag": '"x"'})(scope, receive, send), 10)
    return sent


def _body(sent: list[dict[str, Any]]) -> bytes:
    assert sent[-1].get("more_body") is False
    return b"".join(message.get("body", b"") for message in sent)


def _three(_: _Made) -> Iterator[bytes]:
    yield b"one,"
    yield b""
    yield b"two,"
    yield b"three"


def test_pieces_go_out_in_order() -> None:
    made = _Made(_three)
    sent = asyncio.run(_drive(made))
    assert _body(sent) == b"one,two,three"
    assert dict(sent[0]["headers"]) == {b"etag": b'"x"', b"x-made": b"yes"}
    assert made.closed == 1
    assert not made.cancelled.is_set()


def test_a_body_of_known_length_is_one_message() -> None:
    sent = asyncio.run(_drive(_Made(lambda _: iter([b"whole"]), size=5)))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert dict(sent[0]["headers"])[b"content-length"] == b"5"


def test_no_piece_at_all() -> None:
    assert _body(asyncio.run(_drive(_Made(lambda _: iter([]))))) == b""


def test_http_1_0_gets_a_length() -> None:
    sent = asyncio.run(_drive(_Made(_three), http_version="1.0"))
    assert dict(sent[0]["headers"])[b"content-length"] == b"13"
    assert _body(sent) == b"one,two,three"


def test_an_answer_goes_on_while_others_wait_for_a_place() -> None:
    """All threads for new requests are taken, as when each of them waits for an answer like this one to end."""
    made = _Made(_three)

    async def drive() -> bytes:
        newcomers = anyio.to_thread.current_default_thread_limiter()
        waiting: list[object] = []
        body = bytearray()

        async def send(message: Any) -> None:
            while newcomers.available_tokens:
                waiting.append(object())
                newcomers.acquire_on_behalf_of_nowait(waiting[-1])
            body.extend(message.get("body", b""))

        async def receive() -> Any:
            await asyncio.Event().wait()

        response = ProducedResponse(made, {})
        await asyncio.wait_for(response({"type": "http", "http_version": "1.1"}, receive, send), 10)
        return bytes(body)

    assert asyncio.run(drive()) == b"one,two,three"
    assert made.closed == 1


def test_a_failure_before_the_first_piece_sends_nothing() -> None:
    def fail(_: _Made) -> Iterator[bytes]:
        raise ValueError("early")
        yield b""

    made = _Made(fail)
    with pytest.raises(ValueError, match="early"):
        asyncio.run(_drive(made))
    assert made.closed == 1


def test_a_failure_at_the_start_too() -> None:
    class Broken(_Made):
        def begin(self) -> tuple[Head, Iterator[bytes]]:
            raise KeyError("start")

    made = Broken(_three)
    with pytest.raises(KeyError):
        asyncio.run(_drive(made))
    assert made.closed == 1


def test_a_later_failure_never_ends_the_body() -> None:
    def fail(_: _Made) -> Iterator[bytes]:
        yield b"one"
        raise ValueError("late")

    made = _Made(fail)
    sent: list[Any] = []

    async def drive() -> None:
        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        await ProducedResponse(made, {})({"type": "http", "http_version": "1.1"}, receive, send)

    with pytest.raises(ValueError, match="late"):
        asyncio.run(drive())
    assert all(message.get("more_body", True) for message in sent)
    assert made.closed == 1


def test_a_client_that_leaves_stops_the_work() -> None:
    closed = threading.Event()

    def endless(made: _Made) -> Iterator[bytes]:
        try:
            while True:
                time.sleep(0.005)
                yield b"more"
        finally:
            closed.set()

    made = _Made(endless)
    asyncio.run(_drive(made, leave_after=5))
    assert made.cancelled.is_set()
    assert made.closed == 1
    assert closed.is_set()


def test_large_pieces_go_out_in_parts() -> None:
    pieces = [b"x" * 1_000_000, b"y" * 10]
    sent = asyncio.run(_drive(_Made(lambda _: iter(pieces))))
    assert _body(sent) == b"".join(pieces)
    assert max(len(message.get("body", b"")) for message in sent) <= 256 << 10


def test_a_client_that_does_not_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.streaming.MAX_STALL_S", 0.05)
    made = _Made(_three)

    async def drive() -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        async def receive() -> Any:
            await asyncio.Event().wait()

        await ProducedResponse(made, {})({"type": "http", "http_version": "1.1"}, receive, send)

    with pytest.raises(TimeoutError):
        asyncio.run(drive())
    assert made.closed == 1


def test_a_client_that_leaves_while_the_work_is_starting() -> None:
    class Slow(_Made):
        def begin(self) -> tuple[Head, Iterator[bytes]]:
            assert self.cancelled.wait(5)
            raise RuntimeError("stopped")

    made = Slow(_three)
    assert asyncio.run(_drive(made, leave_after=0)) == []
    assert made.closed == 1


@pytest.mark.parametrize("where", ["at the start", "later", "not at all"])
def test_nothing_of_an_answer_is_left_to_the_garbage_collector(where: str) -> None:
    """It does not know how large the rows are that a ring of objects holds, and comes when it is much too late."""

    class Rows:
        pass

    held: list[weakref.ref[Rows]] = []

    class Large(_Made):
        def begin(self) -> tuple[Head, Iterator[bytes]]:
            rows = self.rows = Rows()
            held.append(weakref.ref(rows))
            if where == "at the start":
                raise ValueError(where)
            return super().begin()

    def make(_: _Made) -> Iterator[bytes]:
        yield b"one"
        if where == "later":
            raise ValueError(where)
        yield b"two"

    async def receive() -> Any:
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        pass

    async def drive() -> list[bool]:
        for _ in range(3):
            with contextlib.suppress(ValueError):
                await ProducedResponse(Large(make), {})({"type": "http", "http_version": "1.1"}, receive, send)
        await asyncio.sleep(0)
        return [rows() is None for rows in held]

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(drive()) == [True] * 3
    finally:
        gc.enable()


ROWS = 2_000_000
FORMATS = ["json", "columns", "ndjson", "csv", "arrow", "parquet"]
MOST_GROWTH_BYTES = 96 << 20  # for one answer of up to 200 MB


class Live:
    """A server of its own with one place for short answers and one for long ones."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid

    def open(self, path: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Accept-Encoding": "identity"})
        return connection, connection.getresponse()

    def status(self, path: str) -> int:
        connection, response = self.open(path)
        with contextlib.closing(connection):
            return response.status

    def begin(self, path: str) -> socket.socket:
        """A client that has read the beginning of an answer, and goes no further."""
        client = socket.socket()
        client.settimeout(60)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.connect(("127.0.0.1", self.port))
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: identity\r\n\r\n".encode())
        assert client.recv(1 << 10).startswith(b"HTTP/1.1 200"), path
        return client

    def resident_bytes(self) -> int:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) << 10


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("streaming")
    # Values that no format makes small, or all of an answer would lie in the buffers of sockets.
    duckdb.execute(
        f"COPY (SELECT range AS n, hash(range) / 3.0 AS v, 'x' || range % 1000 AS t FROM range({ROWS})) "
        f"TO '{folder / 'long.parquet'}' (FORMAT parquet)"
    )
    with Engine(EngineConfig(store=folder / "store", definitions=None)) as engine:
        engine.publish("long", folder / "long.parquet")
    more = {"BT_MAX_CONCURRENT": "2", "BT_QUEUE_TIMEOUT": "0.3", "BT_RESULTS_CACHE": "0", "BT_INGEST": "off"}
    with running(folder / "store", folder / "cache", "serve", "--port", "0", **more) as process:
        port = int(url_of(process).rpartition(":")[2])
        served = Live(port, process.pid)
        for name in FORMATS:  # what each of them needs once is not what an answer takes
            served.begin(path_of(name)).close()
            wait_until_free(served, name)
        yield served


def path_of(name: str) -> str:
    return f"/api/datasets/long/rows?format={name}"


def wait_until_free(live: Live, name: str) -> None:
    """Until a long answer is begun again: that of a client that left gives its place back."""
    until = time.monotonic() + 20
    while True:
        connection, response = live.open(path_of(name))
        with contextlib.closing(connection):
            if response.status == 200:
                return
            assert response.status == 503
        assert time.monotonic() < until, "the place of a client that left was never given back"


@pytest.mark.parametrize("name", FORMATS)
def test_a_client_that_stops_reading_holds_one_long_place_and_little_memory(live: Live, name: str) -> None:
    wait_until_free(live, name)
    before = live.resident_bytes()
    with live.begin(path_of(name)):
        # Others, with other answers each time, are answered meanwhile.
        for number in range(20):
            assert live.status(f"/api/datasets/long/rows?n={FORMATS.index(name) * 100 + number}") == 200
        connection, response = live.open(path_of(name))
        with contextlib.closing(connection):
            assert response.status == 503
            assert int(response.headers["retry-after"]) >= 1
            assert json.loads(response.read())["code"] == "busy"
        assert live.resident_bytes() - before < MOST_GROWTH_BYTES
    wait_until_free(live, name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_client_that_reads_slowly_gets_the_same(live: Live, name: str) -> None:
    wait_until_free(live, name)
    digests, sizes = [], []
    for pause_s in (0.0, 0.002):
        until = time.monotonic() + 20
        connection, response = live.open(path_of(name))
        while response.status == 503 and time.monotonic() < until:  # the one before may be about to give its place back
            connection.close()
            connection, response = live.open(path_of(name))
        digest, size = hashlib.sha256(), 0
        with contextlib.closing(connection):
            assert response.status == 200
            while piece := response.read(1 << 18):
                digest.update(piece)
                size += len(piece)
                time.sleep(pause_s)
        digests.append(digest.digest())
        sizes.append(size)
    assert digests[0] == digests[1]
    assert sizes[0] > 8 * ROWS


@pytest.mark.parametrize("name", FORMATS)
def test_clients_that_leave_in_the_middle_give_everything_back(live: Live, name: str) -> None:
    for _ in range(3):
        wait_until_free(live, name)
        client = live.begin(path_of(name))
        client.recv(1 << 16)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # as when its machine is gone
        client.close()
    wait_until_free(live, name)
