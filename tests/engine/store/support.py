"""What the store's tests share: files to publish, a store that fails on command, and the invariants read off the disk.

The invariants are checked without the code under test: the log is read as plain JSON.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine.connection import Database
from engine.errors import StoreError
from engine.store import (
    DatasetLogs,
    Ingestor,
    LocalStore,
    ObjectStat,
    Progress,
    Publisher,
    Staged,
    Store,
    definition_text,
)


def write_parquet(path: Path, rows: int = 3, *, seed: int = 0, columns: dict[str, Any] | None = None) -> Path:
    """A small table that differs for each seed."""
    table = pa.table(columns or {"step": list(range(rows)), "value": [seed + row / 7 for row in range(rows)]})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Clock:
    """A clock that moves when told to."""

    def __init__(self, now: float = 2_000_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def place(target: Path, data: bytes, at: float) -> Path:
    """Drop a file as a careful person does: written elsewhere, then moved; last changed at ``at``."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.part")
    temporary.write_bytes(data)
    os.utime(temporary, (at, at))
    temporary.rename(target)
    return target


@dataclass
class Process:
    """Everything that one process holds in memory about a store."""

    store: Store
    database: Database
    clock: Clock = field(default_factory=Clock)
    policy: str = "warn"
    settle_s: float = 2.0

    def __post_init__(self) -> None:
        self.logs = DatasetLogs(self.store)
        self.publisher = Publisher(
            self.store,
            self.database,
            lambda dataset: definition_text(None, self.store, dataset),
            self.policy,
            logs=self.logs,
        )
        self.ingestor = Ingestor(self.publisher, self.store, self.settle_s, self.clock)


class Killed(BaseException):
    """The process is gone; nothing in it may catch this."""


class FaultyStore:
    """A store whose n-th primitive ends the process, or fails, before or after it took effect.

    ``fault`` is (n, "kill" or "fail", "before" or "after"), or None.
    """

    def __init__(self, inner: LocalStore, fault: tuple[int, str, str] | None = None) -> None:
        self.inner = inner
        self.fault = fault
        self.step = 0

    def arm(self, fault: tuple[int, str, str] | None) -> None:
        self.fault = fault
        self.step = 0

    def _call(self, method: str, *arguments: Any) -> Any:
        self.step += 1
        here = self.fault is not None and self.fault[0] == self.step
        if here and self.fault is not None and self.fault[2] == "before":
            self._raise(method)
        answer = getattr(self.inner, method)(*arguments)
        if here:
            self._raise(method)
        return answer

    def _raise(self, method: str) -> None:
        assert self.fault is not None
        if self.fault[1] == "kill":
            raise Killed(f"in {method}")
        raise StoreError(f"the answer to {method} was lost")

    @property
    def read_only(self) -> bool:
        return self.inner.read_only

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        return bool(self._call("put_if_absent", key, content))

    def read(self, key: str) -> bytes | None:
        found: bytes | None = self._call("read", key)
        return found

    def path(self, key: str) -> Path:
        return self.inner.path(key)

    def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
        staged: Staged = self._call("fetch", key, etag, into, progress)
        return staged

    def list(self, prefix: str) -> tuple[str, ...]:
        found: tuple[str, ...] = self._call("list", prefix)
        return found

    def stat(self, key: str) -> ObjectStat | None:
        found: ObjectStat | None = self._call("stat", key)
        return found

    def delete(self, key: str) -> None:
        self._call("delete", key)

    def staging(self, dataset: str) -> Path:
        folder: Path = self._call("staging", dataset)
        return folder


def read_log(root: Path, dataset: str) -> list[dict[str, Any]]:
    """The log as plain JSON, in order; fails when it is not dense."""
    names = sorted(path.name for path in (root / dataset / "_bt" / "log").glob("*"))
    assert names == [f"{seq:010d}.json" for seq in range(1, len(names) + 1)], f"the log is not dense: {names}"
    records = [json.loads((root / dataset / "_bt" / "log" / name).read_bytes()) for name in names]
    assert [record["seq"] for record in records] == list(range(1, len(names) + 1))
    return records


class Witness:
    """Remembers what a store held, and checks that it holds to its promises (SPEC 7) each time it looks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._records: dict[Path, bytes] = {}
        self._blobs: dict[str, str] = {}

    def check(self) -> None:
        for folder in self.root.iterdir():
            if (folder / "_bt" / "log").is_dir():
                self._check_dataset(folder.name)
        for path, data in self._records.items():
            assert path.read_bytes() == data, f"{path.name} was rewritten"

    def _check_dataset(self, dataset: str) -> None:
        numbers: set[int] = set()
        sources: set[tuple[str, str, int]] = set()
        for record in read_log(self.root, dataset):
            path = self.root / dataset / "_bt" / "log" / f"{record['seq']:010d}.json"
            self._records.setdefault(path, path.read_bytes())
            if record["kind"] == "publish":
                numbers.add(record["seq"])
                for file in record["files"]:
                    self._check_blob(file)
            if record["kind"] in ("set_current", "seen"):
                assert record["target"] in numbers
            source = record.get("source")
            if source is not None:
                identity = (source["key"], source["etag"], source["size"])
                assert identity not in sources, f"one drop was recorded twice: {identity}"
                sources.add(identity)

    def _check_blob(self, file: dict[str, Any]) -> None:
        data = (self.root / file["key"]).read_bytes()
        assert len(data) == file["size"]
        assert sha256(data) == file["sha256"], "a blob does not hash to its record"
        assert self._blobs.setdefault(file["key"], file["sha256"]) == file["sha256"], "a blob's name was used twice"


def current_of(root: Path, dataset: str) -> dict[str, Any] | None:
    """The publish record that readers follow, by the rule of SPEC 7 and nothing else."""
    if not (root / dataset / "_bt" / "log").is_dir():
        return None
    records = read_log(root, dataset)
    current = None
    for record in records:
        if record["kind"] == "publish":
            current = record
        elif record["kind"] == "set_current":
            current = records[record["target"] - 1]
    return current
