"""``bt query``: a question on the command line, in the words of a URL, and its answer in the bytes of HTTP."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from server.commands.failures import ExitCode
from server.commands.session import Session
from server.commands.terminal import (
    CommandError,
    amount,
    cell,
    count,
    one_line,
    print_table,
    say,
    terminal_width,
    warn,
)

if TYPE_CHECKING:
    from engine import Engine, ResultMeta
    from server.answer import Found, Question

TABLE_ROWS = 50
FORMATS = ("table", "json", "columns", "ndjson", "csv", "arrow", "parquet")
BINARY = ("arrow", "parquet")
_ENDINGS = {"jsonl": "ndjson", "txt": "table"}

Pairs = list[tuple[str, str]]


@click.command()
@click.argument("name")
@click.argument("parameters", nargs=-1, metavar="[PARAMETER=VALUE]...")
@click.option("-f", "--format", "format_name", type=click.Choice(FORMATS), help="By default, by the name after -o.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the answer to FILE.")
@click.option("--named", metavar="QUERY", help="Start from a named query of the dataset's definition.")
@click.option("--all", "everything", is_flag=True, help="A table of all rows and columns.")
@click.option("--sql", is_flag=True, help="Print the SQL and its parameters, and ask nothing.")
@click.pass_obj
def query(
    session: Session,
    name: str,
    parameters: tuple[str, ...],
    format_name: str | None,
    output: Path | None,
    named: str | None,
    everything: bool,
    sql: bool,
) -> None:
    """Ask dataset NAME a question.

    The parameters are those of a URL, as they are: params=60M,150M metric=pile-valppl group_by=params
    """
    pairs = _read(parameters)
    if sql and named is not None:
        raise click.UsageError("--sql does not go with --named; with explain=1 the answer shows the SQL")
    chosen = _choose(format_name, dict(pairs).get("format"), output)
    with session.engine() as engine:
        if sql:
            _print_sql(engine, name, pairs)
        elif chosen == "table":
            with _destination(output) as out:
                _write_table(engine, name, named, pairs, everything, out, output is None)
        else:
            _write_whole(_question(engine, name, named, pairs), chosen, output)


def _read(parameters: tuple[str, ...]) -> Pairs:
    pairs = []
    for parameter in parameters:
        key, equals, value = parameter.partition("=")
        if not equals or not key:
            raise click.UsageError(f"{parameter!r} is no PARAMETER=VALUE")
        pairs.append((key, value))
    return pairs


def _choose(option: str | None, parameter: str | None, output: Path | None) -> str:
    if parameter is not None and parameter not in FORMATS:
        raise click.UsageError(f"format={parameter} is none of {', '.join(FORMATS)}")
    ending = output.suffix[1:].lower() if output else ""
    by_name = _ENDINGS.get(ending, ending if ending in FORMATS else "table" if output is None else None)
    chosen = option or parameter or by_name
    if chosen is None:
        raise click.UsageError(f"the name {str(output)!r} tells no format; name one with --format")
    if chosen in BINARY and output is None and terminal_width() is not None:
        raise click.UsageError(f"{chosen} is not for a terminal; name a file with -o, or pipe it")
    return chosen


def _question(engine: Engine, name: str, named: str | None, pairs: Pairs) -> Question:
    from server.reading import question_of_name, question_of_url

    if named is not None:
        return question_of_name(engine, name, named, f"/api/queries/{name}/{named}", pairs)
    return question_of_url(engine, name, f"/api/datasets/{name}/rows", pairs)


def _print_sql(engine: Engine, name: str, pairs: Pairs) -> None:
    from server.reading import read_query

    compiled = engine.compile(engine.prepare(read_query(engine, name, pairs).request))
    click.echo(compiled.sql)
    for number, value in enumerate(compiled.params, 1):
        click.echo(f"-- ${number} = {one_line(repr(value))}")


def _write_table(
    engine: Engine, name: str, named: str | None, pairs: Pairs, everything: bool, out: IO[bytes], is_terminal: bool
) -> None:
    """The first rows for a person to look at, and what was left out."""
    limit = dict(_parameters(engine, name, named) + pairs).get("limit", "")
    is_cut = not everything and not limit
    if is_cut:
        pairs = [*(pair for pair in pairs if pair[0] != "limit"), ("limit", str(TABLE_ROWS))]
    with closing(_question(engine, name, named, pairs).run().rows) as rows:
        batches = list(rows)
        meta = rows.meta()
    columns = meta.columns
    lines = [
        line
        for batch in batches
        for line in zip(*(map(cell, column.to_pylist()) for column in batch.columns), strict=True)
    ]
    right = [column.kind.is_numeric for column in columns]
    width = terminal_width() if is_terminal and not everything else None
    shown = print_table([column.name for column in columns], lines, right, width=width, file=out)
    _write_extras(meta, out)
    for line in meta.warnings:
        warn(line)
    if shown < len(columns):
        say(f"showing {shown} of {count(len(columns), 'column')}; select= picks some, and --all shows all")
    if meta.truncated or meta.offset:
        whole = f"{meta.total:,} rows" if meta.total is not None else "more rows"
        say(f"showing {len(lines):,} of {whole}" + ("; --all shows all" if is_cut and meta.truncated else ""))


def _parameters(engine: Engine, name: str, named: str | None) -> Pairs:
    """Those of a named query."""
    found = engine.version(name).definition.queries.get(named) if named is not None else None
    return list(found.parameters) if found else []


def _write_extras(meta: ResultMeta, out: IO[bytes]) -> None:
    """Facets and explanation, where they were asked for, below the table."""
    for name, counted in (meta.facets or {}).items():
        click.echo(b"\n", file=out, nl=False)
        rows = [(cell(one["value"]), f"{one['count']:,}") for one in counted]
        print_table([name, "rows"], rows, (False, True), file=out)
    if meta.explain is not None:
        read = f"rows read: {meta.explain['rows_read']:,}\n"
        text = "\n\n".join(["", meta.explain["sql"], meta.explain["plan"].rstrip(), read])
        click.echo(text[1:].encode(), file=out, nl=False)


def _write_whole(question: Question, format_name: str, output: Path | None) -> None:
    """All rows, in the bytes that HTTP answers with."""
    from server.answer import QueryProduction, Started
    from server.encoding import FORMATS as ENCODINGS
    from server.encoding import UnsupportedColumnError
    from server.negotiation import choose_coding

    found: list[Found] = []

    def start(started: Started) -> Found:
        found.append(question.start(started))
        return found[0]

    form = next(encoding for encoding in ENCODINGS if encoding.name == format_name)
    written = 0
    with closing(QueryProduction(replace(question, start=start), form, choose_coding("identity"))) as answer:
        try:
            _, pieces = answer.begin()
            with _destination(output) as out:
                for piece in pieces:
                    out.write(piece)
                    written += len(piece)
                out.flush()
        except UnsupportedColumnError as error:
            raise CommandError(error.detail, ExitCode.USAGE) from None
        meta = found[0].rows.meta()
    for line in meta.warnings:
        warn(line)
    if output is not None:
        say(f"{output}: {count(meta.returned or 0, 'row')}, {amount(written)}")


@contextmanager
def _destination(output: Path | None) -> Iterator[IO[bytes]]:
    """Where bytes go: stdout, or a file that appears under its name when it is complete."""
    if output is None:
        sys.stdout.flush()
        yield sys.stdout.buffer
        return
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(output.stat().st_mode):  # a pipe or a device cannot be replaced
            with output.open("wb") as device:
                yield device
            return
    target = output.resolve()  # a link stays a link
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with partial.open("xb") as file:
            yield file
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)
