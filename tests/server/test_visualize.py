"""The old paths: named queries, aggregates, scaling, the table; with ``dataset=`` and ``version=``."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.server.conftest import DEFINITION
from tests.server.encoding.support import arrow_meta, read_arrow

ROOT = "/api/visualize"


def test_data(client: TestClient) -> None:
    found = client.get(f"{ROOT}/data?data_source=Dolma1.7&params=60M,150M&metric=pile-valppl").json()
    assert len(found["data"]) == 6
    assert {row["params"] for row in found["data"]} == {"60M", "150M"}
    assert found["meta"]["dataset"] == "sweep"
    pinned = found["links"]["pinned"]
    assert pinned.startswith(f"{ROOT}/data?dataset=sweep&")
    assert client.get(pinned).json()["data"] == found["data"]


def test_another_dataset_and_version(client: TestClient) -> None:
    assert client.get(f"{ROOT}/data?dataset=wide").json()["meta"]["returned"] == 9
    old = client.get(f"{ROOT}/data?version=v1&limit=1")
    assert old.json()["meta"]["version"] == "v1"
    assert old.headers["cache-control"].endswith("immutable")


def test_small(client: TestClient) -> None:
    found = client.get(f"{ROOT}/data/small")
    rows = found.json()["data"]
    assert len(rows) == 3
    assert {(row["data"], row["metric"], row["step"]) for row in rows} == {("Dolma1.7", "pile-valppl", 5000)}
    assert found.headers["content-location"] == f"{ROOT}/data/small?dataset=sweep&version=v2"
    pinned = client.get(found.headers["content-location"])
    assert pinned.headers["cache-control"].endswith("immutable")
    assert pinned.json()["data"] == rows
    assert client.get("/api/queries/sweep/small").json()["data"] == rows


@pytest.mark.parametrize(
    "query, rows",
    [
        ("data=C4", 3),
        ("data_source=C4", 3),
        ("c.data=C4", 3),
        ("data__in=C4,Dolma1.7", 6),
        ("step__gte=5000", 6),
        ("params=4M", 1),
        ("limit=2", 2),
        ("metric__isnull=0&step__isnull=0&data__isnull=0", 90),
    ],
)
def test_parameters_take_the_place_of_a_named_querys_own(client: TestClient, query: str, rows: int) -> None:
    assert client.get(f"{ROOT}/data/small?{query}").json()["meta"]["returned"] == rows


def test_unmelted(client: TestClient) -> None:
    found = client.get(f"{ROOT}/data/unmelted").json()
    assert found["meta"]["returned"] == 45
    assert {"pile-valppl", "mmlu_primary_metric"} <= set(found["data"][0])


def test_ft_lies_in_another_dataset(client: TestClient) -> None:
    found = client.get(f"{ROOT}/data/ft?group=a")
    assert found.json()["meta"]["dataset"] == "wide"
    assert found.json()["meta"]["returned"] == 3
    assert found.headers["cache-control"] == "no-cache"
    assert found.headers["content-location"] == "/api/datasets/wide/rows?group=a&version=v1"
    assert client.get(found.headers["content-location"]).json()["data"] == found.json()["data"]
    # The name's meaning may change with the definition of the dataset that has it, so no version can pin it.
    assert client.get(f"{ROOT}/data/ft?version=v1").headers["cache-control"] == "no-cache"
    assert client.get(f"{ROOT}/data/ft?version=v2").status_code == 404


@pytest.mark.parametrize(
    "before, after",
    [('data = "Dolma1.7"', 'data = "C4"'), ('title = "One slice"', 'title = "One slice"\ndataset = "other"')],
    ids=["another filter", "another dataset"],
)
def test_a_pinned_named_query_keeps_its_meaning(
    own_client: TestClient, own_store: Path, parquet_file: Path, before: str, after: str
) -> None:
    pinned = own_client.get(f"{ROOT}/data/small").headers["content-location"]
    first = own_client.get(pinned)
    columns = b"params,data,step,metric,value\n4M,Dolma1.7,5000,pile-valppl,1\n"
    own_client.post("/api/datasets/other/versions?filename=a.csv", content=columns)
    (own_store / "sweep" / "dataset.toml").write_text(DEFINITION.replace(before, after), encoding="utf-8")
    assert own_client.post("/api/datasets/sweep/versions", content=parquet_file.read_bytes()).status_code == 201
    again = own_client.get(pinned)
    assert again.headers["etag"] == first.headers["etag"]
    assert again.content == first.content
    assert own_client.get(f"{ROOT}/data/small").json()["data"] != first.json()["data"]


def test_another_dataset_than_the_paths(client: TestClient) -> None:
    found = client.get("/api/queries/sweep/small?dataset=wide")
    assert (found.status_code, found.json()["code"]) == (400, "grammar")
    assert client.get("/api/queries/sweep/small?dataset=sweep").status_code == 200


def test_aggregated(client: TestClient) -> None:
    found = client.get(f"{ROOT}/aggregated?group_by=params&metric=pile-valppl").json()
    assert [row["params"] for row in found["data"]] == ["4M", "60M", "150M"]
    for row in found["data"]:
        assert row["count"] == 15
        assert {"mean", "std", "count", "nulls", "nans"} <= set(row)


def test_aggregated_needs_groups(client: TestClient) -> None:
    found = client.get(f"{ROOT}/aggregated?metric=pile-valppl")
    assert found.status_code == 400
    assert found.json()["errors"][0]["param"] == "group_by"


def test_aggregated_of_a_wide_table(client: TestClient) -> None:
    found = client.get(f"{ROOT}/aggregated?dataset=wide&group_by=group&metric=accuracy").json()
    row = found["data"][0]
    assert row["group"] == "a"
    assert row["mean"] == pytest.approx((0.1 + 0.4 + 0.7) / 3), "one chart reads wide and long tables"
    assert set(row) == {"group", "mean", "std", "count", "nulls", "nans", "seeds"}
    assert row["count"] == 3
    chosen = client.get(f"{ROOT}/aggregated?dataset=wide&group_by=group&metric=accuracy&agg=max,nunique:run").json()
    assert {"max", "nunique_run"} <= set(chosen["data"][0])
    wrong = client.get(f"{ROOT}/aggregated?dataset=wide&group_by=group&metric=acuracy")
    assert wrong.status_code == 400
    assert "accuracy" in wrong.json()["errors"][0]["did_you_mean"]


def test_table(client: TestClient) -> None:
    found = client.get(f"{ROOT}/table?limit=10&offset=5&sort=step").json()
    assert found["meta"]["returned"] == 10
    assert found["meta"]["offset"] == 5
    page = client.get(f"{ROOT}/table?dataset=long").json()
    assert (page["meta"]["returned"], page["meta"]["limit"], page["meta"]["truncated"]) == (1000, 1000, True)
    assert page["links"]["self"] == f"{ROOT}/table?dataset=long"
    following = client.get(page["links"]["next"]).json()
    assert following["data"][0]["n"] == 1000


def test_scaling(client: TestClient) -> None:
    found = client.get(f"{ROOT}/scaling?x_axis=params_numeric&y_axis=pile-valppl").json()
    assert list(found) == ["data", "fits", "meta", "links"]
    assert len(found["data"]) == 15
    assert {row["step"] for row in found["data"]} == {10_000}
    (fit,) = found["fits"]
    assert (fit["form"], fit["n"], fit["group"]) == ("ols", 15, {})
    assert set(fit["params"]) == {"slope", "intercept"}
    assert fit["params"]["slope"] < 0
    assert 0 < fit["r2"] < 1
    assert set(fit["standard_errors"]) == {"slope", "intercept"}


def test_scaling_by_group(client: TestClient) -> None:
    url = f"{ROOT}/scaling?x_axis=params_numeric&y_axis=pile-valppl&group_by=data&at=step:5000&fit=ols"
    found = client.get(url)
    fits = found.json()["fits"]
    assert len(fits) == 5
    assert all(math.isfinite(fit["params"]["slope"]) for fit in fits)
    assert found.headers["content-location"].startswith(f"{ROOT}/scaling?dataset=sweep&")
    again = client.get(url, headers={"if-none-match": found.headers["etag"]})
    assert again.status_code == 304
    columns = client.get(f"{url}&format=columns").json()
    assert columns["fits"] == fits
    table = read_arrow(client.get(f"{url}&format=arrow").content)
    assert arrow_meta(table) == found.json()["meta"]


@pytest.mark.parametrize(
    "query, status, param",
    [
        ("y_axis=pile-valppl", 400, "x_axis"),
        ("x_axis=params_numeric", 400, "y_axis"),
        ("x_axis=data&y_axis=pile-valppl", 422, "x_axis"),
        ("x_axis=params_numeric&y_axis=pile-valpl", 400, "y_axis"),
        ("x_axis=params_numeric&y_axis=pile-valppl&fit=power_law", 422, "fit"),
        ("x_axis=params_numeric&y_axis=pile-valppl&at=middle", 400, "at"),
        ("x_axis=params_numeric&y_axis=pile-valppl&limit=3", 400, "limit"),
        ("x_axis=params_numeric&y_axis=pile-valppl&x_axis=step", 400, "x_axis"),
        ("x_axis=params_numeric&y_axis=pile-valppl&group_by=nothing", 400, "group_by"),
        ("x_axis=params_numeric&y_axis=pile-valppl&colour=red", 400, "colour"),
    ],
)
def test_wrong_scaling(client: TestClient, query: str, status: int, param: str) -> None:
    found = client.get(f"{ROOT}/scaling?{query}")
    assert found.status_code == status
    assert found.json()["errors"][0]["param"] == param
