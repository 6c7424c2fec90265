"""``bt export``: a version as one parquet file, as it was given."""

from __future__ import annotations

from pathlib import Path

import click

from server.commands.session import Session
from server.commands.terminal import CommandError, Progress, amount, count


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--version", metavar="VERSION", help="Which version.  [default: the latest]")
@click.option("--force", is_flag=True, help="Write over a file that is there.")
@click.pass_obj
def export(session: Session, name: str, file: Path, version: str | None, force: bool) -> None:
    """Write a version of dataset NAME to the parquet file FILE, its rows in the order in which they were published."""
    if file.exists() and not force:
        raise CommandError(f"{str(file)!r} is there already; --force writes over it")
    if not file.absolute().parent.is_dir():
        raise CommandError(f"there is no folder {str(file.absolute().parent)!r}")
    with session.engine() as engine, Progress(file.name) as progress:
        found = engine.original(name, file.absolute(), version, progress=progress)
    click.echo(f"{name}: {found.name} is in {file}, {count(found.rows, 'row')}, {amount(file.stat().st_size)}")
