"""Synthetic data sets that show what the system serves: written as parquet files, never into a store.

The names, sizes and cardinalities are those of DataDecide (arXiv 2504.11393); the values are invented by scaling laws
with a fixed seed. See ``engine/demo/laws.py`` for the laws and ``datasets/<name>/dataset.toml`` for the definitions.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.demo.finetuning import write_finetuning
from engine.demo.tables import write_means, write_seeds

__all__ = ["DEMO_DATASETS", "write_demo_parquet"]

_WRITERS = {"datadecide": write_means, "datadecide-seeds": write_seeds, "ft-matched": write_finetuning}

DEMO_DATASETS: tuple[str, ...] = tuple(_WRITERS)


def write_demo_parquet(name: str, path: Path, progress: Callable[[int, int], None] | None = None) -> None:
    """Write one demo data set as a parquet file.

    Deterministic: the same library versions give the same bytes.

    Parameters
    ----------
    name
        One of ``DEMO_DATASETS``.
    path
        The file to write. Its folder must exist; a file of that name is replaced. It appears whole or not at all.
    progress
        Called with the parts done and the parts in all, after each part.

    Raises
    ------
    ValueError
        When there is no such demo data set.
    """
    if name not in _WRITERS:
        raise ValueError(f"no demo data set {name!r}; there are {', '.join(DEMO_DATASETS)}")
    partial = path.with_name(f".{path.name}.partial")
    try:
        _WRITERS[name](partial, progress)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
