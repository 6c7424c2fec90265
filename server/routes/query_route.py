"""Routes whose answer is that of a query. Their functions only read a question; how it is answered is in one place.

FastAPI documents them. What it would do for each request beside that costs as much as reading a query: looking through
all routers for a path, resolving what functions depend on, a trip to a worker thread before the one that answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.engine import Engine
from server.answer import QueryResponse, Question
from server.bodies import read_body
from server.errors import LISTED, ProblemMiddleware, answer_error
from server.parameters import Pairs, read_pairs
from server.settings import Settings

_FOUND = "bytomorrow.query_route"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a question is read from, beside the parts of the path."""

    engine: Engine
    settings: Settings
    path: str
    pairs: Pairs
    body: bytes = b""


async def _never() -> None:
    """FastAPI knows that ``asked`` is no parameter of the request, and never asks for it."""
    raise AssertionError("a QueryRoute calls its function itself")


Asked = Annotated[Reading, Depends(_never)]


class QueryRoute(APIRoute):
    """A route whose function reads a question: ``(…parts of the path, asked) -> Question``, in a worker thread."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **{**options, "response_model": None})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.respond

    async def respond(self, request: Request) -> Response:
        """The response to a request whose path this is."""
        engine = cast(Engine, request.app.state.engine)
        settings = cast(Settings, request.app.state.settings)
        # Nothing else waits for a body, so none is read but where there may be one.
        body = await read_body(request, settings.max_body_bytes) if request.method == "POST" else b""
        parts: Mapping[str, str] = request.path_params

        def read() -> Question:
            pairs = read_pairs(request.scope.get("query_string", b""))
            asked = Reading(engine, settings, request.url.path, pairs, body)
            return cast(Question, self.endpoint(**parts, asked=asked))

        return QueryResponse(request, engine, read)


class QueryRoutes:
    """The query routes of some routers, all below ``prefix``: a path is found without trying one after the other."""

    def __init__(self, prefix: str, routers: Iterable[APIRouter]) -> None:
        self._exact: dict[tuple[str, str], QueryRoute] = {}
        self._patterns: list[tuple[str, re.Pattern[str], QueryRoute]] = []
        for router in routers:
            for route in router.routes:
                if isinstance(route, QueryRoute):
                    for method in route.methods or ():
                        self._add(method, prefix + route.path, route)

    def _add(self, method: str, path: str, route: QueryRoute) -> None:
        if "{" in path:
            self._patterns.append((method, compile_path(path)[0], route))
        else:
            self._exact[method, path] = route

    def find(self, scope: Scope) -> tuple[QueryRoute, Mapping[str, str]] | None:
        """The route of a request, and the parts of its path."""
        known = scope.get(_FOUND)
        if known is not None:
            return cast("tuple[QueryRoute, Mapping[str, str]]", known)
        method, path = scope["method"], scope["path"]
        exact = self._exact.get((method, path))
        found: tuple[QueryRoute, Mapping[str, str]] | None = None
        if exact is not None:
            found = exact, {}
        else:
            for taken, pattern, route in self._patterns:
                if taken == method and (match := pattern.match(path)):
                    found = route, match.groupdict()
                    break
        if found is not None:
            scope[_FOUND] = found
        return found


class QueryShortcut:
    """Answers requests of query routes; hands all others on to ``app``, which would answer these the same."""

    def __init__(self, app: ASGIApp, owner: Any, routes: QueryRoutes) -> None:
        self._app = app
        self._owner = owner
        self._routes = routes
        self._answer = ProblemMiddleware(self._respond)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope.get("root_path") or self._routes.find(scope) is None:
            await self._app(scope, receive, send)
        else:
            await self._answer(scope, receive, send)

    async def _respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._routes.find(scope)
        assert found is not None
        route, parts = found
        scope["app"] = self._owner
        scope["path_params"] = parts
        request = Request(scope, receive)
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = True
            await send(message)

        try:
            response = await route.respond(request)
            await response(scope, receive, watched)
        except LISTED as error:
            if has_started:
                raise
            await answer_error(request, error)(scope, receive, send)
