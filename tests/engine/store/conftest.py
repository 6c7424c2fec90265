"""Fixtures: a store in a folder, and a process that works on it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.connection import Database
from engine.store import LocalStore
from tests.engine.store.support import Clock, Process


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database([tmp_path_factory.getbasetemp()])
    yield database
    database.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore(root)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def process(store: LocalStore, database: Database, clock: Clock) -> Process:
    return Process(store, database, clock)
