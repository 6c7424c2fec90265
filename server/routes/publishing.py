"""Publishing an upload, choosing the latest version, and looking for dropped files; for this machine alone."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from engine.engine import Engine
from engine.errors import DatasetNotFoundError, VersionNotFoundError
from engine.store import check_dataset_name
from engine.store.staging import STALE_S, remove_stale
from queries.errors import GrammarError, UnknownParameterError, nearest
from server.access import require_local
from server.bodies import Upload, receive_file
from server.caching import NEVER, is_same_state
from server.catalogue import describe_dataset, describe_plan, describe_version
from server.changes import change_body, clean, read_change, small_body
from server.documents import document_etag, json_document
from server.drops import wait_for_drops
from server.errors import HttpError
from server.openapi import JSON_ANSWER, described, parameter, problems
from server.routes.context import OpenEngine, Parameters, ServerSettings
from server.routes.own import Own
from server.settings import Settings

router = APIRouter(prefix="/datasets", tags=["publishing"], dependencies=[Depends(require_local)])

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


@router.post(
    "/{name}/versions",
    status_code=201,
    responses={
        201: {"description": "The new version.", "content": {"application/json": {"schema": {"type": "object"}}}},
        200: {"description": "The version that has this content already, or what would change.", **JSON_ANSWER[200]},
        **_REFUSED,
    },
    openapi_extra={
        **described(
            parameter("filename", "What the file is called; its end tells the format where its bytes do not."),
            parameter("message", "What is new."),
            parameter("by", "Who publishes."),
            parameter("if_latest", "Only when this version is the latest, or none is with none; 412 otherwise."),
            parameter("dry_run", "1: only say what would change.", {"type": "string", "enum": ["0", "1"]}),
        ),
        **_UPLOAD,
    },
)
async def publish_version(
    name: str, request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters
) -> Response:
    """Publish a file: parquet, CSV, JSON lines or Arrow IPC, as the body itself or in a form.

    With ``If-Match`` and the ETag of the dataset's document it is done only when nothing changed since.
    """
    own = Own(pairs, "filename", "message", "by", "if_latest", "dry_run")
    own.check()
    own.refuse_empty("if_latest", "dry_run")  # or what was meant to be careful would publish
    own.flag("dry_run")
    check_dataset_name(name)
    with tempfile.TemporaryDirectory(
        prefix="bytomorrow-upload-", dir=_upload_folder(settings), ignore_cleanup_errors=True
    ) as folder:
        upload = await receive_file(request, Path(folder) / "upload", settings.max_upload_bytes)
        return await anyio.to_thread.run_sync(_publish, request, engine, name, upload, own)


def _upload_folder(settings: Settings) -> Path | None:
    """Where uploads wait; None for the system's folder. With a bucket its own, of which a start clears what is old."""
    if isinstance(settings.store, Path) and settings.cache_dir is None:
        return None
    folder = settings.engine_config().local_dir / "uploads"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_stale(folder, time.time() - STALE_S)
    except OSError:  # the next best place may have room
        return None
    return folder


def _publish(request: Request, engine: Engine, name: str, upload: Upload, own: Own) -> Response:
    fields = ("file", "message", "by", "filename", "if_latest")
    unknown = next((field for field in upload.fields if field not in fields), None)
    if unknown is not None:
        raise UnknownParameterError(
            f"{unknown!r} is no field of this form, which takes {', '.join(fields)}",
            param=unknown,
            did_you_mean=nearest(unknown, fields),
        )

    if upload.fields.get("if_latest") == "":
        raise GrammarError("if_latest is empty; name a version, or none", param="if_latest", value="")

    def text(key: str) -> str:
        return clean(own.text(key) or upload.fields.get(key) or "")

    original_name = _file_name(own.text("filename") or upload.filename) or "upload"
    seen = _check_state(request, engine, name)
    # What If-Match saw holds up to the very record: whoever publishes in between is noticed too.
    if_latest = own.text("if_latest") or upload.fields.get("if_latest") or seen
    if own.flag("dry_run"):
        plan = engine.plan_publish(name, upload.path, original_name=original_name, if_latest=if_latest)
        return json_document(request, describe_plan(plan), cache=NEVER)
    outcome = engine.publish(
        name,
        upload.path,
        message=text("message"),
        by=text("by") or "upload",
        original_name=original_name,
        if_latest=if_latest,
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


@router.put("/{name}/latest", responses={**JSON_ANSWER, **_REFUSED}, openapi_extra=change_body(needs_version=True))
def set_latest(
    name: str, request: Request, engine: OpenEngine, pairs: Parameters, body: Annotated[bytes, Depends(small_body)]
) -> Response:
    """Make a version the one that readers follow who pin nothing: roll back, or forward.

    With ``If-Match`` and the ETag of the dataset's document it is done only when nothing changed since.
    """
    Own(pairs).check()
    wanted = read_change(body, needs_version=True)
    seen = _check_state(request, engine, name)
    version = engine.set_current(name, wanted.version, by=wanted.by, message=wanted.message, if_latest=seen)
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


def _check_state(request: Request, engine: Engine, name: str) -> str | None:
    """Hold a request to its ``If-Match``, if it has one; then which version is the latest in the state that it names.

    Raises
    ------
    HttpError
        412 when the dataset's document has another ETag.
    """
    expected = request.headers.get("if-match")
    if expected is None:
        return None
    try:
        content = describe_dataset(engine, name, None)
    except (DatasetNotFoundError, VersionNotFoundError):
        content = None
    if content is None or not is_same_state(expected, document_etag(content)):
        raise HttpError(412, "precondition_failed", f"{name} has changed since If-Match was read")
    return content["latest"] or "none"


def _file_name(text: str) -> str:
    """The last part of a path, whatever system it comes from, without what a terminal would act on."""
    return clean(text.replace("\\", "/").rpartition("/")[2])[:200]
