"""What the engine's tests share: a store with an engine on it, a small sweep in long form, and ways to ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from engine import Engine, Query, QueryRequest, QueryResult
from engine.store import PublishOutcome

SIZES = {"60M": 60e6, "150M": 150e6, "1B": 1e9}
RECIPES = ("C4", "Dolma1.7", "DCLM-Baseline (QC 7%, FW3)")
STEPS = (0, 1000, 2000, 5000)
METRICS = ("pile-valppl", "accuracy")

DEFINITION = """
title = "A small sweep"
key = ["params", "data", "step", "metric"]
[columns.params]
role = "dimension"
alias = ["model_size"]
[columns.data]
role = "dimension"
alias = ["data_source"]
[columns.step]
role = "axis"
unit = "steps"
[columns.metric]
role = "metric"
[columns.value]
role = "measure"
[metrics."*-valppl"]
direction = "lower"
unit = "perplexity"
[metrics.accuracy]
direction = "higher"
[derived.params_exact]
kind = "lookup"
from = "params"
[derived.params_exact.table]
60M = 57078144
150M = 151898880
1B = 1176832000
[queries.small]
title = "The smallest"
[queries.small.parameters]
params = "60M"
metric = "pile-valppl"
"""


def sweep(shift: float = 0.0) -> pa.Table:
    """72 rows: every size, recipe, step and metric; values that all differ."""
    rows = [
        {
            "params": size,
            "data": recipe,
            "step": step,
            "tokens": step * 2048,
            "compute": 6 * number * step * 2048,
            "metric": metric,
            "value": shift + 10 * at + 1 / (1 + step) + len(recipe) / 100 + number / 1e10,
        }
        for size, number in SIZES.items()
        for recipe in RECIPES
        for step in STEPS
        for at, metric in enumerate(METRICS)
    ]
    return pa.Table.from_pylist(rows)


class Lab:
    """An engine over a fresh store under a folder; datasets are published from tables."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self.store = folder / "store"
        self.definitions = folder / "definitions"
        self.store.mkdir(parents=True, exist_ok=True)
        self.engine = Engine.open(self.store, definitions=self.definitions, **config)

    def define(self, name: str, text: str) -> None:
        (self.definitions / name).mkdir(parents=True, exist_ok=True)
        (self.definitions / name / "dataset.toml").write_text(text, encoding="utf-8")

    def publish(self, name: str, table: pa.Table | dict[str, Any], definition: str | None = None) -> PublishOutcome:
        if definition is not None:
            self.define(name, definition)
        return self.engine.publish(name, table if isinstance(table, pa.Table) else pa.table(table))

    def sweep(self, shift: float = 0.0) -> PublishOutcome:
        """Publish the sweep, under its definition."""
        return self.publish("sweep", sweep(shift), DEFINITION)

    def query(self, name: str = "sweep", version: str | int | None = None) -> Query:
        return self.engine.dataset(name, version)

    def ask(self, dataset: str = "sweep", **fields: Any) -> QueryResult:
        return self.engine.run(self.engine.prepare(QueryRequest(dataset=dataset, **fields)))

    def blob(self, name: str = "sweep", version: str | None = None) -> Path:
        """The file behind a version."""
        (entry,) = self.engine.state(name).resolve(version).files
        return self.store / entry.key

    def pages(self, dataset: str = "sweep", **fields: Any) -> Iterator[QueryResult]:
        """Page after page, by cursor."""
        cursor = None
        while True:
            result = self.ask(dataset, cursor=cursor, **fields)
            yield result
            cursor = result.meta.next_cursor
            if cursor is None:
                return


def write_parquet(path: Path, table: pa.Table) -> Path:
    pq.write_table(table, path)
    return path
