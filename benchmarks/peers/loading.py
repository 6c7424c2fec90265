"""The rows of the parquet files on their way into a system's own storage, with bounded memory. Knows no system."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.peers.peer import PeerError

DATASETS = ("datadecide", "ft-matched")
BATCH_ROWS = 50_000
MEMORY_LIMIT = "512MB"  # of the sort below, which spills beyond it: ×10 is 18.6 million rows
#: The key of the long table. Whoever keeps rows keeps them in this order: it is that of its most used index.
KEY = ("metric", "data", "params", "step")
#: Where a row stood in the file. Ties of a sorted page come in that order, which most systems do not know by
#: themselves.
ORDINAL = "ordinal"


def fingerprint(files: Path, recipe: str) -> str:
    """Names what is loaded: the bytes of the files, and how they are loaded."""
    digest = hashlib.sha256(recipe.encode())
    for name in DATASETS:
        with (files / f"{name}.parquet").open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def load_once(home: Path, key: str, load: Callable[[Path], None]) -> Path:
    """The folder that ``load`` filled for ``key``. Of what other rows filled, the newest is kept: sizes take turns.

    Raises
    ------
    PeerError
        It could not be filled; the folder is not left behind.
    """
    folder = home / f"data-{key}"
    if (folder / "loaded").exists():
        return folder
    home.mkdir(parents=True, exist_ok=True)
    _make_room(home)
    folder.mkdir()
    try:
        load(folder)
    except PeerError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise PeerError(f"the rows could not be loaded: {type(error).__name__}: {error}") from error
    (folder / "loaded").touch()
    return folder


def loaded_folder(home: Path, key: str) -> Path:
    """What ``load_once`` filled for ``key``. Raises PeerError when it did not."""
    folder = home / f"data-{key}"
    if not (folder / "loaded").exists():
        raise PeerError(f"these rows were not prepared in {home}")
    return folder


def _make_room(home: Path) -> None:
    """Remove what was loaded but for the newest, and what was not loaded to its end."""
    loaded = sorted(home.glob("data-*/loaded"), key=lambda mark: mark.stat().st_mtime_ns)
    kept = {mark.parent for mark in loaded[-1:]}
    for folder in set(home.glob("data-*")) - kept:
        shutil.rmtree(folder)


def schema_of(files: Path, dataset: str) -> pa.Schema:
    """The columns of a file."""
    import pyarrow.parquet as pq

    return pq.read_schema(files / f"{dataset}.parquet")


def sorted_batches(files: Path, spill: Path) -> Iterator[pa.RecordBatch]:
    """The long table by its key, each row with its ``ordinal``."""
    with _connection(spill) as connection:
        rows = connection.sql(
            f"SELECT file_row_number AS {ORDINAL}, * EXCLUDE file_row_number "
            f"FROM read_parquet($1, file_row_number=true) ORDER BY {', '.join(KEY)}",
            params=[str(files / "datadecide.parquet")],
        )
        yield from rows.to_arrow_reader(BATCH_ROWS)


def batches_in_order(files: Path, spill: Path, dataset: str) -> Iterator[pa.RecordBatch]:
    """A table as its file has it, each row with its ``ordinal``."""
    with _connection(spill) as connection:
        rows = connection.sql(
            f"SELECT file_row_number AS {ORDINAL}, * EXCLUDE file_row_number "
            "FROM read_parquet($1, file_row_number=true)",
            params=[str(files / f"{dataset}.parquet")],
        )
        yield from rows.to_arrow_reader(BATCH_ROWS)


def distinct_texts(files: Path) -> dict[str, tuple[str, ...]]:
    """The values of the long table's text columns, sorted: a pivot in plain SQL has to name its columns."""
    with _connection(None) as connection:
        source = str(files / "datadecide.parquet")
        found = {
            column: connection.execute(
                f"SELECT DISTINCT {column} FROM read_parquet($1) ORDER BY 1", [source]
            ).fetchall()
            for column in ("metric", "data", "params")
        }
        return {column: tuple(row[0] for row in rows) for column, rows in found.items()}


def _connection(spill: Path | None) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{MEMORY_LIMIT}'")
    connection.execute("SET threads = 1")
    if spill is not None:
        connection.execute(f"SET temp_directory = '{spill}'")
    return connection
