"""Each row of SPEC 3.3, and all bad input that the issue lists: always a problem, never a 500 or an empty 200."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import duckdb
import pytest
from starlette.testclient import TestClient

from engine import Engine
from engine.errors import (
    CorruptVersionError,
    EngineBusyError,
    QueryTimeoutError,
    ResourceLimitError,
    ResultTooLargeError,
    StoreError,
)
from server.parameters import MAX_QUERY_BYTES
from tests.server.conftest import local_client, settings

SWEEP = "/api/datasets/sweep/rows"
NEW = f"{SWEEP}?limit=17&offset=17"  # what no other test asks, so that no answer to it was kept


def _check(response: Any, status: int, code: str | None = None) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    content: dict[str, Any] = response.json()
    assert set(content) == {"type", "title", "status", "detail", "instance", "code", "errors"}
    assert content["status"] == status
    assert content["instance"] == response.request.url.path
    assert content["type"] == f"/api/docs#problem-{content['code']}"
    assert content["detail"]
    if code is not None:
        assert content["code"] == code
    if status in (429, 503):
        assert int(response.headers["retry-after"]) > 0
    return content


@pytest.mark.parametrize(
    "query, status, code, param, meant",
    [
        ("parms=4M", 400, "unknown_parameter", "parms", "params"),
        ("parms__gt=4M", 400, "unknown_column", "parms__gt", "params__gt"),
        ("params__gtt=4M", 400, "unknown_parameter", "params__gtt", None),
        ("select=parms", 400, "unknown_column", None, "params"),
        ("sort=stepp", 400, "unknown_column", None, "step"),
        ("group_by=dta", 400, "unknown_column", None, "data"),
        ("params=4X", 422, "unknown_value", "params", None),
        ("data=Dolma1.6  ", 422, "unknown_value", "data", "Dolma1.6++"),
        ("metric=pile-valpl", 422, "unknown_value", "metric", "pile-valppl"),
        ("step=many", 422, "invalid_value", "step", None),
        ("step=1.5", 422, "invalid_value", "step", None),
        ("value__contains=1", 422, "type_mismatch", None, None),
        ("agg=avg&group_by=params", 400, "grammar", "agg", "mean"),
        ("data=a(b", 400, "grammar", "data", None),
        ('data="a', 400, "grammar", "data", None),
        ("data=[1", 400, "grammar", "data", None),
        ("step__gt=1&step__gt=2", 400, "grammar", "step__gt", None),
        ("limit=1&limit=2", 400, "grammar", "limit", None),
        ("limit=-1", 422, "invalid_value", "limit", None),
        ("limit=ten", 422, "invalid_value", "limit", None),
        ("offset=999999999999", 413, "limit_exceeded", None, None),
        ("cursor=abc", 400, "bad_cursor", "cursor", None),
        ("smooth=ema:0.9", 400, "unknown_parameter", "smooth", None),
        ("dataset=wide", 400, "grammar", "dataset", None),
        ("data=25%", 400, "bad_request", "data", None),
        ("data=%ff", 400, "bad_request", "data", None),
        ("format=xml", 406, "not_acceptable", "format", None),
        ("version=v99", 404, "version_not_found", None, "v2"),
        ("version=0123456789ab", 404, "version_not_found", None, None),
        ("version=", 400, "grammar", "version", None),
    ],
)
def test_wrong_queries(
    client: TestClient, query: str, status: int, code: str, param: str | None, meant: str | None
) -> None:
    content = _check(client.get(f"{SWEEP}?{query}"), status, code)
    if param is not None:
        assert content["errors"][0]["param"] == param
    if meant is not None:
        assert any(meant in error["did_you_mean"] for error in content["errors"])


def test_a_cursor_of_another_query(client: TestClient) -> None:
    cursor = client.get(f"{SWEEP}?limit=3").json()["meta"]["next_cursor"]
    _check(client.get(f"{SWEEP}?limit=3&params=4M&cursor={cursor}"), 400, "bad_cursor")
    _check(client.get(f"{SWEEP}?limit=3&cursor={cursor[:-1]}"), 400, "bad_cursor")
    _check(client.get(f"{SWEEP}?limit=3&version=v1&cursor={cursor}"), 400, "bad_cursor")


def test_too_many_parameters(client: TestClient) -> None:
    _check(client.get(f"{SWEEP}?{'&'.join(['step=1'] * 500)}"), 413, "limit_exceeded")
    _check(client.get(f"{SWEEP}?data={'x' * MAX_QUERY_BYTES}"), 414, "query_too_long")


@pytest.mark.parametrize(
    "body, status, code",
    [
        (b"", 400, "grammar"),
        (b"{", 400, "grammar"),
        (b"[]", 400, "grammar"),
        (b"\xff", 400, "grammar"),
        (b'{"dataset":"sweep","limit":1,"limit":2}', 400, "grammar"),
        (b'{"dataset":"sweep","limt":1}', 400, "unknown_parameter"),
        (b'{"limit":1}', 400, "grammar"),
        (b'{"dataset":"none"}', 404, "dataset_not_found"),
        (b'{"dataset":"Not A Name"}', 422, "invalid_name"),
        (b'{"dataset":"sweep","version":"v99"}', 404, "version_not_found"),
        (b'{"dataset":"sweep","limit":"5"}', 400, "grammar"),
        (b'{"dataset":"sweep","where":{"col":"step","value":"x"}}', 422, "invalid_value"),
        (b'{"dataset":"sweep","where":{"col":"stp","value":1}}', 400, "unknown_column"),
        (b'{"dataset":"sweep","where":{"col":"step","op":"near","value":1}}', 400, "grammar"),
        (b'{"dataset":"sweep","where":{"col":"data","value":"\\ud800"}}', 400, "grammar"),
        (b'{"dataset":"sweep","where":' + b'{"not":' * 500 + b'{"col":"step","value":1}' + b"}" * 501, 400, "grammar"),
        (b'{"dataset":"sweep","select":[' + b'"step",' * 20_000 + b'"step"]}', 413, "limit_exceeded"),
        (b'{"dataset":"' + b"x" * 1_100_000 + b'"}', 413, "body_too_large"),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_wrong_bodies(client: TestClient, body: bytes, status: int, code: str) -> None:
    _check(client.post("/api/query", content=body), status, code)


def test_a_body_that_is_longer_than_it_says(client: TestClient) -> None:
    def endless() -> Any:
        for _ in range(200):
            yield b" " * 10_000

    _check(client.post("/api/query", content=endless()), 413, "body_too_large")


@pytest.mark.parametrize(
    "path, code",
    [
        ("/api", "not_found"),
        ("/api/", "not_found"),
        ("/api/nothing", "not_found"),
        ("/api/health/", "not_found"),
        ("/api/datasets/sweep/nothing", "not_found"),
        ("/nothing", "not_found"),
        ("/api/datasets/none", "dataset_not_found"),
        ("/api/datasets/none/rows", "dataset_not_found"),
        ("/api/datasets/Not%20A%20Name/rows", "invalid_name"),
        ("/api/datasets/..%2f..%2fetc/rows", "not_found"),
        ("/api/datasets/%00/rows", "invalid_name"),
        ("/api/datasets/sweep/versions/v99", "version_not_found"),
        ("/api/datasets/sweep/versions/x", "version_not_found"),
        ("/api/datasets/sweep/versions/v99/file", "version_not_found"),
        ("/api/datasets/sweep/columns/none", "unknown_column"),
        ("/api/queries/sweep/none", "query_not_found"),
        ("/api/queries/none/small", "dataset_not_found"),
        ("/api/visualize/data?dataset=none", "dataset_not_found"),
        ("/api/visualize/data/small?dataset=wide", "query_not_found"),
        ("/api/visualize/nothing", "not_found"),
    ],
)
def test_what_is_not_there(client: TestClient, path: str, code: str) -> None:
    _check(client.get(path), 404, code)


@pytest.mark.parametrize(
    "method, path, allow",
    [
        ("POST", "/api/health", "GET, HEAD"),
        ("DELETE", "/api/datasets/sweep/versions", "GET, HEAD, POST"),
        ("GET", "/api/query", "POST"),
        ("GET", "/api/datasets/sweep/latest", "PUT"),
        ("PATCH", "/api/datasets/sweep/rows", "GET, HEAD"),
    ],
)
def test_methods(client: TestClient, method: str, path: str, allow: str) -> None:
    response = client.request(method, path)
    _check(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


def test_formats_and_codings(client: TestClient) -> None:
    _check(client.get(SWEEP, headers={"accept": "text/html"}), 406, "not_acceptable")
    _check(client.get(SWEEP, headers={"accept-encoding": "identity;q=0"}), 406, "not_acceptable")
    assert client.head(SWEEP, headers={"accept": "text/html"}).status_code == 406


def test_a_named_query_that_does_not_fit(client: TestClient) -> None:
    content = _check(client.get("/api/queries/sweep/broken"), 422, "invalid_definition")
    assert "broken" in content["detail"] and "nowhere" in content["detail"]


@pytest.mark.parametrize(
    "error, status",
    [
        (EngineBusyError("too many queries"), 503),
        (StoreError("the store is away"), 503),
        (CorruptVersionError("bits have flipped"), 503),
        (QueryTimeoutError("too slow"), 504),
        (ResourceLimitError("too much memory"), 413),
        (ResultTooLargeError("too many rows"), 413),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_the_engine_refuses(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(Engine, "stream", refuse)
    content = _check(client.get(NEW), status)
    assert content["detail"] == str(error)


def test_more_rows_than_allowed(filled_store: Path) -> None:
    with local_client(settings(filled_store, max_rows=100)) as limited:
        content = _check(limited.get("/api/datasets/long/rows"), 413, "result_too_large")
        assert "100" in content["detail"]
        assert limited.get("/api/datasets/long/rows?limit=100").status_code == 200


def test_our_own_faults_say_nothing(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret /etc/passwd SELECT 1")

    monkeypatch.setattr(Engine, "stream", fail)
    with caplog.at_level(logging.ERROR):
        content = _check(client.get(NEW), 500, "internal_error")
    assert "secret" not in json.dumps(content)
    assert "secret" in caplog.text


def test_a_damaged_file_is_named_and_not_served(own_store: Path) -> None:
    (blob,) = (own_store / "sweep" / "_bt" / "data").iterdir()
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with local_client(settings(own_store)) as served:
        for path in ("rows", "versions/v1/file", "columns/step"):
            found = _check(served.get(f"/api/datasets/sweep/{path}"), 503, "corrupt_version")
            assert "damaged" in found["detail"]
            assert str(own_store) not in json.dumps(found)
        assert served.get("/api/datasets").status_code == 200


def test_a_file_cut_short(own_store: Path) -> None:
    (blob,) = (own_store / "sweep" / "_bt" / "data").iterdir()
    blob.chmod(0o644)
    blob.write_bytes(blob.read_bytes()[:-100])
    with local_client(settings(own_store)) as served:
        _check(served.get("/api/datasets/sweep/rows"), 503, "corrupt_version")


def test_a_log_that_is_damaged(own_store: Path) -> None:
    (record,) = (own_store / "sweep" / "_bt" / "log").iterdir()
    record.chmod(0o644)
    record.write_bytes(record.read_bytes()[:50])
    with local_client(settings(own_store)) as served:
        _check(served.get("/api/datasets/sweep/rows"), 503, "corrupt_version")
        (listed,) = served.get("/api/datasets").json()["data"]
        assert listed["problem"]["code"] == "corrupt_version"


def test_a_format_that_cannot_carry_a_column(own_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "spans.parquet"
    with duckdb.connect() as connection:
        connection.sql("SELECT 1 AS n, INTERVAL 3 MONTH AS span").write_parquet(str(path))
    with Engine.open(own_store, definitions=None) as engine:
        engine.publish("spans", path)
    with local_client(settings(own_store)) as served:
        content = _check(served.get("/api/datasets/spans/rows?format=parquet"), 406, "unsupported_column")
        assert "span" in content["detail"]
        assert served.get("/api/datasets/spans/rows?format=parquet&select=n").status_code == 200
        assert served.get("/api/datasets/spans/rows").json()["data"] == [{"n": 1, "span": "P3M"}]


def test_values_are_shown_but_not_at_any_length(client: TestClient) -> None:
    content = _check(client.get(f"{SWEEP}?step={'9' * 5_000}x"), 422)
    assert len(json.dumps(content)) < 2_000
