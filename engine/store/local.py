"""The store in a folder. Writing once is ``write, fsync, link, fsync of the folder``: ``link`` alone refuses to
replace what is there, and shows all of the content or none."""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import CorruptVersionError, InvalidNameError, RejectedFileError, StoreError
from engine.store.keys import PRIVATE, check_key, staging_prefix
from engine.store.protocol import ObjectStat, Progress, Staged
from engine.store.staging import STALE_S, copy_and_hash, identity, remove_stale

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}

MAX_FOLDERS = 10_000  # that are remembered; a dataset has three

_Identity = tuple[int, int, int]


class LocalStore:
    """A folder as the home of versions. It need not exist yet; the first write makes it.

    Parameters
    ----------
    root
        The folder.
    read_only
        True never writes; None finds out from the folder's permissions.
    """

    def __init__(self, root: Path, *, read_only: bool | None = None) -> None:
        self.root = Path(root).expanduser().resolve()
        if self.root.exists() and not self.root.is_dir():
            raise StoreError("the store must be a folder, and what it names is a file")
        self._forced = read_only
        self._durable: set[Path] = set()  # folders whose own entries are known to be on the disk
        self._cleaned: set[str] = set()
        self._inside: dict[str, _Identity] = {}  # folders that no symbolic link led to, as they were then
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"LocalStore({str(self.root)!r})"

    @property
    def is_remote(self) -> bool:
        return False

    @property
    def read_only(self) -> bool:
        if self._forced is not None:
            return self._forced
        existing = self.root
        while not existing.exists():
            existing = existing.parent
        return not os.access(existing, os.W_OK | os.X_OK)

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        target = self._locate(key)
        self._require_writable(key)
        with _translated(f"{key} cannot be written"):
            self._make_folder(target.parent)
            if isinstance(content, Path) and self._is_staged(content):
                return self._link(content, target, key)
            temporary = self.staging(key.split("/")[0]) / f"{secrets.token_hex(8)}.put"
            try:
                if isinstance(content, Path):
                    copy_and_hash(content, temporary, name=content.name)
                else:
                    temporary.write_bytes(content)
                return self._link(temporary, target, key)
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, key: str) -> bytes | None:
        path = self._locate(key)
        with _translated(f"{key} cannot be read"):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                return None
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreError(f"{key} cannot be read: it is not a regular file")
                with os.fdopen(descriptor, "rb", closefd=False) as reader:
                    return reader.read()
            finally:
                os.close(descriptor)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        path = self._locate(key)
        with _translated(f"{key} cannot be read"):
            try:
                with open(path, "rb", buffering=0) as reader:
                    reader.seek(start)
                    found = b"".join(_chunks(reader, length))
            except (FileNotFoundError, NotADirectoryError):
                raise CorruptVersionError(f"{key} is missing, though the log names it") from None
        if len(found) != length:
            raise CorruptVersionError(f"{key} is damaged: it ends before byte {start + length}")
        return found

    def path(self, key: str) -> Path:
        """A local file with the bytes of an object. That they are right is for ``verify_blob`` to say."""
        return self._locate(key)

    def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
        path = self._locate(key)
        name = key.rpartition("/")[2]
        if path.is_symlink() and not path.resolve().is_relative_to(path.parent):
            raise RejectedFileError(f"{name} is a symbolic link out of its folder; put the file itself there")
        return copy_and_hash(path, into, name=name, etag=etag, progress=progress)

    def list(self, prefix: str) -> tuple[str, ...]:
        folder = self._locate(prefix) if prefix else self.root
        self._require_inside(folder, prefix)
        with _translated(f"{prefix or 'the store'} cannot be listed"):
            try:
                with os.scandir(folder) as entries:
                    # A linked folder is not one of ours: it may lead anywhere.
                    found = [entry.name + "/" * entry.is_dir(follow_symlinks=False) for entry in entries]
            except (FileNotFoundError, NotADirectoryError):
                return ()
        return tuple(sorted(prefix + name for name in found))

    def stat(self, key: str) -> ObjectStat | None:
        path = self._locate(key)
        with _translated(f"{key} cannot be examined"):
            try:
                found = os.lstat(path)
                if stat.S_ISLNK(found.st_mode) and path.resolve().is_relative_to(path.parent):
                    found = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return ObjectStat(key, found.st_size, identity(found), found.st_mtime)

    def list_stats(self, prefix: str) -> tuple[ObjectStat, ...]:
        found = (self._stat_listed(key) for key in self.list(prefix) if not key.endswith("/"))
        return tuple(stat for stat in found if stat is not None)

    def delete(self, key: str) -> None:
        path = self._locate(key)
        self._require_writable(key)
        with _translated(f"{key} cannot be deleted"):
            path.unlink(missing_ok=True)

    def staging(self, dataset: str) -> Path:
        folder = self._locate(staging_prefix(dataset))
        self._require_writable(staging_prefix(dataset))
        with _translated("the store's scratch folder cannot be made"):
            self._make_folder(folder)
            with self._lock:
                first = dataset not in self._cleaned
                self._cleaned.add(dataset)
            if first:
                remove_stale(folder, time.time() - STALE_S)
        return folder

    def check(self) -> None:
        self.list("")

    def check_writing(self) -> None:
        """``link`` itself says so of each file: see ``_link``."""

    def close(self) -> None:
        pass

    def _stat_listed(self, key: str) -> ObjectStat | None:
        """As ``stat``, but None too for a name that a file may have and a key may not."""
        try:
            return self.stat(key)
        except InvalidNameError:
            return None

    def _locate(self, key: str) -> Path:
        check_key(key)
        path = self.root.joinpath(*key.removesuffix("/").split("/"))
        self._require_inside(path.parent, key)
        return path

    def _require_inside(self, folder: Path, key: str) -> None:
        """Refuse a folder that a symbolic link leads to.

        Each request asks several times, and looking at every part of a path takes ten times as long as one look at the
        folder itself: while that is the very one that was found inside, no link can have led anywhere else.
        """
        path = str(folder)
        found = _identity(path)
        if found is not None and self._inside.get(path) == found:
            return
        if os.path.realpath(path) != path:
            raise StoreError(f"{key} lies behind a symbolic link, which the store does not follow")
        if found is not None:
            while len(self._inside) >= MAX_FOLDERS:
                self._inside.pop(next(iter(self._inside)), None)
            self._inside[path] = found

    def _require_writable(self, key: str) -> None:
        if self.read_only:
            raise StoreError("the store is read-only: it can be served, and nothing can be published to it")
        if f"/{PRIVATE}/" not in key:
            raise StoreError(f"{key} belongs to the researchers; only what is under {PRIVATE}/ is ever written")

    def _is_staged(self, path: Path) -> bool:
        return path.is_relative_to(self.root) and path.parent.name == "tmp"

    def _make_folder(self, folder: Path) -> None:
        """Make a folder and see that it, and those above it, survive a power cut."""
        if folder in self._durable and folder.is_dir():
            return
        if folder != self.root:
            self._make_folder(folder.parent)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=True)
        _sync(folder.parent)
        self._durable.add(folder)

    def _link(self, temporary: Path, target: Path, key: str) -> bool:
        temporary.chmod(0o444)
        _sync(temporary)
        try:
            os.link(temporary, target)
        except FileExistsError:
            # Over a network the answer to a link that worked can get lost, and the client tries it again.
            stored = os.path.samefile(temporary, target)
        except OSError as error:
            if error.errno in _NO_LINKS:
                raise StoreError(
                    f"{key} cannot be written: the store's file system refuses hard links, without which a version "
                    "cannot be published safely; use a local disk"
                ) from error
            raise
        else:
            stored = True
        _sync(target.parent)  # also what another process stored, which may have been killed just before this
        return stored


def _chunks(reader: io.FileIO, length: int) -> Iterator[bytes]:
    while length > 0 and (chunk := reader.read(length)):
        length -= len(chunk)
        yield chunk


def _identity(folder: str) -> _Identity | None:
    """What tells a folder from any other in its place; None when there is none, or a link."""
    try:
        found = os.lstat(folder)
    except (OSError, ValueError):  # the latter for a name that no file can have
        return None
    # With the time of its last change: the number of a folder that was deleted is given to the next one.
    return (found.st_dev, found.st_ino, found.st_ctime_ns) if stat.S_ISDIR(found.st_mode) else None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn what the file system raises into a StoreError that names a key and no path."""
    try:
        yield
    except OSError as error:
        cause = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
        raise StoreError(f"{what}: {cause}") from error
