"""``bt bench``: hands over to ``benchmarks``, which exists in a checkout only."""

from __future__ import annotations

import importlib.util

import click

from server.commands.terminal import CommandError


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def bench(ctx: click.Context, arguments: tuple[str, ...]) -> None:
    """Time this server beside others and the limit (bt bench --help)."""
    if importlib.util.find_spec("benchmarks") is None or importlib.util.find_spec("benchmarks.run") is None:
        raise CommandError("the benchmarks are part of a checkout, and this is an installation without one")
    from benchmarks.run import main

    ctx.exit(main(list(arguments)))
