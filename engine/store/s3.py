"""The store in a bucket: S3, R2, Ceph and what speaks like them. Writing once is a single PUT with
``If-None-Match: *``, the one condition that all of them honour.
"""

from __future__ import annotations

import base64
import builtins
import hashlib
import io
import logging
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

from botocore import exceptions as boto

from engine.config import S3Location
from engine.errors import CorruptVersionError, InvalidNameError, StoreError
from engine.store.keys import PRIVATE, check_key, is_key
from engine.store.protocol import ObjectStat, Progress, Staged
from engine.store.s3_client import Patience
from engine.store.s3_errors import CLIENT_ERRORS, code_of, is_denied, status_of, translate
from engine.store.s3_objects import Objects, exactly, some
from engine.store.staging import CHUNK_BYTES, STALE_S, UnsettledFileError, changed, remove_stale

_log = logging.getLogger(__name__)

# Ours, at the top of a store: no dataset can have this name. The first holds one byte from the first publish on; the
# second never holds anything.
_CONDITIONAL = f"{PRIVATE}/conditional"
_PROBE = f"{PRIVATE}/probe"


class S3Store:
    """A bucket, or what lies below a prefix of it, as the home of versions.

    Parameters
    ----------
    location
        Where, and whose the requests are.
    scratch
        A local folder for files that are not yet part of the store.
    read_only
        True never writes; None finds out by asking the service.
    patience
        How long to wait, and how often to try.
    """

    def __init__(
        self, location: S3Location, scratch: Path, *, read_only: bool | None = None, patience: Patience | None = None
    ) -> None:
        self.location = location
        self._scratch = Path(scratch)
        self._objects = Objects(location, patience or Patience())
        self._read_only = read_only
        self._conditional = False  # whether If-None-Match is known to be honoured
        self._cleaned: set[str] = set()
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"S3Store({str(self.location)!r})"

    @property
    def is_remote(self) -> bool:
        return True

    @property
    def is_anonymous(self) -> bool:
        """Whether requests are made without credentials, since there are none."""
        return self._objects.anonymous

    @property
    def read_only(self) -> bool:
        with self._lock:
            if self._read_only is None:
                self._read_only = self.is_anonymous or not self._may_write()
            return self._read_only

    def check(self) -> None:
        """See that the bucket can be reached and listed; raises StoreError with the one cause why not."""
        self._objects.do(
            "the bucket cannot be opened",
            "list the bucket",
            "list_objects_v2",
            Prefix=self._objects.full(""),
            MaxKeys=1,
        )

    def close(self) -> None:
        self._objects.close()

    # --- writing

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        check_key(key)
        self._require_writable(key)
        self.check_writing()
        return self._put(key, content)

    def delete(self, key: str) -> None:
        check_key(key)
        self._require_writable(key)
        self._objects.do(f"{key} cannot be deleted", "delete objects", "delete_object", Key=self._objects.full(key))

    def staging(self, dataset: str) -> Path:
        check_key(dataset)
        folder = self._scratch / dataset
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with self._lock:
                first = dataset not in self._cleaned
                self._cleaned.add(dataset)
            if first:
                remove_stale(folder, time.time() - STALE_S)
        except OSError as error:
            raise StoreError(f"the scratch folder for uploads cannot be made: {error.strerror}") from error
        return folder

    # --- reading

    def read(self, key: str) -> bytes | None:
        check_key(key)

        def read() -> bytes | None:
            try:
                return self._objects.body(key)
            except boto.ClientError as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise

        return self._objects.retried(read, f"{key} cannot be read")

    def read_range(self, key: str, start: int, length: int) -> bytes:
        check_key(key)
        if length == 0:
            return b""
        wanted = f"bytes {start}-{start + length - 1}/"

        def read() -> bytes:
            response = self._objects.get(key, Range=f"bytes={start}-{start + length - 1}")
            with closing(response["Body"]) as body:
                if not str(response.get("ContentRange", "")).startswith(wanted):
                    raise CorruptVersionError(f"{key} is damaged: it ends before byte {start + length}")
                return exactly(body, length)

        try:
            return self._objects.retried(read, f"{key} cannot be read")
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, boto.ClientError) and code_of(cause) == "NoSuchKey":
                raise CorruptVersionError(f"{key} is missing, though the log names it") from cause
            if isinstance(cause, boto.ClientError) and status_of(cause) == 416:
                raise CorruptVersionError(f"{key} is damaged: it ends before byte {start + length}") from cause
            raise

    def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
        check_key(key)
        name = key.rpartition("/")[2]
        first, fits = self._fetch(key, etag, into, name, progress)
        if fits:
            return first
        _log.warning("%s did not arrive as its etag says, and is fetched again", name)
        into.unlink()
        again, fits = self._fetch(key, etag, into, name, progress)
        if not self._objects.settle(fits, again.sha256 == first.sha256):
            raise StoreError(f"{name} cannot be read: what arrived was damaged on the way, again and again")
        return again

    def _fetch(self, key: str, etag: str, into: Path, name: str, progress: Progress | None) -> tuple[Staged, bool]:
        """The copy, and whether the etag says nothing against it."""
        digest, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        copied = 0

        def take(writer: IO[bytes]) -> None:
            nonlocal copied
            for chunk, size in self._chunks(key, etag, name, copied):
                try:
                    writer.write(chunk)
                except OSError as error:
                    raise StoreError(f"the store cannot take a copy of {name}: {error.strerror}") from error
                digest.update(chunk)
                md5.update(chunk)
                copied += len(chunk)
                if progress is not None:
                    progress("copy", copied, size)

        try:
            writer = open(into, "xb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise StoreError(f"the store cannot take a copy of {name}: {error.strerror}") from error
        with writer:
            self._objects.retried(lambda: take(writer), f"{name} cannot be read")
        return Staged(into, copied, digest.hexdigest()), self._objects.fits(etag, md5)

    def list(self, prefix: str) -> tuple[str, ...]:
        folders: builtins.list[str] = []
        found = [stat.key for stat in self._listed(prefix, folders)]
        return tuple(sorted(found + folders))

    def list_stats(self, prefix: str) -> tuple[ObjectStat, ...]:
        return tuple(sorted(self._listed(prefix, []), key=lambda stat: stat.key))

    def stat(self, key: str) -> ObjectStat | None:
        check_key(key)

        def stat() -> ObjectStat | None:
            s3 = self._objects.s3
            try:
                return _stat(key, s3.head_object(**self._objects.at(key)), "ContentLength")
            except boto.ClientError as error:
                if status_of(error) not in (400, 403, 404):
                    raise
            # The answer to HEAD has no body that could say why: whether key or bucket is missing, say.
            try:
                self._objects.get(key)["Body"].close()
            except boto.ClientError as error:
                if code_of(error) == "NoSuchKey":
                    return None
                raise
            return _stat(key, s3.head_object(**self._objects.at(key)), "ContentLength")

        return self._objects.retried(stat, f"{key} cannot be examined")

    def _chunks(self, key: str, etag: str, name: str, start: int) -> Generator[tuple[bytes, int]]:
        """The object's bytes from ``start`` on, as it is under ``etag``, each with the whole object's size."""
        rest = {"Range": f"bytes={start}-"} if start else {}
        try:
            response = self._objects.get(key, IfMatch=f'"{etag}"', **rest)
        except boto.ClientError as error:
            if code_of(error) == "NoSuchKey":
                raise UnsettledFileError(f"{name} does not exist") from None
            if status_of(error) in (412, 416):
                raise changed(name) from None
            if is_denied(error) or code_of(error) == "InvalidObjectState":
                raise UnsettledFileError(translate(error, f"{name} cannot be read", deed="read it").detail) from error
            raise
        with closing(response["Body"]) as body:
            if response["ETag"].strip('"') != etag:
                raise changed(name)
            if start and not str(response.get("ContentRange", "")).startswith(f"bytes {start}-"):
                raise StoreError(f"{name} cannot be read: the object storage does not give parts of it")
            left = response["ContentLength"]
            size = start + left
            while left:
                chunk = some(body, min(CHUNK_BYTES, left))
                left -= len(chunk)
                yield chunk, size

    def _listed(self, prefix: str, folders: builtins.list[str]) -> Iterator[ObjectStat]:
        """The objects directly below a prefix; the folders there are added to a list."""
        if prefix and not (prefix.endswith("/") and is_key(prefix)):
            raise InvalidNameError(f"{prefix!r} is not a folder of this store")
        below = self._objects.full(prefix)
        for page in self._objects.pages(below, f"{prefix or 'the store'} cannot be listed"):
            for item in page.get("Contents", ()):
                name = item["Key"].removeprefix(below)
                if is_key(name) and not name.endswith("/"):  # a key that ours cannot be is none of our business
                    yield _stat(prefix + name, item, "Size")
            names = [item["Prefix"].removeprefix(below) for item in page.get("CommonPrefixes", ())]
            folders += [prefix + name for name in names if is_key(name) and (prefix or name != f"{PRIVATE}/")]

    # --- whether, and how, one may write

    def _put(self, key: str, content: bytes | Path) -> bool:
        try:
            with open(content, "rb") if isinstance(content, Path) else io.BytesIO(content) as body:
                for _ in range(2):
                    stored = self._put_body(key, body)
                    if stored is not None:
                        return stored
            raise StoreError(f"{key} cannot be written: what arrived was damaged on the way; try again")
        except OSError as error:
            raise StoreError(f"{key} cannot be written: {error.strerror}") from error

    def _put_body(self, key: str, body: io.BufferedReader | io.BytesIO) -> bool | None:
        """Whether it is stored; None when it arrived damaged, and is gone again."""
        body.seek(0)
        md5 = hashlib.file_digest(body, lambda: hashlib.md5(usedforsecurity=False))
        size = body.seek(0, io.SEEK_END)
        body.seek(0)
        try:
            answer = self._objects.s3.put_object(
                **self._objects.at(key),
                Body=body,
                ContentLength=size,
                ContentMD5=base64.b64encode(md5.digest()).decode(),  # what arrives damaged is refused
                IfNoneMatch="*",
            )
        except boto.ClientError as error:
            if status_of(error) not in (409, 412):
                raise translate(error, f"{key} cannot be written", deed="write to the bucket") from error
            # Tried again after an answer that got lost, it may be ours that is there.
            again = error.response["ResponseMetadata"].get("RetryAttempts", 0) > 0
            return again and self._holds(key, body, size)
        except CLIENT_ERRORS as error:
            raise translate(error, f"{key} cannot be written") from error
        if answer["ETag"].strip('"') == md5.hexdigest() or any(self._holds(key, body, size) for _ in range(2)):
            return True  # looked at twice: where etags are no MD5, the damage may be to what was read back
        # It did not check Content-MD5. Nobody can have made use of the object: it hashes to nothing that is known.
        self.delete(key)
        return None

    def _holds(self, key: str, body: io.BufferedReader | io.BytesIO, size: int) -> bool:
        """Whether an object has just these bytes."""
        found = self.stat(key)
        if found is None or found.size != size:
            return False

        def compare() -> bool:
            body.seek(0)
            with closing(self._chunks(key, found.etag, key, 0)) as chunks:
                return all(body.read(len(chunk)) == chunk for chunk, _ in chunks)

        return self._objects.retried(compare, f"{key} cannot be read")

    def _require_writable(self, key: str) -> None:
        if self.read_only:
            raise StoreError("the store is read-only: it can be served, and nothing can be published to it")
        if f"/{PRIVATE}/" not in key:
            raise StoreError(f"{key} belongs to the researchers; only what is under {PRIVATE}/ is ever written")

    def _may_write(self) -> bool:
        """Begin an upload of parts and give it up: it asks for the right to write, and leaves nothing behind."""
        client = self._objects.s3
        where = self._objects.at(_PROBE)
        try:
            started = client.create_multipart_upload(**where)
        except CLIENT_ERRORS as error:
            if is_denied(error):
                return False
            if code_of(error) == "NotImplemented":
                return True
            raise translate(error, "the bucket cannot be opened") from error
        with suppress(*CLIENT_ERRORS):  # who may begin but not give up leaves it to the bucket's own rules
            client.abort_multipart_upload(**where, UploadId=started["UploadId"])
        return True

    def check_writing(self) -> None:
        # Where a second PUT replaces the first, two publishers would each believe that they won.
        if self._conditional:
            return
        # Of another content: a try whose answer got lost, and that is found there, must not pass for a second success.
        if self._put(_CONDITIONAL, b".") and self._put(_CONDITIONAL, b"!"):
            raise StoreError(
                "this object storage ignores If-None-Match, without which a version cannot be published safely; use "
                "a newer one"
            )
        self._conditional = True


def _stat(key: str, found: Any, size: str) -> ObjectStat:
    # In whole seconds, as HEAD says it: some listings say milliseconds.
    modified_at = float(int(found["LastModified"].timestamp()))
    return ObjectStat(key, found[size], found["ETag"].strip('"'), modified_at)
