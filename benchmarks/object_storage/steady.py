"""What it costs to know that nothing is new, and whether warm answers are as quick as from a folder."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import Series, measure_block
from benchmarks.object_storage.bench import Bench, median
from benchmarks.object_storage.findings import Column, Table, megabytes, number, share
from benchmarks.object_storage.home import Traffic
from benchmarks.object_storage.material import METRICS, Material
from benchmarks.object_storage.systems import OURS, Question
from benchmarks.workload import Scenario

SMALL_BYTES = 2_000  # of the answer to a refresh
NOISE = 0.10  # how far two medians may lie apart, or as far as the blocks of either lie, when that is more

_REFRESH_COLUMNS = (
    Column("process", "process"),
    Column("polls", "polls", number),
    Column("requests", "requests a poll", number),
    Column("bytes", "bytes a poll", number),
    Column("kinds", "which, a poll"),
)
_WARM_COLUMNS = (
    Column("question", "question"),
    Column("bucket_ms", "bucket, ms", number),
    Column("folder_ms", "folder, ms", number),
    Column("ratio", "bucket / folder", number),
    Column("bucket_spread", "spread, bucket", share),
    Column("folder_spread", "spread, folder", share),
    Column("requests", "requests of the bucket's"),
    Column("bucket_peak", "peak MB, bucket", megabytes),
    Column("folder_peak", "peak MB, folder", megabytes),
)


def measure_refresh(bench: Bench, material: Material) -> None:
    """Watch what a server that nobody asks sends to the bucket, with and without looking for drops."""
    table = Table(
        "refresh",
        "Nothing new",
        f"What a server with one dataset asks the bucket for in {bench.plan.watch_s:g} s when nothing changes, with "
        f"`BT_POLL_INTERVAL={bench.plan.poll_s:g}` so that there is something to count (15 by default).",
        _REFRESH_COLUMNS,
    )
    bench.findings.tables.append(table)
    for process, ingest in (("serves", "off"), ("serves and looks for drops", "on")):
        with bench.guarded(f"refresh, a server that {process}"):
            record = _watch(bench, material, process, ingest)
            table.records.append(record)
            if ingest == "off":
                requests, size = record["requests"], record["bytes"]
                bench.findings.expect(
                    requests <= 2.2 and size <= SMALL_BYTES,
                    f"a poll with nothing new takes {number(requests)} requests and {number(size)} bytes, expected 1 "
                    f"for the dataset, 1 to see which datasets there are, and at most {SMALL_BYTES:,} bytes",
                )


def _watch(bench: Bench, material: Material, process: str, ingest: str) -> dict[str, Any]:
    settings = {"BT_POLL_INTERVAL": f"{bench.plan.poll_s:g}", "BT_INGEST": ingest}
    with bench.start(OURS, material.name, settings) as asked:
        bench.ask(OURS, asked, Question.about(material, "one-metric"))
        bench.home.settle()
        time.sleep(2 * bench.plan.poll_s)  # what is new to the process itself
        mark = bench.home.mark()
        time.sleep(bench.plan.watch_s)
        seen = bench.home.proxy.seen[mark:]
    # A poll reads the log of each dataset once, which counts the polls better than the clock does.
    polls = max(1, sum(f"/{material.name}/_bt/log/" in one.path for one in seen))
    traffic = Traffic.of(seen)
    return {
        "process": process,
        "polls": polls,
        "requests": traffic.requests / polls,
        "bytes": traffic.bytes_down / polls,
        "kinds": ", ".join(f"{count / polls:.2g} {kind}" for kind, count in sorted(traffic.kinds.items())),
    }


def measure_warm(bench: Bench, material: Material) -> None:
    """The same files in the bucket and in a folder, two servers with the same settings, asked in turn (ABAB)."""
    if material.name not in bench.files:
        return
    table = Table(
        "warm",
        "Warm answers, against a folder",
        f"{material.name}: the same files in the bucket and in a local store, a server on each with the same settings "
        f"and the cache of answers off, {bench.plan.blocks} blocks on each in turn; 20 metrics in turn.",
        _WARM_COLUMNS,
    )
    bench.findings.tables.append(table)
    folder = bench.scratch / "folder"
    with bench.guarded("warm answers"):
        bench.home.copy(material.name, folder)
        polling = {"BT_POLL_INTERVAL": "3600"}
        local = {**polling, "BT_STORE": str(folder)}
        with (
            bench.start(OURS, material.name, polling) as bucket,
            bench.start(OURS, material.name, local) as beside,
        ):
            for scenario in _scenarios(material):
                table.records.append(_compare(bench, scenario, bucket.process, beside.process))
                _expect(bench, table.records[-1])


def _scenarios(material: Material) -> tuple[Scenario, ...]:
    one = tuple(Question.about(material, "one-metric", metric).path for metric in METRICS[20:40])
    everything = (Question.about(material, "group-by").path,)
    return Scenario("one-metric", "", one), Scenario("group-by", "", everything)


def _compare(bench: Bench, scenario: Scenario, bucket: Any, folder: Any) -> dict[str, Any]:
    sides = {"bucket": (bucket, Series()), "folder": (folder, Series())}
    for server, _ in sides.values():  # both have opened the files, and the bucket's have been fetched
        measure_block(scenario, server, bench.plan.effort)
    bench.home.settle()
    mark = bench.home.mark()
    for _ in range(bench.plan.blocks):
        for server, series in sides.values():
            series.blocks.append(measure_block(scenario, server, bench.plan.effort))
    medians = {name: median([block.median_ms for block in series.blocks]) for name, (_, series) in sides.items()}
    assert medians["bucket"] and medians["folder"]
    return {
        "question": scenario.name,
        "bucket_ms": medians["bucket"],
        "folder_ms": medians["folder"],
        "ratio": medians["bucket"] / medians["folder"],
        **{f"{name}_spread": series.spread for name, (_, series) in sides.items()},
        "requests": bench.home.since(mark).requests,
        **{f"{name}_peak": series.peak_bytes for name, (_, series) in sides.items()},
    }


def _expect(bench: Bench, record: dict[str, Any]) -> None:
    noise = max(NOISE, record["bucket_spread"], record["folder_spread"])
    bench.findings.expect(
        record["ratio"] <= 1 + noise,
        f"warm `{record['question']}` takes {record['ratio']:.2f} times as long as from a folder, at most "
        f"{1 + noise:.2f} expected (the noise)",
    )
