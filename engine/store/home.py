"""Which home a configuration names. The client of object storage is imported only for a bucket: it is slow to load."""

from __future__ import annotations

from engine.config import EngineConfig, S3Location
from engine.store.blobs import Blobs, CachedBlobs, LocalBlobs
from engine.store.cache import DiskCache
from engine.store.local import LocalStore
from engine.store.protocol import Store


def open_store(config: EngineConfig) -> Store:
    """The store of a configuration. Neither a folder nor a bucket is touched yet.

    Raises
    ------
    StoreError
        It cannot be one.
    """
    if isinstance(config.store, S3Location):
        from engine.store.s3 import S3Store

        return S3Store(config.store, config.local_dir / "staging")
    return LocalStore(config.store)


def open_blobs(config: EngineConfig, store: Store) -> Blobs:
    """How queries get at the files of that store."""
    if isinstance(store, LocalStore):
        return LocalBlobs(store)
    return CachedBlobs(store, DiskCache(config.local_dir / "cache", config.cache_bytes))
