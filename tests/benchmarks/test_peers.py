"""Every peer gives the rows that DuckDB gives, for each question that it can express. Nothing here is timed.

PostgreSQL runs where Debian's package is installed. The others come from PyPI and take minutes to install, so they run
where their environment was made before, or with BT_TEST_PEERS=1; what they are asked is checked without them.
"""

from __future__ import annotations

import http.client
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import duckdb
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.peers import PEERS
from benchmarks.peers.datasette import DATASETTE
from benchmarks.peers.datasette import REQUIREMENTS as DATASETTE_NEEDS
from benchmarks.peers.environment import environment_folder, is_made
from benchmarks.peers.loading import fingerprint, load_once, loaded_folder, sorted_batches
from benchmarks.peers.mosaic import MOSAIC
from benchmarks.peers.mosaic import REQUIREMENTS as MOSAIC_NEEDS
from benchmarks.peers.peer import CannotError, Peer, PeerError
from benchmarks.peers.postgres.spelling import path_of, question_of
from benchmarks.peers.roapi import REQUIREMENTS as ROAPI_NEEDS
from benchmarks.peers.roapi import ROAPI
from benchmarks.peers.sql import Dialect, literal, translate
from benchmarks.peers.tiled import REQUIREMENTS as TILED_NEEDS
from benchmarks.peers.tiled import TILED
from benchmarks.process import CHECKOUT, Server
from benchmarks.question import Question
from benchmarks.workload import Encoding

NEEDS = {"datasette": DATASETTE_NEEDS, "roapi": ROAPI_NEEDS, "mosaic": MOSAIC_NEEDS, "tiled": TILED_NEEDS}
KEPT = CHECKOUT / "benchmarks" / "scratch" / "peers"
WANTED = os.environ.get("BT_TEST_PEERS") == "1"

ENCODINGS = {(peer.name, wide): list(peer.encodings) for peer in PEERS for wide in (False, True)}
ENCODINGS["tiled", True] = ["arrow"]  # its JSON fails on lists

KEYS = ("params", "data", "step", "tokens", "compute")
ALL = (*KEYS, "metric", "value")
SEVEN = ("mean", "std", "count", "min", "max", "median", "p95")
RECIPES = ("C4", "Dolma1.6++", "Dolma1.7 (no 'code', Flan)")
SIZES = ("4M", "150M", "1B")
METRICS = ("pile-valppl", "arc_acc", "hella swag %")
LOSS = (("metric", ("pile-valppl",)),)

