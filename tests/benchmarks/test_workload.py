"""Every scenario of the benchmark is answered, and ours, the seed's way and DuckDB alone give the same rows.

Nothing here is timed. The table is small: the perplexities alone, which have all that a scenario needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from benchmarks.agreement import Sample, check_agreement, take_sample
from benchmarks.campaign import Campaign, Field, Plan, check_raw
from benchmarks.client import Client, count_rows
from benchmarks.goals import check_goals
from benchmarks.line_up import Wanted, line_up
from benchmarks.material import make_files, publish_files
from benchmarks.measure import Effort, measure_rate, measure_requests, settle
from benchmarks.process import Server, ServerError, bare_server, our_server, seed_server
from benchmarks.raw_duckdb import RawDuckDB, raw_duckdb
from benchmarks.report import render
from benchmarks.results import Results
from benchmarks.systems import Bare, NotAskedError, Ours, Seed, System
from benchmarks.wire import request_bytes
from benchmarks.workload import FILTERS, SCENARIOS, Scenario, chosen, named, url
from engine.demo.facts import PERPLEXITIES
from tests.benchmarks.made_up import ABOUT

#: 11 metrics × 25 recipes × 337 checkpoints.
ROWS = 92_675
EXPECTED = {
    "health": 0,
    "small": 14,
    "small-again": 14,
    "small-cached": 14,
    "by-size": 14,
    "aggregated": 11 * 14,
    "groups": 11 * 14 * 25,
    "groups-top": 1_000,
    "table-first": 1_000,
    "table-deep": 1_000,
    "cursor-second": 1_000,
    "cursor-deep": 1_000,
    "facets": 14 + 25,
    "ft": 149,
    "unmelted-recipe": 337,
    "unmelted": 25 * 337,
    "slice": 159 * 11,
    "slice-columns": 159 * 11,
    "slice-arrow": 159 * 11,
    **{f"full{form}": ROWS for form in ("", "-columns", "-arrow", "-ndjson", "-csv", "-parquet")},
}


def _shallow(scenario: Scenario) -> Scenario:
    """A deep page of the small table, and metrics that it has."""
    paths = [path.replace("1000000", "50000") for path in scenario.paths]
    questions = [replace(one, offset=50_000) if one.offset == 1_000_000 else one for one in scenario.questions]
    asked = [
        (path, question)
        for path, question in zip(paths, questions, strict=True)
        if all(column != "metric" or set(values) <= set(PERPLEXITIES) for column, values in question.where)
    ]
    after = None if scenario.after is None else scenario.after.replace("999000", "49000")
    return replace(
        scenario, paths=tuple(path for path, _ in asked), questions=tuple(one for _, one in asked), after=after
    )


SMALLER = tuple(map(_shallow, SCENARIOS))
BY_NAME = pytest.mark.parametrize("scenario", SMALLER, ids=lambda scenario: scenario.name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_files(folder, metrics=PERPLEXITIES)
    return folder


@pytest.fixture(scope="module")
def store(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("store")
    publish_files(files, scratch / "store", scratch)
    return scratch / "store"


@pytest.fixture(scope="module")
def seed(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seed]:
    with seed_server(files, tmp_path_factory.mktemp("seed")) as server:
        yield Seed(server)


@pytest.fixture(scope="module")
def ours(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    with our_server(store, tmp_path_factory.mktemp("ours")) as server:
        yield Ours(server)


@pytest.fixture(scope="module")
def raw(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDuckDB]:
    with raw_duckdb(files, tmp_path_factory.mktemp("raw"), 1) as raw:
        yield raw


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    scratch = tmp_path_factory.mktemp("bare")
    with bare_server(scratch, scratch) as server:
        yield Bare(server, scratch)


def sample(system: System, scenario: Scenario) -> Sample:
    return take_sample(system, scenario, system.requests(scenario))


@BY_NAME
def test_all_give_the_same_rows(scenario: Scenario, ours: Ours, seed: Seed, raw: RawDuckDB) -> None:
    mine = sample(ours, replace(scenario, revalidate=False))
    assert mine.rows[0] == EXPECTED.get(scenario.name, mine.rows[0])
    assert mine.rows[0] or scenario.name == "health"
    if not scenario.is_bare:
        check_raw(raw, scenario, mine)
        assert scenario.whole or raw.ask(scenario.questions[-1]).num_rows == mine.rows[-1]
        assert raw.time_ms(scenario.questions[0], scenario.encoding, whole=scenario.whole) > 0
    if scenario.like is None:
        check_agreement(scenario, mine, sample(seed, scenario))
    else:
        with pytest.raises(NotAskedError):
            seed.requests(scenario)


@pytest.mark.parametrize("name", ["small", "small-again", "unmelted", "slice-arrow", "full-csv"])
def test_the_bare_server_replies_what_ours_did(
    name: str, ours: Ours, bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = named(name)
    with pytest.raises(NotAskedError):
        bare.requests(scenario)
    with Client(ours.server.port) as client:
        reply = client.send(ours.requests(scenario)[0])
    bare.learn(scenario, reply)
    with Client(bare.server.port) as client:
        again = client.send(bare.requests(scenario)[0])
    assert (again.status, again.body, again.etag) == (reply.status, reply.body, reply.etag)
    assert again.is_chunked == reply.is_chunked
    monkeypatch.setattr("benchmarks.systems.STORED_BYTES", 1_000)  # a longer one is replied by its beginning, repeated
    bare.learn(replace(scenario, name=f"{name}-cut"), reply)
    with Client(bare.server.port) as client:
        assert len(client.send(request_bytes("GET", f"/answers/{name}-cut")).body) == len(reply.body)


def test_lines_of_recipes_agree_with_the_seed_and_duckdb(ours: Ours, seed: Seed, raw: RawDuckDB) -> None:
    scenario = named("scaling")
    table = raw.ask(scenario.questions[0]).to_pylist()
    alone = {row["data"]: (row["slope"], row["intercept"]) for row in table}
    for system in (ours, seed):
        with Client(system.server.port) as client:
            fits = orjson.loads(client.send(system.requests(scenario)[0]).body)["fits"]
        found = {fit["group"]["data"]: (fit["params"]["slope"], fit["params"]["intercept"]) for fit in fits}
        assert found.keys() == alone.keys()
        for recipe, line in found.items():
            assert line == pytest.approx(alone[recipe], rel=1e-9)


def test_a_cursor_goes_on_where_the_page_before_ended(ours: Ours) -> None:
    with Client(ours.server.port) as client:
        by_cursor = client.send(ours.requests(named("cursor-second"))[0])
        by_offset = client.get("/api/visualize/table?limit=1000&offset=1000")
    assert orjson.loads(by_cursor.body)["data"] == orjson.loads(by_offset.body)["data"]


def test_an_unchanged_view_is_not_sent_again(ours: Ours) -> None:
    with Client(ours.server.port) as client:
        reply = client.send(ours.requests(named("small-again"))[0])
    assert (reply.status, reply.body) == (304, b"")


def test_one_answer_cut_short_or_refused_is_an_error(ours: Ours) -> None:
    with Client(ours.server.port) as client, pytest.raises(ServerError, match="GET /api/nothing was answered with 404"):
        client.get("/api/nothing")
    with pytest.raises(ServerError, match="no path|answered with 4"):
        measure_requests([request_bytes("GET", "/api/nothing")], ours.server, Effort(1, 1, 1.0))
    with Client(ours.server.port) as client:
        whole = client.get("/api/visualize/data?format=ndjson").body
    assert count_rows(whole, "ndjson") == ROWS
    with pytest.raises((ServerError, ValueError)):
        count_rows(whole[: whole.rfind(b"\n", 0, len(whole) - 1) + 1], "ndjson")


def test_what_is_measured_is_plausible(ours: Ours, tmp_path: Path) -> None:
    requests = ours.requests(named("filter"))[:50]
    with pytest.raises(ServerError, match="422"):  # a metric that this table lacks
        measure_requests(requests, ours.server, Effort(50, 50, 0.0))
    requests = ours.requests(next(one for one in SMALLER if one.name == "filter"))
    block = measure_requests(requests, ours.server, Effort(7, 7, 0.0), start=3)
    assert len(block.total_ms) == len(block.first_ms) == 7
    assert all(0 < first <= total for first, total in zip(block.first_ms, block.total_ms, strict=True))
    assert block.size_bytes > 500
    assert block.peak_bytes is None or block.peak_bytes > 50_000_000
    rate = measure_rate(requests, ours.server, 4, 0.1, 20, tmp_path)
    assert rate.per_s > 1
    assert rate.cut == rate.refused == 0
    assert 0 < (rate.p50_ms or 0) <= (rate.p95_ms or 0) <= (rate.p99_ms or 0)
    with pytest.raises(ServerError, match="2 clients at 'ours': WireError"):
        measure_rate([request_bytes("GET", "/nothing")], ours.server, 2, 0.1, 20, tmp_path)
    settle(ours.server, 5)


def test_a_campaign_measures_and_reports(
    ours: Ours, seed: Seed, bare: Bare, raw: RawDuckDB, store: Path, tmp_path: Path
) -> None:
    names = ("health", "small", "small-again", "small-cached", "slice", "slice-arrow", "full-arrow")
    plan = Plan(2, 0.02, 0.01, 60_000, 0.05, 20, (8,), warm_ups=3)
    results = Results(dict(ABOUT))
    lines: list[str] = []
    smaller = {scenario.name: scenario for scenario in SMALLER}
    with (
        our_server(store, tmp_path, keeps_answers=True, name="ours-cached") as cached,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("benchmarks.campaign.named", smaller.__getitem__)
        field = Field(ours, Ours(cached), bare, raw, [seed])
        Campaign(field, plan, tmp_path, lines.append).run([smaller[name] for name in names], results)
    assert [outcome.problem for outcome in results.outcomes] == [None] * len(names)
    assert [outcome.problems for outcome in results.outcomes] == [{}] * len(names)
    for outcome in results.outcomes:
        assert outcome.rows == EXPECTED[outcome.scenario.name]
        assert len(outcome.ours.blocks) == 2
        assert outcome.limit_ratio is not None
        assert len(outcome.series["bare"].blocks) == 2
        assert (outcome.ours.rate(8) is None) == outcome.scenario.whole
    assert set(results.memory) == {"ours", "ours-cached", "bare", "seed"}
    assert "latency: small" in lines
    text = render(results, check_goals(results))
    assert "## Problems" not in text
    assert "- missed" not in text


def test_a_scenario_that_disagrees_is_noted_and_the_rest_goes_on(ours: Ours, seed: Seed, tmp_path: Path) -> None:
    lying = replace(named("small"), paths=("/api/visualize/data/ft",), name="lies")
    broken = replace(named("small"), paths=("/api/nothing",), name="broken")

    class Other(Seed):
        def requests(self, scenario: Scenario) -> list[bytes]:
            return [request_bytes("GET", "/api/visualize/data/small")]

    results = Results(dict(ABOUT))
    plan = Plan(1, 0.01, 0.01, 60_000, 0.02, 20, (8,), ("small",), warm_ups=0)
    field = Field(ours, others=[Other(seed.server)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.campaign.named", lambda _: named("health"))
        Campaign(field, plan, tmp_path, lambda _: None).run(
            [lying, broken, named("small"), named("small-cached")], results
        )
    lies, fails, small = results.outcomes  # without a second server nobody is asked for kept answers
    assert lies.problems["seed"] == "DisagreementError: first question: 149 rows from ours, 14 from seed"
    assert "seed" not in lies.series
    assert (fails.problem or "").startswith("ServerError: GET /api/nothing was answered with 404")
    assert small.problem is None
    assert results.failed


def test_a_line_up_starts_and_ends_everybody(store: Path, tmp_path: Path) -> None:
    wanted = Wanted(store=store, metrics=PERPLEXITIES)
    with line_up(wanted, tmp_path, lambda _: None) as found:
        servers = [system.server for system in found.field.systems()]
        assert [server.name for server in servers] == ["ours", "ours-cached", "bare", "seed"]
        assert found.rows == ROWS
        assert all(server.process.poll() is None for server in servers)
        assert found.field.raw is not None
    assert all(server.process.poll() is not None for server in servers)


def test_a_peer_that_does_not_start_is_a_problem_and_no_end(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        name = "broken"
        about = "it is broken"

        def prepare(self, files: Path, scratch: Path) -> None:
            raise RuntimeError("no network")

    monkeypatch.setattr("benchmarks.line_up.known_peers", lambda: (Broken(),))
    wanted = Wanted(store=store, seed=False, limit=False, peers=("broken",))
    with line_up(wanted, tmp_path, lambda _: None) as found:
        assert found.problems == {"broken": "RuntimeError: no network"}
        assert found.field.others == []


def test_further_recipes_leave_selective_questions_as_they_are(files: Path, tmp_path: Path) -> None:
    make_files(tmp_path, 3, PERPLEXITIES[:2])
    larger, own = (pq.read_table(folder / "datadecide.parquet") for folder in (tmp_path, files))
    assert larger.num_rows == 3 * 2 * 8_425
    assert larger.schema.equals(own.schema)
    sizes = {label: place for place, label in enumerate(own["params"].unique().to_pylist())}
    rows = larger.to_pylist()
    keys = [(row["metric"], row["data"], sizes[row["params"]], row["step"]) for row in rows]
    assert keys == sorted(keys)
    kept = [row for row in rows if " v" not in row["data"]]
    assert kept == [row for row in own.to_pylist() if row["metric"] in PERPLEXITIES[:2]]
    moved = [(row["data"], row["value"]) for row in rows if row["data"].startswith("C4")][: 3 * 337]
    assert len({data for data, _ in moved}) == 3
    assert moved[0][1] != moved[337][1]
    make_files(tmp_path / "again", 3, PERPLEXITIES[:2])
    assert pq.read_table(tmp_path / "again" / "datadecide.parquet").equals(larger)


def test_a_server_is_ended_with_its_block(files: Path, tmp_path: Path) -> None:
    with seed_server(files, tmp_path) as server:
        assert server.process.poll() is None
        assert Server("x", 0, server.process, tmp_path, (1,)).resident_bytes() != 0
    assert server.process.poll() is not None


def test_names_are_distinct_and_likes_exist() -> None:
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
    for scenario in SCENARIOS:
        like = scenario.like
        assert like is None or names.index(like) < names.index(scenario.name)
        assert len(scenario.paths) == len(scenario.questions)


def test_filters_are_many_and_different() -> None:
    scenario = named("filter")
    assert len(set(scenario.paths)) == len(set(scenario.questions)) == FILTERS >= 1_000


def test_choosing_by_name_beginning_and_size() -> None:
    assert chosen([]) == SCENARIOS
    assert [scenario.name for scenario in chosen(["slice*", "health"])] == [
        "health",
        "slice",
        "slice-columns",
        "slice-arrow",
    ]
    with pytest.raises(ValueError, match="no scenario 'smal'; there are health, small"):
        chosen(["smal"])
    assert [one.name for one in chosen([], 10) if one.whole] == ["full", "full-arrow"]
    assert not any(scenario.whole for scenario in chosen([], 100))
    assert [scenario.name for scenario in chosen(["full-csv"], 100)] == ["full-csv"]


def test_a_recipe_survives_the_url() -> None:
    assert url("/x", data_source="DCLM-Baseline (QC 7%, FW3)").endswith("DCLM-Baseline+%28QC+7%25%2C+FW3%29")
