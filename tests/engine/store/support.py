"""What the store's tests share: files to publish, what a process holds of a store, and a store that fails on command.

``homes.py`` are the places that hold one, ``witness.py`` checks what was promised of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
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
    ObjectStat,
    Progress,
    Publisher,
    Staged,
    Store,
    definition_text,
)
from engine.store.definitions import ListedDefinitions
from engine.store.gc import Removal, collect
from engine.store.lifecycle import Lifecycle
from engine.store.rows import Limits
from tests.engine.store.homes import place
from tests.engine.store.witness import Witness, current_of, read_log, sha256

__all__ = ["Clock", "FaultyStore", "Killed", "Process", "Witness", "current_of", "place", "read_log", "sha256",
           "write_parquet"]  # fmt: skip


def write_parquet(path: Path, rows: int = 3, *, seed: int = 0, columns: dict[str, Any] | None = None) -> Path:
    """A small table that differs for each seed."""
    table = pa.table(columns or {"step": list(range(rows)), "value": [seed + row / 7 for row in range(rows)]})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


class Clock:
    """A clock that moves when told to."""

    def __init__(self, now: float = 2_000_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass
class Process:
    """Everything that one process holds in memory about a store."""

    store: Store
    database: Database
    clock: Clock = field(default_factory=Clock)
    policy: str = "warn"
    settle_s: float = 2.0
    limits: Limits | None = None
    describe: Callable[..., Mapping[str, Any]] | None = None

    def __post_init__(self) -> None:
        self.logs = DatasetLogs(self.store)
        self.publisher = Publisher(
            self.store,
            self.database,
            lambda dataset: definition_text(None, self.store, dataset),
            self.policy,
            logs=self.logs,
            describe=self.describe,
            limits=self.limits,
        )
        self.lifecycle = Lifecycle(self.store, self.logs)
        self.ingestor = Ingestor(
            self.publisher, self.store, self.settle_s, self.clock, definitions=ListedDefinitions(None, self.store)
        )

    def collect(self, now: float, dataset: str | None = None) -> list[Removal]:
        return collect(self.store, self.logs, dataset, now=now)


class Killed(BaseException):
    """The process is gone; nothing in it may catch this."""


class FaultyStore:
    """A store whose n-th primitive ends the process, or fails, before or after it took effect.

    ``fault`` is (n, "kill" or "fail", "before" or "after"), or None; with ``only``, other primitives do not count. What
    a killed process does in its ``finally`` has no effect either, until ``arm`` revives it.
    """

    WRITES = ("put_if_absent", "delete")

    def __init__(self, inner: Store, fault: tuple[int, str, str] | None = None) -> None:
        self.inner: Any = inner
        self.fault = fault
        self.step = 0
        self.only: tuple[str, ...] = ()
        self._is_dead = False
        self._lock = threading.Lock()

    def arm(self, fault: tuple[int, str, str] | None, only: tuple[str, ...] = ()) -> None:
        self.fault = fault
        self.only = only
        self.step = 0
        self._is_dead = False

    def _call(self, method: str, *arguments: Any) -> Any:
        with self._lock:
            if self._is_dead:
                raise Killed(f"before {method}")
            counts = not self.only or method in self.only
            self.step += counts
            here = counts and self.fault is not None and self.fault[0] == self.step
        if here and self.fault is not None and self.fault[2] == "before":
            self._raise(method)
        answer = getattr(self.inner, method)(*arguments)
        if here:
            self._raise(method)
        return answer

    def _raise(self, method: str) -> None:
        assert self.fault is not None
        if self.fault[1] == "kill":
            self._is_dead = True
            raise Killed(f"in {method}")
        raise StoreError(f"the answer to {method} was lost")

    @property
    def read_only(self) -> bool:
        return bool(self.inner.read_only)

    @property
    def is_remote(self) -> bool:
        return bool(self.inner.is_remote)

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        return bool(self._call("put_if_absent", key, content))

    def read(self, key: str) -> bytes | None:
        found: bytes | None = self._call("read", key)
        return found

    def path(self, key: str) -> Path:
        found: Path = self.inner.path(key)
        return found

    def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
        staged: Staged = self._call("fetch", key, etag, into, progress)
        return staged

    def list(self, prefix: str) -> tuple[str, ...]:
        found: tuple[str, ...] = self._call("list", prefix)
        return found

    def list_stats(self, prefix: str) -> tuple[ObjectStat, ...]:
        found: tuple[ObjectStat, ...] = self._call("list_stats", prefix)
        return found

    def read_range(self, key: str, start: int, length: int) -> bytes:
        found: bytes = self._call("read_range", key, start, length)
        return found

    def stat(self, key: str) -> ObjectStat | None:
        found: ObjectStat | None = self._call("stat", key)
        return found

    def delete(self, key: str) -> None:
        self._call("delete", key)

    def staging(self, dataset: str) -> Path:
        folder: Path = self._call("staging", dataset)
        return folder

    def check(self) -> None:
        self._call("check")

    def check_writing(self) -> None:
        self._call("check_writing")

    def close(self) -> None:
        self.inner.close()
