"""Making parquet of a file that is a table in another format: CSV, JSON lines, Arrow IPC. Stores nothing.

The types are found by reading the whole file, not a sample: a column of integers whose last row holds text is text.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from engine.connection import Database, quoted
from engine.errors import EngineError, RejectedFileError, StoreError
from engine.store.inspect import SCAN_TIMEOUT_S, rejection
from engine.store.keys import FORMATS, format_of
from engine.store.protocol import Progress

ROW_GROUP_ROWS = 122_880  # DuckDB's own: one thread reads one group at a time
ROW_GROUP_BYTES = 64 << 20  # in memory: a table of thousands of columns gets smaller groups
_ARROW = (b"ARROW1", b"\xff\xff\xff\xff")  # a file, and a stream
_HEAD_BYTES = 64 * 1024
_BOM = b"\xef\xbb\xbf"

_TEXT = ("csv", "jsonl")
_CSV = (
    "read_csv(?, header = true, skip = 0, delim = ?, quote = '\"', escape = '\"', comment = '', strict_mode = true, "
    "null_padding = false, ignore_errors = false, sample_size = -1, hive_partitioning = false)"
)
# Without the threshold, a line of more than 200 similar fields would be one map and no table.
_JSON_LINES = (
    "read_json(?, format = 'newline_delimited', records = true, sample_size = -1, map_inference_threshold = -1, "
    "hive_partitioning = false)"
)
# What a column of numbers may hold beside numbers that begin with a zero, which are labels.
_NUMBERS = r"(?i)\s*([+-]?(inf|infinity|nan|(0|[1-9]\d*)(\.\d*)?(e[+-]?\d+)?|\.\d+(e[+-]?\d+)?))?\s*"


def detect_format(path: Path, name: str) -> str:
    """``parquet``, ``csv``, ``jsonl`` or ``arrow``: by the file's name, or by its first bytes when the name is silent.

    Raises
    ------
    RejectedFileError
        When neither says, or when they contradict each other.
    """
    with open(path, "rb") as reader:
        head = reader.read(_HEAD_BYTES)
    named = format_of(name)
    found = "parquet" if head.startswith(b"PAR1") else "arrow" if head.startswith(_ARROW) else None
    if named is None:
        if found is None:
            known = ", ".join(f".{extension}" for extension in FORMATS)
            raise RejectedFileError(f"{name} is neither parquet nor Arrow, and its name ends in none of {known}")
        return found
    if not head:
        raise RejectedFileError(f"{name} is empty")
    if named in _TEXT:
        if found:
            raise RejectedFileError(f"{name} is {found} by its content; name it .{found}")
        if b"\0" in head:
            raise RejectedFileError(f"{name} is not text: it holds zero bytes")
    if named == "csv" and not head.removeprefix(_BOM).split(b"\n")[0].strip():
        raise RejectedFileError(f"{name} has an empty first line; the first line must name the columns")
    if named == "jsonl" and not head.removeprefix(_BOM).lstrip().startswith(b"{"):
        raise RejectedFileError(f"{name} is not JSON lines: each line must be one object, {{...}}")
    return named


def convert_to_parquet(
    database: Database, path: Path, into: Path, *, file_format: str, name: str, progress: Progress | None = None
) -> None:
    """Write the table in ``path`` to the new parquet file ``into``, in its order.

    Raises
    ------
    RejectedFileError
        The file is no table in that format, and why.
    EngineBusyError, QueryTimeoutError, ResourceLimitError
    """
    try:
        if file_format == "arrow":
            _write(into, *_read_arrow(path, name), progress)
        else:
            sql, parameters = _csv_query(database, path, name) if file_format == "csv" else _json_query(database, path)
            with database.stream(sql, parameters, timeout_s=SCAN_TIMEOUT_S) as rows:
                _write(into, rows.schema, rows, progress)
    except EngineError as error:
        raise rejection(error, name, path) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO):
            raise StoreError(f"the parquet made from {name} cannot be stored: {error.strerror}") from error
        raise _unusable(error, name, path, into) from error
    except (pa.ArrowException, ValueError) as error:
        raise _unusable(error, name, path, into) from error


def _unusable(error: Exception, name: str, path: Path, into: Path) -> RejectedFileError:
    cause = str(error).split("\n")[0].replace(str(path), name).replace(str(into), name)
    return RejectedFileError(f"{name} cannot be made into parquet: {cause}")


def _csv_query(database: Database, path: Path, name: str) -> tuple[str, list[str]]:
    """The statement that reads a CSV file, and its parameters.

    Only the types are left for DuckDB to find. Left to find the delimiter and the header too, it prefers to drop
    lines that do not fit over saying so.
    """
    parameters = [str(path), "\t" if name.lower().endswith(".tsv") else _delimiter(path)]
    columns = _describe(database, _CSV, parameters)
    texts = [column for column, sql_type in columns if sql_type == "VARCHAR"]
    if not texts:
        return f"SELECT * FROM {_CSV}", parameters
    # A loss that diverged is written as inf, which DuckDB takes for text.
    tests = ", ".join(
        f"count({quoted(column)}) > 0 AND bool_and(regexp_full_match({quoted(column)}, ?)) AS t{position}"
        for position, column in enumerate(texts)
    )
    found = database.table(
        f"SELECT {tests} FROM {_CSV}", [*[_NUMBERS] * len(texts), *parameters], timeout_s=SCAN_TIMEOUT_S
    )
    numbers = [column for column, (verdict,) in zip(texts, found.to_pydict().values(), strict=True) if verdict]
    changes = ", ".join(f"CAST({quoted(column)} AS DOUBLE) AS {quoted(column)}" for column in numbers)
    return f"SELECT *{f' REPLACE ({changes})' if changes else ''} FROM {_CSV}", parameters


def _delimiter(path: Path) -> str:
    """The one of comma, tab, semicolon and bar that stands most often in the first line, outside quotes."""
    with open(path, "rb") as reader:
        line = reader.readline(_HEAD_BYTES)
    outside = b"".join(line.split(b'"')[::2])
    return max(",\t;|", key=lambda candidate: outside.count(candidate.encode()))


def _json_query(database: Database, path: Path) -> tuple[str, list[str]]:
    """The statement that reads JSON lines.

    A column of mixed types becomes text, strings without their quotes; one that only ever holds null becomes text too.
    """
    casts = {"JSON": "{0} ->> '$' AS {0}", '"NULL"': "CAST({0} AS VARCHAR) AS {0}"}
    columns = _describe(database, _JSON_LINES, [str(path)])
    changes = ", ".join(casts[sql_type].format(quoted(column)) for column, sql_type in columns if sql_type in casts)
    return f"SELECT *{f' REPLACE ({changes})' if changes else ''} FROM {_JSON_LINES}", [str(path)]


def _describe(database: Database, reader: str, parameters: list[str]) -> list[tuple[str, str]]:
    described = database.table(f"DESCRIBE SELECT * FROM {reader}", parameters, timeout_s=SCAN_TIMEOUT_S)
    return list(zip(described["column_name"].to_pylist(), described["column_type"].to_pylist(), strict=True))


def _write(into: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], progress: Progress | None) -> None:
    done = 0
    with pq.ParquetWriter(into, schema, compression="zstd") as writer:
        gathered: list[pa.RecordBatch] = []
        for batch in batches:
            gathered.append(batch)
            done += batch.num_rows
            if progress is not None:
                progress("convert", done, 0)
            rows = sum(part.num_rows for part in gathered)
            if rows >= ROW_GROUP_ROWS or sum(part.nbytes for part in gathered) >= ROW_GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(gathered, schema=schema))
                gathered = []
        if gathered:
            writer.write_table(pa.Table.from_batches(gathered, schema=schema))


def _read_arrow(path: Path, name: str) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    with open(path, "rb") as reader:
        head = reader.read(6)
    if head.startswith(b"FEA1"):
        raise RejectedFileError(f"{name} is Feather version 1, which is no longer read; write it as version 2")
    if head != b"ARROW1" and head[:4] != b"\xff\xff\xff\xff":
        raise RejectedFileError(f"{name} is not Arrow IPC by its first bytes")
    source = pa.memory_map(str(path))
    if head == b"ARROW1":
        file = pa.ipc.open_file(source)
        return file.schema, _checked(file.get_batch(position) for position in range(file.num_record_batches))
    stream = pa.ipc.open_stream(source)
    return stream.schema, _checked(stream)


def _checked(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, each with its offsets and lengths checked: following a wrong one would end the process."""
    for batch in batches:
        batch.validate(full=True)
        yield batch
