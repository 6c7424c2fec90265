"""Dropped files that the log does not know yet: which they are, and taking them in while somebody waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine import Engine
    from engine.store import IngestEvent, ObjectStat

PATIENCE_S = 5.0  # beyond the time that a file has to hold still


def waiting_drops(engine: Engine, dataset: str) -> list[ObjectStat]:
    """The dropped files of a dataset that are neither a version nor rejected; raises EngineError."""
    from engine.store import Source
    from engine.store.catalogue import find_drops
    from engine.store.records import utc_text

    found = find_drops(engine.store, dataset)
    state = engine.state(dataset)
    return [
        drop
        for drop in found
        if not state.known_drop(Source(drop.key, drop.etag, drop.size, utc_text(drop.modified_at)))
    ]


def wait_for_drops(engine: Engine, dataset: str | None, waiting: Callable[[], None] | None = None) -> list[IngestEvent]:
    """Poll until nothing waits any more, or until what waits has had its time to hold still.

    ``waiting`` is called once, when there is something to wait for.
    """
    from engine.store.ingest import TEXT_PATIENCE

    until = time.monotonic() + engine.config.drop_settle_s * TEXT_PATIENCE + PATIENCE_S
    events = engine.poll(dataset)
    while time.monotonic() < until and not engine.store.read_only:
        names = engine.dataset_names() if dataset is None else [dataset]
        failed = {event.key for event in events if event.kind == "failed"}
        if not any(drop.key not in failed for name in names for drop in waiting_drops(engine, name)):
            break
        if waiting is not None:
            waiting()
            waiting = None
        time.sleep(min(0.2, max(engine.config.drop_settle_s, 0.01)))
        events += engine.poll(dataset)
    return events
