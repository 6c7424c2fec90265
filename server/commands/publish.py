"""``bt publish``, ``bt demo`` and ``bt rollback``: making versions, and choosing the one that readers get."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from server.commands.failures import ExitCode
from server.commands.session import Session
from server.commands.terminal import CommandError, Progress, amount, count, one_line, print_json, say, warn
from server.commands.versions import as_json, as_whom, because, described, state_or_none, user

if TYPE_CHECKING:
    from engine.store import PublishOutcome
    from engine.store.publish import PublishPlan

DEMO = "bt demo"  # the publisher of demo versions; by it they are told from anybody's own


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
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--if-latest", metavar="VERSION", help="Only when that is the latest version, or none is: none.")
@as_json
@click.pass_obj
def publish(
    session: Session,
    name: str,
    file: Path,
    message: str,
    by: str | None,
    dry_run: bool,
    if_latest: str | None,
    json_out: bool,
) -> None:
    """Make FILE the latest version of dataset NAME.

    FILE is parquet, CSV, JSON lines or Arrow IPC. It is copied; what is published already gives that version again.
    With --if-latest it exits with 4 when somebody else was first, and with --dry-run when it would be refused.
    """
    if not file.exists():
        raise CommandError(f"there is no file {str(file)!r}", ExitCode.NOT_FOUND)
    with session.engine() as engine:
        if dry_run:
            with Progress(file.name) as progress:
                plan = engine.plan_publish(name, file, progress=progress, if_latest=if_latest)
            _show_plan(plan, json_out)
            return
        with Progress(file.name) as progress:
            outcome = engine.publish(name, file, message=message, by=user(by), progress=progress, if_latest=if_latest)
        for line in outcome.warnings:
            warn(line)
        if json_out:
            content = {**described(outcome.version, engine.state(name)), "created": outcome.created}
            print_json({"dataset": name, **content, "warnings": list(outcome.warnings)})
        else:
            click.echo(_published(name, outcome))


@click.command()
@click.argument("name")
@click.argument("version")
@because
@as_whom
@as_json
@click.pass_obj
def rollback(session: Session, name: str, version: str, message: str, by: str | None, json_out: bool) -> None:
    """Make VERSION the one that readers of dataset NAME get.

    VERSION is a number (v3 or 3), the first 8 or more digits of a content id, a tag, or a time, older or newer. Nothing
    is deleted.
    """
    with session.engine() as engine:
        before = engine.state(name).current
        chosen = engine.set_current(name, version, by=user(by), message=message)
        state = engine.state(name)
    if json_out:
        was = before.name if before else None
        print_json({"dataset": name, **described(chosen, state), "previous": was, "changed": before != chosen})
    elif before == chosen:
        click.echo(f"{name}: latest is {chosen.name}, as before")
    else:
        click.echo(f"{name}: latest is {chosen.name} now" + (f", and was {before.name}" if before else ""))


def _show_plan(plan: PublishPlan, json_out: bool) -> None:
    from server.catalogue import describe_plan

    if json_out:
        print_json(describe_plan(plan))
    else:
        for line in _plan_lines(plan):
            click.echo(one_line(line))
        said = plan.diff.describe()
        for line in plan.warnings:
            if line not in said:
                warn(line)
    if plan.kind == "refused":
        raise CommandError(plan.reason, ExitCode.REFUSED)


def _plan_lines(plan: PublishPlan) -> list[str]:
    if plan.version is not None:
        return [f"{plan.dataset}: the same content is {plan.version.name} already; nothing would be published"]
    if plan.kind == "refused":
        return []
    files = count(len(plan.files), "file") + (f" sorted by {', '.join(plan.sorted_by)}" if plan.sorted_by else "")
    size = f"{count(plan.rows, 'row')}, {count(len(plan.schema), 'column')}, {amount(plan.size_bytes)} in {files}"
    lines = [f"{plan.dataset}: would publish {size}"]
    if plan.current is None:
        return [*lines, "  it would be the first version"]
    before = plan.current
    lines.append(
        f"  rows {before.rows:,} → {plan.rows:,} ({plan.rows - before.rows:+,}), "
        f"size {amount(before.size_bytes)} → {amount(plan.size_bytes)}, compared with {before.name}"
    )
    return [*lines, *(f"  {line}" for line in plan.diff.describe() or ("the columns are the same",))]


def _published(name: str, outcome: PublishOutcome) -> str:
    version = outcome.version
    if not outcome.created:
        return f"{name}: the same content is {version.name} already"
    size = f"{count(version.rows, 'row')}, {count(len(version.schema), 'column')}, {amount(version.size_bytes)}"
    return f"{name}: published {version.name}, {size}"
