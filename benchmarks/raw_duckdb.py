"""The limit of the engine: DuckDB in this process, on the best layout that we know, without HTTP or our planner.

A native table whose text columns are enums, in the order of the file, which is that of a published version; one thread,
as every query of ours has; fetched as Arrow. The SQL is what a careful person would write for just this question. Up to
×10 the table is in memory; ×100 does not fit, and is a database file of the same layout.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from benchmarks.material import DATASETS
from benchmarks.question import Question
from benchmarks.workload import Encoding

TEXTS = ("params", "data", "metric")
MOST_TIMES_IN_MEMORY = 10
BATCH_ROWS = 122_880
_TABLES = {"datadecide": "datadecide", "ft-matched": "ft_matched"}
_FUNCTIONS = {
    "mean": "avg(value)",
    "std": "stddev_samp(value)",
    "count": "count(value)",
    "min": "min(value)",
    "max": "max(value)",
    "median": "quantile_cont(value, 0.5)",
    "p95": "quantile_cont(value, 0.95)",
}
# The number of a size label, from the enum's few values rather than from each row.
_SIZE = (
    "CAST(left(params::VARCHAR, -1) AS DOUBLE) * CASE right(params::VARCHAR, 1) WHEN 'M' THEN 1e6 WHEN 'B' THEN 1e9 END"
)


class RawDuckDB:
    """One connection, asked in this thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._cursor = connection.cursor()
        self._metrics: tuple[str, ...] = tuple(
            row[0]
            for row in self._cursor.execute("SELECT DISTINCT metric::VARCHAR m FROM datadecide ORDER BY m").fetchall()
        )

    def ask(self, question: Question) -> pa.Table:
        """All rows of the answer."""
        with _quietly():
            return self._cursor.execute(*self.statement(question)).to_arrow_table()

    def time_ms(self, question: Question, encoding: Encoding, *, whole: bool) -> float:
        """How long one answer takes; a full load in batches that are let go; one of Arrow is written to nowhere."""
        sql, values = self.statement(question)
        with _quietly():
            began = time.perf_counter()
            if not whole:
                self._cursor.execute(sql, values).to_arrow_table()
            elif encoding == "arrow":
                self._write(sql, values)
            else:
                self._read(sql, values)
            return (time.perf_counter() - began) * 1000

    def _batches(self, sql: str, values: list[Any]) -> pa.RecordBatchReader:
        return self._cursor.execute(sql, values).to_arrow_reader(BATCH_ROWS)

    def _read(self, sql: str, values: list[Any]) -> None:
        for _ in self._batches(sql, values):
            pass

    def _write(self, sql: str, values: list[Any]) -> None:
        reader = self._batches(sql, values)
        with _Nowhere() as sink, pa.ipc.new_stream(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)

    def statement(self, question: Question) -> tuple[str, list[Any]]:
        """SQL and its parameters.

        Raises
        ------
        ValueError
            For a question that no query answers.
        """
        writer = {
            "rows": _rows,
            "groups": _groups,
            "pivot": self._pivot,
            "scaling": _scaling,
            "facets": _facets,
        }.get(question.kind)
        if writer is None:
            raise ValueError(f"no query answers {question.kind}")
        values: list[Any] = []
        return writer(question, values), values

    def _pivot(self, question: Question, values: list[Any]) -> str:
        # The rows of a checkpoint come in the order of their metrics, every metric once, so a list is a row of the
        # pivot: 0.09 s, where DuckDB's PIVOT takes 0.5 s and an aggregate per column 20 s.
        first, second, third, *others = question.columns
        cells = ", ".join(f"cells[{place}] AS {_name(name)}" for place, name in enumerate(self._metrics, start=1))
        same = "".join(f", any_value({name}) AS {name}" for name in others)  # they follow from the step
        keys = f"{first}, {second}, {third}"
        lists = f"SELECT {keys}{same}, list(value) AS cells FROM {_from(question, values)} GROUP BY {keys}"
        return f"SELECT {', '.join(question.columns)}, {cells} FROM ({lists})"


