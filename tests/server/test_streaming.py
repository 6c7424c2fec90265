"""The response that sends what a thread makes: driven as an ASGI server would."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
import pytest

from server.streaming import Head, ProducedResponse


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
