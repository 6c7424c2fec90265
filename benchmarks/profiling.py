"""``bt bench profile NAME``: where the time of one scenario goes, in our server's threads and in DuckDB.

pyinstrument slows Python down, by a half where functions are short, and DuckDB not at all: read shares, and take times
from ``bt bench --only NAME``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import material
from benchmarks.client import Client
from benchmarks.kept import SCRATCH
from benchmarks.measure import Effort, measure_requests, settle
from benchmarks.process import ServerError, profiled_server
from benchmarks.systems import Ours
from benchmarks.workload import Scenario, named

SHOWN_LINES = 40
_WAITS = re.compile(r"\b(select|wait|acquire|get|lock)\b")


def main(argv: list[str]) -> int:
    """Profile one scenario.

    Returns
    -------
    int
        0; 2 when there is no such scenario, or no pyinstrument.
    """
    parser = argparse.ArgumentParser(
        prog="bt bench profile", description="Where the time of one scenario goes: our threads, and DuckDB's operators."
    )
    parser.add_argument("name", metavar="NAME", help="a scenario (bt bench --list)")
    parser.add_argument("--seconds", type=float, default=4.0, metavar="S", help="how long it is asked (4)")
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="a store that holds datadecide and ft-matched")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where the profile goes")
    arguments = parser.parse_args(argv)
    try:
        scenario = named(arguments.name)
    except KeyError:
        print(f"bench: no scenario {arguments.name!r}; bt bench --list shows them", file=sys.stderr)
        return 2
    if find_spec("pyinstrument") is None:
        print("bench: a profile needs pyinstrument, a developer's package", file=sys.stderr)
        return 2
    output = (arguments.output or SCRATCH / f"profile-{scenario.name}").resolve()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bytomorrow-bench-") as folder:
        scratch = Path(folder)
        store = arguments.store
        if store is None:
            store = scratch / "store"
            material.make_files(scratch / "files")
            material.publish_files(scratch / "files", store, scratch)
        print(profile_scenario(scenario, store.resolve(), output, scratch, arguments.seconds))
    print(f"bench: the whole of it, and as HTML, is in {output}", file=sys.stderr)
    return 0


def profile_scenario(scenario: Scenario, store: Path, output: Path, scratch: Path, seconds: float) -> str:
    """Ask a scenario of a server with profilers, and say what they saw.

    Returns
    -------
    str
        Markdown. ``output`` has ``loop`` and ``workers`` as ``.txt``, ``-flat.txt`` and ``.html``, and ``duckdb.json``
        and ``.txt``.
    """
    for old in output.glob("*"):
        old.unlink()
    with profiled_server(store, scratch, output, keeps_answers=scenario.keeps_answers) as server:
        requests = Ours(server).requests(scenario)
        measure_requests(requests, server, Effort(2, 200, seconds / 2), warm_up=0, start=1_000)
        settle(server, 30)  # a version that is asked often may be on its way into memory
        block = measure_requests(requests, server, Effort(2, 100_000, seconds))
        note = _ask_explained(scenario, server.port)
    parts = [
        f"# Profile of `{scenario.name}`",
        f"{len(block.total_ms):,} requests, {block.median_ms:.2f} ms each (the profilers take part of that), "
        f"{block.cpu_ms or 0:.2f} ms of CPU.",
        *_threads(output),
        "## DuckDB, one run of the query",
        _duckdb(output) or note,
    ]
    return "\n\n".join(parts)


def _ask_explained(scenario: Scenario, port: int) -> str:
    """Have DuckDB profile the scenario's query; otherwise why it did not."""
    path = scenario.paths[0]
    try:
        with Client(port) as client:
            client.get(f"{path}{'&' if '?' in path else '?'}explain=1")
    except ServerError as error:
        return f"It was not asked: {error}"
    return "It runs no query that is explained."


def _threads(output: Path) -> Iterator[str]:
    for name, words in (("workers", "Worker threads"), ("loop", "The event loop")):
        flat = output / f"{name}-flat.txt"
        if flat.exists():
            yield f"## {words}: time in each function itself"
            yield _code(_interesting(_body(flat)))
            yield f"## {words}: by caller"
            yield _code(_body(output / f"{name}.txt")[:SHOWN_LINES])


def _body(path: Path) -> list[str]:
    """Without pyinstrument's name in large letters."""
    return list(itertools.dropwhile(lambda line: not line[:1].isdigit(), path.read_text().splitlines()))


def _interesting(lines: list[str]) -> list[str]:
    """The lines with the most time, without those that wait for something to do."""
    return [line for line in lines if line.strip() and not _WAITS.search(line)][: SHOWN_LINES // 2]


def _code(lines: list[str]) -> str:
    return "\n".join(["```", *lines, "```"])


def _duckdb(output: Path) -> str:
    path = output / "duckdb.json"
    if not path.exists():
        return ""
    text = render_operators(json.loads(path.read_text()))
    (output / "duckdb.txt").write_text(text + "\n")
    return _code(text.splitlines())


def render_operators(profile: dict[str, Any]) -> str:
    """DuckDB's profile as a tree: milliseconds and rows of each operator, and what it did.

    >>> scan = {"operator_name": "TABLE_SCAN", "operator_timing": 0.0015, "operator_cardinality": 54}
    >>> print(render_operators({"latency": 0.002, "children": [scan | {"extra_info": {"Filters": "metric='x'"}}]}))
    2.000 ms in all
      1.500 ms         54 rows  TABLE_SCAN  Filters: metric='x'
    """
    lines = [f"{_milliseconds(profile, 'latency', 'total_time')} in all"]
    lines += _operators(profile.get("children") or profile.get("operator") or [], 1)
    return "\n".join(lines)


def _operators(operators: list[dict[str, Any]], depth: int) -> Iterator[str]:
    for one in operators:
        name = one.get("operator_name") or one.get("operator_type") or one.get("name") or "?"
        extra = one.get("extra_info") or {}
        told = "; ".join(f"{key}: {' '.join(str(value).split())}"[:110] for key, value in list(extra.items())[:4])
        rows = one.get("operator_cardinality", one.get("cardinality", one.get("rows_returned", 0)))
        took = _milliseconds(one, "operator_timing", "timing")
        yield f"{'  ' * depth}{took}  {rows:>9,} rows  {name.strip()}  {told}".rstrip()
        yield from _operators(one.get("children") or [], depth + 1)


def _milliseconds(one: dict[str, Any], *names: str) -> str:
    seconds = next((one[name] for name in names if one.get(name) is not None), 0.0)
    return f"{float(seconds) * 1000:.3f} ms"
