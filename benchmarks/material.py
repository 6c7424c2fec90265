"""What all systems are asked about: one store for ours, the same rows as plain parquet files for the others.

×1 is the demo data. ×N has N − 1 further recipes for each of its own (``Dolma1.7 v2`` …), their values moved a little,
so that a selective query finds the same rows at every size. The files are in the order in which versions are published.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.client import Client
from benchmarks.process import Server, run_cli
from engine.demo import write_demo_parquet
from engine.demo.facts import METRICS, RECIPES, SIZES
from engine.demo.laws import mean_values, round_significant

DATASETS = ("datadecide", "ft-matched")
SIZES_OF_DATA = (1, 10, 100)
ROW_GROUP_ROWS = 101_100  # 12 metrics of the demo data, as in its own file
PUBLISH_TIMEOUT_S = 3_600.0

_SEED = 20_261_125
_MOVED = 0.01  # standard deviation of what a further recipe differs by, as a share
_STEPS = [(size, step) for size in SIZES for step in size.steps]


def make_files(folder: Path, times: int = 1, metrics: tuple[str, ...] = METRICS) -> None:
    """Write ``<folder>/<dataset>.parquet``; memory is that of one metric, whatever the size.

    Parameters
    ----------
    folder
        Made when it does not exist.
    times
        How many times the rows of the demo data.
    metrics
        Fewer than all, for tests.
    """
    folder.mkdir(exist_ok=True)
    for name in DATASETS:
        path = folder / f"{name}.parquet"
        if name == DATASETS[0] and (times > 1 or metrics != METRICS):
            _write_long(path, times, metrics)
        else:
            write_demo_parquet(name, path)


def recipes_of(times: int) -> list[tuple[str, int, int]]:
    """Name, number of the demo recipe, and which variant (0: the demo's own), sorted as a version is.

    >>> [name for name, _, variant in recipes_of(2)][:4]
    ['C4', 'C4 v2', 'DCLM-Baseline', 'DCLM-Baseline (QC 10%)']
    """
    named = (
        (recipe if variant == 0 else f"{recipe} v{variant + 1}", number, variant)
        for number, recipe in enumerate(RECIPES)
        for variant in range(times)
    )
    return sorted(named, key=lambda one: one[0].encode())


def _write_long(path: Path, times: int, metrics: tuple[str, ...]) -> None:
    recipes = recipes_of(times)
    axes = _axes(recipes)
    partial = path.with_name(f".{path.name}.partial")
    schema = pa.schema(
        [
            *((name, axes[name].type) for name in ("params", "data", "step", "tokens", "compute")),
            ("metric", pa.string()),
            ("value", pa.float64()),
        ]
    )
    options = {"use_dictionary": [name for name in schema.names if name != "value"]}
    with pq.ParquetWriter(partial, schema, compression="zstd", **options) as writer:
        for metric in sorted(metrics):
            values = pa.array(_values(metric, recipes), pa.float64(), from_pandas=True)  # NaN becomes null
            named = pa.array([metric], pa.string()).take(pa.array(np.zeros(len(values), dtype=np.int8)))
            table = pa.table({**axes, "metric": named, "value": values}, schema)
            writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    partial.replace(path)


def _axes(recipes: list[tuple[str, int, int]]) -> dict[str, pa.Array]:
    """All columns but metric and value: the same for every metric."""
    checkpoint = np.tile(np.arange(len(_STEPS), dtype=np.int32), len(recipes))
    recipe = np.repeat(np.arange(len(recipes), dtype=np.int32), len(_STEPS))
    by_checkpoint = {
        "params": pa.array([size.label for size, _ in _STEPS], pa.string()),
        "step": pa.array([step for _, step in _STEPS], pa.int64()),
        "tokens": pa.array([size.tokens(step) for size, step in _STEPS], pa.int64()),
        "compute": pa.array([size.compute(step) for size, step in _STEPS], pa.float64()),
    }
    taken = pa.array(checkpoint)
    names = pa.array([name for name, _, _ in recipes], pa.string())
    return {name: column.take(taken) for name, column in by_checkpoint.items()} | {"data": names.take(pa.array(recipe))}


def _values(metric: str, recipes: list[tuple[str, int, int]]) -> np.ndarray:
    exact = mean_values(metric)
    random = np.random.Generator(np.random.PCG64([_SEED, zlib.crc32(metric.encode())]))
    times = max(variant for _, _, variant in recipes) + 1
    shares = random.standard_normal((times, len(RECIPES)))
    shares[0] = 0.0
    rows = [exact[number] * (1 + _MOVED * shares[variant, number]) for _, number, variant in recipes]
    moved = np.stack(rows)
    own = np.array([variant == 0 for _, _, variant in recipes])
    moved[~own] = round_significant(moved[~own])
    return moved.ravel()


def publish_files(folder: Path, store: Path, scratch: Path) -> None:
    """Publish those files into a store by the command line, as a user would."""
    store.mkdir(exist_ok=True)
    for name in DATASETS:
        run_cli(["publish", name, str(folder / f"{name}.parquet")], store, scratch, PUBLISH_TIMEOUT_S)


def download_files(ours: Server, folder: Path) -> None:
    """The latest versions of a store that already exists, from its server, as the seed's files."""
    folder.mkdir(exist_ok=True)
    with Client(ours.port) as client:
        for name in DATASETS:
            reply = client.get(f"/api/datasets/{name}/versions/latest/file")
            (folder / f"{name}.parquet").write_bytes(reply.body)
