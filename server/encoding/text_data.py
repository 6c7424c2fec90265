"""The bytes of text arrays as they lie in memory, all values one after another."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def data_of(texts: pa.BinaryArray | pa.StringArray) -> memoryview:
    """All the texts in one."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return memoryview(b"")
    ends = np.frombuffer(offsets, dtype=np.int32)
    return memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]]


def holds_any(texts: pa.StringArray, wanted: bytes, below: int = 0) -> bool:
    """Whether one of these bytes, or one smaller than ``below``, stands anywhere in the texts."""
    used = np.frombuffer(data_of(texts), dtype=np.uint8)
    return bool((used < below).any()) or any(bool((used == byte).any()) for byte in wanted)
