"""What is asked, and the systems that are: our server over HTTP, and the others as processes of their own."""

from __future__ import annotations

import json
import math
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import orjson

from benchmarks.client import Client
from benchmarks.object_storage.home import Home, StoredFile
from benchmarks.object_storage.material import METRICS, Material
from benchmarks.process import Server, ServerError, end, environment, our_server
from benchmarks.workload import url

OURS = "ours"
OTHERS = ("duckdb-s3fs", "duckdb-s3fs-direct", "pyarrow")
ANSWER_TIMEOUT_S = 300.0  # as long as our client waits
RELATIVE_TOLERANCE = 1e-9  # they sum in different orders


@dataclass(frozen=True, slots=True)
class Question:
    """``one-metric``: a metric at the end of each run, 1,050 rows of one sixtieth of the table. ``group-by``: mean and
    count of every metric by size, from every row."""

    dataset: str
    kind: Literal["one-metric", "group-by"]
    metric: str
    step: int

    @classmethod
    def about(cls, material: Material, kind: Literal["one-metric", "group-by"], metric: str = METRICS[27]) -> Question:
        return cls(material.name, kind, metric, material.last_step)

    @property
    def path(self) -> str:
        """At our server."""
        rows = f"/api/datasets/{self.dataset}/rows"
        if self.kind == "group-by":
            return url(rows, group_by="metric,params", agg="mean:value,count:value")
        return url(rows, metric=self.metric, step=self.step, select="data,params,seed,value")


Rows = list[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Answer:
    """``ms`` is what a caller waited, until the rows had arrived as text."""

    ms: float
    rows: Rows = field(repr=False)


class Asked(Protocol):
    """A system that runs. ``process`` is where its memory is looked up, ``start_s`` how long it took to be there."""

    process: Server
    start_s: float
    versions: Mapping[str, str]

    def ask(self, question: Question) -> Answer:
        """Raises ServerError when it has no answer."""


@dataclass(slots=True)
class _Ours:
    process: Server
    start_s: float
    client: Client
    versions: Mapping[str, str] = field(default_factory=dict)

    def ask(self, question: Question) -> Answer:
        reply = self.client.get(question.path)
        rows = [tuple(row.values()) for row in orjson.loads(reply.body)["data"]]
        return Answer(reply.total_ms, [row[:4] for row in rows])


@contextmanager
def start_ours(store: str | Path, scratch: Path, settings: Mapping[str, str]) -> Iterator[Asked]:
    """Our server, as a fresh process with an empty cache folder, which is removed afterwards."""
    cache = Path(tempfile.mkdtemp(prefix="cache-", dir=scratch))
    try:
        began = time.monotonic()
        with our_server(store, scratch, settings={**settings, "BT_CACHE_DIR": str(cache)}) as server:
            start_s = time.monotonic() - began
            with Client(server.port) as client:
                yield _Ours(server, start_s, client)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


@dataclass(slots=True)
class _Other:
    process: Server
    start_s: float
    versions: Mapping[str, str]

    def ask(self, question: Question) -> Answer:
        asked = {"kind": question.kind, "metric": question.metric, "step": question.step}
        began = time.perf_counter()
        answer = _exchange(self.process, asked)
        return Answer((time.perf_counter() - began) * 1000, [tuple(row) for row in answer["rows"]])


@contextmanager
def start_other(name: str, python: Path, home: Home, files: tuple[StoredFile, ...], scratch: Path) -> Iterator[Asked]:
    """Another system, as a fresh process that is told the files, so that it need not list them.

    Raises
    ------
    ServerError
        It does not start.
    """
    settings = home.settings("")
    keys = {name: settings[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    log = scratch / f"{name}.log"
    began = time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [str(python), "-P", str(Path(__file__).with_name("worker.py"))],
            env={**environment({**keys, "AWS_EC2_METADATA_DISABLED": "true"}), "PYTHONPATH": ""},
            cwd=scratch,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    server = Server(name, 0, process, log)
    try:
        setup = {"system": name, "endpoint": home.proxy.endpoint, "files": [file.key for file in files]}
        versions = _exchange(server, setup)["versions"]
        yield _Other(server, time.monotonic() - began, versions)
    finally:
        end(process)
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


def _exchange(server: Server, message: Mapping[str, Any]) -> dict[str, Any]:
    pipes = server.process.stdin, server.process.stdout
    assert pipes[0] is not None and pipes[1] is not None
    try:
        pipes[0].write(json.dumps(message).encode() + b"\n")
        pipes[0].flush()
        if not select.select([pipes[1]], [], [], ANSWER_TIMEOUT_S)[0]:
            raise ServerError(f"{server.name} gave no answer within {ANSWER_TIMEOUT_S:.0f} s")
        line = pipes[1].readline()
    except BrokenPipeError:
        line = b""
    if not line:
        with suppress(subprocess.TimeoutExpired):
            server.process.wait(5)
        server.check()
        raise ServerError(f"{server.name} closed its output")
    answer: dict[str, Any] = orjson.loads(line)
    if "error" in answer:
        raise ServerError(f"{server.name}: {answer['error']}")
    return answer


def difference(here: Rows, there: Rows) -> str | None:
    """Where two answers to one question differ, floats beyond rounding; None when they agree."""
    if len(here) != len(there):
        return f"{len(here):,} rows and {len(there):,} rows"
    for mine, other in zip(sorted(here, key=_identity), sorted(there, key=_identity), strict=True):
        if not all(_equal(a, b) for a, b in zip(mine, other, strict=True)):
            return f"{mine} and {other}"
    return None


def _identity(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(cell for cell in row if not isinstance(cell, float))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=RELATIVE_TOLERANCE)
    return bool(a == b)


def python_of(name: str, s3fs: Path | None) -> Path | None:
    """Which Python runs a system; None when there is none for it."""
    return Path(sys.executable) if name == "pyarrow" else s3fs
