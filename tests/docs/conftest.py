"""A store with the demo data, made once, and what documents need to run their examples on copies of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engine import Engine, EngineConfig
from engine.demo import DEMO_DATASETS, write_demo_parquet
from server.app import create_app
from server.settings import Settings

#: Opens a client of a server over a store, on the server's own machine.
Opener = Callable[[Path], AbstractContextManager[TestClient]]


@pytest.fixture(scope="session")
def demo_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store that ``./bt`` makes. Tests only read from it."""
    folder = tmp_path_factory.mktemp("docs")
    store = folder / "datasets"
    with Engine(EngineConfig(store=store)) as engine:
        for name in DEMO_DATASETS:
            path = folder / f"{name}.parquet"
            write_demo_parquet(name, path)
            engine.publish(name, path, message="synthetic demo data", by="bt demo")
            path.unlink()
    return store


@pytest.fixture
def own_store(demo_store: Path, tmp_path: Path) -> Path:
    """The same for a document that writes. Stored files never change, so links to them do."""
    store = tmp_path / "datasets"
    shutil.copytree(demo_store, store, copy_function=os.link)
    return store


@contextmanager
def _client(store: Path) -> Iterator[TestClient]:
    app = create_app(Settings(store=store, ingest=False))
    with TestClient(
        app, client=("127.0.0.1", 50_000), base_url="http://127.0.0.1:8000", follow_redirects=False
    ) as client:
        yield client


@pytest.fixture
def open_client() -> Opener:
    return _client


@pytest.fixture
def at_home(own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the settings name the copied store and nothing else is set."""
    for name in [*os.environ]:
        if name.startswith("BT_") or name == "PORT":
            monkeypatch.delenv(name)
    monkeypatch.setenv("BT_ENV_FILE", "none")
    monkeypatch.setenv("BT_STORE", str(own_store))
    monkeypatch.setenv("BT_DROP_SETTLE", "0.2")
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    return tmp_path
