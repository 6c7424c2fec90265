"""Leases: what a query is given to read, from either home."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from engine.errors import CorruptVersionError, StoreError
from engine.store import FileEntry, LocalStore
from engine.store import blobs as blobs_module
from engine.store.blobs import Blobs, CachedBlobs, Lease, LocalBlobs
from engine.store.cache import DiskCache
from engine.store.records import BLOCK_BYTES
from engine.store.staging import hash_blocks
from tests.engine.store.cache_support import BLOCK, Objects, content, descriptors, files, used
from tests.engine.store.support import sha256

ROOM = 20 * BLOCK


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> DiskCache:
    return DiskCache(folder, ROOM, block_bytes=BLOCK, wait_s=10)


@pytest.fixture
def blobs(objects: Objects, cache: DiskCache) -> Iterator[CachedBlobs]:
    blobs = CachedBlobs(objects, cache)
    yield blobs
    blobs.close()


def read(blobs: CachedBlobs, source: str) -> bytes:
    """The bytes behind a source, as DuckDB gets at them."""
    if not source.startswith("btblob://"):
        return Path(source).read_bytes()
    entry = blobs.entry(source.removeprefix("btblob://"))
    assert entry is not None
    step = BLOCK // 2 + 1
    return b"".join(blobs.read(entry, at, min(step, entry.size - at)) for at in range(0, entry.size, step))


def is_virtual(lease: Lease) -> bool:
    kinds = {source.startswith("btblob://") for source in lease.sources}
    assert len(kinds) == 1, "all or none"
    return kinds.pop()


# --- a store in a folder


def test_local_files_are_where_they_are(store: LocalStore, root: Path) -> None:
    blobs: Blobs = LocalBlobs(store)
    data = b"some bytes"
    key = "d/_bt/data/x.parquet"
    store.put_if_absent(key, data)
    entry = FileEntry(key, len(data), sha256(data), None, 1, 1)
    with blobs.lease([entry, entry]) as lease:
        assert lease.sources == (str(root / key),) * 2
    assert blobs.open_file(entry).sources == (str(root / key),)
    blobs.verify(entry, fetch=True)
    blobs.prefetch([entry])
    blobs.close()
    assert (blobs.filesystem, blobs.directories, blobs.metrics()) == (None, (), None)
    (root / key).chmod(0o644)
    (root / key).write_bytes(b"some bytez")
    for use in (lambda: blobs.lease([entry]), lambda: blobs.verify(entry), lambda: blobs.open_file(entry)):
        with pytest.raises(CorruptVersionError, match=f"{key} is damaged"):
            use()


# --- a store elsewhere


def test_what_fits_is_given_as_paths_in_order(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    entries = [objects.put(seed) for seed in (3, 1, 2, 1)]
    with blobs.lease(entries) as lease:
        assert lease.sources == tuple(str(folder / "blobs" / f"{entry.sha256}.parquet") for entry in entries)
        assert [read(blobs, source) for source in lease.sources] == [objects.content[entry.key] for entry in entries]
    assert blobs.directories == (folder / "blobs",)
    assert objects.bytes_asked == 3 * 3 * BLOCK
    assert blobs.lease([]).sources == ()


def test_a_lease_may_be_closed_twice_and_elsewhere(blobs: CachedBlobs, objects: Objects) -> None:
    entry = objects.put(1)
    blobs.lease([entry]).close()
    before = descriptors()
    first, second = blobs.lease([entry]), blobs.lease([entry, entry])
    for _ in range(3):
        thread = threading.Thread(target=first.close)
        thread.start()
        thread.join()
    first.close()
    assert descriptors() == before + 1
    with second:
        pass
    assert descriptors() == before


def test_what_does_not_fit_is_given_as_names(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    entries = [objects.put(seed, 6 * BLOCK) for seed in range(4)]
    with blobs.lease(entries) as lease:
        assert lease.sources == tuple(f"btblob://{entry.sha256}.parquet" for entry in entries)
        assert objects.asked == [], "a name costs nothing"
        for source, entry in zip(lease.sources, entries, strict=True):
            assert read(blobs, source) == objects.content[entry.key]
            assert used(folder) <= ROOM
    assert objects.bytes_asked == 24 * BLOCK
    metrics = blobs.metrics()
    assert metrics is not None and (metrics.bytes_fetched, metrics.bytes_by_range) == (24 * BLOCK, 0)


def test_what_others_use_makes_all_of_it_names(blobs: CachedBlobs, objects: Objects) -> None:
    entries = [objects.put(seed, 6 * BLOCK) for seed in range(4)]
    with blobs.lease(entries[:2]), blobs.lease(entries[2:]) as lease:
        assert is_virtual(lease)
        for source, entry in zip(lease.sources, entries[2:], strict=True):
            assert read(blobs, source) == objects.content[entry.key]
    with blobs.lease(entries[2:]) as lease:
        assert not is_virtual(lease)


def test_a_file_larger_than_half_of_the_cache_is_read_by_ranges(
    blobs: CachedBlobs, objects: Objects, folder: Path
) -> None:
    entry = objects.put(1, 30 * BLOCK + 5)
    with blobs.lease([entry]) as lease:
        assert read(blobs, lease.sources[0]) == objects.content[entry.key]
        assert objects.bytes_asked == entry.size, "neighbours share a block"
        blobs.read(entry, 30 * BLOCK, 5)
        assert objects.bytes_asked == entry.size, "the last blocks are still there"
    assert files(folder, "blobs") == []
    metrics = blobs.metrics()
    assert metrics is not None and metrics.bytes_by_range == entry.size


def test_files_that_push_each_other_out_are_read_by_ranges(
    blobs: CachedBlobs, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise each small read would fetch a whole file again."""
    entries = [objects.put(seed, 8 * BLOCK) for seed in range(4)]
    with blobs.lease(entries):
        for at in (0, BLOCK, 2 * BLOCK):
            for entry in entries:
                assert blobs.read(entry, at, 10) == objects.content[entry.key][at : at + 10]
        assert objects.bytes_asked <= 4 * 8 * BLOCK + 12 * BLOCK
        monkeypatch.setattr(blobs_module, "THRASH_S", 0.0)
        objects.asked.clear()
        for entry in entries:
            blobs.read(entry, 0, 10)
        assert objects.bytes_asked > 8 * BLOCK, "after a while they are fetched again"


