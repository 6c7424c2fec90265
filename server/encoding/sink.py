"""A file that a writer writes to and a server reads from, so that what is written need not lie in memory whole."""

from __future__ import annotations

import io
from typing import Any

import pyarrow as pa


class Sink(io.RawIOBase):
    """Collects what is written until ``drain`` takes it."""

    def __init__(self, *, keeps_buffers: bool = False) -> None:
        """``keeps_buffers``: Arrow's buffers will not change before ``drain``, so that they are copied only once."""
        super().__init__()
        self._keeps_buffers = keeps_buffers
        self._pieces: list[bytes | pa.Buffer] = []
        self._position = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = data if self._keeps_buffers and isinstance(data, pa.Buffer) else bytes(data)
        self._pieces.append(piece)
        size = len(piece)
        self._position += size
        return size

    def tell(self) -> int:
        return self._position

    def drain(self) -> bytes:
        """What was written since the last time."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
