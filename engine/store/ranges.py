"""Pieces of immutable objects that are not kept on the disk, in blocks of which a few stay in memory."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Any

from engine.errors import CorruptVersionError
from engine.store.download import RangeSource
from engine.store.records import BLOCK_BYTES, FileEntry

KEEP_BLOCKS = 4
KEEP_DIGESTS = 4096  # files
TAIL_BYTES = 1 << 20  # of the end of a file, where parquet has its footer
KEEP_TAILS = 16


class BlockReader:
    """Reads by blocks; the same block by two threads at once is read once.

    What a whole file hashes to says nothing of a piece of it, so each block is checked against the hash that the log
    has of it. Of a file whose record has none, ``learn`` keeps the hashes once it was seen whole; until then only the
    length of a block is checked.

    Parameters
    ----------
    slots
        A semaphore held for each request.
    """

    def __init__(self, source: RangeSource, slots: Any, block_bytes: int = BLOCK_BYTES) -> None:
        self._source = source
        self._slots = slots
        self._block_bytes = block_bytes
        self._blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._digests: OrderedDict[str, tuple[bytes, ...]] = OrderedDict()
        self._tails: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()
        self._fetching = [threading.Lock() for _ in range(16)]
        self.fetched_bytes = 0

    def knows(self, entry: FileEntry) -> bool:
        """Whether reads of a file can be checked."""
        return self._known(entry) is not None

    def _known(self, entry: FileEntry) -> tuple[bytes, ...] | None:
        if entry.size <= self._block_bytes:
            return (bytes.fromhex(entry.sha256),)
        if self._block_bytes == BLOCK_BYTES and len(entry.blocks) == -(-entry.size // BLOCK_BYTES):
            return tuple(map(bytes.fromhex, entry.blocks))
        return self._digests.get(entry.sha256)

    def learn(self, entry: FileEntry, descriptor: int) -> None:
        """Note the hash of each block of an open file that is known to be right."""
        digests = []
        with open(descriptor, "rb", buffering=0, closefd=False) as reader:
            reader.seek(0)
            for start in range(0, entry.size, self._block_bytes):
                digest = hashlib.sha256()
                left = min(self._block_bytes, entry.size - start)
                while left and (data := reader.read(min(left, 1 << 20))):
                    digest.update(data)
                    left -= len(data)
                digests.append(digest.digest())
        with self._lock:
            self._digests[entry.sha256] = tuple(digests)
            while len(self._digests) > KEEP_DIGESTS:
                self._digests.popitem(last=False)

    def read(self, entry: FileEntry, start: int, length: int) -> bytes:
        """Exactly those bytes; raises CorruptVersionError and StoreError."""
        if length <= 0:
            return b""
        parts = []
        for number in range(start // self._block_bytes, (start + length - 1) // self._block_bytes + 1):
            begin = number * self._block_bytes
            block = self._block(entry, number)
            parts.append(block[max(0, start - begin) : max(0, start + length - begin)])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def is_in_tail(self, entry: FileEntry, start: int) -> bool:
        return start >= max(0, entry.size - TAIL_BYTES)

    def read_tail(self, entry: FileEntry, start: int, length: int) -> bytes:
        """The same for what ``is_in_tail``, which is remembered apart: a query reads the ends of all files first."""
        with self._lock:
            tail = self._tails.get(entry.sha256)
            if tail is not None:
                self._tails.move_to_end(entry.sha256)
        begin = max(0, entry.size - TAIL_BYTES)
        if tail is None:
            tail = self.read(entry, begin, entry.size - begin)
            with self._lock:
                self._tails[entry.sha256] = tail
                while len(self._tails) > KEEP_TAILS:
                    self._tails.popitem(last=False)
        return tail[start - begin : start - begin + length]

    def _block(self, entry: FileEntry, number: int) -> bytes:
        name = (entry.sha256, number)
        with self._fetching[hash(name) % len(self._fetching)]:
            with self._lock:
                block = self._blocks.get(name)
                if block is not None:
                    self._blocks.move_to_end(name)
                    return block
            block = self._fetch(entry, number)
            with self._lock:
                self._blocks[name] = block
                while len(self._blocks) > KEEP_BLOCKS:
                    self._blocks.popitem(last=False)
            return block

    def _fetch(self, entry: FileEntry, number: int) -> bytes:
        start = number * self._block_bytes
        length = min(self._block_bytes, entry.size - start)
        if length <= 0:
            raise CorruptVersionError(f"{entry.key} is damaged: it is read behind its end")
        digests = self._known(entry)
        for _ in range(2):
            with self._slots:
                block = self._source(entry.key, start, length)
            with self._lock:
                self.fetched_bytes += len(block)
            if len(block) == length and (digests is None or hashlib.sha256(block).digest() == digests[number]):
                return block
        raise CorruptVersionError(f"{entry.key} is damaged: the store gives other bytes for a piece of it")
