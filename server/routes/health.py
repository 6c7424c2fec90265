"""Whether the process lives, and whether it can answer."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from engine.errors import EngineError
from server.caching import NEVER
from server.documents import json_document
from server.errors import HttpError
from server.openapi import JSON_ANSWER, problems
from server.routes.context import OpenEngine
from server.version import application_version

router = APIRouter(tags=["health"])


@router.get("/health", responses=JSON_ANSWER)
async def health(request: Request) -> Response:
    """Liveness. Touches nothing: not the store, not the engine, not even a worker thread."""
    return json_document(request, {"status": "ok", "version": application_version()}, cache=NEVER)


@router.get("/ready", responses={**JSON_ANSWER, **problems(503)})
def ready(request: Request, engine: OpenEngine) -> Response:
    """Readiness: the store can be reached, and a query ran. With what the disk cache did, where there is one."""
    try:
        engine.ready()
    except EngineError as error:
        raise HttpError(503, "not_ready", error.detail, headers={"Retry-After": "5"}) from error
    metrics = engine.blobs.metrics()
    content = {"status": "ok", **({"cache": asdict(metrics)} if metrics is not None else {})}
    return json_document(request, content, cache=NEVER)
