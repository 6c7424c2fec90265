"""A file that a writer writes to and a server reads from, so that what is written need not lie in memory whole."""

from __future__ import annotations

import io
from typing import Any


class Sink(io.RawIOBase):
    """Collects what is written until ``drain`` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self._position += len(piece)
        return len(piece)

    def tell(self) -> int:
        return self._position

    def drain(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
