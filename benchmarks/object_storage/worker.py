"""Another way to ask the same objects: DuckDB with s3fs, or pyarrow.dataset, as a process that answers line by line.

It runs in an environment of its own and imports nothing of ours. The first line on stdin says what and where;
it answers with the versions. Each further line is a question; an answer has ``rows`` or ``error``.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from typing import Any

Ask = Callable[[dict[str, Any]], list[Any]]

_ONE_METRIC = "SELECT data, params, seed, value FROM {} WHERE metric = ? AND step = ?"
_GROUPED = "SELECT metric, params, avg(value), count(value) FROM {} GROUP BY metric, params"


def main() -> None:
    """Answer until stdin ends."""
    setup = json.loads(sys.stdin.readline())
    packages, make = {
        "duckdb-s3fs": (("duckdb", "s3fs"), _duckdb),
        "duckdb-s3fs-direct": (("duckdb", "s3fs"), _duckdb),
        "pyarrow": (("pyarrow",), _pyarrow),
    }[setup["system"]]
    ask: Ask | None = None
    try:
        ask = make(setup)
        _say({"versions": {name: importlib.metadata.version(name) for name in packages}})
    except Exception as error:
        _say({"error": f"{type(error).__name__}: {error}"})
        return
    for line in sys.stdin:
        try:
            _say({"rows": ask(json.loads(line))})
        except Exception as error:
            _say({"error": f"{type(error).__name__}: {error}"})


def _duckdb(setup: dict[str, Any]) -> Ask:
    import duckdb
    import s3fs  # type: ignore[import-not-found]

    # By default s3fs reads 50 MB ahead, and DuckDB jumps about; without that it fetches what DuckDB asks for.
    how = {"default_cache_type": "none"} if setup["system"].endswith("direct") else {}
    system = s3fs.S3FileSystem(
        key=os.environ["AWS_ACCESS_KEY_ID"],
        secret=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=setup["endpoint"],
        client_kwargs={"region_name": "us-east-1"},
        **how,
    )
    connection = duckdb.connect()
    connection.register_filesystem(system)
    listed = ", ".join("'s3://" + key.replace("'", "''") + "'" for key in setup["files"])
    relation = f"read_parquet([{listed}])"

    def ask(question: dict[str, Any]) -> list[Any]:
        if question["kind"] == "group-by":
            return connection.execute(_GROUPED.format(relation)).fetchall()
        return connection.execute(_ONE_METRIC.format(relation), [question["metric"], question["step"]]).fetchall()

    return ask


def _pyarrow(setup: dict[str, Any]) -> Ask:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.dataset as ds
    import pyarrow.fs
    from pyarrow import acero

    system = pyarrow.fs.S3FileSystem(
        access_key=os.environ["AWS_ACCESS_KEY_ID"],
        secret_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=setup["endpoint"].partition("//")[2],
        scheme="http",
        region="us-east-1",
    )
    opened: list[Any] = []

    def ask(question: dict[str, Any]) -> list[Any]:
        if not opened:  # it reads a footer, which belongs to the first answer
            opened.append(ds.dataset(setup["files"], filesystem=system, format="parquet"))
        (dataset,) = opened
        if question["kind"] == "group-by":
            # In a stream: `to_table().group_by()` would hold all rows in memory.
            columns = ["metric", "params", "value"]
            scan = acero.Declaration("scan", acero.ScanNodeOptions(dataset, columns=columns))
            plain = acero.Declaration(
                "project", acero.ProjectNodeOptions([pc.field(name) for name in columns], columns)
            )
            numbers = [("value", "hash_mean", None, "mean"), ("value", "hash_count", None, "count")]
            grouped = acero.Declaration("aggregate", acero.AggregateNodeOptions(numbers, keys=["metric", "params"]))
            table = acero.Declaration.from_sequence([scan, plain, grouped]).to_table()
            return _rows(table.select(["metric", "params", "mean", "count"]))
        wanted = (pc.field("metric") == question["metric"]) & (pc.field("step") == question["step"])
        return _rows(dataset.to_table(columns=["data", "params", "seed", "value"], filter=wanted))

    def _rows(table: pa.Table) -> list[Any]:
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))

    return ask


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
