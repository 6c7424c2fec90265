"""What a serving process does to hold little memory: called once, before anything large is loaded. Alters no answer."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder

# Of glibc's malloc, which each thread would otherwise get a heap of its own of, and keep what was once in it. One heap
# more is for those who find the first one locked.
_HEAPS = 2
# A block from this size on is the system's again as soon as it is free, and so is a heap's end of this size. From 1 MB
# on, all rows as JSON took 0.93 s of processor time in place of 0.55, for pages had and given back again and again.
_LARGE_BYTES = 4 << 20

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h

# Above, what is free in the middle of the heaps is given back once in a while: up to 100 MB after large answers.
_PLENTY_BYTES = 256 << 20
_STEP_BYTES = 16 << 20
_INTERVAL_S = 1.0


def hold_little_memory() -> None:
    """Set up the allocators of this process. Where there is no glibc, only Arrow's."""
    # Arrow's own allocator reserves 1 GB and keeps what it once had: 620 MB in place of 490 under 36 clients. As a
    # variable, since the pool that can be set later is not the one that Arrow's functions use.
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    _let_arrow_forget_pandas()
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, _HEAPS)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGE_BYTES)
        threading.Thread(target=_give_back, args=(libc,), name="memory", daemon=True).start()


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def _give_back(libc: ctypes.CDLL) -> None:
    """Give back what is free whenever the process has grown, for as long as it lives."""
    least = 0
    while True:
        time.sleep(_INTERVAL_S)
        now = _resident_bytes()
        if now > max(_PLENTY_BYTES, least + _STEP_BYTES):
            libc.malloc_trim(0)
            now = _resident_bytes()
            least = now
        least = min(least, now)


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class _NoPandas(MetaPathFinder):
    """Says that there is no pandas."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name)


def _let_arrow_forget_pandas() -> None:
    """Arrow looks once for pandas, which takes 30 MB and which no server needs."""
    if "pandas" in sys.modules:
        return
    with _found_first(_NoPandas()):
        import pyarrow

        pyarrow.scalar(None)


@contextmanager
def _found_first(finder: MetaPathFinder) -> Iterator[None]:
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
