"""A server under measurement as a child process: started on a free loopback port, watched, and ended by its own id."""

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
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
MEBIBYTE = 1 << 20


class ServerError(RuntimeError):
    """A server did not start, or went away while it was measured."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: ``name`` is "ours" or "seed"."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ServerError, with the end of its log, when the process has ended."""
        if self.process.poll() is not None:
            raise ServerError(f"the server {self.name!r} ended with {self.process.returncode}: {_tail(self.log)}")

    def cpu_s(self) -> float | None:
        """Processor time that the process has used so far, all threads; None where the system does not say."""
        try:
            # The name in parentheses may hold anything, so fields are counted from its end; these are user and system.
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            usage = _psutil_process(self.process.pid)
            return None if usage is None else sum(usage.cpu_times()[:2])
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int | None:
        """Resident memory now."""
        return self._memory("VmRSS")

    def peak_bytes(self) -> int | None:
        """The most resident memory since the start or the last ``reset_peak``; without /proc, what it is now."""
        return self._memory("VmHWM")

    def reset_peak(self) -> bool:
        """Begin a new peak; False where the kernel does not offer that."""
        try:
            Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def _memory(self, field: str) -> int | None:
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            usage = _psutil_process(self.process.pid)
            return None if usage is None else int(usage.memory_info().rss)
        line = next((line for line in status.splitlines() if line.startswith(f"{field}:")), None)
        return None if line is None else int(line.split()[1]) * 1024  # the kernel counts in KiB


def _psutil_process(pid: int) -> Any:
    """For systems without /proc. It is a developer's package, so it may be missing: then memory is not reported."""
    try:
        import psutil  # type: ignore[import-untyped]

        return psutil.Process(pid)
    except (ImportError, OSError):
        return None


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
def seed_server(folder: Path, scratch: Path) -> Iterator[Server]:
    """The seed's way over a folder of parquet files."""
    with _serve("seed", ["-m", "benchmarks.seed_server", str(folder)], {}, scratch, "/api/health") as server:
        yield server


def run_cli(arguments: list[str], store: Path, scratch: Path) -> None:
    """One command of our command line; raises ServerError with its words when it fails."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "server", *arguments],
        env=environment({"BT_STORE": str(store)}),
        cwd=scratch,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise ServerError(f"`{' '.join(arguments[:2])}` failed: {done.stdout.decode(errors='replace')[-2000:]}")


@contextlib.contextmanager
def _serve(name: str, command: list[str], extra: Mapping[str, str], scratch: Path, health: str) -> Iterator[Server]:
    port = _free_port()
    arguments = [*command, *(["--port", str(port)] if name == "seed" else [])]
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
