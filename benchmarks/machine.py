"""On what a result was measured: machine, versions, commit, and how busy it was. Names no user and no host."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.process import CHECKOUT

_PACKAGES = ("duckdb", "pyarrow", "fastapi", "starlette", "uvicorn", "uvloop", "httptools", "orjson", "pandas", "numpy")


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system, and the versions of all that takes part."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name)) is not None},
    }


def load() -> float | None:
    """Processes that wanted to run over the last minute: the noise that is not ours."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def available_bytes() -> int | None:
    """Memory that could be had now without swapping; None where the system does not say."""
    return _meminfo("MemAvailable")


def short_commit() -> str:
    """The commit of this checkout in short, ``-dirty`` when files differ from it; ``unknown`` without git."""
    commit = _git("rev-parse", "--short", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if _git("status", "--porcelain") else commit


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=30, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _memory_bytes() -> int | None:
    return _meminfo("MemTotal")


def _meminfo(name: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