@contextmanager
def _quietly() -> Iterator[None]:
    """DuckDB advises a relation in place of a cursor, which takes 0.1 ms longer here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


@contextmanager
def raw_duckdb(files: Path, scratch: Path, times: int) -> Iterator[RawDuckDB]:
    """Load the rows and hand out what asks them."""
    path = ":memory:" if times <= MOST_TIMES_IN_MEMORY else str(scratch / "raw.duckdb")
    with duckdb.connect(path) as connection:
        connection.execute("SET threads = 1")
        connection.execute("SET preserve_insertion_order = true")
        for name in DATASETS:
            source = str(files / f"{name}.parquet").replace("'", "''")
            columns = "*"
            if name == DATASETS[0]:
                for column in TEXTS:
                    connection.execute(
                        f"CREATE TYPE {column}_enum AS ENUM "
                        f"(SELECT DISTINCT {column} FROM read_parquet('{source}') ORDER BY {column})"
                    )
                columns = f"* REPLACE ({', '.join(f'{column}::{column}_enum AS {column}' for column in TEXTS)})"
            connection.execute(f"CREATE TABLE {_TABLES[name]} AS SELECT {columns} FROM read_parquet('{source}')")
        yield RawDuckDB(connection)


class _Nowhere:
    """A file that forgets; Arrow writes each buffer to it as it is."""

    closed = False

    def __enter__(self) -> pa.PythonFile:
        return pa.PythonFile(self, "w")

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def write(self, data: Any) -> int:
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True


def _rows(question: Question, values: list[Any]) -> str:
    names = ", ".join(map(_name, question.columns)) or "*"
    if question.offset and len(question.sort) == 1 and not question.where and question.limit is not None:
        return _deep_page(question, names)
    order = f" ORDER BY {_order(question, ('rowid',))}" if question.sort else ""
    return f"SELECT {names} FROM {_from(question, values)}{order}{_page(question)}"


def _deep_page(question: Question, names: str) -> str:
    """Counts the rows of each value and sorts the row numbers of those on the page: a tenth of sorting everything."""
    key, table, first = question.sort[0], _TABLES[question.dataset], question.offset
    upto = f"sum(count(*)) OVER (ORDER BY {key})::BIGINT AS upto"
    counted = f"SELECT {key}, count(*) AS n, {upto} FROM {table} GROUP BY {key}"
    on_page = f"upto > {first} AND upto - n < {first + (question.limit or 0)}"
    page = (
        f"SELECT rowid FROM {table} WHERE {key} IN (SELECT {key} FROM wanted) ORDER BY {key}, rowid "
        f"LIMIT {question.limit} OFFSET ({first} - (SELECT min(before) FROM wanted))"
    )
    return (
        f"WITH counted AS MATERIALIZED ({counted}), "
        f"wanted AS MATERIALIZED (SELECT {key}, upto - n AS before FROM counted WHERE {on_page}) "
        f"SELECT {names} FROM {table} WHERE rowid IN ({page}) ORDER BY {key}, rowid"
    )


def _groups(question: Question, values: list[Any]) -> str:
    keys = ", ".join(question.group_by)
    shown = ", ".join(f"{_FUNCTIONS[name]} AS {name}" for name in question.aggs)
    order = f" ORDER BY {_order(question, question.group_by)}" if question.sort else ""
    return f"SELECT {keys}, {shown} FROM {_from(question, values)} GROUP BY {keys}{order}{_page(question)}"


def _scaling(question: Question, values: list[Any]) -> str:
    points = (
        "SELECT params, data, max(step) AS step, arg_max(value, step) AS y "
        f"FROM {_from(question, values)} GROUP BY params, data HAVING arg_max_null(value, step) IS NOT NULL"
    )
    numbered = f"SELECT data, params, step, {_SIZE} AS x, y FROM ({points})"
    fits = ", ".join(f"regr_{part}(ln(y), ln(x)) OVER of_recipe AS {part}" for part in ("slope", "intercept"))
    return f"SELECT *, {fits} FROM ({numbered}) WINDOW of_recipe AS (PARTITION BY data)"


def _facets(question: Question, values: list[Any]) -> str:
    parts = [
        f"SELECT '{name}' AS facet, {name}::VARCHAR AS value, count(*) AS count "
        f"FROM {_from(question, values)} GROUP BY {name}"
        for name in question.facets
    ]
    return " UNION ALL ".join(parts)


def _from(question: Question, values: list[Any]) -> str:
    conditions = []
    for column, wanted in question.where:
        marks = []
        for value in wanted:
            values.append(value)
            kind = f"::{column}_enum" if column in TEXTS else ""  # else each row's text would be compared
            marks.append(f"${len(values)}{kind}")
        conditions.append(f"{column} = {marks[0]}" if len(marks) == 1 else f"{column} IN ({', '.join(marks)})")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"{_TABLES[question.dataset]}{where}"


def _order(question: Question, ties: tuple[str, ...]) -> str:
    keys = [f"{key[1:]} DESC NULLS LAST" if key.startswith("-") else f"{key} NULLS LAST" for key in question.sort]
    return ", ".join([*keys, *ties])


def _page(question: Question) -> str:
    limit = "" if question.limit is None else f" LIMIT {question.limit}"
    return limit + (f" OFFSET {question.offset}" if question.offset else "")


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
