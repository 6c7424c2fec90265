"""That the bytes which are about to be read are those that the log names."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from engine.errors import CorruptVersionError
from engine.store.protocol import Store
from engine.store.records import FileEntry
from engine.store.staging import hash_file

_hashes: dict[tuple[str, int, int, int], str] = {}
_lock = threading.Lock()


def verify_blob(store: Store, entry: FileEntry) -> Path:
    """The local path of a version's file, after checking it against its record.

    Its size is checked each time. Its SHA-256 is computed once per process, and again whenever size, modification time
    or inode say that the file may be another.

    Raises
    ------
    CorruptVersionError
        Names the key and the cause.
    """
    path = store.path(entry.key)
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise CorruptVersionError(f"{entry.key} is damaged: it is not a regular file")
        if found.st_size != entry.size:
            raise CorruptVersionError(
                f"{entry.key} is damaged: it has {found.st_size} bytes, and its record says {entry.size}"
            )
        memo = (str(path), found.st_size, found.st_mtime_ns, found.st_ino)
        with _lock:
            digest = _hashes.get(memo)
        if digest is None:
            digest = hash_file(path)
            with _lock:
                _hashes[memo] = digest
    except FileNotFoundError:
        raise CorruptVersionError(f"{entry.key} is missing, though the log names it") from None
    except OSError as error:
        raise CorruptVersionError(f"{entry.key} cannot be read: {error.strerror}") from error
    if digest != entry.sha256:
        raise CorruptVersionError(f"{entry.key} is damaged: its SHA-256 is not the one in its record")
    return path
