"""``bt history``, ``tag``, ``yank``, ``restore``, ``expire``, ``gc``: what becomes of versions once they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from server.commands.failures import ExitCode
from server.commands.session import Session
from server.commands.terminal import CommandError, amount, count, one_line, print_json, print_table, say, warn
from server.commands.versions import as_json, as_whom, because, described, marks_of, to_seconds, user, when

if TYPE_CHECKING:
    from engine.errors import EngineError
    from engine.store import DatasetState, Version
    from engine.store.gc import Removal
    from engine.store.state import Event

_WHY = {"expired": "expired versions", "orphan": "publishes that came to nothing", "scratch": "scratch files"}


@click.command()
@click.argument("name")
@as_json
@click.pass_obj
def history(session: Session, name: str, json_out: bool) -> None:
    """Tell all that was ever done to dataset NAME, newest first."""
    from server.catalogue import describe_event

    with session.engine() as engine:
        state = engine.state(name)
    events = state.history[::-1]
    if json_out:
        print_json([describe_event(event) for event in events])
        return
    rows = [(when(event.at), event.by, _what(event, state), event.message) for event in events]
    print_table(("time (UTC)", "by", "what", "message"), rows, (False, False, False, False))
    if state.current is None:
        say(f"{name} has no version that readers get")


@click.command()
@click.argument("name")
@click.argument("version", required=False)
@click.argument("tag", required=False)
@click.option("--move", is_flag=True, help="Take the tag from the version that has it.")
@click.option("--delete", "delete", metavar="TAG", help="Take this tag away, in place of giving one.")
@because
@as_whom
@as_json
@click.pass_obj
def tag(
    session: Session,
    name: str,
    version: str | None,
    tag: str | None,
    move: bool,
    delete: str | None,
    message: str,
    by: str | None,
    json_out: bool,
) -> None:
    """Call VERSION of dataset NAME by a name of its own, TAG.

    It can be asked for by that name, and does not expire while it has one.
    """
    if delete is not None and (version is not None or move):
        raise click.UsageError("--delete TAG takes no VERSION, TAG or --move")
    if delete is None and (version is None or tag is None):
        raise click.UsageError("say which VERSION, and by which TAG, or --delete TAG")
    with session.engine() as engine:
        if delete is not None:
            number = engine.untag(name, delete, by=user(by), message=message)
            if number is None:
                raise CommandError(f"{name} has no tag {delete!r}", ExitCode.NOT_FOUND)
            line = f"{name}: v{number} is no longer called {delete}"
        elif version is not None and tag is not None:
            line = f"{name}: {engine.tag(name, tag, version, move=move, by=user(by), message=message).name} is {tag}"
        state = engine.state(name)
    if json_out:
        print_json({"dataset": name, "tags": {label: f"v{target}" for label, target in state.tags}})
    else:
        click.echo(one_line(line))


@click.command()
@click.argument("name")
@click.argument("version")
@because
@as_whom
@as_json
@click.pass_obj
def yank(session: Session, name: str, version: str, message: str, by: str | None, json_out: bool) -> None:
    """Say that VERSION of dataset NAME is not to be used.

    Who names it still gets it. When it is the latest, the one before becomes that. bt restore takes it back.
    """
    with session.engine() as engine:
        marked = engine.yank(name, version, by=user(by), message=message)
        _show(f"{name}: {marked.name} is yanked", marked, engine.state(name), json_out)


@click.command()
@click.argument("name")
@click.argument("version")
@because
@as_whom
@as_json
@click.pass_obj
def restore(session: Session, name: str, version: str, message: str, by: str | None, json_out: bool) -> None:
    """Take back that VERSION of dataset NAME was yanked."""
    with session.engine() as engine:
        marked = engine.restore(name, version, by=user(by), message=message)
        _show(f"{name}: {marked.name} is not yanked", marked, engine.state(name), json_out)


@click.command()
@click.argument("name")
@click.argument("versions", nargs=-1, metavar="[VERSION]...")
@click.option("--older-than", callback=to_seconds, metavar="TIME", help="All that were published longer ago, as 90d.")
@click.option("--keep", type=click.IntRange(min=0), metavar="N", help="Keep the newest N.  [default: 3]")
@click.option("--dry-run", is_flag=True, help="Only say which.")
@because
@as_whom
@as_json
@click.pass_obj
def expire(
    session: Session,
    name: str,
    versions: tuple[str, ...],
    older_than: float | None,
    keep: int | None,
    dry_run: bool,
    message: str,
    by: str | None,
    json_out: bool,
) -> None:
    """Serve VERSIONs of dataset NAME no longer; bt gc deletes their files after a week.

    It cannot be taken back. The latest, tagged versions and the newest 3 are kept. Without a VERSION all that are older
    than --older-than expire, or all but the newest --keep.
    """
    from engine.store.lifecycle import KEEP

    if versions and older_than is not None:
        raise click.UsageError("name VERSIONs, or give --older-than, and not both")
    if not versions and older_than is None and keep is None:
        raise click.UsageError("name a VERSION, or give --older-than or --keep")
    with session.engine() as engine:
        chosen = engine.expire(
            name,
            list(versions) or None,
            older_than_s=older_than,
            keep=KEEP if keep is None else keep,
            dry_run=dry_run,
            by=user(by),
            message=message,
        )
    names = [version.name for version in chosen]
    if json_out:
        print_json({"dataset": name, "expired": names, "dry_run": dry_run})
    elif not names:
        say(f"{name} has no version to expire")
    else:
        click.echo(f"{name}: {'would expire' if dry_run else 'expired'} {', '.join(names)}")


@click.command()
@click.argument("name", required=False)
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option(
    "--grace", callback=to_seconds, default="7d", metavar="TIME", help="How long expired files stay.  [default: 7d]"
)
@as_json
@click.pass_obj
def gc(session: Session, name: str | None, dry_run: bool, grace: float, json_out: bool) -> None:
    """Delete files that nothing needs any more, of dataset NAME or of all.

    Those are the files of versions that expired long enough ago, what killed publishes left a day ago, and old scratch
    files. The log is never touched, and a dataset whose log cannot be read is left alone.
    """
    problems: list[tuple[str, EngineError]] = []
    with session.engine() as engine:
        removed = engine.collect(name, dry_run=dry_run, grace_s=grace, failed=lambda *problem: problems.append(problem))
    if json_out:
        print_json(_described_removals(removed, problems, dry_run))
    else:
        for line in _removal_lines(removed, dry_run):
            click.echo(one_line(line))
        if not removed:
            say("there is nothing to delete")
    for dataset, error in problems:
        warn(f"{dataset} was left alone: {error.detail}")
    if problems:
        raise CommandError(f"{count(len(problems), 'dataset')} could not be looked at")


def _described_removals(
    removed: list[Removal], problems: list[tuple[str, EngineError]], dry_run: bool
) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "removed": [{"dataset": one.dataset, "key": one.key, "bytes": one.size, "why": one.why} for one in removed],
        "bytes": sum(one.size for one in removed),
        "problems": [{"dataset": dataset, "code": error.code, "detail": error.detail} for dataset, error in problems],
    }


def _removal_lines(removed: list[Removal], dry_run: bool) -> list[str]:
    lines = []
    for dataset in dict.fromkeys(one.dataset for one in removed):
        for why, words in _WHY.items():
            found = [one for one in removed if (one.dataset, one.why) == (dataset, why)]
            if found:
                verb = "would delete" if dry_run else "deleted"
                size = amount(sum(one.size for one in found))
                lines.append(f"{dataset}: {verb} {count(len(found), 'file')} of {words}, {size}")
    return lines


def _show(line: str, version: Version, state: DatasetState, json_out: bool) -> None:
    if json_out:
        print_json({"dataset": version.dataset, **described(version, state)})
        return
    latest = f"latest is {state.current.name}" if state.current else "nothing is the latest now"
    click.echo(f"{line}; {latest}")


def _what(event: Event, state: DatasetState) -> str:
    """One record of the log in words."""
    target = f"v{event.target}"
    words = {
        "set_current": f"made {target} the latest",
        "seen": f"{event.detail} holds what {target} holds already",
        "reject": f"rejected {event.detail}",
        "tag": f"called {target} {event.detail}" if event.target is not None else f"took the tag {event.detail} away",
        "yank": f"yanked {target}",
        "restore": f"restored {target}",
        "expire": f"expired {event.detail}",
    }
    version = state.number(event.target) if event.kind == "publish" and event.target is not None else None
    if version is None:
        return words.get(event.kind, event.kind)
    notes = [*(["latest"] if version == state.current else []), *filter(None, [marks_of(version, state)])]
    now = f" [{', '.join(notes)}]" if notes else ""
    return f"published {target}{now}, {count(version.rows, 'row')}, {amount(version.size_bytes)}"
