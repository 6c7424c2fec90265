"""That the bytes which are about to be read are those that the log names."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Protocol

from engine.errors import CorruptVersionError
from engine.store.records import FileEntry
from engine.store.staging import hash_file

MAX_KNOWN = 100_000  # files whose hash is remembered; a cache that turns over must not fill the memory with them

#: What tells a file from any other in its place: its path, size, modification time and inode.
Identity = tuple[str, int, int, int]

_hashes: dict[Identity, str] = {}
_lock = threading.Lock()


class FolderStore(Protocol):
    """A home whose objects are local files."""

    def path(self, key: str) -> Path: ...


def verify_blob(store: FolderStore, entry: FileEntry) -> Path:
    """The local path of a version's file, after checking it against its record as :func:`verify_file` does."""
    return verify_file(store.path(entry.key), entry)


def verify_file(path: Path, entry: FileEntry) -> Path:
    """The path itself, after checking the file there against the record.

    Its size is checked each time. Its SHA-256 is computed once per process, and again whenever size, modification time
    or inode say that the file may be another.

    Raises
    ------
    CorruptVersionError
        Names the key and the cause.
    """
    verified_identity(path, entry)
    return path


def verified_identity(path: Path, entry: FileEntry) -> Identity:
    """What the file that :func:`verify_file` found right is known by; raises what that does.

    While ``identity_of`` says the same of the path, its bytes are those of the record.
    """
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise CorruptVersionError(f"{entry.key} is damaged: it is not a regular file")
        if found.st_size != entry.size:
            raise CorruptVersionError(
                f"{entry.key} is damaged: it has {found.st_size} bytes, and its record says {entry.size}"
            )
        identity = _identity(str(path), found)
        with _lock:
            digest = _hashes.get(identity)
        if digest is None:
            digest = hash_file(path)
            remember_hash(path, found, digest)
    except FileNotFoundError:
        raise CorruptVersionError(f"{entry.key} is missing, though the log names it") from None
    except OSError as error:
        raise CorruptVersionError(f"{entry.key} cannot be read: {error.strerror}") from error
    if digest != entry.sha256:
        raise CorruptVersionError(f"{entry.key} is damaged: its SHA-256 is not the one in its record")
    return identity


def identity_of(path: str) -> Identity | None:
    """What a file is known by now; None when there is no regular file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return _identity(path, found) if stat.S_ISREG(found.st_mode) else None


def remember_hash(path: Path, found: os.stat_result, digest: str) -> None:
    """Spare ``verify_file`` the work for a file that was hashed while it was in the state ``found``."""
    with _lock:
        while len(_hashes) >= MAX_KNOWN:
            del _hashes[next(iter(_hashes))]
        _hashes[_identity(str(path), found)] = digest


def _identity(path: str, found: os.stat_result) -> Identity:
    return path, found.st_size, found.st_mtime_ns, found.st_ino
