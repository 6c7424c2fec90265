"""Sends what a worker thread makes, piece by piece, and stops it as soon as nobody listens. Makes nothing itself.

A failure before the first piece is an ordinary error. A later one aborts the connection: without the end that HTTP
gives a whole body, a cut answer cannot pass for one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, TypeVarTuple, cast

import anyio
import anyio.to_thread
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

MAX_STALL_S = 60.0  # for 256 KiB: who reads slower than a modem is not reading
_SEND_BYTES = 256 << 10
_SPOOL_BYTES = 4 << 20  # for each client of HTTP 1.0
_COPY_BYTES = 1 << 20

_Made = TypeVar("_Made")
_Given = TypeVarTuple("_Given")

# Threads of their own for answers that hold a place in the engine: were all threads taken by requests that wait for
# one, no answer could go on and give its own back.
_GOING_ON = anyio.CapacityLimiter(64)


@dataclass(frozen=True, slots=True)
class Head:
    """What goes before the body. ``size`` is its length when that is known."""

    headers: Mapping[str, str] = field(default_factory=dict)
    size: int | None = None


class Production(Protocol):
    """Something that makes a body. All its methods but ``cancel`` are called one at a time, in worker threads."""

    def begin(self) -> tuple[Head, Iterator[bytes]]:
        """Start the work; raises what shall become a problem document."""

    def cancel(self) -> None:
        """Stop what is under way. May be called from any thread, at any time, more than once."""

    def close(self) -> None:
        """Give back what is held. Called in all cases, once."""


class ProducedResponse(Response):
    """A 200 whose body a production makes."""

    def __init__(self, production: Production, headers: Mapping[str, str]) -> None:
        self._production = production
        self._pieces: Iterator[bytes] = iter(())
        self._is_whole = False
        self.status_code = 200
        self.background = None
        self.init_headers(headers)

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        self.raw_headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: Exception | None = None
        is_over = is_gone = False

        async def watch() -> None:
            """Wait until the client is gone, then stop everything."""
            nonlocal is_gone
            while (await receive())["type"] != "http.disconnect":
                pass
            if not is_over:
                is_gone = True
                # In a thread: it may have to wait for the engine to notice.
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._production.cancel, limiter=_GOING_ON)
                group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                try:
                    await self._send(scope, send)
                except Exception as error:
                    failure = error  # carried out by hand: a task group would wrap it
                is_over = True
                group.cancel_scope.cancel()
        finally:
            if self._is_whole:
                self._finish()  # nothing is held any more, and a trip to a thread costs as much as a small answer
            else:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._finish, limiter=_GOING_ON)
        try:
            if failure is not None and not is_gone:
                raise failure
        finally:
            failure = None  # its traceback holds this frame: see _in_thread

    async def _send(self, scope: Scope, send: Send) -> None:
        head, piece = await _in_thread(self._begin, scope.get("http_version") == "1.0")
        headers = MutableHeaders(raw=list(self.raw_headers))
        headers.update(head.headers)
        if head.size is not None:
            headers["content-length"] = str(head.size)
        await send({"type": "http.response.start", "status": self.status_code, "headers": headers.raw})
        while piece is not None and not self._is_whole:
            await _send_part(send, piece)
            piece = await _in_thread(_next, self._pieces, limiter=_GOING_ON)
        await send({"type": "http.response.body", "body": piece or b"", "more_body": False})

    def _begin(self, must_be_measured: bool) -> tuple[Head, bytes | None]:
        """Start the work up to the first piece, which decides whether there is an answer at all."""
        head, self._pieces = self._production.begin()
        if head.size is None and must_be_measured:
            # HTTP 1.0 cannot tell the end of a body from a lost connection, unless its length goes first.
            head, self._pieces = _measure(head, self._pieces)
        piece = _next(self._pieces)
        self._is_whole = len(piece or b"") == head.size
        return head, piece

    def _finish(self) -> None:
        """Give back what is held, and let go of it: AnyIO leaves this response in a ring of its task group's."""
        close = getattr(self._pieces, "close", None)
        if close is not None:
            close()
        self._pieces = iter(())
        self._production.close()
        del self._production


class HeadOnlyResponse(Response):
    """What a GET would be answered with, as far as it is known without running the query."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(None, headers=headers)
        del self.headers["content-length"]  # of a body that nobody made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _send_part(send: Send, piece: bytes) -> None:
    """Send a piece that others follow; raises TimeoutError when the client takes none of it for too long.

    While it waits, the rows to come hold their place in the engine, and others cannot have it.
    """
    for start in range(0, len(piece), _SEND_BYTES):
        with anyio.fail_after(MAX_STALL_S):
            await send({"type": "http.response.body", "body": piece[start : start + _SEND_BYTES], "more_body": True})


async def _in_thread(
    work: Callable[[*_Given], _Made], *given: *_Given, limiter: anyio.CapacityLimiter | None = None
) -> _Made:
    """What ``work`` gives, or raises, in a worker thread.

    An error that AnyIO itself carries from there is held by a frame in its own traceback. As a ring, they and the rows
    that were read would stay until the collector comes, which knows nothing of how large those are: 227 refused answers
    of 84,000 rows took 400 MB.
    """
    made, error = await anyio.to_thread.run_sync(_outcome, work, given, limiter=limiter)
    try:
        if error is not None:
            raise error
    finally:
        del error
    return cast(_Made, made)


def _outcome(work: Callable[[*_Given], _Made], given: tuple[*_Given]) -> tuple[_Made | None, Exception | None]:
    try:
        return work(*given), None
    except Exception as error:
        return None, error


def _next(pieces: Iterator[bytes]) -> bytes | None:
    """The next piece that holds something."""
    for piece in pieces:
        if piece:
            return piece
    return None


def _measure(head: Head, pieces: Iterator[bytes]) -> tuple[Head, Iterator[bytes]]:
    """The same body from a file, with its length."""
    spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - closed with the last piece
    try:
        for piece in pieces:
            spool.write(piece)
    except BaseException:
        spool.close()
        raise
    size = spool.tell()
    spool.seek(0)

    def read() -> Iterator[bytes]:
        with spool:
            while piece := spool.read(_COPY_BYTES):
                yield piece

    return Head(head.headers, size), read()
