"""A real server in half a gigabyte: four full loads, thirty-two clients who ask all sorts of things, and a publish.

The process may not grow beyond a hard limit of its data (``RLIMIT_DATA``), and its largest resident size is what the
kernel says it was (``VmHWM``). All rows of ×1, and a twelfth of those of ×10, are compared with those of the published
file, and other answers with what DuckDB makes of that file. ``BT_TEST_SIZES=1`` leaves out ×10, which takes about a
minute and a half on two cores.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import os
import random
import re
import resource
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import duckdb
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from engine import Engine, EngineConfig
from engine.demo import write_demo_parquet
from tests.object_storage.processes import running, url_of
from tests.server.full_loads import Checker

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's own count is Linux's")

MOST_BYTES = 512 << 20
# What may be written to and mostly is not: a stack of 8 MB for each thread that answers may have (two pools, of 40 and
# 64, and a dozen more). It is counted as data, and resident where it was used.
STACKS_BYTES = 116 * (8 << 20)

FORMATS = ("json", "columns", "arrow", "csv")
CLIENTS = 32
DATA = "/api/visualize/data"
SIZES = [int(size) for size in os.environ.get("BT_TEST_SIZES", "1,10").split(",")]


@dataclass(frozen=True)
class Published:
    """Data, as a store that holds it and as a file of the same rows in the same order."""

    store: Path
    rows: Path
    upload: Path
    times: int

    def expected(self) -> pa.Table:
        return pa.ipc.open_file(pa.memory_map(str(self.rows.with_suffix(".arrow")))).read_all()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "datadecide.parquet"
    write_demo_parquet("datadecide", path)
    return path


@pytest.fixture(scope="module", params=SIZES, ids=lambda size: f"x{size}")
def published(request: pytest.FixtureRequest, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Published:
    folder = tmp_path_factory.mktemp(f"x{request.param}")
    rows = folder / "rows.parquet"
    with duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder / "spill")}) as made:
        # More recipes: each with the values of another, a little higher.
        made.execute(
            "COPY (SELECT params, CASE WHEN i = 0 THEN data ELSE data || ' v' || i END AS data, step, tokens, compute, "
            f"metric, value + i * 0.001 AS value FROM range({request.param}) r(i), "
            f"read_parquet('{demo}', file_row_number = true) ORDER BY metric, 2, file_row_number) TO '{rows}'"
        )
        batches = made.sql(f"SELECT * FROM read_parquet('{rows}')").to_arrow_reader(1 << 16)
        with pa.ipc.new_file(str(rows.with_suffix(".arrow")), batches.schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
    with Engine(EngineConfig(store=folder / "store")) as engine:
        engine.publish("datadecide", rows)
    return Published(folder / "store", rows, demo, request.param)


class Served:
    """A running server whose data may not grow beyond the limit."""

    def __init__(self, port: int, pid: int) -> None:
        self.port = port
        self.pid = pid
        most = MOST_BYTES + STACKS_BYTES
        resource.prlimit(pid, resource.RLIMIT_DATA, (most, most))

    def ask(self, path: str, **parameters: str) -> tuple[int, bytes, float]:
        """Status, body, and after how many seconds to come again."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        with contextlib.closing(connection):
            connection.request("GET", f"{path}?{urlencode(parameters)}")
            response = connection.getresponse()
            return response.status, response.read(), float(response.headers.get("retry-after", 0))

    def peak_bytes(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None
        return int(found[1]) << 10


@contextlib.contextmanager
def serving(published: Published, cache: Path, **more: str) -> Iterator[Served]:
    settings = {"BT_MAX_ROWS": "30000000", "BT_QUERY_TIMEOUT": "300", "BT_INGEST": "off", **more}
    with running(published.store, cache, "serve", "--port", "0", **settings) as process:
        yield Served(int(url_of(process).rpartition(":")[2]), process.pid)
        assert process.poll() is None, "the server did not survive"


@dataclass
class Asked:
    """What a client asked for, and what DuckDB has to make of the file for the same answer."""

    path: str
    parameters: dict[str, str]
    sql: str
    values: list[Any]
    body: bytes = b""


@dataclass
class Client:
    """Somebody who asks one thing after another, each time another one, and comes again when told to."""

    served: Served
    seed: int
    recipes: list[str]
    metrics: list[str]
    answered: list[Asked] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refused: int = 0

    def run(self, is_over: threading.Event) -> None:
        rng = random.Random(self.seed)
        turn = self.seed
        while True:
            asked = self._question(turn, rng)
            turn += 1
            status, asked.body, wait_s = self.served.ask(asked.path, **asked.parameters)
            if status == 200:
                self.answered.append(asked)
            elif status == 503 and wait_s >= 1:
                self.refused += 1
                time.sleep(min(wait_s, 3.0))
            else:
                self.failures.append(f"{asked.path} {asked.parameters}: {status} {asked.body[:300]!r}")
            if is_over.is_set() and self.answered:
                return

    def _question(self, turn: int, rng: random.Random) -> Asked:
        recipe, metric, size = rng.choice(self.recipes), rng.choice(self.metrics), rng.choice(["60M", "150M", "1B"])
        kinds = [self._small, self._slice, self._groups, self._pivot, self._page]
        return kinds[turn % len(kinds)](recipe, metric, size, rng)

    def _small(self, recipe: str, metric: str, size: str, rng: random.Random) -> Asked:
        sql = "SELECT step, value FROM t WHERE data = ? AND metric = ? AND params = ? ORDER BY place"
        parameters = {"data": recipe, "metric": metric, "params": size, "select": "step,value"}
        return Asked(DATA, parameters, sql, [recipe, metric, size])

    def _slice(self, recipe: str, metric: str, size: str, rng: random.Random) -> Asked:
        sql = "SELECT step, compute, value FROM t WHERE metric = ? AND params IN (?, '530M') ORDER BY place"
        parameters = {"metric": metric, "params": f"{size},530M", "select": "step,compute,value"}
        return Asked(DATA, parameters, sql, [metric, size])

    def _groups(self, recipe: str, metric: str, size: str, rng: random.Random) -> Asked:
        sql = (
            "SELECT data, max(step) AS max_step, median(value) AS median_value, avg(value) AS mean_value "
            "FROM t WHERE metric = ? AND step >= ? GROUP BY data ORDER BY data"
        )
        step = rng.choice([0, 5000, 20000])
        parameters = {
            "metric": metric, "step__gte": str(step), "group_by": "data", "sort": "data",
            "agg": "max:step,median:value,mean:value",
        }  # fmt: skip
        return Asked("/api/visualize/aggregated", parameters, sql, [metric, step])

    def _pivot(self, recipe: str, metric: str, size: str, rng: random.Random) -> Asked:
        sql = (
            "SELECT step, any_value(value) FILTER (WHERE metric = 'pile-valppl') AS \"pile-valppl\" "
            "FROM t WHERE data = ? AND params = ? GROUP BY step ORDER BY step"
        )
        parameters = {"pivot": "metric", "data": recipe, "params": size, "select": "step", "sort": "step"}
        return Asked(DATA, parameters, sql, [recipe, size])

    def _page(self, recipe: str, metric: str, size: str, rng: random.Random) -> Asked:
        offset = rng.randrange(100_000)
        sql = "SELECT step, value FROM t WHERE params = ? ORDER BY step DESC, place LIMIT 50 OFFSET ?"
        parameters = {
            "params": size, "sort": "-step", "limit": "50", "offset": str(offset), "select": "step,value",
        }  # fmt: skip
        return Asked("/api/visualize/table", parameters, sql, [size, offset])


def compare(asked: Asked, database: duckdb.DuckDBPyConnection) -> None:
    relation = database.sql(asked.sql, params=asked.values)
    names, expected = relation.columns, relation.fetchall()
    found = [tuple(row[name] for name in names) for row in json.loads(asked.body)["data"]]
    assert len(found) == len(expected), asked
    for row, wanted in zip(found, expected, strict=True):
        for value, other in zip(row, wanted, strict=True):
            if isinstance(other, float):
                assert value is not None and math.isclose(value, other, rel_tol=1e-12), asked
            else:
                assert value == other, asked


def publish(served: Served, path: Path) -> tuple[int, dict[str, Any]]:
    """Send a file, and once more whenever the server is too busy for it."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=600)
        with contextlib.closing(connection), path.open("rb") as file:
            connection.request("POST", "/api/datasets/uploaded/versions?filename=a.parquet", body=file)
            response = connection.getresponse()
            answer = json.loads(response.read())
            if response.status != 503:
                return response.status, answer
            assert answer["code"] == "busy", answer
            time.sleep(min(float(response.headers["retry-after"]), 3.0))


def test_all_at_once_in_half_a_gigabyte(published: Published, tmp_path: Path) -> None:
    checker = Checker(published.expected(), 1 if published.times == 1 else 12)
    with (
        duckdb.connect(config={"memory_limit": "1GB"}) as database,
        serving(published, tmp_path / "cache") as served,
        ThreadPoolExecutor(CLIENTS + len(FORMATS) + 1) as pool,
    ):
        database.execute(
            f"CREATE VIEW t AS SELECT *, file_row_number AS place FROM read_parquet('{published.rows}', "
            "file_row_number = true)"
        )
        recipes = [row[0] for row in database.sql("SELECT DISTINCT data FROM t ORDER BY 1").fetchall()]
        metrics = [row[0] for row in database.sql("SELECT DISTINCT metric FROM t ORDER BY 1").fetchall()]
        clients = [Client(served, seed, recipes, metrics) for seed in range(CLIENTS)]
        is_over = threading.Event()
        loads = [pool.submit(checker.read, served.port, DATA, name) for name in FORMATS]
        asking = [pool.submit(client.run, is_over) for client in clients]
        upload = pool.submit(publish, served, published.upload)
        try:
            problems = [load.result(500) for load in loads]
            status, answer = upload.result(500)
        finally:
            is_over.set()
        for each in asking:
            each.result(300)
        peak = served.peak_bytes()
        assert problems == [""] * len(FORMATS)
        assert [failure for client in clients for failure in client.failures] == []
        assert status == 201 and answer["version"]["rows"] == pa.parquet.read_metadata(published.upload).num_rows
        assert served.ask("/api/datasets/uploaded/rows", metric="pile-valppl", limit="1")[0] == 200
        answered = [asked for client in clients for asked in client.answered]
        for asked in answered if published.times == 1 else answered[:: max(1, len(answered) // 40)]:
            compare(asked, database)
        refused = sum(client.refused for client in clients)
        assert peak < MOST_BYTES, f"{peak >> 20} MiB; {len(answered)} answers, {refused} times refused"


def test_a_query_that_needs_too_much_fails_alone(published: Published, tmp_path: Path) -> None:
    checker = Checker(published.expected(), 12)
    huge = {"group_by": "data,metric", "agg": "median:value,p95:value,nunique:value,median:compute,nunique:compute"}
    more = {"BT_MEMORY_LIMIT": "32MiB", "BT_TABLES": "0"}
    with serving(published, tmp_path / "cache", **more) as served, ThreadPoolExecutor(4) as pool:
        load = pool.submit(checker.read, served.port, DATA, "arrow")
        for _ in range(3):
            status, body, _ = served.ask("/api/visualize/aggregated", **huge)
            problem = json.loads(body)
            assert (status, problem["code"]) == (413, "resource_limit"), body[:300]
            assert "memory" in problem["detail"]
            status, body, _ = served.ask(DATA, metric="pile-valppl", params="1B", data="Dolma1.7")
            assert status == 200 and json.loads(body)["meta"]["returned"] == 54
        assert load.result(300) == ""
        assert served.peak_bytes() < MOST_BYTES
