"""``bt bench``: start all systems, check that they agree, measure them in turn, and write down what was found."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from benchmarks.campaign import FULL, QUICK, Campaign
from benchmarks.goals import check_goals
from benchmarks.kept import RECORDED, SCRATCH
from benchmarks.line_up import Wanted, known_peers, line_up
from benchmarks.machine import describe_machine, load, short_commit
from benchmarks.material import SIZES_OF_DATA
from benchmarks.plots import draw_plots
from benchmarks.process import ServerError
from benchmarks.report import render
from benchmarks.results import Results
from benchmarks.workload import SCENARIOS, Scenario, chosen


def main(argv: list[str]) -> int:
    """Run the benchmark, or one of its other commands.

    Returns
    -------
    int
        0; 1 when a scenario failed or our server and the seed's way disagree; 2 when the arguments or the environment
        are wrong; 130 when it was interrupted. A missed goal, and a peer that fails, are reported and no failure.
    """
    command = _COMMANDS.get(argv[0]) if argv else None
    if command is not None:
        return _guarded(lambda: command(argv[1:]))
    if "--object-storage" in argv:  # a benchmark of its own, with its own arguments
        from benchmarks.object_storage.run import main as object_storage

        return object_storage([argument for argument in argv if argument != "--object-storage"])
    arguments = _parser().parse_args(argv)
    if arguments.list:
        for scenario in SCENARIOS:
            print(f"{scenario.name:16} {scenario.waits_for}")
        return 0
    try:
        scenarios = chosen(arguments.only, arguments.size)
        peers = _peers(arguments)
    except ValueError as error:
        return _refuse(str(error))
    if not arguments.no_seed and find_spec("pandas") is None:
        return _refuse("the seed's way needs pandas, which is not installed; add it or use --no-seed")
    return _guarded(lambda: _run(arguments, scenarios, peers))


def _guarded(work: Callable[[], int]) -> int:
    """Whatever ends the work ends the servers too."""
    previous = signal.signal(signal.SIGTERM, _stop)
    try:
        return work()
    except ServerError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; the servers are ended", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _run(arguments: argparse.Namespace, scenarios: tuple[Scenario, ...], peers: tuple[str, ...]) -> int:
    plan = QUICK if arguments.quick else FULL
    plan = replace(plan, repeat=arguments.repeat or plan.repeat)
    wanted = Wanted(
        size=arguments.size,
        store=arguments.store,
        cached=arguments.cached,
        seed=not arguments.no_seed,
        peers=peers,
    )
    output = arguments.output or _default_output(arguments)
    results = measure(wanted, scenarios, arguments.quick, plan)
    print(write_results(results, output))
    _say(f"written to {output}")
    return 1 if results.failed else 0


def measure(wanted: Wanted, scenarios: tuple[Scenario, ...], quick: bool, plan: Any) -> Results:
    """Start everybody, measure, and end everybody."""
    with tempfile.TemporaryDirectory(prefix="bytomorrow-bench-") as folder:
        scratch = Path(folder)
        with line_up(wanted, scratch, _say) as found:
            about = {
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "commit": short_commit(),
                "quick": quick,
                "repeat": plan.repeat,
                "cached": wanted.cached,
                "size": wanted.size,
                "rows": found.rows,
                "machine": describe_machine(),
                "systems": found.systems,
                "load_before": load(),
            }
            results = Results(about, problems=found.problems)
            Campaign(found.field, plan, scratch, _say).run(scenarios, results)
            about["load_after"] = load()
    return results


def write_results(results: Results, output: Path) -> str:
    """JSON, plots and the report into a folder; returns the report."""
    output.mkdir(parents=True, exist_ok=True)
    size = results.about.get("size", 1)
    suffix = f"-x{size}" if size != 1 else ""
    name = f"{results.about['at'][:10]}-{results.about['commit']}{suffix}"
    goals = check_goals(results)
    content = results.to_json([goal.to_json() for goal in goals])
    (output / f"{name}.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    plots = draw_plots(results, output, suffix) if find_spec("matplotlib") is not None else []
    text = render(results, goals, plots)
    (output / f"latest{suffix}.md").write_text(text)
    return text


def _peers(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Those named; all in a full run that names none.

    Raises
    ------
    ValueError
        When a name is no peer's.
    """
    names = [peer.name for peer in known_peers()] if not arguments.no_peers else []
    for name in arguments.peer:
        if name not in names:
            raise ValueError(f"no peer {name!r}; there are {', '.join(names) or 'none'}")
    if arguments.peer:
        return tuple(arguments.peer)
    return () if arguments.quick else tuple(names)


def _default_output(arguments: argparse.Namespace) -> Path:
    """Only a full run over the demo data is one to keep."""
    reduced = arguments.no_seed or arguments.no_peers or arguments.peer
    partial = arguments.quick or arguments.cached or arguments.only or arguments.store or reduced
    return SCRATCH if partial else RECORDED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bt bench",
        description="Measure this server beside the seed's way (pandas), other systems, and the limit: over HTTP, on "
        "the same data.",
        epilog="bt bench compare A B: what changed between two results. bt bench growth: cost against rows and "
        "clients. bt bench profile NAME: where a scenario's time goes. Each has its own --help.",
    )
    parser.add_argument("--quick", action="store_true", help="a minute: few requests, no peers but those named")
    parser.add_argument("--size", type=int, choices=SIZES_OF_DATA, default=1, help="times the demo data's rows (1)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="one scenario (repeatable; slice*)")
    parser.add_argument("--repeat", type=_positive, metavar="N", help="blocks per scenario and system (2; quick: 1)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the results go")
    parser.add_argument(
        "--cached", action="store_true", help="with our cache of answers on throughout, as users have it"
    )
    parser.add_argument("--no-seed", action="store_true", help="without the seed's way")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME", help="one other system (repeatable)")
    parser.add_argument("--no-peers", action="store_true", help="without other systems")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="a store that holds datadecide and ft-matched")
    parser.add_argument("--list", action="store_true", help="the scenarios, and nothing else")
    parser.add_argument("--object-storage", action="store_true", help="another benchmark: a bucket (see its --help)")
    return parser


def _compare(argv: list[str]) -> int:
    from benchmarks.compare import main as compare

    return compare(argv)


def _growth(argv: list[str]) -> int:
    from benchmarks.growth import main as growth

    return growth(argv)


def _profile(argv: list[str]) -> int:
    from benchmarks.profiling import main as profile

    return profile(argv)


_BEGAN_S = time.monotonic()
_COMMANDS: dict[str, Callable[[list[str]], int]] = {"compare": _compare, "growth": _growth, "profile": _profile}


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _say(line: str) -> None:
    """With the seconds since the process began, so that a long run shows where it is."""
    print(f"bench: {time.monotonic() - _BEGAN_S:4.0f} s  {line}", file=sys.stderr, flush=True)


def _refuse(why: str) -> int:
    print(f"bench: {why}", file=sys.stderr)
    return 2


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    """A polite kill ends the servers too, on the way out."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
