"""``bt diff``: what changed between two versions, for a person or as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from server.commands.session import Session
from server.commands.terminal import cell, one_line, print_json, print_table, say, terminal_width, warn

if TYPE_CHECKING:
    from engine.diff import MetricChange, RowSample, VersionDiff

_METRICS = 20  # lines of metrics for a person
_ROWS = 100  # rows of each kind in JSON, as over HTTP


@click.command()
@click.argument("name")
@click.argument("before", required=False, metavar="[FROM]")
@click.argument("after", required=False, metavar="[TO]")
@click.option("--key", metavar="COLUMNS", help="Columns that tell rows apart, with commas.  [default: found]")
@click.option(
    "--limit", type=click.IntRange(0, 10_000), help="Rows to show of each kind.  [default: none; 100 with --json]"
)
@click.option("--json", "json_out", is_flag=True, help="Print JSON.")
@click.pass_obj
def diff(
    session: Session,
    name: str,
    before: str | None,
    after: str | None,
    key: str | None,
    limit: int | None,
    json_out: bool,
) -> None:
    """Show what changed in dataset NAME between two versions.

    Without TO it is the latest, and without FROM the one that readers had before TO.
    """
    from queries.lists import split_items, unquote

    keys = [unquote(item) for item in split_items(key, "key")] if key else None
    rows = (_ROWS if json_out else 0) if limit is None else limit
    with session.engine() as engine:
        found = engine.diff(name, before, after, key=keys, limit=rows)
    if json_out:
        from server.diff import describe_diff

        print_json(describe_diff(found))
        return
    click.echo(one_line(found.headline()))
    for line in found.schema.lines():
        click.echo(one_line(line))
    _print_metrics(found)
    if rows:
        _print_rows(found)
    for text in found.warnings:
        warn(text)


def _print_metrics(found: VersionDiff) -> None:
    if not found.metrics:
        return
    is_long = found.metrics[0].metric is not None
    counts = ("changed", "added", "removed") if is_long else ("changed",)
    head = ("metric" if is_long else "column", *counts, "mean |change|", "largest", "before", "after", "where")
    click.echo()
    print_table(
        head,
        [_metric_row(one, counts) for one in found.metrics[:_METRICS]],
        (False, *(True for _ in counts), True, True, True, True, False),
        width=terminal_width(),
    )
    left = found.metrics_total - _METRICS
    if left > 0:
        say(f"showing {_METRICS} of {found.metrics_total:,}; --json has more")


def _metric_row(one: MetricChange, counts: Sequence[str]) -> tuple[str, ...]:
    mean = "—" if one.mean_abs is None else f"{one.mean_abs:.4g}"
    name = cell(one.metric) if one.metric is not None else one.column
    numbers = [f"{getattr(one, count):,}" for count in counts]
    if not one.largest:
        return (name, *numbers, mean, "—", "—", "—", "")
    top = one.largest[0]
    where = {column: value for column, value in top.key.items() if one.metric is None or value != one.metric}
    return (name, *numbers, mean, f"{top.change:+.4g}", cell(top.before), cell(top.after), _where(where))


def _print_rows(found: VersionDiff) -> None:
    changed = found.changed
    lines = [
        [
            *map(cell, key.values()),
            ", ".join(f"{name}: {cell(before)} → {cell(after)}" for name, (before, after) in changes.items()),
        ]
        for key, changes in changed
    ]
    _print_sample("changed", [*changed.keys.column_names, "changes"], lines, changed.total)
    for title, sample in (("added", found.added), ("removed", found.removed)):
        _print_sample(title, sample.table.column_names, _cells(sample), sample.total)


def _cells(sample: RowSample) -> list[list[str]]:
    from engine.result import python_rows

    return [[*map(cell, row.values())] for row in python_rows(sample.table)]


def _print_sample(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], total: int) -> None:
    if not total:
        return
    click.echo(f"\n{title}: {len(rows):,} of {total:,}")
    print_table(head, rows, [False] * len(head), width=terminal_width())


def _where(key: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={cell(value)}" for name, value in key.items())
