"""Tiled over the folder of parquet files: whole tables, or some of their columns, in many formats."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson

from benchmarks.peers.answers import arrow_table
from benchmarks.peers.environment import make_environment, version_in
from benchmarks.peers.loading import DATASETS
from benchmarks.peers.peer import Ask, CannotError
from benchmarks.peers.starting import free_port, running_server
from benchmarks.process import Server
from benchmarks.question import Question
from benchmarks.workload import Encoding

REQUIREMENTS = ("tiled[server]==0.2.20",)
_FORMATS: dict[Encoding, str] = {
    "columns": "application/json",
    "arrow": "application/vnd.apache.arrow.file",
}
_LISTS = {"tags", "eval_tasks", "loss_steps", "loss_curve"}
_NO_ROWS = (
    "Tiled's rows as JSON (`json-seq`) take a trip to a thread each: 1.86 million took 8 minutes, so it is asked in "
    "columns and Arrow"
)
_BYTES_LIMIT = 1 << 40  # of a reply; 300 MB unless it is told, which is less than the table at ×10


class Tiled:
    """See ``Peer``."""

    name = "tiled"
    about = "Tiled, serving the folder of parquet files with `tiled serve directory`"
    encodings: tuple[Encoding, ...] = ("columns", "arrow")

    def prepare(self, files: Path, scratch: Path) -> None:
        make_environment(scratch, self.name, REQUIREMENTS)

    @contextlib.contextmanager
    def serve(self, files: Path, scratch: Path) -> Iterator[Server]:
        home, port = scratch / self.name, free_port()
        program = make_environment(scratch, self.name, REQUIREMENTS) / "tiled"
        # Its catalogue is a file in the folder for temporary ones, which it leaves behind.
        with tempfile.TemporaryDirectory(dir=home) as temporary:
            folder = Path(temporary) / "served"
            folder.mkdir()
            for dataset in DATASETS:
                (folder / f"{dataset}.parquet").symlink_to((files / f"{dataset}.parquet").resolve())
            command: list[str | Path] = [program, "serve", "directory", folder, "--public", "--port", str(port)]
            settings = {"TILED_RESPONSE_BYTESIZE_LIMIT": str(_BYTES_LIMIT), "TMPDIR": temporary}
            # It lists the folder, by name, once it listens: the last table is there when all are.
            there = f"/api/v1/metadata/{max(DATASETS)}"
            with running_server(self.name, command, port, home, health=there, settings=settings) as server:
                yield server

    def ask(self, question: Question, encoding: Encoding) -> Ask:
        if question.kind == "health":
            return Ask("GET", "/healthz")
        self._check(question)
        if encoding not in _FORMATS:
            raise CannotError(_NO_ROWS)
        if encoding != "arrow" and question.dataset == "ft-matched" and _LISTS & set(question.columns or _LISTS):
            raise CannotError("Tiled's JSON fails on columns of lists, which pandas holds as numpy arrays")
        pairs = [("format", _FORMATS[encoding]), *(("column", name) for name in question.columns)]
        return Ask("GET", f"/api/v1/table/full/{question.dataset}?{urlencode(pairs)}")

    def _check(self, question: Question) -> None:
        if question.kind != "rows":
            raise CannotError(f"Tiled serves tables and computes nothing from their rows, so it has no {question.kind}")
        if question.where:
            raise CannotError("Tiled's queries choose nodes by their metadata; a table's rows it does not filter")
        if question.sort:
            raise CannotError("Tiled sorts nodes, and no rows")
        if question.limit is not None or question.offset or question.after is not None:
            raise CannotError("Tiled's pages of a table are its files, not a number of rows")

    def count_rows(self, body: bytes, encoding: Encoding) -> int:
        if encoding == "arrow":
            return int(arrow_table(body).num_rows)
        return max(map(len, orjson.loads(body).values()), default=0)

    def rows(self, body: bytes) -> list[dict[str, Any]]:
        if body.startswith(b"ARROW1"):  # asked in that where its JSON fails
            found: list[dict[str, Any]] = arrow_table(body).to_pylist()
            return found
        columns = orjson.loads(body)
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]

    def versions(self, scratch: Path) -> dict[str, str]:
        return {"tiled": version_in(make_environment(scratch, self.name, REQUIREMENTS), "tiled")}


TILED = Tiled()
