"""PostgreSQL as a peer: a cluster from Debian's package, the seed's planned tables, a small FastAPI before it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.peers.answers import json_rows
from benchmarks.peers.loading import fingerprint, load_once, loaded_folder
from benchmarks.peers.peer import Ask, CannotError, PeerError
from benchmarks.peers.postgres import cluster
from benchmarks.peers.postgres.spelling import path_of
from benchmarks.peers.starting import free_port, running_server
from benchmarks.process import CHECKOUT, Server
from benchmarks.question import Question
from benchmarks.workload import Encoding

_RECIPE = "postgres 1"  # of tables and indexes: raise it to load again


class Postgres:
    """See ``Peer``."""

    name = "postgres"
    about = (
        "PostgreSQL with the seed's planned tables and the indexes of this workload, tuned for two cores, behind a "
        "minimal FastAPI (psycopg, orjson, uvloop)"
    )
    encodings: tuple[Encoding, ...] = ("json",)

    def prepare(self, files: Path, scratch: Path) -> None:
        with _psycopg():
            load_once(scratch / self.name, _key(files), lambda folder: self._load(files, folder))

    def _load(self, files: Path, folder: Path) -> None:
        import psycopg

        from benchmarks.peers.postgres.tables import fill

        cluster.create_cluster(folder / "cluster")
        with (
            cluster.running_cluster(folder / "cluster", folder / "postgres.log") as running,
            psycopg.connect(running.conninfo, autocommit=True) as connection,
        ):
            fill(connection, files, folder / "spill")

    @contextlib.contextmanager
    def serve(self, files: Path, scratch: Path) -> Iterator[Server]:
        home = scratch / self.name
        folder = loaded_folder(home, _key(files)) / "cluster"
        with _psycopg(), cluster.running_cluster(folder, home / "cluster.log") as running:
            port = free_port()
            command = [
                sys.executable,
                "-P",
                "-m",
                "benchmarks.peers.postgres.app",
                running.conninfo,
                "--port",
                str(port),
            ]
            with running_server(
                self.name,
                command,
                port,
                home,
                health="/health",
                settings={"PYTHONPATH": str(CHECKOUT)},
                pids=(running.process.pid,),
            ) as server:
                yield server

    def ask(self, question: Question, encoding: Encoding) -> Ask:
        if question.kind == "health":
            return Ask("GET", "/health")
        if encoding != "json":
            raise CannotError("PostgreSQL's drivers give rows, and a minimal FastAPI writes them as JSON")
        if question.after is not None:
            raise CannotError("pages by cursor are not part of it")
        return Ask("GET", path_of(question))

    def count_rows(self, body: bytes, encoding: Encoding) -> int:
        return len(json_rows(body))

    def rows(self, body: bytes) -> list[dict[str, Any]]:
        return json_rows(body)

    def versions(self, scratch: Path) -> dict[str, str]:
        packages = ("psycopg", "fastapi", "uvicorn")
        return {"postgresql": cluster.version(), **{name: metadata.version(name) for name in packages}}


POSTGRES = Postgres()


def _key(files: Path) -> str:
    return fingerprint(files, f"{_RECIPE} {cluster.version()}")


@contextlib.contextmanager
def _psycopg() -> Iterator[None]:
    """Developers' packages, which need not be there."""
    try:
        import psycopg
        import psycopg_pool  # noqa: F401
    except ImportError as error:
        raise PeerError(f"psycopg is not installed ({error}): it is one of the developers' packages") from error
    try:
        yield
    except psycopg.Error as error:
        raise PeerError(f"PostgreSQL: {error}") from error
