"""``python -m benchmarks.peers.postgres.app``: the small API that a careful author puts before PostgreSQL.

FastAPI on uvicorn with uvloop and httptools, psycopg with a pool of connections, statements that psycopg prepares
after a few uses, values sent as parameters and read in binary, the JSON by orjson. What lost when it was measured on
these rows: asyncpg (0.02 ms quicker for 54 rows, 1.8 times slower for 35 000, since its records become dicts one by
one), and ``json_agg`` in PostgreSQL (as quick for 35 000 rows, slower for the wide table). A pivot's cells are
gathered by ``json_object_agg``, three to eight times quicker than an aggregate with a FILTER per column, and at its
slowest as quick as ``crosstab`` (``tablefunc``).
"""

# Without `from __future__ import annotations`: FastAPI reads the annotations of routes that are made in a function.

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import psycopg
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from psycopg.rows import dict_row, tuple_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.peers.loading import ORDINAL
from benchmarks.peers.postgres.spelling import question_of
from benchmarks.peers.sql import TABLES, Dialect, Statement, translate
from benchmarks.question import Question

CONNECTIONS = 8  # for two cores; more only wait for each other
STREAM_ROWS = 5_000
DIALECT = Dialect(
    placeholder=lambda number, _: f"${number + 1}", gathered=lambda column: f"json_object_agg({column}, value)::text"
)


def create_app(conninfo: str) -> FastAPI:
    """The application over the tables that ``tables.py`` filled."""
    known: dict[str, tuple[str, ...]] = {}
    pool = AsyncConnectionPool(
        conninfo,
        min_size=CONNECTIONS,
        max_size=CONNECTIONS,
        open=False,
        kwargs={"autocommit": True, "cursor_factory": psycopg.AsyncRawCursor, "row_factory": dict_row},
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with pool:
            await pool.wait()
            for dataset, table in TABLES.items():
                rows = await _rows(pool, Statement(_COLUMNS, (table,)))
                known[dataset] = tuple(row["column_name"] for row in rows if row["column_name"] != ORDINAL)
            yield

    app = FastAPI(lifespan=lifespan, openapi_url=None)

    @app.get("/health")
    async def health() -> Response:
        await _rows(pool, Statement("SELECT 1"))
        return Response(b'{"status":"ok"}', media_type="application/json")

    @app.get("/{dataset}/{kind}")
    async def answer(dataset: str, kind: str, request: Request) -> Response:
        if dataset not in known:
            return Response(status_code=404)
        try:
            question = _named(question_of(dataset, kind, request.query_params.multi_items()), known[dataset])
        except ValueError as error:
            return Response(str(error).encode(), 400)
        statement = translate(question, DIALECT)
        if kind == "rows" and not question.where and question.limit is None:
            return StreamingResponse(_stream(pool, statement), media_type="application/json")
        body = await (_pivot_body(pool, statement) if kind == "pivot" else _body(pool, statement))
        return Response(body, media_type="application/json")

    return app


_COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = $1 ORDER BY ordinal_position"


def _named(question: Question, known: tuple[str, ...]) -> Question:
    """The question, its columns spelt out. Raises ValueError for a column that there is not: names go into the SQL."""
    names = {name for name, _ in question.where} | {*question.columns, *question.group_by, *question.facets}
    names |= {question.pivot} if question.pivot else set()
    names |= {key.removeprefix("-") for key in question.sort} - set(question.aggs)
    if unknown := names - set(known):
        raise ValueError(f"no column {', '.join(map(str, unknown))}")
    if question.kind == "rows" and not question.columns:
        return replace(question, columns=known)
    return question


async def _body(pool: AsyncConnectionPool[Any], statement: Statement) -> bytes:
    return orjson.dumps(await _rows(pool, statement))


async def _stream(pool: AsyncConnectionPool[Any], statement: Statement) -> AsyncIterator[bytes]:
    """A whole table by parts: as dicts at once, 1.86 million rows take 1.9 GB."""
    async with pool.connection() as connection:
        rows: list[dict[str, Any]] = []
        before = b"["
        async for row in connection.cursor().stream(statement.text, statement.values, binary=True, size=STREAM_ROWS):
            rows.append(row)
            if len(rows) == STREAM_ROWS:
                yield before + orjson.dumps(rows)[1:-1]
                rows, before = [], b","
        yield (before + orjson.dumps(rows)[1:-1] if rows or before == b"[" else b"") + b"]"


async def _pivot_body(pool: AsyncConnectionPool[Any], statement: Statement) -> bytes:
    """Each row's last column is an object of JSON already: its cells follow the others' in one object."""
    async with pool.connection() as connection:
        cursor = connection.cursor(row_factory=tuple_row)
        await cursor.execute(statement.text, statement.values, binary=True)
        names = [column.name for column in cursor.description or ()][:-1]
        rows = await cursor.fetchall()
    whole = (
        orjson.dumps(dict(zip(names, row, strict=False)))[:-1] + b"," + row[-1].lstrip("{").encode() for row in rows
    )
    return b"[" + b",".join(whole) + b"]"


async def _rows(pool: AsyncConnectionPool[Any], statement: Statement) -> list[dict[str, Any]]:
    async with pool.connection() as connection:
        cursor = connection.cursor()
        await cursor.execute(statement.text, statement.values, binary=True)
        rows: list[dict[str, Any]] = await cursor.fetchall()
        return rows


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.postgres.app")
    parser.add_argument("conninfo", help="where the cluster listens, as libpq spells it")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    uvicorn.run(
        create_app(arguments.conninfo),
        host="127.0.0.1",
        port=arguments.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()
