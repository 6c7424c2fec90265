"""Notebook, JSON, columnar JSON and Arrow give the same answer to a random query, to the last bit."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import struct
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from engine import Query, QueryRequest
from queries.request import Condition, Operator
from server.app import create_app
from server.encoding import METADATA_KEY
from server.settings import Settings
from tests.engine.published import Shelf
from tests.reference import Column, Table
from tests.strategies import json_body, properties, requests, tables, url_pairs

EXACT_IN_JSON = 2**53


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"))
    yield shelf
    shelf.engine.close()


@pytest.fixture(scope="module")
def client(shelf: Shelf) -> Iterator[TestClient]:
    config = shelf.engine.config
    settings = Settings.model_validate({"store": config.store, "definitions": config.definitions, "ingest": False})
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        yield client


@properties(70)
@given(st.data())
def test_every_way_to_ask_gives_the_same_bits(shelf: Shelf, client: TestClient, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    for _ in range(3):
        check(shelf, client, data.draw(requests(table)).model_copy(update={"dataset": name}))


def test_an_answer_without_columns(shelf: Shelf, client: TestClient) -> None:
    """A pivot of no rows that keeps no column."""
    table = Table((Column("a", "BIGINT"), Column("b", "BIGINT")), ({"a": 1, "b": 2},))
    none = Condition(col="a", op=Operator.GT, value=1)
    check(shelf, client, QueryRequest(dataset=shelf.put(table), where=none, select=("a",), pivot="a", pivot_values="b"))


def check(shelf: Shelf, client: TestClient, request: QueryRequest) -> None:
    query = Query(shelf.engine, request)
    notebook = query.to_arrow()
    body = json_body(request)

    arrow = pa.ipc.open_stream(post(client, body, "arrow")).read_all()
    assert arrow.column_names == notebook.column_names
    assert cells_of(arrow) == cells_of(notebook)
    assert json.loads(arrow.schema.metadata[METADATA_KEY])["meta"]["query_id"] == query.query_id

    by_row = json.loads(post(client, body, "json"))
    by_column = json.loads(post(client, body, "columns"))
    assert by_row["meta"] == by_column["meta"]
    assert by_row["meta"]["query_id"] == query.query_id
    assert by_row["meta"]["returned"] == notebook.num_rows
    assert by_row["meta"]["nonfinite"] == sum(map(is_not_finite, every_cell(notebook)))
    assert list(by_column["data"]) == notebook.column_names
    for field, column in zip(notebook.schema, notebook.columns, strict=True):
        wanted = [in_json(value, field.type) for value in column.to_pylist()]
        assert [bits(row[field.name], field.type) for row in by_row["data"]] == wanted
        assert [bits(value, field.type) for value in by_column["data"][field.name]] == wanted

    pairs = url_pairs(request)
    if pairs is not None:
        answer = client.get(f"/api/datasets/{request.dataset}/rows", params=[*pairs, ("format", "json")])
        assert answer.status_code == 200, answer.text
        assert answer.json()["data"] == by_row["data"]
        assert answer.json()["meta"] == by_row["meta"]


def post(client: TestClient, body: dict[str, Any], form: str) -> bytes:
    answer = client.post("/api/query", json=body, params={"format": form})
    assert answer.status_code == 200, answer.text
    return bytes(answer.content)


def cells_of(table: pa.Table) -> list[list[Any]]:
    """The cells by column, floats as their bits."""
    return [
        [bits(value, field.type) for value in column.to_pylist()]
        for field, column in zip(table.schema, table.columns, strict=True)
    ]


def every_cell(table: pa.Table) -> Iterator[Any]:
    for column in table.columns:
        yield from column.to_pylist()


def is_not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def bits(value: Any, kind: pa.DataType) -> Any:
    """A float as its bits, 32 of them for a column of such; anything else as it is."""
    if isinstance(value, float):
        return struct.pack("<f" if pa.types.is_float32(kind) else "<d", value)
    return value


def in_json(value: Any, kind: pa.DataType) -> Any:
    """What stands in JSON for a cell, by the rules of SPEC 3.1."""
    if is_not_finite(value):
        return None
    if isinstance(value, Decimal) and kind.scale <= 0:
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT_IN_JSON:
        return str(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat() + "Z"
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return bits(value, kind)
