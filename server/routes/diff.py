"""What changed between two versions of a dataset."""

from __future__ import annotations

import hashlib

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from engine.diff import MAX_LIMIT, Comparison, resolve_pair
from engine.store import Version
from engine.store.state import is_pinned
from queries.lists import split_items, unquote
from server.caching import LATEST, PINNED, is_match, make_etag
from server.diff import describe_diff
from server.documents import json_document
from server.links import Address
from server.negotiation import choose_coding
from server.openapi import JSON_ANSWER, described, parameter, problems
from server.routes.context import OpenEngine, Parameters
from server.routes.own import Own
from server.streaming import HeadOnlyResponse

router = APIRouter(prefix="/datasets", tags=["datasets"])

_LIMIT = {"type": "integer", "minimum": 0, "maximum": MAX_LIMIT, "default": 100}


@router.get(
    "/{name}/diff",
    responses={
        **JSON_ANSWER,
        304: {"description": "The client has this answer already."},
        **problems(400, 404, 413, 422, 503, 504),
    },
    openapi_extra=described(
        parameter("from", "The version before, as version= names one; the parent of `to` when not given."),
        parameter("to", "The version after; the latest when not given."),
        parameter("key", "Columns that tell rows apart, separated by commas; found when not given."),
        parameter("limit", "The most changed, added and removed rows to list.", _LIMIT),
    ),
)
def show_diff(name: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """What changed: columns, rows by key, and the largest changes of each metric."""
    own = Own(pairs, "from", "to", "key", "limit")
    own.check()
    key, limit = own.text("key"), own.count("limit", 100, most=MAX_LIMIT)
    old, new = resolve_pair(engine.state(name), own.text("from"), own.text("to"))
    comparison = Comparison(
        engine,
        engine.open_version(old),
        engine.open_version(new),
        key=None if key is None else [unquote(item) for item in split_items(key, "key")],
        limit=limit,
    )
    pinned_both = is_pinned(own.text("from"), old) and is_pinned(own.text("to"), new)
    address = Address.of(request.url.path, pairs)
    pinned = address.having(**{"from": old.name, "to": new.name})
    etag = _etag(request, old, new, str(comparison.key), str(limit), address.url)
    headers = {"ETag": etag, "Vary": "Accept-Encoding", "Cache-Control": PINNED if pinned_both else LATEST}
    if not pinned_both:
        headers["Content-Location"] = pinned.url
    if is_match(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    if request.scope.get("is_head"):
        return HeadOnlyResponse({**headers, "Content-Type": "application/json"})
    links = {"self": address.url, "pinned": pinned.url}
    response = json_document(request, {**describe_diff(comparison.run()), "links": links}, headers=headers)
    response.headers["ETag"] = etag  # known before anything ran, and not that of the body
    return response


def _etag(request: Request, old: Version, new: Version, *more: str) -> str:
    """What determines the answer; a version without a log has no number, and its definition may change."""
    parts = [
        part
        for version in (old, new)
        for part in (
            version.dataset,
            version.name,
            version.content_id,
            version.at,
            hashlib.sha256((version.definition or "").encode()).hexdigest(),
        )
    ]
    coding = choose_coding(request.headers.get("accept-encoding")).name or "identity"
    return make_etag("diff", *parts, *more, coding)
