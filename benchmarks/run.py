"""``bt bench``: start both servers, check that they agree, measure them in turn, and write down what was found."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pyarrow.parquet as pq

from benchmarks import material
from benchmarks.campaign import Campaign
from benchmarks.machine import describe_machine, load, short_commit
from benchmarks.process import CHECKOUT, Server, ServerError, our_server, seed_server
from benchmarks.report import render
from benchmarks.results import Results
from benchmarks.workload import SCENARIOS, Scenario, chosen

RECORDED = CHECKOUT / "benchmarks" / "results"
SCRATCH = CHECKOUT / "benchmarks" / "scratch"  # git ignores it


def main(argv: list[str]) -> int:
    """Run the benchmark.

    Returns
    -------
    int
        0; 1 when a scenario failed or the servers disagree; 2 when the arguments or the environment are wrong; 130 when
        it was interrupted. A missed expectation is reported, and is no failure: machines differ.
    """
    if "--object-storage" in argv:  # a benchmark of its own, with its own arguments
        from benchmarks.object_storage.run import main as object_storage

        return object_storage([argument for argument in argv if argument != "--object-storage"])
    arguments = _parser().parse_args(argv)
    if arguments.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:16} {scenario.waits_for}")
        return 0
    try:
        scenarios = chosen(arguments.only)
    except ValueError as error:
        return _refuse(str(error))
    if not arguments.no_seed and find_spec("pandas") is None:
        return _refuse("the seed's way needs pandas, which is not installed; add it or use --no-seed")
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        return _run(arguments, scenarios)
    except ServerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; the servers are ended", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(arguments: argparse.Namespace, scenarios: tuple[Scenario, ...]) -> int:
    with tempfile.TemporaryDirectory(prefix="bytomorrow-bench-") as folder:
        scratch = Path(folder)
        with _servers(arguments, scratch) as (ours, seed, rows):
            about = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "commit": short_commit(),
                "quick": arguments.quick,
                "repeat": arguments.repeat,
                "cached": arguments.cached,
                "rows": rows,
                "machine": describe_machine(),
                "load_before": load(),
            }
            campaign = Campaign(ours, seed, quick=arguments.quick, repeat=arguments.repeat, say=_say)
            results = Results(about)
            campaign.run(scenarios, results)
            about["load_after"] = load()
    text = render(results)
    print(text)
    _write(results, text, arguments.output or _default_output(arguments))
    return 1 if results.failed else 0


@contextlib.contextmanager
def _servers(arguments: argparse.Namespace, scratch: Path) -> Iterator[tuple[Server, Server | None, int]]:
    """Both servers over the same rows, and how many rows those are."""
    files, store = scratch / "files", arguments.store or scratch / "store"
    if arguments.store is None:
        _say("making the demo data and publishing it")
        material.make_files(files)
        material.publish_files(files, store, scratch)
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(our_server(store.resolve(), scratch, keeps_answers=arguments.cached))
        if arguments.store is not None:
            material.download_files(ours, files)
        seed = None if arguments.no_seed else stack.enter_context(seed_server(files, scratch))
        yield ours, seed, pq.read_metadata(files / f"{material.DATASETS[0]}.parquet").num_rows


def _write(results: Results, text: str, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    name = f"{results.about['at'][:10]}-{results.about['commit']}"
    (output / f"{name}.json").write_text(json.dumps(results.to_json(), indent=1, ensure_ascii=False) + "\n")
    (output / "latest.md").write_text(text)
    _say(f"written to {output}")


def _default_output(arguments: argparse.Namespace) -> Path:
    """Only a full run over the demo data is one to keep."""
    partial = arguments.quick or arguments.cached or arguments.only or arguments.no_seed or arguments.store
    return SCRATCH if partial else RECORDED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bt bench", description="Measure this server beside the seed's way (pandas), over HTTP, on the same data."
    )
    parser.add_argument("--quick", action="store_true", help="about a minute: few requests, no full load as JSON")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="one scenario (repeatable; slice*)")
    parser.add_argument("--repeat", type=_positive, default=2, metavar="N", help="blocks per scenario and server (2)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the results go")
    parser.add_argument("--cached", action="store_true", help="with the cache of answers on, as users have it")
    parser.add_argument("--no-seed", action="store_true", help="this server alone")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="a store that holds datadecide and ft-matched")
    parser.add_argument("--list", action="store_true", help="the scenarios, and nothing else")
    parser.add_argument("--object-storage", action="store_true", help="another benchmark: a bucket (see its --help)")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _say(line: str) -> None:
    print(f"bench: {line}", file=sys.stderr, flush=True)


def _refuse(why: str) -> int:
    _say(why)
    return 2


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    """A polite kill ends the servers too, on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
