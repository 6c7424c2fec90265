"""The OpenAPI document is valid and complete, and the page made from it loads nothing."""

from __future__ import annotations

import re

import jsonschema
import pytest
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from server.errors import HTTP_CODES, TABLE

CONTRACT = {
    "/api/health": {"get"},
    "/api/ready": {"get"},
    "/api/datasets": {"get"},
    "/api/datasets/{name}": {"get"},
    "/api/datasets/{name}/versions": {"get", "post"},
    "/api/datasets/{name}/versions/{v}": {"get"},
    "/api/datasets/{name}/versions/{v}/file": {"get"},
    "/api/datasets/{name}/versions/{v}/yank": {"post"},
    "/api/datasets/{name}/versions/{v}/restore": {"post"},
    "/api/datasets/{name}/tags/{tag}": {"put", "delete"},
    "/api/datasets/{name}/history": {"get"},
    "/api/datasets/{name}/diff": {"get"},
    "/api/datasets/{name}/rows": {"get"},
    "/api/datasets/{name}/columns/{col}": {"get"},
    "/api/datasets/{name}/latest": {"put"},
    "/api/datasets/{name}/refresh": {"post"},
    "/api/query": {"post"},
    "/api/queries/{dataset}/{name}": {"get"},
    "/api/visualize/data": {"get"},
    "/api/visualize/data/small": {"get"},
    "/api/visualize/data/unmelted": {"get"},
    "/api/visualize/data/ft": {"get"},
    "/api/visualize/aggregated": {"get"},
    "/api/visualize/scaling": {"get"},
    "/api/visualize/table": {"get"},
}


@pytest.fixture
def document(client: TestClient) -> dict[str, object]:
    found: dict[str, object] = client.get("/api/openapi.json").json()
    return found


def test_it_is_valid(document: dict[str, object]) -> None:
    validate(document)  # type: ignore[arg-type]


def test_it_has_every_path(document: dict[str, dict[str, dict[str, object]]]) -> None:
    assert {path: set(item) for path, item in document["paths"].items()} == CONTRACT


def test_it_describes_problems_parameters_and_bodies(
    document: dict[str, dict[str, dict[str, dict[str, object]]]],
) -> None:
    rows = document["paths"]["/api/datasets/{name}/rows"]["get"]
    names = {parameter["name"] for parameter in rows["parameters"]}  # type: ignore[attr-defined]
    assert {"name", "version", "group_by", "cursor", "format", "filters"} <= names
    assert {"400", "404", "406", "413", "422", "503", "504"} <= set(rows["responses"])  # type: ignore[call-overload]
    assert len(rows["responses"]["200"]["content"]) == 6  # type: ignore[index]
    assert "requestBody" in document["paths"]["/api/query"]["post"]
    assert "Problem" in document["components"]["schemas"]


def test_problems_are_as_described(client: TestClient, document: dict[str, dict[str, dict[str, object]]]) -> None:
    schema = document["components"]["schemas"]["Problem"]
    for path in ("nothing", "datasets/sweep/rows?parms=1", "datasets/sweep/rows?format=x"):
        jsonschema.validate(client.get(f"/api/{path}").json(), schema)


def test_the_page_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/api/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert not re.search(r"(src|href|url\()\s*=?\s*['\"]?(https?:)?//", page.text)
    assert "<script" not in page.text
    for path in CONTRACT:
        assert path in page.text
    for code in [*HTTP_CODES, *(getattr(kind, "code", "unsupported_column") for kind in TABLE)]:
        assert f"id='problem-{code}'" in page.text


def test_cors_is_for_the_pages_that_are_named(client: TestClient) -> None:
    url = "/api/datasets/sweep/rows?limit=1"
    ours = client.get(url, headers={"origin": "https://bytomorrow.app"})
    assert ours.headers["access-control-allow-origin"] == "https://bytomorrow.app"
    exposed = ours.headers["access-control-expose-headers"]
    assert all(name in exposed for name in ("ETag", "Content-Location", "Server-Timing", "Link"))
    assert "Origin" in ours.headers["vary"]
    theirs = client.get(url, headers={"origin": "https://evil.example"})
    assert "access-control-allow-origin" not in theirs.headers
    asked = {"origin": "https://bytomorrow.app", "access-control-request-method": "POST"}
    assert client.options("/api/query", headers=asked).status_code == 200
    assert client.options("/api/query", headers={**asked, "origin": "https://evil.example"}).status_code == 400


def test_a_problem_may_be_read_across_origins_too(client: TestClient) -> None:
    found = client.get("/api/nothing", headers={"origin": "https://bytomorrow.app"})
    assert found.headers["access-control-allow-origin"] == "https://bytomorrow.app"
