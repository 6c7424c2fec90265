"""An environment of its own for a system from PyPI: what it needs is not what we need (DuckDB before 2.0, pandas 3)."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.peer import PeerError

TIMEOUT_S = 900


def environment_folder(scratch: Path, name: str, requirements: tuple[str, ...]) -> Path:
    """Where the environment of these requirements lies; others lie elsewhere, so that a new pin makes a new one."""
    key = hashlib.sha256("\n".join(requirements).encode()).hexdigest()[:8]
    return scratch / name / f"env-{key}"


def is_made(folder: Path) -> bool:
    """Whether an environment is there in whole."""
    return (folder / "made").exists()


def make_environment(scratch: Path, name: str, requirements: tuple[str, ...]) -> Path:
    """The folder of programs of an environment with these packages; made when it is not there, and kept.

    Raises
    ------
    PeerError
        It is not there and cannot be made.
    """
    folder = environment_folder(scratch, name, requirements)
    programs = folder / "bin"
    if is_made(folder):
        return programs
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(programs / "python"), "-m", "pip", "install", "--quiet", *requirements])
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stdout", None) or b""
        reason = output.decode(errors="replace").strip()[-300:] or str(error)
        raise PeerError(f"{name} could not be installed from PyPI: {reason}") from error
    (folder / "made").touch()
    return programs


def version_in(programs: Path, package: str) -> str:
    """The version of a package in an environment."""
    ask = f"import importlib.metadata as m; print(m.version({package!r}))"
    done = subprocess.run(
        [str(programs / "python"), "-c", ask], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60, check=True
    )
    return done.stdout.decode().strip()


def _run(command: list[str]) -> None:
    subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=TIMEOUT_S,
        check=True,
    )
