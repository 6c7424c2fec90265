"""Opening a version: the schema that plans are made against, and a relation over the files that a plan needs."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.connection import Database, quoted
from engine.definition import DatasetDefinition, parse_definition
from engine.errors import CorruptVersionError
from engine.lookups import Lookups
from engine.profile import Profile
from engine.pruning import FileRange, files_of_plan
from engine.schemas import build_schema, guess_columns
from engine.store import FileEntry, SchemaField, Store, Version
from engine.store.blobs import Blobs, Lease
from engine.store.facts import Facts, KeyFacts, parse_facts
from engine.store.inspect import SCAN_TIMEOUT_S
from engine.tables import Key, Loan, Source, Tables
from queries.plan import Plan
from queries.schema import Column, Schema

MAX_OPEN = 256  # versions whose profile is kept; beyond it the one used longest ago is opened anew when needed
MAX_RELATIONS = 1024  # views over the files of versions, or over some of them

_LOGGER = logging.getLogger(__name__)
_NUMBERS = ("file_row_number", "file_index")  # DuckDB's own columns, which columns of a file's hide


@dataclass(frozen=True)
class DatasetVersion:
    """One immutable version, opened. ``relation`` is what names of its relations in SQL begin with.

    ``files`` says what is known of each file's values; None where that was not recorded.
    """

    version: Version
    definition: DatasetDefinition
    schema: Schema
    relation: str
    files: tuple[FileRange, ...] | None = None

    @property
    def dataset(self) -> str:
        return self.version.dataset

    @property
    def content_id(self) -> str:
        return self.version.content_id


class Scan:
    """Files of a version, held in reach for as long as this is open, and the name of the relation over them.

    ``files`` are those that were not left out. ``close`` may come twice, and from any thread.
    """

    def __init__(self, relation: str, files: tuple[FileEntry, ...], lease: Lease | Loan) -> None:
        self.relation = relation
        self.files = files
        self._lease = lease

    def close(self) -> None:
        self._lease.close()

    def __enter__(self) -> Scan:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class OpenVersions:
    """The versions that this process has opened, each once, and the relations over their files."""

    def __init__(self, store: Store, blobs: Blobs, database: Database, tables: Tables, lookups: Lookups) -> None:
        self._tables = tables
        self._lookups = lookups
        self._store = store
        self._blobs = blobs
        self._database = database
        self._open: OrderedDict[tuple[str, int, str, str | None], DatasetVersion] = OrderedDict()
        self._relations: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, version: Version) -> DatasetVersion:
        """The version with its schema.

        Files in a folder are checked: their sizes now, their hashes when they are new to this process. Those in a
        bucket are not even looked at, but where what they hold was not recorded.

        Raises
        ------
        CorruptVersionError
            A file is missing or is not what the record says.
        StoreError
        """
        if not self._store.is_remote:
            self._blobs.lease(version.files).close()
        # Without a log, a version has no number, and its definition may change.
        key = (version.dataset, version.number, version.content_id, version.definition)
        with self._lock:
            opened = self._open.get(key)
            if opened is not None:
                self._open.move_to_end(key)
                return opened
        opened = self._opened(version)
        with self._lock:
            opened = self._open.setdefault(key, opened)
            while len(self._open) > MAX_OPEN:
                self._open.popitem(last=False)
        return opened

    def scan(self, opened: DatasetVersion, plan: Plan | None = None, *, stop: threading.Event | None = None) -> Scan:
        """A relation over those files of a version that a plan's rows can come from; over all of them without a plan.

        It has the physical columns and the ordinal, which counts the rows of all files. No file may be used beyond
        the end of the scan.

        Raises
        ------
        CorruptVersionError, StoreError
            The latter also once ``stop`` is set while files are being fetched.
        """
        entries = opened.version.files
        chosen: Sequence[int] = range(len(entries))
        if plan is not None and opened.files is not None and len(entries) > 1 and _knows_places(opened.version):
            chosen = files_of_plan(plan, opened.files) or (0,)  # no row, and still columns
        files = tuple(entries[position] for position in chosen)
        lease = self._blobs.lease(files, stop=stop)
        try:
            relation = self._relation(opened, tuple(chosen), lease.sources)
        except BaseException:
            lease.close()
            raise
        return Scan(relation, files, lease)

    def read(self, opened: DatasetVersion, plan: Plan, *, stop: threading.Event | None = None) -> Scan:
        """What gives a plan its rows soonest: the version's table where there is one, else a scan of its files.

        Both give the same rows in the same order. Columns of a table may have ENUM as their type in place of VARCHAR.
        """
        key = _key_of(opened)
        loan = self._tables.lend(key, lambda: self._source(key, opened))
        if loan is not None:
            return Scan(loan.relation, opened.version.files, loan)
        return self.scan(opened, plan, stop=stop)

    def look_up(self, opened: DatasetVersion, plan: Plan) -> pa.RecordBatch | None:
        """All rows of a plan's answer where they can be had without SQL; see ``engine.lookups``."""
        key = _key_of(opened)
        return self._lookups.answer(key, plan, lambda: self._source(key, opened))

    def _source(self, key: Key, opened: DatasetVersion) -> Source:
        version = opened.version

        def files() -> tuple[str, Callable[[], None]] | None:
            if not self._blobs.is_near(version.files):
                return None
            scan = self.scan(opened)
            return scan.relation, scan.close

        columns = tuple((field.name, field.type) for field in version.schema)
        hides_rowid = any(name.casefold() == "rowid" for name, _ in columns)
        has_ordinal = version.place is not None or hides_rowid
        return Source(key, version.rows, opened.schema, columns, has_ordinal, version.sorted_by, files)

    def _opened(self, version: Version) -> DatasetVersion:
        definition = parse_definition(version.definition)
        facts = self._facts(version)
        finite = _finite_columns(version, facts)
        columns = tuple(
            replace(column, is_finite=column.name in finite) for column in guess_columns(version.schema, definition)
        )
        bare = Schema(version.dataset, columns)
        # With the number: a version of the same content may have another definition, and so another ordinal.
        relation = f"{version.dataset}@{version.number}-{version.content_id[:16]}"
        files: tuple[FileRange, ...] | None = None
        if facts is not None and [file.rows for file in facts.files] == [file.rows for file in version.files]:
            files = facts.files
        unsettled = DatasetVersion(version, definition, bare, relation)

        @contextmanager
        def whole() -> Iterator[str]:
            with self.scan(unsettled) as scan:
                yield scan.relation

        recorded = None if facts is None else {"values": facts.values, "keys": [_plain(known) for known in facts.keys]}
        profile = Profile(self._database, whole, columns, version.rows, _key(definition, columns), recorded)
        schema = build_schema(version.dataset, definition, columns, profile)
        schema = replace(schema, is_in_order=version.place is None)
        return DatasetVersion(version, definition, schema, relation, files)

    def _facts(self, version: Version) -> Facts | None:
        if version.facts is None:
            return None
        try:
            return parse_facts(self._read(version.facts))
        except CorruptVersionError as error:
            # They spare a scan and change no answer: what they say can be found out again.
            _LOGGER.warning("%s %s is read without what was recorded of it: %s", version.dataset, version.name, error)
            return None

    def _read(self, entry: FileEntry) -> bytes:
        data = self._store.read(entry.key)
        if data is None or hashlib.sha256(data).hexdigest() != entry.sha256:
            raise CorruptVersionError(f"{entry.key} is {'missing' if data is None else 'damaged'}")
        return data

    def _relation(self, opened: DatasetVersion, chosen: tuple[int, ...], sources: tuple[str, ...]) -> str:
        files = opened.version.files
        said = "\n".join([opened.schema.ordinal, *map(str, chosen), *sources])
        relation = f"{opened.relation}-{hashlib.sha256(said.encode()).hexdigest()[:16]}"
        with self._lock:
            if relation in self._relations:
                self._relations.move_to_end(relation)
                return relation
        starts = [sum(file.rows for file in files[:position]) for position in chosen]
        self._database.define(relation, _select(opened, sources, starts))
        with self._lock:
            self._relations[relation] = None
            while len(self._relations) > MAX_RELATIONS:
                self._database.forget(self._relations.popitem(last=False)[0])
        return relation


