"""One run over all systems: agreement first, then latency, full loads and throughput, the systems taking turns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.agreement import DisagreementError, Sample, check_agreement, compare_rows, take_sample
from benchmarks.client import Client
from benchmarks.machine import available_bytes
from benchmarks.measure import Block, Effort, Rate, Series, measure_calls, measure_rate, measure_requests, settle
from benchmarks.process import ServerError
from benchmarks.raw_duckdb import RawDuckDB
from benchmarks.results import Memory, Outcome, Results
from benchmarks.systems import BARE, CACHED, OURS, RAW, SEED, Bare, NotAskedError, System
from benchmarks.workload import Scenario, named

#: The seed's way holds a whole frame, and what reading it takes, per request in flight. Below this much free memory
#: per client it is left out, rather than have the system kill something.
_SEED_BYTES_PER_CLIENT = 500_000_000
#: For any other: what must be free before many clients ask at once.
_FREE_BYTES = 4_000_000_000

_FAILURES = (DisagreementError, ServerError, OSError, ValueError, KeyError, TypeError, LookupError)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is asked.

    Attributes
    ----------
    repeat
        Blocks of each system.
    ours_s, others_s
        How long a block lasts, of ours and of each other.
    once_ms
        A system that takes longer for an answer is asked once.
    rate_s, patience_s
        How long many clients go on asking, and wait.
    clients
        How many those are, in turn.
    rates_of
        Scenarios with throughput; empty for all but full loads.
    warm_ups
        Requests that our server has had before anything is measured, so that it has found out what is asked often.
    sample_ms
        A system that takes longer for the first question is not asked the last one before it is timed.
    seed_loads
        Whether the seed's way is asked for full loads, which takes it half a minute.
    """

    repeat: int
    ours_s: float
    others_s: float
    once_ms: float
    rate_s: float
    patience_s: float
    clients: tuple[int, ...]
    rates_of: tuple[str, ...] = ()
    warm_ups: int = 200
    sample_ms: float = 1_000
    seed_loads: bool = True

    def effort(self, name: str, slowest_ms: float) -> Effort:
        """One block of a system that answered the untimed question in ``slowest_ms``."""
        seconds = self.ours_s if name in (OURS, CACHED) else self.others_s
        least = 10 if slowest_ms < 20 else 4 if slowest_ms < 200 else 2
        return Effort(least, 20_000, seconds)


FULL = Plan(repeat=2, ours_s=1.0, others_s=0.5, once_ms=3_000, rate_s=0.8, patience_s=5.0, clients=(8, 32))
QUICK = Plan(
    repeat=1,
    ours_s=0.25,
    others_s=0.1,
    once_ms=60,
    rate_s=0.4,
    patience_s=2.0,
    clients=(8,),
    rates_of=("health", "small", "small-cached", "filter", "slice"),
    sample_ms=60,
    seed_loads=False,
)


@dataclass(slots=True)
class Field:
    """Those that take part. ``raw`` and ``bare`` are the limit; ``cached`` is ours with its cache of answers on."""

    ours: System
    cached: System | None = None
    bare: Bare | None = None
    raw: RawDuckDB | None = None
    others: list[System] = field(default_factory=list)

    def ours_for(self, scenario: Scenario) -> System:
        return self.cached if scenario.keeps_answers and self.cached is not None else self.ours

    def systems(self) -> list[System]:
        own = [self.ours, self.cached, self.bare]
        return [*(system for system in own if system is not None), *self.others]


@dataclass(slots=True)
class Lane:
    """One system's way through one scenario."""

    system: System
    requests: list[bytes]
    sample: Sample
    sampled: Block  # what the untimed questions took, for who is asked once

    def forget_bodies(self) -> None:
        """One may have 300 MB."""
        self.sample = replace(self.sample, replies=())


