"""From the bytes that somebody gave to the files that a version of them would have. Stores nothing, decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.connection import Database
from engine.errors import StoreError
from engine.store.convert import convert_to_parquet
from engine.store.facts import encode_facts, facts_of_file
from engine.store.inspect import Inspection, inspect_parquet
from engine.store.layout import Layout, lay_out, sort_columns, sorter
from engine.store.protocol import Progress, Staged
from engine.store.records import Original, SchemaField, Source, content_id_of
from engine.store.rows import Limits
from engine.store.staging import hash_file

#: Given a database, dataset, definition, schema, the files and their rows: the facts that only a query can find; see
#: ``facts.py``.
Describe = Callable[[Database, str, str | None, tuple[SchemaField, ...], Sequence[Path], int], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Given:
    """Bytes on their way to become a version."""

    dataset: str
    staged: Staged
    original: Original
    definition: str | None
    source: Source | None = None


@dataclass(frozen=True, slots=True)
class Files:
    """What a version of the given bytes would store."""

    layout: Layout
    facts: Staged

    @property
    def content_id(self) -> str:
        return content_id_of(file.staged.sha256 for file in self.layout.files)


class Preparation:
    """The steps from given bytes to files, each taken when it is first asked for, and once.

    Parameters
    ----------
    new_file
        Gives names for files that are gone when the publish is over.
    """

    def __init__(
        self,
        database: Database,
        given: Given,
        new_file: Callable[[], Path],
        *,
        describe: Describe | None = None,
        progress: Progress | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.given = given
        self.new_file = new_file
        self._database = database
        self._describe = describe
        self._progress = progress
        self._limits = limits

    @cached_property
    def parquet(self) -> Staged:
        """The given file itself, or what was made of one in another format."""
        staged, original = self.given.staged, self.given.original
        if original.format == "parquet":
            return staged
        into = self.new_file()
        convert_to_parquet(
            self._database,
            staged.path,
            into,
            file_format=original.format,
            name=original.name,
            progress=self._progress,
        )
        return Staged(into, into.stat().st_size, hash_file(into))

    @cached_property
    def inspection(self) -> Inspection:
        return inspect_parquet(
            self._database, self.parquet.path, name=self.given.original.name, progress=self._progress
        )

    @cached_property
    def layout(self) -> Layout:
        columns = sort_columns(self.given.definition, self.inspection.schema)
        return lay_out(
            self._database,
            self.parquet,
            self.inspection,
            columns,
            self.new_file,
            self._progress,
            limits=self._limits,
        )

    @cached_property
    def files(self) -> Files:
        layout, schema = self.layout, self.inspection.schema
        files = [
            facts_of_file(file.staged.path, file.rows, schema, layout.sorted_by, self._progress)
            for file in layout.files
        ]
        found: Mapping[str, Any] = {}
        if self._describe is not None:
            given, rows = self.given, self.inspection.rows
            with sorter(self._database, rows, layout.paths, self.new_file, self._limits) as database:
                found = self._describe(database, given.dataset, given.definition, schema, layout.paths, rows)
        data, path = encode_facts(files, found), self.new_file()
        try:
            path.write_bytes(data)
        except OSError as error:
            raise StoreError(f"the files of the version cannot be written: {error.strerror}") from error
        return Files(layout, Staged(path, len(data), sha256(data).hexdigest()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the layout left alone, if it came to a layout."""
        layout: Layout | None = self.__dict__.get("layout")
        return layout.warnings if layout is not None else ()
