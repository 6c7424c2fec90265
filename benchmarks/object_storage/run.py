"""``bt bench --object-storage``: start a storage, publish into it, ask it, and write down what was found."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

from benchmarks.machine import describe_machine, load, short_commit
from benchmarks.object_storage.bench import FULL, QUICK, Bench, materials
from benchmarks.object_storage.cold import measure_cold
from benchmarks.object_storage.environment import NoEnvironmentError, s3fs_python
from benchmarks.object_storage.findings import Findings
from benchmarks.object_storage.home import BANDWIDTH, LATENCY_S, open_home
from benchmarks.object_storage.large import measure_large
from benchmarks.object_storage.material import make_definitions
from benchmarks.object_storage.publishing import LIMIT_BYTES, measure_publishing
from benchmarks.object_storage.steady import measure_refresh, measure_warm
from benchmarks.object_storage.systems import OTHERS, python_of
from benchmarks.process import CHECKOUT
from tests.object_storage.servers import NoServerError

RECORDED = CHECKOUT / "benchmarks" / "results"
SCRATCH = CHECKOUT / "benchmarks" / "scratch"  # git ignores it
_BEGAN = time.monotonic()
SCENARIOS = ("cold", "large", "refresh", "warm")  # after the publishing that all of them need
_STORAGES = {"ceph": "Ceph's gateway (radosgw, in memory)", "moto": "moto's server"}


def main(argv: list[str]) -> int:
    """Run the benchmark.

    Returns
    -------
    int
        0; 1 when ours failed or an answer was wrong; 2 when the environment is; 130 when it was interrupted. A missed
        expectation, or another system that fails, is reported, and is no failure.
    """
    arguments = _parser().parse_args(argv)
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        return _run(arguments)
    except NoServerError as error:
        _say(str(error))
        return 2
    except KeyboardInterrupt:
        _say("interrupted; what it started is ended")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(arguments: argparse.Namespace) -> int:
    plan = QUICK if arguments.quick else FULL
    work = arguments.scratch / "object-storage"
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=work)))
        _say("starting a storage")
        home = stack.enter_context(open_home(arguments.storage))
        findings = Findings(_about(arguments, home.kind))
        datasets = materials(plan)
        bench = Bench(
            home=home,
            plan=plan,
            scratch=scratch,
            definitions=make_definitions(datasets, scratch / "definitions"),
            pythons=_others(arguments, findings),
            findings=findings,
            say=_say,
        )
        _measure(bench, arguments.only or list(SCENARIOS))
        findings.about["load_after"] = load()
    if not arguments.keep:
        shutil.rmtree(work / "inputs", ignore_errors=True)
    text = findings.render()
    print(text)
    _write(findings, text, arguments.output or (SCRATCH if arguments.quick or arguments.only else RECORDED))
    return 1 if findings.failed else 0


def _measure(bench: Bench, only: list[str]) -> None:
    small, medium, large = materials(bench.plan)
    published = (small, medium, large) if "large" in only else (small, medium)
    measure_publishing(bench, published, bench.plan.repeat)
    steps: dict[str, Callable[[], None]] = {
        "cold": lambda: measure_cold(bench, (small, medium)),
        "large": lambda: measure_large(bench, large),
        "refresh": lambda: measure_refresh(bench, small),
        "warm": lambda: measure_warm(bench, medium),
    }
    for name in SCENARIOS:
        if name in only:
            steps[name]()
    for process, peak in bench.findings.peaks.items():
        bench.findings.expect(
            peak < LIMIT_BYTES,
            f"peak memory of `{process}` {peak / 1e6:,.0f} MB, below {LIMIT_BYTES / 1e6:,.0f} expected",
        )


def _others(arguments: argparse.Namespace, findings: Findings) -> dict[str, Path]:
    """The other systems that can take part, with their Pythons; why another cannot is a finding."""
    if arguments.alone:
        return {}
    s3fs: Path | None = None
    try:
        s3fs = s3fs_python(arguments.scratch, _say)
    except NoEnvironmentError as error:
        findings.missing.update(dict.fromkeys((name for name in OTHERS if "s3fs" in name), str(error)))
    return {name: python for name in OTHERS if (python := python_of(name, s3fs)) is not None}


def _about(arguments: argparse.Namespace, storage: str) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": short_commit(),
        "quick": arguments.quick,
        "storage": _STORAGES[storage],
        "latency_ms": LATENCY_S * 1000,
        "bandwidth_mb_s": BANDWIDTH / 1e6,
        "machine": describe_machine(),
        "load_before": load(),
    }


def _write(findings: Findings, text: str, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    name = f"object-storage-{findings.about['at'][:10]}-{findings.about['commit']}"
    (output / f"{name}.json").write_text(json.dumps(findings.to_json(), indent=1, ensure_ascii=False) + "\n")
    (output / "object-storage.md").write_text(text)
    _say(f"written to {output}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bt bench --object-storage",
        description="Measure this server on object storage with 20 ms of latency and 60 MB/s, beside DuckDB with s3fs "
        "and pyarrow.dataset over the same objects.",
    )
    parser.add_argument("--quick", action="store_true", help="few repeats, and 200 MB in place of 2 GB")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="one scenario (repeatable)")
    parser.add_argument("--storage", choices=("ceph", "moto"), help="which storage (Ceph where it is installed)")
    parser.add_argument("--alone", action="store_true", help="this server alone")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the results go")
    parser.add_argument("--keep", action="store_true", help="keep the inputs for the next run (2 GB)")
    parser.add_argument("--scratch", type=Path, default=SCRATCH, metavar="DIR", help="for inputs, caches, s3fs")
    return parser


def _say(line: str) -> None:
    print(f"bench: {time.monotonic() - _BEGAN:4.0f} s  {line}", file=sys.stderr, flush=True)


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    """A polite kill ends the servers too, on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
