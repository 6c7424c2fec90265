"""One object into one file: by ranges, several at once, and going on where a killed download stopped.

Knows nothing of caches. That the bytes are right is for the caller to check; that they are all there is checked here.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from engine.errors import StoreError
from engine.store.records import BLOCK_BYTES

THREADS = 4

#: (key, start, length) to exactly that many bytes of an immutable object. Raises CorruptVersionError when there is no
#: such object, and StoreError when it cannot be had now.
RangeSource = Callable[[str, int, int], bytes]


class DownloadStoppedError(StoreError):
    """Whoever wanted the object wants it no longer."""


class Journal:
    """Which blocks of a half-done file are there: a line of JSON for each, after one that says what they belong to.

    Lines are only ever appended, so that a kill at any moment loses at most the last one.
    """

    def __init__(self, path: Path, size: int, block_bytes: int = BLOCK_BYTES) -> None:
        self.path = path
        self.size = size
        self.block_bytes = block_bytes
        self.count = -(-size // block_bytes)
        self.head = {"size": size, "block_bytes": block_bytes}

    @property
    def most_bytes(self) -> int:
        """How large the journal can become."""
        return len(orjson.dumps(self.head)) + 1 + self.count * (len(str(self.count)) + 1)

    def read(self, present_bytes: int) -> set[int]:
        """The finished blocks that lie within the first ``present_bytes``; none when it is about something else."""
        try:
            lines = self.path.read_bytes().split(b"\n")[:-1]  # what has no line end was not written to its end
            if not lines or orjson.loads(lines[0]) != self.head:
                return set()
            numbers = {orjson.loads(line) for line in lines[1:]}
        except (FileNotFoundError, ValueError, TypeError):
            return set()
        return {number for number in numbers if type(number) is int and self._is_within(number, present_bytes)}

    def start(self, finished: set[int]) -> int:
        """Write it anew; the descriptor to append to."""
        lines = [orjson.dumps(self.head), *(b"%d" % number for number in sorted(finished))]
        descriptor = os.open(
            self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
        )
        try:
            write_all(descriptor, b"".join(line + b"\n" for line in lines))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def span(self, number: int) -> tuple[int, int]:
        """Start and length of a block."""
        start = number * self.block_bytes
        return start, min(self.block_bytes, self.size - start)

    def _is_within(self, number: int, present_bytes: int) -> bool:
        return 0 <= number < self.count and sum(self.span(number)) <= present_bytes


@dataclass
class _Work:
    """What the threads of one download share."""

    left: deque[int]
    lock: threading.Lock = field(default_factory=threading.Lock)
    error: BaseException | None = None
    torn: bool = False

    def take(self) -> int | None:
        with self.lock:
            return self.left.popleft() if self.left and self.error is None else None

    def fail(self, error: BaseException) -> None:
        with self.lock:
            self.error = self.error or error


def download(
    source: RangeSource,
    key: str,
    into: int,
    journal: Journal,
    *,
    finished: set[int] | None = None,
    threads: int = THREADS,
    slots: Any = None,
    stop: threading.Event | None = None,
    received: Callable[[int], None] = lambda count: None,
) -> None:
    """Write an object's missing blocks into an open file, each at its place.

    Parameters
    ----------
    into
        A descriptor open for writing. Nobody else may write to that file or its journal.
    finished
        Blocks that are there already; ``journal.read`` knows them.
    slots
        A semaphore held for each request, which bounds the memory that many downloads at once can take.
    stop
        Once set, the download ends with DownloadStoppedError after the ranges that are under way.
    received
        Told the bytes of each block, from any of the threads.

    Raises
    ------
    StoreError, CorruptVersionError
        From the source, or because it gave too few bytes.
    OSError
        From the local disk.
    """
    done = set() if finished is None else set(finished)
    work = _Work(deque(number for number in range(journal.count) if number not in done))
    log = journal.start(done)
    try:

        def run() -> None:
            try:
                while (number := work.take()) is not None:
                    _one(number)
            except BaseException as error:
                work.fail(error)

        def _one(number: int) -> None:
            start, length = journal.span(number)
            with slots or nullcontext():
                if stop is not None and stop.is_set():
                    raise DownloadStoppedError(f"the download of {key} was stopped")
                data = source(key, start, length)
                if len(data) != length:
                    raise StoreError(f"the store gave {len(data)} bytes of {key} where {length} were asked for")
                write_all(into, data, at=start)
            with work.lock:
                if not work.torn:
                    work.torn = True  # after half a line nothing may be appended
                    write_all(log, b"%d\n" % number)
                    work.torn = False
            received(length)

        helpers = [
            threading.Thread(target=run, name="blob-download", daemon=True)
            for _ in range(min(threads, len(work.left)) - 1)
        ]
        for helper in helpers:
            helper.start()
        run()
        for helper in helpers:
            helper.join()
    finally:
        os.close(log)
    if work.error is not None:
        raise work.error


def write_all(descriptor: int, data: bytes, at: int | None = None) -> None:
    """Write all of it, at an offset or at the end; raises OSError."""
    left = memoryview(data)
    while left:
        count = os.write(descriptor, left) if at is None else os.pwrite(descriptor, left, at)
        left = left[count:]
        if at is not None:
            at += count
