"""The primitives in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.errors import InvalidNameError, RejectedFileError, StoreError
from engine.store import LocalStore
from engine.store.staging import STALE_S, UnsettledFileError, copy_and_hash, remove_stale
from tests.engine.store.support import sha256

KEY = "d/_bt/log/0000000001.json"


def test_a_key_is_written_once(store: LocalStore, root: Path) -> None:
    assert store.read(KEY) is None
    assert store.put_if_absent(KEY, b"one")
    assert not store.put_if_absent(KEY, b"two")
    assert store.read(KEY) == b"one"
    assert store.path(KEY).stat().st_mode & 0o222 == 0, "what never changes is not writable"
    assert list((root / "d/_bt/tmp").iterdir()) == []


def test_a_file_is_copied_unless_it_is_staged(store: LocalStore, tmp_path: Path) -> None:
    outside = tmp_path / "mine.parquet"
    outside.write_bytes(b"mine")
    staged = store.staging("d") / "theirs"
    staged.write_bytes(b"theirs")
    assert store.put_if_absent("d/_bt/data/a.parquet", outside)
    assert store.put_if_absent("d/_bt/data/b.parquet", staged)
    outside.write_bytes(b"changed")
    assert store.read("d/_bt/data/a.parquet") == b"mine"
    assert store.path("d/_bt/data/b.parquet").samefile(staged)
    assert not store.put_if_absent("d/_bt/data/a.parquet", outside)


def test_of_many_writers_one_wins_and_nobody_reads_a_part(store: LocalStore) -> None:
    contents = [bytes([65 + number]) * 200_000 for number in range(8)]
    wins: list[bool] = []
    seen: set[bytes] = set()
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.add(store.read(KEY) or b"")

    def write(content: bytes) -> None:
        wins.append(store.put_if_absent(KEY, content))

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    time.sleep(0.01)
    done.set()
    reader.join()
    assert sum(wins) == 1
    assert seen <= {b"", store.read(KEY)}


@pytest.mark.parametrize("key", ["", "/d", "d//x", "../x", "d/../../x", "d/.", "d/\0", "d\\..\\x", "/etc/passwd"])
def test_keys_cannot_leave_the_store(store: LocalStore, key: str) -> None:
    for method in (store.read, store.path, store.stat, store.delete):
        with pytest.raises(InvalidNameError, match="not a key"):
            method(key)
    with pytest.raises(InvalidNameError):
        store.put_if_absent(key, b"")


def test_only_our_own_corner_is_ever_written(store: LocalStore, root: Path) -> None:
    (root / "d").mkdir(parents=True)
    (root / "d/results.parquet").write_bytes(b"theirs")
    with pytest.raises(StoreError, match="belongs to the researchers"):
        store.put_if_absent("d/results.csv", b"")
    with pytest.raises(StoreError, match="belongs to the researchers"):
        store.delete("d/results.parquet")


def test_listing(store: LocalStore, root: Path) -> None:
    assert store.list("") == ()
    assert store.list("d/") == ()
    for name in ("b/x", "a/y", "a/z/w", "file"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "linked").symlink_to(root / "a")
    assert store.list("") == ("a/", "b/", "file", "linked")
    assert store.list("a/") == ("a/y", "a/z/")


def test_links_do_not_lead_out(store: LocalStore, root: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "_bt/log").mkdir(parents=True)
    (elsewhere / "secret").write_bytes(b"secret")
    root.mkdir()
    (root / "d").symlink_to(elsewhere)
    with pytest.raises(StoreError, match="symbolic link"):
        store.read("d/secret")
    (root / "e").mkdir()
    (root / "e/secret").symlink_to(elsewhere / "secret")
    with pytest.raises(StoreError, match="cannot be read"):
        store.read("e/secret")
    found = store.stat("e/secret")
    assert found is not None
    with pytest.raises(RejectedFileError, match="symbolic link out of its folder"):
        store.fetch("e/secret", found.etag, tmp_path / "copy")


def test_an_etag_changes_with_the_content(store: LocalStore, root: Path) -> None:
    assert store.stat("d/results.csv") is None
    (root / "d").mkdir(parents=True)
    path = root / "d/results.csv"
    etags = set()
    for step, write in enumerate([b"a", b"ab", b"cd"]):
        path.write_bytes(write)
        os.utime(path, (step, step))
        found = store.stat("d/results.csv")
        assert found is not None and (found.size, found.modified_at) == (len(write), step)
        etags.add(found.etag)
    other = root / "d/other"
    other.write_bytes(b"ef")
    os.utime(other, (2, 2))
    other.rename(path)  # same size and time as the file it replaces
    found = store.stat("d/results.csv")
    assert found is not None and len(etags | {found.etag}) == 4


def test_stale_scratch_files_are_removed_and_fresh_ones_stay(root: Path) -> None:
    folder = LocalStore(root).staging("d")
    (folder / "fresh").touch()
    assert (LocalStore(root).staging("d") / "fresh").exists()
    # The age is that of the inode, which cannot be set; so a patient process is imitated by a short patience.
    time.sleep(0.02)
    assert STALE_S == 24 * 3600
    remove_stale(folder, time.time())
    assert list(folder.iterdir()) == []


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="must be a folder"):
        LocalStore(tmp_path / "file")


def test_read_only(root: Path) -> None:
    root.mkdir()
    store = LocalStore(root, read_only=True)
    for write in (lambda: store.put_if_absent(KEY, b""), lambda: store.delete(KEY), lambda: store.staging("d")):
        with pytest.raises(StoreError, match="the store is read-only: it can be served"):
            write()
    assert store.read(KEY) is None
    assert not LocalStore(root).read_only


def test_a_file_system_without_links_says_so(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")  # what FAT answers

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StoreError, match="refuses hard links"):
        store.put_if_absent(KEY, b"")
    assert store.read(KEY) is None


def test_a_disk_that_takes_no_more(root: Path) -> None:
    """A real refusal by the kernel: files of this process may not grow past 1000 bytes."""
    code = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from engine.errors import StoreError\n"
        "from engine.store import LocalStore\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "store = LocalStore(Path(sys.argv[1]))\n"
        "assert store.put_if_absent('d/_bt/log/1', bytes(500))\n"
        "try:\n"
        "    store.put_if_absent('d/_bt/log/2', bytes(2000))\n"
        "except StoreError as error:\n"
        "    print(error.detail)\n"
        "assert store.read('d/_bt/log/2') is None\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=False)
    assert done.stdout == "d/_bt/log/2 cannot be written: File too large\n", done.stderr
    assert list((root / "d/_bt/tmp").iterdir()) == []


def test_copying_notices_a_change(tmp_path: Path) -> None:
    source, into = tmp_path / "results.csv", tmp_path / "copy"
    source.write_bytes(bytes(3_000_000))
    assert copy_and_hash(source, into, name="results.csv").sha256 == sha256(bytes(3_000_000))

    def rewrite(*_: object) -> None:
        with open(source, "r+b") as writer:
            writer.write(b"x")
        os.utime(source, (1, 1))

    def append(*_: object) -> None:
        with open(source, "ab") as writer:
            writer.write(b"x")

    def truncate(*_: object) -> None:
        os.truncate(source, 10)

    def replace(*_: object) -> None:
        found = source.stat()
        other = tmp_path / "other"
        other.write_bytes(bytes(found.st_size))
        os.utime(other, ns=(found.st_atime_ns, found.st_mtime_ns))
        other.rename(source)

    def remove(*_: object) -> None:
        source.unlink(missing_ok=True)

    for change in (rewrite, append, truncate, replace, remove):
        source.write_bytes(bytes(3_000_000))
        into.unlink()
        with pytest.raises(UnsettledFileError, match=r"results\.csv changed while it was being read"):
            copy_and_hash(source, into, name="results.csv", progress=change)


def test_what_cannot_be_copied(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for source, cause in [
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "is a device or a pipe"),
        (Path("/dev/zero"), "is a device or a pipe"),
        (tmp_path / "nothing", "does not exist"),
    ]:
        with pytest.raises(RejectedFileError, match=f"results.csv {cause}"):
            copy_and_hash(source, tmp_path / "copy", name="results.csv")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(b"a\n1\n")
    path.chmod(0)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from engine.store.staging import UnsettledFileError, copy_and_hash\n"
        "folder = os.open(sys.argv[1], os.O_RDONLY)\n"
        "os.fchdir(folder)\n"
        "if os.getuid() == 0:\n"
        "    os.setuid(65534)\n"  # root may read everything
        "try:\n"
        "    copy_and_hash(Path('results.csv'), Path('copy'), name='results.csv')\n"
        "except UnsettledFileError as error:\n"
        "    print(error.detail)\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.stdout == "results.csv cannot be read: Permission denied\n", done.stderr


def test_a_link_in_the_place_of_a_folder_that_was_fine(store: LocalStore, root: Path, tmp_path: Path) -> None:
    """What was found of a folder is remembered for that very folder, and not for its name."""
    (root / "d/_bt/log").mkdir(parents=True)
    (root / "d/_bt/log/1").write_bytes(b"ours")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "_bt/log").mkdir(parents=True)
    (elsewhere / "_bt/log/1").write_bytes(b"another")
    for _ in range(2):
        assert store.read("d/_bt/log/1") == b"ours"
    (root / "d").rename(tmp_path / "away")
    assert store.read("d/_bt/log/1") is None
    (root / "d").symlink_to(elsewhere)
    for _ in range(2):
        with pytest.raises(StoreError, match="symbolic link"):
            store.read("d/_bt/log/1")
    (root / "d").unlink()
    (tmp_path / "away").rename(root / "d")
    assert store.read("d/_bt/log/1") == b"ours"
    (root / "d/_bt/log").rename(root / "d/_bt/before")
    (root / "d/_bt/log").symlink_to(root / "d/_bt/before")
    with pytest.raises(StoreError, match="symbolic link"):
        store.read("d/_bt/log/1")


def test_few_folders_are_remembered(store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store.local.MAX_FOLDERS", 3)
    for number in range(10):
        (root / f"d{number}").mkdir(parents=True)
        (root / f"d{number}/x").write_bytes(b"x")
        assert store.read(f"d{number}/x") == b"x"
        assert len(store._inside) <= 3
