"""Answers as they were sent, kept to be sent again: bounded in bytes, and checked each time. Asks no engine.

All of it runs on the event loop, and by no other thread.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

from starlette.types import Message, Send

from engine.footing import Footing
from server.caching import is_match

LARGEST_SHARE = 16  # an answer larger than this part of the whole is not kept: it would push out many small ones

#: Of the Python objects around an answer, about.
_OVERHEAD_BYTES = 2_048
_UNCHANGED = (b"etag", b"vary", b"cache-control", b"content-location")  # what a 304 says, and what CORS adds

RawHeaders = list[tuple[bytes, bytes]]
Key = tuple[Hashable, ...]


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A 200 as it was sent. Without ``body`` it can only tell a client that it has the answer already."""

    etag: str
    headers: RawHeaders
    unchanged: RawHeaders
    footing: Footing
    body: bytes | None

    @classmethod
    def of(cls, headers: RawHeaders, body: bytes | None, footing: Footing) -> KeptAnswer:
        """What was sent, less what it took to make it. ``headers`` may also be those of a 304."""
        sent = [(name, value) for name, value in headers if name != b"server-timing"]
        etag = next(value for name, value in sent if name == b"etag").decode("latin-1")
        unchanged = [pair for pair in sent if pair[0] in _UNCHANGED or pair[0].startswith(b"access-control-")]
        return cls(etag, sent, unchanged, footing, body)

    def fits(self, if_none_match: bytes | None) -> bool:
        """Whether this is all that is needed for a request with such a header."""
        return self.body is not None or self._is_known_to(if_none_match)

    async def send(self, if_none_match: bytes | None, started: float, send: Send) -> None:
        """Answer a request that came at ``started``, by ``time.perf_counter``."""
        if self._is_known_to(if_none_match):
            await send({"type": "http.response.start", "status": 304, "headers": self.unchanged.copy()})
            await send({"type": "http.response.body", "body": b""})
            return
        total_ms = (time.perf_counter() - started) * 1_000
        timing = b"engine;dur=0.00, total;dur=%.2f, cache;desc=hit" % total_ms
        start: Message = {"type": "http.response.start", "status": 200}
        start["headers"] = [*self.headers, (b"server-timing", timing)]
        await send(start)
        await send({"type": "http.response.body", "body": self.body})

    def _is_known_to(self, if_none_match: bytes | None) -> bool:
        return if_none_match is not None and is_match(if_none_match.decode("latin-1"), self.etag)


class KeptAnswers:
    """Kept answers by what was asked; those used longest ago go first.

    Parameters
    ----------
    most_bytes
        Of memory in all, about; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self.size_bytes = 0
        self._answers: OrderedDict[Key, KeptAnswer] = OrderedDict()

    def get(self, key: Key) -> KeptAnswer | None:
        """The answer that was kept, if it would be given again now."""
        kept = self._answers.get(key)
        if kept is None:
            return None
        if not kept.footing.holds:
            self._drop(key)
            return None
        self._answers.move_to_end(key)
        return kept

    def put(self, key: Key, kept: KeptAnswer) -> None:
        """Keep an answer, or what is left without its body when that is too large."""
        for one in (kept, replace(kept, body=None)):
            if _size_bytes(key, one) * LARGEST_SHARE <= self.most_bytes:
                self._drop(key)
                self._answers[key] = one
                self.size_bytes += _size_bytes(key, one)
                break
        while self.size_bytes > self.most_bytes:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: Key) -> None:
        dropped = self._answers.pop(key, None)
        if dropped is not None:
            self.size_bytes -= _size_bytes(key, dropped)


def _size_bytes(key: Key, kept: KeptAnswer) -> int:
    asked = sum(len(part) for part in key if isinstance(part, (str, bytes)))
    head = sum(len(name) + len(value) for name, value in kept.headers)
    return _OVERHEAD_BYTES + asked + head + len(kept.body or b"")
