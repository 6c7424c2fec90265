"""What lies on disks and in buckets goes wrong: bits flip, files vanish, disks fill up, keys are revoked, logs grow.

What must hold: no answer is ever wrong, what is whole goes on being served, and what is put right is served again.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from engine import Engine
from engine.config import EngineConfig
from engine.connection import Database
from engine.errors import CorruptVersionError, EngineError, PublishConflictError, StoreError, VersionNotFoundError
from engine.store import DatasetLog
from engine.store.records import Record, SetCurrent, encode_record
from engine.store.s3 import S3Store
from queries.request import QueryRequest
from server.app import create_app
from server.settings import Settings
from tests.engine.store.homes import BucketHome, FolderHome, Home
from tests.engine.store.support import FaultyStore, Process
from tests.engine.store.witness import Witness, sha256
from tests.object_storage.proxy import FaultProxy
from tests.object_storage.servers import Bucket, Server, fresh_bucket
from tests.tried import tried

Rows = list[tuple[int, float]]
KEYED = b'key = ["step"]\n'


def table(seed: int, rows: int = 60) -> pa.Table:
    """Rows whose steps are out of order."""
    steps = [row * 37 % rows for row in range(rows)]
    return pa.table({"step": steps, "value": [seed + step / 8 for step in steps]})


def rows_of(seed: int, rows: int = 60) -> Rows:
    """In the order of the table, however the files are sorted."""
    return [(row * 37 % rows, seed + row * 37 % rows / 8) for row in range(rows)]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with closing(Database([tmp_path_factory.getbasetemp()])) as database:
        yield database


@pytest.fixture(params=["folder", "bucket"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    if request.param == "folder":
        yield FolderHome(tmp_path / "store")
        return
    with fresh_bucket(request.getfixturevalue("moto_server")) as bucket:
        home = BucketHome(bucket, tmp_path / "staging")
        yield home
        home.clear()
        home.close()


@pytest.fixture
def bucket_home(moto_bucket: Bucket, tmp_path: Path) -> Iterator[BucketHome]:
    home = BucketHome(moto_bucket, tmp_path / "staging")
    yield home
    home.clear()
    home.close()


@contextmanager
def engine_of(home: Home, folder: Path, location: Any = None, **options: Any) -> Iterator[Engine]:
    store = location or (home.location if isinstance(home, BucketHome) else home.root)  # type: ignore[attr-defined]
    # Each question is to read the files: what is in memory, or was copied, would answer without them.
    options = {"results_cache_bytes": 0, "tables_bytes": 0, "lookup_bytes": 0, **options}
    config = EngineConfig(store, definitions=None, cache_dir=folder, refresh_s=1e-9, **options)
    with Engine(config) as engine:
        yield engine
        engine.store.close()


def ask(engine: Engine, version: str | None = None, **options: Any) -> Rows:
    result = engine.run(engine.prepare(QueryRequest(dataset="d", version=version, **options)))
    return list(zip(result.table["step"].to_pylist(), result.table["value"].to_pylist(), strict=True))


def publish(home: Home, database: Database, scratch: Path, seeds: list[int], rows: int = 60) -> list[dict[str, Any]]:
    """Versions sorted by their key; their records."""
    home.drop("d/dataset.toml", KEYED, 0)
    process = Process(home.store(), database)
    for seed in seeds:
        pq.write_table(table(seed, rows), scratch / "given.parquet")
        process.publisher.publish("d", scratch / "given.parquet")
    witness = Witness(home)
    witness.check()
    return witness.records["d"]


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]


def places(size: int, most: int) -> list[int]:
    """Bytes of a file: all along it, and each of its last twelve (footer's length and magic)."""
    return sorted({*(place * size // most for place in range(most)), *range(max(0, size - 12), size)})


# Bits flip.


def test_a_bit_of_a_stored_file(home: Home, database: Database, tmp_path: Path) -> None:
    """In a page, in the footer, in the magic: wherever it is, there is no answer in place of a wrong one."""
    _, second = publish(home, database, tmp_path, [1, 2])
    key = second["files"][0]["key"]
    whole = home.get(key)
    spots = places(len(whole), 20)
    with engine_of(home, tmp_path / "cache") as engine:
        assert ask(engine, "v1") == rows_of(1)
        for at in spots:
            home.overwrite(key, flipped(whole, at))
            with pytest.raises(CorruptVersionError, match="SHA-256"):
                ask(engine)
        assert ask(engine, "v1") == rows_of(1)
        home.overwrite(key, whole[:-1])
        with pytest.raises(CorruptVersionError):
            ask(engine)
        home.overwrite(key, whole)
        assert ask(engine) == rows_of(2)
    tried(len(spots))


def test_a_bit_of_a_log_record(home: Home, database: Database, tmp_path: Path) -> None:
    publish(home, database, tmp_path, [1, 2])
    key = "d/_bt/log/0000000001.json"
    whole = home.get(key)
    spots = places(len(whole), 60 if home.kind == "bucket" else 400)
    with engine_of(home, tmp_path / "cache") as engine:
        assert ask(engine) == rows_of(2)
        for at in spots:
            home.overwrite(key, flipped(whole, at))
            with pytest.raises(CorruptVersionError):
                DatasetLog(home.store(), "d").refresh()
        assert ask(engine) == rows_of(2), "who has read it goes on"
    home.overwrite(key, whole)
    assert DatasetLog(home.store(), "d").refresh().seq == 2
    tried(len(spots))


@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_what_was_recorded_of_the_values(home: Home, database: Database, tmp_path: Path, damage: str) -> None:
    """The facts spare work and change no answer: without them there is the same one."""
    (record,) = publish(home, database, tmp_path, [1])
    key = record["facts"]["key"]
    whole = home.get(key)
    spots = places(len(whole), 12) if damage == "flip" else [0]
    tried(len(spots))
    for number, at in enumerate(spots):
        if damage == "flip":
            home.overwrite(key, flipped(whole, at))
        else:
            home.remove(key)
        with engine_of(home, tmp_path / f"cache-{number}") as engine:
            assert ask(engine) == rows_of(1)


def test_a_bit_of_a_cached_file(bucket_home: BucketHome, database: Database, tmp_path: Path) -> None:
    publish(bucket_home, database, tmp_path, [1])
    with engine_of(bucket_home, tmp_path / "cache") as engine:
        assert ask(engine) == rows_of(1)
        (path,) = (tmp_path / "cache").rglob("blobs/*.parquet")
        whole = path.read_bytes()
        spots = places(len(whole), 10)
        for at in spots:
            path.chmod(0o644)
            path.write_bytes(flipped(whole, at))
            assert ask(engine) == rows_of(1)
            assert path.read_bytes() == whole, "it was fetched again"
        metrics = engine.blobs.metrics()
        assert metrics is not None and metrics.quarantined == len(spots)
        tried(len(spots))


# Something vanishes.


def test_a_gap_in_the_log(home: Home, database: Database, tmp_path: Path) -> None:
    publish(home, database, tmp_path, [1, 2, 3])
    key = "d/_bt/log/0000000002.json"
    whole = home.get(key)
    running = Process(home.store(), database)
    running.logs.of("d").refresh()
    with engine_of(home, tmp_path / "cache") as engine:
        assert ask(engine) == rows_of(3)
        home.remove(key)
        assert ask(engine) == rows_of(3) and ask(engine, "v2") == rows_of(2), "who has read it goes on"
    with engine_of(home, tmp_path / "cache") as fresh, pytest.raises(CorruptVersionError, match="missing"):
        ask(fresh)
    pq.write_table(table(9), tmp_path / "given.parquet")
    with pytest.raises(CorruptVersionError, match="missing"):
        Process(home.store(), database).publisher.publish("d", tmp_path / "given.parquet")
    assert not any("0000000002" in name or "0000000004" in name for name in home.stamps("d/_bt/log/"))
    home.overwrite(key, whole)
    running.publisher.publish("d", tmp_path / "given.parquet")
    with engine_of(home, tmp_path / "cache") as engine:
        assert ask(engine) == rows_of(9)


def test_the_end_of_the_log_vanishes(home: Home, database: Database, tmp_path: Path) -> None:
    """Who has seen it does not write over it."""
    publish(home, database, tmp_path, [1, 2])
    running = Process(home.store(), database)
    running.logs.of("d").refresh()
    home.remove("d/_bt/log/0000000002.json")
    pq.write_table(table(9), tmp_path / "given.parquet")
    with pytest.raises(CorruptVersionError, match="disappeared"):
        running.publisher.publish("d", tmp_path / "given.parquet")
    with pytest.raises(CorruptVersionError, match="disappeared"):
        running.collect(4e9)
    assert len(home.stamps("d/_bt/log/")) == 1


def test_a_file_vanishes(home: Home, database: Database, tmp_path: Path) -> None:
    _, second = publish(home, database, tmp_path, [1, 2])
    key = second["files"][0]["key"]
    home.remove(key)
    with engine_of(home, tmp_path / "cache") as engine:
        with pytest.raises(CorruptVersionError, match="missing"):
            ask(engine)
        assert ask(engine, "v1") == rows_of(1)
        pq.write_table(table(2), tmp_path / "given.parquet")
        outcome = engine.publish("d", tmp_path / "given.parquet")
        assert not outcome.created and outcome.version.number == 2, "the same bytes again mend it"
        assert ask(engine) == rows_of(2)
    Witness(home).check()


# Races.


def test_a_drop_that_is_overwritten_while_it_is_taken_in(home: Home, database: Database, tmp_path: Path) -> None:
    """Whatever becomes a version is one of the two, and the second is latest in the end."""
    texts = [b"step,value\n" + b"".join(b"%d,%d.5\n" % (row, seed) for row in range(2000)) for seed in (1, 2)]

    class Overwriting(FaultyStore):
        turn = 0

        def _call(self, method: str, *arguments: Any) -> Any:
            self.turn += 1
            if self.turn == self.when:
                home.drop("d/results.csv", texts[1], process.clock() - 60)
            return super()._call(method, *arguments)

        when = 0

    turns = 0
    for when in range(2, 40):
        home.clear()
        store = Overwriting(home.store())
        process = Process(store, database)
        home.drop("d/results.csv", texts[0], process.clock() - 90)
        store.turn, store.when = 0, when
        process.ingestor.poll()
        if store.turn < when:
            break
        turns += 1
        process.clock.now += 100
        process.ingestor.poll()
        assert process.ingestor.poll() == []
        witness = Witness(home)
        witness.check()
        sizes = [record["original"]["size"] for record in witness.records["d"] if record["kind"] == "publish"]
        hashes = [record["original"]["sha256"] for record in witness.records["d"] if record["kind"] == "publish"]
        known = [sha256(text) for text in texts]
        assert hashes in (known, known[1:]), sizes
    tried(turns)
    assert turns > 5


def test_expiring_against_rolling_back(home: Home, database: Database, tmp_path: Path) -> None:
    """Of the two one is first; the other is told, or finds nothing wrong with it."""
    publish(home, database, tmp_path, [1, 2])
    outcomes: dict[str, int] = {}
    for turn in range(12):
        copy = home.copy(f"race-{turn}")
        one, other = Process(copy.store(), database), Process(copy.store(), database)
        for process in (one, other):
            process.logs.of("d").refresh()
        gate = threading.Barrier(2)

        def roll_back(process: Process = one, gate: threading.Barrier = gate) -> str:
            gate.wait()
            try:
                process.publisher.set_current("d", 1)
            except VersionNotFoundError:
                return "refused"
            return "rolled back"

        def expire(process: Process = other, gate: threading.Barrier = gate) -> str:
            gate.wait()
            try:
                process.lifecycle.expire("d", [1], keep=0)
            except PublishConflictError:
                return "kept"
            return "expired"

        with ThreadPoolExecutor(2) as pool:
            pair = [future.result() for future in [pool.submit(roll_back), pool.submit(expire)]]
        assert pair in (["rolled back", "kept"], ["refused", "expired"])
        witness = Witness(copy)
        witness.check()
        current = witness.model("d").current
        assert current is not None and current["seq"] == (1 if pair[0] == "rolled back" else 2)
        outcomes[pair[0]] = outcomes.get(pair[0], 0) + 1
        copy.clear()
    tried(outcomes)


def test_eviction_under_an_open_query(bucket_home: BucketHome, database: Database, tmp_path: Path) -> None:
    """The cache holds less than two versions: who reads one keeps it, whatever others ask for."""
    rows = 150_000
    records = publish(bucket_home, database, tmp_path, [1, 2, 3, 4], rows)
    sizes = [record["files"][0]["size"] for record in records]
    with engine_of(bucket_home, tmp_path / "cache", cache_bytes=max(sizes) * 5 // 4) as engine:
        with engine.stream(engine.prepare(QueryRequest(dataset="d", version="v1"))) as stream:
            batches = iter(stream)
            got = [next(batches)]
            for number in (2, 3, 4):
                found = engine.prepare(QueryRequest(dataset="d", version=f"v{number}", limit=3))
                assert engine.run(found).table["value"].to_pylist() == [value for _, value in rows_of(number, rows)[:3]]
            got += batches
        whole = pa.Table.from_batches(got)
        assert whole["value"].to_pylist() == [value for _, value in rows_of(1, rows)]
        for number in (4, 3, 2, 1):
            assert ask(engine, f"v{number}") == rows_of(number, rows)
        metrics = engine.blobs.metrics()
        assert metrics is not None and metrics.evictions and metrics.used_bytes <= metrics.max_bytes


def test_expired_and_deleted_under_an_open_query(home: Home, database: Database, tmp_path: Path) -> None:
    rows = 150_000
    publish(home, database, tmp_path, [1, 2], rows)
    with (
        engine_of(home, tmp_path / "cache") as engine,
        engine.stream(engine.prepare(QueryRequest(dataset="d", version="v1"))) as stream,
    ):
        batches = iter(stream)
        got = [next(batches)]
        process = Process(home.store(), database)
        process.lifecycle.expire("d", [1], keep=0)
        assert process.collect(4e9)  # long after the time of grace
        got += batches
        assert pa.Table.from_batches(got)["value"].to_pylist() == [value for _, value in rows_of(1, rows)]


# Disks.


def small_disk(folder: Path, size: str) -> bool:
    """A file system of its own in memory, if this user may make one."""
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        return False
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.parametrize("is_read_only", [False, True], ids=["full", "read-only"])
def test_a_disk_of_the_cache(bucket_home: BucketHome, database: Database, tmp_path: Path, is_read_only: bool) -> None:
    """A real one: what cannot be kept is read by ranges, and the answers are the same."""
    rows = 40_000
    publish(bucket_home, database, tmp_path, [1, 2], rows)
    disk = tmp_path / "disk"
    if not small_disk(disk, "160k"):
        pytest.skip("this user may mount nothing here; tests/engine/store/test_cache.py has the same without a disk")
    try:
        if is_read_only:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)
        with engine_of(bucket_home, disk / "cache") as engine:
            for number in (1, 2, 1):
                assert ask(engine, f"v{number}") == rows_of(number, rows)
            metrics = engine.blobs.metrics()
            assert metrics is not None and metrics.bytes_by_range
            if is_read_only:
                subprocess.run(["mount", "-o", "remount,rw,size=8m", str(disk)], check=True, capture_output=True)
            else:
                subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True, capture_output=True)
            assert ask(engine) == rows_of(2, rows)
            assert list(disk.rglob("blobs/*.parquet")), "with room, it is kept again"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False, capture_output=True)


def test_no_room_to_publish(home: Home, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(home, database, tmp_path, [1])
    pq.write_table(table(2), tmp_path / "given.parquet")
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    process = Process(home.store(), database)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="No space left"):
            process.publisher.publish("d", tmp_path / "given.parquet")
    Witness(home).check()
    assert process.publisher.publish("d", tmp_path / "given.parquet").created


# Keys.


class User:
    """Somebody with keys, from whom rights can be taken."""

    def __init__(self, server: Server) -> None:
        self.client, self.name = server.client("iam"), f"user-{secrets.token_hex(4)}"
        self.client.create_user(UserName=self.name)
        self.allow(True)
        key = self.client.create_access_key(UserName=self.name)["AccessKey"]
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]

    def allow(self, allowed: bool) -> None:
        statement = {"Effect": "Allow" if allowed else "Deny", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client.put_user_policy(UserName=self.name, PolicyName="p", PolicyDocument=policy)

    def delete_key(self) -> None:
        self.client.delete_access_key(UserName=self.name, AccessKeyId=self.key)


@pytest.mark.parametrize("how", ["denied", "deleted"])
def test_keys_that_are_revoked(bucket_home: BucketHome, database: Database, tmp_path: Path, how: str) -> None:
    """What is known and cached is served on; all else is a 503 that says why, and is answered again afterwards."""
    publish(bucket_home, database, tmp_path, [1, 2])
    user = User(bucket_home.bucket.server)
    location = bucket_home.location
    settings = Settings(
        store=replace(location, endpoint=None, access_key_id=None, secret_access_key=None),
        s3_endpoint=location.endpoint,
        aws_access_key_id=user.key,
        aws_secret_access_key=user.secret,
        definitions=None,
        cache_dir=tmp_path / "cache",
        results_cache_bytes=0,
        poll_interval_s=0.2,
        ingest=False,
    )
    with TestClient(create_app(settings)) as client:
        pinned = client.get("/api/datasets/d/rows?version=v1")
        assert pinned.status_code == 200, pinned.text
        if how == "denied":
            user.allow(False)
        else:
            user.delete_key()
        again = client.get("/api/datasets/d/rows?version=v1")
        assert again.status_code == 200 and again.json()["data"] == pinned.json()["data"]
        fresh = client.get("/api/datasets/d/rows?version=v2")
        assert fresh.status_code == 503 and fresh.headers["retry-after"]
        said = fresh.json()["detail"]
        assert ("may not" in said) if how == "denied" else ("access key" in said)
        assert user.key not in fresh.text and location.bucket not in fresh.text
        ready = client.get("/api/ready")
        assert ready.status_code == 503
        if how == "denied":
            user.allow(True)
            assert client.get("/api/datasets/d/rows?version=v2").status_code == 200
            assert client.get("/api/ready").status_code == 200


# Much of it.


def test_a_long_log(bucket_home: BucketHome, database: Database, tmp_path: Path) -> None:
    """More records than fit one page of a listing."""
    publish(bucket_home, database, tmp_path, [1, 2])
    last, orphans = 1_030, 20
    location, client = bucket_home.location, bucket_home.bucket.client

    def put(key: str, data: bytes) -> None:
        client.put_object(Bucket=location.bucket, Key=bucket_home.bucket.full(key), Body=data)

    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(
                put,
                f"d/_bt/log/{seq:010d}.json",
                encode_record(Record(seq, "2026-01-01T00:00:00.000Z", "", "", f"{seq:032x}", SetCurrent(seq % 2 + 1))),
            )
            for seq in range(3, last + 1)
        ]
        work += [
            pool.submit(put, f"d/_bt/data/20260101T000000Z-{number:08x}-0.parquet", b"x") for number in range(orphans)
        ]
        for future in work:
            future.result()
    with FaultProxy(location.endpoint or "") as proxy:
        store = S3Store(bucket_home.bucket.through(proxy.endpoint), tmp_path / "staging", read_only=False)
        log = DatasetLog(store, "d")
        state = log.refresh()
        assert state.seq == last and state.current == state.number(last % 2 + 1)
        requests = len(proxy.seen)
        assert requests <= last + 4, "each record once, two pages, and the end"
        proxy.forget()
        assert log.refresh() is state
        assert len(proxy.seen) <= 2, "nothing new costs one small request"
        store.close()
    process = Process(bucket_home.store(), database)
    process.publisher.set_current("d", 1)
    assert process.logs.of("d").state.seq == last + (1 if state.current.number != 1 else 0)
    removed = process.collect(4e9)
    assert len(removed) == orphans
    assert len(bucket_home.stamps("d/_bt/data/")) == 2
    tried({"records": last, "requests": requests})


def test_nothing_is_said_of_the_machine(bucket_home: BucketHome, database: Database, tmp_path: Path) -> None:
    """No error of any of these shows a path, a host or a bucket."""
    publish(bucket_home, database, tmp_path, [1])
    with engine_of(bucket_home, tmp_path / "cache") as engine:
        bucket_home.bucket.client.delete_objects(
            Bucket=bucket_home.location.bucket,
            Delete={"Objects": [{"Key": bucket_home.bucket.full(key)} for key in bucket_home.stamps("d/_bt/data/")]},
        )
        with pytest.raises(EngineError) as caught:
            ask(engine)
        for hidden in (str(tmp_path), "127.0.0.1", bucket_home.location.bucket):
            assert hidden not in caught.value.detail
