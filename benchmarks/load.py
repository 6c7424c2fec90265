"""``python -m benchmarks.load``: many clients in one thread of a process of their own, which says what they were given.

The job is JSON on stdin, and the requests are in a file that it names, so that the process imports the standard library
only and starts in 50 ms. It waits for all of its sockets at once (``selectors``): threads would fight for Python's
lock, and with the server for the machine.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.wire import RECEIVE_BYTES, Parser, WireError, open_socket


@dataclass(slots=True)
class Load:
    """The clients of one run, all asking one server.

    ``requests`` are asked in turn, each client beginning at another place. After ``seconds`` nobody asks again, and
    after ``patience_s`` nobody waits any longer.
    """

    port: int
    requests: list[bytes]
    clients: int
    seconds: float
    patience_s: float
    statuses: tuple[int, ...] = (200, 304)
    answered: int = 0
    size_bytes: int = 0
    refused: int = 0  # 503: too busy, and said so
    waited_s: list[float] = field(default_factory=list)
    _ended: float = 0.0

    def run(self) -> dict[str, Any]:
        """Ask until the time is over.

        Returns
        -------
        dict
            ``answered``, ``refused``, ``elapsed_s`` (until the last whole answer), ``size_bytes``, ``cut`` (answers
            that were not waited for), ``waited_s`` (percentiles 50, 95, 99) and ``cpu_s``, what all this cost.

        Raises
        ------
        WireError
            When an answer is not whole, or has another status.
        """
        with ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            clients = [stack.enter_context(closing(_Client(self, number))) for number in range(self.clients)]
            return self._run(selector, clients)

    def _run(self, selector: selectors.BaseSelector, clients: list[_Client]) -> dict[str, Any]:
        buffer = memoryview(bytearray(RECEIVE_BYTES))
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        began = self._ended = time.perf_counter()
        until, at_last = began + self.seconds, began + self.patience_s
        for client in clients:
            client.ask()
        busy = len(clients)
        while busy and (now := time.perf_counter()) < at_last:
            for key, _ in selector.select(at_last - now):
                client = key.data
                if client.receive(buffer):
                    if time.perf_counter() >= until:
                        selector.unregister(client.socket)
                        busy -= 1
                    elif client.must_open:
                        selector.unregister(client.socket)
                        client.close()
                        client.open()
                        selector.register(client.socket, selectors.EVENT_READ, client)
                        client.ask()
                    else:
                        client.ask()
        waited = sorted(self.waited_s)
        return {
            "answered": self.answered,
            "refused": self.refused,
            "cut": busy,
            "elapsed_s": (self._ended if busy == 0 else time.perf_counter()) - began,
            "size_bytes": self.size_bytes,
            "waited_s": [waited[min(len(waited) - 1, len(waited) * p // 100)] for p in (50, 95, 99)] if waited else [],
            "cpu_s": time.process_time(),
        }

    def note(self, parser: Parser, waited_s: float) -> None:
        """Count a whole answer."""
        status = parser.answer.status
        self._ended = time.perf_counter()
        if status == 503:
            self.refused += 1
        elif status not in self.statuses:
            raise WireError(f"answered with {status}: {bytes(parser.answer.kept or b'')[:300]!r}")
        else:
            self.answered += 1
            self.size_bytes += parser.answer.size_bytes
            self.waited_s.append(waited_s)


class _Client:
    """One connection with at most one request under way."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._next = number * len(load.requests) // load.clients
        self._began = 0.0
        self._parser = Parser(keep=False)
        self.must_open = False
        self.socket: socket.socket
        self.open()

    def close(self) -> None:
        self.socket.close()

    def open(self) -> None:
        self.socket = open_socket(self._load.port, None)
        self.must_open = False

    def ask(self) -> None:
        requests = self._load.requests
        request = requests[self._next % len(requests)]
        self._next += 1
        self._parser = Parser(keep=False)
        self._began = time.perf_counter()
        self.socket.sendall(request)

    def receive(self, buffer: memoryview) -> bool:
        """Take what is there; True when the answer is whole."""
        count = self.socket.recv_into(buffer)
        parser = self._parser
        if not (parser.close() if count == 0 else parser.feed(buffer[:count])):
            return False
        self.must_open = count == 0 or not parser.answer.keeps_alive
        self._load.note(parser, time.perf_counter() - self._began)
        return True


def main() -> None:
    """Run the job on stdin and print what came of it as JSON; an error is printed as ``{"error": …}``."""
    job = json.load(sys.stdin)
    requests = _requests(Path(job["requests"]))
    load = Load(job["port"], requests, job["clients"], job["seconds"], job["patience_s"])
    try:
        found = load.run()
    except (WireError, OSError) as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    json.dump(found, sys.stdout)


def write_requests(path: Path, requests: list[bytes]) -> None:
    """For ``requests`` of a job: the length of each on the first line, then all of them."""
    path.write_bytes(json.dumps([len(request) for request in requests]).encode() + b"\n" + b"".join(requests))


def _requests(path: Path) -> list[bytes]:
    head, _, rest = path.read_bytes().partition(b"\n")
    found, at = [], 0
    for length in json.loads(head):
        found.append(rest[at : at + length])
        at += length
    return found


if __name__ == "__main__":
    main()
