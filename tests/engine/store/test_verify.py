"""Bytes are checked before they are read."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from engine.errors import CorruptVersionError
from engine.store import FileEntry, LocalStore, verify_blob
from tests.engine.store.support import sha256

KEY = "d/_bt/data/x.parquet"


def put(store: LocalStore, data: bytes = b"some bytes") -> FileEntry:
    assert store.put_if_absent(KEY, data)
    return FileEntry(KEY, len(data), sha256(data), None, 1, 1)


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_sound_blob(store: LocalStore, root: Path) -> None:
    entry = put(store)
    assert verify_blob(store, entry) == verify_blob(store, entry) == root / KEY


@pytest.mark.parametrize(
    "data, cause",
    [(b"some bytez", "SHA-256"), (b"some byte", "it has 9 bytes, and its record says 10"), (b"", "it has 0 bytes")],
)
def test_damage_is_named_without_a_path(store: LocalStore, root: Path, data: bytes, cause: str) -> None:
    entry = put(store)
    verify_blob(store, entry)
    overwrite(root / KEY, data)
    for _ in range(2):
        with pytest.raises(CorruptVersionError, match=f"^{re.escape(KEY)} is damaged: .*{cause}") as caught:
            verify_blob(store, entry)
        assert str(root) not in caught.value.detail


def test_a_missing_blob(store: LocalStore, root: Path) -> None:
    entry = put(store)
    verify_blob(store, entry)
    (root / KEY).unlink()
    with pytest.raises(CorruptVersionError, match=f"{re.escape(KEY)} is missing, though the log names it"):
        verify_blob(store, entry)


def test_a_link_or_a_folder_in_its_place(store: LocalStore, root: Path, tmp_path: Path) -> None:
    entry = put(store)
    (root / KEY).rename(tmp_path / "moved")
    (root / KEY).symlink_to(tmp_path / "moved")
    with pytest.raises(CorruptVersionError, match="not a regular file"):
        verify_blob(store, entry)
    (root / KEY).unlink()
    (root / KEY).mkdir()
    with pytest.raises(CorruptVersionError, match="not a regular file"):
        verify_blob(store, entry)


def test_a_replaced_file_is_hashed_again(store: LocalStore, root: Path) -> None:
    entry = put(store)
    verify_blob(store, entry)
    before = (root / KEY).stat()
    other = root / "other"
    other.write_bytes(b"SOME BYTES")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(root / KEY)
    with pytest.raises(CorruptVersionError):
        verify_blob(store, entry)
