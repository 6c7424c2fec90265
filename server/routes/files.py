"""The parquet of a version itself, whole or in ranges. What is in it is for others to say."""

from __future__ import annotations

import re

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from engine.errors import CorruptVersionError
from engine.store import verify_blob
from server.caching import LATEST, PINNED, is_match, is_pin
from server.encoding import FORMATS
from server.errors import HttpError
from server.openapi import problems
from server.routes.context import OpenEngine, Parameters
from server.routes.own import Own

_RANGE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")

router = APIRouter(prefix="/datasets", tags=["datasets"])

_PARQUET = next(item.media_type for item in FORMATS if item.name == "parquet")
_BYTES = {"content": {_PARQUET: {"schema": {"type": "string", "format": "binary"}}}}


@router.get(
    "/{name}/versions/{v}/file",
    responses={
        200: {"description": "The file.", **_BYTES},
        206: {"description": "The ranges asked for.", **_BYTES},
        304: {"description": "The client has this file already."},
        **problems(400, 404, 416, 503),
    },
)
def download(name: str, v: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """The parquet file that a version is stored as."""
    Own(pairs).check()
    version = engine.state(name).resolve(v)
    if len(version.files) != 1:
        raise CorruptVersionError(f"{name} {version.name} is stored in {len(version.files)} files, not in one")
    entry = version.files[0]
    path = verify_blob(engine.store, entry)
    etag = f'"{entry.sha256}"'
    headers = {"ETag": etag, "Cache-Control": PINNED if is_pin(v) else LATEST, "Accept-Ranges": "bytes"}
    if not is_pin(v):
        headers["Content-Location"] = f"/api/datasets/{name}/versions/{version.name}/file"
    if is_match(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    found = path.stat()
    response = _File(
        path, headers=headers, media_type=_PARQUET, filename=f"{name}-{version.name}.parquet", stat_result=found
    )
    # A date would tell two files of one second apart no better than the ETag does, and differs between copies.
    del response.headers["last-modified"]
    if request.scope.get("is_head"):
        return Response(None, headers=response.headers)
    return response


class _File(FileResponse):
    """A file whose range errors are problem documents, and whose If-Range knows the ETag alone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Headers(scope=scope)
        condition = request.get("if-range")
        wanted = request.get("range")
        if wanted is not None and (condition is None or self._should_use_range(condition)):
            wanted = satisfiable(wanted, int(self.headers["content-length"]))
            others = [(key, value) for key, value in scope["headers"] if key != b"range"]
            scope = {**scope, "headers": others + ([(b"range", wanted.encode())] if wanted else [])}
        await super().__call__(scope, receive, send)

    def _should_use_range(self, http_if_range: str) -> bool:
        return http_if_range == self.headers["etag"]


def satisfiable(header: str, size: int) -> str | None:
    """Those ranges of a Range header that a file of ``size`` bytes has.

    None when the header counts as absent, as RFC 9110 (14.2) has it for what cannot be read or is in another unit.

    Raises
    ------
    HttpError
        416 when the file has none of them.
    """
    unit, equals, listed = header.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    kept = []
    for part in filter(None, (piece.strip() for piece in listed.split(","))):
        match = _RANGE.fullmatch(part)
        if match is None or part == "-" or (match[1] and match[2] and int(match[1]) > int(match[2])):
            return None
        if int(match[1]) < size if match[1] else int(match[2]) > 0:
            kept.append(part)
    if not kept:
        raise HttpError(
            416,
            "range_not_satisfiable",
            f"the file has {size} bytes, and nothing in the range asked for",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return f"bytes={','.join(kept)}"