def test_ranges_of_a_file_that_was_seen_whole_are_checked(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    entry = objects.put(1, 4 * BLOCK)
    with blobs.lease([objects.put(seed, 8 * BLOCK) for seed in (7, 8, 9)] + [entry]):
        blobs.read(entry, 0, 1)
        for path in (folder / "blobs").glob("*"):
            path.unlink()
        wrong = iter([True])
        objects.after = lambda key, start, data: b"!" + data[1:] if next(wrong, False) else data
        assert blobs.read(entry, BLOCK, 9) == objects.content[entry.key][BLOCK : BLOCK + 9]
        objects.after = lambda key, start, data: b"!" + data[1:]
        with pytest.raises(CorruptVersionError, match=f"{entry.key} is damaged"):
            blobs.read(entry, 2 * BLOCK, 9)
        objects.after = lambda key, start, data: data[1:]
        with pytest.raises(CorruptVersionError):
            blobs.read(entry, 3 * BLOCK, 9)


def test_ranges_are_checked_by_what_the_log_has_of_them(objects: Objects, folder: Path, tmp_path: Path) -> None:
    """A file larger than the cache is never seen whole."""
    data = content(1, 2 * BLOCK_BYTES + 5)
    (tmp_path / "file").write_bytes(data)
    entry = replace(objects.put_bytes("d/_bt/data/1.parquet", data), blocks=hash_blocks(tmp_path / "file"))
    assert [len(block) for block in entry.blocks] == [64, 64, 64]
    blobs = CachedBlobs(objects, DiskCache(folder, BLOCK_BYTES))
    assert blobs.read(entry, 2 * BLOCK_BYTES, 5) == data[-5:]
    objects.after = lambda key, start, data: b"!" + data[1:]
    assert blobs.read(entry, 2 * BLOCK_BYTES, 5) == data[-5:], "from memory"
    with pytest.raises(CorruptVersionError, match=f"{entry.key} is damaged"):
        blobs.read(entry, 0, 9)
    small = objects.put(2, 5)
    with pytest.raises(CorruptVersionError, match="damaged"):
        CachedBlobs(objects, DiskCache(folder, 1)).read(small, 0, 5)
    blobs.close()


def test_for_its_end_alone_no_file_is_fetched(objects: Objects, folder: Path) -> None:
    """DuckDB reads the footers of all files of a query before the first of them."""
    size = 3 * BLOCK_BYTES
    entries = [objects.put(seed, size) for seed in range(3)]
    blobs = CachedBlobs(objects, DiskCache(folder, 3 * size))
    for _ in range(2):
        for entry in entries:
            assert blobs.read(entry, size - 8, 8) == objects.content[entry.key][-8:]
    assert objects.bytes_asked == 3 * BLOCK_BYTES
    assert blobs.read(entries[0], 0, 5) == objects.content[entries[0].key][:5]
    assert files(folder, "blobs") == [f"{entries[0].sha256}.parquet"]
    blobs.close()


def test_a_missing_object_and_a_store_out_of_reach(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    good, missing, large = objects.put(1), objects.put(2), objects.put(3, 30 * BLOCK)
    del objects.content[missing.key], objects.content[large.key]
    before = descriptors()
    with pytest.raises(CorruptVersionError, match=f"{missing.key} is missing"):
        blobs.lease([good, missing])
    with pytest.raises(CorruptVersionError, match=f"{missing.key} is missing"):
        blobs.open_file(missing)
    with blobs.lease([large]), pytest.raises(CorruptVersionError, match=f"{large.key} is missing"):
        blobs.read(large, 0, 1)
    objects.down = True
    for entry in (missing, large):
        with pytest.raises(StoreError, match="cannot be reached"), blobs.lease([entry]):
            blobs.read(entry, 0, 1)
    blobs.lease([good]).close()
    assert descriptors() == before
    assert files(folder, "parts") == []


def test_a_cache_that_cannot_be_used(objects: Objects, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    blobs = CachedBlobs(objects, DiskCache(tmp_path / "file", ROOM, block_bytes=BLOCK))
    entries = [objects.put(seed) for seed in range(3)]
    for _ in range(2):
        with blobs.lease(entries) as lease:
            assert is_virtual(lease)
            for source, entry in zip(lease.sources, entries, strict=True):
                assert read(blobs, source) == objects.content[entry.key]
    with pytest.raises(StoreError, match="the disk cache cannot be used"):
        blobs.open_file(entries[0])
    blobs.verify(entries[0])
    blobs.prefetch(entries)
    blobs.close()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    assert str(tmp_path) not in caplog.text


def test_one_file_as_a_path(blobs: CachedBlobs, objects: Objects) -> None:
    entry, large = objects.put(1), objects.put(2, 30 * BLOCK)
    with blobs.open_file(entry) as lease:
        assert Path(lease.sources[0]).read_bytes() == objects.content[entry.key]
    with pytest.raises(StoreError, match=r"more than the disk cache may take \(327680, BT_CACHE_BYTES\)"):
        blobs.open_file(large)


def test_verify(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    entry = objects.put(1)
    blobs.verify(entry)
    assert objects.asked == []
    blobs.verify(entry, fetch=True)
    assert objects.bytes_asked == entry.size
    assert not folder.exists(), "looking changes nothing"
    good = objects.content[entry.key]
    blobs.lease([entry]).close()
    path = folder / "blobs" / f"{entry.sha256}.parquet"
    path.chmod(0o644)
    path.write_bytes(good[:-1] + b"!")
    blobs.verify(entry)
    assert files(folder, "blobs") == [], "a damaged copy is put aside"
    objects.content[entry.key] = good[:-1] + b"!"
    blobs.verify(entry)
    with pytest.raises(CorruptVersionError, match="its SHA-256 is not the one in its record"):
        blobs.verify(entry, fetch=True)
    objects.content[entry.key] = good[:-1]
    with pytest.raises(CorruptVersionError, match=f"it has {entry.size - 1} bytes, and its record says {entry.size}"):
        blobs.verify(entry)
    del objects.content[entry.key]
    with pytest.raises(CorruptVersionError, match="is missing"):
        blobs.verify(entry)
    objects.down = True
    with pytest.raises(StoreError):
        blobs.verify(entry)


def test_prefetch(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    entries = [objects.put(seed) for seed in range(3)]
    blobs.prefetch(entries)
    assert blobs._prefetcher.wait(20)
    assert files(folder, "blobs") == sorted(f"{entry.sha256}.parquet" for entry in entries)
    blobs.prefetch([objects.put(seed) for seed in range(10, 14)])  # more than half of the cache
    assert blobs._prefetcher.wait(20)
    assert len(files(folder, "blobs")) == 3
    missing = objects.put(20)
    del objects.content[missing.key]
    last = objects.put(21)
    for wanted in (missing, last):
        blobs.prefetch([wanted])
    assert blobs._prefetcher.wait(20)
    assert f"{last.sha256}.parquet" in files(folder, "blobs"), "one that fails does not end it"


def test_prefetch_stops_at_close(objects: Objects, folder: Path) -> None:
    blobs = CachedBlobs(objects, DiskCache(folder, ROOM, block_bytes=BLOCK, threads=1))
    begun, go = threading.Event(), threading.Event()

    def before(key: str, start: int, length: int) -> None:
        begun.set()
        assert go.wait(20)

    objects.before = before
    blobs.prefetch([objects.put(1, 8 * BLOCK)])
    blobs.prefetch([objects.put(2)])
    assert begun.wait(20)
    closing = threading.Thread(target=blobs.close)
    closing.start()
    while not blobs._prefetcher._stop.is_set():
        pass
    go.set()
    closing.join(20)
    assert len(objects.asked) == 1
    blobs.prefetch([objects.put(3)])
    assert len(objects.asked) == 1
    blobs.close()


def test_prefetch_throws_nothing_in_use_away(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    used_now = objects.put(1, 15 * BLOCK)
    with blobs.lease([used_now]):
        blobs.prefetch([objects.put(2, 8 * BLOCK)])
        assert blobs._prefetcher.wait(20)
        assert files(folder, "blobs") == [f"{used_now.sha256}.parquet"]


def test_names_are_forgotten_late_and_never_while_leased(
    blobs: CachedBlobs, objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blobs_module, "MAX_IDLE_NAMES", 3)
    large = [objects.put(seed, 21 * BLOCK) for seed in range(8)]
    name = f"{large[0].sha256}.parquet"
    lease = blobs.lease(large[:1])
    twice = blobs.lease(large[:1] * 2)
    for entry in large[1:]:
        blobs.lease([entry]).close()
    assert blobs.entry(name) == large[0]
    assert [blobs.entry(f"{entry.sha256}.parquet") is not None for entry in large[1:]] == [False] * 4 + [True] * 3
    lease.close()
    twice.close()
    assert blobs.entry(name) == large[0]
    for entry in large[1:4]:
        blobs.lease([entry]).close()
    assert blobs.entry(name) is None


def test_many_threads_many_leases(blobs: CachedBlobs, objects: Objects, folder: Path) -> None:
    """Together they want far more than there is; nothing waits for ever, and nothing is wrong."""
    entries = [objects.put(seed, (seed % 5 + 1) * 2 * BLOCK) for seed in range(12)]
    before = descriptors()

    def work(number: int) -> None:
        for step in range(12):
            chosen = [entries[(number * 5 + step * 7 + more * 3) % 12] for more in range(1 + step % 4)]
            with blobs.lease(chosen) as lease:
                assert used(folder) <= ROOM
                for source, entry in zip(lease.sources, chosen, strict=True):
                    assert read(blobs, source) == objects.content[entry.key]

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work, number) for number in range(6)]:
            future.result(120)
    assert descriptors() == before
    assert used(folder) <= ROOM


class Histories(RuleBasedStateMachine):
    """Two processes' caches on one folder, random leases, faults and damage: right bytes or an error, in the budget."""

    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.temporary = tempfile.TemporaryDirectory()
        self.folder = Path(self.temporary.name) / "cache"
        self.objects = Objects()
        self.entries = [
            self.objects.put(seed, size)
            for seed, size in enumerate((1, BLOCK, 3 * BLOCK, 5 * BLOCK, 9 * BLOCK, 25 * BLOCK))
        ]
        self.begin = descriptors()
        self.all = [self.new(), self.new()]

    def new(self) -> CachedBlobs:
        return CachedBlobs(self.objects, DiskCache(self.folder, ROOM, block_bytes=BLOCK, threads=2, wait_s=5))

    @rule(target=leases, who=st.integers(0, 1), which=st.lists(st.integers(0, 5), max_size=4))
    def lease(self, who: int, which: list[int]) -> object:
        chosen = [self.entries[number] for number in which]
        try:
            lease = self.all[who].lease(chosen)
        except StoreError:
            assert self.objects.down
            return multiple()
        return self.all[who], lease, chosen

    @rule(held=leases)
    def read(self, held: tuple[CachedBlobs, Lease, list[FileEntry]]) -> None:
        blobs, lease, chosen = held
        for source, entry in zip(lease.sources, chosen, strict=True):
            try:
                data = read(blobs, source)
            except StoreError:
                assert self.objects.down
            else:
                assert data == content(self.entries.index(entry), entry.size)

    @rule(held=consumes(leases))
    def close(self, held: tuple[CachedBlobs, Lease, list[FileEntry]]) -> None:
        held[1].close()

    @rule(which=st.integers(0, 20), how=st.sampled_from(["bit", "short", "gone"]))
    def damage(self, which: int, how: str) -> None:
        """Of a file that nobody holds: what a query reads just then, nobody can take back."""
        held = {source for lease in self.open_leases() for source in lease.sources}
        paths = [path for path in sorted((self.folder / "blobs").glob("*")) if str(path) not in held]
        if paths:
            path = paths[which % len(paths)]
            data = path.read_bytes()
            path.unlink()
            if how != "gone":
                path.write_bytes(b"!" + data[1:] if how == "bit" else data[:-1])

    def open_leases(self) -> list[Lease]:
        return [self.names_to_values[value.name][1] for value in self.bundle("leases")]

    @rule()
    def toggle(self) -> None:
        self.objects.down = not self.objects.down

    @rule(after=st.integers(1, 4))
    def fail_after(self, after: int) -> None:
        """The store goes away in the middle of something."""
        left = [after]

        def before(key: str, start: int, length: int) -> None:
            left[0] -= 1
            if left[0] == 0:
                self.objects.down = True

        self.objects.before = before

    @rule(who=st.integers(0, 1))
    def restart(self, who: int) -> None:
        self.all[who] = self.new()

    @invariant()
    def in_budget(self) -> None:
        assert used(self.folder) <= ROOM

    def teardown(self) -> None:
        for lease in self.open_leases():
            lease.close()
        assert descriptors() <= self.begin
        self.temporary.cleanup()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
