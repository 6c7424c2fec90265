"""Equal questions at the same time: one run, and what becomes of those who wait for it. Over a real engine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine import Engine, EngineConfig
from engine.engine import Stoppable
from engine.errors import EngineBusyError, QueryTimeoutError
from server.app import Application, create_app
from server.sharing import Sharing
from tests.server.conftest import settings, sweep

PATH = "/api/datasets/sweep/rows"
LONG = "/api/datasets/long/rows"
PATIENCE_S = 20


class Gate:
    """Holds back each run of a query until it is opened, and stops it when somebody closes what runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs = 0
        self.entered = threading.Event()
        self.stopped = threading.Event()
        self.open = threading.Event()
        self.errors: list[Exception] = []
        stream = Engine.stream

        def held(engine: Engine, prepared: Any, *, started: Callable[[Stoppable], None] | None = None) -> Any:
            self.runs += 1
            if started is not None:
                started(self)
            self.entered.set()
            assert self.open.wait(PATIENCE_S)
            if self.errors:
                raise self.errors.pop()
            if self.stopped.is_set():
                raise QueryTimeoutError("somebody stopped it")
            return stream(engine, prepared, started=started)

        monkeypatch.setattr(Engine, "stream", held)

    def close(self) -> None:
        self.stopped.set()
        self.open.set()


class Asking:
    """One request; ``leave`` is its client going away."""

    def __init__(self, app: Application, path: str, query: bytes = b"", *, method: str = "GET") -> None:
        self.sent: list[dict[str, Any]] = []
        self._gone = asyncio.Event()
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "root_path": "",
            "headers": [(b"host", b"localhost"), (b"accept-encoding", b"identity")],
            "client": ("127.0.0.1", 50_000),
            "server": ("localhost", 80),
        }
        self._has_body = True
        self.task = asyncio.ensure_future(app(self._scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._has_body:
            self._has_body = False
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.sent.append(dict(message))

    def leave(self) -> None:
        self._gone.set()

    async def answer(self) -> tuple[int, bytes]:
        await asyncio.wait_for(self.task, PATIENCE_S)
        assert self.sent[-1].get("more_body", False) is False
        return self.sent[0]["status"], b"".join(message.get("body", b"") for message in self.sent[1:])


@asynccontextmanager
async def serving(store: Path, **changes: object) -> AsyncIterator[Application]:
    app = create_app(settings(store, **changes))
    async with app.router.lifespan_context(app):
        engine: Engine = app.state.engine
        for name in engine.dataset_names():  # what is known before a question is what its answer is compared with
            engine.version(name)
        yield app


def sharing(app: Application) -> Sharing:
    assert isinstance(app.front, Sharing)
    return app.front


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop run until something holds that nobody tells of."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.001)


async def together(app: Application, number: int, path: str = PATH) -> list[Asking]:
    """That many equal questions, of which the first one runs, and the others wait for it."""
    asked = [Asking(app, path, b"params=4M") for _ in range(number)]
    await until(lambda: waiting(app) == number - 1)
    return asked


def waiting(app: Application) -> int:
    return sum(flight.waiting for flight in sharing(app).flights.values())


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_one_run_for_all(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            asked = await together(app, 6)
            gate.open.set()
            answers = [await one.answer() for one in asked]
            assert gate.runs == 1
            assert len(set(answers)) == 1
            assert answers[0][0] == 200 and b'"returned":30' in answers[0][1]
            timings = [dict(one.sent[0]["headers"])[b"server-timing"] for one in asked]
            assert [timing.endswith(b"cache;desc=hit") for timing in timings] == [False] + [True] * 5
            assert not sharing(app).flights

    run(main)


def test_other_questions_do_not_wait(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            asked = [Asking(app, PATH, query) for query in (b"params=4M", b"params=60M", b"params=4M&format=csv")]
            await until(lambda: gate.runs == 3)
            gate.open.set()
            assert len({await one.answer() for one in asked}) == 3

    run(main)


def test_with_nothing_kept_each_runs(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store, results_cache_bytes=0) as app:
            asked = [Asking(app, PATH) for _ in range(3)]
            await until(lambda: gate.runs == 3)
            gate.open.set()
            assert len({await one.answer() for one in asked}) == 1

    run(main)


def test_each_has_its_own_luck_when_the_first_one_fails(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            gate.errors = [EngineBusyError("too many queries are running")]
            asked = await together(app, 4)
            gate.open.set()
            answers = [await one.answer() for one in asked]
            assert [status for status, _ in answers] == [503, 200, 200, 200]
            assert gate.runs == 4
            assert not sharing(app).flights

    run(main)


def test_others_are_answered_though_the_first_client_leaves(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            asked = await together(app, 3)
            asked[0].leave()
            await asyncio.sleep(0.05)  # time enough for a stop that must not come
            assert not gate.stopped.is_set()
            gate.open.set()
            assert {status for status, _ in [await one.answer() for one in asked[1:]]} == {200}
            assert gate.runs == 1

    run(main)


def test_the_run_is_stopped_when_all_have_left(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            asked = await together(app, 3)
            for one in asked:
                one.leave()
            await until(gate.stopped.is_set)
            for one in asked:
                await asyncio.wait_for(one.task, PATIENCE_S)
                assert one.sent == []
            assert gate.runs == 1
            assert not sharing(app).flights

    run(main)


def test_one_that_waits_may_leave(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            asked = await together(app, 3)
            asked[1].leave()
            await asyncio.wait_for(asked[1].task, PATIENCE_S)
            assert (asked[1].sent, gate.stopped.is_set()) == ([], False)
            gate.open.set()
            assert (await asked[0].answer()) == (await asked[2].answer())

    run(main)


def test_a_long_answer_is_streamed_to_each(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            asked = [Asking(app, LONG, b"format=csv") for _ in range(3)]
            await until(lambda: waiting(app) == 2)
            gate.open.set()
            answers = {await one.answer() for one in asked}
            assert len(answers) == 1
            assert gate.runs == 3

    run(main)


def test_what_is_published_meanwhile_counts_for_those_who_came_later(own_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(own_store) as app:
            first = Asking(app, PATH)
            await until(gate.entered.is_set)
            with Engine(EngineConfig(store=own_store, definitions=None)) as elsewhere:
                await asyncio.to_thread(elsewhere.publish, "sweep", sweep(5.0))
            second = Asking(app, PATH)
            await until(lambda: waiting(app) == 1)
            gate.open.set()
            assert b'"version":"v1"' in (await first.answer())[1]
            assert b'"version":"v2"' in (await second.answer())[1]
            assert gate.runs == 2

    run(main)


def test_a_head_and_a_condition_wait_for_nobody(filled_store: Path, gate: Gate) -> None:
    async def main() -> None:
        async with serving(filled_store) as app:
            first = Asking(app, PATH)
            await until(gate.entered.is_set)
            head = Asking(app, PATH, method="HEAD")
            assert (await head.answer()) == (200, b"")
            gate.open.set()
            assert (await first.answer())[0] == 200

    run(main)
