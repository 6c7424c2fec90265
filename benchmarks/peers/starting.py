"""A peer's server as a child process: a free port, patience until it answers, and its end by its own id."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.process import Server, ServerError, end

HOST = "127.0.0.1"
START_TIMEOUT_S = 300.0  # some load their rows when they start: ×10 takes a while


def free_port() -> int:
    """One that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_server(
    name: str,
    command: Sequence[str | Path],
    port: int,
    home: Path,
    *,
    health: str,
    settings: Mapping[str, str] | None = None,
    pids: tuple[int, ...] = (),
) -> Iterator[Server]:
    """A process that listens on ``port``, from when ``health`` is answered with 200; it has ended on return.

    Its working folder is ``home``, its output goes to a log there. ``pids`` are further processes that belong to it.

    Raises
    ------
    ServerError
        It ended, or did not answer in time.
    """
    log = home / f"{name}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(home), **(settings or {})},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(name, port, process, log, pids)
    try:
        _wait_until_up(server, health)
        yield server
    finally:
        end(process)


def fetch(port: int, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of one request, on a connection of its own."""
    connection = http.client.HTTPConnection(HOST, port, timeout=START_TIMEOUT_S)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _wait_until_up(server: Server, path: str) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        server.check()
        with contextlib.suppress(OSError, http.client.HTTPException):
            if fetch(server.port, path)[0] == 200:
                return
        if time.monotonic() > until:
            raise ServerError(f"the server {server.name!r} was not up after {START_TIMEOUT_S:.0f} s, see {server.log}")
        time.sleep(0.05)
