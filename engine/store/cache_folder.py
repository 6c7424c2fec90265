"""The folder of the disk cache: what lies where, how much it takes, and what may be thrown away.

Several processes share one folder. Whatever changes how much is in it happens under one lock for the whole folder;
files in use are those on which somebody holds a ``flock``.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engine.errors import StoreError
from engine.store.locks import poll, try_lock

STALE_S = 24 * 3600.0  # a half-done download this old is not gone on with
KEEP_QUARANTINED = 2
PAGE_BYTES = 4096  # what file systems allocate by

_BLOB = re.compile(r"([0-9a-f]{64})\.parquet")
_PART = re.compile(r"([0-9a-f]{64})\.part")
_JOURNAL = re.compile(r"([0-9a-f]{64})\.part\.jsonl")
_BAD = re.compile(r"([0-9a-f]{64})\.[0-9a-f]{16}\.bad")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class NoRoomError(StoreError):
    """The cache cannot take a file now: the budget is in use, the disk is full, or its folder cannot be written."""


def footprint(size: int) -> int:
    """How much of the budget a file of so many bytes takes."""
    return -(-size // PAGE_BYTES) * PAGE_BYTES


def part_footprint(size: int) -> int:
    """The same for a download under way: its journal beside it takes at most a thousandth more."""
    return footprint(size) + footprint(256 + size // 1024) if size else 0


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room on the disk."""
    return error.errno in _FULL


@dataclass(frozen=True, slots=True)
class _Found:
    path: Path
    kind: str  # "blob", "part", "journal" or "bad"
    bytes: int
    used_at: int  # ns since 1970


