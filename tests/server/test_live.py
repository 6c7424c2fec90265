"""A real server process on this machine: what only a network shows. Cut answers, clients that leave, slow readers."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import Engine, EngineConfig
from tests.server.conftest import numbers

REPOSITORY = Path(__file__).resolve().parents[2]

# A server whose rows fail, or wait, where a file in its folder says so.
PROGRAM = """
import sys, time
from pathlib import Path

import uvicorn

from engine.result import ResultStream
from server.app import create_app
from server.settings import Settings

folder, port = Path(sys.argv[1]), int(sys.argv[2])
whole = ResultStream.__iter__

def rows(self):
    for position, batch in enumerate(whole(self)):
        if position == 12 and (folder / "fail").exists():
            raise RuntimeError("the disk is gone")
        yield batch

ResultStream.__iter__ = rows
settings = Settings(store=folder / "store", definitions=None, dataset="long", port=port, max_concurrent=1,
                    queue_timeout_s=0.5, drop_settle_s=0.2, poll_interval_s=0.2)
uvicorn.run(create_app(settings), host="127.0.0.1", port=port, log_level="warning")
"""


class Live:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port

    def get(self, path: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            response = connection.getresponse()
            return response, response.read()

    def json(self, path: str) -> Any:
        return json.loads(self.get(path)[1])

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("live")
    with Engine(EngineConfig(store=folder / "store", definitions=None)) as engine:
        engine.publish("long", numbers(400_000))
    port = _free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM, str(folder), str(port)],
            stdout=log,
            stderr=log,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
    try:
        served = Live(folder, port)
        for _ in range(200):
            with contextlib.suppress(OSError):
                if served.get("/api/ready")[0].status == 200:
                    break
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        yield served
        process.send_signal(signal.SIGINT)
        process.wait(20)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


@pytest.fixture
def failing(live: Live) -> Iterator[None]:
    marker = live.folder / "fail"
    marker.touch()
    yield
    marker.unlink()


def test_a_large_answer_streams(live: Live) -> None:
    response, body = live.get("/api/visualize/data?format=ndjson")
    assert response.getheader("transfer-encoding") == "chunked"
    assert json.loads(body.splitlines()[-1]) == {"end": True, "rows": 400_000}
    response, packed = live.get("/api/visualize/data?format=csv", accept_encoding="gzip")
    assert response.getheader("content-encoding") == "gzip"
    assert gzip.decompress(packed).count(b"\r\n") == 400_001


@pytest.mark.parametrize("name", ["json", "columns", "ndjson", "csv", "arrow", "parquet"])
@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_failure_on_the_way_cuts_the_connection(live: Live, failing: None, name: str, coding: str) -> None:
    with pytest.raises(http.client.IncompleteRead):
        live.get(f"/api/visualize/data?format={name}", accept_encoding=coding)


def test_http_1_0_cannot_mistake_a_cut_answer_for_a_whole_one(live: Live) -> None:
    def ask() -> bytes:
        with live.connect() as connection:
            connection.sendall(b"GET /api/visualize/data?format=csv HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    head, _, body = ask().partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    assert length is not None
    assert int(length[1]) == len(body)
    (live.folder / "fail").touch()
    try:
        assert b" 500 " in ask().partition(b"\r\n")[0]
    finally:
        (live.folder / "fail").unlink()


def test_a_client_that_leaves_frees_the_engine(live: Live) -> None:
    """There is one place for long answers, and who waits for it is refused after half a second."""
    for _ in range(3):
        with live.connect() as connection:
            connection.sendall(b"GET /api/visualize/data?format=json HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1 << 12).startswith(b"HTTP/1.1 200")
        response, _ = live.get("/api/visualize/data?format=csv")
        assert response.status == 200


def test_a_slow_reader_keeps_other_long_answers_waiting_and_no_short_ones(live: Live) -> None:
    with live.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /api/visualize/data?format=json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(1 << 12).startswith(b"HTTP/1.1 200")
        assert live.get("/api/visualize/data?limit=3&sort=-n")[0].status == 200
        response, body = live.get("/api/visualize/data?format=csv")
        assert response.status == 503
        assert int(response.getheader("retry-after", "0")) >= 1
        assert json.loads(body)["code"] == "busy"
    assert live.get("/api/visualize/data?format=csv")[0].status == 200


def test_a_dropped_file_appears_by_itself(live: Live) -> None:
    folder = live.folder / "store" / "dropped"
    folder.mkdir()
    pq.write_table(pa.table({"n": [1, 2, 3]}), folder / "results.parquet")
    for _ in range(100):
        response, body = live.get("/api/datasets/dropped/rows")
        if response.status == 200:
            break
        time.sleep(0.1)
    assert json.loads(body)["data"] == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_an_upload_over_the_wire(live: Live) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", live.port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", "/api/datasets/wire/versions?filename=a.csv", body=iter([b"n\n", b"1\n"]))
        assert connection.getresponse().status == 201
    assert live.json("/api/datasets/wire/rows")["data"] == [{"n": 1}]


def test_an_upload_that_breaks_off_leaves_nothing(live: Live) -> None:
    with live.connect() as connection:
        connection.sendall(b"POST /api/datasets/gone/versions?filename=a.csv HTTP/1.1\r\nHost: localhost\r\n")
        connection.sendall(b"Content-Length: 1000\r\n\r\nn\n1\n")
    time.sleep(0.3)
    assert live.get("/api/datasets/gone")[0].status == 404
