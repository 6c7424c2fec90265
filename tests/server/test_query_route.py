"""The short way to a query's route: what it answers is what FastAPI's own way to the same route answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from engine import Engine
from server.answer import Question
from server.app import Application, create_app
from server.routes import datasets, queries, visualize
from server.routes.query_route import QueryRoute, QueryRoutes
from tests.server.conftest import settings

ROUTERS = (datasets.router, queries.router, visualize.router)
REQUESTS = [
    ("GET", "/api/datasets/sweep/rows", b"params=4M", b""),
    ("GET", "/api/datasets/sweep/rows", b"params=4X", b""),
    ("GET", "/api/datasets/sweep/rows", b"data=%ff", b""),
    ("GET", "/api/datasets/sweep/rows", b"format=xml", b""),
    ("GET", "/api/datasets/none/rows", b"", b""),
    ("GET", "/api/datasets/Not A Name/rows", b"", b""),
    ("GET", "/api/queries/sweep/small", b"", b""),
    ("GET", "/api/queries/sweep/none", b"", b""),
    ("GET", "/api/queries/sweep/ft", b"", b""),
    ("GET", "/api/visualize/data", b"", b""),
    ("GET", "/api/visualize/data/small", b"format=arrow", b""),
    ("GET", "/api/visualize/aggregated", b"group_by=params&metric=pile-valppl", b""),
    ("GET", "/api/visualize/aggregated", b"", b""),
    ("GET", "/api/visualize/scaling", b"x_axis=params_numeric&y_axis=pile-valppl", b""),
    ("POST", "/api/query", b"", b'{"dataset":"sweep","limit":3}'),
    ("POST", "/api/query", b"format=csv", b'{"dataset":"sweep","limit":3}'),
    ("POST", "/api/query", b"", b'{"dataset":'),
    ("POST", "/api/query", b"limit=1", b'{"dataset":"sweep"}'),
    ("GET", "/api/query", b"", b""),
    ("PUT", "/api/visualize/data", b"", b""),
    ("GET", "/api/datasets/sweep/rows/", b"", b""),
    ("GET", "/api/datasets//rows", b"", b""),
]


async def _ask(app: Any, method: str, path: str, query: bytes, body: bytes) -> tuple[int, dict[bytes, bytes], bytes]:
    sent: list[Any] = []
    has_body = True

    async def receive() -> Any:
        nonlocal has_body
        if has_body:
            has_body = False
            return {"type": "http.request", "body": body, "more_body": False}
        await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 50_000),
        "server": ("localhost", 80),
    }
    await asyncio.wait_for(app(scope, receive, send), 20)
    head = {name: value for name, value in sent[0]["headers"] if name not in (b"server-timing", b"vary")}
    return sent[0]["status"], head, b"".join(message.get("body", b"") for message in sent[1:])


def test_both_ways_lead_to_the_same(filled_store: Path) -> None:
    async def main() -> None:
        app: Application = create_app(settings(filled_store))
        async with app.router.lifespan_context(app):
            for request in REQUESTS:
                assert await _ask(app, *request) == await _ask(app.answer, *request), request

    asyncio.run(main())


def test_a_fault_of_ours_is_the_same_problem_on_both(filled_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(Engine, "prepare", fail)

    async def main() -> None:
        app = create_app(settings(filled_store))
        async with app.router.lifespan_context(app):
            short, long = [await _ask(way, *REQUESTS[0]) for way in (app, app.answer)]
            assert short == long
            assert short[0] == 500
            assert b"secret" not in short[2]

    asyncio.run(main())


def test_every_route_of_a_query_is_found() -> None:
    routes = QueryRoutes("/api", ROUTERS)
    known = [route for router in ROUTERS for route in router.routes if isinstance(route, QueryRoute)]
    assert len(known) == 10
    for route in known:
        path = "/api" + route.path.replace("{name}", "a b").replace("{dataset}", "d")
        (method,) = route.methods or ()
        found = routes.find({"method": method, "path": path})
        assert found is not None
        assert found[0] is route
        assert found[1].get("name") == ("a b" if "{name}" in route.path else None)
        assert routes.find({"method": "DELETE", "path": path}) is None
    assert routes.find({"method": "GET", "path": "/api/datasets/a/b/rows"}) is None


def test_fastapi_is_told_of_questions_and_documents_answers() -> None:
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, QueryRoute):
                assert route.endpoint.__annotations__["return"] in (Question, "Question")
                assert route.response_field is None
