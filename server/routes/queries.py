"""Queries in a JSON body, and those that a definition gives a name."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from queries.body import parse_body
from queries.url_format import format_query
from server.answer import answer, ask
from server.bodies import read_body
from server.links import Address, rows_address
from server.openapi import FORMAT, QUERY_ANSWER, QUERY_PARAMETERS, described, query_body
from server.parameters import MAX_QUERY_BYTES, format_pairs
from server.reading import question_of_name
from server.routes.context import OpenEngine, Parameters, ServerSettings
from server.routes.own import Own

router = APIRouter(tags=["queries"])


async def _body(request: Request, settings: ServerSettings) -> bytes:
    return await read_body(request, settings.max_body_bytes)


@router.post("/query", responses=QUERY_ANSWER, openapi_extra={**described(FORMAT), **query_body()})
def post_query(
    request: Request,
    engine: OpenEngine,
    settings: ServerSettings,
    pairs: Parameters,
    body: Annotated[bytes, Depends(_body)],
) -> Response:
    """The general query, as a JSON body."""
    own = Own(pairs, "format")
    own.check()
    prepared = engine.prepare(parse_body(body, max_bytes=settings.max_body_bytes))
    version = prepared.version
    spelled = format_query(prepared.request.model_copy(update={"version": version.version.name}), version.schema)
    question = ask(engine, prepared, Address.of(request.url.path, pairs), own.text("format"))
    has_url = spelled is not None and len(format_pairs(spelled)) < MAX_QUERY_BYTES
    pinned = rows_address(version.dataset, spelled) if spelled is not None and has_url else None
    return answer(request, replace(question, pinned=pinned, is_pinned=False))


@router.get("/queries/{dataset}/{name}", responses=QUERY_ANSWER, openapi_extra=described(*QUERY_PARAMETERS))
def named_query(dataset: str, name: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """A query that the dataset's definition names; parameters take the place of its own."""
    return answer(request, question_of_name(engine, dataset, name, request.url.path, pairs))
