"""Whatever is sent, the answer is an answer or a problem document: never a 500, and never half of something."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_from_bytes

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

COLUMNS = ["params", "data", "step", "metric", "value", "params_numeric", "model_size", "c.step", "nothing", ""]
OPERATORS = "eq ne lt lte gt gte in notin between isnull contains startswith endswith glob nope".split()
WORDS = (
    "select group_by agg sort limit offset cursor pivot pivot_values distinct last_by best_by facets explain strict "
    "total format version dataset having.mean having.mean__gt having. c. smooth x_axis y_axis at fit"
).split()
VALUES = [
    *["4M", "Dolma1.7", "pile-valppl", "1250", "1e3", "-1", "nan", "inf", "9" * 30, "0.1", "true", "mean,std", "-mean"],
    *["params", "step", "value", "params,data", "mean:value,max:step", "p99", "count", "value:-step", "v1", "latest"],
    *[
        "",
        ",",
        "[",
        "[]",
        "[1",
        '["a"',
        '"',
        "(",
        ")",
        "a(b",
        "\x00",
        "é",
        "😀",
        "%",
        "+",
        ";",
        "'; DROP TABLE x; --",
        "*",
        "null",
    ],
    *["json", "csv", "arrow", "parquet", "columns", "ndjson", "last", "best", "step:5000", "params_numeric", "1", "0"],
]
KEYS = st.sampled_from([*COLUMNS, *(f"{column}__{op}" for column in COLUMNS[:6] for op in OPERATORS), *WORDS])
PAIRS = st.lists(st.tuples(KEYS, st.sampled_from(VALUES) | st.text(max_size=8)), max_size=5)
PATHS = st.sampled_from(
    [
        "/api/datasets/sweep/rows",
        "/api/datasets/wide/rows",
        "/api/visualize/data",
        "/api/visualize/data/small",
        "/api/visualize/data/unmelted",
        "/api/visualize/aggregated",
        "/api/visualize/scaling",
        "/api/visualize/table",
        "/api/datasets/sweep/columns/value",
        "/api/datasets/sweep",
        "/api/queries/sweep/small",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(VALUES),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*WORDS, "col", "op", "value", "ref", "and", "or", "not", "where", "fn"]), inner
        )
    ),
    max_leaves=12,
)
RELAXED = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def _check(response: Any) -> None:
    assert response.status_code < 500, (str(response.request.url), response.text)
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json"
        assert response.json()["status"] == response.status_code
        assert response.json()["detail"]
    elif response.headers["content-type"] == "application/json":
        assert orjson.loads(response.content)


@RELAXED
@given(path=PATHS, pairs=PAIRS)
def test_any_query_string(client: TestClient, path: str, pairs: list[tuple[str, str]]) -> None:
    query = "&".join("=".join(quote_from_bytes(part.encode("utf-8", "replace")) for part in pair) for pair in pairs)
    _check(client.get(f"{path}?{query}"))


@RELAXED
@given(path=PATHS, query=st.binary(max_size=40))
def test_any_bytes(client: TestClient, path: str, query: bytes) -> None:
    text = "".join(chr(byte) if 0x21 <= byte < 0x7F and byte != 0x23 else f"%{byte:02X}" for byte in query)
    _check(client.get(f"{path}?{text}"))


@RELAXED
@given(body=st.dictionaries(st.sampled_from([*WORDS, "where", "aggs", "having"]), JSON, max_size=4), wild=JSON)
def test_any_body(client: TestClient, body: dict[str, Any], wild: Any) -> None:
    _check(client.post("/api/query", content=json.dumps({"dataset": "sweep", **body})))
    _check(client.post("/api/query", content=json.dumps(wild)))


@RELAXED
@given(
    headers=st.dictionaries(
        st.sampled_from(["accept", "accept-encoding", "if-none-match", "range", "if-range", "origin", "content-type"]),
        st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30),
    )
)
def test_any_headers(client: TestClient, headers: dict[str, str]) -> None:
    for path in ("/api/datasets/sweep/rows?limit=2", "/api/datasets/sweep/versions/v1/file", "/api/datasets"):
        response = client.get(path, headers=headers)
        assert response.status_code in (200, 206, 304, 406, 416)


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/", "/api/health", "/api/query", "/api/datasets/sweep/latest", "/api/docs", "/api/x"]
)
def test_any_method(client: TestClient, method: str, path: str) -> None:
    assert client.request(method, path).status_code < 500
