"""What a person at a terminal sees: lines, tables, progress. Results go to stdout, and every other word to stderr."""

from __future__ import annotations

import json
import shutil
import sys
import time
import unicodedata
from collections.abc import Sequence
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

WIDEST_CELL = 48
SILENCE_S = 10.0  # without a terminal, long work says so often how far it is

_STEPS = {
    "copy": "copying",
    "convert": "converting",
    "check": "checking",
    "hash": "hashing",
    "make": "making",
    "order": "ordering",
    "sort": "sorting",
    "write": "writing",
    "describe": "describing",
}


class CommandError(click.ClickException):
    """What ends a command with a line on stderr and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


def say(text: str) -> None:
    click.echo(f"bt: {one_line(text)}", err=True)


def warn(text: str) -> None:
    say(f"warning: {text}")


def one_line(text: str) -> str:
    """Text in which nothing can move the cursor, start a line or colour what follows: it may come from a file."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def amount(size_bytes: int) -> str:
    """``1.2 MB``: three digits, decimal units."""
    size = float(size_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 999.5:
            return f"{size_bytes} bytes" if unit == "bytes" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def count(number: int, noun: str) -> str:
    """``1,234 rows``, ``1 row``."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def terminal_width() -> int | None:
    """Columns of the terminal that stdout is; None when it is none, and a line may have any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    right: Sequence[bool],
    *,
    width: int | None = None,
    file: IO[bytes] | None = None,
) -> int:
    """Print aligned columns; those that do not fit into ``width`` are left out. Returns how many were printed."""
    cells = [[one_line(cell) for cell in row] for row in (head, *rows)]
    if width is not None:
        cells = [[_shorten(cell) for cell in row] for row in cells]
    widths = [max(map(_cells, column)) for column in zip(*cells, strict=True)]
    shown = _fitting(widths, width)
    for number, row in enumerate(cells):
        padded = (_pad(cell, widths[at], right[at]) for at, cell in enumerate(row[:shown]))
        click.echo("  ".join(padded).rstrip().encode() + b"\n", file=file, nl=False)
        if number == 0:
            click.echo("  ".join("─" * size for size in widths[:shown]).encode() + b"\n", file=file, nl=False)
    return shown


def _fitting(widths: Sequence[int], width: int | None) -> int:
    if width is None:
        return len(widths)
    used = 0
    for at, size in enumerate(widths):
        used += size + 2
        if used - 2 > width:
            return max(at, 1)
    return len(widths)


def _shorten(cell: str) -> str:
    if _cells(cell) <= WIDEST_CELL:
        return cell
    while _cells(cell) >= WIDEST_CELL:
        cell = cell[: -max(1, (_cells(cell) - WIDEST_CELL) // 2)]
    return f"{cell}…"


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _cells(cell))
    return space + cell if right else cell + space


def _cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


class Progress:
    """Tells how far long work is: bars on a terminal, and elsewhere a line now and then. Call it as the store does."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._step = ""
        self._last = 0.0

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress as Bars

            self._bars = Bars(console=Console(stderr=True), transient=True)
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, step: str, done: int, total: int) -> None:
        words = f"{_STEPS.get(step, step)} {self._what}"
        if self._bars is None:
            self._line(words, done, total)
        elif step in self._tasks:
            self._bars.update(self._tasks[step], completed=done, total=total or None)
        else:
            from rich.markup import escape

            self._tasks[step] = self._bars.add_task(escape(one_line(words)), completed=done, total=total or None)

    def _line(self, words: str, done: int, total: int) -> None:
        now = time.monotonic()
        if words != self._step:
            self._step = words
            say(words)
        elif now - self._last > SILENCE_S and done < total:
            say(f"{words}: {100 * done // total} %")
        else:
            return
        self._last = now


def cell(value: Any) -> str:
    """A value as a table shows it: exact, short, and unlike any text that looks the same where that can be."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, (bytes, bytearray)):
        return f"0x{value.hex()}"
    return str(value)
