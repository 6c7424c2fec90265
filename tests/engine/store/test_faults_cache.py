"""What the disk cache meets when several processes share one folder, at the very moments that hurt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.store import cache as cache_module
from engine.store.cache import DiskCache
from tests.engine.store.cache_support import BLOCK, Objects


@pytest.mark.parametrize("is_thrown_away", [False, True])
def test_another_process_ends_the_download_before_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_thrown_away: bool
) -> None:
    """Whoever opened the half-done file then holds the lock of the whole one, and must let go of it."""
    objects, folder = Objects(), tmp_path / "cache"
    entry = objects.put(1)
    cache = DiskCache(folder, 1 << 20, wait_s=5.0, block_bytes=BLOCK, threads=1)
    real, turns = cache_module.try_lock, []

    def meanwhile(descriptor: int, **options: bool) -> bool:
        if not turns:
            turns.append(1)
            part, blob = folder / "parts" / f"{entry.sha256}.part", folder / "blobs" / f"{entry.sha256}.parquet"
            if is_thrown_away:
                part.unlink()
            else:
                part.write_bytes(objects.content[entry.key])
                part.chmod(0o444)
                os.rename(part, blob)
        return real(descriptor, **options)

    monkeypatch.setattr(cache_module, "try_lock", meanwhile)
    pin = cache.pin(entry, objects.read_range)
    assert pin.path.read_bytes() == objects.content[entry.key]
    assert bool(objects.asked) is is_thrown_away, "what is there is not fetched again"
    cache.unpin(pin)
    assert cache.metrics().waits == 0
