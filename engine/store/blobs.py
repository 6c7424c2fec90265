"""How a query gets at the files of a version, whichever home they are in: it leases them and gives them back."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.errors import CorruptVersionError, StoreError
from engine.store.cache import CacheMetrics, DiskCache
from engine.store.cache_folder import NoRoomError, footprint
from engine.store.pins import Pin
from engine.store.prefetch import Prefetcher
from engine.store.protocol import ObjectStat
from engine.store.ranges import BlockReader
from engine.store.records import BLOCK_BYTES, FileEntry
from engine.store.verify import FolderStore, verify_blob

if TYPE_CHECKING:
    from engine.store.filesystem import BlobFileSystem

MAX_IDLE_NAMES = 100_000  # files that no lease names now; a lazy relation of a notebook may still read them
SMALL_BYTES = 2 * BLOCK_BYTES  # a file up to this size is fetched whole also for its footer
THRASH_S = 30.0  # a file that was fetched for reading and thrown away again within that time is read by ranges


class Lease:
    """Files that stay readable until ``close``, or the end of the ``with``; closing twice, from any thread, is fine.

    ``sources`` is what DuckDB reads, in the order of the entries: absolute paths, or ``btblob://<sha256>.parquet``.
    """

    def __init__(self, sources: Sequence[str], release: Callable[[], None] = lambda: None) -> None:
        self.sources = tuple(sources)
        self._release: Callable[[], None] | None = release
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            release()

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Blobs(Protocol):
    """The files of versions. Every method raises CorruptVersionError and StoreError, but for ``prefetch``."""

    @property
    def filesystem(self) -> BlobFileSystem | None:
        """What DuckDB must know to read the sources; None when all are paths."""

    @property
    def directories(self) -> tuple[Path, ...]:
        """Folders that DuckDB must be allowed to read, beside the store's."""

    def lease(self, entries: Sequence[FileEntry], *, stop: threading.Event | None = None) -> Lease:
        """The files, checked. Once ``stop`` is set, fetching them ends with DownloadStoppedError."""

    def is_near(self, entries: Sequence[FileEntry]) -> bool:
        """Whether a lease of them would fetch nothing."""

    def prefetch(self, entries: Sequence[FileEntry]) -> None:
        """Get them near, in the background, if there is room."""

    def verify(self, entry: FileEntry, *, fetch: bool = False) -> None:
        """Check that the store has what the record says; with ``fetch``, every byte of it."""

    def open_file(self, entry: FileEntry) -> Lease:
        """One file as a real local path."""

    def fits(self, entry: FileEntry) -> bool:
        """Whether ``open_file`` can give it."""

    def read(self, entry: FileEntry, start: int, length: int) -> bytes:
        """Exactly those bytes of a file, wherever it is."""

    def metrics(self) -> CacheMetrics | None:
        """What the cache does; None without one."""

    def close(self) -> None:
        """Stop what runs in the background. Leases stay good."""


class LocalBlobs:
    """Files of a store in a folder: they are where they are."""

    filesystem: BlobFileSystem | None = None
    directories: tuple[Path, ...] = ()

    def __init__(self, store: FolderStore) -> None:
        self._store = store

    def lease(self, entries: Sequence[FileEntry], *, stop: threading.Event | None = None) -> Lease:
        return Lease([str(verify_blob(self._store, entry)) for entry in entries])

    def is_near(self, entries: Sequence[FileEntry]) -> bool:
        return True

    def prefetch(self, entries: Sequence[FileEntry]) -> None:
        """They are as near as they can be."""

    def verify(self, entry: FileEntry, *, fetch: bool = False) -> None:
        verify_blob(self._store, entry)

    def open_file(self, entry: FileEntry) -> Lease:
        return self.lease([entry])

    def fits(self, entry: FileEntry) -> bool:
        return True

    def read(self, entry: FileEntry, start: int, length: int) -> bytes:
        try:
            with open(verify_blob(self._store, entry), "rb") as reader:
                return os.pread(reader.fileno(), length, start)
        except OSError as error:
            raise StoreError(f"{entry.key} cannot be read: {error.strerror}") from error

    def metrics(self) -> CacheMetrics | None:
        return None

    def close(self) -> None:
        """Nothing runs."""


