"""The small JSON bodies of requests that change what is said of a version: which, by whom, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request

from queries.errors import GrammarError, UnknownParameterError, nearest
from server.bodies import read_body

_MAX_BODY_BYTES = 10_000
_LONGEST_TEXT = 1_000


@dataclass(frozen=True, slots=True)
class Change:
    """What such a body says. ``version`` is empty where none is needed."""

    version: str | int
    message: str
    by: str
    move: bool


async def small_body(request: Request) -> bytes:
    """The body, as far as one may be long that holds no file; a dependency of routes."""
    return await read_body(request, _MAX_BODY_BYTES)


def read_change(body: bytes, *, needs_version: bool = False, may_move: bool = False) -> Change:
    """Read a body as strictly as a query. Where no version is needed it may be missing.

    Raises
    ------
    GrammarError, UnknownParameterError
    """
    content = _read_object(body, may_be_empty=not needs_version)
    known = ("version",) * needs_version + ("message", "by") + ("move",) * may_move
    unknown = next((key for key in content if key not in known), None)
    if unknown is not None:
        raise UnknownParameterError(
            f"{unknown!r} is no field of this body, which takes {', '.join(known)}",
            param=unknown,
            did_you_mean=nearest(unknown, known),
        )
    version = content.get("version", "")
    if needs_version and (isinstance(version, bool) or not isinstance(version, (str, int)) or version == ""):
        raise GrammarError('the body is an object like {"version": "v3"}', param="version")
    for name, kind, said in (("message", str, "a text"), ("by", str, "a text"), ("move", bool, "true or false")):
        if content.get(name) is not None and not isinstance(content[name], kind):
            raise GrammarError(f"{name} is {said}", param=name)
    return Change(
        version,
        clean(content.get("message") or ""),
        clean(content.get("by") or "") or "upload",
        bool(content.get("move")),
    )


def _read_object(body: bytes, *, may_be_empty: bool) -> dict[str, Any]:
    if may_be_empty and not body.strip():
        return {}
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise GrammarError("the body is not JSON") from error
    if not isinstance(content, dict):
        raise GrammarError("the body is a JSON object", param=None)
    return content


def change_body(*, needs_version: bool = False, may_move: bool = False) -> dict[str, Any]:
    """Such a body as OpenAPI has it."""
    text = {"type": "string"}
    properties: dict[str, Any] = {"message": text, "by": text}
    if needs_version:
        properties = {"version": {"type": ["string", "integer"]}, **properties}
    if may_move:
        properties["move"] = {"type": "boolean", "description": "Whether the tag may leave another version."}
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    if needs_version:
        schema["required"] = ["version"]
    return {"requestBody": {"required": needs_version, "content": {"application/json": {"schema": schema}}}}


def clean(text: str) -> str:
    """A text for the log: one line, and not without end."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_LONGEST_TEXT].strip()
