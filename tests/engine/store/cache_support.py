"""What the tests of the disk cache share: objects behind a source that fails on command, and processes to kill."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.errors import CorruptVersionError, StoreError
from engine.store import FileEntry, ObjectStat
from tests.engine.store.support import sha256

BLOCK = 16 << 10


def content(seed: int, size: int) -> bytes:
    """Bytes that differ for each seed, and in each block."""
    unit = b"".join(sha256(b"%d-%d" % (seed, number)).encode() for number in range(size // 64 + 1))
    return unit[:size]


class Objects:
    """A bucket in memory. ``before`` is called with each range that is asked for, and may raise or wait."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.asked: list[tuple[str, int, int]] = []
        self.before: Callable[[str, int, int], None] = lambda key, start, length: None
        self.after: Callable[[str, int, bytes], bytes] = lambda key, start, data: data
        self.down = False
        self._lock = threading.Lock()

    def put(self, seed: int, size: int = 3 * BLOCK) -> FileEntry:
        return self.put_bytes(f"d/_bt/data/{seed}.parquet", content(seed, size))

    def put_bytes(self, key: str, data: bytes) -> FileEntry:
        self.content[key] = data
        return FileEntry(key, len(data), sha256(data), None, 1, 1)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        with self._lock:
            self.asked.append((key, start, length))
        self.before(key, start, length)
        if self.down:
            raise StoreError("the store cannot be reached")
        if key not in self.content:
            raise CorruptVersionError(f"{key} is missing, though the log names it")
        return self.after(key, start, self.content[key][start : start + length])

    def stat(self, key: str) -> ObjectStat | None:
        if self.down:
            raise StoreError("the store cannot be reached")
        data = self.content.get(key)
        return None if data is None else ObjectStat(key, len(data), "etag", 0.0)

    @property
    def bytes_asked(self) -> int:
        return sum(length for _, _, length in self.asked)


def used(folder: Path) -> int:
    """What the files of a cache take, by the size that they have now, each rounded up to whole pages."""
    if not folder.is_dir():
        return 0
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # or files would move from one folder to the next while they are counted
        total = 0
        for name in ("blobs", "parts", "quarantine"):
            for path in (folder / name).glob("*"):
                with suppress(FileNotFoundError):
                    total += -(-path.stat().st_size // 4096) * 4096
        return total
    finally:
        os.close(descriptor)


def files(folder: Path, name: str) -> list[str]:
    return sorted(path.name for path in (folder / name).glob("*"))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


WORKER = """
import hashlib, sys, time
from pathlib import Path
from engine.store import FileEntry
from engine.store.cache import DiskCache

folder, objects, key, size, digest, pause_s, wait_s, what = sys.argv[1:]
root = Path(objects)
block = 16 << 10

def source(key, start, length):
    with open(root / "asked", "a") as log:
        log.write(f"{start}\\n")
    if start:
        time.sleep(float(pause_s))
    with open(root / "object", "rb") as reader:
        reader.seek(start)
        return reader.read(length)

cache = DiskCache(Path(folder), 1 << 30, block_bytes=block, threads=1, wait_s=float(wait_s))
print("ready", flush=True)
pin = cache.pin(FileEntry(key, int(size), digest, None, 1, 1), source)
assert hashlib.sha256(pin.path.read_bytes()).hexdigest() == digest
print("pinned", flush=True)
if what == "hold":
    sys.stdin.read()
"""


class Outside:
    """A file that other processes fetch into a cache; ``asked`` are the offsets of the ranges that they wanted."""

    def __init__(self, cache: Path, objects: Path, blocks: int = 8) -> None:
        self.cache = cache
        self.objects = objects
        objects.mkdir()
        self.data = content(99, blocks * BLOCK)
        (objects / "object").write_bytes(self.data)
        self.entry = FileEntry("d/_bt/data/x.parquet", len(self.data), sha256(self.data), None, 1, 1)

    @contextmanager
    def process(
        self, *, pause_s: float = 0.0, wait_s: float = 30.0, what: str = "end"
    ) -> Iterator[subprocess.Popen[str]]:
        entry = self.entry
        arguments = [self.cache, self.objects, entry.key, entry.size, entry.sha256, pause_s, wait_s, what]
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def source(self, key: str, start: int, length: int) -> bytes:
        with open(self.objects / "asked", "a") as log:
            log.write(f"{start}\n")
        return self.data[start : start + length]

    @property
    def asked(self) -> list[int]:
        try:
            return [int(line) for line in (self.objects / "asked").read_text().splitlines()]
        except FileNotFoundError:
            return []
