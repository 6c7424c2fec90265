"""One run over both servers: agreement first, then latency, full loads and throughput, the servers taking turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from benchmarks.agreement import DisagreementError, check_agreement
from benchmarks.machine import available_bytes
from benchmarks.measure import CLIENTS, Block, Effort, Rate, Series, measure_block, measure_rate
from benchmarks.process import Server, ServerError
from benchmarks.results import Memory, Outcome, Results
from benchmarks.workload import Scenario

_LIGHT, _HEAVY, _WHOLE = Effort(20, 400, 2.0), Effort(3, 40, 3.0), Effort(2, 5, 5.0)
_QUICK_LIGHT, _QUICK_HEAVY, _QUICK_WHOLE = Effort(3, 100, 0.4), Effort(1, 10, 0.5), Effort(1, 2, 1.0)
_ONCE = Effort(1, 1, 0.0)
_RATE, _QUICK_RATE = Effort(1, 5_000, 2.0), Effort(1, 1_000, 0.7)
_QUICK_RATES_OF = ("small", "two-curves")
_QUICK_CLIENTS = (8,)

#: The seed's way holds a whole frame, and what reading it takes, per request in flight. Below this much free memory
#: per client it is left out, rather than have the system kill something.
_SEED_BYTES_PER_CLIENT = 500_000_000


class Campaign:
    """Measures scenarios at our server and, when there is one, at the seed's."""

    def __init__(
        self, ours: Server, seed: Server | None, *, quick: bool, repeat: int, say: Callable[[str], None]
    ) -> None:
        self._ours, self._seed = ours, seed
        self._quick, self._repeat, self._say = quick, repeat, say

    def run(self, scenarios: Iterable[Scenario], results: Results) -> None:
        """Fill ``results``. A scenario that fails or disagrees is noted there with its reason, and the rest goes on.

        Memory sticks to a process, so the phases go from the least demanding to the most.
        """
        results.outcomes.extend(Outcome(scenario) for scenario in scenarios if not self._skips(scenario))
        for server in self._servers():
            results.memory[server.name] = Memory(idle=server.resident_bytes())
        views = [outcome for outcome in results.outcomes if not outcome.scenario.whole]
        loads = [outcome for outcome in results.outcomes if outcome.scenario.whole]
        for outcome in self._guarded(views, "latency"):
            self._latency(outcome, results)
        self._note_peaks(results, views, "views")
        for outcome in self._guarded(loads, "full load"):
            self._latency(outcome, results)
        self._note_peaks(results, loads, "whole")
        for clients in _QUICK_CLIENTS if self._quick else CLIENTS:
            for outcome in self._guarded([one for one in views if self._has_rate(one)], f"{clients} clients"):
                self._throughput(outcome, clients, results)

    def _servers(self) -> list[Server]:
        return [self._ours] if self._seed is None else [self._ours, self._seed]

    def _skips(self, scenario: Scenario) -> bool:
        """Seconds of pandas for a full load as JSON: not when it should be quick."""
        return self._quick and scenario.whole and scenario.encoding == "json"

    def _has_rate(self, outcome: Outcome) -> bool:
        return outcome.scenario.light and (not self._quick or outcome.scenario.name in _QUICK_RATES_OF)

    def _guarded(self, outcomes: Iterable[Outcome], what: str) -> Iterator[Outcome]:
        for outcome in outcomes:
            if outcome.problem is None:
                self._say(f"{what}: {outcome.scenario.name}")
                yield outcome

    def _latency(self, outcome: Outcome, results: Results) -> None:
        scenario = outcome.scenario
        try:
            outcome.rows = check_agreement(scenario, self._ours, self._seed)
            for turn in range(self._repeat):
                outcome.ours.blocks.append(measure_block(scenario, self._ours, self._effort(scenario)))
                if self._seed is not None and scenario.asks_seed and (turn == 0 or not scenario.whole):
                    outcome.seed.blocks.append(self._seed_block(scenario, self._seed))
            _check_counts(outcome, results)
        except (DisagreementError, ServerError, OSError, ValueError, KeyError) as error:
            outcome.problem = f"{type(error).__name__}: {error}"
            self._end_if_gone()

    def _seed_block(self, scenario: Scenario, seed: Server) -> Block:
        if scenario.whole:
            return measure_block(scenario, seed, _ONCE, warm_up=0)
        return measure_block(scenario, seed, self._effort(scenario), warm_up=1)

    def _throughput(self, outcome: Outcome, clients: int, results: Results) -> None:
        effort = _QUICK_RATE if self._quick else _RATE
        for _ in range(self._repeat):
            for server, series in self._sides(outcome):
                if server.name == "seed" and _is_too_much(clients):
                    self._say(f"too little free memory for the seed's way under {clients} clients; left out")
                    continue
                try:
                    rate = measure_rate(outcome.scenario, server, clients, effort)
                except (ServerError, OSError) as error:
                    outcome.problem = f"{clients} clients at {server.name}: {error}"
                    self._end_if_gone()
                    return
                series.rates.append(rate)
                _note_rate(results.memory[server.name], rate)

    def _sides(self, outcome: Outcome) -> list[tuple[Server, Series]]:
        sides = [(self._ours, outcome.ours)]
        if self._seed is not None and outcome.scenario.asks_seed:
            sides.append((self._seed, outcome.seed))
        return sides

    def _effort(self, scenario: Scenario) -> Effort:
        if scenario.whole:
            return _QUICK_WHOLE if self._quick else _WHOLE
        if scenario.light:
            return _QUICK_LIGHT if self._quick else _LIGHT
        return _QUICK_HEAVY if self._quick else _HEAVY

    def _end_if_gone(self) -> None:
        """Raises ServerError: without its servers a run cannot go on."""
        for server in self._servers():
            server.check()

    def _note_peaks(self, results: Results, outcomes: list[Outcome], phase: str) -> None:
        for name, memory in results.memory.items():
            peaks = [(outcome.ours if name == "ours" else outcome.seed).peak_bytes for outcome in outcomes]
            setattr(memory, phase, max((peak for peak in peaks if peak is not None), default=None))


def _check_counts(outcome: Outcome, results: Results) -> None:
    """What ``check_agreement`` left: a full load's rows at the seed, and a format's rows against its JSON."""
    scenario = outcome.scenario
    if scenario.whole and outcome.seed.blocks and outcome.seed.blocks[0].rows != outcome.rows:
        raise DisagreementError(f"{outcome.rows:,} rows from ours, {outcome.seed.blocks[0].rows:,} from the seed's way")
    like = results.outcome(scenario.like) if scenario.like else None
    if like is not None and like.rows is not None and like.rows != outcome.rows:
        raise DisagreementError(f"{outcome.rows:,} rows, and {like.rows:,} as {like.scenario.name!r}")


def _note_rate(memory: Memory, rate: Rate) -> None:
    if rate.peak_bytes is not None:
        memory.clients[rate.clients] = max(rate.peak_bytes, memory.clients.get(rate.clients, 0))


def _is_too_much(clients: int) -> bool:
    free = available_bytes()
    return free is not None and free < clients * _SEED_BYTES_PER_CLIENT