class Campaign:
    """Measures scenarios at all systems of a field."""

    def __init__(self, field: Field, plan: Plan, scratch: Path, say: Callable[[str], None]) -> None:
        self._field, self._plan, self._scratch, self._say = field, plan, scratch, say
        self._lanes: dict[str, list[Lane]] = {}
        self._gone: set[str] = set()

    def run(self, scenarios: Iterable[Scenario], results: Results) -> None:
        """Fill ``results``. A scenario that fails or disagrees is noted there with its reason, and the rest goes on.

        Memory sticks to a process, so the phases go from the least demanding to the most.
        """
        results.outcomes.extend(Outcome(scenario) for scenario in scenarios if self._takes(scenario))
        for system in self._field.systems():
            results.memory[system.name] = Memory(idle=system.server.resident_bytes())
        self._warm_up()
        for phase, whole in (("views", False), ("whole", True)):
            outcomes = [outcome for outcome in results.outcomes if outcome.scenario.whole == whole]
            for outcome in self._guarded(outcomes, "full load" if whole else "latency"):
                self._latency(outcome, phase, results)
        views = [outcome for outcome in results.outcomes if not outcome.scenario.whole]
        for clients in self._plan.clients:
            for outcome in self._guarded([one for one in views if self._has_rate(one)], f"{clients} clients"):
                self._throughput(outcome, clients, results)

    def _takes(self, scenario: Scenario) -> bool:
        return not scenario.keeps_answers or self._field.cached is not None

    def _has_rate(self, outcome: Outcome) -> bool:
        chosen = self._plan.rates_of
        return not chosen or outcome.scenario.name in chosen

    def _guarded(self, outcomes: Iterable[Outcome], what: str) -> Iterator[Outcome]:
        for outcome in outcomes:
            if outcome.problem is None:
                self._say(f"{what}: {outcome.scenario.name}")
                yield outcome

    def _warm_up(self) -> None:
        """Until our server has found out what is asked often, and is done with what it does about it."""
        for system in (self._field.ours, self._field.cached):
            if system is None:
                continue
            requests = system.requests(named("filter"))
            for _ in range(2):
                with Client(system.server.port) as client:
                    for request in requests[-self._plan.warm_ups :]:
                        client.send(request)
                settle(system.server, 60)

    def _latency(self, outcome: Outcome, phase: str, results: Results) -> None:
        ours = self._field.ours_for(outcome.scenario)
        try:
            lane = self._enter(ours, outcome)
            _check_format(outcome, results)
        except (*_FAILURES, NotAskedError) as error:
            outcome.problem = f"{type(error).__name__}: {error}"
            ours.server.check()  # without it a run cannot go on
            return
        lanes = [lane, *self._other_lanes(outcome, lane)]
        asks_raw = self._asks_raw(outcome, lane)
        for turn in range(self._plan.repeat):
            for one in list(lanes):
                if not self._block(outcome, one, turn):
                    lanes.remove(one)
            if asks_raw and self._field.raw is not None:
                self._raw_block(outcome, self._field.raw, turn)
        self._lanes[outcome.scenario.name] = lanes
        for name, series in outcome.series.items():
            if name in results.memory:
                results.memory[name].at_least(phase, series.peak_bytes)

    def _enter(self, ours: System, outcome: Outcome) -> Lane:
        """Our own lane: what everybody else is compared with, and what the bare server replies."""
        scenario = outcome.scenario
        requests = ours.requests(scenario)
        lane = self._lane(ours, scenario, requests)
        outcome.rows = lane.sample.rows[0]
        if scenario.revalidate:
            if lane.sample.replies[0].status != 304:
                raise DisagreementError(f"what is unchanged was answered with {lane.sample.replies[0].status}")
            with Client(ours.server.port) as client:
                outcome.rows = ours.count_rows(scenario, bytes(client.get(scenario.paths[0]).body))
        if self._field.bare is not None:
            self._field.bare.learn(scenario, lane.sample.replies[0])
        lane.forget_bodies()
        return lane

    def _other_lanes(self, outcome: Outcome, ours: Lane) -> list[Lane]:
        found = []
        bare = [] if self._field.bare is None else [self._field.bare]
        for system in [*bare, *self._field.others]:
            if system.name in self._gone:
                continue
            if system.name == SEED and outcome.scenario.whole and not self._plan.seed_loads:
                outcome.cannot[SEED] = "it takes half a minute, so a full run asks it"
                continue
            try:
                lane = self._lane(system, outcome.scenario, system.requests(outcome.scenario))
                if system.name == BARE:
                    _check_size(ours, lane)
                else:
                    check_agreement(outcome.scenario, ours.sample, lane.sample)
                lane.forget_bodies()
                found.append(lane)
            except NotAskedError as error:
                outcome.cannot[system.name] = str(error)
            except Exception as error:  # a peer's own code may fail in any way, and is no failure of ours
                self._failed(outcome, system, error)
        return found

    def _lane(self, system: System, scenario: Scenario, requests: list[bytes]) -> Lane:
        server = system.server
        server.reset_peak()
        before = server.cpu_s()
        sample = take_sample(system, scenario, requests, self._plan.sample_ms)
        after = server.cpu_s()
        cpu = None if before is None or after is None else (after - before) * 1000 / len(sample.replies)
        first = sample.replies[0]
        block = Block((first.total_ms,), (first.first_ms,), len(first.body), cpu, server.peak_bytes())
        return Lane(system, requests, sample, block)

    def _asks_raw(self, outcome: Outcome, ours: Lane) -> bool:
        """Whether DuckDB alone is asked, which must give the same rows."""
        raw, scenario = self._field.raw, outcome.scenario
        if raw is None or scenario.is_bare or not scenario.questions:
            return False
        try:
            check_raw(raw, scenario, ours.sample)
        except Exception as error:  # such as DuckDB's own
            outcome.problems[RAW] = f"{type(error).__name__}: {error}"
            return False
        return True

    def _block(self, outcome: Outcome, lane: Lane, turn: int) -> bool:
        """One block; False when that was the last of this system."""
        name, slowest = lane.system.name, lane.sampled.median_ms
        series = outcome.series.setdefault(name, Series())
        if name not in (OURS, CACHED, BARE) and slowest > self._plan.once_ms:
            series.blocks.append(lane.sampled)
            return False
        effort = self._plan.effort(name, slowest)
        if outcome.scenario.whole and name not in (OURS, BARE) and self._plan.repeat > 1:
            effort = Effort(1, 20_000, effort.seconds)
        try:
            warm_up = 2 if slowest < 200 else 0  # the sample was one
            block = measure_requests(lane.requests, lane.system.server, effort, warm_up=warm_up, start=turn * 1_000)
        except _FAILURES as error:
            self._failed(outcome, lane.system, error)
            return False
        series.blocks.append(block)
        return True

    def _raw_block(self, outcome: Outcome, raw: RawDuckDB, turn: int) -> None:
        scenario = outcome.scenario
        questions = scenario.questions
        before = outcome.ours.percentile_ms(50) if outcome.ours.blocks else 0.0

        def call(number: int) -> float:
            return raw.time_ms(questions[number % len(questions)], scenario.encoding, whole=scenario.whole)

        block = measure_calls(call, self._plan.effort(RAW, before), start=turn * 1_000)
        outcome.series.setdefault(RAW, Series()).blocks.append(block)

    def _failed(self, outcome: Outcome, system: System, error: Exception) -> None:
        """Note it, and leave out for good what has gone; our own server's end is the end of the run."""
        words = f"{type(error).__name__}: {str(error)[:600]}"
        if system.name in (OURS, CACHED):
            outcome.problem = words
            system.server.check()
            return
        outcome.problems[system.name] = words
        try:
            system.server.check()
        except ServerError:
            self._gone.add(system.name)

    def _throughput(self, outcome: Outcome, clients: int, results: Results) -> None:
        for lane in self._lanes.get(outcome.scenario.name, []):
            series = outcome.series.get(lane.system.name)
            if lane.system.name in self._gone or series is None or not series.blocks:
                continue
            if not self._asks_many(outcome, lane, clients, series):
                continue
            try:
                rate = self._rate(lane, clients)
            except (ServerError, OSError) as error:
                self._failed(outcome, lane.system, error)
                continue
            series.rates.append(rate)
            results.memory[lane.system.name].at_least(str(clients), rate.peak_bytes)

    def _rate(self, lane: Lane, clients: int) -> Rate:
        plan, server = self._plan, lane.system.server
        rate = measure_rate(lane.requests, server, clients, plan.rate_s, plan.patience_s, self._scratch)
        if rate.cut:
            settle(server, 30)  # it goes on with what nobody waits for
        return rate

    def _asks_many(self, outcome: Outcome, lane: Lane, clients: int, series: Series) -> bool:
        """Ours always; others where it says something and the machine bears it."""
        name, light = lane.system.name, outcome.scenario.light
        if name in (OURS, CACHED):
            return True
        if name in (SEED, BARE) and not light:
            return False
        if clients != self._plan.clients[-1] and not light:
            return False
        if series.percentile_ms(50) > self._plan.patience_s * 500:
            return False  # two answers a client at most
        free = available_bytes()
        needed = clients * _SEED_BYTES_PER_CLIENT if name == SEED else _FREE_BYTES
        if free is not None and free < needed:
            self._say(f"too little free memory for {name!r} under {clients} clients; left out")
            return False
        return True


