"""What DuckDB sees of files that are not on this disk: names like ``btblob://<sha256>.parquet``, read piece by piece.

DuckDB opens every file of a query at once and lets go of them when it likes, so that opening one does nothing here.
Which bytes to give is for whoever made this to say.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from fsspec.spec import AbstractFileSystem

from engine.errors import CorruptVersionError, EngineError, StoreError
from engine.store.records import FileEntry

PROTOCOL = "btblob"
MAX_ERRORS = 256

_UNCHANGING = datetime(2000, 1, 1, tzinfo=UTC)  # the name is the content's hash: DuckDB may keep what it learnt of it
_TOKEN = re.compile(r"btblob-([0-9a-f]{16})")


class BlobReader(Protocol):
    """Where the bytes come from. Both may be called from any thread, and raise errors of the engine."""

    def entry(self, name: str) -> FileEntry | None:
        """The file of a name without its protocol, if there is one."""

    def read(self, entry: FileEntry, start: int, length: int) -> bytes:
        """Exactly those bytes."""


class BlobFile:
    """An open file: a position and nothing else, so that forgetting to close it costs nothing."""

    mode = "rb"
    closed = False

    def __init__(self, entry: FileEntry, read: Callable[[FileEntry, int, int], bytes]) -> None:
        self._entry = entry
        self._read = read
        self._position = 0
        self.size = entry.size

    def read(self, length: int = -1) -> bytes:
        left = max(0, self.size - self._position)
        length = left if length < 0 else min(length, left)
        data = self._read(self._entry, self._position, length) if length else b""
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + (0, self._position, self.size)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> BlobFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class BlobFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """Read-only; for ``DuckDBPyConnection.register_filesystem``.

    An error of the engine that is raised in here reaches the caller of DuckDB as some exception of DuckDB, and it may
    have been raised in another thread (DuckDB 2.0 reads ahead in its own, even with ``threads = 1``). ``take_error``
    gives back the original.
    """

    protocol = PROTOCOL
    cachable = False  # fsspec would keep one for ever

    def __init__(self, reader: BlobReader) -> None:
        super().__init__()
        self._reader = reader
        self._errors: OrderedDict[str, EngineError] = OrderedDict()
        self._errors_lock = threading.Lock()

    def take_error(self, raised: BaseException) -> EngineError | None:
        """The error behind an exception of DuckDB, once; None when it did not begin here."""
        found = _TOKEN.search(str(raised))
        if found is None:
            return None
        with self._errors_lock:
            return self._errors.pop(found[1], None) or StoreError("a file of the version could not be read")

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        with self._kept():
            return {"name": path, "size": self._entry(path).size, "type": "file"}

    def exists(self, path: str, **options: Any) -> bool:
        return self._reader.entry(self._strip_protocol(path)) is not None

    def modified(self, path: str) -> datetime:
        return _UNCHANGING

    def glob(self, path: str, maxdepth: int | None = None, **options: Any) -> list[str]:
        return [path] if self.exists(path) else []

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        found = self.glob(path)
        return [self.info(name) for name in found] if detail else found

    def _open(self, path: str, mode: str = "rb", **options: Any) -> BlobFile:
        with self._kept():
            if mode != "rb":
                raise StoreError("a file of a version can only be read")
            return BlobFile(self._entry(path), self._read)

    def _entry(self, path: str) -> FileEntry:
        name = self._strip_protocol(path)
        entry = self._reader.entry(name)
        if entry is None:
            raise StoreError(f"{name} is no file of a version that is being read")
        return entry

    def _read(self, entry: FileEntry, start: int, length: int) -> bytes:
        with self._kept():
            data = self._reader.read(entry, start, length)
            if len(data) != length:
                raise CorruptVersionError(f"{entry.key} gave {len(data)} bytes where {length} were asked for")
            return data

    @contextmanager
    def _kept(self) -> Iterator[None]:
        """Keep what is raised inside, and raise an error whose text leads back to it."""
        try:
            yield
        except Exception as error:
            kept = error if isinstance(error, EngineError) else _unexpected(error)
            if kept is not error:
                kept.__cause__ = error
            token = secrets.token_hex(8)
            with self._errors_lock:
                self._errors[token] = kept
                while len(self._errors) > MAX_ERRORS:
                    self._errors.popitem(last=False)
            raise OSError(f"{PROTOCOL}-{token}") from error


def _unexpected(error: Exception) -> StoreError:
    return StoreError(f"a file of the version could not be read: {type(error).__name__}")
