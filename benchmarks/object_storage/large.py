"""A dataset eight times the size of the disk cache: one metric of it, and all of it."""

from __future__ import annotations

from typing import Any

from benchmarks.object_storage.bench import Bench
from benchmarks.object_storage.findings import Column, Table, megabytes, number
from benchmarks.object_storage.home import Traffic, matching_bytes
from benchmarks.object_storage.material import METRICS, Material
from benchmarks.object_storage.systems import OURS, Asked, Question

NEAR = 1.1  # bytes fetched against the sizes of the files that match
_ASKED = (METRICS[27], METRICS[5], METRICS[48])

_COLUMNS = (
    Column("question", "question"),
    Column("system", "system"),
    Column("ms", "ms", number),
    Column("requests", "requests"),
    Column("fetched_bytes", "MB fetched", megabytes),
    Column("matching_bytes", "MB of files that match", megabytes),
    Column("ratio", "fetched / match", number),
    Column("peak_bytes", "peak MB", megabytes),
)


def measure_large(bench: Bench, material: Material) -> None:
    """One process of each system is asked one thing after the other."""
    files = bench.files.get(material.name)
    if files is None:
        return
    stored = sum(file.size for file in files)
    table = Table(
        "large",
        "Larger than the cache",
        f"{stored / 1e6:,.0f} MB in {len(files)} files of at most {max(file.size for file in files) / 1e6:,.0f} MB; "
        f"our server may keep {bench.plan.cache_bytes / 1e6:,.0f} MB (`BT_CACHE_BYTES`), the others keep nothing. One "
        "process of each, asked in this order; *peak* is the most resident memory during that answer. Our time limit "
        "for a query is set to 600 s, so that none is cut off.",
        _COLUMNS,
    )
    bench.findings.tables.append(table)
    for system in bench.systems:
        with bench.guarded("large", system):
            _ask_all(bench, material, system, table)
    _expect(bench, table)


def _ask_all(bench: Bench, material: Material, system: str, table: Table) -> None:
    steps = [
        *((f"one-metric, {metric}", Question.about(material, "one-metric", metric)) for metric in _ASKED),
        (f"again, {_ASKED[-1]}", Question.about(material, "one-metric", _ASKED[-1])),
        ("group-by of everything", Question.about(material, "group-by")),
        ("group-by, again", Question.about(material, "group-by")),
    ]
    settings = {"BT_CACHE_BYTES": str(bench.plan.cache_bytes), "BT_POLL_INTERVAL": "3600", "BT_QUERY_TIMEOUT": "600"}
    mark = bench.home.mark()
    with bench.start(system, material.name, settings) as asked:
        bench.home.settle()
        started = bench.home.since(mark)
        table.records.append(_start(system, asked, started))
        for name, question in steps:
            asked.process.reset_peak()
            mark = bench.home.mark()
            answer = bench.ask(system, asked, question)
            bench.home.settle()
            traffic = bench.home.since(mark)
            peak = asked.process.peak_bytes()
            if system == OURS:
                bench.findings.peak("server", peak)
            table.records.append(_record(bench, name, question, system, answer.ms, traffic, peak))


def _start(system: str, asked: Asked, traffic: Traffic) -> dict[str, Any]:
    """What is fetched before anything is asked."""
    return {
        "question": "start",
        "system": system,
        "ms": asked.start_s * 1000,
        "requests": traffic.requests,
        "fetched_bytes": traffic.bytes_down,
        "matching_bytes": None,
        "ratio": None,
        "peak_bytes": asked.process.peak_bytes(),
    }


def _record(
    bench: Bench, name: str, question: Question, system: str, ms: float, traffic: Traffic, peak: int | None
) -> dict[str, Any]:
    files = bench.files[question.dataset]
    everything = sum(file.size for file in files)
    matching = matching_bytes(files, question.metric) if question.kind == "one-metric" else everything
    return {
        "question": name,
        "system": system,
        "ms": ms,
        "requests": traffic.requests,
        "fetched_bytes": traffic.bytes_down,
        "matching_bytes": matching,
        "ratio": traffic.bytes_down / matching,
        "peak_bytes": peak,
    }


def _expect(bench: Bench, table: Table) -> None:
    ratios = [
        record["ratio"]
        for record in table.records
        if record["system"] == OURS and record["question"].startswith("one-metric")
    ]
    if ratios:
        bench.findings.expect(
            max(ratios) <= NEAR,
            f"one metric of the large dataset fetches {max(ratios):.2f} times the files that match, at most {NEAR} "
            "expected",
        )
