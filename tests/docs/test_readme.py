"""What the README tells a newcomer to type works as it is written. Its Python runs with the other examples."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.docs.conftest import Opener
from tests.docs.markdown import ROOT, read_blocks

README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [block.text for block in read_blocks(README) if block.language == "sh"]
SERVER = "http://127.0.0.1:8000"


def test_the_two_commands() -> None:
    """How they work on a fresh machine is tests/repository/test_launcher.py's to show."""
    lines = [line.split("#")[0].split() for line in SHELL[0].splitlines()]
    assert lines == [["./bt"], ["./bt", "test"]]


def test_curl(demo_store: Path, open_client: Opener) -> None:
    lines = [shlex.split(line) for block in SHELL for line in block.splitlines() if line.startswith("curl")]
    assert len(lines) >= 3 and all(len(line) == 2 and line[1].startswith(SERVER) for line in lines)
    with open_client(demo_store) as client:
        for _, url in lines:
            answer = client.get(url)
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"]
            pinned = answer.json()["links"]["pinned"]
            assert answer.headers["content-location"] == pinned
            assert client.get(pinned).json()["data"] == answer.json()["data"]
            assert "immutable" in client.get(pinned).headers["cache-control"]


def test_what_is_said_of_the_demo_data(demo_store: Path, open_client: Opener) -> None:
    with open_client(demo_store) as client:
        columns = {
            name: client.get(f"/api/datasets/datadecide/columns/{name}").json() for name in ("data", "params", "metric")
        }
    said = f"{columns['data']['distinct']} recipes, {columns['params']['distinct']} sizes, "
    said += f"{columns['metric']['distinct']} metrics, {columns['data']['rows'] / 1e6:.2f} million rows"
    assert said in re.sub(r"\s+", " ", README)


def test_a_dropped_file(at_home: Path, own_store: Path) -> None:
    """In a folder where ``./bt`` is this checkout's command line, and ``datasets`` its store."""
    script = next(block for block in SHELL if "./bt refresh" in block)
    launcher = at_home / "bt"
    launcher.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m server "$@"\n', encoding="utf-8")
    launcher.chmod(0o755)
    assert own_store == at_home / "datasets"
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert (own_store / "my-sweep" / "_bt" / "log" / "0000000001.json").exists()
    assert re.search(r"60M\s.*\b4\b.*\b2\b", done.stdout), done.stdout
    assert "v1 *" in done.stdout
