"""How fast ``bt publish`` is, where its time goes, and what memory it takes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.object_storage.bench import Bench, median, spread
from benchmarks.object_storage.findings import Column, Table, megabytes, number, share
from benchmarks.object_storage.material import Material, make_file
from benchmarks.process import Server, ServerError, end, environment

TIMEOUT_S = 3_600.0
LIMIT_BYTES = 512_000_000
_STEPS = ("start", "check", "order", "sort", "write", "describe", "upload", "end")
_SAID = {"checking": "check", "ordering": "order", "sorting": "sort", "writing": "write", "describing": "describe"}

_COLUMNS = (
    Column("dataset", "dataset"),
    Column("rows", "rows", "{:,}".format),
    Column("input_bytes", "input MB", megabytes),
    Column("stored_bytes", "stored MB", megabytes),
    Column("files", "files"),
    Column("seconds", "s", number),
    Column("spread", "spread", share),
    Column("mb_per_s", "MB/s", number),
    *(Column(f"{step}_s", step, number) for step in _STEPS),
    Column("requests", "requests"),
    Column("peak_bytes", "peak MB", megabytes),
    Column("peak_step", "in"),
)


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    steps: dict[str, float]
    requests: int
    peak_bytes: int | None
    peak_step: str  # in which it was reached


def measure_publishing(bench: Bench, materials: tuple[Material, ...], repeat: int) -> None:
    """Publish each material, the last one once; what is published under its own name stays for the other scenarios."""
    table = Table(
        "publish",
        "Publishing",
        "`bt publish` of one parquet file whose rows lie run after run, from the start of the process to its end. MB/s "
        "are of the input. Then where the time went, in seconds: *upload* lasts from the first data file to the last.",
        _COLUMNS,
    )
    bench.findings.tables.append(table)
    for material in materials:
        with bench.guarded(f"publish {material.name}"):
            source = make_file(material, bench.scratch.parent / "inputs")
            times = repeat if material is not materials[-1] else 1
            runs = [_publish(bench, material.name, source)]
            for number_of in range(1, times):
                again = Material(f"{material.name}-{number_of}", material.checkpoints)
                _define(bench.definitions, material.name, again.name)
                runs.append(_publish(bench, again.name, source))
                bench.home.remove(again.name)
            bench.files[material.name] = bench.home.files(material.name)
            table.records.append(_record(bench, material, source, runs))


def _record(bench: Bench, material: Material, source: Path, runs: list[_Run]) -> dict[str, object]:
    seconds = median([run.seconds for run in runs])
    assert seconds is not None
    files = bench.files[material.name]
    peaks = [run.peak_bytes for run in runs if run.peak_bytes is not None]
    for peak in peaks:
        bench.findings.peak("publish", peak)
    size = source.stat().st_size
    return {
        "dataset": material.name,
        "rows": material.rows,
        "input_bytes": size,
        "stored_bytes": sum(file.size for file in files),
        "files": len(files),
        "seconds": seconds,
        "spread": spread([run.seconds for run in runs]),
        "mb_per_s": size / 1e6 / seconds,
        **{f"{step}_s": median([run.steps[step] for run in runs if step in run.steps]) for step in _STEPS},
        "requests": runs[0].requests,
        "peak_bytes": max(peaks, default=None),
        "peak_step": max(runs, key=lambda run: run.peak_bytes or 0).peak_step,
    }


def _publish(bench: Bench, dataset: str, source: Path) -> _Run:
    """One publish, with the times at which its command line says that a step begins."""
    mark, timed = bench.home.mark(), len(bench.home.proxy.times)
    settings = {
        **bench.home.settings(dataset),
        "BT_ENV_FILE": "none",
        "BT_DEFINITIONS": str(bench.definitions),
        "BT_CACHE_DIR": str(bench.scratch / "publishing"),
    }
    log = bench.scratch / "publish.log"
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "server", "publish", dataset, str(source)],
        env=environment(settings),
        cwd=bench.scratch,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peaks: list[tuple[float, int]] = []
    watching = threading.Thread(target=_watch, args=(Server("publish", 0, process, log), peaks), daemon=True)
    watching.start()
    stopping = threading.Timer(TIMEOUT_S, process.kill)
    stopping.start()
    try:
        assert process.stderr is not None
        with process.stderr as errors, log.open("wb") as output:
            said: list[tuple[float, str]] = []
            for line in errors:
                output.write(line)
                said.append((time.monotonic(), line.decode(errors="replace").removeprefix("bt: ").strip()))
        process.wait()
        ended = time.monotonic()
    finally:
        stopping.cancel()
        end(process)
        watching.join()
    if process.returncode != 0:
        raise ServerError(f"`publish` ended with {process.returncode}: {'; '.join(text for _, text in said)[-500:]}")
    times = bench.home.proxy.times[timed:]
    uploads = [(first, last) for method, path, first, last in times if _is_upload(method, path)]
    steps = _steps(began, said, uploads, ended)
    peak = max((size for _, size in peaks), default=None)
    at = next((at for at, size in peaks if size == peak), ended)
    return _Run(ended - began, steps, bench.home.since(mark).requests, peak, _step_at(steps, at - began))


def _steps(
    began: float, said: list[tuple[float, str]], uploads: list[tuple[float, float]], ended: float
) -> dict[str, float]:
    """How long each step lasted, in order, from the moments at which it begins."""
    begins = {"start": began}
    for at, text in said:
        word = text.split(" ")[0]
        if word in _SAID:
            begins.setdefault(_SAID[word], at)
    if uploads:
        begins["upload"], begins["end"] = min(uploads)[0], max(last for _, last in uploads)
    order = sorted(begins, key=lambda step: begins[step])
    following = [*(begins[step] for step in order[1:]), ended]
    return {step: after - begins[step] for step, after in zip(order, following, strict=True)}


def _step_at(steps: dict[str, float], after_s: float) -> str:
    for step, seconds in steps.items():
        after_s -= seconds
        if after_s < 0:
            return step
    return _STEPS[-1]


def _is_upload(method: str, path: str) -> bool:
    return method == "PUT" and ("/_bt/data/" in path or "/_bt/meta/" in path)


def _watch(server: Server, peaks: list[tuple[float, int]]) -> None:
    """The kernel's high-water mark, while there is a process to ask about."""
    while server.process.poll() is None:
        peak = server.peak_bytes()
        if peak is not None:
            peaks.append((time.monotonic(), peak))
        time.sleep(0.05)


def _define(definitions: Path, of: str, name: str) -> None:
    (definitions / name).mkdir(exist_ok=True)
    (definitions / name / "dataset.toml").write_text((definitions / of / "dataset.toml").read_text())
