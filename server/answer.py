"""From a question to a response: the one way that every answer of a query takes, whatever route asked for it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import pyarrow as pa
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from engine import DatasetVersion, Engine, EngineError, Prepared, ResultMeta
from engine.engine import Stoppable
from engine.footing import Footing, footing, states
from server.caching import LATEST, PINNED, is_match, make_etag
from server.compression import MIN_BYTES, compress, make_compressor
from server.encoding import Format, Payload
from server.envelope import describe_meta
from server.errors import HttpError
from server.links import Address
from server.negotiation import VARY, Coding, choose_coding, choose_format
from server.streaming import Head, HeadOnlyResponse, ProducedResponse


class Rows(Protocol):
    """The rows of an answer, as ``engine.ResultStream`` gives them."""

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def complete(self) -> bool: ...

    @property
    def engine_s(self) -> float: ...

    def __iter__(self) -> Iterator[pa.RecordBatch]: ...

    def meta(self) -> ResultMeta: ...

    def count(self) -> int: ...

    def close(self) -> None: ...


Started = Callable[[Stoppable], None]

#: In a request's scope, who wants to know what the answer stands on: a ``Keep``.
KEEP = "bytomorrow.keep"
Keep = Callable[[Footing | None], None]


@dataclass(frozen=True, slots=True)
class Found:
    """An answer as the engine gives it; ``extras`` stand between ``data`` and ``meta``."""

    rows: Rows
    extras: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, settled so far that nothing but the data decides the answer.

    Attributes
    ----------
    version, query_id
        What determines the answer.
    start
        Runs the query up to its first rows; see ``run``.
    address
        What was asked, as a URL.
    pinned
        A URL that always gives this very answer; None when no URL can say it.
    is_pinned
        Whether ``address`` is such a URL already.
    format_name
        The format that the query named itself.
    datasets
        Other datasets than the version's that the question was read by.
    may_be_kept
        Whether the answer may be given again; one that explains itself tells how it was found this time.
    """

    version: DatasetVersion
    query_id: str
    start: Callable[[Started], Found]
    address: Address
    pinned: Address | None
    is_pinned: bool
    format_name: str | None = None
    datasets: tuple[str, ...] = ()
    may_be_kept: bool = True

    def run(self, started: Started | None = None) -> Found:
        """Run the query up to its first rows. ``started`` is given what runs, so that another thread may close it."""
        return self.start(started or _nobody)


def _nobody(running: Stoppable) -> None:
    """Nobody is going to close it early."""


def ask(
    engine: Engine,
    prepared: Prepared,
    address: Address,
    format_name: str | None,
    *,
    pinned: Address | None = None,
) -> Question:
    """The question that a prepared query asks. Without ``pinned``, adding the version is what pins the address."""
    is_direct = pinned is None
    return Question(
        prepared.version,
        prepared.query_id,
        lambda started: Found(engine.stream(prepared, started=started)),
        address,
        address.having(version=prepared.version.version.name) if pinned is None else pinned,
        is_direct and prepared.is_pinned,
        format_name,
        may_be_kept=not prepared.plan.explain,
    )


class QueryResponse(Response):
    """The response to a question: it is read, and answered, in one trip to a worker thread.

    Parameters
    ----------
    request
        Whose headers say what is wanted.
    engine
        Answers it.
    read
        Reads the question from the request; may raise whatever is wrong with it.
    """

    def __init__(self, request: Request, engine: Engine, read: Callable[[], Question]) -> None:
        self._production = AskedProduction(request, engine, read)
        self.status_code = 200
        self.background = None
        self.raw_headers = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await ProducedResponse(self._production, {})(scope, receive, send)
        except _Settled as settled:
            await settled.response(scope, receive, send)


class _Settled(Exception):
    """There is an answer that nothing has to be run for."""

    def __init__(self, response: Response) -> None:
        self.response = response


class AskedProduction:
    """Reads a question, and answers it. It compares ETags first, and runs nothing when they are equal."""

    def __init__(self, request: Request, engine: Engine, read: Callable[[], Question]) -> None:
        self._request = request
        self._engine = engine
        self._read = read
        self._answer: QueryProduction | None = None
        self._is_cancelled = False
        self._started = time.perf_counter()

    def begin(self) -> tuple[Head, Iterator[bytes]]:
        """See ``Production.begin``.

        Raises
        ------
        HttpError
            406, and 412 for a POST whose ``If-None-Match`` holds.
        """
        keep = self._request.scope.get(KEEP)
        seen = states(self._engine) if keep is not None else {}
        question = self._read()
        wanted = self._request.headers
        form = choose_format(wanted.get("accept"), question.format_name)
        coding = choose_coding(wanted.get("accept-encoding"))
        headers = _head(question, form, coding)
        if keep is not None and question.may_be_kept:
            keep(footing(self._engine, seen, question.datasets, question.version.version))
        if is_match(wanted.get("if-none-match"), headers["ETag"]):
            if self._request.method != "GET":
                raise HttpError(412, "precondition_failed", "the answer is the one that If-None-Match names")
            raise _Settled(Response(status_code=304, headers=headers))
        headers["Content-Type"] = form.content_type
        if self._request.scope.get("is_head"):
            raise _Settled(HeadOnlyResponse(headers))
        self._answer = QueryProduction(question, form, coding, self._started)
        if self._is_cancelled:
            self._answer.cancel()
        head, pieces = self._answer.begin()
        return Head({**headers, **head.headers}, head.size), pieces

    def cancel(self) -> None:
        self._is_cancelled = True
        if self._answer is not None:
            self._answer.cancel()

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()


