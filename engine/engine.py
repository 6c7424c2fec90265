"""The engine: resolves versions, plans requests against them, runs the plans, and publishes. Speaks no HTTP."""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from engine.config import EngineConfig
from engine.connection import Database
from engine.definition import NamedQuery
from engine.errors import (
    DatasetNotFoundError,
    EngineError,
    NamedQueryNotFoundError,
    ResultTooLargeError,
    VersionNotFoundError,
)
from engine.lookups import Lookups
from engine.result import (
    Answer,
    Extras,
    Identity,
    KnownStream,
    Page,
    QueryResult,
    ResultMeta,
    ResultStream,
    plain_texts,
    python_rows,
)
from engine.results_cache import ResultsCache
from engine.settings import load_settings
from engine.store import (
    DatasetLogs,
    DatasetState,
    IngestEvent,
    Ingestor,
    LocalStore,
    Progress,
    Publisher,
    PublishOutcome,
    PublishPlan,
    UnloggedDrops,
    Version,
    Watcher,
    check_dataset_name,
    dataset_exists,
    definition_text,
    list_datasets,
)
from engine.store.definitions import ListedDefinitions
from engine.store.gc import GRACE_S, Failed, Removal, collect
from engine.store.home import open_blobs, open_store
from engine.store.lifecycle import KEEP, Lifecycle
from engine.store.original import write_original
from engine.store.state import Event, is_pin, is_pinned
from engine.summary import ColumnSummary, summarize_column
from engine.tables import Tables
from engine.versions import DatasetVersion, OpenVersions, Scan, describe_values
from queries.compiler import (
    CompiledQuery,
    compile_count,
    compile_facet,
    compile_pivot_values,
    compile_plan,
    compile_ties,
)
from queries.cursor import Cursor, decode_cursor, encode_cursor
from queries.errors import CursorError, LimitExceededError, TypeMismatchError, nearest
from queries.plan import OutputColumn, Plan
from queries.planner import Limits, Position, plan_query
from queries.request import QueryRequest

if TYPE_CHECKING:
    from engine.diff import VersionDiff
    from engine.query import Query

MAX_PIVOT_COLUMNS = 5_000
MAX_FACET_VALUES = 10_000
_PREFIX_DIGITS = 16  # of hashes inside a cursor


class Stoppable(Protocol):
    """What goes on for a request. ``close`` ends it, from any thread."""

    def close(self) -> None: ...


class _Fetching:
    """The files of a query on their way here."""

    def __init__(self) -> None:
        self.stop = threading.Event()

    def close(self) -> None:
        self.stop.set()


@dataclass(frozen=True)
class Prepared:
    """A request that is known to be answerable: version settled, names and values resolved. Nothing has run yet."""

    request: QueryRequest
    version: DatasetVersion
    plan: Plan

    @property
    def query_id(self) -> str:
        return self.plan.query_id

    @property
    def canonical(self) -> str:
        """The canonical query as JSON; its SHA-256 is ``query_id``."""
        return self.plan.canonical

    @property
    def columns(self) -> tuple[OutputColumn, ...] | None:
        """The columns of the answer; None for a pivot, whose columns are values."""
        return self.plan.columns

    @property
    def is_pinned(self) -> bool:
        """Whether the request itself names the version, so that its answer can never change."""
        return is_pinned(self.request.version, self.version.version)


