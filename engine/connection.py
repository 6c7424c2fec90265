"""The one DuckDB of a process: locked down, one thread per query, deadlines by interrupt.

Every exception of DuckDB is translated here and goes no further. Nothing here knows what a dataset is.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import pyarrow as pa

from engine.admission import Admission, Place
from engine.errors import (
    CorruptVersionError,
    EngineError,
    QueryTimeoutError,
    ResourceLimitError,
    StoreError,
)
from engine.spill import SpillFolder

if TYPE_CHECKING:
    from engine.store.filesystem import BlobFileSystem

_LOGGER = logging.getLogger(__name__)

MAX_KNOWN_STATEMENTS = 4096
BATCH_ROWS = 16_384  # rows per Arrow batch: small enough to stream, large enough that per-batch cost vanishes

# A stream that goes on beyond these is a long one. They are what ResultStream reads ahead, so that a long one has found
# its place before anything of it was sent.
FIRST_ROWS = 65_536
FIRST_BYTES = 4 << 20

# A query that was refused memory while others ran tries again after so long, twice so long, and so on: once as it
# begins, and as often as this while it is read, when giving up would cut an answer.
REFUSED_AGAIN_S = 0.1
MORE_TRIES = 6

# An interrupt before DuckDB executes is forgotten when it does (duckdb 2.0), so one is given again and again.
INTERRUPT_AGAIN_S = 0.05

Parameters = Mapping[str, Any] | Sequence[Any]


class Stoppable(Protocol):
    """What goes on for a query. ``close`` ends it, from any thread."""

    def close(self) -> None: ...


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
            if len(self._heap) > 2 * len(self._active) + 64:  # each batch of a long query leaves one behind
                self._heap = [entry for entry in self._heap if entry[1] in self._active]
                heapq.heapify(self._heap)
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
                heapq.heapreplace(self._heap, (time.monotonic() + INTERRUPT_AGAIN_S, ticket, cursor))
                self._fired.add(ticket)
                with suppress(duckdb.Error):  # this thread must outlive whatever became of that cursor
                    cursor.interrupt()


class Rows:
    """A running query: its Arrow schema, and its batches in order.

    Iterating, once, runs the query piece by piece; memory stays bounded by one batch plus what DuckDB itself needs. Use
    as a context manager, or read to the end: both give the cursor back. ``close`` may come from another thread, and
    stops what is running. Reading beyond the first rows may have to wait for a place among the long ones, and raises
    EngineBusyError when there is none to be had.
    """

    def __init__(
        self,
        cursor: duckdb.DuckDBPyConnection,
        watchdog: _Watchdog,
        timeout_s: float,
        place: Place | None,
        has_company: Callable[[], bool],
        translate: Callable[[BaseException], EngineError],
    ) -> None:
        self._cursor = cursor
        self._watchdog = watchdog
        self._place = place
        self._has_company = has_company
        self._ended = _nothing
        self._translate = translate
        self._lock = threading.RLock()  # held while DuckDB works
        self._expired = False
        self._left_s = timeout_s
        self._timeout_s = timeout_s
        self._reader: pa.RecordBatchReader | None = None
        self._open: Callable[[], pa.RecordBatchReader] = _not_started
        self._schema: pa.Schema | None = None
        self._first: pa.RecordBatch | None = None
        self._seen = 0  # batches that the reader has given
        self._done = False
        self._given_rows = 0
        self._given_bytes = 0
        self.engine_s = 0.0

    def _start(
        self,
        sql: str,
        parameters: Parameters | None,
        batch_rows: int,
        check: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> None:
        with self._lock, self._working():
            if self._done:
                raise EngineError("the query was closed before it began")
            cursor = self._cursor
            check(cursor)
            self._open = lambda: _arrow_reader(cursor, sql, parameters, batch_rows)  # without self: a ring would stay
            # Errors of the scan should surface here, before a server has sent the head of its answer.
            self._first = self._advance()
            self._schema = None if self._reader is None else self._reader.schema

    def _when_closed(self, ended: Callable[[], None]) -> None:
        with self._lock:
            if not self._done:
                self._ended = ended
                return
        ended()

    @property
    def schema(self) -> pa.Schema:
        if self._schema is None:
            raise EngineError("the query was not started")
        return self._schema

    def _advance(self) -> pa.RecordBatch | None:
        """The next batch, after another run of the query up to it when others had all of the memory.

        Memory is shared, and who is refused some need not be who has it. The same query gives the same batches.
        """
        wait_s = REFUSED_AGAIN_S
        tries = MORE_TRIES if self._seen else 1
        while True:
            try:
                if self._reader is None:
                    self._reader = self._open()
                    if self._schema is not None and not self._reader.schema.equals(self._schema):
                        raise EngineError("the query cannot be read on: what it reads has changed")
                    for _ in range(self._seen):
                        next(self._reader)
                batch = next(self._reader, None)
                self._seen += 1
                return batch
            except (duckdb.Error, OSError, pa.ArrowException, RuntimeError) as error:
                if not tries or not _is_out_of_memory(error) or not self._has_company():
                    raise
                if self._reader is not None:
                    self._reader.close()
                    self._reader = None
            time.sleep(wait_s)
            tries -= 1
            wait_s *= 2

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            batch = self._next_batch(first=True)
            while batch is not None:
                self._linger(batch)
                yield batch
                batch = self._next_batch()
        finally:
            self.close()

    def _linger(self, batch: pa.RecordBatch) -> None:
        """Go to the long ones once the first rows are over. Holds no lock, so that another thread may close this."""
        if self._place is None or self._given_rows > FIRST_ROWS or self._given_bytes > FIRST_BYTES:
            return
        self._given_rows += batch.num_rows
        self._given_bytes += batch.nbytes
        if self._given_rows > FIRST_ROWS or self._given_bytes > FIRST_BYTES:
            self._place.linger()

    def _next_batch(self, first: bool = False) -> pa.RecordBatch | None:
        with self._lock:
            if self._reader is None:  # an early end must never look like the end of the data
                raise EngineError("the rows cannot be read on: they were read already, or somebody closed them")
            if first:
                batch, self._first = self._first, None
                return batch
            with self._working():
                return self._advance()

    def close(self) -> None:
        wait_s = 0.0
        while not self._lock.acquire(timeout=wait_s):
            with suppress(duckdb.Error):  # it may just have ended by itself
                self._cursor.interrupt()
            wait_s = INTERRUPT_AGAIN_S
        try:
            if self._done:
                return
            self._done = True
            self._first = None
            try:
                self._schema = None
                if self._reader is not None:
                    self._reader.close()
                    self._reader = None
                self._cursor.close()
            finally:
                if self._place is not None:
                    self._place.close()
                self._ended()
        finally:
            self._lock.release()

    def __enter__(self) -> Rows:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        with suppress(Exception):  # a stream that nobody read and nobody closed must not keep its slot
            self.close()

    @contextmanager
    def _working(self) -> Iterator[None]:
        """Charge the time inside to the query's budget, and translate what DuckDB raises."""
        ticket = self._watchdog.arm(self._cursor, max(self._left_s, 0.0))
        started = time.monotonic()
        try:
            try:
                yield
            finally:
                # Once it was interrupted it stays so, even when the interrupt came too late for this batch.
                self._expired = self._watchdog.disarm(ticket) or self._expired
                spent = time.monotonic() - started
                self._left_s -= spent
                self.engine_s += spent
        except (duckdb.Error, OSError, pa.ArrowException, RuntimeError, ValueError, EngineError) as error:
            self.close()
            if self._expired:
                raise QueryTimeoutError(
                    f"the query took longer than its limit of {self._timeout_s:g} s and was stopped"
                ) from error
            raise self._translate(error) from error


