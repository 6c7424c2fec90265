"""What ``bt doctor`` looks at in one dataset: its log, its files, what was dropped, and whether it answers."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.commands.failures import explain
from server.commands.terminal import Progress, amount, count

if TYPE_CHECKING:
    from engine import Engine
    from engine.store import DatasetState, FileEntry

LONG_S = 120.0  # a running server takes a drop in well before


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``level`` is ok, warning or problem; ``advice`` says what to do."""

    level: str
    where: str
    what: str
    advice: str = ""


def guarded(where: str, findings: Iterator[Finding]) -> Iterator[Finding]:
    """The findings, and one more when looking itself failed."""
    try:
        yield from findings
    except Exception as error:
        yield Finding("problem", where, explain(error)[0])


def examine_dataset(engine: Engine, name: str, quick: bool) -> Iterator[Finding]:
    """Everything about one dataset."""
    from engine.errors import CorruptVersionError

    try:
        state = engine.state(name)
    except CorruptVersionError as error:
        yield Finding("problem", name, error.detail, f"put {name}/_bt/log back from a backup; no record may be missing")
        return
    yield Finding(
        "ok", name, f"its log is whole: {count(state.seq, 'record')}, {count(len(state.versions), 'version')}"
    )
    damaged = yield from _blobs(engine, name, state, quick)
    yield from _orphans(engine, name, state)
    yield from guarded(name, _dropped(engine, name, state))
    if state.current is None:
        yield Finding("warning", name, "it has no version yet", f"bt publish {name} FILE")
    elif not damaged & {file.key for file in state.current.files}:
        yield from guarded(name, _answers(engine, name))


def _blobs(engine: Engine, name: str, state: DatasetState, quick: bool) -> Generator[Finding, None, set[str]]:
    """Yields what is wrong with the files of versions, and returns the keys of the bad ones."""
    from engine.errors import EngineError

    entries = {file.key: file for version in state.versions for file in version.files}
    users = {key: [v.name for v in state.versions if any(f.key == key for f in v.files)] for key in entries}
    damaged: dict[str, str] = {}
    total = sum(file.size for file in entries.values())
    with Progress(name) as progress:
        done = 0
        for file in entries.values():
            if not quick:
                progress("hash", done, total)
            try:
                _compare_size(engine, file) if quick else engine.blobs.verify(file, fetch=True)
            except EngineError as error:
                damaged[file.key] = error.detail
            done += file.size
    for key, detail in damaged.items():
        used = f"{count(len(users[key]), 'version')} ({', '.join(users[key])})"
        current = state.current is not None and any(file.key == key for file in state.current.files)
        mend = "publish the original file again, or put this one" if current else "put this file"
        advice = f"{used} cannot be served: {mend} back from a backup"
        yield Finding("problem", name, detail, advice)
    if entries and not damaged:
        how = "sizes" if quick else "hashes"
        yield Finding("ok", name, f"{count(len(entries), 'file')}, {amount(total)}: the {how} are those in the log")
    return set(damaged)


def _compare_size(engine: Engine, file: FileEntry) -> None:
    from engine.errors import CorruptVersionError

    found = engine.store.stat(file.key)
    if found is None:
        raise CorruptVersionError(f"{file.key} is missing, though the log names it")
    if found.size != file.size:
        raise CorruptVersionError(f"{file.key} is damaged: it has {found.size} bytes, and its record says {file.size}")


def _orphans(engine: Engine, name: str, state: DatasetState) -> Iterator[Finding]:
    from engine.store.keys import data_prefix

    named = {file.key for version in state.versions for file in version.files}
    orphans = [stat for stat in engine.store.list_stats(data_prefix(name)) if stat.key not in named]
    size = sum(stat.size for stat in orphans)
    if orphans:
        yield Finding(
            "warning",
            name,
            f"{count(len(orphans), 'file')} in {data_prefix(name)} that no version names, {amount(size)}",
            "left by a publish that was interrupted, or of one under way, they do no harm; but if the log lost its "
            "last records, put those back before the next publish",
        )


def _dropped(engine: Engine, name: str, state: DatasetState) -> Iterator[Finding]:
    from engine.store.catalogue import find_drops
    from server.drops import waiting_drops

    present = {stat.key: stat for stat in find_drops(engine.store, name)}
    for reject in state.rejects:
        there = present.get(reject.source.key)
        if there is not None and (there.etag, there.size) == (reject.source.etag, reject.source.size):
            yield Finding(
                "warning",
                name,
                f"{reject.source.key} was rejected: {reject.reason}",
                "replace it with a good file; until then readers get the version before",
            )
    for drop in waiting_drops(engine, name):
        age_s = time.time() - drop.modified_at
        if engine.store.read_only or age_s <= LONG_S:
            continue
        yield Finding(
            "warning",
            name,
            f"{drop.key} has been waiting for {_duration(age_s)}",
            f"bt refresh {name} takes it in; a running bt serve does so by itself",
        )


def _answers(engine: Engine, name: str) -> Iterator[Finding]:
    from queries.request import QueryRequest

    started = time.perf_counter()
    version = engine.version(name)
    answer = engine.run(engine.prepare(QueryRequest(dataset=name, limit=1)))
    took_ms = 1000 * (time.perf_counter() - started)
    if answer.table.num_rows != min(1, version.version.rows):
        yield Finding("problem", name, f"a query gave {count(answer.table.num_rows, 'row')} where 1 was asked for")
        return
    yield Finding("ok", name, f"{version.version.name} answers a query ({took_ms:.0f} ms)")
    described = [*version.definition.columns, *(derived.name for derived in version.definition.derived)]
    for column in described:
        if column not in version.schema.by_name:
            yield Finding(
                "warning",
                name,
                f"its definition speaks of the column {column!r}, which {version.version.name} does not have",
                "correct the name in dataset.toml, or the column that it is derived from",
            )


def find_misnamed(engine: Engine) -> Iterator[Finding]:
    """Folders that somebody takes for datasets, and the store does not."""
    from engine.store.catalogue import list_misnamed
    from engine.store.keys import data_prefix, is_dataset_name

    known = set(engine.dataset_names())
    for key in engine.store.list(""):
        name = key.removesuffix("/")
        if key.endswith("/") and is_dataset_name(name) and name not in known and engine.store.list(data_prefix(name)):
            yield Finding(
                "problem",
                name,
                f"{data_prefix(name)} holds versions, and their log is gone",
                "put the folder _bt/log back from a backup before anything is published here",
            )

    for folder in list_misnamed(engine.store):
        yield Finding(
            "warning",
            "store",
            f"the folder {folder!r} holds results and cannot be a dataset by its name",
            "rename it: a-z, 0-9, _ and -, at most 63 of them",
        )


def _duration(seconds: float) -> str:
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            return count(int(seconds // size), unit)
    return count(int(seconds), "second")