#: A question, and the SELECT that DuckDB answers in its place.
CASES: dict[str, tuple[Question, str]] = {
    "point": (
        Question("rows", where=(("data", (RECIPES[2],)), ("metric", ("arc_acc",)), ("step", (500,)))),
        f"FROM t WHERE data = '{RECIPES[2].replace(chr(39), chr(39) * 2)}' AND metric = 'arc_acc' AND step = 500",
    ),
    "two curves": (
        Question("rows", where=(("data", (RECIPES[1],)), ("params", ("4M", "1B")), *LOSS), columns=("step", "value")),
        "SELECT step, value FROM t WHERE data = 'Dolma1.6++' AND params IN ('4M', '1B') AND metric = 'pile-valppl'",
    ),
    "whole": (Question("rows"), "FROM t"),
    "first page": (
        Question("rows", columns=ALL, sort=("step",), limit=50),
        "FROM (SELECT *, row_number() OVER () AS n FROM t) ORDER BY step, n LIMIT 50",
    ),
    "deep page": (
        Question("rows", columns=ALL, sort=("-value", "step"), limit=20, offset=700),
        "FROM (SELECT *, row_number() OVER () AS n FROM t) ORDER BY value DESC NULLS LAST, step, n LIMIT 20 OFFSET 700",
    ),
    "groups": (
        Question("groups", where=LOSS, group_by=("params",), aggs=SEVEN),
        "SELECT params, avg(value) AS mean, stddev_samp(value) AS std, count(value) AS count, min(value) AS min, "
        "max(value) AS max, median(value) AS median, quantile_cont(value, 0.95) AS p95 FROM t "
        "WHERE metric = 'pile-valppl' GROUP BY params",
    ),
    "groups with a group of nulls": (
        Question("groups", group_by=("data", "metric"), aggs=("mean", "std", "count", "p95")),
        "SELECT data, metric, avg(value) AS mean, stddev_samp(value) AS std, count(value) AS count, "
        "quantile_cont(value, 0.95) AS p95 FROM t GROUP BY ALL",
    ),
    "top groups": (
        Question("groups", group_by=("params", "data"), aggs=("mean", "count"), sort=("-mean",), limit=3),
        "SELECT params, data, avg(value) AS mean, count(value) AS count FROM t GROUP BY ALL ORDER BY mean DESC LIMIT 3",
    ),
    "pivot": (
        Question("pivot", where=(("params", ("150M",)),), columns=KEYS, pivot="metric"),
        f"PIVOT (FROM t WHERE params = '150M') ON metric USING max(value) GROUP BY {', '.join(KEYS)}",
    ),
    "scaling": (
        Question("scaling", where=LOSS),
        "SELECT *, regr_slope(ln(y), ln(x)) OVER (PARTITION BY data) AS slope, "
        "regr_intercept(ln(y), ln(x)) OVER (PARTITION BY data) AS intercept FROM (SELECT params, data, "
        "max(step) AS step, max(CASE params WHEN '4M' THEN 4e6 WHEN '150M' THEN 1.5e8 ELSE 1e9 END) AS x, "
        "arg_max(value, step) AS y "
        "FROM t WHERE metric = 'pile-valppl' GROUP BY params, data)",
    ),
    "facets": (
        Question("facets", where=(("step", (0, 250)),), facets=("data", "metric")),
        "SELECT 'data' AS facet, data AS value, count(*) AS count FROM t WHERE step IN (0, 250) GROUP BY data "
        "UNION ALL SELECT 'metric', metric, count(*) FROM t WHERE step IN (0, 250) GROUP BY metric",
    ),
    "wide": (Question("rows", dataset="ft-matched"), "FROM wide"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """3 recipes × 3 sizes × 3 metrics × 101 steps, in an order that is not the key's, with nulls; and a wide table."""
    folder = tmp_path_factory.mktemp("files")
    rows = [
        {
            "params": size,
            "data": recipe,
            "step": step,
            "tokens": step * 1_000,
            "compute": step * 1.5e15,
            "metric": metric,
            "value": _value(size, recipe, metric, step),
        }
        for step in range(0, 25_250, 250)
        for size in SIZES
        for recipe in reversed(RECIPES)
        for metric in METRICS
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "datadecide.parquet")
    wide = pa.table({"run_id": ["a", "b"], "params": ["4M", "1B"], "data": ["C4", None], "wall_time_s": [1.5, None]})
    pq.write_table(wide, folder / "ft-matched.parquet")
    return folder


def _value(size: str, recipe: str, metric: str, step: int) -> float | None:
    if (recipe, metric) == ("C4", "hella swag %") or (metric == "arc_acc" and step == 0):
        return None
    return 1 + math.sin(len(size) * 7 + len(recipe) * 3 + len(metric) + step * 0.7) / 3


@pytest.fixture(scope="module")
def reference(files: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        for name, table in (("datadecide", "t"), ("ft-matched", "wide")):
            connection.execute(f"CREATE TABLE {table} AS FROM read_parquet('{files / name}.parquet')")
        yield connection


@pytest.fixture(scope="module", params=PEERS, ids=lambda peer: peer.name)
def served(request: pytest.FixtureRequest, files: Path) -> Iterator[tuple[Peer, Server]]:
    peer: Peer = request.param
    needs = NEEDS.get(peer.name)
    if needs and not WANTED and not is_made(environment_folder(KEPT, peer.name, needs)):
        pytest.skip(f"{peer.name} is not installed in benchmarks/scratch; BT_TEST_PEERS=1 installs it from PyPI")
    if peer.name == "postgres" and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed: Debian's package `postgresql`")
    # Not pytest's own folder, which the user that PostgreSQL runs as may not enter.
    scratch = Path(tempfile.mkdtemp(prefix="bt-peers-"))
    scratch.chmod(0o755)
    try:
        if needs:
            made = environment_folder(KEPT, peer.name, needs)
            if not is_made(made):
                peer.prepare(files, KEPT)
            (scratch / peer.name).mkdir()
            (scratch / peer.name / made.name).symlink_to(made)
        peer.prepare(files, scratch)
        with peer.serve(files, scratch) as server:
            yield peer, server
        assert server.process.poll() is not None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@pytest.mark.parametrize("case", CASES)
def test_answers_are_those_of_duckdb(
    case: str, served: tuple[Peer, Server], reference: duckdb.DuckDBPyConnection
) -> None:
    peer, server = served
    question, sql = CASES[case]
    expected = reference.sql(sql).to_arrow_table().to_pylist()
    assert expected
    answered = []
    for encoding in peer.encodings:
        try:
            body = _fetch(server, peer, question, encoding)
        except CannotError:
            continue
        answered.append(encoding)
        assert peer.count_rows(body, encoding) == len(expected)
        if encoding == answered[0]:
            _agree(peer.rows(body), expected, ordered=bool(question.sort) and question.kind == "rows")
    expressible = question.kind == "rows" and not question.where and not question.sort
    assert answered == ([] if peer.name == "tiled" and not expressible else ENCODINGS[peer.name, case == "wide"])


def test_health(served: tuple[Peer, Server]) -> None:
    peer, server = served
    assert _fetch(server, peer, Question("health"), peer.encodings[0])


def test_versions_are_told(served: tuple[Peer, Server]) -> None:
    peer, server = served
    versions = peer.versions(server.log.parent.parent)
    assert versions and all(text[0].isdigit() for text in versions.values())


def test_what_is_loaded_is_not_loaded_again(served: tuple[Peer, Server], files: Path) -> None:
    peer, server = served
    scratch = server.log.parent.parent
    before = {path: path.stat().st_mtime_ns for path in (scratch / peer.name).glob("data-*/loaded")}
    peer.prepare(files, scratch)
    assert {path: path.stat().st_mtime_ns for path in (scratch / peer.name).glob("data-*/loaded")} == before


def _fetch(server: Server, peer: Peer, question: Question, encoding: Encoding) -> bytes:
    ask = peer.ask(question, encoding)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(ask.method, ask.path, ask.body, dict(ask.headers))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    assert response.status == 200, body[:500]
    return body


def _agree(rows: list[dict[str, Any]], expected: list[dict[str, Any]], *, ordered: bool) -> None:
    names = [name for name in expected[0] if name != "n"]
    mine, theirs = ([[row.get(name) for name in names] for row in side] for side in (rows, expected))
    if not ordered:
        mine, theirs = (sorted(side, key=_identity) for side in (mine, theirs))
    for one, other in zip(mine, theirs, strict=True):
        assert all(_equal(a, b) for a, b in zip(one, other, strict=True)), (one, other)


def _identity(row: list[Any]) -> str:
    """What is no number first, then the numbers, rounded: a whole one comes as an integer from some."""
    texts = [cell for cell in row if isinstance(cell, str)]
    return repr((texts, [f"{cell:.6e}" for cell in row if isinstance(cell, (int, float))]))


def _equal(mine: Any, expected: Any) -> bool:
    if isinstance(mine, (int, float)) and isinstance(expected, (int, float)):
        return math.isclose(mine, expected, rel_tol=1e-9, abs_tol=1e-12)
    return bool(mine == expected)


def test_rows_by_name_are_those_asked_for(served: tuple[Peer, Server]) -> None:
    peer, server = served
    question = Question("rows", columns=("step", "metric"))
    rows = peer.rows(_fetch(server, peer, question, peer.encodings[0]))
    assert len(rows) == 101 * 27 and all(set(row) == {"step", "metric"} for row in rows)


# Without any of them: what is asked.


def test_values_are_parameters_and_no_part_of_the_text() -> None:
    path = DATASETTE.ask(CASES["point"][0], "json").path
    asked = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    assert asked == {
        "sql": 'SELECT * FROM datadecide WHERE "data" = :p0 AND "metric" = :p1 AND "step" = :p2',
        "p0": RECIPES[2],
        "p1": "arc_acc",
        "p2": "500",
        "_shape": "array",
    }


def test_roapi_takes_sql_and_says_the_format() -> None:
    ask = ROAPI.ask(CASES["point"][0], "arrow")
    assert (ask.method, ask.path) == ("POST", "/api/sql")
    assert ask.headers == {"Accept": "application/vnd.apache.arrow.stream"}
    assert ask.body == (
        b"SELECT * FROM datadecide WHERE \"data\" = 'Dolma1.7 (no ''code'', Flan)' "
        b'AND "metric" = \'arc_acc\' AND "step" = 500'
    )


def test_mosaic_is_sent_a_command() -> None:
    ask = MOSAIC.ask(CASES["pivot"][0], "arrow")
    assert ask.body is not None
    assert orjson.loads(ask.body) == {
        "type": "arrow",
        "sql": "PIVOT (SELECT * FROM datadecide WHERE \"params\" = '150M') ON metric USING max(value) "
        "GROUP BY params, data, step, tokens, compute",
    }


def test_tiled_is_asked_for_columns() -> None:
    question = Question("rows", columns=("step", "value"))
    assert TILED.ask(question, "columns").path == (
        "/api/v1/table/full/datadecide?format=application%2Fjson&column=step&column=value"
    )


@pytest.mark.parametrize("case", ["point", "first page", "groups", "pivot", "scaling", "facets"])
def test_tiled_says_what_it_cannot(case: str) -> None:
    with pytest.raises(CannotError, match="Tiled"):
        TILED.ask(CASES[case][0], "json")


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_format_that_a_peer_does_not_have_is_said(peer: Peer) -> None:
    for encoding in ("json", "columns", "arrow"):
        if encoding not in peer.encodings:
            with pytest.raises(CannotError):
                peer.ask(Question("rows"), encoding)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES)
def test_the_small_api_reads_what_was_asked(case: str) -> None:
    question = CASES[case][0]
    url = urlsplit(path_of(question))
    _, dataset, kind = url.path.split("/")
    pairs = [(name, value) for name, values in parse_qs(url.query).items() for value in values]
    assert question_of(dataset, kind, pairs) == question


def test_an_index_can_serve_a_page() -> None:
    """Nulls are spoken of only where there may be some: otherwise SQLite sorts what its index has in order."""
    text = translate(Question("rows", columns=("step",), sort=("step",), limit=10, offset=5), _literals()).text
    assert text == 'SELECT "step" FROM datadecide ORDER BY "step", ordinal LIMIT 10 OFFSET 5'


def test_a_pivot_in_plain_sql_needs_names() -> None:
    question = Question("pivot", columns=("step",), pivot="metric")
    with pytest.raises(CannotError, match="metric"):
        translate(question, _literals())
    names = {"metric": ("it's",)}
    assert translate(question, _literals(names=names)).text == (
        'SELECT "step", max(value) FILTER (WHERE "metric" = \'it\'\'s\') AS "it\'s" FROM datadecide GROUP BY "step"'
    )


def _literals(**named: Any) -> Dialect:
    return Dialect(placeholder=lambda _, value: literal(value), **named)


def test_rows_are_stored_by_their_key_with_their_place_in_the_file(files: Path, tmp_path: Path) -> None:
    rows = [row for batch in sorted_batches(files, tmp_path) for row in batch.to_pylist()]
    keys = [(row["metric"], row["data"], row["params"], row["step"]) for row in rows]
    assert keys == sorted(keys)
    given = pq.read_table(files / "datadecide.parquet").to_pylist()
    assert [{name: row[name] for name in ALL} for row in sorted(rows, key=lambda row: row["ordinal"])] == given


def test_a_load_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(PeerError, match="disk full"):
        load_once(tmp_path, "key", fail)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(PeerError, match="were not prepared"):
        loaded_folder(tmp_path, "key")


def test_what_was_loaded_is_kept_for_one_change_of_rows(files: Path, tmp_path: Path) -> None:
    loads: list[Path] = []
    first, again, second = (load_once(tmp_path, key, loads.append) for key in ("a", "a", fingerprint(files, "b")))
    assert first == again and loads == [first, second]
    assert load_once(tmp_path, "a", loads.append) == loaded_folder(tmp_path, "a") == first and len(loads) == 2
    third = load_once(tmp_path, "c", loads.append)
    assert {path.name for path in tmp_path.iterdir()} == {second.name, third.name}
