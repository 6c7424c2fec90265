"""Memory and processor time of processes and all their children, as the kernel counts them. Starts and ends nothing.

A server of several processes is summed fairly: pages that its processes share (PostgreSQL's buffers, a common library)
count with the largest process only. Without /proc, psutil says what it can.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_KIBIBYTE = 1 << 10
_PROC = Path("/proc")


def with_children(pids: Iterable[int]) -> tuple[int, ...]:
    """These processes and those that they started, as far as they live."""
    children = defaultdict(list)
    for entry in _PROC.glob("[0-9]*/stat"):
        fields = _stat(int(entry.parent.name))
        if fields:
            children[int(fields[1])].append(int(entry.parent.name))
    found, waiting = [], list(pids)
    while waiting:
        pid = waiting.pop(0)
        if pid not in found:
            found.append(pid)
            waiting += children[pid]
    return tuple(found)


def cpu_s(roots: Sequence[int]) -> float | None:
    """Processor time used so far: of those alive, and of their children that have ended."""
    if not _PROC.is_dir():
        usages = [usage.cpu_times() for pid in roots if (usage := _psutil_process(pid)) is not None]
        return sum(usage.user + usage.system for usage in usages) if usages else None
    ticks = [sum(map(int, fields[11:15])) for pid in with_children(roots) if (fields := _stat(pid))]
    return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None


def resident_bytes(roots: Sequence[int]) -> int | None:
    """Resident memory now."""
    return _memory(roots, "VmRSS")


def peak_bytes(roots: Sequence[int]) -> int | None:
    """The sum of each process's most resident memory since its start or the last ``reset_peak``."""
    return _memory(roots, "VmHWM")


def reset_peak(roots: Sequence[int]) -> bool:
    """Begin new peaks; False where the kernel does not offer that."""
    try:
        for pid in with_children(roots):
            (_PROC / str(pid) / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _memory(roots: Sequence[int], field: str) -> int | None:
    if not _PROC.is_dir():
        known = [usage.memory_info().rss for pid in roots if (usage := _psutil_process(pid)) is not None]
        return sum(known) if known else None
    statuses = [status for pid in with_children(roots) if field in (status := _status(pid))]
    if not statuses:
        return None
    largest, *others = sorted(statuses, key=lambda status: -status[field])
    # What the others have of their own; their shared pages are those of the largest, or much like them.
    return largest[field] + sum(
        max(0, status[field] - status.get("RssShmem", 0) - status.get("RssFile", 0)) for status in others
    )


def _status(pid: int) -> dict[str, int]:
    """The kernel's numbers of bytes, by name; nothing of a process that has gone."""
    try:
        lines = (_PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return {}
    named = (line.partition(":") for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) * _KIBIBYTE for name, _, value in named}


def _stat(pid: int) -> list[str]:
    """The fields after the process's name, which may hold anything: state, parent, …"""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _psutil_process(pid: int) -> Any:
    """A developer's package, so it may be missing: then memory is not reported."""
    try:
        import psutil  # type: ignore[import-untyped]

        return psutil.Process(pid)
    except (ImportError, OSError):
        return None
