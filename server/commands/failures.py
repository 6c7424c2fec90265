"""What a command's failure is called and how it counts: one line and one exit code for each kind of error."""

from __future__ import annotations

import enum

from server.commands.terminal import one_line


class ExitCode(enum.IntEnum):
    """What scripts can tell apart; ``docs/cli.md`` lists them."""

    OK = 0
    FAILURE = 1
    USAGE = 2  # what was typed or set is wrong: an argument, a query, a setting
    NOT_FOUND = 3
    REFUSED = 4  # a file that was rejected, or a publish that something forbids
    INTERRUPTED = 130  # 128 + SIGINT
    BROKEN_PIPE = 141  # 128 + SIGPIPE: whoever read the output has gone


def explain(error: Exception) -> tuple[str, ExitCode]:
    """The line for a person, and the exit code for a script."""
    from engine.errors import EngineError
    from engine.settings import SettingsError
    from queries.errors import QueryError

    if isinstance(error, QueryError):
        return _suggest(error.detail, error.did_you_mean), ExitCode.USAGE
    if isinstance(error, SettingsError):
        return str(error), ExitCode.USAGE
    if isinstance(error, EngineError):
        return _suggest(error.detail, error.did_you_mean), _engine_code(error)
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename else ""
        return f"{about}{error.strerror or error}", ExitCode.FAILURE
    if isinstance(error, MemoryError):
        return "there is not enough memory", ExitCode.FAILURE
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{one_line(text)}; this is a defect of bt, and `bt --debug …` shows where", ExitCode.FAILURE


def _engine_code(error: Exception) -> ExitCode:
    from engine import errors

    codes: dict[type[errors.EngineError], ExitCode] = {
        errors.DatasetNotFoundError: ExitCode.NOT_FOUND,
        errors.VersionNotFoundError: ExitCode.NOT_FOUND,
        errors.NamedQueryNotFoundError: ExitCode.NOT_FOUND,
        errors.InvalidNameError: ExitCode.USAGE,
        errors.RejectedFileError: ExitCode.REFUSED,
        errors.PublishConflictError: ExitCode.REFUSED,
        errors.PreconditionFailedError: ExitCode.REFUSED,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), ExitCode.FAILURE)


def _suggest(detail: str, names: tuple[str, ...]) -> str:
    if not names or "did you mean" in detail:
        return detail
    return f"{detail.rstrip('.?')}; did you mean {' or '.join(names)}?"
