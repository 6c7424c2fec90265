"""The commands that make, list and choose versions."""

from __future__ import annotations

import getpass
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from server.commands.failures import ExitCode
from server.commands.session import Session
from server.commands.terminal import (
    CommandError,
    Progress,
    amount,
    count,
    one_line,
    print_json,
    print_table,
    say,
    warn,
)

if TYPE_CHECKING:
    from engine import Engine
    from engine.store import DatasetState, IngestEvent, PublishOutcome, Version

DEMO = "bt demo"  # the publisher of demo versions; by it they are told from anybody's own

as_json = click.option("--json", "json_out", is_flag=True, help="Print JSON.")


@click.command()
@click.option("--if-missing", is_flag=True, help="Do nothing for a dataset that has a version.")
@click.option("--replace", is_flag=True, help="Publish over versions that this command did not make.")
@click.pass_obj
def demo(session: Session, if_missing: bool, replace: bool) -> None:
    """Make the synthetic demo datasets and publish them.

    The same data each time, so that publishing them again changes nothing.
    """
    from engine.demo import DEMO_DATASETS, write_demo_parquet

    with session.engine() as engine:
        states = {name: state_or_none(engine, name) for name in DEMO_DATASETS}
        for name, state in states.items():
            newest = state.newest if state else None
            if newest is not None and if_missing:
                continue
            if newest is not None and newest.by != DEMO and not replace:
                raise CommandError(
                    f"{name} has versions that bt demo did not make; bt demo --replace publishes over them",
                    ExitCode.REFUSED,
                )
            with tempfile.TemporaryDirectory(prefix="bytomorrow-demo-") as folder, Progress(name) as progress:
                path = Path(folder, f"{name}.parquet")
                write_demo_parquet(name, path, partial(progress, "make"))
                outcome = engine.publish(
                    name, path, message="synthetic demo data", by=DEMO, original_name=path.name, progress=progress
                )
            say(_published(name, outcome))


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-m", "--message", default="", help="What is new, for whoever reads the list of versions.")
@click.option("--by", default=None, help="Who publishes.  [default: your user name]")
@as_json
@click.pass_obj
def publish(session: Session, name: str, file: Path, message: str, by: str | None, json_out: bool) -> None:
    """Make FILE the latest version of dataset NAME.

    FILE is parquet, CSV, JSON lines or Arrow IPC. It is copied; what is published already gives that version again.
    """
    if not file.exists():
        raise CommandError(f"there is no file {str(file)!r}", ExitCode.NOT_FOUND)
    with session.engine() as engine:
        with Progress(file.name) as progress:
            outcome = engine.publish(name, file, message=message, by=_user() if by is None else by, progress=progress)
        for line in outcome.warnings:
            warn(line)
        if json_out:
            described = {**_describe_version(outcome.version, engine.state(name)), "created": outcome.created}
            print_json({"dataset": name, **described, "warnings": list(outcome.warnings)})
        else:
            click.echo(_published(name, outcome))


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
        print_json([_describe_version(version, state) for version in listed])
        return
    rows = [
        (
            version.name + (" *" if version == state.current else ""),
            _when(version.at),
            f"{version.rows:,}",
            amount(version.size_bytes),
            version.content_id[:12],
            version.by,
            version.message,
        )
        for version in listed
    ]
    head = ("version", "published", "rows", "size", "content", "by", "message")
    print_table(head, rows, (False, False, True, True, False, False, False))
    if state.current is None:
        say(f"{name} has no version yet")
    elif state.current != state.newest:
        say(f"* is what readers get; {state.newest.name if state.newest else ''} is newer: bt rollback moves the mark")
    for reject in state.rejects[-1:]:
        warn(f"{reject.source.key}, dropped {_when(reject.at)}, was rejected: {reject.reason}")


@click.command()
@click.argument("name")
@click.argument("version")
@click.option("-m", "--message", default="", help="Why, for whoever reads the log.")
@click.option("--by", default=None, help="Who decides.  [default: your user name]")
@as_json
@click.pass_obj
def rollback(session: Session, name: str, version: str, message: str, by: str | None, json_out: bool) -> None:
    """Make VERSION the one that readers of dataset NAME get.

    VERSION is a number (v3 or 3) or the first 8 or more digits of a content id, older or newer. Nothing is deleted.
    """
    with session.engine() as engine:
        before = engine.state(name).current
        chosen = engine.set_current(name, version, by=_user() if by is None else by, message=message)
        state = engine.state(name)
    if json_out:
        was = before.name if before else None
        print_json({"dataset": name, **_describe_version(chosen, state), "previous": was, "changed": before != chosen})
    elif before == chosen:
        click.echo(f"{name}: latest is {chosen.name}, as before")
    else:
        click.echo(f"{name}: latest is {chosen.name} now" + (f", and was {before.name}" if before else ""))


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
            _when(entry.get("at") or ""),
            entry["error"] or entry["title"] or "",
        )
        for entry in found
    ]
    head = ("dataset", "latest", "rows", "size", "versions", "published", "title")
    print_table(head, rows, (False, False, True, True, True, False, False))


@click.command()
@click.argument("name", required=False)
@as_json
@click.pass_obj
def refresh(session: Session, name: str | None, json_out: bool) -> None:
    """Take in dropped files now, of dataset NAME or of all.

    Waits for a file that was written just now to hold still. Exits with 4 when a file was rejected.
    """
    from server.drops import wait_for_drops

    with session.engine() as engine:
        if name is not None:
            engine.state(name)
        events = wait_for_drops(engine, name, lambda: say("waiting for a file written just now to hold still"))
    if json_out:
        print_json([_describe_event(event) for event in events])
    else:
        for event in events:
            click.echo(one_line(_event_line(event)))
        if not events:
            say("nothing new was dropped")
    kinds = {event.kind for event in events}
    if "failed" in kinds:
        raise CommandError("not every dropped file could be taken in now; it will be tried again")
    if "rejected" in kinds:
        raise CommandError("a dropped file was rejected", ExitCode.REFUSED)


def state_or_none(engine: Engine, name: str) -> DatasetState | None:
    """The state of a dataset, or None when there is none of that name."""
    from engine.errors import DatasetNotFoundError

    try:
        return engine.state(name)
    except DatasetNotFoundError:
        return None


def _describe_version(version: Version, state: DatasetState) -> dict[str, Any]:
    """As HTTP describes it, and whether it is the one that readers get."""
    from server.catalogue import describe_version

    return {**describe_version(version), "latest": version == state.current}


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


def _published(name: str, outcome: PublishOutcome) -> str:
    version = outcome.version
    if not outcome.created:
        return f"{name}: the same content is {version.name} already"
    size = f"{count(version.rows, 'row')}, {count(len(version.schema), 'column')}, {amount(version.size_bytes)}"
    return f"{name}: published {version.name}, {size}"


def _describe_event(event: IngestEvent) -> dict[str, Any]:
    version = event.version.name if event.version else None
    return {
        "dataset": event.dataset,
        "kind": event.kind,
        "key": event.key,
        "version": version,
        "reason": event.reason or None,
    }


def _event_line(event: IngestEvent) -> str:
    version = f" {event.version.name}" if event.version else ""
    words = {
        "published": f"published{version}",
        "unchanged": f"holds what{version} holds already",
        "definition": f"applied as{version}",
    }
    reason = f": {event.reason}" if event.reason else ""
    return f"{event.key}: {words.get(event.kind, event.kind)}{reason}"


def _when(at: str) -> str:
    """A UTC time without its fraction."""
    return f"{at[:10]} {at[11:19]}" if len(at) >= 19 else at


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run under a user that has no name
        return ""
