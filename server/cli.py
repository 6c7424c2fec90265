"""The command line, ``bt``: wires the commands together and turns every failure into one line and an exit code.

What a command does is in ``server/commands``. ``docs/cli.md`` is the manual.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any, NoReturn

import click

from server.commands.bench import bench
from server.commands.data import datasets, versions
from server.commands.diff import diff
from server.commands.doctor import doctor
from server.commands.export import export
from server.commands.failures import ExitCode, explain
from server.commands.lifecycle import expire, gc, history, restore, tag, yank
from server.commands.publish import demo, publish, rollback
from server.commands.query import query
from server.commands.serve import openapi, serve
from server.commands.session import Session
from server.commands.terminal import CommandError, say
from server.commands.watch import refresh, watch


class CommandLine(click.Group):
    """A group whose errors are one line on stderr, never a traceback, and whose exit codes are ``ExitCode``."""

    def main(self, *args: Any, **extra: Any) -> NoReturn:
        """Run one command and exit."""
        extra["standalone_mode"] = False
        extra["prog_name"] = "bt"
        try:
            code = super().main(*args, **extra) or ExitCode.OK
        except (click.Abort, KeyboardInterrupt):
            code = ExitCode.INTERRUPTED
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = ExitCode.USAGE
        except CommandError as error:
            say(f"error: {error.message}")
            code = error.code
        except click.ClickException as error:
            path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "bt"
            say(f"error: {error.format_message().rstrip('.')}; {path} --help tells what it takes")
            code = ExitCode.USAGE
        sys.exit(int(code))

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # now, while a reader who has gone can still be told from a defect
        except BrokenPipeError:
            _let_go_of_stdout()
            raise click.exceptions.Exit(ExitCode.BROKEN_PIPE) from None
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug"):
                traceback.print_exc()
            raise CommandError(*explain(error)) from error
        return result


def _let_go_of_stdout() -> None:
    """Point stdout at nothing, or Python would try to flush it once more at its end, and complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from server.version import application_version

        click.echo(f"By Tomorrow {application_version()}")
        ctx.exit()


@click.group(
    cls=CommandLine,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings are environment variables, also from a file .env: see docs/settings.md.",
)
@click.option("--store", metavar="FOLDER", help="The store to work on, in place of BT_STORE.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show the version."
)
@click.pass_context
def cli(ctx: click.Context, store: str | None, debug: bool) -> None:
    """By Tomorrow: serve, query and publish experiment results as immutable versions."""
    ctx.obj = Session(store)


_COMMANDS = (
    *(serve, watch, demo, publish, versions, history, rollback, diff, tag, yank, restore, expire, gc, export),
    *(datasets, query, refresh, doctor, bench, openapi),
)
for _command in _COMMANDS:
    cli.add_command(_command)


def main() -> NoReturn:
    """Run the command line of this process."""
    cli.main()
