"""Copying a file that others own: in one pass with its hash, and never trusting that it held still meanwhile."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from engine.errors import RejectedFileError, StoreError
from engine.store.protocol import Progress, Staged
from engine.store.records import BLOCK_BYTES

CHUNK_BYTES = 1 << 20
STALE_S = 24 * 3600.0  # a staged file this old belongs to a process that is gone


class UnsettledFileError(RejectedFileError):
    """A file that cannot be taken now but may be later: it is changing, gone, or may not be read."""


def identity(found: os.stat_result) -> str:
    """The etag of a local file: modification time, size and inode, so that neither rewriting nor replacing hides."""
    return f"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"


def copy_and_hash(
    source: Path, into: Path, *, name: str, etag: str | None = None, progress: Progress | None = None
) -> Staged:
    """Copy a file that must not change meanwhile into the new file ``into``.

    Parameters
    ----------
    name
        What messages call the file; never its path.
    etag
        The identity it must have; None for whatever it is now.

    Raises
    ------
    UnsettledFileError, RejectedFileError, StoreError
    """
    try:
        # Not blocking: opening a pipe that is named like a data file would otherwise wait for ever.
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnsettledFileError(f"{name} does not exist") from None
    except OSError as error:
        raise UnsettledFileError(f"{name} cannot be read: {error.strerror}") from error
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            kind = "a folder" if stat.S_ISDIR(before.st_mode) else "a device or a pipe"
            raise RejectedFileError(f"{name} is {kind}; one regular file is expected")
        if etag is not None and identity(before) != etag:
            raise changed(name)
    except BaseException:
        os.close(descriptor)  # fdopen would take it over, but refuses a folder
        raise
    with os.fdopen(descriptor, "rb", buffering=0) as reader:
        digest = hashlib.sha256()
        copied = 0
        try:
            with open(into, "xb", buffering=0) as writer:
                while True:
                    try:
                        chunk = reader.read(CHUNK_BYTES)
                    except OSError as error:
                        raise UnsettledFileError(f"{name} cannot be read: {error.strerror}") from error
                    if not chunk:
                        break
                    digest.update(chunk)
                    _write_all(writer.fileno(), chunk)
                    copied += len(chunk)
                    if copied > before.st_size:  # somebody appends; were it fast enough, this would never end
                        raise changed(name)
                    if progress is not None:
                        progress("copy", copied, before.st_size)
        except OSError as error:
            raise StoreError(f"the store cannot take a copy of {name}: {error.strerror}") from error
        try:
            there = os.stat(source)
        except OSError:
            raise changed(name) from None
        if copied != before.st_size or not identity(before) == identity(os.fstat(descriptor)) == identity(there):
            raise changed(name)
    return Staged(into, copied, digest.hexdigest())


def changed(name: str) -> UnsettledFileError:
    """The error of a file that did not hold still."""
    return UnsettledFileError(f"{name} changed while it was being read; write it elsewhere and move it into place")


def _write_all(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits; raises OSError."""
    with open(path, "rb", buffering=0) as reader:
        return hashlib.file_digest(reader, "sha256").hexdigest()


def remove_stale(folder: Path, before: float) -> None:
    """Remove what was last touched before a time: what killed processes left."""
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(OSError):  # another process may be cleaning too
                if entry.stat(follow_symlinks=False).st_ctime >= before:
                    continue
                if entry.is_dir(follow_symlinks=False):  # what a sort spilled
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def hash_blocks(path: Path) -> tuple[str, ...]:
    """What ``FileEntry.blocks`` says of a file: nothing of one that is a single block."""
    if path.stat().st_size <= BLOCK_BYTES:
        return ()
    found: list[str] = []
    with open(path, "rb", buffering=0) as reader:
        while True:
            digest, left = hashlib.sha256(), BLOCK_BYTES
            while left and (data := reader.read(min(left, CHUNK_BYTES))):
                digest.update(data)
                left -= len(data)
            if left == BLOCK_BYTES:
                return tuple(found)
            found.append(digest.hexdigest())