class RemoteStore(Protocol):
    """What of a home is needed here."""

    def read_range(self, key: str, start: int, length: int) -> bytes: ...

    def stat(self, key: str) -> ObjectStat | None: ...


class CachedBlobs:
    """Files of a store elsewhere, through a disk cache.

    A lease whose files fit the budget pins them all and gives paths. Another gives names of ``btblob://``: each read
    of those fetches the file when it is small enough, and otherwise takes pieces of the object.
    """

    def __init__(self, store: RemoteStore, cache: DiskCache) -> None:
        from engine.store.filesystem import BlobFileSystem  # fsspec is not needed for a store in a folder

        self._store = store
        self._cache = cache
        self._names = _Names()
        self._ranges = BlockReader(store.read_range, cache.slots, cache.block_bytes)
        self._prefetcher = Prefetcher(cache, store.read_range)
        self._fetching = threading.Lock()
        self._fetched_at: OrderedDict[str, float] = OrderedDict()
        self.filesystem: BlobFileSystem | None = BlobFileSystem(self)
        self.directories: tuple[Path, ...] = (cache.folder,)

    def lease(self, entries: Sequence[FileEntry], *, stop: threading.Event | None = None) -> Lease:
        """The files as paths, or all of them as names when they do not fit the cache together.

        The names promise nothing yet: what is wrong with a file comes out when it is read.
        """
        sizes = {entry.sha256: entry.size for entry in entries}
        if sum(footprint(size) for size in sizes.values()) <= self._cache.max_bytes:
            pins: list[Pin] = []
            try:
                for entry in entries:
                    pins.append(self._cache.pin(entry, self._store.read_range, stop=stop))
                return Lease([str(pin.path) for pin in pins], lambda: self._unpin(pins))
            except NoRoomError:
                self._unpin(pins)
            except BaseException:
                self._unpin(pins)
                raise
        names = self._names.add(entries)
        return Lease([f"btblob://{name}" for name in names], lambda: self._names.release(names))

    def is_near(self, entries: Sequence[FileEntry]) -> bool:
        """Looks into the cache, and counts nothing."""
        return all(os.path.exists(self._cache.folder / f"{entry.sha256}.parquet") for entry in entries)

    def prefetch(self, entries: Sequence[FileEntry]) -> None:
        self._prefetcher.add(entries)

    def verify(self, entry: FileEntry, *, fetch: bool = False) -> None:
        """Check the object in the store; a damaged copy in the cache is put aside, and is no error."""
        found = self._store.stat(entry.key)
        if found is None:
            raise CorruptVersionError(f"{entry.key} is missing, though the log names it")
        if found.size != entry.size:
            raise CorruptVersionError(
                f"{entry.key} is damaged: it has {found.size} bytes, and its record says {entry.size}"
            )
        with suppress(NoRoomError):
            pin = self._cache.pin_cached(entry)
            if pin is not None:
                self._cache.unpin(pin)
        if fetch:
            digest = hashlib.sha256()
            step = self._cache.block_bytes
            for start in range(0, entry.size, step):
                digest.update(self._store.read_range(entry.key, start, min(step, entry.size - start)))
            if digest.hexdigest() != entry.sha256:
                raise CorruptVersionError(f"{entry.key} is damaged: its SHA-256 is not the one in its record")

    def open_file(self, entry: FileEntry) -> Lease:
        """One file as a path. Raises StoreError when the cache cannot take it."""
        if not self.fits(entry):
            raise StoreError(
                f"{entry.key} has {entry.size} bytes, more than the disk cache may take "
                f"({self._cache.max_bytes}, BT_CACHE_BYTES); it can be queried, but not given as a file"
            )
        pin = self._cache.pin(entry, self._store.read_range)
        return Lease([str(pin.path)], lambda: self._unpin([pin]))

    def metrics(self) -> CacheMetrics | None:
        return replace(self._cache.metrics(), bytes_by_range=self._ranges.fetched_bytes)

    def close(self) -> None:
        self._prefetcher.close()

    def fits(self, entry: FileEntry) -> bool:
        return footprint(entry.size) <= self._cache.max_bytes

    def entry(self, name: str) -> FileEntry | None:
        """The file that a lease gave this name, for the file system."""
        return self._names.get(name)

    def read(self, entry: FileEntry, start: int, length: int) -> bytes:
        """A piece of a file, for the file system: from the cache if it can be there, or else from the object.

        For its footer alone no file is fetched: many of them are opened before the first of them is read.
        """
        pin = None
        if self._ranges.is_in_tail(entry, start) and footprint(entry.size) > SMALL_BYTES:
            with suppress(NoRoomError):
                pin = self._cache.pin_cached(entry)
            if pin is None:
                return self._ranges.read_tail(entry, start, length)
        else:
            pin = self._pin_to_read(entry)
        if pin is None:
            return self._ranges.read(entry, start, length)
        try:
            return pin.read(start, length)
        except OSError as error:
            raise StoreError(f"{entry.key} cannot be read from the disk cache: {error.strerror}") from error
        finally:
            self._cache.unpin(pin)

    def _pin_to_read(self, entry: FileEntry) -> Pin | None:
        if footprint(entry.size) > self._cache.max_bytes // 2:
            return None
        try:
            if (pin := self._cache.pin_cached(entry)) is not None:
                return pin
            # DuckDB reads several files at once. Were they fetched at once, they would push each other out.
            with self._fetching:
                if (pin := self._cache.pin_cached(entry)) is not None:
                    return pin
                if time.monotonic() - self._fetched_at.get(entry.sha256, -THRASH_S) < THRASH_S:
                    return None
                pin = self._cache.pin(entry, self._store.read_range)
                try:
                    self._note(entry, pin)
                except BaseException:
                    self._cache.unpin(pin)
                    raise
                return pin
        except NoRoomError:
            return None

    def _note(self, entry: FileEntry, pin: Pin) -> None:
        self._fetched_at[entry.sha256] = time.monotonic()
        self._fetched_at.move_to_end(entry.sha256)
        while len(self._fetched_at) > MAX_IDLE_NAMES:
            self._fetched_at.popitem(last=False)
        if not self._ranges.knows(entry):
            with suppress(OSError):  # then ranges of it are not checked
                self._ranges.learn(entry, pin.descriptor)

    def _unpin(self, pins: list[Pin]) -> None:
        while pins:
            self._cache.unpin(pins.pop())


class _Names:
    """Which file a name means: for as long as a lease has it, and a good while after."""

    def __init__(self) -> None:
        self._leased: dict[str, FileEntry] = {}
        self._counts: Counter[str] = Counter()
        self._idle: OrderedDict[str, FileEntry] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, entries: Sequence[FileEntry]) -> tuple[str, ...]:
        names = tuple(f"{entry.sha256}.parquet" for entry in entries)
        with self._lock:
            self._counts.update(names)
            for name, entry in zip(names, entries, strict=True):
                self._leased[name] = entry  # the newest key: an older one of the same bytes may be gone
                self._idle.pop(name, None)
        return names

    def release(self, names: Sequence[str]) -> None:
        with self._lock:
            self._counts.subtract(names)
            for name in names:
                if self._counts[name] <= 0:
                    del self._counts[name]
                    if name in self._leased:
                        self._idle[name] = self._leased.pop(name)
            while len(self._idle) > MAX_IDLE_NAMES:
                self._idle.popitem(last=False)

    def get(self, name: str) -> FileEntry | None:
        with self._lock:
            return self._leased.get(name) or self._idle.get(name)