class Engine:
    """Serves and publishes the versions of one store. Safe to use from many threads.

    Parameters
    ----------
    config
        See ``EngineConfig``; ``Engine.open`` is the short way.
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.store = open_store(config)
        is_kept = config.cache_dir is not None or not isinstance(config.store, Path)
        spill = config.local_dir / "spill" if is_kept else None
        self.blobs = open_blobs(config, self.store)
        folders = [self.store.root] if isinstance(self.store, LocalStore) else [config.local_dir]
        self.database = Database(
            [*folders, *self.blobs.directories],
            files=self.blobs.filesystem,
            temp_directory=spill,
            memory_limit_bytes=config.memory_limit_bytes,
            timeout_s=config.query_timeout_s,
            max_concurrent=config.max_concurrent,
            queue_timeout_s=config.queue_timeout_s,
        )
        unlogged = UnloggedDrops(self.store, self.database, self._definition_of)
        self._logs = DatasetLogs(self.store, fallback=unlogged)
        self._publisher = Publisher(
            self.store,
            self.database,
            self._definition_of,
            config.schema_policy,
            logs=self._logs,
            describe=describe_values,
        )
        self._lifecycle = Lifecycle(self.store, self._logs)
        self._ingestor = Ingestor(
            self._publisher,
            self.store,
            config.drop_settle_s,
            definitions=ListedDefinitions(config.definitions, self.store),
            on_latest=lambda version: self.blobs.prefetch(version.files),
        )
        self._watcher: Watcher | None = None
        self.tables = Tables(self.database, config.tables_bytes)
        self.lookups = Lookups(self.database, config.scratch_dir, config.lookup_bytes)
        self._versions = OpenVersions(self.store, self.blobs, self.database, self.tables, self.lookups)
        self._results = ResultsCache(config.results_cache_bytes)
        self._limits = Limits(max_rows=config.max_rows)
        self._lent: list[Scan] = []
        self._lock = threading.Lock()

    @classmethod
    def open(cls, store: str | Path | None = None, **overrides: Any) -> Engine:
        """Open a store.

        Parameters
        ----------
        store
            The store's folder; None for the one that the settings name (``BT_STORE``, else ``datasets``).
        **overrides
            Fields of ``EngineConfig`` that differ from the settings.

        Raises
        ------
        SettingsError
            A setting cannot be used.
        StoreError
            The store cannot be one.
        """
        options = {} if store is None else {"BT_STORE": str(store)}
        return cls(replace(load_settings(options=options).engine_config(), **overrides))

    def close(self) -> None:
        """Stop the background work and give everything back."""
        self.stop_ingest()
        self.tables.close()
        self.lookups.close()
        for scan in self._lent:
            scan.close()
        self.database.close()
        self.blobs.close()
        self.store.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = self.dataset_names()
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        return f"<Engine of {len(names)} datasets: {shown}>" if names else "<Engine of an empty store>"

    # --- what is there

    def dataset_names(self) -> list[str]:
        """The names of all datasets, sorted."""
        return list_datasets(self.store, self._logs)

    def state(self, name: str) -> DatasetState:
        """All that the log of a dataset says; as of now, and for a bucket as of at most ``refresh_s`` ago.

        Raises
        ------
        DatasetNotFoundError, InvalidNameError, CorruptVersionError, StoreError
        """
        log = self._logs.of(name)
        # What is in a bucket is a round trip away: a request must not pay for one to learn that nothing is new.
        state = log.recent(self.config.refresh_s) if self.store.is_remote else log.refresh()
        if not state.seq and not state.versions and not dataset_exists(self.store, name):
            names = self.dataset_names()
            self._logs.forget(name)  # or every name that somebody invents would stay
            raise DatasetNotFoundError(f"there is no dataset {name!r}", did_you_mean=nearest(name, names))
        return state

    def version(self, name: str, spec: str | int | None = None) -> DatasetVersion:
        """One version, opened; ``spec`` is a number, ``v7``, the beginning of a content id, or None for the latest.

        Raises
        ------
        DatasetNotFoundError, VersionNotFoundError, CorruptVersionError, StoreError
        """
        return self.open_version(self.resolve(name, spec))

    def resolve(self, name: str, spec: str | int | None = None) -> Version:
        """The version that a request means. A pin that this process knows needs no look at the store.

        Raises
        ------
        DatasetNotFoundError, VersionNotFoundError, CorruptVersionError, StoreError
        """
        if spec is not None and self.store.is_remote and is_pin(spec):
            with suppress(VersionNotFoundError):
                return self._logs.of(name).state.resolve(spec)
            # It may have been published a moment ago, by another process.
            with suppress(VersionNotFoundError):
                return self.state(name).resolve(spec)
            return self._logs.of(name).refresh().resolve(spec)
        return self.state(name).resolve(spec)

    def open_version(self, version: Version) -> DatasetVersion:
        """A version of a state, opened: what it holds is known."""
        return self._versions.open(version)

    def scan(self, opened: DatasetVersion, plan: Plan | None = None) -> Scan:
        """A relation over a version's files, or over those that a plan needs: see ``OpenVersions.scan``."""
        return self._versions.scan(opened, plan)

    def dataset(self, name: str, version: str | int | None = None) -> Query:
        """The start of a query: see ``engine.query.Query``."""
        from engine.query import Query

        check_dataset_name(name)
        return Query(self, QueryRequest(dataset=name, version=None if version is None else str(version)))

    def column_summary(
        self, version: DatasetVersion, column: str, *, search: str | None = None, limit: int = 100, offset: int = 0
    ) -> ColumnSummary:
        """What is in one column: see ``summarize_column``."""
        with self.scan(version) as scan:
            return summarize_column(
                self.database, version, column, scan.relation, search=search, limit=limit, offset=offset
            )

    def diff(
        self,
        name: str,
        before: str | int | None = None,
        after: str | int | None = None,
        *,
        key: Sequence[str] | None = None,
        limit: int = 100,
    ) -> VersionDiff:
        """What changed between two versions: see ``engine.diff``. Without ``after`` the latest, and its parent."""
        from engine.diff import Comparison, resolve_pair

        old, new = map(self.open_version, resolve_pair(self.state(name), before, after))
        return Comparison(self, old, new, key=key, limit=limit).run()

    def ready(self) -> None:
        """Check that the store can be listed and that a query runs; raises EngineError saying what does not."""
        self.store.list("")
        if self.database.table("SELECT 1 AS one").num_rows != 1:
            raise EngineError("the database does not answer")

    # --- queries

    def prepare(self, request: QueryRequest, opened: DatasetVersion | None = None) -> Prepared:
        """Settle the version, resolve every name and value, and apply the limits. Runs no query of the request.

        ``opened`` is the version that the request means, where somebody has found that out already. A cursor finds its
        own.

        Raises
        ------
        QueryError
            The request is wrong.
        DatasetNotFoundError, VersionNotFoundError, CorruptVersionError, StoreError
        """
        if request.cursor is None:
            version = opened or self.version(request.dataset, request.version)
            return Prepared(request, version, plan_query(request, version.schema, self._limits))
        state = self.state(request.dataset)
        cursor, version = self._resolve_cursor(state, request.cursor, request.version)
        plan = plan_query(request, version.schema, self._limits, Position(cursor.offset, cursor.after))
        if plan.base_id[:_PREFIX_DIGITS] != cursor.query:
            raise CursorError(
                "this cursor belongs to another query; only limit may differ from one page to the next",
                param="cursor",
                value=request.cursor,
            )
        return Prepared(request, version, plan)

    def version_of_cursor(self, name: str, cursor: str, spec: str | int | None = None) -> DatasetVersion:
        """The version that a cursor of a dataset belongs to; raises CursorError, also when ``spec`` is another."""
        return self._resolve_cursor(self.state(name), cursor, spec)[1]

    def _resolve_cursor(self, state: DatasetState, text: str, spec: str | int | None) -> tuple[Cursor, DatasetVersion]:
        """The cursor, and the version that it belongs to, whatever is the latest by now."""
        cursor = decode_cursor(text, self._cursor_key(state.dataset))
        version = state.number(cursor.version)
        if version is None or not version.content_id.startswith(cursor.content_id):
            raise CursorError("this cursor belongs to a version that is not here", param="cursor", value=text)
        if state.is_expired(version.number):
            state.resolve(version.number)  # raises what says so
        named = None if spec is None else state.resolve(spec)
        # What is no pin may have moved since the first page, and the cursor knows where that was.
        if is_pin(spec) and named != version:
            raise CursorError(
                f"this cursor belongs to {version.name}, and the request names {spec}",
                param="cursor",
                value=text,
            )
        return cursor, self.open_version(version)

    def _cursor_key(self, dataset: str) -> bytes:
        # Not a secret: a cursor says nothing that an offset could not. The key makes every change to one noticed.
        return hashlib.sha256(b"bytomorrow cursor 1\0" + dataset.encode()).digest()

    def stream(
        self, prepared: Prepared, *, started: Callable[[Stoppable], None] | None = None
    ) -> ResultStream | KnownStream:
        """Run a prepared request; its rows as a stream of Arrow batches.

        Parameters
        ----------
        started
            Given what goes on before there is a first row, one thing after the other (files are fetched, then a query
            runs), so that another thread may close it.

        Raises
        ------
        ResultTooLargeError
            Without a limit there would be more rows than ``max_rows``.
        EngineBusyError, QueryTimeoutError, ResourceLimitError, CorruptVersionError
        """
        version, plan = prepared.version, prepared.plan
        # Beside the query's id all that it does not settle: warnings and names say things as they were written, and
        # without a log a definition may change.
        key = (version.relation, version.version.definition, plan.query_id, plan.columns, plan.warnings)
        known = self._results.get(key)
        if known is not None:
            return KnownStream(known)
        if not plan.facets and not plan.explain and (rows := self._versions.look_up(version, plan)) is not None:
            return KnownStream(_looked_up(prepared, rows))
        stream = self._run(prepared, started)
        if not plan.explain and (answer := stream.kept()) is not None:
            self._results.put(key, answer)
        return stream

    def _run(self, prepared: Prepared, started: Callable[[Stoppable], None] | None) -> ResultStream:
        version, plan = prepared.version, prepared.plan
        fetching = _Fetching()
        if started is not None:
            started(fetching)
        # What explains an answer tells of the files.
        read = self._versions.scan if plan.explain else self._versions.read
        scan = read(version, plan, stop=fetching.stop)
        try:
            pivot_values = self._pivot_values(prepared, scan)
            compiled = compile_plan(_with_one_more(plan), scan.relation, pivot_values)
            count = self._counter(prepared)
            extras = self._extras(prepared, compiled, scan)
        except BaseException:
            scan.close()
            raise
        has_ordinal = plan.limit is not None and plan.shape.in_given_order
        page = Page(plan.limit, plan.offset, plan.total, has_ordinal, count, self._cursor_maker(prepared))
        identity = Identity(version.dataset, version.version.name, version.content_id, plan.query_id)
        rows = self.database.stream(compiled.sql, compiled.params, started=started, ended=scan.close)
        try:
            stream = ResultStream(identity, rows, _with_units(prepared, compiled.columns, pivot_values), page, extras)
            # Most answers are small, whatever they were made of: only for a long one this counts, and reads all again.
            if plan.limit is None and version.version.rows > self.config.max_rows:
                self._refuse_too_large(stream.count())
            return stream
        except BaseException:
            rows.close()
            raise

    def run(self, prepared: Prepared) -> QueryResult:
        """Run a prepared request to its end; see ``stream``."""
        with self.stream(prepared) as stream:
            table = pa.Table.from_batches(list(stream), schema=stream.schema)
            return QueryResult(plain_texts(table), stream.meta())

    def compile(self, prepared: Prepared) -> CompiledQuery:
        """The SQL of a prepared request. For a pivot this asks the data for the values that become columns."""
        with self.scan(prepared.version, prepared.plan) as scan:
            return compile_plan(prepared.plan, scan.relation, self._pivot_values(prepared, scan))

    def lazily(self, prepared: Prepared) -> duckdb.DuckDBPyRelation:
        """A prepared request as a relation of DuckDB that runs when its user says so. It keeps hold of its files."""
        scan = self.scan(prepared.version, prepared.plan)
        try:
            compiled = compile_plan(prepared.plan, scan.relation, self._pivot_values(prepared, scan))
            relation = self.database.relation(compiled.sql, compiled.params)
        except BaseException:
            scan.close()
            raise
        self._lent.append(scan)
        return relation

    def explain(self, prepared: Prepared) -> dict[str, Any]:
        """SQL, plan, files, and how many rows were read to answer; runs the query."""
        with self.scan(prepared.version, prepared.plan) as scan:
            return self._explain(prepared, scan)

    def _explain(self, prepared: Prepared, scan: Scan) -> dict[str, Any]:
        compiled = compile_plan(prepared.plan, scan.relation, self._pivot_values(prepared, scan))
        found = self.database.table(f"EXPLAIN (ANALYZE, FORMAT JSON) {compiled.sql}", compiled.params)
        analysed = json.loads(found.column(1)[0].as_py())
        readable = self.database.table(f"EXPLAIN {compiled.sql}", compiled.params)
        files = [{"key": file.key, "rows": file.rows, "size": file.size} for file in scan.files]
        return {
            "sql": compiled.sql,
            "plan": readable.column(1)[0].as_py(),
            "files": files,
            "files_left_out": len(prepared.version.version.files) - len(files),
            "rows_read": _rows_read(analysed.get("operator", [])),
        }

    def _pivot_values(self, prepared: Prepared, scan: Scan) -> Sequence[object]:
        plan = prepared.plan
        if plan.shape.pivot is None:
            return ()
        compiled = compile_pivot_values(plan, scan.relation)
        try:
            values: list[object] = self.database.table(compiled.sql, compiled.params).column(0).to_pylist()
        except (OverflowError, ValueError):
            raise TypeMismatchError(
                f"{plan.shape.pivot.column.name} holds days beyond the year 9999, which cannot become columns",
                param="pivot",
            ) from None
        if len(values) > MAX_PIVOT_COLUMNS:
            raise LimitExceededError(
                f"the pivot would make {len(values)} columns; {MAX_PIVOT_COLUMNS} is the most, so filter "
                f"{plan.shape.pivot.column.name}",
                param="pivot",
            )
        return values

    def _counter(self, prepared: Prepared) -> Callable[[], int]:
        plan, version = prepared.plan, prepared.version

        def count() -> int:
            if plan.shape.where is None and plan.after is None and plan.shape.is_every_row:
                return version.version.rows
            with self._versions.read(version, replace(plan, limit=None)) as scan:
                compiled = compile_count(plan, scan.relation)
                total: int = self.database.table(compiled.sql, compiled.params, nested=True).column(0)[0].as_py()
            # A page that begins after an ordinal counts from there.
            return total if plan.after is None else total + plan.offset

        return count

    def _refuse_too_large(self, rows: int) -> None:
        if rows > self.config.max_rows:
            raise ResultTooLargeError(
                f"the answer would have {rows} rows, and {self.config.max_rows} is the most; filter or group more, or "
                "ask for pages with limit and cursor"
            )

    def _cursor_maker(self, prepared: Prepared) -> Callable[[int, int | None], str]:
        version, plan = prepared.version, prepared.plan

        def make(offset: int, ordinal: int | None) -> str:
            cursor = Cursor(
                version=version.version.number,
                content_id=version.content_id[:_PREFIX_DIGITS],
                query=plan.base_id[:_PREFIX_DIGITS],
                offset=offset,
                after=ordinal,
            )
            return encode_cursor(cursor, self._cursor_key(version.dataset))

        return make

    def _extras(self, prepared: Prepared, compiled: CompiledQuery, scan: Scan) -> Extras:
        plan = prepared.plan
        warnings = list(plan.warnings)
        if plan.shape.pick is not None and plan.shape.pick.may_tie:
            ties_query = compile_ties(plan, scan.relation)
            ties = self.database.table(ties_query.sql, ties_query.params).column(0)[0].as_py()
            if ties:
                what = "largest" if prepared.request.last_by else "best"
                groups = "1 group" if ties == 1 else f"{ties} groups"
                warnings.append(
                    f"in {groups} several rows share the {what} {plan.shape.pick.column.name}; of them the first in "
                    "the order of the file is shown"
                )
        facets: dict[str, list[dict[str, Any]]] | None = {} if plan.facets else None
        for facet in plan.facets:
            filtered = replace(plan, shape=replace(plan.shape, where=facet.where), limit=None, after=None)
            with self._versions.read(prepared.version, filtered) as counted_files:
                query = compile_facet(plan, facet, counted_files.relation, MAX_FACET_VALUES + 1)
                counted = python_rows(self.database.table(query.sql, query.params))
            if len(counted) > MAX_FACET_VALUES:
                warnings.append(f"{facet.column.name} has more than {MAX_FACET_VALUES} values; the rest is left out")
            if facets is not None:
                facets[facet.column.name] = counted[:MAX_FACET_VALUES]
        return Extras(tuple(warnings), facets, self._explain(prepared, scan) if plan.explain else None)

    def named_query(self, name: str, query: str, version: str | int | None = None) -> tuple[DatasetVersion, NamedQuery]:
        """A named query of a version's definition.

        Raises
        ------
        NamedQueryNotFoundError
        """
        opened = self.version(name, version)
        found = opened.definition.queries.get(query)
        if found is None:
            names = list(opened.definition.queries)
            raise NamedQueryNotFoundError(
                f"{name} {opened.version.name} has no query {query!r}"
                + (f"; it has {', '.join(names)}" if names else ""),
                did_you_mean=nearest(query, names),
            )
        return opened, found

    # --- publishing

    def publish(
        self,
        name: str,
        data: Any,
        *,
        message: str = "",
        by: str = "",
        original_name: str | None = None,
        progress: Progress | None = None,
        if_latest: str | int | None = None,
    ) -> PublishOutcome:
        """Make a new version of a file, or of a table in memory.

        Parameters
        ----------
        data
            A path to parquet, CSV, JSON lines or Arrow IPC; or a pyarrow, pandas or polars table.
        original_name
            What messages call the file; its name when None.
        if_latest
            The version that must be latest for this to be done: a number, or ``none``.

        Raises
        ------
        RejectedFileError
            The file is no table that can be served, and why.
        InvalidNameError, PublishConflictError, PreconditionFailedError, StoreError
        """
        with _as_file(name, data) as path:
            return self._publisher.publish(
                name, path, message=message, by=by, name=original_name, progress=progress, if_latest=if_latest
            )

    def plan_publish(
        self,
        name: str,
        data: Any,
        *,
        original_name: str | None = None,
        progress: Progress | None = None,
        if_latest: str | int | None = None,
    ) -> PublishPlan:
        """What ``publish`` would do, storing nothing. Raises what that raises, save when the schema policy refuses."""
        with _as_file(name, data) as path:
            return self._publisher.plan(name, path, name=original_name, progress=progress, if_latest=if_latest)

    def set_current(
        self, name: str, spec: str | int, *, by: str = "", message: str = "", if_latest: str | int | None = None
    ) -> Version:
        """Make an existing version the one that readers follow who pin nothing; ``if_latest`` as for ``publish``."""
        self.state(name)
        return self._publisher.set_current(name, spec, by=by, message=message, if_latest=if_latest)

    def original(
        self, name: str, into: str | Path, version: str | int | None = None, *, progress: Progress | None = None
    ) -> Version:
        """Write a version to the parquet file ``into``, its rows in the order in which they were given.

        Raises
        ------
        DatasetNotFoundError, VersionNotFoundError, CorruptVersionError, StoreError
        """
        found = self.state(name).resolve(version)
        write_original(self.blobs, found, Path(into), progress)
        return found

    def tag(
        self, name: str, tag: str, spec: str | int, *, move: bool = False, by: str = "", message: str = ""
    ) -> Version:
        """Give a version a name of its own: see ``Lifecycle.tag``."""
        self.state(name)
        return self._lifecycle.tag(name, tag, spec, move=move, by=by, message=message)

    def untag(self, name: str, tag: str, *, by: str = "", message: str = "") -> int | None:
        """Take a tag away; the number of the version that had it, or None."""
        self.state(name)
        return self._lifecycle.untag(name, tag, by=by, message=message)

    def yank(self, name: str, spec: str | int, *, by: str = "", message: str = "") -> Version:
        """Say that a version is not to be used: only who names it still gets it."""
        self.state(name)
        return self._lifecycle.yank(name, spec, by=by, message=message)

    def restore(self, name: str, spec: str | int, *, by: str = "", message: str = "") -> Version:
        """Take a yank back."""
        self.state(name)
        return self._lifecycle.restore(name, spec, by=by, message=message)

    def expire(
        self,
        name: str,
        specs: Sequence[str | int] | None = None,
        *,
        older_than_s: float | None = None,
        keep: int = KEEP,
        dry_run: bool = False,
        by: str = "",
        message: str = "",
    ) -> tuple[Version, ...]:
        """Serve versions no longer: see ``Lifecycle.expire``."""
        self.state(name)
        return self._lifecycle.expire(
            name, specs, older_than_s=older_than_s, keep=keep, dry_run=dry_run, by=by, message=message
        )

    def collect(
        self,
        name: str | None = None,
        *,
        dry_run: bool = False,
        grace_s: float = GRACE_S,
        failed: Failed | None = None,
    ) -> list[Removal]:
        """Delete files that no version needs: see ``engine.store.gc.collect``."""
        if name is not None:
            self.state(name)
        return collect(self.store, self._logs, name, dry_run=dry_run, grace_s=grace_s, failed=failed)

    def history(self, name: str) -> tuple[Event, ...]:
        """All that was ever done to a dataset, newest first."""
        return self.state(name).history[::-1]

    def poll(self, dataset: str | None = None) -> list[IngestEvent]:
        """Look for dropped files now."""
        if dataset is None:
            return self._ingestor.poll()
        self.state(dataset)
        return self._ingestor.poll_dataset(dataset)

    def start_ingest(self, interval_s: float = 15.0, *, refresh_only: bool = False) -> None:
        """Look for dropped files in the background until ``stop_ingest`` or ``close``.

        With ``refresh_only`` nothing is taken in: what others publish is seen, so that no request has to look for it.
        """
        with self._lock:
            if self._watcher is None:
                self._watcher = Watcher(self._ingestor, interval_s, refresh_only=refresh_only)
            self._watcher.start()

    def stop_ingest(self) -> None:
        with self._lock:
            if self._watcher is not None:
                self._watcher.stop()
                self._watcher = None

    def _definition_of(self, dataset: str) -> str | None:
        return definition_text(self.config.definitions, self.store, dataset)


