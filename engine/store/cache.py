"""The disk cache: blobs by their SHA-256, verified, fetched once however many ask, within a budget of bytes.

Several processes may share one folder. What is in use is never thrown away. Nothing here knows what a blob is for, or
where it comes from. See ``cache_folder.py`` for what lies on the disk.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeGuard

from engine.errors import CorruptVersionError, EngineError, StoreError
from engine.store.cache_folder import CacheFolder, NoRoomError, footprint, is_full
from engine.store.download import THREADS, DownloadStoppedError, Journal, RangeSource, download
from engine.store.locks import poll, try_lock
from engine.store.pins import Pin, Pins, is_at
from engine.store.records import BLOCK_BYTES, FileEntry
from engine.store.verify import remember_hash, verify_file

_STOP_S = 0.25  # how soon one who waits for another's download notices that nobody waits for it
WAIT_S = 60.0  # how long others may show no progress; one block of 8 MiB takes that at 140 kB/s

_LOGGER = logging.getLogger(__name__)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class CacheMetrics:
    """What the cache did since this process began, and what is in its folder now.

    ``hits`` and ``misses`` count files asked for, ``bytes_hit`` the sizes of those that were there. ``bytes_fetched``
    is what came from the store as whole files, ``bytes_by_range`` what came past the cache. ``waits`` counts those who
    found somebody else fetching the same file.
    """

    hits: int = 0
    misses: int = 0
    bytes_hit: int = 0
    bytes_fetched: int = 0
    bytes_by_range: int = 0
    evictions: int = 0
    quarantined: int = 0
    waits: int = 0
    used_bytes: int = 0
    max_bytes: int = 0


@dataclass
class _Flight:
    """A download by a thread of this process that others wait for."""

    number: int
    done: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    received: int = 0


@dataclass
class _Part:
    """A half-done file that this process alone may write; its lock ends with the descriptor."""

    descriptor: int
    owned: bool = True


class DiskCache:
    """A folder of verified blobs.

    Parameters
    ----------
    folder
        Made when it is first needed. It must be on a local disk. One that cannot be written serves what it holds, and
        takes nothing.
    max_bytes
        What all files of the cache together may take, those under way and quarantined included.
    wait_s
        How long to wait for another process, or thread, that shows no progress.
    block_bytes, threads
        Downloads are by ranges of so many bytes, so many at once: in all, not for each file.
    """

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        *,
        wait_s: float = WAIT_S,
        block_bytes: int = BLOCK_BYTES,
        threads: int = THREADS,
    ) -> None:
        self.max_bytes = max_bytes
        self.block_bytes = block_bytes
        self.slots = threading.BoundedSemaphore(threads)
        self._threads = threads
        self._wait_s = wait_s
        self._folder = CacheFolder(folder, max_bytes, wait_s, lambda: self.count(evictions=1))
        self._lock = threading.Lock()
        self._pins = Pins(wait_s)
        self._flights: dict[str, _Flight] = {}
        self._numbers = itertools.count(1)
        self._counts: dict[str, int] = {}
        self._warned = False
        self._tidied = False

    @property
    def folder(self) -> Path:
        """The folder whose files readers are given."""
        return self._folder.blobs

    def metrics(self) -> CacheMetrics:
        """A snapshot; looks through the folder."""
        with self._lock:
            counts = dict(self._counts)
        with suppress(OSError):
            counts["used_bytes"] = self._folder.used_bytes()
        return CacheMetrics(**counts, max_bytes=self.max_bytes)

    def count(self, **more: int) -> None:
        """Add to the metrics."""
        with self._lock:
            for name, number in more.items():
                self._counts[name] = self._counts.get(name, 0) + number

    def pin(self, entry: FileEntry, source: RangeSource, *, stop: threading.Event | None = None) -> Pin:
        """The file, fetched when it is not there; to be given back with ``unpin``.

        Raises
        ------
        NoRoomError
            It cannot be kept now; read it by other means.
        DownloadStoppedError
            ``stop`` was set. What was fetched is kept for the next one who asks.
        CorruptVersionError
            The store has no such object, or twice gave bytes that are not what the record says.
        StoreError
            The store cannot be reached, or somebody else is fetching it and shows no progress.
        """
        _check(entry)
        asked = next(self._numbers)
        for _ in range(8):  # each time it was thrown away again, or another's failure was not ours
            if (pin := self.pin_cached(entry)) is not None:
                self.count(hits=1, bytes_hit=entry.size)
                return pin
            with self._lock:
                flight = self._flights.get(entry.sha256)
                leads = flight is None
                if flight is None:
                    flight = self._flights[entry.sha256] = _Flight(next(self._numbers))
            if leads:
                return self._lead(entry, source, flight, stop)
            self._follow(entry, flight, stop)
            if flight.number > asked and _is_ours_too(flight.error):
                raise type(flight.error)(flight.error.detail)
        raise NoRoomError(f"{entry.key} is thrown out of the disk cache as soon as it is there")

    def pin_cached(self, entry: FileEntry) -> Pin | None:
        """The file when it is there and sound; a damaged one is put into quarantine. Raises NoRoomError, StoreError."""
        _check(entry)
        path = self._folder.blob(entry.sha256)
        with self._disk():
            try:
                pin = self._pins.hold(path)
            except OSError:
                if not path.is_symlink():
                    raise
                self._quarantine(path, entry.sha256, os.lstat(path).st_ino)
                return None
            if pin is None:
                return None
            sound = False
            try:
                verify_file(path, entry)
                sound = is_at(path, pin.inode)
                if sound:
                    with suppress(OSError):  # another user's file, or a read-only disk: then it just looks older
                        os.utime(pin.descriptor, ns=(time.time_ns(), os.fstat(pin.descriptor).st_mtime_ns))
            except CorruptVersionError as error:
                _LOGGER.warning("In the disk cache: %s; it is fetched again.", error.detail)
                self._quarantine(path, entry.sha256, pin.inode)
            finally:
                if not sound:
                    self.unpin(pin)
            return pin if sound else None

    def unpin(self, pin: Pin) -> None:
        """Give a file back; from any thread, once for each time it was pinned."""
        self._pins.release(pin)

    def _follow(self, entry: FileEntry, flight: _Flight, stop: threading.Event | None) -> None:
        self.count(waits=1)
        seen, since = -1, time.monotonic()
        step_s = self._wait_s if stop is None else min(self._wait_s, _STOP_S)
        while not flight.done.wait(step_s):
            if stop is not None and stop.is_set():
                raise DownloadStoppedError(f"nobody waits for {entry.key} any more")
            if flight.received != seen:
                seen, since = flight.received, time.monotonic()
            elif time.monotonic() - since >= self._wait_s:
                raise StoreError(f"{entry.key} is being fetched, and nothing has come for {self._wait_s:g} s")

    def _lead(self, entry: FileEntry, source: RangeSource, flight: _Flight, stop: threading.Event | None) -> Pin:
        try:
            with self._disk():
                return self._fetch(entry, source, flight, stop)
        except BaseException as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[entry.sha256]
            flight.done.set()

    def _fetch(self, entry: FileEntry, source: RangeSource, flight: _Flight, stop: threading.Event | None) -> Pin:
        if footprint(entry.size) > self.max_bytes:
            raise NoRoomError(f"{entry.key} is larger than the disk cache")
        self._folder.make()
        if not self._tidied:
            self._tidied = True
            self._folder.shrink()
        wrong = 0
        for _ in range(8):
            with self._part(entry, flight) as part:
                if (pin := self.pin_cached(entry)) is not None:  # another process was faster
                    self.count(hits=1, bytes_hit=entry.size)
                    if part is not None:
                        self._folder.discard(entry.sha256)
                    return pin
                if part is None:
                    continue
                if not wrong:
                    self.count(misses=1)
                digest = self._download(entry, part, source, flight, stop)
                if digest == entry.sha256:
                    return self._finished(entry, part)
                _LOGGER.warning("What the store gave for %s is not what its record says.", entry.key)
                self._quarantine(self._folder.part(entry.sha256), entry.sha256, os.fstat(part.descriptor).st_ino)
                wrong += 1
                if wrong == 2:
                    raise CorruptVersionError(f"{entry.key} is damaged: its SHA-256 is not the one in its record")
        raise NoRoomError(f"{entry.key} is thrown out of the disk cache as soon as it is there")

    @contextmanager
    def _part(self, entry: FileEntry, flight: _Flight) -> Iterator[_Part | None]:
        """The download of an entry, under its lock; None when another process has just ended it."""
        path = self._folder.part(entry.sha256)
        part = _Part(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600))
        try:
            inode = os.fstat(part.descriptor).st_ino

            def progress() -> int:
                with suppress(FileNotFoundError):
                    flight.received = self._folder.journal(entry.sha256).stat().st_size
                return flight.received

            if not try_lock(part.descriptor):
                self.count(waits=1)
                if not poll(lambda: try_lock(part.descriptor) or not is_at(path, inode), self._wait_s, progress):
                    raise StoreError(
                        f"{entry.key} is being fetched by another process, and nothing has come for {self._wait_s:g} s"
                    )
            if is_at(path, inode):
                yield part
                return
            # Another process made it the blob meanwhile: this lock on it would keep out everyone, ourselves too.
            part.owned = False
            os.close(part.descriptor)
            yield None
        finally:
            if part.owned:
                os.close(part.descriptor)

    def _download(
        self, entry: FileEntry, part: _Part, source: RangeSource, flight: _Flight, stop: threading.Event | None
    ) -> str:
        """Fill a part, going on with what is in it; its SHA-256. A failure gives back the room that it does not use."""
        journal = Journal(self._folder.journal(entry.sha256), entry.size, self.block_bytes)

        def received(count: int) -> None:
            flight.received += count
            self.count(bytes_fetched=count)

        try:
            present = os.fstat(part.descriptor).st_size
            finished = journal.read(present if present <= entry.size else 0)
            self._folder.reserve(part.descriptor, entry.size)
            for last in (False, True):
                try:
                    download(
                        source,
                        entry.key,
                        part.descriptor,
                        journal,
                        finished=finished,
                        threads=self._threads,
                        slots=self.slots,
                        stop=stop,
                        received=received,
                    )
                    break
                except OSError as error:  # of the disk: the source raises none
                    if last or not is_full(error) or not self._folder.free(entry.size):
                        raise
                    finished = journal.read(entry.size)
            with open(part.descriptor, "rb", buffering=0, closefd=False) as reader:
                reader.seek(0)
                return hashlib.file_digest(reader, "sha256").hexdigest()
        except BaseException as error:
            with suppress(OSError):
                self._give_back(entry, part, journal, keep=not isinstance(error, (CorruptVersionError, OSError)))
            raise

    def _give_back(self, entry: FileEntry, part: _Part, journal: Journal, *, keep: bool) -> None:
        """Keep of a failed download what the next one can go on with, and no more."""
        finished = journal.read(os.fstat(part.descriptor).st_size) if keep else set()
        if finished:
            os.ftruncate(part.descriptor, sum(journal.span(max(finished))))
        else:
            self._folder.discard(entry.sha256)

    def _finished(self, entry: FileEntry, part: _Part) -> Pin:
        try:
            self._folder.finish(part.descriptor, entry.sha256)
        except OSError:
            self._folder.discard(entry.sha256)
            raise
        path = self._folder.blob(entry.sha256)
        remember_hash(path, os.fstat(part.descriptor), entry.sha256)
        part.owned = False  # the pin has it now
        return self._pins.adopt(Pin(path, part.descriptor))

    def _quarantine(self, path: Path, sha256: str, inode: int) -> None:
        if self._folder.quarantine(path, sha256, inode):
            self.count(quarantined=1)

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Whatever the disk refuses means that the cache cannot be used for this, which is told of once."""
        try:
            yield
        except OSError as error:
            if not self._warned:
                self._warned = True
                _LOGGER.warning(
                    "The disk cache cannot be used as it should (%s); what does not fit is read from the store each "
                    "time, which is slower.",
                    error.strerror or type(error).__name__,
                )
            raise NoRoomError(f"the disk cache cannot be used: {error.strerror or type(error).__name__}") from error


def _is_ours_too(error: BaseException | None) -> TypeGuard[EngineError]:
    """Whether those who wait would have seen the same error, had they done the download themselves."""
    return isinstance(error, EngineError) and not isinstance(error, DownloadStoppedError)


def _check(entry: FileEntry) -> None:
    """The hash becomes a file name."""
    if not _SHA256.fullmatch(entry.sha256):
        raise CorruptVersionError(f"the record of {entry.key} has no SHA-256 of 64 lower-case digits")
