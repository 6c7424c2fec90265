"""Queries in a JSON body, and those that a definition gives a name."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from queries.body import parse_body
from queries.url_format import format_query
from server.answer import Question, ask
from server.links import Address, rows_address
from server.openapi import FORMAT, QUERY_ANSWER, QUERY_PARAMETERS, described, query_body
from server.parameters import MAX_QUERY_BYTES, format_pairs
from server.reading import question_of_name
from server.routes.own import Own
from server.routes.query_route import Asked, QueryRoute

router = APIRouter(tags=["queries"], route_class=QueryRoute)


@router.post("/query", responses=QUERY_ANSWER, openapi_extra={**described(FORMAT), **query_body()})
def post_query(asked: Asked) -> Question:
    """The general query, as a JSON body."""
    own = Own(asked.pairs, "format")
    own.check()
    prepared = asked.engine.prepare(parse_body(asked.body, max_bytes=asked.settings.max_body_bytes))
    version = prepared.version
    spelled = format_query(prepared.request.model_copy(update={"version": version.version.name}), version.schema)
    question = ask(asked.engine, prepared, Address.of(asked.path, asked.pairs), own.text("format"))
    has_url = spelled is not None and len(format_pairs(spelled)) < MAX_QUERY_BYTES
    pinned = rows_address(version.dataset, spelled) if spelled is not None and has_url else None
    return replace(question, pinned=pinned, is_pinned=False)


@router.get("/queries/{dataset}/{name}", responses=QUERY_ANSWER, openapi_extra=described(*QUERY_PARAMETERS))
def named_query(dataset: str, name: str, asked: Asked) -> Question:
    """A query that the dataset's definition names; parameters take the place of its own."""
    return question_of_name(asked.engine, dataset, name, asked.path, asked.pairs)
