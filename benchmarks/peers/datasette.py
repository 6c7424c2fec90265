"""Datasette over an indexed SQLite file, asked by custom SQL with named parameters."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pyarrow as pa

from benchmarks.peers.answers import json_rows
from benchmarks.peers.environment import make_environment, version_in
from benchmarks.peers.loading import (
    ORDINAL,
    batches_in_order,
    distinct_texts,
    fingerprint,
    load_once,
    loaded_folder,
    schema_of,
    sorted_batches,
)
from benchmarks.peers.peer import Ask, CannotError, PeerError
from benchmarks.peers.sql import TABLES, Dialect, quote, translate
from benchmarks.peers.starting import free_port, running_server
from benchmarks.process import Server
from benchmarks.question import Question
from benchmarks.workload import Encoding

#: The stable line (1.0 is in alpha), and what uvicorn takes by itself when it is there: a faster loop and parser. For
#: the parser that it has without them, the URL of a pivot (28 kB) is too long.
REQUIREMENTS = ("datasette==0.65.5", "uvloop", "httptools")
LONG, WIDE = TABLES.values()
#: As ``sqlite-utils create-index`` makes them; for the same questions as those of PostgreSQL.
INDEXES = (
    f"CREATE INDEX idx_metric ON {LONG} (metric, data, params, step)",
    f"CREATE INDEX idx_recipe ON {LONG} (data, params, metric)",
    f"CREATE INDEX idx_step ON {LONG} (step, {ORDINAL})",
    f"CREATE INDEX idx_wide ON {WIDE} (params, data)",
)
_SETTINGS = {
    # Its limits are for a public site, and would answer most of the workload with an error.
    "max_returned_rows": "1000000000",
    "sql_time_limit_ms": "600000",
    "cache_size_kb": "65536",
}
_RECIPE = "datasette 2"
#: From the sums: right to nine digits (8.5e-10 at worst in 77 000 groups of the demo data). What lost: the deviations
#: from a mean that is joined (1.5 times slower for 3 000 groups, five times for 77 000) or a window's (2.5 and eight
#: times), and a function in Python, such as the plugin ``datasette-statistics`` has (1.6 times).
_STD = "sqrt(max((sum(value * value) - count(value) * avg(value) * avg(value)) / nullif(count(value) - 1, 0), 0))"


class Datasette:
    """See ``Peer``."""

    name = "datasette"
    about = (
        "Datasette over SQLite, its rows in the order of the key and indexed, the file immutable and inspected, its "
        "limits lifted; asked by SQL with named parameters"
    )
    encodings: tuple[Encoding, ...] = ("json",)

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}

    def prepare(self, files: Path, scratch: Path) -> None:
        programs = make_environment(scratch, self.name, REQUIREMENTS)
        load_once(scratch / self.name, fingerprint(files, _RECIPE), lambda folder: self._load(files, folder, programs))

    def _load(self, files: Path, folder: Path, programs: Path) -> None:
        with contextlib.closing(sqlite3.connect(folder / "bench.db")) as connection:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")
            _fill(connection, LONG, schema_of(files, "datadecide"), sorted_batches(files, folder / "spill"))
            wide = batches_in_order(files, folder / "spill", "ft-matched")
            _fill(connection, WIDE, schema_of(files, "ft-matched"), wide)
            for statement in (*INDEXES, "ANALYZE"):
                connection.execute(statement)
            connection.commit()
        (folder / "names.json").write_bytes(orjson.dumps(distinct_texts(files)))
        inspect: list[str | Path] = [programs / "datasette", "inspect", "bench.db", "--inspect-file", "counts.json"]
        done = subprocess.run(
            inspect, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False
        )
        if done.returncode != 0:
            raise PeerError(f"datasette inspect failed: {done.stderr.decode(errors='replace')[-300:]}")

    @contextlib.contextmanager
    def serve(self, files: Path, scratch: Path) -> Iterator[Server]:
        home = scratch / self.name
        folder, port = loaded_folder(home, fingerprint(files, _RECIPE)), free_port()
        self._names = {name: tuple(texts) for name, texts in orjson.loads((folder / "names.json").read_bytes()).items()}
        program = make_environment(scratch, self.name, REQUIREMENTS) / "datasette"
        settings = [part for name, value in _SETTINGS.items() for part in ("--setting", name, value)]
        files_given: list[str | Path] = ["-i", folder / "bench.db", "--inspect-file", folder / "counts.json"]
        command: list[str | Path] = [program, "serve", *files_given, *settings, "--port", str(port)]
        with running_server(self.name, command, port, home, health="/-/versions.json") as server:
            yield server

    def ask(self, question: Question, encoding: Encoding) -> Ask:
        if question.kind == "health":
            return Ask("GET", "/-/versions.json")
        if encoding != "json":
            raise CannotError("Datasette answers in JSON or CSV")
        statement = translate(question, self._dialect())
        values = {f"p{number}": value for number, value in enumerate(statement.values)}
        return Ask("GET", f"/bench.json?{urlencode({'sql': statement.text, **values, '_shape': 'array'})}")

    def _dialect(self) -> Dialect:
        """SQLite 3.40 has neither deviations nor percentiles nor regressions."""
        return Dialect(
            placeholder=lambda number, _: f":p{number}",
            std=_STD,
            percentile=None,
            regression=False,
            float_type="real",
            names=self._names,
        )

    def count_rows(self, body: bytes, encoding: Encoding) -> int:
        return len(orjson.loads(body))

    def rows(self, body: bytes) -> list[dict[str, Any]]:
        return json_rows(body)

    def versions(self, scratch: Path) -> dict[str, str]:
        programs = make_environment(scratch, self.name, REQUIREMENTS)
        return {"datasette": version_in(programs, "datasette"), "sqlite": sqlite3.sqlite_version}


DATASETTE = Datasette()


def _fill(connection: sqlite3.Connection, table: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    columns = [f"{ORDINAL} integer NOT NULL", *(f"{quote(column.name)} {_type_of(column.type)}" for column in schema)]
    connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
    for batch in batches:
        marks = ", ".join("?" * batch.num_columns)
        cells = (
            map(_cell, column.to_pylist())
            if pa.types.is_nested(column.type) or pa.types.is_temporal(column.type)
            else column.to_pylist()
            for column in batch.columns
        )
        connection.executemany(f"INSERT INTO {table} VALUES ({marks})", zip(*cells, strict=True))


def _type_of(arrow: pa.DataType) -> str:
    if pa.types.is_floating(arrow):
        return "float"
    return "integer" if pa.types.is_integer(arrow) or pa.types.is_boolean(arrow) else "text"


def _cell(value: object) -> str | None:
    """What SQLite has no type for becomes text, as ``sqlite-utils`` does: lists JSON, times ISO 8601."""
    if value is None:
        return None
    return orjson.dumps(value).decode().strip('"')
