"""Tags, expiring, deleting and taking in drops in real buckets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.connection import Database
from engine.errors import PublishConflictError
from engine.store import Ingestor
from engine.store.definitions import ListedDefinitions
from engine.store.gc import collect
from engine.store.lifecycle import Lifecycle
from tests.engine.store.homes import BucketHome
from tests.engine.store.support import Process, write_parquet
from tests.object_storage.servers import Bucket

DAY_S = 86_400.0


@pytest.fixture
def home(bucket: Bucket, tmp_path: Path) -> Iterator[BucketHome]:
    with closing(BucketHome(bucket, tmp_path / "scratch")) as home:
        yield home


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with closing(Database([tmp_path_factory.getbasetemp()])) as database:
        yield database


def blobs(home: BucketHome) -> set[str]:
    return {key for folder in ("data", "meta") for key in home.stamps(f"d/_bt/{folder}/")}


def test_expiring_and_deleting(home: BucketHome, database: Database, tmp_path: Path) -> None:
    process = Process(home.store(), database)
    lives = Lifecycle(process.store, process.logs)
    for seed in (1, 2, 3, 1):
        process.publisher.publish("d", write_parquet(tmp_path / "a.parquet", seed=seed))
    lives.tag("d", "paper", 3)
    with pytest.raises(PublishConflictError, match="v3 is tagged paper"):
        lives.expire("d", [1, 2, 3], keep=1)
    lives.expire("d", [1, 2], keep=1)
    home.bucket.put("d/_bt/data/20200101T000000Z-00000000-aaaaaaaaaaaa.parquet", b"an orphan")
    home.bucket.put("d/_bt/tmp/left.clock", b"")
    log = home.stamps("d/_bt/log/")
    assert collect(process.store, process.logs) == [], "all of it is young"
    other = Process(home.store(), database)
    removed = collect(other.store, other.logs, now=time.time() + 8 * DAY_S)
    assert {one.why for one in removed} == {"expired", "orphan", "scratch"}
    assert home.stamps("d/_bt/log/") == log
    assert not list(home._items(home.bucket.full("d/_bt/tmp/")))
    state = other.logs.of("d").refresh()
    assert blobs(home) == {file.key for version in state.live for file in version.all_files}
    assert [version.number for version in state.live] == [3, 4]


def test_drops(home: BucketHome, database: Database, tmp_path: Path) -> None:
    processes = [Process(home.store(), database) for _ in range(2)]
    looks = [Ingestor(one.publisher, one.store, definitions=ListedDefinitions(None, one.store)) for one in processes]
    one, two = (write_parquet(tmp_path / "a.parquet", seed=seed).read_bytes() for seed in (1, 2))
    home.bucket.put("d/results.parquet", one)
    home.bucket.put("d/results.csv", b"")
    home.bucket.put("d/my results.parquet", one)
    home.bucket.put("d/deeper/results.parquet", one)
    home.bucket.put("My Data/results.parquet", one)
    home.bucket.put("s/results.parquet/part-0.parquet", one)
    told = sorted((event.kind, event.key) for event in looks[0].poll())
    assert told == [
        ("published", "d/results.parquet"),
        ("rejected", "d/results.csv"),
        ("warning", "My Data/"),
        ("warning", "s/results.parquet/"),
    ]
    assert looks[0].poll() == []
    home.bucket.put("d/results.parquet", two)
    assert [event.kind for event in looks[1].poll() if event.dataset == "d"] == ["published"]
    time.sleep(1.1)  # some services tell times apart by the second alone
    home.bucket.put("d/results.parquet", one)
    (event,) = looks[0].poll()
    assert event.kind == "published" and event.version is not None and event.version.number == 4
    assert looks[0].poll() == []
    assert [event.kind for event in looks[1].poll()] == []
    assert processes[1].logs.of("d").state.resolve(None).number == 4
    home.bucket.remove("d/results.parquet")
    assert looks[0].poll() == []
