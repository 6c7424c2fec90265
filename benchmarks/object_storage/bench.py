"""What every scenario is given: the storage, the systems, the sizes of this run, and where findings go."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.measure import Effort
from benchmarks.object_storage.findings import Findings
from benchmarks.object_storage.home import Home, StoredFile
from benchmarks.object_storage.material import Material
from benchmarks.object_storage.systems import (
    OTHERS,
    OURS,
    Answer,
    Asked,
    Question,
    Rows,
    difference,
    start_other,
    start_ours,
)
from benchmarks.process import ServerError


@dataclass(frozen=True, slots=True)
class Plan:
    """How large, and how often.

    ``small_bytes`` … are sizes of published files; ``cache_bytes`` is what the server may keep of the large dataset.
    """

    small_bytes: float
    medium_bytes: float
    large_bytes: float
    cache_bytes: int
    repeat: int  # of what needs a fresh process
    warm: int  # repeated questions to each of those
    poll_s: float  # between polls while they are counted
    watch_s: float  # how long that is
    blocks: int  # of the comparison with a local store, each
    effort: Effort


FULL = Plan(
    15e6, 150e6, 2e9, 256_000_000, repeat=3, warm=10, poll_s=1, watch_s=20, blocks=6, effort=Effort(20, 200, 4.0)
)
QUICK = Plan(
    15e6, 150e6, 200e6, 32_000_000, repeat=1, warm=3, poll_s=1, watch_s=5, blocks=2, effort=Effort(10, 40, 1.5)
)


@dataclass(slots=True)
class Bench:
    """One run. ``pythons`` names the other systems that take part, each with the Python that runs it."""

    home: Home
    plan: Plan
    scratch: Path
    definitions: Path
    pythons: Mapping[str, Path]
    findings: Findings
    say: Callable[[str], None]
    files: dict[str, tuple[StoredFile, ...]] = field(default_factory=dict)  # of each published dataset
    answers: dict[Question, Rows] = field(default_factory=dict)  # the first that was given, which others must equal

    @property
    def systems(self) -> list[str]:
        return [OURS, *(name for name in OTHERS if name in self.pythons)]

    @contextmanager
    def start(self, system: str, dataset: str, settings: Mapping[str, str] | None = None) -> Iterator[Asked]:
        """A fresh process of a system, over the objects of a dataset; what its memory peaked at is noted for ours."""
        if system == OURS:
            given = {**self.home.settings(dataset), "BT_DEFINITIONS": str(self.definitions), **(settings or {})}
            starting = start_ours(given["BT_STORE"], self.scratch, given)
        else:
            starting = start_other(system, self.pythons[system], self.home, self.files[dataset], self.scratch)
        with starting as asked:
            self.findings.versions.update(asked.versions)
            try:
                yield asked
            finally:
                if system == OURS:
                    self.findings.peak("server", asked.process.peak_bytes())

    def ask(self, system: str, asked: Asked, question: Question) -> Answer:
        """An answer; one that differs from the first that was given to that question is a problem."""
        answer = asked.ask(question)
        found = difference(self.answers.setdefault(question, answer.rows), answer.rows)
        if found is not None:
            self.findings.problems.append(f"{system} answers {question.path} otherwise: {found}")
        return answer

    @contextmanager
    def guarded(self, what: str, system: str = OURS) -> Iterator[None]:
        """A failure of ours is a problem; one of another system is said, and it is a finding."""
        self.say(f"{what}: {system}")
        try:
            yield
        except (ServerError, OSError, ValueError, KeyError) as error:
            text = f"{what}: {type(error).__name__}: {str(error)[:500]}"
            if system == OURS:
                self.findings.problems.append(text)
            else:
                earlier = self.findings.missing.get(system)
                self.findings.missing[system] = f"{earlier}; {text}" if earlier else text


def median(values: list[float]) -> float | None:
    return statistics.median(values) if values else None


def spread(values: list[float]) -> float | None:
    """How far apart the repeats lie, as a share of the smallest: the noise."""
    return (max(values) - min(values)) / min(values) if len(values) > 1 else None


def materials(plan: Plan) -> tuple[Material, Material, Material]:
    """The small, the medium and the large dataset."""
    return (
        Material.of_size("small", plan.small_bytes),
        Material.of_size("medium", plan.medium_bytes),
        Material.of_size("large", plan.large_bytes),
    )
