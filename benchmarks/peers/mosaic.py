"""Mosaic's ``duckdb-server``: Arrow from DuckDB over HTTP, for SQL that the client writes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote as quote_url

import orjson

from benchmarks.peers.answers import arrow_table
from benchmarks.peers.environment import make_environment, version_in
from benchmarks.peers.peer import Ask, CannotError, PeerError
from benchmarks.peers.sql import TABLES, Dialect, literal, translate
from benchmarks.peers.starting import fetch, free_port, running_server
from benchmarks.process import Server
from benchmarks.question import Question
from benchmarks.workload import Encoding

#: It does not say so, but was made for DuckDB before 2.0.
REQUIREMENTS = ("duckdb-server==0.34.2", "duckdb<2", "uvloop")
#: What the program ``duckdb-server`` runs. Its decoder (msgspec 0.22) refuses, on Python 3.11, the alias that stands
#: for both kinds of request, so that every request fails there; the same union without the alias is taken.
_LAUNCH = (
    "import pkg.app, pkg.commands; pkg.app.Command = pkg.commands.ArrowRequest | pkg.commands.ExecRequest; "
    "from pkg.__main__ import serve; serve()"
)
_ALIVE = orjson.dumps({"type": "arrow", "sql": "SELECT 1"})


class Mosaic:
    """See ``Peer``."""

    name = "mosaic"
    about = "Mosaic's duckdb-server, the files loaded into its memory by `exec`; asked by SQL, answers in Arrow alone"
    encodings: tuple[Encoding, ...] = ("arrow",)

    def prepare(self, files: Path, scratch: Path) -> None:
        make_environment(scratch, self.name, REQUIREMENTS)

    @contextlib.contextmanager
    def serve(self, files: Path, scratch: Path) -> Iterator[Server]:
        home, port = scratch / self.name, free_port()
        python = make_environment(scratch, self.name, REQUIREMENTS) / "python"
        alive = f"/?query={quote_url(_ALIVE)}"
        command: list[str | Path] = [python, "-c", _LAUNCH, "--port", str(port)]
        with running_server(self.name, command, port, home, health=alive) as server:
            for dataset, table in TABLES.items():
                source = literal(str((files / f"{dataset}.parquet").resolve()))
                _execute(port, f"CREATE TABLE {table} AS SELECT * FROM read_parquet({source})")
            yield server

    def ask(self, question: Question, encoding: Encoding) -> Ask:
        if question.kind == "health":
            return Ask("POST", "/", body=_ALIVE)  # it has no other sign of life
        if encoding != "arrow":
            raise CannotError("duckdb-server answers in Arrow alone, since 0.32")
        dialect = Dialect(placeholder=lambda _, value: literal(value), ordinal="rowid")
        sql = _pivot(question, dialect) if question.kind == "pivot" else translate(question, dialect).text
        return Ask("POST", "/", {"Content-Type": "application/json"}, orjson.dumps({"type": "arrow", "sql": sql}))

    def count_rows(self, body: bytes, encoding: Encoding) -> int:
        return int(arrow_table(body).num_rows)

    def rows(self, body: bytes) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = arrow_table(body).to_pylist()
        return rows

    def versions(self, scratch: Path) -> dict[str, str]:
        programs = make_environment(scratch, self.name, REQUIREMENTS)
        return {name: version_in(programs, name) for name in ("duckdb-server", "duckdb")}


MOSAIC = Mosaic()


def _pivot(question: Question, dialect: Dialect) -> str:
    """DuckDB pivots by itself, and finds the names."""
    source = translate(Question("rows", where=question.where, dataset=question.dataset), dialect).text
    keys = ", ".join(question.columns)
    return f"PIVOT ({source}) ON {question.pivot} USING max(value) GROUP BY {keys}"


def _execute(port: int, sql: str) -> None:
    status, body = fetch(port, "/", "POST", orjson.dumps({"type": "exec", "sql": sql}))
    if status != 200:
        raise PeerError(f"duckdb-server: {body[:300].decode(errors='replace')}")
