"""``bt versions`` and ``bt datasets``: what is there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from server.commands.session import Session
from server.commands.terminal import amount, print_json, print_table, say, warn
from server.commands.versions import as_json, described, marks_of, when

if TYPE_CHECKING:
    from engine import Engine


@click.command()
@click.argument("name")
@as_json
@click.pass_obj
def versions(session: Session, name: str, json_out: bool) -> None:
    """List the versions of dataset NAME, newest first."""
    with session.engine() as engine:
        state = engine.state(name)
    listed = list(reversed(state.versions))
    if json_out:
        print_json([described(version, state) for version in listed])
        return
    rows: list[tuple[str, ...]] = [
        (
            version.name + (" *" if version == state.current else ""),
            when(version.at),
            f"{version.rows:,}",
            amount(version.size_bytes),
            version.content_id[:12],
            marks_of(version, state),
            version.by,
            version.message,
        )
        for version in listed
    ]
    head = ["version", "published", "rows", "size", "content", "marks", "by", "message"]
    right = [False, False, True, True, False, False, False, False]
    if not any(row[5] for row in rows):
        rows = [(*row[:5], *row[6:]) for row in rows]
        del head[5], right[5]
    print_table(head, rows, right)
    if state.current is None:
        say(f"{name} has no version that can be served by itself" if state.versions else f"{name} has no version yet")
    elif state.current != (newest := [version for version in state.live if not state.is_yanked(version.number)][-1]):
        say(f"* is what readers get; {newest.name} is newer: bt rollback moves the mark")
    for reject in state.rejects[-1:]:
        warn(f"{reject.source.key}, dropped {when(reject.at)}, was rejected: {reject.reason}")


@click.command()
@as_json
@click.pass_obj
def datasets(session: Session, json_out: bool) -> None:
    """List the datasets of the store."""
    settings = session.settings()
    with session.engine(settings) as engine:
        found = [_describe_dataset(engine, name) for name in engine.dataset_names()]
    if json_out:
        print_json(found)
        return
    if not found:
        say(f"{settings.store} holds no dataset; bt demo makes some, and bt publish NAME FILE makes yours")
        return
    rows = [
        (
            entry["name"],
            entry.get("version") or "—",
            f"{entry['rows']:,}" if entry.get("version") else "—",
            amount(entry["bytes"]) if entry.get("version") else "—",
            str(entry.get("versions", "—")),
            when(entry.get("at") or ""),
            entry["error"] or entry["title"] or "",
        )
        for entry in found
    ]
    head = ("dataset", "latest", "rows", "size", "versions", "published", "title")
    print_table(head, rows, (False, False, True, True, True, False, False))


def _describe_dataset(engine: Engine, name: str) -> dict[str, Any]:
    """As the catalogue of HTTP has it; a dataset that cannot be read is listed with the reason, and hides no other."""
    from engine.errors import EngineError
    from server.catalogue import summarize_dataset

    try:
        state = engine.state(name)
        reject = f"the last file dropped was rejected: {state.rejects[-1].reason}" if state.rejects else None
        return {**summarize_dataset(engine, name), "error": None if state.current else reject}
    except EngineError as error:
        return {"name": name, "error": error.detail}
