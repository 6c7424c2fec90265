"""The one DuckDB of a process: locked down, one thread per query, deadlines by interrupt.

Every exception of DuckDB is translated here and goes no further. Nothing here knows what a dataset is.
"""

from __future__ import annotations

import heapq
import itertools
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from engine.errors import (
    CorruptVersionError,
    EngineBusyError,
    EngineError,
    QueryTimeoutError,
    ResourceLimitError,
)

BATCH_ROWS = 16_384  # rows per Arrow batch: small enough to stream, large enough that per-batch cost vanishes

Parameters = Mapping[str, Any] | Sequence[Any]


class _Watchdog:
    """Interrupts cursors whose time is up, from one thread for the whole process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._heap: list[tuple[float, int, duckdb.DuckDBPyConnection]] = []
        self._active: set[int] = set()
        self._fired: set[int] = set()
        self._tickets = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False

    def arm(self, cursor: duckdb.DuckDBPyConnection, seconds: float) -> int:
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="duckdb-deadlines", daemon=True)
                self._thread.start()
            ticket = next(self._tickets)
            self._active.add(ticket)
            heapq.heappush(self._heap, (time.monotonic() + seconds, ticket, cursor))
            if self._heap[0][1] == ticket:
                self._condition.notify()
            return ticket

    def disarm(self, ticket: int) -> bool:
        """Forget the deadline; True when it had passed and the cursor was interrupted."""
        with self._condition:
            self._active.discard(ticket)
            if ticket in self._fired:
                self._fired.discard(ticket)
                return True
            return False

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify()

    def _run(self) -> None:
        with self._condition:
            while not self._closed:
                while self._heap and self._heap[0][1] not in self._active:
                    heapq.heappop(self._heap)
                if not self._heap:
                    self._condition.wait()
                    continue
                due, ticket, cursor = self._heap[0]
                wait_s = due - time.monotonic()
                if wait_s > 0:
                    self._condition.wait(wait_s)
                    continue
                heapq.heappop(self._heap)
                self._active.discard(ticket)
                self._fired.add(ticket)
                cursor.interrupt()


class Rows:
    """A running query: its Arrow schema, and its batches in order.

    Iterating runs the query piece by piece; memory stays bounded by one batch plus what DuckDB itself needs. Use as a
    context manager, or read to the end: both give the cursor back.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        watchdog: _Watchdog,
        timeout_s: float,
        release: Callable[[], None],
    ) -> None:
        self._cursor = cursor
        self._watchdog = watchdog
        self._release = release
        self._left_s = timeout_s
        self._timeout_s = timeout_s
        self._reader: pa.RecordBatchReader | None = None
        self._first: pa.RecordBatch | None = None
        self._done = False
        self.engine_s = 0.0

    def _start(self, sql: str, parameters: Parameters | None, batch_rows: int) -> None:
        with self._working():
            relation = self._cursor.sql(sql, params=parameters)
            if relation is None:  # a statement without an answer
                raise EngineError("the statement gives no rows")
            self._reader = relation.to_arrow_reader(batch_rows)
            # Errors of the scan should surface here, before a server has sent the head of its answer.
            self._first = next(iter(self._reader), None)

    @property
    def schema(self) -> pa.Schema:
        if self._reader is None:
            raise EngineError("the query was not started")
        return self._reader.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            batch = self._first
            self._first = None
            while batch is not None:
                yield batch
                with self._working():
                    batch = next(self._reader, None) if self._reader is not None else None
        finally:
            self.close()

    def close(self) -> None:
        if self._done:
            return
        self._done = True
        self._first = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        self._cursor.close()
        self._release()

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Charge the time inside to the query's budget, and translate what DuckDB raises."""
        ticket = self._watchdog.arm(self._cursor, max(self._left_s, 0.0))
        started = time.monotonic()
        fired = False
        try:
            try:
                yield
            finally:
                fired = self._watchdog.disarm(ticket)
                spent = time.monotonic() - started
                self._left_s -= spent
                self.engine_s += spent
        except (duckdb.Error, OSError, pa.ArrowException, RuntimeError) as error:
            self.close()
            if fired:
                raise QueryTimeoutError(
                    f"the query took longer than its limit of {self._timeout_s:g} s and was stopped"
                ) from error
            raise translate(error) from error


