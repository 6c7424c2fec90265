"""Tables in the shape of ``datadecide-seeds``, of any size, made quickly and with little memory; always the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from engine.demo.facts import RECIPES, SIZES

METRICS = tuple(f"{kind}_{number:02}" for kind in ("loss", "accuracy", "margin") for number in range(20))
SEEDS = 3
STEP = 1_250
RUNS = len(RECIPES) * len(SIZES) * SEEDS
ROWS_PER_CHECKPOINT = RUNS * len(METRICS)  # 63,000: a checkpoint of every run
BYTES_PER_ROW = 9.85  # of the published files: `value` is noise in most of its bits, and the rest is sorted

DEFINITION = """\
title = "A sweep (synthetic)"
synthetic = true
key = ["metric", "data", "params", "step", "seed"]
sort = ["metric", "data", "params", "step"]
"""

SCHEMA = pa.schema(
    [
        ("data", pa.string()),
        ("params", pa.string()),
        ("seed", pa.int64()),
        ("step", pa.int64()),
        ("tokens", pa.int64()),
        ("metric", pa.string()),
        ("value", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Material:
    """A dataset: ``checkpoints`` of each of 1,050 runs, with all metrics. Its rows lie as the runs wrote them."""

    name: str
    checkpoints: int

    @classmethod
    def of_size(cls, name: str, size_bytes: float) -> Material:
        """One of which the published files have about so many bytes."""
        return cls(name, max(2, round(size_bytes / BYTES_PER_ROW / ROWS_PER_CHECKPOINT)))

    @property
    def rows(self) -> int:
        return self.checkpoints * ROWS_PER_CHECKPOINT

    @property
    def last_step(self) -> int:
        return self.checkpoints * STEP


def make_file(material: Material, folder: Path) -> Path:
    """The input of a publish as parquet, run after run; an earlier one of the same material is used again."""
    path = folder / f"{material.name}-{material.checkpoints}.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    # Without the Arrow schema in it: readers shall see plain text, not Arrow's dictionaries.
    with pq.ParquetWriter(unfinished, SCHEMA, compression="zstd", store_schema=False) as writer:
        for batch in _batches(material):
            writer.write_batch(batch)
    unfinished.rename(path)
    return path


def make_definitions(materials: tuple[Material, ...], folder: Path) -> Path:
    """A folder for ``BT_DEFINITIONS``."""
    for material in materials:
        place = folder / material.name
        place.mkdir(parents=True, exist_ok=True)
        (place / "dataset.toml").write_text(DEFINITION)
    return folder


def _batches(material: Material) -> Iterator[pa.RecordBatch]:
    """One for each recipe and size, cut where it would be large."""
    random = np.random.default_rng(20_261_125)
    most = 1_000_000 // (SEEDS * len(METRICS))  # checkpoints: about a million rows
    for recipe in range(len(RECIPES)):
        for size in range(len(SIZES)):
            for first in range(0, material.checkpoints, most):
                yield _batch(recipe, size, np.arange(first, min(first + most, material.checkpoints)), random)


def _batch(recipe: int, size: int, checkpoints: np.ndarray, random: np.random.Generator) -> pa.RecordBatch:
    per_seed = len(checkpoints) * len(METRICS)
    rows = SEEDS * per_seed
    steps = np.tile(np.repeat((checkpoints + 1) * STEP, len(METRICS)), SEEDS)
    metrics = np.tile(np.arange(len(METRICS), dtype=np.int8), SEEDS * len(checkpoints))
    values = 1.5 + metrics / 20 + (14 - size) / 7 + recipe / 50 + 40 / np.sqrt(steps) + random.random(rows) / 50
    columns = [
        _repeated(RECIPES[recipe], rows),
        _repeated(SIZES[size].label, rows),
        pa.array(np.repeat(np.arange(SEEDS), per_seed)),
        pa.array(steps),
        pa.array(steps * 1_024 * 2_048),
        pa.DictionaryArray.from_arrays(pa.array(metrics), pa.array(METRICS)).cast(pa.string()),
        pa.array(values),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _repeated(text: str, rows: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int8)), pa.array([text])).cast(pa.string())
