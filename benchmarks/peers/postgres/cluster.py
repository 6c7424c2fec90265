"""A PostgreSQL cluster of our own: Debian's programs, a folder, a socket that nobody else can use. Knows no tables."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.peer import PeerError

ROLE = "bench"
DATABASE = "postgres"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0
_LOCALE = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}

#: For two cores and a table that fits in memory, on a disk without a seek. What lost when it was measured (1.86 M
#: rows): ``jit`` on, with which 77 000 groups take 2.5 s in place of 1.7 s and the pivot of a recipe 0.49 s in place
#: of 0.21 s.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "24",
    "shared_buffers": "256MB",
    "work_mem": "32MB",
    "maintenance_work_mem": "256MB",
    "effective_cache_size": "2GB",
    "random_page_cost": "1.1",
    "max_worker_processes": "4",
    "max_parallel_workers": "2",
    "max_parallel_workers_per_gather": "1",
    "max_parallel_maintenance_workers": "1",
    "jit": "off",
    # Nothing is written after the load, and nothing is replicated.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "2GB",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: its main process, and the folder of its socket."""

    process: subprocess.Popen[bytes]
    socket: Path

    @property
    def conninfo(self) -> str:
        return f"host={self.socket} dbname={DATABASE} user={ROLE}"


def programs() -> Path:
    """The folder of the newest PostgreSQL that Debian's packages installed.

    Raises
    ------
    PeerError
        There is none.
    """
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found:
        raise PeerError("PostgreSQL is not installed: `apt-get install postgresql` brings it")
    return max(found, key=lambda path: int(path.parent.name))


def version() -> str:
    """Of the server."""
    done = subprocess.run([programs() / "postgres", "--version"], stdout=subprocess.PIPE, timeout=30, check=True)
    return done.stdout.decode().split()[2]


def create_cluster(folder: Path) -> None:
    """Make an empty cluster. Text sorts by its bytes, as with us.

    Raises
    ------
    PeerError
    """
    folder.mkdir()
    _hand_over(folder)
    command: list[str | Path] = [
        programs() / "initdb",
        "-D",
        folder,
        "--username",
        ROLE,
        "--auth",
        "trust",
        "--no-sync",
    ]
    done = subprocess.run(
        [*command, "--encoding", "UTF8", "--locale", "C"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=_LOCALE,
        timeout=120,
        check=False,
        **_as_owner(),
    )
    if done.returncode != 0:
        raise PeerError(f"initdb failed: {done.stdout.decode(errors='replace')[-500:]}")


@contextlib.contextmanager
def running_cluster(folder: Path, log: Path) -> Iterator[Cluster]:
    """Run a cluster as a child of this process; it has shut down on return.

    Raises
    ------
    PeerError
        It does not start.
    """
    # A socket's path has at most 107 bytes, so it is not beside the data.
    socket = Path(tempfile.mkdtemp(prefix="bt-postgres-"))
    _hand_over(socket)
    given = {**SETTINGS, "unix_socket_directories": str(socket)}
    options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    try:
        with log.open("ab") as output:
            process = subprocess.Popen(
                [programs() / "postgres", "-D", folder, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=_LOCALE,
                **_as_owner(),
            )
        try:
            cluster = Cluster(process, socket)
            _wait_until_up(cluster, log)
            yield cluster
        finally:
            _stop(process)
    finally:
        shutil.rmtree(socket, ignore_errors=True)


def _wait_until_up(cluster: Cluster, log: Path) -> None:
    import psycopg

    until = time.monotonic() + START_TIMEOUT_S
    while True:
        if cluster.process.poll() is not None or time.monotonic() > until:
            raise PeerError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-1000:]}")
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(cluster.conninfo):
            return
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """A fast shutdown: sessions are ended, and the data is written."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)  # at once; its children go with it, which they do not with SIGKILL
        process.wait()


def _as_owner() -> dict[str, Any]:
    """PostgreSQL refuses to run as root: then it runs as the user that its package made, else as whoever we are."""
    if os.geteuid() != 0:
        return {}
    owner = _owner()
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _hand_over(folder: Path) -> None:
    if os.geteuid() == 0:
        os.chown(folder, _owner().pw_uid, _owner().pw_gid)


def _owner() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        raise PeerError("there is no user postgres to run PostgreSQL as; root may not") from None
