"""Content codings, for a whole body or piece by piece. Chooses none: ``negotiation.py`` does."""

from __future__ import annotations

import zlib
from typing import Protocol

import brotli  # type: ignore[import-untyped]  # ships no types
import zstandard

MIN_BYTES = 1_024  # below, the head of the answer outweighs what is saved

# Levels where the next better one costs more time than it saves on a line of 100 Mbit/s. 35 000 rows of JSON, 5.4 MB,
# in ms and kB: zstd 1: 4.0, 456; zstd 3: 4.6, 458; brotli 1: 5.8, 503; 3: 11, 430; 4: 18, 384; gzip 1: 11, 554; 5: 19,
# 353. A small answer of 8 kB takes 0.02 ms with each. Faster deflate libraries are not worth a dependency: whoever asks
# for little time asks for zstd.
_ZSTD_LEVEL = 1
_BROTLI_QUALITY = 3
_GZIP_LEVEL = 5


class Compressor(Protocol):
    """Compresses a body; what was fed can be read in full by the other side after each call."""

    def feed(self, data: bytes) -> bytes:
        """More of the body."""

    def finish(self) -> bytes:
        """The end."""


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Brotli:
    def __init__(self) -> None:
        self._stream = brotli.Compressor(quality=_BROTLI_QUALITY)

    def feed(self, data: bytes) -> bytes:
        return bytes(self._stream.process(data)) + bytes(self._stream.flush())

    def finish(self) -> bytes:
        return bytes(self._stream.finish())


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._stream.flush()


_MAKERS: dict[str, type[_Zstd] | type[_Brotli] | type[_Gzip]] = {"zstd": _Zstd, "br": _Brotli, "gzip": _Gzip}


def make_compressor(coding: str) -> Compressor:
    """A fresh compressor of that content coding."""
    return _MAKERS[coding]()


def compress(body: bytes, coding: str) -> bytes:
    """A whole body at once."""
    if coding == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)
    if coding == "br":
        return bytes(brotli.compress(body, quality=_BROTLI_QUALITY))
    return zlib.compress(body, _GZIP_LEVEL, 16 + zlib.MAX_WBITS)