def _key_of(opened: DatasetVersion) -> Key:
    return Key(opened.dataset, opened.relation, opened.schema.ordinal)


def describe_values(
    database: Database,
    dataset: str,
    definition: str | None,
    schema: Sequence[SchemaField],
    paths: Sequence[Path],
    rows: int,
) -> dict[str, Any]:
    """What a version's facts record of its values, found by scanning the files that it is going to have.

    Raises
    ------
    EngineError
    """
    parsed = parse_definition(definition)
    columns = guess_columns(schema, parsed)

    @contextmanager
    def whole() -> Iterator[str]:
        relation = f"{dataset}@new-{hashlib.sha256(str(paths[0]).encode()).hexdigest()[:16]}"
        names = ", ".join(quoted(column.name) for column in columns)
        database.define(relation, f"SELECT {names} FROM {_reader(list(map(str, paths)))}")
        try:
            yield relation
        finally:
            database.forget(relation)

    return Profile(database, whole, columns, rows, _key(parsed, columns), timeout_s=SCAN_TIMEOUT_S).facts()


def _finite_columns(version: Version, facts: Facts | None) -> frozenset[str]:
    """The columns of doubles of which it was recorded that they hold numbers, or null, and nothing else.

    A column with a NaN has no recorded range, and one with an infinity none that JSON can hold.
    """
    if facts is None:
        return frozenset()
    return frozenset(
        field.name
        for field in version.schema
        if field.type == "DOUBLE"
        and all(
            (known := file.columns.get(field.name)) is not None and (known.has_range or known.nulls == file.rows)
            for file in facts.files
        )
    )


def _plain(known: KeyFacts) -> dict[str, list[str]]:
    return {"declared": list(known.declared), "candidates": list(known.candidates), "key": list(known.key)}


def _key(definition: DatasetDefinition, columns: Sequence[Column]) -> list[str]:
    names = {column.name for column in columns}
    return [name for name in definition.key if name in names]


def _knows_places(version: Version) -> bool:
    """Whether the ordinal of a row can be told from its own file."""
    return version.place is not None or _has_numbers(version.schema)


def _has_numbers(fields: Sequence[SchemaField]) -> bool:
    return not any(field.name.casefold() in _NUMBERS for field in fields)


def _reader(sources: Sequence[str]) -> str:
    listed = ", ".join("'" + source.replace("'", "''") + "'" for source in sources)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def _select(opened: DatasetVersion, sources: tuple[str, ...], starts: Sequence[int]) -> str:
    """The statement behind a relation. ``starts`` are the ordinals of the first rows of the files."""
    if opened.version.place is not None:
        number = quoted(opened.version.place)
    elif not _has_numbers(opened.version.schema):
        number = "row_number() OVER () - 1"
    elif len(sources) == 1:
        number = f"file_row_number + {starts[0]}" if starts[0] else "file_row_number"
    else:
        cases = " ".join(f"WHEN {position} THEN {start}" for position, start in enumerate(starts))
        number = f"file_row_number + CASE file_index {cases} END"
    names = [quoted(field.name) for field in opened.version.schema]
    return f"SELECT {', '.join([*names, f'{number} AS {quoted(opened.schema.ordinal)}'])} FROM {_reader(sources)}"
