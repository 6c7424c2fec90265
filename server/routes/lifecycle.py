"""Tags, yanking and restoring over HTTP; for this machine alone. Expiring and deleting are for the command line."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from engine.engine import Engine
from engine.store import Version
from server.access import require_local
from server.caching import NEVER
from server.catalogue import describe_status, describe_version
from server.changes import change_body, clean, read_change, small_body
from server.documents import json_document
from server.errors import HttpError
from server.openapi import JSON_ANSWER, described, parameter, problems
from server.routes.context import OpenEngine, Parameters
from server.routes.own import Own

router = APIRouter(prefix="/datasets", tags=["publishing"], dependencies=[Depends(require_local)])

_ANSWERS = {**JSON_ANSWER, **problems(400, 403, 404, 409, 413, 422, 503)}
Body = Annotated[bytes, Depends(small_body)]


@router.put("/{name}/tags/{tag}", responses=_ANSWERS, openapi_extra=change_body(needs_version=True, may_move=True))
def set_tag(name: str, tag: str, request: Request, engine: OpenEngine, pairs: Parameters, body: Body) -> Response:
    """Call a version by a name of its own. Taking the name from another version needs ``move``."""
    Own(pairs).check()
    wanted = read_change(body, needs_version=True, may_move=True)
    version = engine.tag(name, tag, wanted.version, move=wanted.move, by=wanted.by, message=wanted.message)
    return _marked(request, engine, version, tag=tag)


@router.delete(
    "/{name}/tags/{tag}",
    responses=_ANSWERS,
    openapi_extra=described(parameter("message", "Why."), parameter("by", "Who decides.")),
)
def delete_tag(name: str, tag: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """Take a tag away."""
    own = Own(pairs, "message", "by")
    own.check()
    by, message = clean(own.text("by") or "") or "upload", clean(own.text("message") or "")
    number = engine.untag(name, tag, by=by, message=message)
    if number is None:
        raise HttpError(404, "tag_not_found", f"{name} has no tag {tag!r}", param="tag", value=tag)
    tags = {label: f"v{target}" for label, target in engine.state(name).tags}
    return json_document(request, {"dataset": name, "tag": tag, "was": f"v{number}", "tags": tags}, cache=NEVER)


@router.post("/{name}/versions/{v}/yank", responses=_ANSWERS, openapi_extra=change_body())
def yank(name: str, v: str, request: Request, engine: OpenEngine, pairs: Parameters, body: Body) -> Response:
    """Say that a version is not to be used: who names it still gets it, and it is never the latest."""
    Own(pairs).check()
    wanted = read_change(body)
    return _marked(request, engine, engine.yank(name, v, by=wanted.by, message=wanted.message))


@router.post("/{name}/versions/{v}/restore", responses=_ANSWERS, openapi_extra=change_body())
def restore(name: str, v: str, request: Request, engine: OpenEngine, pairs: Parameters, body: Body) -> Response:
    """Take a yank back."""
    Own(pairs).check()
    wanted = read_change(body)
    return _marked(request, engine, engine.restore(name, v, by=wanted.by, message=wanted.message))


def _marked(request: Request, engine: Engine, version: Version, **more: str) -> Response:
    state = engine.state(version.dataset)
    content = {
        "dataset": version.dataset,
        **more,
        "latest": state.current.name if state.current else None,
        "version": {**describe_version(version), **describe_status(version, state)},
    }
    return json_document(request, content, cache=NEVER)
