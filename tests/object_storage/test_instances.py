"""Three servers and four ingesters, real processes all, on one bucket: they agree without talking to each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from tests.engine.store.homes import BucketHome
from tests.engine.store.witness import Witness
from tests.object_storage.processes import running, url_of
from tests.object_storage.servers import Bucket
from tests.tried import tried

ROUNDS = 5
DATASETS = ("a", "b", "c")
PATIENCE_S = 30.0  # a publish is seen within two seconds; this machine may have better things to do
ARROW = "application/vnd.apache.arrow.stream"


def parquet(seed: int, rows: int = 200) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"step": list(range(rows)), "value": [seed + row / 8 for row in range(rows)]}), sink)
    return bytes(sink.getvalue())


class Reader:
    """Somebody who reads latest of each dataset from one server, again and again."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, trust_env=False, timeout=60)
        self.seen: dict[str, list[int]] = {name: [] for name in DATASETS}
        self.wrong: list[str] = []
        self.answers = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            for name in DATASETS:
                try:
                    self._look(name)
                except httpx.HTTPError as error:
                    self.wrong.append(repr(error))

    def _look(self, name: str) -> None:
        self.asked = f"{name} at {time.monotonic():.1f}"
        answer = self.client.get(f"/api/datasets/{name}/rows", params={"limit": "3"})
        self.last = f"{answer.status_code} {answer.text[:200]}"
        if answer.status_code == 404 and not self.seen[name]:
            return
        if answer.status_code != 200:
            self.wrong.append(f"{answer.status_code} {answer.text}")
            return
        self.answers += 1
        body = answer.json()
        number = int(body["meta"]["version"][1:])
        if not self.seen[name] or self.seen[name][-1] != number:
            self.seen[name].append(number)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self.client.close()


@contextmanager
def instances(home: BucketHome, folder: Path) -> Iterator[list[str]]:
    """The URLs of the servers."""
    with ExitStack() as stack:
        serve = ("serve", "--port", "0")
        servers = [
            stack.enter_context(running(home.location, folder / "cache-0", *serve)),
            stack.enter_context(running(home.location, folder / "cache-1", *serve, "--no-ingest")),
            stack.enter_context(running(home.location, folder / "cache-1", *serve, "--no-ingest")),  # they share one
        ]
        for number in range(4):
            stack.enter_context(running(home.location, folder / f"watch-{number}", "watch"))
        yield [url_of(server) for server in servers]


def test_instances(moto_bucket: Bucket, tmp_path: Path) -> None:
    home = BucketHome(moto_bucket, tmp_path / "staging")
    with instances(home, tmp_path) as urls:
        readers = [Reader(url) for url in urls]
        try:
            for turn in range(ROUNDS):
                for place, name in enumerate(DATASETS):
                    home.drop(f"{name}/results.parquet", parquet(10 * turn + place), 0)
                wait_until(readers, turn + 1)
        finally:
            for reader in readers:
                reader.close()
        witness = Witness(home)
        witness.check()
        check_what_was_seen(witness, readers)
        compared = check_pinned(witness, urls)
        check_stream(home, urls)
    home.clear()
    home.close()
    answers = sum(reader.answers for reader in readers)
    tried({"versions": ROUNDS * len(DATASETS), "answers": answers, "pinned bodies": compared})


def wait_until(readers: list[Reader], count: int) -> None:
    """Until each server gives the newest version of each dataset."""
    deadline = time.monotonic() + PATIENCE_S
    while any(len(reader.seen[name]) < count for reader in readers for name in DATASETS):
        assert not [wrong for reader in readers for wrong in reader.wrong]
        assert time.monotonic() < deadline, [(reader.seen, reader.asked, reader.last) for reader in readers]
        time.sleep(0.05)


def check_what_was_seen(witness: Witness, readers: list[Reader]) -> None:
    for name in DATASETS:
        kinds = [record["kind"] for record in witness.records[name]]
        assert kinds == ["publish"] * ROUNDS, "one drop, one version"
        for reader in readers:
            assert not reader.wrong
            assert reader.seen[name] == sorted(witness.model(name).versions), "in order, none twice, none left out"


def check_pinned(witness: Witness, urls: list[str]) -> int:
    """Every version is given by each server in the same bytes, under the same ETag."""
    compared = 0
    with ExitStack() as stack:
        clients = [stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=60)) for url in urls]
        for name in DATASETS:
            for number in witness.model(name).versions:
                for accept in ("application/json", ARROW):
                    answers = [
                        client.get(
                            f"/api/datasets/{name}/rows", params={"version": f"v{number}"}, headers={"Accept": accept}
                        )
                        for client in clients
                    ]
                    assert {answer.status_code for answer in answers} == {200}
                    assert len({answer.content for answer in answers}) == 1
                    assert len({answer.headers["etag"] for answer in answers}) == 1
                    assert all("immutable" in answer.headers["cache-control"] for answer in answers)
                    compared += len(answers)
    return compared


def check_stream(home: BucketHome, urls: list[str]) -> None:
    """A long answer that began before a publish is of one version to its end."""
    home.drop("long/results.parquet", parquet(1, 400_000), 0)
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(httpx.Client(base_url=url, trust_env=False, timeout=60)) for url in urls[:2]
        )
        deadline = time.monotonic() + PATIENCE_S
        for client in (first, second):
            while client.get("/api/datasets/long/rows", params={"limit": "1"}).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        accept = {"Accept": "application/x-ndjson", "Accept-Encoding": "identity"}
        with first.stream("GET", "/api/datasets/long/rows", headers=accept) as stream:
            pieces = stream.iter_bytes(1 << 16)
            got = [next(pieces)]
            home.drop("long/results.parquet", parquet(2, 1_000), 0)
            while "v2" not in first.get("/api/datasets/long/rows", params={"limit": "1"}).text:
                assert time.monotonic() < deadline + PATIENCE_S
                time.sleep(0.1)
            got += pieces
        pinned = second.get("/api/datasets/long/rows", params={"version": "v1"}, headers=accept)
        assert b"".join(got) == pinned.content
        assert pinned.content.count(b"\n") >= 400_000
