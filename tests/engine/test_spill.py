"""Folders for what is spilled: one for each database, and gone with its process."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.connection import Database
from engine.errors import StoreError
from engine.spill import SpillFolder


def test_two_databases_never_share_one(tmp_path: Path) -> None:
    one, other = SpillFolder(tmp_path), SpillFolder(tmp_path)
    assert one.path != other.path and one.path.parent == other.path.parent == tmp_path
    one.close()
    one.close()
    assert not one.path.exists() and other.path.exists()
    other.close()


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = "import os, sys; from engine.spill import SpillFolder; from pathlib import Path\n"
    code += "folder = SpillFolder(Path(sys.argv[1])); (folder.path / 'big').write_bytes(b'x'); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    mine = SpillFolder(tmp_path)
    assert not left.exists()
    (tmp_path / "bytomorrow-spill-foreign").mkdir()
    SpillFolder(tmp_path).close()
    assert mine.path.exists() and (tmp_path / "bytomorrow-spill-foreign").exists()
    mine.close()


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="BT_CACHE_DIR"):
        Database([tmp_path], temp_directory=tmp_path / "file" / "spill")


def test_a_full_disk_stops_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Path.mkdir

    def full(path: Path, *arguments: Any, **options: Any) -> None:
        if path.is_relative_to(tmp_path / "full"):
            raise OSError(errno.ENOSPC, "No space left on device")
        honest(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", full)
    database = Database([tmp_path], temp_directory=tmp_path / "full" / "spill")
    assert database.table("SELECT 1 AS one")["one"].to_pylist() == [1]
    database.close()