def _looked_up(prepared: Prepared, rows: pa.RecordBatch) -> Answer:
    """The whole answer whose rows these are, which nothing cut."""
    version, plan = prepared.version, prepared.plan
    columns = plan.columns or ()
    schema = pa.schema([pa.field(column.name, one.type) for column, one in zip(columns, rows.schema, strict=True)])
    count = rows.num_rows
    meta = ResultMeta(
        dataset=version.dataset,
        version=version.version.name,
        content_id=version.content_id,
        query_id=plan.query_id,
        columns=columns,
        returned=count,
        total=count if plan.total else None,
        total_exact=plan.total,
        truncated=False,
        limit=None,
        offset=0,
        next_cursor=None,
        warnings=plan.warnings,
    )
    batches = (pa.RecordBatch.from_arrays(rows.columns, schema=schema),) if count else ()
    return Answer(schema, columns, batches, meta, rows.nbytes)


def _with_units(
    prepared: Prepared, columns: tuple[OutputColumn, ...], pivot_values: Sequence[object]
) -> tuple[OutputColumn, ...]:
    """The columns of a pivot by metric with the unit and direction of each metric; any others as they are."""
    pivot, schema = prepared.plan.shape.pivot, prepared.version.schema
    if pivot is None or pivot.column.name != schema.metric_column or pivot.cell.name != schema.value_column:
        return columns
    start = len(columns) - len(pivot_values)
    infos = [schema.metric_info(str(value)) for value in pivot_values]
    return columns[:start] + tuple(
        column if info is None else replace(column, unit=info.unit, direction=info.direction)
        for column, info in zip(columns[start:], infos, strict=True)
    )


