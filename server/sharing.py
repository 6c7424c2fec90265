"""One answer for many requests: it is kept for later ones, and equal ones at the same time share it while it is made.

Makes no answer itself. What may be shared is decided by the routes: a GET of a query, and nothing else. Two requests
are equal when they have the same target and would get the same format, coding and CORS headers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import cast

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.footing import Footing
from server.answer import KEEP
from server.errors import HttpError
from server.kept import KeptAnswer, KeptAnswers, Key, RawHeaders
from server.negotiation import MOST_REMEMBERED, choose_coding, choose_format
from server.routes.query_route import QueryRoutes


class Sharing:
    """Stands before all else of an application.

    Parameters
    ----------
    origins
        Those whose requests are answered with CORS headers of their own.
    most_bytes
        Of answers that are kept; with 0 nothing is shared either, and each request is worked for.
    """

    def __init__(self, app: ASGIApp, routes: QueryRoutes, origins: Collection[str], most_bytes: int) -> None:
        self._app = app
        self._routes = routes
        self._origins = frozenset(origin.encode("latin-1") for origin in origins)
        self.kept = KeptAnswers(most_bytes)
        self.flights: dict[Key, Flight] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if not self.kept.most_bytes or scope["type"] != "http" or scope["method"] != "GET":
            return await self._app(scope, receive, send)
        headers = dict(cast(RawHeaders, scope["headers"]))
        accept, accept_encoding = headers.get(b"accept", b""), headers.get(b"accept-encoding", b"")
        is_odd = len(headers) != len(scope["headers"])  # which of several counts is for the routes to say
        if is_odd or len(accept) > MOST_REMEMBERED or len(accept_encoding) > MOST_REMEMBERED:
            return await self._app(scope, receive, send)
        key = self._key(scope, headers)
        if_none_match = headers.get(b"if-none-match")
        kept = self.kept.get(key)
        if kept is not None and kept.fits(if_none_match):
            return await kept.send(if_none_match, started, send)
        if self._routes.find(scope) is None:
            return await self._app(scope, receive, send)
        if if_none_match is not None:  # the answer to it is no answer to the others
            return await self._lead(key, None, scope, receive, send)
        flight = self.flights.get(key)
        if flight is None:
            flight = self.flights[key] = Flight()
            return await self._lead(key, flight, scope, receive, send)
        if not await flight.wait(receive):
            return None  # the client went away
        shared = flight.kept
        if shared is not None and shared.footing.holds:
            return await shared.send(None, started, send)
        # It failed, was too long, or things have changed since: what comes of this one is its own affair.
        await self._lead(key, None, scope, receive, send)

    def _key(self, scope: Scope, headers: dict[bytes, bytes]) -> Key:
        origin = headers.get(b"origin")
        return (
            scope["path"],
            scope["query_string"],
            _form(headers.get(b"accept")),
            _coding(headers.get(b"accept-encoding")),
            origin if origin is None or origin in self._origins else b"",
            scope.get("root_path"),
        )

    async def _lead(self, key: Key, flight: Flight | None, scope: Scope, receive: Receive, send: Send) -> None:
        recorder = _Recorder(send, lambda kept: self._land(key, flight, kept))
        scope[KEEP] = recorder.keep
        try:
            await self._app(scope, receive if flight is None else flight.receiver(receive), recorder)
        finally:
            if flight is not None:
                self._end(key, flight, None)

    def _land(self, key: Key, flight: Flight | None, kept: KeptAnswer | None) -> None:
        if kept is not None:
            self.kept.put(key, kept)
        if flight is not None:
            self._end(key, flight, kept if kept is not None and kept.body is not None else None)

    def _end(self, key: Key, flight: Flight, kept: KeptAnswer | None) -> None:
        if self.flights.get(key) is flight:
            del self.flights[key]
        flight.land(kept)


class Flight:
    """An answer that is being made, and how many wait for it beside the request that it is made for."""

    def __init__(self) -> None:
        self.kept: KeptAnswer | None = None
        self._landed = anyio.Event()
        self._left = anyio.Event()  # since somebody waited, all of them went away
        self.waiting = 0

    def land(self, kept: KeptAnswer | None) -> None:
        """Give what was made to all who wait, or tell them that there is nothing for them. The first call counts."""
        if not self._landed.is_set():
            self.kept = kept
            self._landed.set()
            self._left.set()

    async def wait(self, receive: Receive) -> bool:
        """Wait for the landing; False when the client went away before."""
        self.waiting += 1
        if self._left.is_set():
            self._left = anyio.Event()
        is_gone = False

        async def watch() -> None:
            nonlocal is_gone
            while (await receive())["type"] != "http.disconnect":
                pass
            is_gone = True
            group.cancel_scope.cancel()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(watch)
                await self._landed.wait()
                group.cancel_scope.cancel()
        finally:
            self.waiting -= 1
            if not self.waiting:
                self._left.set()
        return not is_gone

    def receiver(self, receive: Receive) -> Receive:
        """``receive`` that keeps it back that the client has gone, for as long as others wait for what is made."""

        async def received() -> Message:
            message = await receive()
            while message["type"] == "http.disconnect" and self.waiting and not self._landed.is_set():
                await self._left.wait()
            return message

        return received


class _Recorder:
    """Passes on what is sent, and tells of it as soon as it is known: None where it is nothing to be given again."""

    def __init__(self, send: Send, told: Callable[[KeptAnswer | None], None]) -> None:
        self._send = send
        self._told = told
        self._footing: Footing | None = None
        self._start: Message | None = None

    def keep(self, footing: Footing | None) -> None:
        """See ``answer.KEEP``: called by a worker thread, before anything is sent."""
        self._footing = footing

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        elif self._start is not None:
            start, self._start = self._start, None
            self._told(self._kept(start, message))
        await self._send(message)

    def _kept(self, start: Message, first: Message) -> KeptAnswer | None:
        if self._footing is None or start["status"] not in (200, 304):
            return None
        is_whole = start["status"] == 200 and not first.get("more_body")
        return KeptAnswer.of(start["headers"], first.get("body", b"") if is_whole else None, self._footing)


# Reading a header takes longer than finding a kept answer, and there are few of them.
@lru_cache(maxsize=1_024)
def _form(accept: bytes | None) -> str | None:
    """The name of the format that a request gets if it names none; None when there is none."""
    try:
        return choose_format(None if accept is None else accept.decode("latin-1")).name
    except HttpError:
        return None


@lru_cache(maxsize=1_024)
def _coding(accept_encoding: bytes | None) -> tuple[str | None, bool] | None:
    """The content coding that a request gets; None when there is none."""
    try:
        coding = choose_coding(None if accept_encoding is None else accept_encoding.decode("latin-1"))
    except HttpError:
        return None
    return coding.name, coding.is_forced
