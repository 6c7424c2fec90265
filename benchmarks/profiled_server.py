"""``python -m benchmarks.profiled_server FOLDER serve …``: our server with a profiler in each of its threads.

pyinstrument looks at one thread, and a query of ours runs in a worker thread. So each of those gets a profiler of its
own when it starts, and the event loop one when it is up. At the end the folder has ``loop`` and ``workers`` as text and
HTML, and ``duckdb.json``, DuckDB's own profile of the last query that was asked with ``explain=1``.
"""

from __future__ import annotations

import atexit
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from pyinstrument import Profiler
from pyinstrument.renderers import ConsoleRenderer, HTMLRenderer
from pyinstrument.session import Session

INTERVAL_S = 0.0005
_WORKERS = ("AnyIO worker", "ThreadPool", "asyncio_", "bt-")  # names of threads that requests run in


def main() -> None:
    """Run the command line of our server, and write what was seen when it ends."""
    folder = Path(sys.argv[1])
    sessions: list[Session] = []
    _profile_threads(sessions)
    _profile_loop(folder)
    _keep_profile_of_duckdb(folder)
    atexit.register(_write_workers, folder, sessions)  # it runs when the worker threads have ended
    from server.cli import main as command_line

    sys.argv = ["bt", *sys.argv[2:]]
    command_line()


def _profile_threads(sessions: list[Session]) -> None:
    """By way of ``start``, since a thread's class may have a ``run`` of its own, as anyio's has."""
    start = threading.Thread.start

    def profiled_start(thread: threading.Thread) -> None:
        if thread.name.startswith(_WORKERS):
            thread.run = _profiled(thread.run, sessions)  # type: ignore[method-assign]
        start(thread)

    threading.Thread.start = profiled_start  # type: ignore[assignment, method-assign]


def _profiled(run: Callable[[], None], sessions: list[Session]) -> Callable[[], None]:
    def work() -> None:
        profiler = Profiler(INTERVAL_S, async_mode="disabled")
        profiler.start()
        try:
            run()
        finally:
            sessions.append(profiler.stop())

    return work


def _profile_loop(folder: Path) -> None:
    loop = uvicorn.Server.main_loop

    async def profiled(server: uvicorn.Server) -> None:
        profiler = Profiler(INTERVAL_S, async_mode="disabled")
        profiler.start()
        try:
            await loop(server)
        finally:
            _write(folder, "loop", profiler.stop())

    uvicorn.Server.main_loop = profiled  # type: ignore[assignment, method-assign]


def _keep_profile_of_duckdb(folder: Path) -> None:
    """The engine analyses a query for ``explain=1`` and keeps two numbers of it; here all is kept."""
    from engine.connection import Database

    table = Database.table

    def kept(database: Database, sql: str, *arguments: Any, **named: Any) -> Any:
        found = table(database, sql, *arguments, **named)
        if sql.startswith("EXPLAIN (ANALYZE"):
            (folder / "duckdb.json").write_text(str(found.column(1)[0].as_py()))
        return found

    Database.table = kept  # type: ignore[assignment, method-assign]


def _write_workers(folder: Path, sessions: list[Session]) -> None:
    if sessions:
        together = sessions[0]
        for session in sessions[1:]:
            together = Session.combine(together, session)
        _write(folder, "workers", together)


def _write(folder: Path, name: str, session: Session) -> None:
    (folder / f"{name}.txt").write_text(ConsoleRenderer(unicode=True, color=False).render(session))
    (folder / f"{name}-flat.txt").write_text(ConsoleRenderer(color=False, flat=True).render(session))
    (folder / f"{name}.html").write_text(HTMLRenderer().render(session))


if __name__ == "__main__":
    main()
