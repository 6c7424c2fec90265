"""What the commands that are about versions share: how one is described, who did something, and when."""

from __future__ import annotations

import getpass
import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from engine import Engine
    from engine.store import DatasetState, Version

as_json = click.option("--json", "json_out", is_flag=True, help="Print JSON.")
as_whom = click.option("--by", default=None, help="Who decides.  [default: your user name]")
because = click.option("-m", "--message", default="", help="Why, for whoever reads the log.")

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([smhdw])", re.IGNORECASE)


def to_seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """A time such as ``90d`` or ``12h``, in seconds; the callback of an option."""
    if value is None:
        return None
    match = _DURATION.fullmatch(value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is no time such as 90d, 12h, 30m or 45s", ctx=ctx, param=param)
    return float(match[1]) * _UNITS_S[match[2].lower()]


def state_or_none(engine: Engine, name: str) -> DatasetState | None:
    """The state of a dataset, or None when there is none of that name."""
    from engine.errors import DatasetNotFoundError

    try:
        return engine.state(name)
    except DatasetNotFoundError:
        return None


def described(version: Version, state: DatasetState) -> dict[str, Any]:
    """As HTTP describes it in the list of versions."""
    from server.catalogue import describe_status, describe_version

    return {**describe_version(version), **describe_status(version, state)}


def marks_of(version: Version, state: DatasetState) -> str:
    """The tags of a version, and whether it is yanked or expired, in a few words."""
    words = list(state.tags_of(version.number))
    if state.is_yanked(version.number):
        words.append("(yanked)")
    if state.is_expired(version.number):
        words.append("(expired)")
    return " ".join(words)


def when(at: str) -> str:
    """A UTC time without its fraction."""
    return f"{at[:10]} {at[11:19]}" if len(at) >= 19 else at


def user(given: str | None = None) -> str:
    """Who does it: the name given, else that of the user."""
    if given is not None:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run under a user that has no name
        return ""
