"""Which status each error gets, and the problem document (RFC 9457) that tells of it. The one table of both.

Whatever goes wrong below ``/api`` is answered here, unknown paths and our own faults too; nothing of the machine's
leaks out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine import errors as engine_errors
from engine.store.staging import UnsettledFileError
from queries import errors as query_errors
from server.encoding import UnsupportedColumnError

_LOGGER = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
MOST_SHOWN = 300  # characters of a value that a problem repeats


class HttpError(Exception):
    """Something that is wrong with a request as HTTP, and not with the question in it."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        param: str | None = None,
        value: str | None = None,
        did_you_mean: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.param = param
        self.value = value
        self.did_you_mean = tuple(did_you_mean)
        self.headers = dict(headers or {})


@dataclass(frozen=True, slots=True)
class Answered:
    """How one class of errors is answered. ``retry_after_s`` None means that trying again does not help."""

    status: int
    title: str
    retry_after_s: int | None = None


#: Error class → answer. Of an error's classes the most exact one that is listed counts.
TABLE: dict[type[Exception], Answered] = {
    query_errors.QueryError: Answered(400, "The query cannot be answered"),
    query_errors.GrammarError: Answered(400, "The query cannot be read"),
    query_errors.UnknownParameterError: Answered(400, "There is no such parameter"),
    query_errors.UnknownColumnError: Answered(400, "There is no such column"),
    query_errors.CursorError: Answered(400, "The cursor cannot be used"),
    query_errors.TypeMismatchError: Answered(422, "That does not fit the column"),
    query_errors.InvalidValueError: Answered(422, "A value does not fit its column"),
    query_errors.UnknownValueError: Answered(422, "There is no such value"),
    query_errors.LimitExceededError: Answered(413, "The query is beyond a limit"),
    engine_errors.EngineError: Answered(500, "The engine failed"),
    engine_errors.DatasetNotFoundError: Answered(404, "There is no such dataset"),
    engine_errors.VersionNotFoundError: Answered(404, "There is no such version"),
    engine_errors.NamedQueryNotFoundError: Answered(404, "There is no such named query"),
    engine_errors.InvalidNameError: Answered(422, "The name cannot be used"),
    engine_errors.RejectedFileError: Answered(422, "The file cannot be published"),
    engine_errors.DefinitionError: Answered(422, "The definition cannot be used"),
    engine_errors.PublishConflictError: Answered(409, "The version cannot be published"),
    engine_errors.PreconditionFailedError: Answered(412, "The state is not the one that was expected"),
    UnsettledFileError: Answered(409, "The file is still being written", 5),
    engine_errors.ResultTooLargeError: Answered(413, "The answer is too large"),
    engine_errors.ResourceLimitError: Answered(413, "The query needs too much"),
    engine_errors.EngineBusyError: Answered(503, "The server is busy", 1),
    engine_errors.StoreError: Answered(503, "The store cannot be used", 5),
    engine_errors.CorruptVersionError: Answered(503, "The stored data is damaged", 60),
    engine_errors.QueryTimeoutError: Answered(504, "The query took too long"),
    UnsupportedColumnError: Answered(406, "The format cannot carry this answer"),
}

#: All that ``answer_error`` knows an answer to.
LISTED: tuple[type[Exception], ...] = (HttpError, *TABLE)

#: Codes of problems that are no exception of queries or engine, with their titles; the documentation lists them.
HTTP_CODES = {
    "bad_request": "The request cannot be read",
    "not_found": "There is nothing at this path",
    "method_not_allowed": "This path does not take that method",
    "not_acceptable": "None of the formats asked for is served",
    "forbidden": "Not allowed from there",
    "unsupported_column": "The format cannot carry this answer",
    "not_ready": "The server is not ready",
    "precondition_failed": "The state is not the one that was expected",
    "body_too_large": "The body is too large",
    "query_too_long": "The query string is too long",
    "range_not_satisfiable": "The file has no such range",
    "several_files": "The version is stored in several files",
    "tag_not_found": "There is no such tag",
    "internal_error": "The server failed",
}


