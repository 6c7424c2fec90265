"""Latency, throughput, memory and processor time of one scenario at one server. Decides nothing about what is fast."""

from __future__ import annotations

import contextlib
import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.client import check_status
from benchmarks.load import write_requests
from benchmarks.process import Server, ServerError, environment
from benchmarks.wire import Connection, WireError, request_bytes
from benchmarks.workload import Scenario

WARM_UP = 2
CLIENTS = (1, 8, 32)


@dataclass(frozen=True, slots=True)
class Effort:
    """How long one block may take: until ``most`` requests or ``seconds``, but not fewer than ``least`` requests."""

    least: int
    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Block:
    """One block of requests in a row at one server, one client."""

    total_ms: tuple[float, ...]
    first_ms: tuple[float, ...]  # until the first byte of the body
    size_bytes: int  # of the first answer
    cpu_ms: float | None  # per request
    peak_bytes: int | None

    @property
    def median_ms(self) -> float:
        return statistics.median(self.total_ms)


@dataclass(frozen=True, slots=True)
class Rate:
    """What several clients at once were given.

    Attributes
    ----------
    per_s
        Whole answers per second.
    p50_ms, p95_ms, p99_ms
        What each waited; None when nobody was answered in time.
    refused
        Answers that were 503.
    cut
        Clients whose answer was not waited for: the server is too slow for this many.
    """

    clients: int
    per_s: float
    peak_bytes: int | None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    refused: int = 0
    cut: int = 0


@dataclass(slots=True)
class Series:
    """The blocks of one scenario at one server, and what follows from them."""

    blocks: list[Block] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)

    @property
    def latencies_ms(self) -> list[float]:
        return sorted(itertools.chain.from_iterable(block.total_ms for block in self.blocks))

    def percentile_ms(self, percent: float) -> float:
        """Of all blocks together, by linear interpolation."""
        values = self.latencies_ms
        position = (len(values) - 1) * percent / 100
        low = int(position)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (position - low)

    @property
    def first_ms(self) -> float:
        """Median time until the first byte of the body."""
        return statistics.median(itertools.chain.from_iterable(block.first_ms for block in self.blocks))

    @property
    def spread(self) -> float:
        """The noise: how far apart the blocks' medians are, as a share of the smallest."""
        medians = [block.median_ms for block in self.blocks]
        return (max(medians) - min(medians)) / min(medians)

    @property
    def cpu_ms(self) -> float | None:
        known = [block.cpu_ms for block in self.blocks if block.cpu_ms is not None]
        return statistics.mean(known) if known else None

    @property
    def peak_bytes(self) -> int | None:
        return max((block.peak_bytes for block in self.blocks if block.peak_bytes is not None), default=None)

    @property
    def size_bytes(self) -> int:
        return self.blocks[0].size_bytes

    def rate(self, clients: int) -> float | None:
        """Requests per second, the median of what was measured.

        One client asks again as soon as it is answered, so that its rate is in the blocks. None when not measured.
        """
        measured = [rate.per_s for rate in self.rates if rate.clients == clients]
        if not measured and clients == 1 and self.blocks:
            return 1000 / statistics.mean(self.latencies_ms)
        return statistics.median(measured) if measured else None


def measure_block(scenario: Scenario, server: Server, effort: Effort, *, warm_up: int = WARM_UP) -> Block:
    """Ask the paths of a scenario in turn, as they are."""
    requests = [request_bytes("GET", path) for path in scenario.paths]
    return measure_requests(requests, server, effort, warm_up=warm_up)