class CacheFolder:
    """One folder of cached files, and its budget.

    ``blobs/<sha256>.parquet`` are verified files, ``parts/<sha256>.part`` downloads under way with their journals
    beside them, ``quarantine/<sha256>.<random>.bad`` the last files that were not what their record says. All three
    count; files of other names are left alone and do not. A part counts with the whole size that it will have.
    """

    def __init__(self, root: Path, max_bytes: int, wait_s: float, evicted: Callable[[], None] = lambda: None) -> None:
        self.root = Path(root).expanduser().resolve()
        self.blobs = self.root / "blobs"
        self.parts = self.root / "parts"
        self.quarantined = self.root / "quarantine"
        self.max_bytes = max_bytes
        self._wait_s = wait_s
        self._evicted = evicted
        self._thread_lock = threading.Lock()

    def blob(self, sha256: str) -> Path:
        return self.blobs / f"{sha256}.parquet"

    def part(self, sha256: str) -> Path:
        return self.parts / f"{sha256}.part"

    def journal(self, sha256: str) -> Path:
        return self.parts / f"{sha256}.part.jsonl"

    def make(self) -> None:
        """See that the folders are there; raises OSError."""
        for folder in (self.blobs, self.parts, self.quarantined):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock. Raises StoreError when somebody else does not give it back."""
        # Threads first among themselves: a poll by each of many would starve some.
        if not self._thread_lock.acquire(timeout=self._wait_s):
            raise _stuck()
        try:
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                if not poll(lambda: try_lock(descriptor), self._wait_s):
                    raise _stuck()
                yield
            finally:
                os.close(descriptor)
        finally:
            self._thread_lock.release()

    def used_bytes(self) -> int:
        return sum(found.bytes for found in self._scan())

    def reserve(self, part: int, size: int) -> None:
        """Give an open part, whose lock the caller holds, its full size, after making room for it.

        Raises NoRoomError and OSError.
        """
        with self.locked():
            have = os.fstat(part).st_size
            if have > size:
                os.ftruncate(part, 0)
                have = 0
            if not self._make_room(part_footprint(size) - part_footprint(have)):
                raise NoRoomError("the disk cache has no room: what is in it is in use")
            os.ftruncate(part, size)

    def free(self, size: int) -> bool:
        """Throw away what was not used for longest until that much is freed; False when nothing could be."""
        with self.locked():
            freed = 0
            for found in self._candidates():
                if freed >= size:
                    break
                freed += found.bytes if self._remove(found) else 0
        return freed > 0

    def shrink(self) -> int:
        """Get down to the budget as far as possible, and drop what a process that died long ago left."""
        with self.locked():
            before = time.time_ns() - int(STALE_S * 1e9)
            removed = 0
            for found in self._scan():
                if found.kind in ("part", "journal") and found.used_at < before:
                    self._remove(found)
            excess = self.used_bytes() - self.max_bytes
            for found in self._candidates():
                if excess <= 0:
                    break
                if self._remove(found):
                    excess -= found.bytes
                    removed += 1
            return removed

    def finish(self, part: int, sha256: str) -> None:
        """Make a complete and verified part a blob, durably; its lock becomes a shared one."""
        os.fsync(part)
        with self.locked():
            os.rename(self.part(sha256), self.blob(sha256))
            os.fchmod(part, 0o444)  # not before: a part that is left behind must stay writable
            self.journal(sha256).unlink(missing_ok=True)
            # Nobody evicts between the two locks: that takes the folder's.
            if not poll(lambda: try_lock(part, shared=True), self._wait_s):
                raise _stuck()
        descriptor = os.open(self.blobs, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def discard(self, sha256: str) -> None:
        """Remove a part whose lock the caller holds."""
        self.journal(sha256).unlink(missing_ok=True)
        self.part(sha256).unlink(missing_ok=True)

    def quarantine(self, path: Path, sha256: str, inode: int) -> bool:
        """Move a bad file out of the way, unless another has taken its place; raises OSError."""
        with self.locked():
            try:
                if os.lstat(path).st_ino != inode:
                    return False
                os.rename(path, self.quarantined / f"{sha256}.{secrets.token_hex(8)}.bad")
            except FileNotFoundError:
                return False
            self.journal(sha256).unlink(missing_ok=True)
            bad = sorted((found for found in self._scan() if found.kind == "bad"), key=lambda found: found.used_at)
            for found in bad[:-KEEP_QUARANTINED]:
                found.path.unlink(missing_ok=True)
            return True

    def _make_room(self, need: int) -> bool:
        """Evict until that much fits; False, and nothing evicted, when it cannot be made to."""
        for _ in range(4):  # somebody may begin to use a file between the two looks at it
            excess = self.used_bytes() + need - self.max_bytes
            if excess <= 0:
                return True
            chosen = []
            for found in self._candidates():
                if excess <= 0:
                    break
                if (descriptor := _claim(found.path)) is not None:
                    os.close(descriptor)
                    chosen.append(found)
                    excess -= found.bytes
            if excess > 0:
                return False
            for found in chosen:
                self._remove(found)
        return False

    def _candidates(self) -> list[_Found]:
        """What may be thrown away if nobody uses it, in the order in which it should be."""
        found = [item for item in self._scan() if item.kind != "journal"]
        return sorted(found, key=lambda item: (item.kind != "bad", item.used_at))

    def _remove(self, found: _Found) -> bool:
        descriptor = _claim(found.path)
        if descriptor is None:
            return False
        try:
            if found.kind == "journal" and found.path.with_suffix("").exists():
                return False  # its part says how old it is
            found.path.unlink()
            if found.kind == "part":
                found.path.with_name(f"{found.path.name}.jsonl").unlink(missing_ok=True)
            if found.kind == "blob":
                self._evicted()
            return True
        except OSError:
            return False
        finally:
            os.close(descriptor)

    def _scan(self) -> list[_Found]:
        found = []
        for folder, kinds in (
            (self.blobs, {"blob": _BLOB}),
            (self.parts, {"part": _PART, "journal": _JOURNAL}),
            (self.quarantined, {"bad": _BAD}),
        ):
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    kind = next((name for name, pattern in kinds.items() if pattern.fullmatch(entry.name)), None)
                    with suppress(FileNotFoundError):  # it just became something else
                        if kind is not None and stat.S_ISREG((state := entry.stat(follow_symlinks=False)).st_mode):
                            found.append(_found(Path(entry.path), kind, state))
        return found


def _found(path: Path, kind: str, state: os.stat_result) -> _Found:
    used_at = {"blob": state.st_atime_ns, "bad": state.st_ctime_ns}.get(kind, state.st_mtime_ns)
    takes = {"part": part_footprint(state.st_size), "journal": 0}.get(kind, footprint(state.st_size))
    return _Found(path, kind, takes, used_at)


def _claim(path: Path) -> int | None:
    """A descriptor with the only lock on a file; None when it is in use or gone. A new open file each time: the locks
    of this very process count too."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if try_lock(descriptor):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _stuck() -> StoreError:
    return StoreError(
        "another process holds the disk cache and does not move; stop it, or give this one another folder"
    )