def problem(
    request: Request,
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document as a response."""
    content = {
        "type": f"/api/docs#problem-{code}",
        "title": title,
        "status": status,
        "detail": _clean(detail),
        "instance": _clean(request.url.path),
        "code": code,
        "errors": [dict(error) for error in errors],
    }
    return Response(
        orjson.dumps(content),
        status,
        headers={"Cache-Control": "no-store", **(headers or {})},
        media_type=PROBLEM_TYPE,
    )


def answer_error(request: Request, error: Exception) -> Response:
    """The problem document for an error that the table lists, or for an HttpError."""
    if isinstance(error, HttpError):
        title = HTTP_CODES.get(error.code, HTTPStatus(error.status).phrase)
        return problem(
            request,
            error.status,
            error.code,
            title,
            error.detail,
            errors=_listed(error.param, error.value, error.did_you_mean),
            headers=error.headers,
        )
    answered = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    status = answered.status
    if isinstance(error, engine_errors.InvalidNameError) and request.method in ("GET", "HEAD"):
        status = 404  # a name that no dataset can have is one that no dataset has
    if status >= 500:
        _LOGGER.warning("%s %s: %s", request.method, request.url.path, error, exc_info=error.__cause__)
    # The line knows how long it is likely to take.
    retry_after_s = getattr(error, "retry_after_s", answered.retry_after_s)
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return problem(
        request,
        status,
        getattr(error, "code", "unsupported_column"),
        answered.title,
        getattr(error, "detail", str(error)),
        errors=_listed(
            getattr(error, "param", None), getattr(error, "value", None), getattr(error, "did_you_mean", ())
        ),
        headers=headers,
    )


def _answer_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404:
        return problem(request, 404, "not_found", HTTP_CODES["not_found"], f"there is nothing at {path}")
    if error.status_code == 405:
        methods = ", ".join(_methods(request))
        detail = f"{path} does not take {request.method}; it takes {methods}"
        headers = {"Allow": methods}
        return problem(request, 405, "method_not_allowed", HTTP_CODES["method_not_allowed"], detail, headers=headers)
    phrase = HTTPStatus(error.status_code).phrase
    return problem(request, error.status_code, "bad_request", phrase, str(error.detail), headers=error.headers)


def _answer_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found: list[dict[str, Any]] = [
        {
            "param": ".".join(str(part) for part in item["loc"] if part not in ("query", "path", "body")) or None,
            "value": _shorten(str(item.get("input"))),
            "did_you_mean": [],
        }
        for item in error.errors()
    ]
    detail = "; ".join(f"{item['param']}: {issue['msg']}" for item, issue in zip(found, error.errors(), strict=True))
    return problem(request, 422, "invalid_value", "A value cannot be used", detail, errors=found)


def _methods(request: Request) -> list[str]:
    """All methods that any route takes at the request's path."""

    def takes(method: str) -> bool:
        asked = {**request.scope, "method": "GET" if method == "HEAD" else method}
        return any(route.matches(asked)[0] is Match.FULL for route in request.app.routes)

    return [method for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT") if takes(method)]


def _listed(param: str | None, value: str | None, did_you_mean: Sequence[str]) -> list[dict[str, Any]]:
    if param is None and not did_you_mean:
        return []
    return [
        {
            "param": None if param is None else _shorten(param),
            "value": None if value is None else _shorten(value),
            "did_you_mean": [_shorten(item) for item in did_you_mean],
        }
    ]


def _shorten(text: str) -> str:
    text = _clean(text)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _clean(text: str) -> str:
    """Text that UTF-8 can carry: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


class ProblemMiddleware:
    """Answers what nobody expected with a 500 that says nothing of it, and writes it to the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watched(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if has_started:
                raise  # the server drops the connection, so that a cut answer cannot pass for a whole one
            request = Request(scope)
            _LOGGER.exception("%s %s failed", request.method, request.url.path)
            detail = "the server failed; its log says how"
            response = problem(request, 500, "internal_error", HTTP_CODES["internal_error"], detail)
            await response(scope, receive, send)


def install_error_handlers(app: FastAPI) -> None:
    """See that every error of ``app`` becomes a problem document."""
    for kind in LISTED:
        app.add_exception_handler(kind, answer_error)
    app.add_exception_handler(HTTPException, _answer_http_exception)
    app.add_exception_handler(RequestValidationError, _answer_validation)