def _with_one_more(plan: Plan) -> Plan:
    """The plan with a limit one higher, which shows whether more rows follow without counting them."""
    slot = plan.shape.limit
    if slot is None or plan.limit is None:
        return plan
    return replace(plan, values=(*plan.values[:slot], plan.limit + 1, *plan.values[slot + 1 :]))


@contextmanager
def _as_file(name: str, data: Any) -> Iterator[Path]:
    """A path as it is, or a table in memory as a file that is gone afterwards."""
    if isinstance(data, (str, Path)):
        yield Path(data)
        return
    table = as_arrow(data)
    check_dataset_name(name)
    with tempfile.TemporaryDirectory(prefix="bytomorrow-") as folder:
        path = Path(folder) / "table.parquet"
        pq.write_table(table, path, compression="zstd")
        yield path


def as_arrow(data: Any) -> pa.Table:
    """A table in memory as Arrow; raises TypeError for what is none."""
    if isinstance(data, pa.Table):
        return data
    if isinstance(data, pa.RecordBatch):
        return pa.Table.from_batches([data])
    if type(data).__module__.split(".")[0] == "pandas" and hasattr(data, "columns"):
        # An index that somebody named is data; a bare one only numbers the rows.
        named = any(name is not None for name in data.index.names)
        return pa.Table.from_pandas(data.reset_index() if named else data, preserve_index=False)
    if hasattr(data, "__arrow_c_stream__"):
        return pa.table(data)
    raise TypeError(f"a path or a pyarrow, pandas or polars table is expected, not {type(data).__name__}")


def _rows_read(operators: list[dict[str, Any]]) -> int:
    total = 0
    for operator in operators:
        if "READ_PARQUET" in str(operator.get("name", "")) or "SCAN" in str(operator.get("type", "")):
            total += int(operator.get("rows_scanned") or operator.get("intermediate_rows") or 0)
        total += _rows_read(operator.get("children", []))
    return total
