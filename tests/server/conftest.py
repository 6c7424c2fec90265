"""A small store and a client of the application over it, in process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from engine import Engine, EngineConfig
from server.app import create_app
from server.settings import Settings

RECIPES = ("Dolma1.7", "C4", "DCLM-Baseline (QC 7%, FW3)", "DCLM-Baseline 25% / Dolma 75%", "Dolma1.6++")
SIZES = ("4M", "60M", "150M")
STEPS = (1250, 5000, 10000)
METRICS = ("pile-valppl", "mmlu_primary_metric")

DEFINITION = """
title = "A small sweep"
key = ["metric", "data", "params", "step"]

[columns.params]
role = "dimension"
alias = ["model_size"]

[columns.data]
role = "dimension"
alias = ["data_source"]

[columns.step]
role = "axis"
unit = "optimiser steps"

[columns.metric]
role = "metric"

[columns.value]
role = "measure"

[metrics."*-valppl"]
direction = "lower"
unit = "perplexity"

[derived.params_numeric]
kind = "size_label"
from = "params"

[queries.small]
title = "One slice"

[queries.small.parameters]
data = "Dolma1.7"
metric = "pile-valppl"
step = "5000"

[queries.unmelted]
title = "One column per metric"

[queries.unmelted.parameters]
pivot = "metric"

[queries.ft]
title = "The wide table"
dataset = "wide"

[queries.ft.parameters]

[queries.broken]
title = "Names a column that is not there"

[queries.broken.parameters]
select = "nowhere"
"""


def sweep(offset: float = 0.0) -> pa.Table:
    """A table in long form: 5 recipes × 3 sizes × 3 steps × 2 metrics."""
    rows = [
        {
            "params": size,
            "data": recipe,
            "step": step,
            "metric": metric,
            "value": 100.0 / (1 + r + s + t) + (0.5 if metric != METRICS[0] else 0.0) + offset,
        }
        for metric in METRICS
        for r, recipe in enumerate(RECIPES)
        for s, size in enumerate(SIZES)
        for t, step in enumerate(STEPS)
    ]
    return pa.Table.from_pylist(rows)


def wide() -> pa.Table:
    """Nine rows with one column per metric, two seeds, nulls and NaN."""
    nan = float("nan")
    return pa.table(
        {
            "run": [f"run-{number}" for number in range(9)],
            "group": ["a", "b", "c"] * 3,
            "seed": [0, 1, 0, 1, 0, 1, 0, 1, 0],
            "accuracy": pa.array([0.1, 0.2, None, 0.4, nan, 0.6, 0.7, 0.8, float("inf")]),
        }
    )


def numbers(rows: int) -> pa.Table:
    """A table long enough to be streamed when ``rows`` is over 65 536."""
    return pa.table(
        {
            "n": pa.array(range(rows), pa.int64()),
            "half": pa.array([position / 2 for position in range(rows)], pa.float64()),
            "label": pa.array([f"group {position % 7}" for position in range(rows)], pa.string()),
        }
    )


def fill(folder: Path) -> None:
    """Publish the small datasets into a store."""
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "dataset.toml").write_text(DEFINITION, encoding="utf-8")
    with Engine(EngineConfig(store=folder, definitions=None)) as engine:
        engine.publish("sweep", sweep(1.0), message="first", by="tests")
        engine.publish("sweep", sweep(), message="second", by="tests")
        engine.publish("wide", wide())
        engine.publish("long", numbers(150_000))


def settings(folder: Path, **changes: object) -> Settings:
    """Settings of a server over a store, with nothing read from the environment."""
    given: dict[str, object] = {"store": folder, "definitions": None, "ingest": False, "dataset": "sweep"}
    return Settings.model_validate(given | changes)


def local_client(chosen: Settings) -> TestClient:
    """A client on the same machine as the server, as far as the server can tell."""
    return TestClient(
        create_app(chosen),
        raise_server_exceptions=False,
        client=("127.0.0.1", 50_000),
        base_url="http://localhost",
        headers={"accept-encoding": "identity"},
        follow_redirects=False,
    )


@pytest.fixture(scope="session")
def filled_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that tests only read from."""
    folder = tmp_path_factory.mktemp("store")
    fill(folder)
    return folder


@pytest.fixture(scope="session")
def client(filled_store: Path) -> Iterator[TestClient]:
    """A client of a server over the store that tests only read from."""
    with local_client(settings(filled_store)) as opened:
        yield opened


@pytest.fixture
def own_store(tmp_path: Path) -> Path:
    """A store that a test may write to."""
    folder = tmp_path / "store"
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "dataset.toml").write_text(DEFINITION, encoding="utf-8")
    with Engine(EngineConfig(store=folder, definitions=None)) as engine:
        engine.publish("sweep", sweep(), message="first", by="tests")
    return folder


@pytest.fixture
def own_client(own_store: Path) -> Iterator[TestClient]:
    """A client of a server over a store that a test may write to."""
    with local_client(settings(own_store)) as opened:
        yield opened


@pytest.fixture
def parquet_file(tmp_path: Path) -> Path:
    """A parquet file that is in no store."""
    path = tmp_path / "results.parquet"
    pq.write_table(sweep(5.0), path)
    return path
