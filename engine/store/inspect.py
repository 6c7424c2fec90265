"""Whether a file is parquet that can be served, to the last value, and what is in it. Stores nothing.

Every value is decoded once. What that cannot find is a flipped bit that still decodes: parquet pages usually carry no
checksum. From the moment of publishing on, the SHA-256 in the log finds that too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.connection import Database
from engine.errors import CorruptVersionError, EngineError, RejectedFileError, ResourceLimitError
from engine.store.protocol import Progress
from engine.store.records import SchemaField

SCAN_TIMEOUT_S = 3600.0  # a scan runs at disk speed; only a file of hundreds of gigabytes takes this long

MAX_CAUSE_CHARACTERS = 500  # a cause may quote a whole line of the file

#: How to read exactly one file: a folder named ``seed=4`` above it is no column of it.
PARQUET = "read_parquet(?, hive_partitioning = false)"

_PREFIXES = re.compile(
    r"(the data could not be read: |a number left the range of its type: )?([A-Z][A-Za-z ]* Error: )?"
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a parquet file holds."""

    rows: int
    row_groups: int
    schema: tuple[SchemaField, ...]


def inspect_parquet(
    database: Database, path: Path, *, name: str | None = None, progress: Progress | None = None
) -> Inspection:
    """Read a parquet file to its end.

    Parameters
    ----------
    database
        May read the folder that ``path`` lies in.
    name
        What messages call the file; the end of the path when None.

    Raises
    ------
    RejectedFileError
        The file cannot be served, and why.
    EngineBusyError, QueryTimeoutError, ResourceLimitError
        It could not be found out now.
    """
    shown = name or path.name
    check_parquet_frame(path, shown)
    try:
        (footer,) = _rows(database, "SELECT num_rows, num_row_groups FROM parquet_file_metadata(?)", path)
        schema = describe_parquet(database, path)
        with database.stream(f"SELECT * FROM {PARQUET}", [str(path)], timeout_s=SCAN_TIMEOUT_S) as batches:
            rows = 0
            for batch in batches:
                rows += batch.num_rows
                if progress is not None:
                    progress("check", rows, footer["num_rows"])
    except EngineError as error:
        raise rejection(error, shown, path) from error
    if rows != footer["num_rows"]:
        raise RejectedFileError(f"{shown} says it has {footer['num_rows']} rows and holds {rows}")
    if any("\0" in column.name for column in schema):
        raise RejectedFileError(f"{shown} has a column whose name holds a zero character")  # which Arrow cuts off there
    return Inspection(rows, footer["num_row_groups"], schema)


def describe_parquet(database: Database, path: Path) -> tuple[SchemaField, ...]:
    """The columns of a parquet file as DuckDB sees them; raises what the database raises."""
    described = _rows(database, f"DESCRIBE SELECT * FROM {PARQUET}", path)
    required = _required(_rows(database, "SELECT repetition_type, num_children FROM parquet_schema(?)", path))
    return tuple(
        SchemaField(
            column["column_name"],
            column["column_type"],
            nullable=not (len(required) == len(described) and required[position]),
        )
        for position, column in enumerate(described)
    )


def check_parquet_frame(path: Path, name: str) -> None:
    """Check the magic at both ends and that the footer fits between them; raises RejectedFileError."""
    size = path.stat().st_size
    with open(path, "rb") as reader:
        head = reader.read(4)
        reader.seek(max(size - 8, 0))
        tail = reader.read(8)
    if size == 0:
        raise RejectedFileError(f"{name} is empty")
    if b"PARE" in (head, tail[4:]):
        raise RejectedFileError(f"{name} is encrypted parquet, which cannot be read")
    if head != b"PAR1":
        raise RejectedFileError(f"{name} is not parquet: it does not begin with PAR1")
    if size < 12 or tail[4:] != b"PAR1":
        raise RejectedFileError(f"{name} is cut short: it begins as parquet and does not end with PAR1")
    if int.from_bytes(tail[:4], "little") > size - 12:
        raise RejectedFileError(f"{name} is corrupt: its footer is said to be longer than the file")


def rejection(error: EngineError, name: str, path: Path) -> EngineError:
    """The error for a file that DuckDB could not read; the same one when that is not the file's fault."""
    # A number that leaves its type's range is reported as a limit too, and that one is the file's fault.
    if isinstance(error, ResourceLimitError) and not error.detail.startswith("a number"):
        return ResourceLimitError(f"{name} needs more memory to be read than this server gives, or is corrupt")
    if not isinstance(error, (CorruptVersionError, ResourceLimitError)):
        return error
    said = [line.strip() for line in str(error.__cause__).split("\n")]
    # The second line of a CSV error says where, the third what.
    detail = f"{error.detail} {said[1]} {said[2]}" if "CSV Error" in said[0] and len(said) > 2 else error.detail
    cause = _PREFIXES.sub("", detail, count=1).replace(str(path), name)
    cause = cause.replace("Failed to read Parquet file the file: ", "").replace("the file", name)
    if cause.startswith("Error when sniffing file"):
        cause = "not every line has the columns that its first line names, or a quote is never closed"
    elif "at least one non-root column" in cause:
        cause = "it has no columns"
    elif "json_read expected records" in cause:
        cause = "a line is not an object with named fields"
    if len(cause) > MAX_CAUSE_CHARACTERS:
        cause = cause[:MAX_CAUSE_CHARACTERS] + "…"
    return RejectedFileError(f"{name} cannot be read: {cause}")


def _rows(database: Database, sql: str, path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = database.table(sql, [str(path)]).to_pylist()
    return found


def _required(tree: Sequence[dict[str, Any]]) -> list[bool]:
    """For each top-level column of a schema in depth-first order, whether it can never be null."""
    nodes = iter(tree)
    root = next(nodes, None)
    found = []
    for _ in range((root or {}).get("num_children") or 0):
        column = next(nodes, None)
        if column is None:
            break
        found.append(column["repetition_type"] == "REQUIRED")
        _skip_children(column, nodes)
    return found


def _skip_children(node: dict[str, Any], nodes: Iterator[dict[str, Any]]) -> None:
    left = node["num_children"] or 0
    while left:
        left += ((next(nodes, None) or {}).get("num_children") or 0) - 1
