"""scratch"""
from __future__ import annotations
import time
from pathlib import Path
from typing import Any
import pytest
from engine.connection import Database
from engine.store import DatasetLog, LocalStore, Publisher
from engine.store import log as log_module
from engine.errors import StoreError
from tests.engine.store.support import write_parquet, current_of, FaultyStore
from engine.store.verify import verify_blob

class Late(FaultyStore):
    held: Any = None
    def put_if_absent(self, key, content):
        if "/log/" in key and self.held is None:
            self.held = [key, content, 2]
            return False
        return super().put_if_absent(key, content)
    def read(self, key):
        if isinstance(self.held, list) and self.held and key == self.held[0]:
            found = super().read(key)
            k, c, _ = self.held
            self.held = ()
            self.inner_put(k, c)
            return found
        return super().read(key)
    def inner_put(self, k, c):
        assert super().put_if_absent(k, c)

def test_late(store: LocalStore, database: Database, tmp_path: Path):
    late = Late(store)
    p = Publisher(late, database, lambda n: None)
    out = p.publish("d", write_parquet(tmp_path / "a.parquet"))
    print(out.created)
    for f in DatasetLog(store, "d").refresh().current.all_files:
        verify_blob(store, f)
