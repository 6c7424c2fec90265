"""A storage on loopback with a network in front of it: latency, a limit of bandwidth, and counters.

The storages and the proxy are those of the tests: there is one way to start Ceph here, and one proxy that is trusted.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow.fs
import pyarrow.parquet as pq

from tests.object_storage.proxy import FaultProxy, Seen
from tests.object_storage.servers import Bucket, NoServerError, Server, ceph_server, moto_server

Kind = Literal["ceph", "moto"]

_BUCKET = "bench"
LATENCY_S = 0.020  # per request
BANDWIDTH = 60e6  # bytes a second in each direction, for all connections together
QUIET_S = 1.0  # nothing new for so long: longer than a range of a download takes with three others under way
MOST_QUIET_S = 120.0
POLL_BYTES = 5_000  # an answer to a poll is smaller, and a piece of a file larger


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through the proxy: bytes are those of bodies, without heads."""

    requests: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    kinds: Counter[str] = field(default_factory=Counter)  # "GET log" → how many

    @classmethod
    def of(cls, seen: Iterable[Seen]) -> Traffic:
        seen = list(seen)
        return cls(
            len(seen),
            sum(one.bytes_down for one in seen),
            sum(one.bytes_up for one in seen),
            Counter(f"{one.method} {_kind_of(one.path)}" for one in seen),
        )


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a version: its key in the bucket, and the first and last metric in it."""

    key: str
    size: int
    first: str
    last: str


class TimedProxy(FaultProxy):
    """Knows also when each request began and ended."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.times: list[tuple[str, str, float, float]] = []  # method, path, begin, end; in the order of the ends
        self._begun: dict[int, float] = {}

    def _fault_for(self, method: str, path: str) -> Any:
        self._begun[threading.get_ident()] = time.monotonic()
        return super()._fault_for(method, path)

    def _note(self, method: str, path: str, status: int, up: int, down: int) -> None:
        now = time.monotonic()
        self.times.append((method, path, self._begun.get(threading.get_ident(), now), now))
        super()._note(method, path, status, up, down)


@dataclass(frozen=True, slots=True)
class Home:
    """A bucket, reached through the proxy by all that is measured, and directly by the benchmark itself.

    Each dataset has a store of its own in it: a server fetches what is new in all of its store.
    """

    kind: Kind
    bucket: Bucket
    proxy: TimedProxy
    quiet_s: float = QUIET_S

    def store(self, dataset: str) -> Bucket:
        """The part of the bucket that is the store of a dataset."""
        location = self.bucket.location
        return replace(self.bucket, location=replace(location, prefix=f"{location.prefix}/{dataset}"))

    def settings(self, dataset: str) -> dict[str, str]:
        """What our processes are given."""
        return {
            "BT_STORE": str(self.store(dataset).location),
            "BT_S3_ENDPOINT": self.proxy.endpoint,
            "AWS_ACCESS_KEY_ID": self.bucket.server.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.bucket.server.secret_access_key,
        }

    def since(self, mark: int) -> Traffic:
        """What was answered after that many requests."""
        return Traffic.of(self.proxy.seen[mark:])

    def mark(self) -> int:
        return len(self.proxy.seen)

    def settle(self) -> None:
        """Wait until no more data comes by: a download in the background may go on after an answer."""
        until = time.monotonic() + MOST_QUIET_S
        mark, quiet_since = self.mark(), time.monotonic()
        while time.monotonic() < until and time.monotonic() - quiet_since < self.quiet_s:
            time.sleep(0.05)
            new = self.proxy.seen[mark:]
            mark += len(new)
            if any(one.bytes_down > POLL_BYTES for one in new):
                quiet_since = time.monotonic()

    def files(self, dataset: str) -> tuple[StoredFile, ...]:
        """The files of a dataset's only version, as its log and their footers have them."""
        store = self.store(dataset)
        record = json.loads(store.get(f"{dataset}/_bt/log/0000000001.json"))
        direct = store.server
        system = pyarrow.fs.S3FileSystem(
            access_key=direct.access_key_id,
            secret_key=direct.secret_access_key,
            endpoint_override=direct.endpoint.partition("//")[2],
            scheme="http",
            region="us-east-1",
        )
        files = []
        for file in record["files"]:
            key = f"{store.location.bucket}/{store.full(file['key'])}"
            with system.open_input_file(key) as source:
                files.append(StoredFile(key, file["size"], *_bounds(pq.ParquetFile(source).metadata)))
        return tuple(files)

    def copy(self, dataset: str, folder: Path) -> None:
        """The same dataset in a folder: the keys are the same in both homes."""
        bucket = self.store(dataset)
        for key in bucket.keys(f"{dataset}/"):
            path = folder / key
            path.parent.mkdir(parents=True, exist_ok=True)
            bucket.client.download_file(bucket.location.bucket, bucket.full(key), str(path))
            path.chmod(0o444)

    def remove(self, dataset: str) -> None:
        """A dataset, and its store with it."""
        store = self.store(dataset)
        for key in store.keys(f"{dataset}/"):
            store.remove(key)


@contextmanager
def open_home(kind: Kind | None = None) -> Iterator[Home]:
    """A fresh bucket on Ceph's gateway; where that is not installed, and nothing was asked for, on moto's server.

    Raises
    ------
    NoServerError
        The storage cannot be started here.
    """
    with ExitStack() as stack:
        if kind == "moto":
            server = stack.enter_context(moto_server())
        else:
            try:
                server = stack.enter_context(ceph_server())
            except NoServerError:
                if kind is not None:
                    raise
                server = stack.enter_context(moto_server())
        bucket = _make_bucket(server)
        stack.callback(bucket.client.close)
        proxy = stack.enter_context(TimedProxy(server.endpoint, latency_s=LATENCY_S, bandwidth=BANDWIDTH))
        yield Home("moto" if server.kind == "moto" else "ceph", bucket, proxy)


def _make_bucket(server: Server) -> Bucket:
    """It is not removed: its storage ends with the run, and deleting gigabytes takes long."""
    client = server.client()
    client.create_bucket(Bucket=_BUCKET)
    return Bucket(server, server.location(_BUCKET, "lab"), client)


def matching_bytes(files: Iterable[StoredFile], metric: str) -> int:
    """The sizes of the files that rows of a metric can be in."""
    return sum(file.size for file in files if file.first <= metric <= file.last)


def _bounds(metadata: pq.FileMetaData) -> tuple[str, str]:
    column = metadata.schema.names.index("metric")
    groups = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
    return min(group.min for group in groups), max(group.max for group in groups)


def _kind_of(path: str) -> str:
    address, _, query = path.partition("?")
    if "list-type" in query:
        return "list"
    return next((kind for kind in ("log", "data", "meta") if f"/_bt/{kind}/" in address), "other")
