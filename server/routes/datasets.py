"""The catalogue: which datasets there are, their versions and columns; and the general GET query."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from engine.engine import Engine
from engine.errors import EngineError
from engine.store.state import is_pinned
from queries.errors import nearest
from server.answer import Question
from server.caching import LATEST, PINNED
from server.catalogue import (
    describe_column,
    describe_dataset,
    describe_event,
    describe_status,
    describe_summary,
    describe_version,
    summarize_dataset,
)
from server.documents import json_document
from server.errors import HttpError
from server.openapi import JSON_ANSWER, QUERY_ANSWER, QUERY_PARAMETERS, VERSION, described, parameter, problems
from server.reading import question_of_url
from server.routes.context import OpenEngine, Parameters
from server.routes.own import Own
from server.routes.query_route import Asked, QueryRoute

router = APIRouter(prefix="/datasets", tags=["datasets"])

_FOUND = {**JSON_ANSWER, **problems(400, 404, 503)}
MAX_VALUES = 10_000  # distinct values on one page
MAX_EVENTS = 1_000  # entries of a history on one page


@router.get("", responses={**JSON_ANSWER, **problems(503)})
def list_datasets(request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """All datasets, by name. One that cannot be read stands in the list with its problem."""
    Own(pairs).check()
    return json_document(request, {"data": [_summary(engine, name) for name in engine.dataset_names()]})


@router.get("/{name}", responses=_FOUND, openapi_extra=described(VERSION))
def show_dataset(name: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """One dataset: columns with roles and units, named queries, versions."""
    own = Own(pairs, "version")
    own.check()
    return json_document(request, describe_dataset(engine, name, own.text("version")))


@router.get("/{name}/versions", responses=_FOUND)
def list_versions(name: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """All versions of a dataset, the newest first, expired ones too, and the dropped files that were rejected."""
    Own(pairs).check()
    state = engine.state(name)
    content = {
        "dataset": name,
        "latest": state.current.name if state.current else None,
        "tags": {tag: f"v{number}" for tag, number in state.tags},
        "data": [
            {**describe_version(version), **describe_status(version, state)} for version in reversed(state.versions)
        ],
        "rejects": [
            {"at": reject.at, "file": reject.source.key.rpartition("/")[2], "reason": reject.reason}
            for reject in reversed(state.rejects)
        ],
    }
    return json_document(request, content)


@router.get("/{name}/versions/{v}", responses=_FOUND)
def show_version(name: str, v: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """One version; ``latest`` is the one that readers follow who pin nothing."""
    Own(pairs).check()
    found = engine.state(name).resolve(v)
    return json_document(request, describe_version(found), cache=PINNED if is_pinned(v, found) else LATEST)


@router.get(
    "/{name}/history",
    responses={**JSON_ANSWER, **problems(400, 404, 422, 503)},
    openapi_extra=described(
        parameter("limit", "Entries on one page, 100 when not given.", {"type": "integer", "minimum": 0}),
        parameter("offset", "Entries to skip.", {"type": "integer", "minimum": 0}),
    ),
)
def show_history(name: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """All that was ever done to a dataset, and by whom, the newest first."""
    own = Own(pairs, "limit", "offset")
    own.check()
    limit, offset = own.count("limit", 100, most=MAX_EVENTS), own.count("offset", 0)
    events = engine.history(name)
    content = {
        "dataset": name,
        "total": len(events),
        "limit": limit,
        "offset": offset,
        "data": [describe_event(event) for event in events[offset : offset + limit]],
    }
    return json_document(request, content)


def query_rows(name: str, asked: Asked) -> Question:
    """The general query of one dataset."""
    return question_of_url(asked.engine, name, asked.path, asked.pairs)


router.add_api_route(
    "/{name}/rows",
    query_rows,
    route_class_override=QueryRoute,
    responses=QUERY_ANSWER,
    openapi_extra=described(*QUERY_PARAMETERS),
)


@router.get(
    "/{name}/columns/{col:path}",
    responses={**JSON_ANSWER, **problems(400, 404, 422, 503, 504)},
    openapi_extra=described(
        VERSION,
        parameter("q", "Only values that contain this text."),
        parameter("limit", "Values on one page, 100 when not given.", {"type": "integer", "minimum": 0}),
        parameter("offset", "Values to skip.", {"type": "integer", "minimum": 0}),
    ),
)
def show_column(name: str, col: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """One column: type, nulls, distinct values with counts, range, quantiles, histogram."""
    own = Own(pairs, "version", "q", "limit", "offset")
    own.check()
    version = own.text("version")
    opened = engine.version(name, version)
    column = opened.schema.find(col)
    if column is None:
        names = [*opened.schema.by_name, *opened.schema.by_alias]
        raise HttpError(
            404,
            "unknown_column",
            f"{name} has no column {col!r}",
            param="col",
            value=col,
            did_you_mean=nearest(col, names),
        )
    limit, offset = own.count("limit", 100, most=MAX_VALUES), own.count("offset", 0)
    summary = engine.column_summary(opened, column.name, search=own.text("q"), limit=limit, offset=offset)
    content = {
        "dataset": name,
        "version": opened.version.name,
        **describe_column(column),
        **describe_summary(summary),
        "limit": limit,
        "offset": offset,
    }
    return json_document(request, content, cache=PINNED if is_pinned(version, opened.version) else LATEST)


def _summary(engine: Engine, name: str) -> dict[str, object]:
    try:
        return summarize_dataset(engine, name)
    except EngineError as error:
        return {"name": name, "problem": {"code": error.code, "detail": error.detail}}
