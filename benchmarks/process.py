"""A server under measurement as a child process: started on a free loopback port, watched, and ended by its own id.

What processes use (``usage.py``) is summed over a server's process, those in ``Server.pids``, and all their children.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks import usage
from benchmarks.wire import HOST

CHECKOUT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


class ServerError(RuntimeError):
    """A server did not start, or went away while it was measured."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes
    ----------
    name
        "ours", "seed", or a peer's.
    process
        Its own child process, which is ended with it.
    pids
        Further processes that are part of it but no children of ``process``.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    pids: tuple[int, ...] = ()

    def check(self) -> None:
        """Raise ServerError, with the end of its log, when the process has ended."""
        if self.process.poll() is not None:
            raise ServerError(f"the server {self.name!r} ended with {self.process.returncode}: {_tail(self.log)}")

    def cpu_s(self) -> float | None:
        """Processor time used so far, all threads and processes; None where the system does not say."""
        return usage.cpu_s(self._roots)

    def resident_bytes(self) -> int | None:
        """Resident memory now."""
        return usage.resident_bytes(self._roots)

    def peak_bytes(self) -> int | None:
        """The most resident memory since the start or the last ``reset_peak``; without /proc, what it is now."""
        return usage.peak_bytes(self._roots)

    def reset_peak(self) -> bool:
        """Begin a new peak; False where the kernel does not offer that."""
        return usage.reset_peak(self._roots)

    @property
    def _roots(self) -> tuple[int, ...]:
        return (self.process.pid, *self.pids)


@contextlib.contextmanager
def our_server(
    store: Path | str,
    scratch: Path,
    *,
    keeps_answers: bool = False,
    name: str = "ours",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """This project's server over a store, with default settings but for the cache of answers, which is off.

    A repeated URL would otherwise measure the cache. ``keeps_answers`` leaves it on, as users have it. ``settings`` are
    further variables of its environment.
    """
    given = {
        "BT_STORE": str(store),
        "BT_ENV_FILE": "none",
        **({} if keeps_answers else {"BT_RESULTS_CACHE": "0"}),
        **(settings or {}),
    }
    with _serve(name, ["-m", "server", "serve"], given, scratch, "/api/health") as server:
        yield server


@contextlib.contextmanager
def profiled_server(store: Path, scratch: Path, output: Path, *, keeps_answers: bool = False) -> Iterator[Server]:
    """Our server with profilers, which write into ``output`` when it ends: see ``profiled_server.py``."""
    given = {"BT_STORE": str(store), "BT_ENV_FILE": "none", **({} if keeps_answers else {"BT_RESULTS_CACHE": "0"})}
    command = ["-m", "benchmarks.profiled_server", str(output), "serve"]
    with _serve("profiled", command, given, scratch, "/api/health") as server:
        yield server


@contextlib.contextmanager
def seed_server(folder: Path, scratch: Path) -> Iterator[Server]:
    """The seed's way over a folder of parquet files."""
    with _serve("seed", ["-m", "benchmarks.seed_server", str(folder)], {}, scratch, "/api/health") as server:
        yield server


@contextlib.contextmanager
def bare_server(folder: Path, scratch: Path) -> Iterator[Server]:
    """What replies stored bytes: see ``bare_server.py``."""
    with _serve("bare", ["-m", "benchmarks.bare_server", str(folder)], {}, scratch, "/health") as server:
        yield server


def run_cli(arguments: list[str], store: Path, scratch: Path, timeout_s: float = 600) -> None:
    """One command of our command line; raises ServerError with its words when it fails."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "server", *arguments],
        env=environment({"BT_STORE": str(store)}),
        cwd=scratch,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=timeout_s,
        check=False,
    )
    if done.returncode != 0:
        raise ServerError(f"`{' '.join(arguments[:2])}` failed: {done.stdout.decode(errors='replace')[-2000:]}")


@contextlib.contextmanager
def _serve(name: str, command: list[str], extra: Mapping[str, str], scratch: Path, health: str) -> Iterator[Server]:
    port = _free_port()
    arguments = [*command, *(["--port", str(port)] if name in ("seed", "bare") else [])]
    log = scratch / f"{name}.log"
    with log.open("wb") as output:
        # The scratch folder is the working folder, so that no .env of the user's is read.
        process = subprocess.Popen(
            [sys.executable, "-P", *arguments],
            env=environment({**extra, "PORT": str(port)}),
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(name, port, process, log)
    try:
        _wait_until_up(server, health)
        yield server
    finally:
        end(process)


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """The user's, without settings of ours or keys to a bucket, and with this checkout importable."""
    theirs = ("BT_", "AWS_", "DATABASE_URL", "PORT")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(theirs)}
    path = os.pathsep.join(filter(None, [kept.get("PYTHONPATH"), str(CHECKOUT)]))
    return {**kept, "PYTHONPATH": path, **extra}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait_until_up(server: Server, path: str) -> None:
    until = time.monotonic() + START_TIMEOUT_S
    while True:
        server.check()
        connection = http.client.HTTPConnection(HOST, server.port, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if time.monotonic() > until:
            raise ServerError(
                f"the server {server.name!r} was not up after {START_TIMEOUT_S:.0f} s: {_tail(server.log)}"
            )
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes]) -> None:
    """Politely first."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-2000:].strip() or "it wrote nothing"