def measure_requests(
    requests: Sequence[bytes], server: Server, effort: Effort, *, warm_up: int = WARM_UP, start: int = 0
) -> Block:
    """Ask in turn on one connection, from request number ``start`` on, after a warm-up that is not counted.

    Raises
    ------
    ServerError
        When an answer is no answer, is not whole, or has another size than the first one to the same request.
    """
    turn = itertools.cycle([*requests[start % len(requests) :], *requests[: start % len(requests)]])
    with _errors_of(server), Connection(server.port) as connection:
        for _ in range(warm_up):
            request = next(turn)
            check_status(request, connection.ask(request, keep=False).answer.status)
        server.reset_peak()
        cpu_before = server.cpu_s()
        total: list[float] = []
        first: list[float] = []
        sizes: list[int] = []
        for _ in _within(effort):
            request = next(turn)
            timed = connection.ask(request, keep=False)
            answer = timed.answer
            if answer.status != 200:
                check_status(request, answer.status)
            total.append(timed.total_s * 1000)
            first.append(timed.first_s * 1000)
            sizes.append(answer.size_bytes)
        cpu_after = server.cpu_s()
    peak = server.peak_bytes()
    if len(requests) == 1 and len(set(sizes)) > 1:
        raise ServerError(f"one question to {server.name!r} had answers of {min(sizes):,} and {max(sizes):,} bytes")
    cpu = None if cpu_before is None or cpu_after is None else (cpu_after - cpu_before) * 1000 / len(total)
    return Block(tuple(total), tuple(first), sizes[0], cpu, peak)


def measure_calls(call: Callable[[int], float], effort: Effort, *, start: int = 0) -> Block:
    """The same of something in this process: ``call(number)`` does it and says how many milliseconds it took."""
    call(start)
    cpu_before = time.process_time()
    total = [call(start + 1 + number) for number in _within(effort)]
    cpu = (time.process_time() - cpu_before) * 1000 / len(total)
    return Block(tuple(total), tuple(total), 0, cpu, None)


def measure_rate(
    requests: Sequence[bytes], server: Server, clients: int, seconds: float, patience_s: float, scratch: Path
) -> Rate:
    """Whole answers per second to several clients at once, each with its own connection and its own place in the turn.

    They are one process of their own (``load.py``). After ``seconds`` nobody asks again; after ``patience_s`` nobody
    waits any longer.
    """
    path = scratch / "requests.bin"
    write_requests(path, list(requests))
    job = {
        "port": server.port,
        "requests": str(path),
        "clients": clients,
        "seconds": seconds,
        "patience_s": patience_s,
    }
    server.reset_peak()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks.load"],
        env=environment({}),
        input=json.dumps(job).encode(),
        capture_output=True,
        timeout=patience_s + 60,
        check=False,
    )
    server.check()
    found: dict[str, Any] = (
        json.loads(done.stdout) if done.returncode == 0 else {"error": done.stderr.decode(errors="replace")[-500:]}
    )
    if "error" in found:
        raise ServerError(f"{clients} clients at {server.name!r}: {found['error']}")
    p50_ms, p95_ms, p99_ms = [seconds * 1000 for seconds in found["waited_s"]] or [None, None, None]
    per_s = found["answered"] / found["elapsed_s"]
    return Rate(clients, per_s, server.peak_bytes(), p50_ms, p95_ms, p99_ms, found["refused"], found["cut"])


def settle(server: Server, most_s: float) -> None:
    """Wait until a server does nothing, such as copying a version into memory; not longer than ``most_s``."""
    until = time.monotonic() + most_s
    before = server.cpu_s()
    while time.monotonic() < until:
        time.sleep(0.25)
        now = server.cpu_s()
        if before is None or now is None or now - before < 0.02:
            return
        before = now


@contextlib.contextmanager
def _errors_of(server: Server) -> Iterator[None]:
    """What goes wrong on the wire is the server's error, told with its last words when it is gone."""
    try:
        yield
    except (WireError, OSError) as error:
        server.check()
        raise ServerError(f"{server.name}: {type(error).__name__}: {error}") from error
    server.check()


def _within(effort: Effort) -> Iterator[int]:
    until = time.perf_counter() + effort.seconds
    for count in range(effort.most):
        if count >= effort.least and time.perf_counter() > until:
            return
        yield count
