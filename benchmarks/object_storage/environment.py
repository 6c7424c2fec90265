"""An environment of its own for s3fs: it pins a botocore that is not the one of our boto3."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

TIMEOUT_S = 600


class NoEnvironmentError(Exception):
    """It is not there and cannot be made; the text says why."""


def s3fs_python(scratch: Path, say: Callable[[str], None]) -> Path:
    """The Python of an environment with s3fs and the DuckDB that we use, made in ``scratch`` when it is not there.

    Raises
    ------
    NoEnvironmentError
    """
    version = metadata.version("duckdb")
    folder = scratch / f"s3fs-duckdb-{version}"
    python, made = folder / "bin" / "python", folder / "made"
    if made.exists():
        return python
    say("making an environment with s3fs")
    try:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "--quiet", f"duckdb=={version}", "s3fs"])
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stdout", None) or b""
        reason = output.decode(errors="replace").strip()[-300:] or str(error)
        raise NoEnvironmentError(f"an environment with s3fs could not be made: {reason}") from error
    made.touch()
    return python


def _run(command: list[str]) -> None:
    subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=True,
    )
