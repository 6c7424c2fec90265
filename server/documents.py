"""Small JSON documents: what is known about datasets and versions. Answers of queries go through ``answer.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.responses import Response

from server.caching import LATEST, etag_of_body, is_match
from server.compression import MIN_BYTES, compress
from server.encoding.numbers import LARGEST_EXACT
from server.negotiation import choose_coding


def document_etag(content: Mapping[str, Any], coding: str | None = None) -> str:
    """The ETag that a document has in a content coding."""
    return etag_of_body(orjson.dumps(content, default=plain), coding)


def json_document(
    request: Request,
    content: Mapping[str, Any],
    *,
    status: int = 200,
    cache: str = LATEST,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A document as a response, compressed when it is worth it; 304 when the client has it already."""
    body = orjson.dumps(content, default=plain)
    coding = choose_coding(request.headers.get("accept-encoding"))
    found = {"Vary": "Accept-Encoding", "Cache-Control": cache, **(headers or {})}
    if status == 200:
        found["ETag"] = etag_of_body(body, coding.name)
        if request.method == "GET" and is_match(request.headers.get("if-none-match"), found["ETag"]):
            return Response(status_code=304, headers=found)
    if coding.name is not None and (len(body) >= MIN_BYTES or coding.is_forced):
        body = compress(body, coding.name)
        found["Content-Encoding"] = coding.name
    return Response(body, status, headers=found, media_type="application/json")


def plain(value: Any) -> Any:
    """A value of a column as JSON has it: what ``json_text.py`` does for whole columns, for a single value."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST_EXACT else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return plain(int(value)) if value.as_tuple().exponent == 0 else f"{value:f}"
    if isinstance(value, datetime):
        naive = value.replace(tzinfo=None)
        digits = "milliseconds" if naive.microsecond % 1_000 == 0 else "microseconds"
        return naive.isoformat(timespec=digits if naive.microsecond else "seconds") + "Z"
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, (UUID, timedelta)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form here")
