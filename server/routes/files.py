"""The parquet of a version itself, whole or in ranges. What is in it is for others to say."""

from __future__ import annotations

import re
from pathlib import Path

from fastapi import APIRouter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from engine.engine import Engine
from engine.store import FileEntry, Version
from engine.store.blobs import Lease
from engine.store.state import is_pin
from server.caching import LATEST, PINNED, is_match
from server.catalogue import file_link
from server.encoding import FORMATS
from server.errors import HttpError
from server.openapi import described, parameter, problems
from server.routes.context import OpenEngine, Parameters
from server.routes.own import Own

_PIECE_BYTES = 1 << 20
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
        **problems(400, 404, 416, 422, 503),
    },
    openapi_extra=described(
        parameter("part", "Which of the files, from 1; needed where there are several.", {"type": "integer"})
    ),
)
def download(name: str, v: str, request: Request, engine: OpenEngine, pairs: Parameters) -> Response:
    """The parquet file that a version is stored as, or one of them."""
    own = Own(pairs, "part")
    own.check()
    version = engine.resolve(name, v)
    part = _part(version, own)
    entry = version.files[part - 1]
    etag = f'"{entry.sha256}"'
    headers = {"ETag": etag, "Cache-Control": PINNED if is_pin(v) else LATEST, "Accept-Ranges": "bytes"}
    if not is_pin(v):
        headers["Content-Location"] = file_link(version, part)
    if is_match(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    which = "" if len(version.files) == 1 else f"-{part}"
    filename = f"{name}-{version.name}{which}.parquet"
    if not engine.blobs.fits(entry):
        return _in_pieces(
            request, engine, entry, {**headers, "Content-Disposition": f'attachment; filename="{filename}"'}
        )
    lease = engine.blobs.open_file(entry)
    try:
        path = Path(*lease.sources)
        response = _File(
            path,
            headers=headers,
            media_type=_PARQUET,
            filename=filename,
            stat_result=path.stat(),
        )
    except BaseException:
        lease.close()
        raise
    # A date would tell two files of one second apart no better than the ETag does, and differs between copies.
    del response.headers["last-modified"]
    if request.scope.get("is_head"):
        lease.close()
        return Response(None, headers=response.headers)
    response.lease = lease
    return response


def _in_pieces(request: Request, engine: Engine, entry: FileEntry, headers: dict[str, str]) -> Response:
    """A file that the disk cache cannot take whole, or one range of it, as it comes from the store."""
    first, last, status = 0, entry.size - 1, 200
    wanted, condition = request.headers.get("range"), request.headers.get("if-range")
    if wanted is not None and condition in (None, headers["ETag"]):
        ranges = satisfiable(wanted, entry.size)
        if ranges is not None and "," not in ranges:  # of several, all of it is an answer too
            start, _, end = ranges.removeprefix("bytes=").partition("-")
            first = int(start) if start else max(0, entry.size - int(end))
            last = min(int(end), entry.size - 1) if start and end else entry.size - 1
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{entry.size}"
    headers["Content-Length"] = str(last - first + 1)
    if request.scope.get("is_head"):
        return Response(None, status_code=status, headers=headers, media_type=_PARQUET)
    pieces = (
        engine.blobs.read(entry, at, min(_PIECE_BYTES, last + 1 - at)) for at in range(first, last + 1, _PIECE_BYTES)
    )
    return StreamingResponse(pieces, status_code=status, headers=headers, media_type=_PARQUET)


def _part(version: Version, own: Own) -> int:
    """Which file is meant, from 1 on.

    Raises
    ------
    HttpError
        404 when the request does not say, and there are several; or when there is no such part.
    """
    parts = len(version.files)
    part = own.count("part", 1)
    if own.text("part") is None and parts > 1:
        raise HttpError(
            404,
            "several_files",
            f"{version.dataset} {version.name} is stored in {parts} files; part=1 to part={parts} give them",
            param="part",
            did_you_mean=[file_link(version, number) for number in range(1, parts + 1)],
        )
    if not 1 <= part <= parts:
        has = "one file" if parts == 1 else f"{parts} files"
        raise HttpError(
            404,
            "several_files" if parts > 1 else "not_found",
            f"{version.dataset} {version.name} has no part {part}: it is stored in {has}",
            param="part",
            value=own.text("part"),
        )
    return part


class _File(FileResponse):
    """A file whose range errors are problem documents, and whose If-Range knows the ETag alone."""

    lease: Lease | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        finally:
            if self.lease is not None:
                self.lease.close()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
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
