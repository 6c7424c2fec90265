"""Real processes of the command line on a home of versions, started and ended by tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.config import S3Location
from tests.object_storage.servers import REPOSITORY

BT = (sys.executable, "-P", "-m", "server")


def environment(store: Path | S3Location, cache: Path, **more: str) -> dict[str, str]:
    """The variables of a process on a store, and none that the tests' own process has for another."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BT_", "PORT", "AWS_"))}
    path = os.pathsep.join(filter(None, [str(REPOSITORY), kept.get("PYTHONPATH")]))
    ours = {
        "BT_STORE": str(store),
        "BT_ENV_FILE": "none",
        "BT_DEFINITIONS": "none",
        "BT_CACHE_DIR": str(cache),
        "BT_DROP_SETTLE": "0",
        "BT_POLL_INTERVAL": "1",
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "AWS_CONFIG_FILE": "/nonexistent/config",
    }
    if isinstance(store, S3Location):
        ours |= {
            "BT_S3_ENDPOINT": store.endpoint or "",
            "AWS_ACCESS_KEY_ID": store.access_key_id or "",
            "AWS_SECRET_ACCESS_KEY": store.secret_access_key or "",
        }
    return {**kept, **ours, **more}


@contextmanager
def running(store: Path | S3Location, cache: Path, *args: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """``bt ARGS``, until the end of the ``with`` at most."""
    process = subprocess.Popen(
        [*BT, *args],
        env=environment(store, cache, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def url_of(process: subprocess.Popen[str]) -> str:
    """Where a ``bt serve`` answers, once it does."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"serving .* on (http://\S+) ", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or it would wait for a reader one day
            return found[1]
    raise AssertionError(f"it ended before it served: {lines}")
