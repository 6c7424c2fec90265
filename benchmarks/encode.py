"""``python -m benchmarks.encode``: how long each format takes to write the slice of 35 139 rows, and its size.

No HTTP and no query in the time: the rows are read first. For whoever works on ``server/encoding``.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.material import make_files
from engine import Engine
from server.encoding import FORMATS, Format, Payload

REPEATS = 15
_DATASET = "datadecide"


def main() -> int:
    """Print a Markdown table of the formats."""
    with tempfile.TemporaryDirectory(prefix="bytomorrow-bench-") as folder:
        table = _slice(Path(folder))
    print(f"{table.num_rows:,} rows, {len(table.schema)} columns; median of {REPEATS}\n")
    print("| format | ms | MB | MB/s |\n| --- | ---: | ---: | ---: |")
    for form in FORMATS:
        milliseconds, size = _time(form, table)
        print(f"| {form.name} | {milliseconds:.1f} | {size / 1e6:.2f} | {size / 1e3 / milliseconds:,.0f} |")
    return 0


def _slice(folder: Path) -> pa.Table:
    make_files(folder / "files")
    with Engine.open(folder / "store") as engine:
        engine.publish(_DATASET, folder / "files" / f"{_DATASET}.parquet")
        query = engine.dataset(_DATASET).where(data="Dolma1.7", params=["90M", "300M", "750M", "1B"])
        return query.to_arrow()


def _payload(table: pa.Table) -> Payload:
    def envelope(*_: Any) -> dict[str, Any]:
        return {"meta": {}, "links": {}}

    return Payload(table.schema, table.to_batches(), True, opening=envelope, closing=envelope)


def _time(form: Format, table: pa.Table) -> tuple[float, int]:
    size, taken = 0, []
    for _ in range(REPEATS):
        began = time.perf_counter()
        size = len(b"".join(form.encode(_payload(table))))
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken), size


if __name__ == "__main__":
    sys.exit(main())
