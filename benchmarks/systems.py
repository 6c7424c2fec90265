"""The systems of a run, all alike to whoever measures: the requests that ask a scenario, and the rows of an answer.

Ours and the seed's way have URLs in the workload; a peer spells the question in its own language (``peers/``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from benchmarks.client import Client, Reply, count_rows, rows_of
from benchmarks.process import Server, ServerError
from benchmarks.wire import request_bytes
from benchmarks.workload import IN_SEVERAL_FORMATS, Encoding, Scenario, url

if TYPE_CHECKING:
    from benchmarks.peers.peer import Peer

OURS, CACHED, SEED, BARE, RAW = "ours", "ours-cached", "seed", "bare", "raw"
OWN = (OURS, CACHED, BARE, RAW)  # not somebody else's way

#: A stored answer that is longer is replied as often as fills its size, so that the bare server needs no gigabytes.
STORED_BYTES = 64_000_000


class NotAskedError(Exception):
    """A system is not asked a scenario; the text says why."""


class System(Protocol):
    """One of those that are measured."""

    @property
    def name(self) -> str:
        """As in the report."""

    @property
    def server(self) -> Server:
        """Its process."""

    def requests(self, scenario: Scenario) -> list[bytes]:
        """What asks the scenario, in turn. Raises NotAskedError."""

    def count_rows(self, scenario: Scenario, body: bytes | bytearray) -> int:
        """How many rows an answer holds."""

    def rows(self, scenario: Scenario, body: bytes | bytearray) -> list[dict[str, Any]] | None:
        """The rows of an answer, to compare their values; None where only their number is known."""


@dataclass(frozen=True, slots=True)
class Ours:
    """This project's server."""

    server: Server

    @property
    def name(self) -> str:
        return self.server.name

    def requests(self, scenario: Scenario) -> list[bytes]:
        """With the cursor or the ETag that the scenario is about, asked for now."""
        paths: Sequence[str] = scenario.paths
        headers: dict[str, str] = {}
        if scenario.after is not None:
            with Client(self.server.port) as client:
                cursor = json.loads(client.get(scenario.after).body)["meta"]["next_cursor"]
            if cursor is None:
                raise NotAskedError(f"{scenario.after} is the last page")
            paths = [f"{path}&cursor={cursor}" for path in paths]
        if scenario.revalidate:
            with Client(self.server.port) as client:
                etag = client.get(paths[0]).etag
            if etag is None:
                raise ServerError(f"{paths[0]} was answered without an ETag")
            headers["If-None-Match"] = etag
        return [request_bytes("GET", path, headers) for path in paths]

    def count_rows(self, scenario: Scenario, body: bytes | bytearray) -> int:
        return count_rows(body, scenario.encoding)

    def rows(self, scenario: Scenario, body: bytes | bytearray) -> list[dict[str, Any]] | None:
        return _json_rows(scenario, body)


@dataclass(frozen=True, slots=True)
class Seed:
    """The seed's way: the same URLs, in JSON."""

    server: Server

    @property
    def name(self) -> str:
        return SEED

    def requests(self, scenario: Scenario) -> list[bytes]:
        if scenario.like is not None:
            raise NotAskedError("one format and no ETag: its JSON stands beside it")
        paths: Sequence[str] = scenario.paths
        if scenario.after is not None:  # it has no cursors
            paths = [url("/api/visualize/table", limit=1000, offset=scenario.questions[0].offset)]
        return [request_bytes("GET", path) for path in paths]

    def count_rows(self, scenario: Scenario, body: bytes | bytearray) -> int:
        return count_rows(body, scenario.encoding)

    def rows(self, scenario: Scenario, body: bytes | bytearray) -> list[dict[str, Any]] | None:
        return _json_rows(scenario, body)


@dataclass(frozen=True, slots=True)
class Other:
    """A peer that is being served.

    One without JSON is asked in Arrow, which is quicker, where no other scenario asks for that: ``in_arrow`` are those.
    """

    peer: Peer
    server: Server
    in_arrow: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        return self.peer.name

    def requests(self, scenario: Scenario) -> list[bytes]:
        from benchmarks.peers.peer import CannotError

        if scenario.revalidate or scenario.keeps_answers:
            raise NotAskedError(f"what it takes for `{scenario.like}` stands beside it")
        if not scenario.questions:
            raise NotAskedError("a question of ours alone")
        try:
            return self._asked(scenario, scenario.encoding)
        except CannotError as error:
            if scenario.encoding != "json" or scenario.name in IN_SEVERAL_FORMATS:
                raise NotAskedError(str(error)) from error
            words = str(error)
        try:
            requests = self._asked(scenario, "arrow")
        except CannotError:
            raise NotAskedError(words) from None
        self.in_arrow.add(scenario.name)
        return requests

    def _asked(self, scenario: Scenario, encoding: Encoding) -> list[bytes]:
        asks = [self.peer.ask(question, encoding) for question in scenario.questions]
        return [request_bytes(ask.method, ask.path, ask.headers, ask.body) for ask in asks]

    def count_rows(self, scenario: Scenario, body: bytes | bytearray) -> int:
        if not body or scenario.encoding == "nothing":
            return 0
        encoding: Encoding = "arrow" if scenario.name in self.in_arrow else scenario.encoding
        return self.peer.count_rows(bytes(body), encoding)

    def rows(self, scenario: Scenario, body: bytes | bytearray) -> list[dict[str, Any]] | None:
        if scenario.encoding != "json" or scenario.whole:
            return None
        return self.peer.rows(bytes(body))


class Bare:
    """What replies the bytes that our server gave (``bare_server.py``), with the same headers: nothing is faster."""

    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder

    @property
    def name(self) -> str:
        return BARE

    @property
    def server(self) -> Server:
        return self._server

    def learn(self, scenario: Scenario, reply: Reply) -> None:
        """Keep an answer of ours for this scenario."""
        store_answer(self._folder, scenario.name, reply)

    def requests(self, scenario: Scenario) -> list[bytes]:
        if not (self._folder / f"{scenario.name}.json").exists():
            raise NotAskedError("it has no answer of ours to reply")
        return [request_bytes("GET", f"/answers/{scenario.name}")]

    def count_rows(self, scenario: Scenario, body: bytes | bytearray) -> int:
        return 0  # its answers are compared by their size: the end of a long one is not the end of ours

    def rows(self, scenario: Scenario, body: bytes | bytearray) -> list[dict[str, Any]] | None:
        return None


def store_answer(folder: Path, name: str, reply: Reply) -> None:
    """For the bare server: the head as JSON, the beginning of the body beside it."""
    lines = reply.head.decode("latin-1").split("\r\n")[1:]
    headers = [line.partition(":")[::2] for line in lines]
    own = ("date", "server", "content-length", "transfer-encoding", "connection")  # it writes these itself
    about = {
        "status": reply.status,
        "headers": [[key, value.strip()] for key, value in headers if key.lower() not in own],
        "size_bytes": len(reply.body),
        "is_chunked": reply.is_chunked,
    }
    (folder / f"{name}.body").write_bytes(memoryview(reply.body)[:STORED_BYTES])
    (folder / f"{name}.json").write_text(json.dumps(about))


def _json_rows(scenario: Scenario, body: bytes | bytearray) -> list[dict[str, Any]] | None:
    if scenario.encoding != "json" or scenario.whole or not body:
        return None
    rows = rows_of(body, "json")
    return rows if isinstance(rows, list) else None
