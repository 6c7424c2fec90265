"""ROAPI: a Rust server that holds the tables in memory as Arrow and asks DataFusion."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from benchmarks.peers.answers import arrow_table, json_rows
from benchmarks.peers.environment import make_environment, version_in
from benchmarks.peers.loading import batches_in_order, distinct_texts, fingerprint, load_once, loaded_folder
from benchmarks.peers.peer import Ask, CannotError
from benchmarks.peers.sql import TABLES, Dialect, literal, translate
from benchmarks.peers.starting import HOST, free_port, running_server
from benchmarks.process import Server
from benchmarks.question import Question
from benchmarks.workload import Encoding

REQUIREMENTS = ("roapi==0.12.7",)
_RECIPE = "roapi 1"
_MEDIA_TYPES: dict[Encoding, str] = {"json": "application/json", "arrow": "application/vnd.apache.arrow.stream"}


class Roapi:
    """See ``Peer``."""

    name = "roapi"
    about = "ROAPI over the parquet files, which it holds in memory as its documentation advises; asked by SQL"
    encodings: tuple[Encoding, ...] = ("json", "arrow")

    def __init__(self) -> None:
        self._names: dict[str, tuple[str, ...]] = {}

    def prepare(self, files: Path, scratch: Path) -> None:
        make_environment(scratch, self.name, REQUIREMENTS)
        load_once(scratch / self.name, fingerprint(files, _RECIPE), lambda folder: self._load(files, folder))

    def _load(self, files: Path, folder: Path) -> None:
        """The same files with the place of each row, since a table of DataFusion's has no order to break ties by."""
        for dataset, table in TABLES.items():
            writer = None
            for batch in batches_in_order(files, folder / "spill", dataset):
                writer = writer or pq.ParquetWriter(folder / f"{table}.parquet", batch.schema, compression="zstd")
                writer.write_batch(batch)
            if writer is not None:
                writer.close()
        (folder / "names.json").write_bytes(orjson.dumps(distinct_texts(files)))

    @contextlib.contextmanager
    def serve(self, files: Path, scratch: Path) -> Iterator[Server]:
        home = scratch / self.name
        folder, port = loaded_folder(home, fingerprint(files, _RECIPE)), free_port()
        self._names = {name: tuple(texts) for name, texts in orjson.loads((folder / "names.json").read_bytes()).items()}
        # It listens for PostgreSQL's and FlightSQL's clients too, on fixed ports if it is not told others.
        ports = {"http": port, "postgres": free_port(), "flight_sql": free_port()}
        config = {
            "addr": {name: f"{HOST}:{number}" for name, number in ports.items()},
            "tables": [{"name": table, "uri": str(folder / f"{table}.parquet")} for table in TABLES.values()],
        }
        path = home / "roapi.yaml"
        path.write_text(json.dumps(config))  # JSON is YAML
        program = make_environment(scratch, self.name, REQUIREMENTS) / "roapi"
        with running_server(self.name, [program, "--config", path], port, home, health="/health") as server:
            yield server

    def ask(self, question: Question, encoding: Encoding) -> Ask:
        if question.kind == "health":
            return Ask("GET", "/health")
        if encoding not in _MEDIA_TYPES:
            raise CannotError("ROAPI answers in JSON by row, Arrow, CSV or parquet")
        text = translate(question, self._dialect()).text
        return Ask("POST", "/api/sql", {"Accept": _MEDIA_TYPES[encoding]}, text.encode())

    def _dialect(self) -> Dialect:
        """DataFusion's only percentile beside the median is approximate, and ROAPI's parser knows no FILTER."""
        return Dialect(
            placeholder=lambda _, value: literal(value),
            percentile=None,
            filtered=lambda column, text: f"max(CASE WHEN {column} = {text} THEN value END)",
            float_type="double",
            names=self._names,
        )

    def count_rows(self, body: bytes, encoding: Encoding) -> int:
        return int(arrow_table(body).num_rows) if encoding == "arrow" else len(orjson.loads(body))

    def rows(self, body: bytes) -> list[dict[str, Any]]:
        return json_rows(body)

    def versions(self, scratch: Path) -> dict[str, str]:
        return {"roapi": version_in(make_environment(scratch, self.name, REQUIREMENTS), "roapi")}


ROAPI = Roapi()
