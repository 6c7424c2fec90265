"""The disk cache gives the right bytes, keeps its budget, and survives what disks and processes do to it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import CorruptVersionError, StoreError
from engine.store import FileEntry
from engine.store import cache_folder as cache_folder_module
from engine.store import download as download_module
from engine.store.cache import DiskCache
from engine.store.cache_folder import NoRoomError, footprint
from engine.store.download import DownloadStoppedError
from engine.store.pins import Pin
from tests.engine.store.cache_support import BLOCK, Objects, Outside, descriptors, files, used

ROOM = 20 * BLOCK


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return make(folder)


def make(folder: Path, max_bytes: int = ROOM, *, wait_s: float = 10.0, threads: int = 4) -> DiskCache:
    return DiskCache(folder, max_bytes, wait_s=wait_s, block_bytes=BLOCK, threads=threads)


def get(cache: DiskCache, objects: Objects, entry: FileEntry) -> bytes:
    pin = cache.pin(entry, objects.read_range)
    try:
        data = pin.path.read_bytes()
        assert data == pin.read(0, entry.size + 1)
        return data
    finally:
        cache.unpin(pin)


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "bit":
        data[len(data) // 2] ^= 1
    elif how == "short":
        del data[-1:]
    elif how == "long":
        data += b"x"
    if how in ("bit", "short", "long"):
        path.chmod(0o600)
        path.write_bytes(data)
        return
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("/dev/null")
    elif how == "pipe":
        os.mkfifo(path)


def test_a_file_is_fetched_once(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    for _ in range(3):
        assert get(cache, objects, entry) == objects.content[entry.key]
    assert objects.bytes_asked == entry.size
    path = folder / "blobs" / f"{entry.sha256}.parquet"
    assert path.stat().st_mode & 0o777 == 0o444
    assert files(folder, "parts") == []
    metrics = cache.metrics()
    assert (metrics.hits, metrics.misses, metrics.bytes_hit) == (2, 1, 2 * entry.size)
    assert (metrics.bytes_fetched, metrics.max_bytes, metrics.used_bytes) == (entry.size, ROOM, footprint(entry.size))


def test_an_empty_object(cache: DiskCache, objects: Objects) -> None:
    assert get(cache, objects, objects.put_bytes("k", b"")) == b""


def test_it_outlives_the_process(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    get(cache, objects, entry)
    objects.down = True
    assert get(make(folder), objects, entry) == objects.content[entry.key]


def test_what_was_used_last_stays(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entries = [objects.put(seed, 4 * BLOCK) for seed in range(5)]
    for entry in entries[:4]:
        get(cache, objects, entry)
    get(cache, objects, entries[0])
    get(cache, objects, entries[4])
    assert set(files(folder, "blobs")) == {f"{entries[n].sha256}.parquet" for n in (0, 2, 3, 4)}
    assert cache.metrics().evictions == 1


def test_what_is_in_use_is_not_thrown_away(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entries = [objects.put(seed, 6 * BLOCK) for seed in range(4)]
    pins = [cache.pin(entry, objects.read_range) for entry in entries[:3]]
    other = make(folder)
    for each in (cache, other):  # the same process through the same, and through another cache
        with pytest.raises(NoRoomError):
            get(each, objects, entries[3])
    assert objects.bytes_asked == 18 * BLOCK, "nothing is fetched that cannot be kept"
    assert files(folder, "parts") == []
    again = cache.pin(entries[1], objects.read_range)
    cache.unpin(pins[1])
    with pytest.raises(NoRoomError):
        get(cache, objects, entries[3])
    cache.unpin(again)
    assert get(other, objects, entries[3]) == objects.content[entries[3].key]
    assert f"{entries[1].sha256}.parquet" not in files(folder, "blobs")
    for pin in (pins[0], pins[2]):
        assert len(pin.path.read_bytes()) == 6 * BLOCK
        cache.unpin(pin)


def test_a_request_that_cannot_be_met_throws_nothing_away(cache: DiskCache, objects: Objects, folder: Path) -> None:
    pinned, idle = objects.put(1, 12 * BLOCK), objects.put(2, 4 * BLOCK)
    get(cache, objects, idle)
    pin = cache.pin(pinned, objects.read_range)
    with pytest.raises(NoRoomError):
        get(cache, objects, objects.put(3, 12 * BLOCK))
    with pytest.raises(NoRoomError, match="larger than the disk cache"):
        get(cache, objects, objects.put(4, 21 * BLOCK))
    assert len(files(folder, "blobs")) == 2
    cache.unpin(pin)


def test_one_descriptor_for_many_pins(cache: DiskCache, objects: Objects) -> None:
    entry = objects.put(1)
    get(cache, objects, entry)
    before = descriptors()
    pins = [cache.pin(entry, objects.read_range) for _ in range(50)]
    assert descriptors() == before + 1
    for pin in pins:
        cache.unpin(pin)
    assert descriptors() == before


def test_pins_are_not_inherited(cache: DiskCache, objects: Objects) -> None:
    pin = cache.pin(objects.put(1), objects.read_range)
    code = (
        "import os, sys; print([os.readlink(f'/proc/self/fd/{n}') for n in os.listdir('/proc/self/fd') if n > '2'][:9])"
    )
    listed = subprocess.run(
        [sys.executable, "-c", code.replace("os.readlink(", "os.path.realpath(")],
        close_fds=False,
        capture_output=True,
        text=True,
        check=True,
    )
    assert pin.path.name not in listed.stdout
    cache.unpin(pin)


@pytest.mark.parametrize("how", ["bit", "short", "long", "folder", "link", "pipe", "gone"])
@pytest.mark.parametrize("known", [False, True])
def test_a_damaged_file_is_replaced(
    cache: DiskCache, objects: Objects, folder: Path, how: str, known: bool, caplog: pytest.LogCaptureFixture
) -> None:
    entry = objects.put(1)
    get(cache, objects, entry)
    path = folder / "blobs" / f"{entry.sha256}.parquet"
    damage(path, how)
    if not known:
        cache = make(folder)
    assert get(cache, objects, entry) == objects.content[entry.key]
    assert cache.metrics().quarantined == len(files(folder, "quarantine")) == (how != "gone")
    assert str(folder) not in caplog.text
    assert objects.bytes_asked == 2 * entry.size


def test_a_file_damaged_in_use(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    before = cache.pin(entry, objects.read_range)
    damage(before.path, "bit")
    after = cache.pin(entry, objects.read_range)
    assert after.path.read_bytes() == objects.content[entry.key]
    assert after.inode != before.inode
    cache.unpin(before)
    with pytest.raises(NoRoomError):  # the new file is locked all the same
        get(make(folder), objects, objects.put(2, ROOM - BLOCK))
    cache.unpin(after)


def test_the_quarantine_is_bounded(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    get(cache, objects, entry)
    for _ in range(5):
        damage(folder / "blobs" / f"{entry.sha256}.parquet", "bit")
        get(cache, objects, entry)
    assert cache.metrics().quarantined == 5
    assert len(files(folder, "quarantine")) == 2
    get(cache, objects, objects.put(2, 15 * BLOCK))  # and goes first when there is no room
    assert len(files(folder, "blobs")) == 2
    assert used(folder) <= ROOM


def test_bytes_that_are_wrong_on_the_way(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    wrong = iter([True])
    objects.after = lambda key, start, data: data[:-1] + b"!" if next(wrong, False) else data
    assert get(cache, objects, entry) == objects.content[entry.key]
    assert objects.bytes_asked == 2 * entry.size
    objects.after = lambda key, start, data: data[:-1] + b"!"
    other = objects.put(2)
    with pytest.raises(CorruptVersionError, match="d/_bt/data/2.parquet is damaged: its SHA-256"):
        get(cache, objects, other)
    assert objects.bytes_asked == 4 * entry.size
    assert files(folder, "parts") == []
    assert len(files(folder, "blobs")) == 1


def test_a_missing_object_and_a_store_out_of_reach(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    before = descriptors()
    data = objects.content.pop(entry.key)
    with pytest.raises(CorruptVersionError, match=f"{entry.key} is missing"):
        get(cache, objects, entry)
    objects.down = True
    with pytest.raises(StoreError, match="cannot be reached"):
        get(cache, objects, entry)
    assert used(folder) == 0 and files(folder, "parts") == []
    assert descriptors() == before
    objects.down = False
    objects.content[entry.key] = data
    assert get(cache, objects, entry) == data


def test_a_failed_download_keeps_only_what_it_has(cache: DiskCache, objects: Objects, folder: Path) -> None:
    cache = make(folder, threads=1)
    entry = objects.put(1, 10 * BLOCK)

    def before(key: str, start: int, length: int) -> None:
        objects.down = start == 4 * BLOCK

    objects.before = before
    with pytest.raises(StoreError):
        get(cache, objects, entry)
    assert used(folder) == 4 * BLOCK + 4096
    objects.before = lambda key, start, length: None
    objects.down = False
    big = objects.put(2, 18 * BLOCK)  # goes before what is half done
    assert get(cache, objects, big) == objects.content[big.key]
    assert files(folder, "parts") == []


def test_a_failed_download_is_gone_on_with(objects: Objects, folder: Path) -> None:
    entry = objects.put(1, 10 * BLOCK)

    def before(key: str, start: int, length: int) -> None:
        objects.down = start == 4 * BLOCK

    objects.before = before
    with pytest.raises(StoreError):
        get(make(folder, threads=1), objects, entry)
    objects.before = lambda key, start, length: None
    objects.down = False
    objects.asked.clear()
    assert get(make(folder), objects, entry) == objects.content[entry.key]
    assert objects.bytes_asked == 6 * BLOCK


def test_a_half_done_file_that_a_power_cut_emptied(objects: Objects, folder: Path) -> None:
    entry = objects.put(1, 4 * BLOCK)
    cache = make(folder, threads=1)
    objects.before = lambda key, start, length: setattr(objects, "down", start == 3 * BLOCK)
    with pytest.raises(StoreError):
        get(cache, objects, entry)
    objects.down, objects.before = False, lambda key, start, length: None
    part = folder / "parts" / f"{entry.sha256}.part"
    part.write_bytes(bytes(3 * BLOCK))
    assert get(cache, objects, entry) == objects.content[entry.key]


def test_many_threads_make_one_download(cache: DiskCache, objects: Objects) -> None:
    entry = objects.put(1)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: get(cache, objects, entry), range(64)))
    assert set(found) == {objects.content[entry.key]}
    assert objects.bytes_asked == entry.size
    metrics = cache.metrics()
    assert (metrics.misses, metrics.hits) == (1, 63)


def until(go: threading.Event) -> Callable[[str, int, int], None]:
    def before(key: str, start: int, length: int) -> None:
        assert go.wait(20)

    return before


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def test_a_waiter_tries_once_itself_and_not_more(cache: DiskCache, objects: Objects) -> None:
    """The first download began before the others asked, so its failure is not theirs; that of the second is."""
    entry = objects.put(1, BLOCK)
    go = threading.Event()
    objects.before = until(go)
    objects.down = True
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(get, cache, objects, entry)
        wait_for(lambda: len(objects.asked) == 1)
        rest = [pool.submit(get, cache, objects, entry) for _ in range(5)]
        wait_for(lambda: cache.metrics().waits == 5)
        go.set()
        for future in [first, *rest]:
            with pytest.raises(StoreError, match="cannot be reached"):
                future.result(20)
    assert 2 <= len(objects.asked) <= 6
    objects.down = False
    assert get(cache, objects, entry) == objects.content[entry.key]


def test_a_waiter_outlives_a_download_that_was_stopped(cache: DiskCache, objects: Objects) -> None:
    entry = objects.put(1, 9 * BLOCK)
    stop, go = threading.Event(), threading.Event()
    objects.before = until(go)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.pin, entry, objects.read_range, stop=stop)
        wait_for(lambda: len(objects.asked) == 4)
        second = pool.submit(get, cache, objects, entry)
        wait_for(lambda: cache.metrics().waits == 1)
        stop.set()
        go.set()
        assert isinstance(first.exception(20), DownloadStoppedError)
        assert second.result(20) == objects.content[entry.key]
    assert objects.bytes_asked == entry.size


def test_a_waiter_may_stop_waiting(cache: DiskCache, objects: Objects) -> None:
    entry = objects.put(1, 9 * BLOCK)
    stop, go = threading.Event(), threading.Event()
    objects.before = until(go)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(get, cache, objects, entry)
        wait_for(lambda: len(objects.asked) == 4)
        second = pool.submit(cache.pin, entry, objects.read_range, stop=stop)
        wait_for(lambda: cache.metrics().waits == 1)
        stop.set()
        assert isinstance(second.exception(20), DownloadStoppedError)
        assert not first.done()
        go.set()
        assert first.result(20) == objects.content[entry.key]
    assert objects.bytes_asked == entry.size


def test_a_stalled_thread_is_not_waited_for_without_end(folder: Path, objects: Objects) -> None:
    cache = make(folder, wait_s=0.1)
    entry = objects.put(1, BLOCK)
    go = threading.Event()
    objects.before = until(go)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(get, cache, objects, entry)
        wait_for(lambda: len(objects.asked) == 1)
        with pytest.raises(StoreError, match=f"{entry.key} is being fetched, and nothing has come for 0.1 s"):
            get(cache, objects, entry)
        go.set()
        assert first.result(20) == objects.content[entry.key]


def test_two_processes_make_one_download(tmp_path: Path, folder: Path) -> None:
    outside = Outside(folder, tmp_path / "objects")
    with outside.process(pause_s=0.05) as first, outside.process(pause_s=0.05) as second:
        for process in (first, second):
            assert process.stdout is not None and process.stdout.readline() == "pinned\n"
            assert process.wait(60) == 0
    assert sorted(outside.asked) == [number * BLOCK for number in range(8)]


def test_a_killed_download_is_gone_on_with(tmp_path: Path, folder: Path) -> None:
    outside = Outside(folder, tmp_path / "objects")
    journal = folder / "parts" / f"{outside.entry.sha256}.part.jsonl"
    with outside.process(pause_s=0.1) as process:
        wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3)
        process.kill()
        process.wait()
    before = outside.asked
    cache = make(folder, 1 << 30)
    pin = cache.pin(outside.entry, outside.source)
    assert pin.path.read_bytes() == outside.data
    assert 0 < len(outside.asked) - len(before) <= 6
    assert set(outside.asked) == {number * BLOCK for number in range(8)}
    cache.unpin(pin)
    assert files(folder, "parts") == []


def test_what_a_killed_process_reserved_can_be_taken(tmp_path: Path, folder: Path, objects: Objects) -> None:
    outside = Outside(folder, tmp_path / "objects")
    cache = make(folder, 10 * BLOCK)
    entry = objects.put(1, 6 * BLOCK)
    with outside.process(pause_s=0.5) as process:
        wait_for(lambda: len(outside.asked) >= 2)
        with pytest.raises(NoRoomError):
            get(cache, objects, entry)
        process.kill()
        process.wait()
        assert get(cache, objects, entry) == objects.content[entry.key]


def test_a_killed_process_holds_nothing(tmp_path: Path, folder: Path, objects: Objects) -> None:
    outside = Outside(folder, tmp_path / "objects")
    cache = make(folder, 10 * BLOCK)
    entry = objects.put(1, 6 * BLOCK)
    with outside.process(what="hold") as process:
        assert process.stdout is not None and process.stdout.readline() == "pinned\n"
        with pytest.raises(NoRoomError):
            get(cache, objects, entry)
        process.kill()
        process.wait()
        assert get(cache, objects, entry) == objects.content[entry.key]
    assert files(folder, "blobs") == [f"{entry.sha256}.parquet"]


def test_a_stopped_process_is_not_waited_for_without_end(tmp_path: Path, folder: Path) -> None:
    outside = Outside(folder, tmp_path / "objects")
    with outside.process(pause_s=0.05) as process:
        wait_for(lambda: len(outside.asked) >= 3)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(StoreError, match="being fetched by another process, and nothing has come for 0.2 s"):
            make(folder, 1 << 30, wait_s=0.2).pin(outside.entry, outside.source)
        process.send_signal(signal.SIGCONT)
        cache = make(folder, 1 << 30)
        cache.unpin(cache.pin(outside.entry, outside.source))
    assert cache.metrics().waits == 1


def test_a_lock_of_the_folder_that_is_never_given_back(folder: Path, objects: Objects) -> None:
    cache = make(folder, wait_s=0.1)
    get(cache, objects, objects.put(1))
    descriptor = os.open(folder / "lock", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(StoreError, match="another process holds the disk cache"):
        get(cache, objects, objects.put(2))
    os.close(descriptor)
    get(cache, objects, objects.put(2))
    assert files(folder, "parts") == []


@pytest.mark.parametrize("where", ["data", "journal", "reserve", "sync"])
@pytest.mark.parametrize("times", [1, 99])
def test_a_full_disk(
    cache: DiskCache,
    objects: Objects,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: str,
    times: int,
) -> None:
    old = objects.put(1)
    get(cache, objects, old)
    left = [times]

    def full(*arguments: object) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")

    real = download_module.write_all

    def write_all(descriptor: int, data: bytes, at: int | None = None) -> None:
        if (where == "data") == (at is not None):
            full()
        real(descriptor, data, at)

    def truncate(descriptor: int, size: int) -> None:
        full()
        os.truncate(descriptor, size)

    def sync(descriptor: int) -> None:
        full()

    if where in ("data", "journal"):
        monkeypatch.setattr(download_module, "write_all", write_all)
    else:
        target = {"reserve": ("ftruncate", truncate), "sync": ("fsync", sync)}[where]
        monkeypatch.setattr(cache_folder_module.os, *target)
    entry = objects.put(2)
    if times == 1 and where in ("data", "journal"):
        assert get(cache, objects, entry) == objects.content[entry.key]
        assert files(folder, "blobs") == [f"{entry.sha256}.parquet"], "the other one made room"
        return
    with pytest.raises(NoRoomError, match="No space left"):
        get(cache, objects, entry)
    if times > 1:
        with pytest.raises(NoRoomError):
            get(cache, objects, entry)
    monkeypatch.undo()
    assert get(cache, objects, entry) == objects.content[entry.key]
    assert files(folder, "parts") == []
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "No space left" in caplog.text


def as_if_read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so that permissions alone prove nothing here."""
    real = os.open

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    def open_(path: str, flags: int, *arguments: int, **options: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            refuse()
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", open_)
    for name in ("mkdir", "rename", "unlink", "utime", "ftruncate"):
        monkeypatch.setattr(os, name, refuse)


def test_a_read_only_folder_serves_what_it_has(
    cache: DiskCache, objects: Objects, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry, other, damaged = objects.put(1), objects.put(2), objects.put(3)
    get(cache, objects, entry)
    get(cache, objects, damaged)
    damage(folder / "blobs" / f"{damaged.sha256}.parquet", "bit")
    with monkeypatch.context() as patch:
        as_if_read_only(patch)
        assert get(cache, objects, entry) == objects.content[entry.key]
        for missing in (other, damaged):
            with pytest.raises(NoRoomError, match="Read-only file system"):
                get(cache, objects, missing)
    assert [record.message for record in caplog.records if "Read-only" in record.message] == [
        "The disk cache cannot be used as it should (Read-only file system); what does not fit is read from the store "
        "each time, which is slower."
    ]
    assert get(cache, objects, damaged) == objects.content[damaged.key]


def test_a_file_where_the_folder_should_be(objects: Objects, folder: Path) -> None:
    folder.write_text("mine")
    with pytest.raises(NoRoomError):
        get(make(folder), objects, objects.put(1))
    assert make(folder).metrics().used_bytes == 0
    assert folder.read_text() == "mine"


def test_somebody_empties_the_folder(cache: DiskCache, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    get(cache, objects, entry)
    folder.rename(folder.with_name("gone"))
    assert get(cache, objects, entry) == objects.content[entry.key]


def test_leftovers(objects: Objects, folder: Path) -> None:
    parts = folder / "parts"
    parts.mkdir(parents=True)
    (folder / "blobs").mkdir()
    old, new = "a" * 64, "b" * 64
    long_ago = time.time() - 2 * 24 * 3600
    for name in (f"{old}.part", f"{old}.part.jsonl", f"{'c' * 64}.part.jsonl", "notes.part", f"{new}.part"):
        (parts / name).write_bytes(b"x" * 10)
        if not name.startswith(new):
            os.utime(parts / name, (long_ago, long_ago))
    (folder / "blobs" / "mine.parquet").write_bytes(b"x" * ROOM)
    cache = make(folder)
    get(cache, objects, objects.put(1))
    assert files(folder, "parts") == [f"{new}.part", "notes.part"]
    get(cache, objects, objects.put(2, 19 * BLOCK))
    assert files(folder, "parts") == ["notes.part"]
    assert (folder / "blobs" / "mine.parquet").stat().st_size == ROOM, "other people's files are left alone"


def test_a_smaller_budget_after_a_restart(cache: DiskCache, objects: Objects, folder: Path) -> None:
    for seed in range(4):
        get(cache, objects, objects.put(seed, 4 * BLOCK))
    small = make(folder, 6 * BLOCK)
    get(small, objects, objects.put(9, BLOCK))
    assert used(folder) <= 6 * BLOCK


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "a" * 63, "a" * 64 + "\n"])
def test_a_hash_that_is_no_file_name(cache: DiskCache, objects: Objects, sha256: str) -> None:
    with pytest.raises(CorruptVersionError, match="64 lower-case digits"):
        get(cache, objects, replace(objects.put(1), sha256=sha256))


def test_pins_may_be_given_back_in_other_threads(cache: DiskCache, objects: Objects) -> None:
    entries = [objects.put(seed, 2 * BLOCK) for seed in range(8)]
    before = descriptors()

    def work(number: int) -> None:
        pins: list[Pin] = []
        for step in range(20):
            entry = entries[(number * 7 + step * 3) % 8]
            pins.append(cache.pin(entry, objects.read_range))
            assert pins[-1].read(0, entry.size) == objects.content[entry.key]
            if len(pins) > 1:
                thread = threading.Thread(target=cache.unpin, args=(pins.pop(0),))
                thread.start()
                thread.join()
        for pin in pins:
            cache.unpin(pin)

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, number) for number in range(4)]:
            future.result(60)
    assert descriptors() == before
    assert cache.metrics().used_bytes <= ROOM
