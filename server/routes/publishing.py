"""Publishing an upload, choosing the latest version, and looking for dropped files; for this machine alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
import orjson
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from engine.engine import Engine
from engine.store import check_dataset_name
from queries.errors import GrammarError, UnknownParameterError, nearest
from server.access import require_local
from server.bodies import Upload, read_body, receive_file
from server.caching import NEVER, is_same_state
from server.catalogue import describe_dataset, describe_version
from server.documents import document_etag, json_document
from server.drops import wait_for_drops
from server.errors import HttpError
from server.openapi import JSON_ANSWER, described, parameter, problems
from server.routes.context import OpenEngine, Parameters, ServerSettings
from server.routes.own import Own

router = APIRouter(prefix="/datasets", tags=["publishing"], dependencies=[Depends(require_local)])

_MAX_BODY_BYTES = 10_000
_LONGEST_TEXT = 1_000
_REFUSED = problems(400, 403, 404, 409, 412, 413, 422, 503)
_UPLOAD = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "message": {"type": "string"},
                        "by": {"type": "string"},
                    },
                }
            },
        },
    }
}
_LATEST = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["version"],
                    "additionalProperties": False,
                    "properties": {
                        "version": {"type": ["string", "integer"]},
                        "message": {"type": "string"},
                        "by": {"type": "string"},
                    },
                }
            }
        },
    }
}


@router.post(
    "/{name}/versions",
    status_code=201,
    responses={
        201: {"description": "The new version.", "content": {"application/json": {"schema": {"type": "object"}}}},
        200: {"description": "The version that has this content already.", **JSON_ANSWER[200]},
        **_REFUSED,
    },
    openapi_extra={
        **described(
            parameter("filename", "What the file is called; its end tells the format where its bytes do not."),
            parameter("message", "What is new."),
            parameter("by", "Who publishes."),
        ),
        **_UPLOAD,
    },
)
async def publish_version(
    name: str, request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters
) -> Response:
    """Publish a file: parquet, CSV, JSON lines or Arrow IPC, as the body itself or in a form."""
    own = Own(pairs, "filename", "message", "by")
    own.check()
    check_dataset_name(name)
    with tempfile.TemporaryDirectory(prefix="bytomorrow-upload-", ignore_cleanup_errors=True) as folder:
        upload = await receive_file(request, Path(folder) / "upload", settings.max_upload_bytes)
        return await anyio.to_thread.run_sync(_publish, request, engine, name, upload, own)


def _publish(request: Request, engine: Engine, name: str, upload: Upload, own: Own) -> Response:
    unknown = next((field for field in upload.fields if field not in ("message", "by", "filename")), None)
    if unknown is not None:
        raise UnknownParameterError(
            f"{unknown!r} is no field of this form, which takes file, message and by",
            param=unknown,
            did_you_mean=nearest(unknown, ("file", "message", "by")),
        )

    def text(key: str) -> str:
        return _clean(own.text(key) or upload.fields.get(key) or "")

    outcome = engine.publish(
        name,
        upload.path,
        message=text("message"),
        by=text("by") or "upload",
        original_name=_file_name(own.text("filename") or upload.filename) or "upload",
    )
    content = {
        "created": outcome.created,
        "warnings": list(outcome.warnings),
        "version": describe_version(outcome.version),
    }
    return json_document(
        request,
        content,
        status=201 if outcome.created else 200,
        cache=NEVER,
        headers={"Location": f"/api/datasets/{name}/versions/{outcome.version.name}"},
    )


async def _small_body(request: Request) -> bytes:
    return await read_body(request, _MAX_BODY_BYTES)


@router.put("/{name}/latest", responses={**JSON_ANSWER, **_REFUSED}, openapi_extra=_LATEST)
def set_latest(
    name: str, request: Request, engine: OpenEngine, pairs: Parameters, body: Annotated[bytes, Depends(_small_body)]
) -> Response:
    """Make a version the one that readers follow who pin nothing: roll back, or forward.

    With ``If-Match`` and the ETag of the dataset's document it is done only when nothing changed since.
    """
    Own(pairs).check()
    wanted = _read_latest(body)
    expected = request.headers.get("if-match")
    if expected is not None and not is_same_state(expected, document_etag(describe_dataset(engine, name, None))):
        raise HttpError(412, "precondition_failed", f"{name} has changed since If-Match was read")
    version = engine.set_current(
        name,
        wanted["version"],
        by=_clean(str(wanted.get("by") or "")) or "upload",
        message=_clean(str(wanted.get("message") or "")),
    )
    return json_document(
        request, {"dataset": name, "latest": version.name, "version": describe_version(version)}, cache=NEVER
    )


@router.post("/{name}/refresh", responses={**JSON_ANSWER, **_REFUSED})
def refresh(name: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """Take in the files dropped for this dataset, once they hold still; says what was found and became of it."""
    Own(pairs).check()
    engine.state(name)
    events = wait_for_drops(engine, name)
    current = engine.state(name).current
    content = {
        "dataset": name,
        "latest": current.name if current else None,
        "events": [
            {
                "kind": event.kind,
                "file": event.key.rpartition("/")[2],
                "version": event.version.name if event.version else None,
                "reason": event.reason,
            }
            for event in events
        ],
    }
    return json_document(request, content, cache=NEVER)


def _read_latest(body: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise GrammarError("the body is not JSON") from error
    if not isinstance(content, dict) or not isinstance(content.get("version"), (str, int)):
        raise GrammarError('the body is an object like {"version": "v3"}', param="version")
    unknown = next((key for key in content if key not in ("version", "message", "by")), None)
    if unknown is not None:
        raise UnknownParameterError(f"{unknown!r} is no field of this body", param=unknown)
    if isinstance(content["version"], bool):
        raise GrammarError("version is a name like v3, or a number", param="version")
    return content


def _file_name(text: str) -> str:
    """The last part of a path, whatever system it comes from, without what a terminal would act on."""
    return _clean(text.replace("\\", "/").rpartition("/")[2])[:200]


def _clean(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)[:_LONGEST_TEXT].strip()
