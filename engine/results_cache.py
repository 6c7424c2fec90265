"""Small answers that were given before, bounded in bytes. Nothing in it is ever out of date: versions do not change.

The rows of an answer are kept as one Arrow IPC stream each. As the engine gave them they lie in many buffers, each of
twice its size at worst, and keep whatever lies between them from the system: 16 MB of answers took 70.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace

import pyarrow as pa
import pyarrow.ipc

from engine.result import Answer

LARGEST_SHARE = 16  # an answer larger than this part of the whole is not kept: it would push out many small ones

Key = tuple[Hashable, ...]  # whatever settles an answer: its version and its query


class ResultsCache:
    """Answers by version and query; those used longest ago go first. May be used by many threads.

    Parameters
    ----------
    most_bytes
        Of memory in all, about; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._answers: OrderedDict[Key, tuple[Answer, pa.Buffer]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Answer | None:
        with self._lock:
            kept = self._answers.get(key)
            if kept is None:
                return None
            self._answers.move_to_end(key)
        answer, packed = kept
        return replace(answer, batches=_unpacked(packed))

    def put(self, key: Key, answer: Answer) -> None:
        """Keep an answer, if it is small enough."""
        if answer.size_bytes * LARGEST_SHARE > self._most_bytes:
            return
        packed = _packed(answer)
        if packed is None:
            return
        answer = replace(answer, batches=(), size_bytes=max(answer.size_bytes, packed.size))
        with self._lock:
            known = self._answers.pop(key, None)
            self._bytes += answer.size_bytes - (known[0].size_bytes if known else 0)
            self._answers[key] = answer, packed
            while self._bytes > self._most_bytes:
                _, (dropped, _) = self._answers.popitem(last=False)
                self._bytes -= dropped.size_bytes

    @property
    def size_bytes(self) -> int:
        """What is kept now."""
        return self._bytes


def _packed(answer: Answer) -> pa.Buffer | None:
    """The rows as one block of memory; None when IPC has no form for them."""
    sink = pa.BufferOutputStream()
    try:
        with pa.ipc.new_stream(sink, answer.schema) as writer:
            for batch in answer.batches:
                writer.write_batch(batch)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return None
    return sink.getvalue()


def _unpacked(packed: pa.Buffer) -> tuple[pa.RecordBatch, ...]:
    """The rows again, in that same memory."""
    return tuple(pa.ipc.open_stream(packed))
