"""What an engine needs to know, as one frozen argument; ``settings.py`` is what reads the environment."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

PROJECT_DEFINITIONS = Path(__file__).resolve().parent.parent / "datasets"
MEBIBYTE = 1 << 20

_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes from ``256MB`` (decimal), ``256MiB`` (binary) or a bare number; raises ValueError on anything else."""
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory; write it like 256MB, 1GiB or 1048576")
    power = " KMGT".index(match[2].upper()) if match[2] else 0
    factor: int = (1024 if match[3] else 1000) ** power
    return round(float(match[1]) * factor)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings of one engine.

    Attributes
    ----------
    store
        Folder that holds the datasets.
    definitions
        Folder of the project's own ``<name>/dataset.toml``, which win over those beside the data; None for none.
    cache_dir
        Folder for DuckDB's spill files and other scratch; None for one under the system's temporary folder.
    memory_limit_bytes
        What DuckDB may allocate. The server's budget of 512 MB leaves about this much beside Python and Arrow.
    query_timeout_s
        How long one query may work; waiting for a slow reader does not count.
    max_rows
        An answer asked for without ``limit`` may not be longer.
    results_cache_bytes
        Of small answers that are kept to be given again; 0 for none.
    max_concurrent
        Queries that run at once; more wait for ``queue_timeout_s`` and are then refused.
    """

    store: Path
    definitions: Path | None = PROJECT_DEFINITIONS
    cache_dir: Path | None = None
    memory_limit_bytes: int = 256 * MEBIBYTE
    query_timeout_s: float = 30.0
    max_rows: int = 5_000_000
    max_concurrent: int = 8
    queue_timeout_s: float = 10.0
    results_cache_bytes: int = 16 * MEBIBYTE
    drop_settle_s: float = 2.0  # a dropped file counts once it has not changed for so long
    schema_policy: str = "warn"  # or "block-breaking"
