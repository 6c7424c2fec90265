"""The two homes of versions, seen as a stranger sees them: plain files, and plain objects through boto3.

What is checked here is read without the code under test. A home is also what researchers drop files into.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from engine.config import S3Location
from engine.store import LocalStore, Store
from engine.store.s3 import S3Store
from engine.store.s3_client import Patience
from tests.object_storage.servers import Bucket

#: A hang must not look like a slow test, and no test here waits for a dead server.
PATIENCE = Patience(connect_s=5.0, read_s=10.0, attempts=3)


class Home(Protocol):
    """A place that holds a store."""

    kind: str

    def store(self) -> Store:
        """The store as a process that has just begun sees it."""

    def stamps(self, prefix: str = "") -> dict[str, object]:
        """All that lies below a prefix, scratch files apart; an object with an equal stamp is the same one."""

    def get(self, key: str) -> bytes: ...

    def drop(self, key: str, data: bytes, at: float) -> None:
        """Put a whole file there, last changed at a time; in a bucket that is now."""

    def touch(self, key: str, at: float) -> None:
        """The same bytes again, and another etag."""

    def remove(self, key: str) -> None: ...

    def overwrite(self, key: str, data: bytes) -> None:
        """Damage what is stored, past every rule."""

    def copy(self, name: str) -> Home:
        """Another home that holds the same."""

    def clear(self) -> None:
        """Remove all that is in it."""


def place(target: Path, data: bytes, at: float) -> Path:
    """Drop a file as a careful person does: written elsewhere, then moved; last changed at ``at``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_bytes(data)
    os.utime(temporary, (at, at))
    temporary.rename(target)
    return target


@dataclass(frozen=True)
class FolderHome:
    """A folder. Its copies lie beside it, and share the bytes."""

    root: Path
    kind = "folder"

    def store(self) -> LocalStore:
        return LocalStore(self.root)

    def stamps(self, prefix: str = "") -> dict[str, object]:
        found: dict[str, object] = {}
        for path in self._files(self.root / prefix):
            key = path.relative_to(self.root).as_posix()
            if "/_bt/tmp/" not in key and not path.name.startswith("."):
                state = path.stat()
                found[key] = (state.st_size, state.st_mtime_ns, state.st_ino)
        return found

    def _files(self, folder: Path) -> Iterator[Path]:
        for parent, _, names in os.walk(folder):
            yield from (Path(parent, name) for name in names)

    def get(self, key: str) -> bytes:
        return (self.root / key).read_bytes()

    def drop(self, key: str, data: bytes, at: float) -> None:
        place(self.root / key, data, at)

    def touch(self, key: str, at: float) -> None:
        place(self.root / key, self.get(key), at)  # a copy may share the file

    def remove(self, key: str) -> None:
        (self.root / key).unlink()

    def overwrite(self, key: str, data: bytes) -> None:
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_bytes(data)

    def copy(self, name: str) -> FolderHome:
        target = self.root.with_name(f"{self.root.name}-{name}")
        if self.root.exists():
            shutil.copytree(self.root, target, copy_function=os.link)
        return FolderHome(target)

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@dataclass(frozen=True)
class BucketHome:
    """What lies below a prefix of a bucket. Its copies lie below others."""

    bucket: Bucket
    scratch: Path
    patience: Patience = PATIENCE
    kind = "bucket"
    _clients: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def location(self) -> S3Location:
        return self.bucket.location

    def store(self) -> S3Store:
        # Making a client takes 100 ms, and what one knows of a bucket is in the store: all share one.
        store = S3Store(self.location, self.scratch, read_only=False, patience=self.patience)
        if "s3" not in self._clients:
            self._clients["s3"] = store._objects._connected()
        store._objects._client = self._clients["s3"]
        return store

    def close(self) -> None:
        """Give the connections of its stores, and of those of its copies, back."""
        for client in self._clients.values():
            client.s3.close()
        self._clients.clear()

    def stamps(self, prefix: str = "") -> dict[str, object]:
        skip = len(self.bucket.full(""))
        return {
            item["Key"][skip:]: (item["Size"], item["ETag"])
            for item in self._items(self.bucket.full(prefix))
            if not item["Key"].startswith(self.bucket.full("_bt/")) and "/_bt/tmp/" not in item["Key"]
        }

    def _items(self, below: str) -> Iterator[dict[str, Any]]:
        pages = self.bucket.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.location.bucket, Prefix=below):
            yield from page.get("Contents", ())

    def get(self, key: str) -> bytes:
        return self.bucket.get(key)

    def drop(self, key: str, data: bytes, at: float) -> None:
        self.bucket.put(key, data)

    def touch(self, key: str, at: float) -> None:
        where = {"Bucket": self.location.bucket, "Key": self.bucket.full(key)}
        body, client = self.get(key), self.bucket.client
        upload = client.create_multipart_upload(**where)["UploadId"]
        part = client.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)

    def remove(self, key: str) -> None:
        self.bucket.remove(key)

    def overwrite(self, key: str, data: bytes) -> None:
        self.bucket.put(key, data)

    def copy(self, name: str) -> BucketHome:
        prefix = f"{self.location.prefix}-{name}"
        for item in self._items(self.bucket.full("")):
            source = {"Bucket": self.location.bucket, "Key": item["Key"]}
            target = prefix + item["Key"].removeprefix(self.location.prefix)
            self.bucket.client.copy_object(Bucket=self.location.bucket, Key=target, CopySource=source)
        bucket = replace(self.bucket, location=replace(self.location, prefix=prefix))
        return BucketHome(bucket, self.scratch, self.patience, self._clients)

    def clear(self) -> None:
        while keys := [{"Key": item["Key"]} for item in self._items(self.bucket.full(""))][:1000]:
            self.bucket.client.delete_objects(Bucket=self.location.bucket, Delete={"Objects": keys, "Quiet": True})
