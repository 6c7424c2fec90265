"""Small answers that were given before, bounded in bytes. Nothing in it is ever out of date: versions do not change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

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
        self._answers: OrderedDict[Key, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key) -> Answer | None:
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            return answer

    def put(self, key: Key, answer: Answer) -> None:
        """Keep an answer, if it is small enough."""
        if answer.size_bytes * LARGEST_SHARE > self._most_bytes:
            return
        with self._lock:
            known = self._answers.pop(key, None)
            self._bytes += answer.size_bytes - (known.size_bytes if known else 0)
            self._answers[key] = answer
            while self._bytes > self._most_bytes:
                _, dropped = self._answers.popitem(last=False)
                self._bytes -= dropped.size_bytes

    @property
    def size_bytes(self) -> int:
        """What is kept now."""
        return self._bytes
