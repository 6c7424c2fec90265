"""What is compressed comes back, whole and piece by piece."""

from __future__ import annotations

import gzip

import brotli
import pytest
import zstandard

from server.compression import compress, make_compressor


def _expand(data: bytes, coding: str) -> bytes:
    if coding == "zstd":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return bytes(brotli.decompress(data)) if coding == "br" else gzip.decompress(data)


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip"])
def test_round_trip(coding: str) -> None:
    pieces = [b"", b"a" * 10_000, bytes(range(256)) * 100, b"end"]
    whole = b"".join(pieces)
    assert _expand(compress(whole, coding), coding) == whole
    assert compress(whole, coding) == compress(whole, coding)
    compressor = make_compressor(coding)
    streamed = b"".join([*map(compressor.feed, pieces), compressor.finish()])
    assert _expand(streamed, coding) == whole
    assert len(streamed) < len(whole) / 2
