"""Real processes that are really killed, with ``kill -9``, on both homes: in the middle of whatever they do."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.connection import Database
from engine.store import LocalStore, verify_blob
from tests.engine.store.homes import BucketHome, FolderHome, Home
from tests.engine.store.support import Process
from tests.engine.store.witness import Witness, sha256
from tests.object_storage.processes import environment, running
from tests.object_storage.proxy import FaultProxy
from tests.object_storage.servers import Server, fresh_bucket
from tests.tried import tried

WORKER = """
import sys, time
from pathlib import Path
from engine.config import EngineConfig
from engine.connection import Database
from engine.settings import load_settings
from engine.store.home import open_store
from tests.engine.store.homes import place
from tests.engine.store.support import Process, write_parquet
scratch, life = Path(sys.argv[1]), int(sys.argv[2])
config = load_settings().engine_config()
store = open_store(config)
folders = [config.local_dir] if store.is_remote else [config.store]
process = Process(store, Database([*folders, scratch]))
process.clock.now = time.time() + 1000
drops = Path(sys.argv[3]) if len(sys.argv) > 3 else None
print("ready", flush=True)
for turn in range(10_000):
    seed = life * 10_000 + turn
    versions, kind = [], turn % 5
    if kind == 0:
        if drops is not None:
            place(drops / "d/results.csv", b"step,value\\n1,%d.5\\n" % seed, process.clock() - 100 + turn / 1000)
        versions = [event.version for event in process.ingestor.poll() if event.version]
    elif kind in (1, 2):
        given = write_parquet(scratch / f"new-{life}.parquet", 20_000, seed=seed)
        versions = [process.publisher.publish("d", given).version]
    elif kind == 3:
        live = process.logs.of("d").state.live
        process.lifecycle.tag("d", "paper", live[-1].number, move=True)
        process.lifecycle.yank("d", live[-1].number)
        process.publisher.set_current("d", live[0].number)
    else:
        process.lifecycle.expire("d", keep=4)
        process.collect(time.time() + 30 * 86_400, "d")
    for version in versions:
        print(version.number, version.content_id, flush=True)
"""


@pytest.fixture(params=["folder", "bucket"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    if request.param == "folder":
        (tmp_path / "store").mkdir()
        yield FolderHome(tmp_path / "store")
        return
    server: Server = request.getfixturevalue("moto_server")
    with fresh_bucket(server) as bucket:
        home = BucketHome(bucket, tmp_path / "staging")
        yield home
        home.clear()
        home.close()


def lives(count: int, home: Home, scratch: Path) -> Iterator[list[str]]:
    """What each of some processes acknowledged before it was killed."""
    rng = random.Random(7)
    store = home.location if isinstance(home, BucketHome) else home.root  # type: ignore[attr-defined]
    more = [str(store)] if isinstance(store, Path) else []
    for life in range(count):
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", WORKER, str(scratch), str(life), *more],
            env=environment(store, scratch / "cache"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None and process.stderr is not None
        first = process.stdout.readline()
        assert first == "ready\n", process.stderr.read()
        lines = [process.stdout.readline() for _ in range(rng.randint(1, 6))]
        time.sleep(rng.uniform(0.0, 0.1))
        process.kill()
        lines += process.communicate()[0].splitlines(keepends=True)
        assert process.returncode == -9
        yield [line for line in lines if line.endswith("\n")]


def test_killed_workers(home: Home, tmp_path: Path) -> None:
    """They publish, take in drops, tag, yank, roll back, expire and delete, and die at any moment."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    witness = Witness(home)
    acknowledged: dict[int, str] = {}
    for lines in lives(7, home, scratch):
        acknowledged.update({int(line.split()[0]): line.split()[1] for line in lines})
        witness.check()
    assert len(acknowledged) > 8, "they lived long enough to do something"
    with closing(Database([tmp_path])) as database:
        process = Process(home.store(), database)
        process.clock.now = time.time() + 10_000
        process.ingestor.poll()
        process.ingestor.poll()
        assert process.ingestor.poll() == []
        state = process.logs.of("d").refresh()
        for number, content_id in acknowledged.items():
            version = state.number(number)
            assert version is not None and version.content_id == content_id
            if not state.is_expired(number):
                assert sha256(home.get(version.files[0].key)) == version.files[0].sha256
                if isinstance(process.store, LocalStore):
                    verify_blob(process.store, version.files[0])
        process.collect(time.time() + 30 * 86_400)
        witness.check()
        model = witness.model("d")
        needed = {file["key"] for number in model.live for file in model.files(number)}
        assert {key for key in home.stamps("d/_bt/") if "/log/" not in key} == needed, "nothing is left lying about"
    counts = Counter(record["kind"] for record in witness.records["d"])
    tried({"killed": 7, **counts})


COMMANDS = {
    "publish": ("publish", "d", "{given}"),
    "watch": ("watch",),
    "gc": ("gc", "--grace", "0s"),
    "query": ("query", "d", "limit=1"),
}


def test_killed_commands(moto_server: Server, tmp_path: Path) -> None:
    """``bt publish``, ``bt watch``, ``bt gc`` and ``bt query``, each killed at some request, the bucket being slow."""
    given = tmp_path / "given.parquet"
    killed: Counter[str] = Counter()
    with (
        fresh_bucket(moto_server) as bucket,
        FaultProxy(moto_server.endpoint, latency_s=0.01, bandwidth=20e6) as proxy,
        closing(Database([tmp_path])) as database,
    ):
        home = BucketHome(bucket, tmp_path / "staging")
        process = Process(home.store(), database)
        for seed in (1, 2):
            large(given, seed)
            process.publisher.publish("d", given)
        witness, rng, cache = Witness(home), random.Random(3), tmp_path / "cache"
        for turn in range(10):
            name = list(COMMANDS)[turn % len(COMMANDS)]
            large(given, 10 + turn)
            if name == "watch":
                home.drop("d/results.parquet", given.read_bytes(), 0)
            if name == "gc":
                process.lifecycle.expire("d", keep=1)
            if name == "query":
                for path in cache.rglob("blobs/*.parquet"):
                    path.unlink()
            proxy.forget()
            last = rng.randint(1, {"publish": 14, "watch": 14, "gc": 10, "query": 8}[name])
            arguments = [word.format(given=given) for word in COMMANDS[name]]
            with running(bucket.through(proxy.endpoint), cache, *arguments) as command:
                while len(proxy.seen) < last and command.poll() is None:
                    time.sleep(0.001)
                command.kill()
                command.wait()
                killed[name] += command.returncode == -9
            witness.check()
        for name in COMMANDS:  # and each works after that
            arguments = [word.format(given=given) for word in COMMANDS[name]]
            once = ["--once"] if name == "watch" else []
            done = subprocess.run(
                [sys.executable, "-P", "-m", "server", *arguments, *once],
                env=environment(home.location, cache),
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            witness.check()
        current = witness.model("d").current
        assert current is not None
        assert not list(cache.rglob("quarantine/*")), "no half of a file was ever taken for a whole one"
        home.clear()
        home.close()
    tried(dict(killed))
    assert len(killed) == len(COMMANDS) and sum(killed.values()) > 6


def large(path: Path, seed: int) -> None:
    """Some 2 MB that do not compress."""
    rng = random.Random(seed)
    pq.write_table(pa.table({"step": list(range(120_000)), "value": [rng.random() for _ in range(120_000)]}), path)