class Database:
    """An in-memory DuckDB that may read the named folders and nothing else.

    Parameters
    ----------
    directories
        Folders whose files queries may read.
    temp_directory
        Where large sorts may spill; created, and the only folder that is ever written. None for a private one.
    memory_limit_bytes, timeout_s, max_concurrent, queue_timeout_s
        See :class:`engine.config.EngineConfig`.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        *,
        temp_directory: Path | None = None,
        memory_limit_bytes: int = 256 << 20,
        timeout_s: float = 30.0,
        max_concurrent: int = 8,
        queue_timeout_s: float = 10.0,
    ) -> None:
        self.timeout_s = timeout_s
        self._queue_timeout_s = queue_timeout_s
        self._slots = threading.BoundedSemaphore(max_concurrent)
        self._watchdog = _Watchdog()
        self._private_temp: tempfile.TemporaryDirectory[str] | None = None
        if temp_directory is None:
            self._private_temp = tempfile.TemporaryDirectory(prefix="bytomorrow-", ignore_cleanup_errors=True)
            temp_directory = Path(self._private_temp.name)
        temp_directory.mkdir(parents=True, exist_ok=True)
        self._root = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,  # sums of floats must not depend on scheduling
                "memory_limit": f"{memory_limit_bytes}B",
                "temp_directory": str(temp_directory),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            },
        )
        for folder in dict.fromkeys(str(path.resolve()) for path in directories):
            self._allow(folder)
        self._root.execute("SET TimeZone = 'UTC'")
        self._root.execute("SET parquet_can_have_nan = true")  # statistics of a column may leave its NaN out
        self._root.execute("SET parquet_metadata_cache = true")  # blobs are immutable
        self._root.execute("SET enable_external_access = false")
        self._root.execute("SET lock_configuration = true")

    def _allow(self, folder: str) -> None:
        allowed = self._root.execute("SELECT current_setting('allowed_directories')").fetchone()
        current: list[str] = list(allowed[0]) if allowed and allowed[0] else []
        listed = ", ".join("'" + entry.replace("'", "''") + "'" for entry in [*current, folder.rstrip("/") + "/"])
        self._root.execute(f"SET allowed_directories = [{listed}]")

    def stream(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        timeout_s: float | None = None,
        batch_rows: int = BATCH_ROWS,
        nested: bool = False,
    ) -> Rows:
        """Start a query and return its rows as a stream of Arrow batches.

        ``nested`` is for a helper query of one that already holds a slot: it takes none, or two such queries could
        wait for each other for ever.

        Raises
        ------
        EngineBusyError, QueryTimeoutError, ResourceLimitError, CorruptVersionError
        """
        if not nested and not self._slots.acquire(timeout=self._queue_timeout_s):
            raise EngineBusyError("too many queries are running; try again in a moment")
        release = _nothing if nested else self._slots.release
        try:
            cursor = self._root.cursor()
        except BaseException:
            release()
            raise
        rows = Rows(cursor, self._watchdog, self.timeout_s if timeout_s is None else timeout_s, release)
        try:
            rows._start(sql, parameters, batch_rows)
        except BaseException:
            rows.close()
            raise
        return rows

    def table(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        timeout_s: float | None = None,
        nested: bool = False,
    ) -> pa.Table:
        """Run a query to its end; the whole answer as one Arrow table."""
        with self.stream(sql, parameters, timeout_s=timeout_s, nested=nested) as rows:
            schema = rows.schema
            return pa.Table.from_batches(list(rows), schema=schema)

    def close(self) -> None:
        self._watchdog.close()
        self._root.close()
        if self._private_temp is not None:
            self._private_temp.cleanup()


def _nothing() -> None:
    """What a nested query gives back when it ends."""


_PATH = re.compile(r"""["'](?:/|[A-Za-z]:\\)[^"']*["']""")


def translate(error: BaseException) -> EngineError:
    """The engine's error for an exception of DuckDB or Arrow; its text names no path of this machine."""
    text = _PATH.sub("the file", str(error).split("\n")[0])
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in text or "could not allocate" in text:
        return ResourceLimitError("the query needs more memory than this server gives one; filter or group more")
    if isinstance(error, duckdb.InterruptException) or text.startswith("INTERRUPT"):
        return QueryTimeoutError("the query was interrupted")
    if isinstance(error, duckdb.OutOfRangeException) or "Out of Range" in text:
        return ResourceLimitError(f"a number left the range of its type: {text.removeprefix('Out of Range Error: ')}")
    return CorruptVersionError(f"the data could not be read: {text}")
