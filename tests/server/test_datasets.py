"""The catalogue: datasets, versions, columns; and health."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from engine import Engine
from engine.errors import StoreError
from tests.server.conftest import local_client, settings


def test_the_list(client: TestClient) -> None:
    found = client.get("/api/datasets").json()["data"]
    assert [item["name"] for item in found] == ["long", "sweep", "wide"]
    sweep = found[1]
    for key, value in {
        "title": "A small sweep",
        "version": "v2",
        "rows": 90,
        "versions": 2,
        "column_count": 5,
        "by": "tests",
        "message": "second",
    }.items():
        assert sweep[key] == value
    assert client.get(sweep["links"]["self"]).status_code == 200
    assert client.get(sweep["links"]["rows"]).status_code == 200


def test_one_dataset(client: TestClient) -> None:
    found = client.get("/api/datasets/sweep").json()
    columns = {column["name"]: column for column in found["columns"]}
    assert list(columns) == ["params", "data", "step", "metric", "value", "params_numeric"]
    assert columns["params"]["role"] == "dimension"
    assert columns["params"]["role_source"] == "definition"
    assert columns["params"]["aliases"] == ["model_size"]
    assert columns["step"]["unit"] == "optimiser steps"
    assert columns["params_numeric"]["derived_from"] == ["params"]
    assert found["metric_column"] == "metric"
    assert found["latest"] == "v2"
    assert found["versions"] == ["v2", "v1"]
    small = next(query for query in found["queries"] if query["name"] == "small")
    assert small["parameters"] == {"data": "Dolma1.7", "metric": "pile-valppl", "step": "5000"}
    assert client.get(small["url"]).status_code == 200


def test_roles_are_inferred_without_a_definition(client: TestClient) -> None:
    found = client.get("/api/datasets/wide").json()
    roles = {column["name"]: (column["role"], column["role_source"]) for column in found["columns"]}
    assert roles["seed"] == ("seed", "inferred")
    assert found["title"] is None


def test_versions(client: TestClient) -> None:
    found = client.get("/api/datasets/sweep/versions").json()
    assert found["latest"] == "v2"
    assert found["rejects"] == []
    second, first = found["data"]
    assert (second["version"], second["parent"], second["rows"], second["message"]) == ("v2", "v1", 90, "second")
    assert first["number"] == 1
    assert [first.pop(key) for key in ("latest", "tags", "yanked", "expired")] == [False, [], None, None]
    assert [second.pop(key) for key in ("latest", "tags", "yanked", "expired")] == [True, [], None, None]
    assert client.get(first["links"]["self"]).json() == first, "which says nothing that may change"
    assert client.get("/api/datasets/sweep/versions/latest").json() == second
    assert client.get(f"/api/datasets/sweep/versions/{first['content_id'][:12]}").json() == first
    assert client.get("/api/datasets/sweep/versions/v1").headers["cache-control"].endswith("immutable")
    assert client.get("/api/datasets/sweep/versions/latest").headers["cache-control"] == "no-cache"


def test_a_text_column(client: TestClient) -> None:
    found = client.get("/api/datasets/sweep/columns/model_size").json()
    assert (found["name"], found["type"], found["rows"], found["nulls"]) == ("params", "VARCHAR", 90, 0)
    assert (found["distinct"], found["matching"]) == (3, 3)
    assert {value["value"]: value["count"] for value in found["values"]} == {"4M": 30, "60M": 30, "150M": 30}
    page = client.get("/api/datasets/sweep/columns/params?q=0m&limit=1&offset=1").json()
    assert page["matching"] == 2
    assert len(page["values"]) == 1


def test_a_column_of_numbers(client: TestClient) -> None:
    found = client.get("/api/datasets/wide/columns/accuracy").json()
    assert (found["nulls"], found["nans"]) == (1, 1)
    assert found["min"] == 0.1
    assert found["max"] is None  # infinity, which JSON cannot say
    assert found["histogram"]["counts"]
    assert set(found["quantiles"]) == {"p05", "p25", "p50", "p75", "p95"}


def test_a_derived_column(client: TestClient) -> None:
    found = client.get("/api/datasets/sweep/columns/params_numeric?version=v1").json()
    assert (found["min"], found["max"], found["version"]) == (4_000_000, 150_000_000, "v1")


@pytest.mark.parametrize("query", ["limit=x", "limit=-1", "limit=100000", "offset=1.5"])
def test_wrong_pages(client: TestClient, query: str) -> None:
    assert client.get(f"/api/datasets/sweep/columns/params?{query}").status_code == 422


@pytest.mark.parametrize(
    "path", ["datasets?x=1", "datasets/sweep?limit=1", "datasets/sweep/versions?x", "datasets/sweep/columns/step?qq=1"]
)
def test_other_parameters_are_refused(client: TestClient, path: str) -> None:
    found = client.get(f"/api/{path}")
    assert found.status_code == 400
    assert found.json()["code"] == "unknown_parameter"


def test_documents_can_be_asked_about(client: TestClient) -> None:
    for path in ("datasets", "datasets/sweep", "datasets/sweep/versions", "datasets/sweep/columns/step"):
        found = client.get(f"/api/{path}")
        again = client.get(f"/api/{path}", headers={"if-none-match": found.headers["etag"]})
        assert again.status_code == 304
        assert again.content == b""
        head = client.head(f"/api/{path}")
        assert (head.content, head.headers["content-length"]) == (b"", str(len(found.content)))


def test_health_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with local_client(settings(tmp_path / "nothing")) as served:
        monkeypatch.setattr(Engine, "dataset_names", lambda _: 1 / 0)
        found = served.get("/api/health")
        assert found.json()["status"] == "ok"
        assert found.headers["cache-control"] == "no-store"


def test_ready(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.get("/api/ready").json() == {"status": "ok"}

    def away(_: Any) -> None:
        raise StoreError("the store cannot be listed")

    monkeypatch.setattr(Engine, "ready", away)
    found = client.get("/api/ready")
    assert found.status_code == 503
    assert found.json()["detail"] == "the store cannot be listed"
    assert found.headers["retry-after"]


def test_an_empty_store(tmp_path: Path) -> None:
    with local_client(settings(tmp_path / "empty")) as served:
        assert served.get("/api/datasets").json() == {"data": []}
        assert served.get("/api/ready").status_code == 200
        assert served.get("/api/visualize/data").json()["code"] == "dataset_not_found"


def test_the_root_leads_to_the_documentation(client: TestClient) -> None:
    found = client.get("/")
    assert (found.status_code, found.headers["location"]) == (307, "/api/docs")
