"""The application: wires routes, errors and the engine together, and decides nothing else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.openapi.utils import get_openapi
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.engine import Engine
from server.caching import code_version
from server.errors import ProblemMiddleware, install_error_handlers
from server.head import HeadMiddleware
from server.openapi import components
from server.routes import datasets, diff, docs, files, health, lifecycle, publishing, queries, visualize
from server.routes.query_route import QueryRoutes, QueryShortcut
from server.settings import Settings
from server.sharing import Sharing
from server.version import application_version

_LOGGER = logging.getLogger(__name__)

_EXPOSED = "Accept-Ranges Content-Encoding Content-Location Content-Range ETag Link Location Retry-After Server-Timing"
THREADS_PER_QUERY = 8  # beside one that runs: three that wait, one with a long answer, and what is no query
_DESCRIPTION = (
    "Experiment results as immutable versions: filter, group and page through them, as JSON, columnar JSON, NDJSON, "
    "CSV, Arrow or parquet."
)


class Application(FastAPI):
    """FastAPI, with what answers queries before it."""

    front: ASGIApp  # what a request comes to first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.front(scope, receive, send)
        else:
            await self.answer(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As FastAPI alone would."""
        await super().__call__(scope, receive, send)


def create_app(settings: Settings) -> Application:
    """The application. It opens the store when it starts, and not before."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # All who run, and all who wait for a place in the engine, need a thread: the line before the engine is the one
        # that has an end, and refuses whoever comes then.
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS_PER_QUERY * settings.max_concurrent
        config = settings.engine_config()
        for_rows = config.results_cache_bytes - _encoded_bytes(settings)
        engine = await anyio.to_thread.run_sync(Engine, replace(config, results_cache_bytes=for_rows))
        try:
            await anyio.to_thread.run_sync(code_version)  # it reads all of the code, once
            app.state.engine = engine
            ingest = settings.ingest and not engine.store.read_only
            if ingest or engine.store.is_remote:
                engine.start_ingest(settings.poll_interval_s, refresh_only=not ingest)
            yield
        finally:
            await anyio.to_thread.run_sync(engine.close)

    app = Application(
        title="By Tomorrow",
        description=_DESCRIPTION,
        version=application_version(),
        openapi_url="/api/openapi.json",
        docs_url=None,  # FastAPI's pages load their scripts from another host; ours is in routes/docs.py
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.settings = settings
    api = APIRouter(prefix="/api")
    for routes in (health, datasets, diff, files, publishing, lifecycle, queries, visualize, docs):
        api.include_router(routes.router)
    app.include_router(api)
    app.add_api_route("/", _to_docs, include_in_schema=False)
    install_error_handlers(app)
    app.add_middleware(ProblemMiddleware)
    app.front = _front(app, settings)
    app.openapi = lambda: _describe(app)  # type: ignore[method-assign]
    return app


def _front(app: Application, settings: Settings) -> ASGIApp:
    """What a request comes through, the last one first."""
    routes = QueryRoutes("/api", (datasets.router, queries.router, visualize.router))
    front: ASGIApp = QueryShortcut(app.answer, app, routes)
    front = CORSMiddleware(
        front,
        allow_origins=list(settings.cors_origins),
        allow_methods=["GET", "HEAD", "POST"],
        allow_headers=["Accept", "Content-Type", "If-None-Match", "If-Range", "Range"],
        expose_headers=_EXPOSED.split(),
        max_age=86_400,
    )
    return Sharing(HeadMiddleware(front), routes, settings.cors_origins, _encoded_bytes(settings))


def _encoded_bytes(settings: Settings) -> int:
    """The part of the memory for answers that is for those that were encoded; the rest is the engine's, for their rows.

    Encoded they are given again in a tenth of the time, as rows also in another format, page or spelling.
    """
    return settings.results_cache_bytes // 2


def _to_docs() -> RedirectResponse:
    """There is no page yet; what can be asked is the next best thing."""
    return RedirectResponse("/api/docs")


def _describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        document.setdefault("components", {}).setdefault("schemas", {}).update(components())
        app.openapi_schema = document
    return app.openapi_schema