def _head(question: Question, form: Format, coding: Coding) -> dict[str, str]:
    """What the answer's head says before anything has run."""
    headers = {
        "ETag": _etag(question, form, coding),
        "Vary": VARY,
        "Cache-Control": PINNED if question.is_pinned else LATEST,
    }
    if question.pinned is not None and not question.is_pinned:
        headers["Content-Location"] = question.pinned.url
    return headers


class QueryProduction:
    """Runs a query and encodes its rows. ``started`` is when the work for it began, by ``time.perf_counter``."""

    def __init__(self, question: Question, form: Format, coding: Coding, started: float | None = None) -> None:
        self._question = question
        self._form = form
        self._coding = coding
        self._found: Found | None = None
        self._running: Stoppable | None = None
        self._is_cancelled = threading.Event()
        self._started = time.perf_counter() if started is None else started

    def begin(self) -> tuple[Head, Iterator[bytes]]:
        found = self._found = self._question.run(self._hold)
        if self._is_cancelled.is_set():
            raise EngineError("nobody waits for the answer any more")
        rows = found.rows
        payload = Payload(
            rows.schema,
            rows,
            rows.complete,
            opening=lambda: self._opening(found),
            closing=lambda nonfinite: self._envelope(found, nonfinite=nonfinite),
        )
        pieces = self._form.encode(payload)
        if not rows.complete:
            headers = self._timing(rows)
            if self._coding.name is None:
                return Head(headers), pieces
            return Head({**headers, "Content-Encoding": self._coding.name}), _compressed(pieces, self._coding.name)
        body = b"".join(pieces)
        self.close()
        headers = self._next_link(rows.meta())
        if self._coding.name is not None and (len(body) >= MIN_BYTES or self._coding.is_forced):
            body = compress(body, self._coding.name)
            headers["Content-Encoding"] = self._coding.name
        return Head({**headers, **self._timing(rows)}, len(body)), iter((body,))

    def cancel(self) -> None:
        self._is_cancelled.set()
        if self._running is not None:
            self._running.close()
        self.close()

    def _hold(self, running: Stoppable) -> None:
        self._running = running
        if self._is_cancelled.is_set():
            running.close()

    def close(self) -> None:
        if self._found is not None:
            self._found.rows.close()

    def _opening(self, found: Found) -> dict[str, Any]:
        """The envelope before the rows: what a count can tell stands in it, and where the next page begins does not."""
        returned = found.rows.count()
        meta = found.rows.meta()
        is_cut = meta.limit is not None and meta.total is not None and meta.total > meta.offset + returned
        known = {"returned": returned, "truncated": is_cut if meta.total is not None or meta.limit is None else None}
        return self._envelope(found, known)

    def _envelope(
        self, found: Found, known: Mapping[str, Any] | None = None, *, nonfinite: int | None = None
    ) -> dict[str, Any]:
        meta = found.rows.meta()
        counted = {} if nonfinite is None else {"nonfinite": nonfinite}
        content = {**describe_meta(meta), **counted, **(known or {})}
        return {**found.extras, "meta": content, "links": self._links(meta)}

    def _links(self, meta: ResultMeta) -> dict[str, str | None]:
        question = self._question
        following = self._next_address(meta)
        arrow = question.pinned if question.address.path == "/api/query" else question.address
        return {
            "self": question.address.url,
            "pinned": question.pinned.url if question.pinned else None,
            "next": following.url if following else None,
            "arrow": arrow.having(format="arrow").url if arrow else None,
        }

    def _next_address(self, meta: ResultMeta) -> Address | None:
        if meta.next_cursor is None or self._question.pinned is None:
            return None
        return self._question.pinned.having(cursor=meta.next_cursor, offset=None)

    def _next_link(self, meta: ResultMeta) -> dict[str, str]:
        following = self._next_address(meta)
        return {"Link": f'<{following.url}>; rel="next"'} if following else {}

    def _timing(self, rows: Rows) -> dict[str, str]:
        total_ms = (time.perf_counter() - self._started) * 1_000
        return {"Server-Timing": f"engine;dur={rows.engine_s * 1_000:.2f}, total;dur={total_ms:.2f}"}


def _etag(question: Question, form: Format, coding: Coding) -> str:
    version = question.version.version
    return make_etag(
        version.dataset,
        version.name,
        version.content_id,
        _digest(version.definition),  # a store without a log may change it in place, and units stand in the answer
        question.query_id,
        form.name,
        coding.name or "identity",
    )


@lru_cache(maxsize=256)
def _digest(definition: str | None) -> str:
    """Of a text that is long, and the same for all questions about a version."""
    return hashlib.sha256((definition or "").encode()).hexdigest()


def _compressed(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    compressor = make_compressor(coding)
    for piece in pieces:
        yield compressor.feed(piece)
    yield compressor.finish()