class Database:
    """An in-memory DuckDB that may read the named folders and nothing else, and runs nothing but SELECT.

    Parameters
    ----------
    directories
        Folders whose files queries may read.
    temp_directory
        Where a folder of this database's own for large sorts is made, the only one that is ever written. None, or one
        on a disk that is full or read-only, for the system's folder for temporary files.
    files
        Files that are in no folder, which queries may read by the names that it gives them.
    memory_limit_bytes, timeout_s, max_concurrent, queue_timeout_s
        See :class:`engine.config.EngineConfig`. Half of ``max_concurrent`` are places for long answers, and one at
        least of each kind: see ``engine/admission.py``.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        *,
        files: BlobFileSystem | None = None,
        temp_directory: Path | None = None,
        memory_limit_bytes: int = 256 << 20,
        timeout_s: float = 30.0,
        max_concurrent: int = 8,
        queue_timeout_s: float = 10.0,
    ) -> None:
        self.timeout_s = timeout_s
        long_places = max(1, max_concurrent // 2)
        self.admission = Admission(
            max(1, max_concurrent - long_places), long_places=long_places, wait_s=queue_timeout_s
        )
        self._watchdog = _Watchdog()
        self._selects: set[str] = set()
        self._own: set[duckdb.DuckDBPyConnection] = set()
        self._defining = [threading.Lock() for _ in range(64)]  # one view may have to wait for a bucket
        self._spill = _spill_folder(temp_directory)
        self._root = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,  # sums of floats must not depend on scheduling
                "memory_limit": f"{memory_limit_bytes}B",
                "temp_directory": str(self._spill.path),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            },
        )
        folders = list(dict.fromkeys(str(path.resolve()) for path in directories))
        self._hidden = [*folders, *map(str, directories), str(self._spill.path)]
        for folder in folders:
            self._allow(folder.rstrip("/") + "/")
        self._files = files
        if files is not None:
            self._root.register_filesystem(files)
            self._allow(f"{files.protocol}://")
        # GLOBAL: a plain SET is of one connection, and each query has a cursor of its own.
        self._root.execute("SET GLOBAL TimeZone = 'UTC'")
        self._root.execute("SET GLOBAL parquet_can_have_nan = true")  # statistics of a column may leave its NaN out
        self._root.execute("SET GLOBAL parquet_metadata_cache = true")  # blobs are immutable
        # Without it a process keeps for good what one large sort took: 297 MB after 1.9 million rows, and so 111.
        self._root.execute("SET GLOBAL allocator_background_threads = true")
        self._root.execute("SET GLOBAL enable_external_access = false")
        self._root.execute("SET GLOBAL lock_configuration = true")

    def _allow(self, prefix: str) -> None:
        allowed = self._root.execute("SELECT current_setting('allowed_directories')").fetchone()
        current: list[str] = list(allowed[0]) if allowed and allowed[0] else []
        listed = ", ".join("'" + entry.replace("'", "''") + "'" for entry in [*current, prefix])
        self._root.execute(f"SET allowed_directories = [{listed}]")

    def stream(
        self,
        sql: str,
        parameters: Parameters | None = None,
        *,
        timeout_s: float | None = None,
        batch_rows: int = BATCH_ROWS,
        nested: bool = False,
        started: Callable[[Stoppable], None] | None = None,
        ended: Callable[[], None] | None = None,
    ) -> Rows:
        """Start a query and return its rows as a stream of Arrow batches.

        ``started`` is given the place in line if there is one, and then the rows before the first of them is there, so
        that another thread may close them.
        ``ended`` is called, once, when nothing is read any more, also when this raises.
        ``nested`` is for a helper query of one that already holds a place: it takes none, or two such queries could
        wait for each other for ever.
        A ``timeout_s`` above the usual one is for work in the background, as when a version is published: it stands in
        line without counting there, and keeps its place for short work.

        Raises
        ------
        EngineBusyError, QueryTimeoutError, ResourceLimitError, CorruptVersionError, StoreError
        EngineError
            The statement is not one SELECT. Inside an allowed folder DuckDB would write as gladly as it reads.
        """
        ended = ended or _nothing
        limit_s = self.timeout_s if timeout_s is None else timeout_s

        place: Place | None = None
        try:
            if not nested:
                place = self.admission.enter(patience_s=limit_s if limit_s > self.timeout_s else None, waiting=started)
            rows = Rows(self._cursor(place), self._watchdog, limit_s, place, self._has_company, self._translate)
        except BaseException:
            ended()
            raise
        rows._when_closed(ended)
        try:
            if started is not None:
                started(rows)
            rows._start(sql, parameters, batch_rows, lambda cursor: self._require_select(cursor, sql))
        except BaseException:
            rows.close()
            raise
        return rows

    def _has_company(self) -> bool:
        """Whether more than one query runs now."""
        return self.admission.held > 1

    def _cursor(self, place: Place | None) -> duckdb.DuckDBPyConnection:
        try:
            return self._root.cursor()
        except BaseException as error:
            if place is not None:
                place.close()
            if isinstance(error, duckdb.Error):
                raise EngineError("the database is closed") from error
            raise

    def _translate(self, error: BaseException) -> EngineError:
        """What a virtual file said in its own words goes before what DuckDB made of it."""
        if isinstance(error, EngineError):
            return error
        known = self._files.take_error(error) if self._files is not None else None
        return known or translate(error, self._hidden)

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

    def define(self, relation: str, select: str) -> None:
        """Give a SELECT a name that queries may use; an earlier meaning of the name ends.

        The statement is ours, never a user's: it takes no parameters, since a view cannot have any.
        """
        with self._defining[hash(relation) % len(self._defining)]:
            cursor = self._root.cursor()
            try:
                self._require_select(cursor, select)
                cursor.execute(f"CREATE OR REPLACE VIEW {quoted(relation)} AS {select}")
            except (duckdb.Error, OSError, RuntimeError, EngineError) as error:
                raise self._translate(error) from error
            finally:
                cursor.close()

    def forget(self, relation: str) -> None:
        """End the meaning of a name that ``define`` gave; queries that run already go on."""
        with self._defining[hash(relation) % len(self._defining)]:
            cursor = self._root.cursor()
            try:
                cursor.execute(f"DROP VIEW IF EXISTS {quoted(relation)}")
            except (duckdb.Error, RuntimeError) as error:
                raise translate(error, self._hidden) from error
            finally:
                cursor.close()

    def own(self, statements: Sequence[str], *, timeout_s: float) -> None:
        """Run statements of ours that make or drop things in memory, in one transaction; no slot is taken.

        Raises
        ------
        QueryTimeoutError, ResourceLimitError, CorruptVersionError, StoreError
        """
        cursor = self._root.cursor()
        self._own.add(cursor)
        ticket = self._watchdog.arm(cursor, timeout_s)
        try:
            cursor.begin()
            for statement in statements:
                cursor.execute(statement)
            cursor.commit()
        except (duckdb.Error, OSError, RuntimeError, EngineError) as error:
            raise self._translate(error) from error
        finally:
            self._watchdog.disarm(ticket)
            self._own.discard(cursor)
            cursor.close()

    def stop_own(self) -> None:
        """Interrupt what ``own`` runs now."""
        for cursor in list(self._own):
            with suppress(duckdb.Error):
                cursor.interrupt()

    def table_bytes(self) -> int:
        """What the tables in memory take."""
        cursor = self._root.cursor()
        try:
            found = cursor.execute(
                "SELECT sum(memory_usage_bytes + temporary_storage_bytes) FROM duckdb_memory() "
                "WHERE tag = 'IN_MEMORY_TABLE'"
            ).fetchone()
            return int(found[0] or 0) if found else 0
        finally:
            cursor.close()

    def relation(self, sql: str, parameters: Parameters | None = None) -> duckdb.DuckDBPyRelation:
        """A lazy relation on a cursor of its own, for a notebook: no slot, no deadline."""
        cursor = self._root.cursor()
        try:
            self._require_select(cursor, sql)
            found = cursor.sql(sql, params=parameters)
        except (duckdb.Error, OSError, RuntimeError, EngineError) as error:
            raise self._translate(error) from error
        if found is None:
            raise EngineError("the statement gives no rows")
        return found

    def _require_select(self, cursor: duckdb.DuckDBPyConnection, sql: str) -> None:
        if sql in self._selects:  # parsing it once more costs as much as a small query
            return
        # EXPLAIN of a SELECT is one too; EXPLAIN ANALYZE runs what follows, whatever that is.
        statements = cursor.extract_statements(_EXPLAIN.sub("", sql, count=1))
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise EngineError("only a single SELECT statement is run")
        if len(self._selects) >= MAX_KNOWN_STATEMENTS:
            self._selects.clear()
        self._selects.add(sql)

    def close(self) -> None:
        self._watchdog.close()
        self._root.close()
        self._spill.close()


def _spill_folder(parent: Path | None) -> SpillFolder:
    try:
        return SpillFolder(parent)
    except OSError as error:
        # A disk that is full or read-only may have been another one yesterday; anything else is a wrong setting.
        if parent is None or error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise StoreError(f"there can be no folder for temporary files (BT_CACHE_DIR): {error.strerror}") from error
        _LOGGER.warning("the cache folder cannot be written to; what large queries spill goes to the system's own")
        return _spill_folder(None)


def quoted(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _not_started() -> pa.RecordBatchReader:
    raise EngineError("the query was not started")


def _nothing() -> None:
    """Nobody wants to know that a query ended."""


def _arrow_reader(
    cursor: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters | None, batch_rows: int
) -> pa.RecordBatchReader:
    """The rows of a SELECT, run piece by piece as they are read.

    ``cursor.sql(…).to_arrow_reader()`` gives the same rows, and binds the statement once more beforehand, to describe a
    relation that nobody asks for: 0.24 ms of the 0.77 that a small answer takes. This is the call it ends in.
    ``cursor.execute(…).to_arrow_reader()`` holds all rows in memory, beyond any limit.
    """
    values: dict[str, Any] | list[Any] | None = None
    if parameters is not None:
        values = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    submit = getattr(cursor, "_submit", None)  # not public: another release of DuckDB may have no such method
    if submit is None:
        return cursor.sql(sql, params=values).to_arrow_reader(batch_rows)
    return submit(sql, values, "stream", batch_rows).arrow_reader()


_EXPLAIN = re.compile(r"\s*EXPLAIN\s+(?:\(ANALYZE, FORMAT JSON\)\s)?", re.IGNORECASE)  # and what follows is looked at
_PATH = re.compile(r"""["'](?:/|[A-Za-z]:\\)[^"']*["']""")

# What the operating system says when the fault is neither the query's nor the file's, and may be gone in a minute.
_TRANSIENT = [
    os.strerror(code)
    for code in (errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE)
]


def _is_out_of_memory(error: BaseException | None) -> bool:
    text = str(error)
    return isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in text or "could not allocate" in text


def translate(error: BaseException, hidden: Sequence[str] = ()) -> EngineError:
    """The engine's error for an exception of DuckDB or Arrow; its text names no path of this machine.

    ``hidden`` are folders that no text may show; other paths are known by their quotes.
    """
    text = str(error)
    for folder in sorted(hidden, key=len, reverse=True):
        text = re.sub(rf"""["']?{re.escape(folder)}(?:/[^\s"']*|(?=["'\s]|$))["']?""", "the file", text)
    text = _PATH.sub("the file", text.split("\n")[0])
    if _is_out_of_memory(error):
        return ResourceLimitError("the query needs more memory than this server gives one; filter or group more")
    if isinstance(error, duckdb.InterruptException) or text.startswith("INTERRUPT"):
        return QueryTimeoutError("the query was interrupted")
    if isinstance(error, duckdb.OutOfRangeException) or "Out of Range" in text:
        return ResourceLimitError(f"a number left the range of its type: {text.removeprefix('Out of Range Error: ')}")
    if isinstance(error, duckdb.FatalException):
        return EngineError("the database has failed and answers nothing any more; restart this process")
    if isinstance(error, duckdb.PermissionException):
        return StoreError(f"the engine may not read that: {text.removeprefix('Permission Error: ')}")
    if isinstance(error, (duckdb.IOException, OSError)):
        for reason in _TRANSIENT:
            if reason in text:
                return StoreError(f"the disk cannot be used now: {reason}")
    return CorruptVersionError(f"the data could not be read: {text}")
