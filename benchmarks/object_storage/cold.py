"""Cold and warm time to the first answer, and what is fetched for it, for datasets that fit the cache."""

from __future__ import annotations

from typing import Any, Literal

from benchmarks.object_storage.bench import Bench, median, spread
from benchmarks.object_storage.findings import Column, Table, megabytes, number, share
from benchmarks.object_storage.material import Material
from benchmarks.object_storage.systems import OURS, Question

_KINDS: tuple[Literal["one-metric", "group-by"], ...] = ("one-metric", "group-by")

_COLUMNS = (
    Column("dataset", "dataset"),
    Column("stored_bytes", "MB", megabytes),
    Column("question", "question"),
    Column("system", "system"),
    Column("start_s", "start, s", number),
    Column("cold_ms", "cold, ms", number),
    Column("spread", "spread", share),
    Column("requests", "requests"),
    Column("fetched_bytes", "MB fetched", megabytes),
    Column("settled_bytes", "MB in all", megabytes),
    Column("warm_ms", "warm, ms", number),
    Column("warm_requests", "requests, warm", number),
    Column("warm_bytes", "MB, warm", megabytes),
    Column("peak_bytes", "peak MB", megabytes),
)


def measure_cold(bench: Bench, materials: tuple[Material, ...]) -> None:
    """A fresh process with nothing on its disk, for each system and question, in turn."""
    table = Table(
        "cold",
        "Cold and warm",
        "*start* is until the process could be asked, *cold* the first answer from then on; *requests* and *MB "
        "fetched* are those of both, and *MB in all* counts what was fetched afterwards (our server fetches what is in "
        "its store, asked or not). *warm* is the same question again in the same "
        f"process, with its requests per answer; medians of {bench.plan.warm}.",
        _COLUMNS,
    )
    bench.findings.tables.append(table)
    for material in materials:
        if material.name not in bench.files:
            continue
        for kind in _KINDS:
            question = Question.about(material, kind)
            runs: dict[str, list[dict[str, Any]]] = {system: [] for system in bench.systems}
            for _ in range(bench.plan.repeat):
                for system in bench.systems:
                    with bench.guarded(f"cold {material.name} {kind}", system):
                        runs[system].append(_once(bench, system, question))
            for system, measured in runs.items():
                if measured:
                    table.records.append(_record(bench, question, system, measured))
    warm = [record["warm_requests"] for record in table.records if record["system"] == OURS]
    if warm:
        bench.findings.expect(max(warm) == 0, f"{max(warm):g} requests for a warm answer, 0 expected")


def _once(bench: Bench, system: str, question: Question) -> dict[str, Any]:
    mark = bench.home.mark()
    # No poll may fall into what is measured: how often one comes, and what it costs, is measured by itself.
    with bench.start(system, question.dataset, {"BT_POLL_INTERVAL": "3600"}) as asked:
        answer = bench.ask(system, asked, question)
        traffic = bench.home.since(mark)
        bench.home.settle()
        settled = bench.home.since(mark)
        mark = bench.home.mark()
        warm = [bench.ask(system, asked, question).ms for _ in range(bench.plan.warm)]
        again = bench.home.since(mark)
        return {
            "start_s": asked.start_s,
            "cold_ms": answer.ms,
            "requests": traffic.requests,
            "fetched_bytes": traffic.bytes_down,
            "settled_bytes": settled.bytes_down,
            "warm_ms": median(warm),
            "warm_requests": again.requests / bench.plan.warm,
            "warm_bytes": again.bytes_down / bench.plan.warm,
            "peak_bytes": asked.process.peak_bytes() or 0,
        }


def _record(bench: Bench, question: Question, system: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    middle = {name: median([run[name] for run in runs]) for name in runs[0]}
    return {
        "dataset": question.dataset,
        "stored_bytes": sum(file.size for file in bench.files[question.dataset]),
        "question": question.kind,
        "system": system,
        **middle,
        "requests": round(middle["requests"] or 0),
        "spread": spread([run["cold_ms"] for run in runs]),
        "repeats": len(runs),
    }
