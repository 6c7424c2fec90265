"""The long tables of the demo data as parquet row groups, in the order of their definitions. Invents no value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from engine.demo.facts import METRICS, PERPLEXITIES, PRIMARY_METRICS, RECIPES, SEEDS, SIZES
from engine.demo.laws import CHECKPOINTS, mean_values, seed_values

Progress = Callable[[int, int], None]

_STEPS = [(index, size, step) for index, size in enumerate(SIZES) for step in size.steps]
_LABELS = pa.array([size.label for size in SIZES], pa.string())
_SIZE_OF = np.array([index for index, _, _ in _STEPS], dtype=np.int32)
_AXES = {
    "step": pa.array([step for _, _, step in _STEPS], pa.int64()),
    "tokens": pa.array([size.tokens(step) for _, size, step in _STEPS], pa.int64()),
    "compute": pa.array([size.compute(step) for _, size, step in _STEPS], pa.float64()),
}


def write_means(path: Path, progress: Progress | None) -> None:
    """``datadecide``: 221 metrics × 25 recipes × 337 checkpoints, means over seeds.

    A row group is 12 whole metrics (101,100 rows), so that a query of one metric reads one row group.
    """
    _write(path, METRICS, 12, ("params", "data", "step", "tokens", "compute", "metric", "value"), _means, progress)


def write_seeds(path: Path, progress: Progress | None) -> None:
    """``datadecide-seeds``: 21 metrics × 25 recipes × 337 checkpoints × 3 seeds; 4 metrics to a row group."""
    metrics = tuple(sorted((*PERPLEXITIES, *PRIMARY_METRICS)))
    columns = ("params", "data", "seed", "step", "tokens", "compute", "metric", "value")
    _write(path, metrics, 4, columns, _per_seed, progress)


def _means(metric: str) -> dict[str, pa.Array]:
    recipe, checkpoint = (axis.ravel() for axis in np.indices((len(RECIPES), CHECKPOINTS), dtype=np.int32))
    return _columns(metric, recipe, checkpoint, mean_values(metric).ravel())


def _per_seed(metric: str) -> dict[str, pa.Array]:
    values = seed_values(metric)
    recipe, seed, checkpoint = [], [], []
    for r in range(len(RECIPES)):
        for s in range(len(SIZES)):
            of_size = np.flatnonzero(s == _SIZE_OF).astype(np.int32)
            checkpoint.append(np.tile(of_size, len(SEEDS)))
            seed.append(np.repeat(np.array(SEEDS, dtype=np.int32), len(of_size)))
            recipe.append(np.full(len(of_size) * len(SEEDS), r, dtype=np.int32))
    recipes, seeds, checkpoints = np.concatenate(recipe), np.concatenate(seed), np.concatenate(checkpoint)
    columns = _columns(metric, recipes, checkpoints, values[seeds, recipes, checkpoints])
    return columns | {"seed": pa.array(seeds, pa.int32())}


def _columns(
    metric: str, recipe: npt.NDArray[np.int32], checkpoint: npt.NDArray[np.int32], values: npt.NDArray[np.float64]
) -> dict[str, pa.Array]:
    taken = pa.array(checkpoint)
    return {
        "params": pa.DictionaryArray.from_arrays(pa.array(_SIZE_OF[checkpoint]), _LABELS).cast(pa.string()),
        "data": pa.DictionaryArray.from_arrays(pa.array(recipe), pa.array(RECIPES)).cast(pa.string()),
        **{name: axis.take(taken) for name, axis in _AXES.items()},
        "metric": pa.array([metric] * len(values), pa.string()),
        "value": pa.array(values, pa.float64(), from_pandas=True),  # NaN becomes null
    }


def _write(
    path: Path,
    metrics: tuple[str, ...],
    per_group: int,
    order: tuple[str, ...],
    make: Callable[[str], dict[str, pa.Array]],
    progress: Progress | None,
) -> None:
    groups = [metrics[start : start + per_group] for start in range(0, len(metrics), per_group)]
    writer: pq.ParquetWriter | None = None
    try:
        for done, table in enumerate(_tables(groups, order, make), start=1):
            if writer is None:
                writer = pq.ParquetWriter(
                    path,
                    table.schema,
                    compression="zstd",
                    use_dictionary=[name for name in order if name != "value"],
                    column_encoding={"value": "BYTE_STREAM_SPLIT"},
                )
            writer.write_table(table, row_group_size=table.num_rows)
            if progress is not None:
                progress(done, len(groups))
    finally:
        if writer is not None:
            writer.close()


def _tables(
    groups: list[tuple[str, ...]], order: tuple[str, ...], make: Callable[[str], dict[str, pa.Array]]
) -> Iterator[pa.Table]:
    for group in groups:
        yield pa.concat_tables(pa.table({name: columns[name] for name in order}) for columns in map(make, group))
