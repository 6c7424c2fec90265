"""What a home of versions must be able to do: a few primitives and a scratch folder, and nothing about versions.

Everything above this file (log, publish, drops) is the same for every home. A key is a relative path with ``/``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

#: Told about long work: which step, how much is done, of how much (0 when that is not known).
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class ObjectStat:
    """One stored object. ``etag`` changes whenever the content does; ``modified_at`` is in seconds since 1970."""

    key: str
    size: int
    etag: str
    modified_at: float


@dataclass(frozen=True, slots=True)
class Staged:
    """A private local copy of some bytes, hashed while it was written."""

    path: Path
    size: int
    sha256: str


class Store(Protocol):
    """The primitives. Each raises StoreError when the home cannot be reached or refuses."""

    @property
    def read_only(self) -> bool:
        """Whether writing is known to be impossible."""

    @property
    def is_remote(self) -> bool:
        """Whether the bytes are elsewhere, so that each primitive costs a round trip."""

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        """Store bytes, or a file's bytes, durably under a key that holds nothing; False when it holds something.

        What it then holds is durable too, whoever put it there. All or nothing: no reader ever sees a part. After an
        exception the outcome is unknown.
        """

    def read(self, key: str) -> bytes | None:
        """The whole object, or None when there is none."""

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Exactly so many bytes of an immutable object, from ``start`` on.

        Raises CorruptVersionError when there is no such object or it is shorter.
        """

    def fetch(self, key: str, etag: str, into: Path, progress: Progress | None = None) -> Staged:
        """Copy an object as it is under ``etag`` into a new local file.

        Raises UnsettledFileError when it is no longer that one, or cannot be read now, and RejectedFileError when it
        can never be read.
        """

    def list(self, prefix: str) -> tuple[str, ...]:
        """The keys directly below a prefix that is empty or ends in ``/``, sorted; folders end in ``/``."""

    def list_stats(self, prefix: str) -> tuple[ObjectStat, ...]:
        """What is known of each object directly below a prefix, sorted by key: one listing, and no folders."""

    def stat(self, key: str) -> ObjectStat | None:
        """What is known of an object without reading it, or None when there is none."""

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens when there is none."""

    def staging(self, dataset: str) -> Path:
        """A local folder for files that are not yet part of the store. What a crash left there is cleaned up."""

    def check(self) -> None:
        """See that the home can be reached and listed; the StoreError has the one cause why not."""

    def check_writing(self) -> None:
        """See that what is written once cannot be replaced here; the StoreError says why it could be."""

    def close(self) -> None:
        """Give connections back. The store may still be used, and then makes new ones."""
