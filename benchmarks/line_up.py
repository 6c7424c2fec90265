"""Who takes part in a run: makes the rows, starts every system on them, and says which are not there and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from benchmarks import material
from benchmarks.campaign import Field
from benchmarks.kept import SCRATCH
from benchmarks.process import bare_server, our_server, seed_server
from benchmarks.raw_duckdb import raw_duckdb
from benchmarks.systems import CACHED, Bare, Other, Ours, Seed
from engine.demo.facts import METRICS

if TYPE_CHECKING:
    from benchmarks.peers.peer import Peer

#: An answer of all rows of ×10 or ×100 is longer than a server gives by default.
_LARGE = {"BT_MAX_ROWS": "1000000000", "BT_QUERY_TIMEOUT": "600"}
_SEED_MOST_TIMES = 1  # it would need 10 GB a request beyond


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a run is to have.

    ``peers`` are names; ``settings`` are further ones of our server's; ``metrics`` are fewer than all in tests.
    """

    size: int = 1
    store: Path | None = None
    cached: bool = False
    seed: bool = True
    limit: bool = True
    peers: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = METRICS


@dataclass(slots=True)
class LineUp:
    """All systems, running."""

    field: Field
    rows: int
    systems: dict[str, dict[str, Any]]
    problems: dict[str, str]


def known_peers() -> tuple[Peer, ...]:
    """Those that the checkout has; none when it lacks them."""
    if find_spec("benchmarks.peers") is None:
        return ()
    from benchmarks.peers import PEERS

    return PEERS


@contextmanager
def line_up(wanted: Wanted, scratch: Path, say: Callable[[str], None]) -> Iterator[LineUp]:
    """Start everybody; they have ended when the block is left. A peer that does not start is in ``problems``.

    Raises
    ------
    ServerError
        When our own server or the seed's way does not start.
    """
    files, store = scratch / "files", wanted.store or scratch / "store"
    if wanted.store is None:
        say(f"making the demo data ×{wanted.size} and publishing it")
        material.make_files(files, wanted.size, wanted.metrics)
        material.publish_files(files, store, scratch)
    settings = {**(_LARGE if wanted.size > 1 else {}), **wanted.settings}
    with ExitStack() as stack:
        server = our_server(store.resolve(), scratch, keeps_answers=wanted.cached, settings=settings)
        ours = Ours(stack.enter_context(server))
        if wanted.store is not None:
            material.download_files(ours.server, files)
        cached = our_server(store.resolve(), scratch, keeps_answers=True, name=CACHED, settings=settings)
        found = LineUp(Field(ours, Ours(stack.enter_context(cached))), _count(files), {}, {})
        if wanted.limit:
            answers = scratch / "answers"
            answers.mkdir(exist_ok=True)
            found.field.bare = Bare(stack.enter_context(bare_server(answers, scratch)), answers)
            found.field.raw = stack.enter_context(raw_duckdb(files, scratch, wanted.size))
        if wanted.seed and wanted.size <= _SEED_MOST_TIMES:
            found.field.others.append(Seed(stack.enter_context(seed_server(files, scratch))))
        for peer in known_peers():
            if peer.name in wanted.peers:
                _add_peer(found, stack, peer, files, say)
        yield found


def _add_peer(found: LineUp, stack: ExitStack, peer: Peer, files: Path, say: Callable[[str], None]) -> None:
    """Prepared once and kept between runs; whatever fails is its own, and the run goes on without it."""
    kept = SCRATCH / "peers"
    kept.mkdir(parents=True, exist_ok=True)
    say(f"preparing {peer.name}")
    try:
        peer.prepare(files, kept)
        server = stack.enter_context(peer.serve(files, kept))
        found.systems[peer.name] = {"about": peer.about, "versions": peer.versions(kept)}
        found.field.others.append(Other(peer, server))
    except Exception as error:  # whatever another system dies of is told, and no failure of ours
        found.problems[peer.name] = f"{type(error).__name__}: {error}"


def _count(files: Path) -> int:
    return int(pq.read_metadata(files / f"{material.DATASETS[0]}.parquet").num_rows)
