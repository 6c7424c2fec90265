"""Answers of queries over HTTP: every format, every way to ask, paging, and what stands around the rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
import zstandard
from starlette.testclient import TestClient

from tests.server.conftest import RECIPES, local_client, numbers, settings, sweep
from tests.server.encoding.support import (
    arrow_meta,
    plain,
    read_arrow,
    read_columns,
    read_csv,
    read_json,
    read_ndjson,
    read_parquet,
)

SWEEP = "/api/datasets/sweep/rows"
MEDIA_TYPES = {
    "json": "application/json",
    "columns": "application/vnd.bytomorrow.columns+json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "arrow": "application/vnd.apache.arrow.stream",
    "parquet": "application/vnd.apache.parquet",
}
READERS: dict[str, Any] = {
    "json": read_json,
    "columns": read_columns,
    "ndjson": read_ndjson,
    "csv": read_csv,
    "arrow": lambda body: plain(read_arrow(body)).to_pylist(),
    "parquet": lambda body: plain(read_parquet(body)).to_pylist(),
}


def _expected(name: str, table: pa.Table) -> list[dict[str, Any]]:
    if name == "csv":
        return [{key: str(value) for key, value in row.items()} for row in table.to_pylist()]
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_every_format_whole(client: TestClient, name: str) -> None:
    for found in (
        client.get(SWEEP, params={"format": name}),
        client.get(SWEEP, headers={"accept": MEDIA_TYPES[name].partition(";")[0]}),
    ):
        assert found.status_code == 200
        assert found.headers["content-type"] == MEDIA_TYPES[name]
        assert int(found.headers["content-length"]) == len(found.content)
        assert READERS[name](found.content) == _expected(name, sweep())


@pytest.mark.parametrize("coding", ["identity", "gzip", "br", "zstd"])
@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_every_format_streamed(client: TestClient, name: str, coding: str) -> None:
    found = client.get("/api/datasets/long/rows", params={"format": name}, headers={"accept-encoding": coding})
    assert found.status_code == 200
    assert found.headers.get("content-encoding", "identity") == coding
    assert "content-length" not in found.headers
    body = found.content
    if body.startswith(b"\x28\xb5\x2f\xfd"):  # a client without zstd leaves it as it is
        body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
    rows = READERS[name](body)
    assert len(rows) == 150_000
    assert rows[77_777] == _expected(name, numbers(150_000).slice(77_777, 1))[0]


def test_the_envelope(client: TestClient) -> None:
    content = client.get(f"{SWEEP}?metric=pile-valppl&limit=2&sort=-value").json()
    assert list(content) == ["data", "meta", "links"]
    meta = content["meta"]
    assert meta["schema"][-1] == {"name": "value", "type": "DOUBLE", "unit": "perplexity", "direction": "lower"}
    assert [column["name"] for column in meta["schema"]] == list(content["data"][0])
    for key, value in {
        "dataset": "sweep",
        "version": "v2",
        "returned": 2,
        "total": 45,
        "total_exact": True,
        "truncated": True,
        "limit": 2,
        "offset": 0,
        "warnings": [],
        "nonfinite": 0,
    }.items():
        assert meta[key] == value
    assert len(meta["query_id"]) == 64
    assert isinstance(meta["next_cursor"], str)
    assert set(content["links"]) == {"self", "pinned", "next", "arrow"}
    assert all(link.startswith("/api/") for link in content["links"].values())


def test_links_lead_where_they_say(client: TestClient) -> None:
    first = client.get(f"{SWEEP}?metric=pile-valppl&limit=20&sort=-value&offset=5")
    links = first.json()["links"]
    assert client.get(links["self"]).content == first.content
    assert client.get(links["pinned"]).json()["data"] == first.json()["data"]
    assert plain(read_arrow(client.get(links["arrow"]).content)).to_pylist() == first.json()["data"]
    assert first.headers["link"] == f'<{links["next"]}>; rel="next"'
    following = client.get(links["next"]).json()
    assert following["meta"]["offset"] == 25
    whole = client.get(f"{SWEEP}?metric=pile-valppl&sort=-value").json()["data"]
    assert first.json()["data"] + following["data"] == whole[5:45]


@pytest.mark.parametrize("name", ["arrow", "parquet"])
def test_binary_formats_carry_the_meta_of_json(client: TestClient, name: str) -> None:
    url = f"{SWEEP}?group_by=params&metric=pile-valppl"
    read = read_arrow if name == "arrow" else read_parquet
    found = arrow_meta(read(client.get(f"{url}&format={name}").content))
    assert found == client.get(url).json()["meta"]


def test_an_arrow_stream_says_first_how_many_rows_will_come(client: TestClient) -> None:
    meta = arrow_meta(read_arrow(client.get("/api/datasets/long/rows?format=arrow&limit=100000").content))
    assert (meta["returned"], meta["total"], meta["truncated"]) == (100_000, 150_000, True)
    meta = arrow_meta(read_arrow(client.get("/api/datasets/long/rows?format=arrow").content))
    assert (meta["returned"], meta["total"], meta["truncated"]) == (150_000, 150_000, False)


def test_ndjson_ends_with_a_count(client: TestClient) -> None:
    lines = client.get(f"{SWEEP}?format=ndjson").content.splitlines()
    assert json.loads(lines[-1]) == {"end": True, "rows": 90}
    cut = client.get(f"{SWEEP}?format=ndjson&limit=3")
    assert json.loads(cut.content.splitlines()[-1]) == {"end": True, "rows": 3}
    assert 'rel="next"' in cut.headers["link"]


def test_paging_by_links_gives_each_row_once(client: TestClient) -> None:
    url = "/api/datasets/long/rows?limit=40000&format=columns"
    seen: list[int] = []
    while url:
        content = client.get(url).json()
        seen += content["data"]["n"]
        assert content["meta"]["truncated"] is (content["links"]["next"] is not None)
        url = content["links"]["next"]
    assert seen == list(range(150_000))


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_names_work_unquoted(client: TestClient, recipe: str) -> None:
    found = client.get(f"{SWEEP}?data={quote(recipe)}&limit=1").json()
    assert found["data"][0]["data"] == recipe


def test_three_spellings_are_one_query(client: TestClient) -> None:
    body = {
        "dataset": "sweep",
        "where": {"and": [{"col": "metric", "value": "pile-valppl"}, {"col": "params", "op": "in", "value": ["4M"]}]},
        "group_by": ["data"],
        "sort": [{"col": "mean", "desc": True}],
    }
    posted = client.post("/api/query", json=body)
    assert posted.status_code == 200
    got = client.get(f"{SWEEP}?metric=pile-valppl&params__in=4M&group_by=data&sort=-mean").json()
    assert posted.json()["data"] == got["data"]
    assert posted.json()["meta"] == got["meta"]
    links = posted.json()["links"]
    assert links["self"] == "/api/query"
    assert posted.headers["content-location"] == links["pinned"]
    pinned = client.get(links["pinned"]).json()
    assert (pinned["data"], pinned["meta"]) == (got["data"], got["meta"])


def test_a_post_that_no_url_can_say(client: TestClient) -> None:
    either = {"or": [{"col": "params", "value": "4M"}, {"col": "step", "value": 1250}]}
    found = client.post("/api/query?format=json", json={"dataset": "sweep", "where": either, "limit": 1})
    assert found.status_code == 200
    assert "content-location" not in found.headers
    links = found.json()["links"]
    assert links == {"self": "/api/query?format=json", "pinned": None, "next": None, "arrow": None}
    assert found.json()["meta"]["next_cursor"]


def test_nan_over_http(client: TestClient) -> None:
    found = client.get("/api/datasets/wide/rows").json()
    assert [row["accuracy"] for row in found["data"]] == [0.1, 0.2, None, 0.4, None, 0.6, 0.7, 0.8, None]
    assert found["meta"]["nonfinite"] == 2


def test_facets_and_explain(client: TestClient) -> None:
    meta = client.get(f"{SWEEP}?facets=params&limit=1&explain=1").json()["meta"]
    assert {"value": "4M", "count": 30} in meta["facets"]["params"]
    assert "SELECT" in meta["explain"]["sql"].upper()


def test_small_answers_are_not_compressed_unless_they_must_be(client: TestClient) -> None:
    tiny = f"{SWEEP}?limit=1&select=step&format=csv"
    assert "content-encoding" not in client.get(tiny, headers={"accept-encoding": "gzip"}).headers
    forced = client.get(tiny, headers={"accept-encoding": "gzip, identity;q=0"})
    assert forced.headers["content-encoding"] == "gzip"
    assert forced.content == b"step\r\n1250\r\n"


def test_a_cursor_outlives_its_version(client: TestClient) -> None:
    """Bound to version 1, and asked without naming a version while version 2 is the latest."""
    first = client.get(f"{SWEEP}?version=v1&limit=80").json()
    rest = client.get(f"{SWEEP}?limit=80&cursor={first['meta']['next_cursor']}").json()
    assert rest["meta"]["version"] == "v1"
    assert len(rest["data"]) == 10


def test_a_page_of_a_named_query_is_of_the_query_as_it_was(own_store: Path) -> None:
    with local_client(settings(own_store)) as client:
        first = client.get("/api/queries/sweep/small?step__gte=0&limit=1").json()
        path = own_store / "sweep" / "dataset.toml"
        path.write_text(path.read_text().replace('data = "Dolma1.7"', 'data = "C4"'))
        client.app.state.engine.publish("sweep", sweep(2.0))  # type: ignore[attr-defined]
        cursor = first["meta"]["next_cursor"]
        found = client.get(f"/api/queries/sweep/small?step__gte=0&limit=1&cursor={cursor}")
        assert found.status_code == 200, found.text
        assert found.json()["meta"]["version"] == first["meta"]["version"]
        assert [row["data"] for row in found.json()["data"]] == ["Dolma1.7"]
        assert client.get("/api/queries/sweep/small").json()["data"][0]["data"] == "C4"


def test_a_cursor_is_read_by_the_columns_of_its_own_version(own_store: Path) -> None:
    """The page after a column was renamed still filters by the old name."""
    with local_client(settings(own_store)) as client:
        first = client.get("/api/datasets/sweep/rows?data=C4&limit=2").json()
        renamed = sweep().rename_columns(["params", "recipe", "step", "metric", "value"])
        client.app.state.engine.publish("sweep", renamed)  # type: ignore[attr-defined]
        cursor = first["meta"]["next_cursor"]
        found = client.get(f"/api/datasets/sweep/rows?data=C4&limit=2&cursor={cursor}")
        assert found.status_code == 200, found.text
        assert found.json()["meta"]["version"] == first["meta"]["version"]
        assert client.get("/api/datasets/sweep/rows?data=C4").status_code == 400
        wrong = client.get(f"/api/datasets/sweep/rows?data=C4&limit=2&version=v2&cursor={cursor}")
        assert (wrong.status_code, wrong.json()["code"]) == (400, "bad_cursor")
