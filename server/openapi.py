"""What the OpenAPI document says beyond what FastAPI finds out: the parameters of queries, formats and problems."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from queries.body_schema import json_schema
from queries.vocabulary import OPERATORS
from server.encoding import FORMATS
from server.errors import PROBLEM_TYPE
from server.parameters import MAX_QUERY_BYTES

Responses = dict[int | str, dict[str, Any]]

_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "A problem document (RFC 9457).",
    "required": ["type", "title", "status", "detail", "instance", "code", "errors"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "The path that was asked for."},
        "code": {"type": "string", "description": "One word for programs."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "param": {"type": ["string", "null"]},
                    "value": {"type": ["string", "null"]},
                    "did_you_mean": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}
_REASONS = {
    400: "The query cannot be read, or names what does not exist.",
    403: "Publishing is for this machine alone until there are keys.",
    404: "There is no such dataset, version, column or named query.",
    406: "None of the formats or codings asked for is served.",
    409: "The version cannot be published as things are.",
    412: "The state is not the one that the request expects.",
    413: "Beyond a limit.",
    414: f"The query string is longer than {MAX_QUERY_BYTES} bytes; POST /api/query takes more.",
    416: "The file has no such range.",
    422: "A value does not fit its column, or a file cannot be published.",
    503: "Busy, or the store cannot be used; Retry-After says when to try again.",
    504: "The query took longer than its limit.",
}
QUERY_ERRORS = (400, 404, 406, 413, 414, 422, 503, 504)

_META = {"type": "object", "description": "What is known about the answer.", "additionalProperties": True}
_LINKS = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
_ENVELOPES: dict[str, dict[str, Any]] = {
    "json": {
        "type": "object",
        "required": ["data", "meta", "links"],
        "properties": {"data": {"type": "array", "items": {"type": "object"}}, "meta": _META, "links": _LINKS},
    },
    "columns": {
        "type": "object",
        "required": ["data", "meta", "links"],
        "properties": {
            "data": {"type": "object", "additionalProperties": {"type": "array"}},
            "meta": _META,
            "links": _LINKS,
        },
    },
}


def problems(*statuses: int) -> Responses:
    """Problem responses with these statuses."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _REASONS.get(status, HTTPStatus(status).phrase), "content": content}
        for status in statuses
    }


#: A JSON document.
JSON_ANSWER: Responses = {
    200: {"description": "A JSON document.", "content": {"application/json": {"schema": {"type": "object"}}}}
}

#: An answer of a query in any format, and what it may be instead.
QUERY_ANSWER: Responses = {
    200: {
        "description": "The answer, whole.",
        "content": {
            form.media_type: {
                "schema": _ENVELOPES.get(
                    form.name,
                    {"type": "string"} if form.name in ("ndjson", "csv") else {"type": "string", "format": "binary"},
                )
            }
            for form in FORMATS
        },
    },
    304: {"description": "The client has this answer already."},
    **problems(*QUERY_ERRORS),
}


def parameter(
    name: str, description: str, schema: dict[str, Any] | None = None, *, required: bool = False
) -> dict[str, Any]:
    """One parameter of a query string."""
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema or {"type": "string"},
    }


_FLAG = {"type": "string", "enum": ["0", "1", "false", "true"]}
_COUNT = {"type": "integer", "minimum": 0}

VERSION = parameter("version", "As v7, 7, the beginning of a content id, a tag or a time; the latest when not given.")
FORMAT = parameter("format", "Wins over Accept.", {"type": "string", "enum": [form.name for form in FORMATS]})

FILTERS: dict[str, Any] = {
    "name": "filters",
    "in": "query",
    "style": "form",
    "explode": True,
    "description": "A filter per column: column=value, or column__operator=value with one of "
    + ", ".join(OPERATORS)
    + "; having.column__operator filters what a grouping gives.",
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}

#: All that a GET query takes.
QUERY_PARAMETERS = [
    VERSION,
    FORMAT,
    parameter("select", "Columns of the answer, separated by commas."),
    parameter("group_by", "Group keys, separated by commas."),
    parameter("agg", "Aggregates, as mean,std,count or mean:value,max:step."),
    parameter("sort", "Sort keys; a minus in front sorts downwards."),
    parameter("limit", "The most rows; all when not given.", _COUNT),
    parameter("offset", "Rows to skip.", _COUNT),
    parameter("cursor", "next_cursor of the page before."),
    parameter("pivot", "Column whose values become columns."),
    parameter("pivot_values", "Column that fills them."),
    parameter("distinct", "Each row of the answer once.", _FLAG),
    parameter("last_by", "Of each group of these columns, the row at the largest step."),
    parameter("best_by", "Of each group, the row with the best value."),
    parameter("facets", "Columns whose values are counted under the other filters."),
    parameter("explain", "Add SQL, plan and rows read.", _FLAG),
    parameter("strict", "0: a value that a dimension does not have is a warning.", _FLAG),
    parameter("total", "0: spare counting the rows that there are without limit.", _FLAG),
    FILTERS,
]
DATASET = parameter("dataset", "Name of the dataset; the server's default when not given.")


def described(*parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters as FastAPI takes them beside its own."""
    return {"parameters": list(parameters)}


def query_body() -> dict[str, Any]:
    """The body of ``POST /api/query``."""
    schema = {key: value for key, value in json_schema().items() if key not in ("$schema", "$defs")}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _relinked(schema)}}}}


def components() -> dict[str, Any]:
    """The schemas that the document refers to."""
    return {"Problem": _PROBLEM, **{f"Query_{name}": _relinked(part) for name, part in json_schema()["$defs"].items()}}


def _relinked(part: Any) -> Any:
    """A part of the query's JSON Schema with its references turned to where OpenAPI keeps schemas."""
    if isinstance(part, dict):
        return {
            key: value.replace("#/$defs/", "#/components/schemas/Query_")
            if key == "$ref" and isinstance(value, str)
            else _relinked(value)
            for key, value in part.items()
        }
    return [_relinked(item) for item in part] if isinstance(part, list) else part
