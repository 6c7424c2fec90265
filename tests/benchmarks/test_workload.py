"""Every scenario of the benchmark is answered, and both servers give the same rows. Nothing here is timed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.agreement import check_agreement
from benchmarks.client import Client, count_rows
from benchmarks.material import make_files, publish_files
from benchmarks.process import Server, our_server, seed_server
from benchmarks.workload import SCENARIOS, Scenario, chosen, url
from engine.demo.facts import PERPLEXITIES

#: Of the perplexities alone, which is all that the workload names: 11 metrics × 25 recipes × 337 checkpoints.
ROWS = 92_675
EXPECTED = {
    "health": 0,
    "small": 14,
    "small-again": 14,  # asked without its ETag
    "two-curves": 54,
    "by-size": 14,
    "aggregated": 11 * 14,
    "table-first": 1_000,
    "table-deep": 0,
    "ft": 149,
    "unmelted-recipe": 337,
    "unmelted": 25 * 337,
    "slice": 159 * 11,
    "slice-columns": 159 * 11,
    "slice-arrow": 159 * 11,
    "full": ROWS,
    "full-columns": ROWS,
    "full-arrow": ROWS,
}

BY_NAME = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo data with few metrics, as the seed's way reads it."""
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    path = folder / "datadecide.parquet"
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.is_in(table["metric"], pc.cast(list(PERPLEXITIES), table["metric"].type))), path)
    return folder


@pytest.fixture(scope="module")
def seed(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with seed_server(files, tmp_path_factory.mktemp("seed")) as server:
        yield server


@pytest.fixture(scope="module")
def ours(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    scratch = tmp_path_factory.mktemp("ours")
    publish_files(files, scratch / "store", scratch)
    with our_server(scratch / "store", scratch) as server:
        yield server


@pytest.mark.parametrize(
    "scenario", [scenario for scenario in SCENARIOS if scenario.asks_seed], ids=lambda scenario: scenario.name
)
def test_the_seed_answers_what_it_is_asked(scenario: Scenario, seed: Server) -> None:
    with Client(seed.port) as client:
        rows = count_rows(client.get(scenario.paths[0]).body, scenario.encoding)
    assert rows == EXPECTED.get(scenario.name, rows)
    assert rows or scenario.name in ("health", "table-deep")


@BY_NAME
def test_both_give_the_same_rows(scenario: Scenario, ours: Server, seed: Server) -> None:
    rows = check_agreement(scenario, ours, seed)
    assert rows == EXPECTED.get(scenario.name, rows)


def test_an_unchanged_view_is_not_sent_again(ours: Server) -> None:
    (scenario,) = chosen(["small-again"])
    with Client(ours.port) as client:
        first = client.get(scenario.paths[0])
        assert first.etag is not None
        again = client.get(scenario.paths[0], {"If-None-Match": first.etag})
    assert (again.status, again.body) == (304, b"")


def test_a_server_is_ended_with_its_block(files: Path, tmp_path: Path) -> None:
    with seed_server(files, tmp_path) as server:
        assert server.process.poll() is None
    assert server.process.poll() is not None


def test_names_are_distinct_and_likes_exist() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    for scenario in SCENARIOS:
        like = scenario.like
        assert like is None or names.index(like) < names.index(scenario.name)


def test_choosing_by_name_and_beginning() -> None:
    assert chosen([]) == SCENARIOS
    assert [scenario.name for scenario in chosen(["slice*", "health"])] == [
        "health",
        "slice",
        "slice-columns",
        "slice-arrow",
    ]
    with pytest.raises(ValueError, match="no scenario 'smal'; there are health, small"):
        chosen(["smal"])


def test_a_recipe_survives_the_url() -> None:
    assert url("/x", data_source="DCLM-Baseline (QC 7%, FW3)").endswith("DCLM-Baseline+%28QC+7%25%2C+FW3%29")
