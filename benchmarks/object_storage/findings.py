"""What a run found: tables of numbers, what was expected of them, and what failed. As JSON, and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import table

ABSENT = "–"
Cell = Callable[[Any], str]


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f}" if value >= 100e6 else f"{value / 1e6:.2f}"


def share(value: float) -> str:
    return f"{value:.0%}"


@dataclass(frozen=True, slots=True)
class Column:
    """A field of the records: its heading, and how it is written."""

    key: str
    head: str
    cell: Cell = str


@dataclass(slots=True)
class Table:
    """Records of one scenario, in order. ``note`` says what was done."""

    name: str
    title: str
    note: str
    columns: Sequence[Column]
    records: list[dict[str, Any]] = field(default_factory=list)

    def render(self) -> str:
        rows = [[_cell(record.get(column.key), column.cell) for column in self.columns] for record in self.records]
        return f"## {self.title}\n\n{self.note}\n\n{table([column.head for column in self.columns], rows)}"


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the issue asked for, and whether it was so. A missed one is reported, and is no failure: machines differ."""

    text: str
    met: bool


@dataclass(slots=True)
class Findings:
    """A whole run. ``peaks`` is the most resident memory of each of our processes."""

    about: dict[str, Any]
    tables: list[Table] = field(default_factory=list)
    expectations: list[Expectation] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # a system → why it takes no part
    peaks: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def expect(self, met: bool, text: str) -> None:
        self.expectations.append(Expectation(text, met))

    def peak(self, process: str, size_bytes: int | None) -> None:
        if size_bytes is not None:
            self.peaks[process] = max(size_bytes, self.peaks.get(process, 0))

    @property
    def failed(self) -> bool:
        """Whether ours failed, or an answer was wrong; that another system failed is a finding."""
        return bool(self.problems)

    def to_json(self) -> dict[str, Any]:
        return {
            "about": {**self.about, "versions": self.versions},
            "tables": {one.name: one.records for one in self.tables},
            "peak_bytes": self.peaks,
            "expectations": [{"text": one.text, "met": one.met} for one in self.expectations],
            "missing": self.missing,
            "problems": self.problems,
        }

    def render(self) -> str:
        """The report."""
        parts = [_heading(self.about, self.versions)]
        parts += [one.render() for one in self.tables if one.records]
        parts += [_list("What was expected", [f"{_verdict(one.met)}: {one.text}" for one in self.expectations])]
        parts += [_list("Took no part", [f"`{name}`: {why}" for name, why in self.missing.items()])]
        parts += [_list("Problems", self.problems)]
        return "\n\n".join(part for part in parts if part) + "\n"


def _heading(about: Mapping[str, Any], versions: Mapping[str, str]) -> str:
    machine = about["machine"]
    memory = machine["memory_bytes"]
    packages = {**machine["packages"], **versions}
    sentences = [
        f"{machine['processor']}, {machine['cores']} cores, {'?' if memory is None else round(memory / 1e9)} GB, "
        f"{machine['system']}, Python {machine['python']}; "
        f"{', '.join(f'{name} {version}' for name, version in packages.items())}.",
        f"Storage: {about['storage']}, on loopback, behind a proxy that adds {about['latency_ms']:.0f} ms to each "
        f"request and lets {about['bandwidth_mb_s']:.0f} MB/s pass in each direction.",
        f"Load of the machine: {about['load_before']} before, {about['load_after']} after; what is measured shares it "
        "with the storage and the proxy. Numbers are medians of the given repeats; MB are 10^6 bytes.",
    ]
    return f"# Object storage, benchmark of {about['at'][:10]}, commit {about['commit']}\n\n{' '.join(sentences)}"


def _cell(value: Any, cell: Cell) -> str:
    return ABSENT if value is None else cell(value)


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def _list(title: str, lines: Sequence[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines) if lines else ""
