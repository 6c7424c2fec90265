"""Latency, throughput, memory and processor time of one scenario at one server. Decides nothing about what is fast."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.client import Client, count_rows
from benchmarks.process import Server
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
    first_ms: tuple[float, ...]
    size_bytes: int  # of the first answer
    rows: int  # of the last answer
    cpu_ms: float | None  # per request
    peak_bytes: int | None

    @property
    def median_ms(self) -> float:
        return statistics.median(self.total_ms)


@dataclass(frozen=True, slots=True)
class Rate:
    """What several clients at once were given."""

    clients: int
    per_s: float
    peak_bytes: int | None


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
        """Median time until the head of the answer."""
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
        """Requests per second, the median of the blocks; None when that was not measured."""
        measured = [rate.per_s for rate in self.rates if rate.clients == clients]
        return statistics.median(measured) if measured else None


def measure_block(scenario: Scenario, server: Server, effort: Effort, *, warm_up: int = WARM_UP) -> Block:
    """Ask in turn on one connection, after a warm-up that is not counted."""
    with Client(server.port) as client:
        headers = _headers(scenario, client)
        paths = itertools.cycle(scenario.paths)
        for _ in range(warm_up):
            client.get(next(paths), headers)
        server.reset_peak()
        cpu_before = server.cpu_s()
        total: list[float] = []
        first: list[float] = []
        size = 0
        for _ in _within(effort):
            reply = client.get(next(paths), headers)
            total.append(reply.total_ms)
            first.append(reply.first_ms)
            size = size or len(reply.body)
        cpu_after = server.cpu_s()
    peak = server.peak_bytes()
    server.check()
    rows = count_rows(reply.body, scenario.encoding)
    cpu = None if cpu_before is None or cpu_after is None else (cpu_after - cpu_before) * 1000 / len(total)
    return Block(tuple(total), tuple(first), size, rows, cpu, peak)


def measure_rate(scenario: Scenario, server: Server, clients: int, effort: Effort) -> Rate:
    """Requests per second to several clients at once, each with its own connection and its own place in the turn."""
    answered = [0] * clients
    ended = [0.0] * clients
    failures: list[Exception] = []
    ready = threading.Barrier(clients + 1)

    def work(number: int) -> None:
        try:
            with Client(server.port) as client:
                headers = _headers(scenario, client)
                start = number * len(scenario.paths) // clients
                paths = itertools.cycle(scenario.paths[start:] + scenario.paths[:start])
                ready.wait()
                for _ in _within(effort):
                    client.get(next(paths), headers)
                    answered[number] += 1
                    ended[number] = time.perf_counter()
        except Exception as error:  # told to the caller below: a thread's error would be lost
            failures.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(clients)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        ready.wait()
    began = time.perf_counter()
    server.reset_peak()
    for thread in threads:
        thread.join()
    server.check()
    if failures:
        raise failures[0]
    return Rate(clients, sum(answered) / (max(ended) - began), server.peak_bytes())


def _headers(scenario: Scenario, client: Client) -> dict[str, str]:
    """The ETag to send back, when that is what the scenario is about."""
    if not scenario.revalidate:
        return {}
    etag = client.get(scenario.paths[0]).etag
    return {"If-None-Match": etag} if etag else {}


def _within(effort: Effort) -> Iterator[int]:
    until = time.perf_counter() + effort.seconds
    for count in range(effort.most):
        if count >= effort.least and time.perf_counter() > until:
            return
        yield count
