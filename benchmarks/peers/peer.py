"""What the suite asks of every other system: set it up, start it, spell a question in its language. Knows none."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.process import Server
from benchmarks.question import Question
from benchmarks.workload import Encoding


class CannotError(Exception):
    """This system cannot express a question, or not answer it in that encoding; the text says why."""


class PeerError(RuntimeError):
    """A system could not be installed, loaded or started here; the text says why."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


class Peer(Protocol):
    """Another way to ask the same rows over HTTP.

    Attributes
    ----------
    name
        "postgres", "datasette", "roapi", "mosaic" or "tiled".
    about
        What it is and how it is set up, in one sentence.
    encodings
        What it can answer in; ``mosaic`` has Arrow alone, so whoever wants it beside the others has to ask it in that.
    """

    name: str
    about: str
    encodings: tuple[Encoding, ...]

    def prepare(self, files: Path, scratch: Path) -> None:
        """Install it and load the rows, where that was not done before for the same rows.

        ``files`` holds ``datadecide.parquet`` and ``ft-matched.parquet``. Raises PeerError.
        """

    def serve(self, files: Path, scratch: Path) -> AbstractContextManager[Server]:
        """Run it over what was prepared; its processes have ended on return. Raises PeerError, ServerError."""

    def ask(self, question: Question, encoding: Encoding) -> Ask:
        """The request that asks the question; while it is served, for a pivot needs the names that are there.

        Raises CannotError.
        """

    def count_rows(self, body: bytes, encoding: Encoding) -> int:
        """The number of rows of an answer."""

    def rows(self, body: bytes) -> list[dict[str, Any]]:
        """The rows of an answer by name, null as None: in JSON, or where a system has none by row, as it answers."""

    def versions(self, scratch: Path) -> dict[str, str]:
        """What was installed, by name."""