def check_raw(raw: RawDuckDB, scenario: Scenario, ours: Sample) -> None:
    """DuckDB alone must answer as our server did.

    Raises
    ------
    DisagreementError
        It has another number of rows, or other values in the columns that are compared.
    """
    if scenario.whole:
        return
    table = raw.ask(scenario.questions[0])
    if table.num_rows != ours.rows[0]:
        raise DisagreementError(f"{ours.rows[0]:,} rows from ours, {table.num_rows:,} from DuckDB alone")
    if ours.values[0] and scenario.compare:
        shown = [name for name in table.column_names if name in scenario.compare]
        compare_rows(RAW, scenario.compare, ours.values[0], table.select(shown).to_pylist())


def _check_size(ours: Lane, bare: Lane) -> None:
    if ours.sampled.size_bytes != bare.sampled.size_bytes:
        raise DisagreementError(
            f"{ours.sampled.size_bytes:,} bytes from ours, {bare.sampled.size_bytes:,} from the bare reply of them"
        )


def _check_format(outcome: Outcome, results: Results) -> None:
    """A format's rows against those of its JSON."""
    like = results.outcome(outcome.scenario.like) if outcome.scenario.like else None
    if like is not None and like.rows is not None and like.rows != outcome.rows:
        raise DisagreementError(f"{outcome.rows or 0:,} rows, and {like.rows:,} as {like.scenario.name!r}")
