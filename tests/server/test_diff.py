"""What changed between two versions, by HTTP and on the command line."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from engine import Engine, EngineConfig
from server.cli import cli
from tests.server.conftest import local_client, settings

URL = "/api/datasets/runs/diff"
NAN = float("nan")

BEFORE = {
    "run": ["a", "b", "c", "d"],
    "n": pa.array([1, 2, 3, 4], pa.int32()),
    "loss": [1.0, 2.0, 3.0, 4.0],
    "note": ["x", "x", "x", "x"],
}
AFTER = {
    "run": ["b", "c", "d", "e"],
    "n": pa.array([2, 3, 4, 5], pa.int64()),
    "loss": [2.5, NAN, 4.0, 5.0],
    "raw": [b"\x00", b"", b"\xff", None],
}

GOLDEN = """\
runs v1 → v2: 1 added, 1 removed, 2 changed, 1 unchanged (by run)
columns added: raw (BLOB)
columns removed: note (VARCHAR)
columns of a wider type: n (INTEGER to BIGINT)

column  changed  mean |change|  largest  before  after  where
──────  ───────  ─────────────  ───────  ──────  ─────  ─────
loss          2            0.5     +0.5     2.0    2.5  run=b

changed: 1 of 2
run  changes
───  ───────────────
b    loss: 2.0 → 2.5

added: 1 of 1
run  n  loss  raw
───  ─  ────  ────
e    5  5.0   null

removed: 1 of 1
run  n  loss  note
───  ─  ────  ────
a    1  1.0   x
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diff")
    with Engine(EngineConfig(store=folder, definitions=None)) as engine:
        engine.publish("runs", pa.table(BEFORE))
        engine.publish("runs", pa.table(AFTER))
    return folder


@pytest.fixture(scope="module")
def served(store: Path) -> Iterator[TestClient]:
    with local_client(settings(store)) as opened:
        yield opened


@pytest.fixture
def bt(store: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BT_ENV_FILE", "none")

    def run(*args: str) -> Result:
        return CliRunner().invoke(cli, ["--store", str(store), "diff", *args])

    return run


def test_the_answer(served: TestClient) -> None:
    found = served.get(URL).json()
    assert found["summary"] == {"added": 1, "removed": 1, "changed": 2, "unchanged": 1, "cells": {"loss": 2}}
    assert [column["name"] for column in found["schema"]["added"]] == ["raw"]
    assert found["schema"]["widened"] == [{"name": "n", "before": "INTEGER", "after": "BIGINT"}]
    assert found["data"] == [
        {"key": {"run": "b"}, "changes": {"loss": {"before": 2.0, "after": 2.5}}},
        {"key": {"run": "c"}, "changes": {"loss": {"before": 3.0, "after": None}}},
    ]
    assert (found["total"], found["truncated"]) == (2, False)
    assert found["added"]["data"] == [{"run": "e", "n": 5, "loss": 5.0, "raw": None}]
    (metric,) = found["metrics"]["data"]
    assert (metric["column"], metric["changed"], metric["undefined"], metric["max_abs"]) == ("loss", 2, 1, 0.5)
    assert metric["largest"] == [{"key": {"run": "b"}, "before": 2.0, "after": 2.5, "change": 0.5}]
    assert (found["from"]["version"], found["to"]["version"], found["key"], found["nonfinite"]) == (
        "v1",
        "v2",
        ["run"],
        1,
    )


def test_a_cut_says_so(served: TestClient) -> None:
    found = served.get(f"{URL}?limit=1").json()
    assert (len(found["data"]), found["total"], found["truncated"]) == (1, 2, True)
    nothing = served.get(f"{URL}?limit=0").json()
    assert (nothing["data"], nothing["added"]) == ([], {"data": [], "total": 1, "truncated": True})


def test_bytes_are_base64(served: TestClient) -> None:
    found = served.get(f"{URL}?from=v2&to=v1").json()
    assert found["removed"]["data"] == [{"run": "e", "n": 5, "loss": 5.0, "raw": None}]
    assert served.get(f"{URL}?key=n").json()["key"] == ["n"]


def test_caching(served: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned, latest = served.get(f"{URL}?from=v1&to=2"), served.get(URL)
    assert pinned.headers["cache-control"].endswith("immutable")
    assert "content-location" not in pinned.headers
    assert latest.headers["cache-control"] == "no-cache"
    assert latest.headers["content-location"] == f"{URL}?from=v1&to=v2"
    assert served.get(f"{URL}?from=v1&to=latest&limit=3").headers["content-location"] == f"{URL}?from=v1&to=v2&limit=3"
    assert served.get(latest.headers["content-location"]).json()["data"] == latest.json()["data"]
    monkeypatch.setattr(Engine, "database", None, raising=False)
    monkeypatch.setattr("engine.diff.Comparison.run", lambda _: 1 / 0)
    for first, url in ((pinned, f"{URL}?from=v1&to=2"), (latest, URL)):
        again = served.get(url, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["cache-control"] == first.headers["cache-control"]
        head = served.head(url)
        assert (head.status_code, head.headers["etag"]) == (200, first.headers["etag"])


def test_etags_tell_answers_apart(served: TestClient) -> None:
    urls = [URL, f"{URL}?from=v2&to=v1", f"{URL}?limit=1", f"{URL}?key=n", f"{URL}?key=run"]
    assert len({served.get(url).headers["etag"] for url in urls}) == len(urls)
    small = served.get(URL, headers={"accept-encoding": "gzip"})
    assert small.headers["etag"] != served.get(URL).headers["etag"]


@pytest.mark.parametrize(
    "query, status, code",
    [
        ("form=v1", 400, "unknown_parameter"),
        ("from=v1&from=v2", 400, "grammar"),
        ("from=v9", 404, "version_not_found"),
        ("to=v1", 404, "version_not_found"),
        ("key=nothing", 400, "unknown_column"),
        ("key=raw", 400, "unknown_column"),
        ("key=run,,n", 400, "grammar"),
        ("limit=10001", 422, "invalid_value"),
        ("limit=x", 422, "invalid_value"),
    ],
)
def test_wrong_requests(served: TestClient, query: str, status: int, code: str) -> None:
    found = served.get(f"{URL}?{query}")
    assert (found.status_code, found.json()["code"]) == (status, code)


def test_suggestions(served: TestClient) -> None:
    errors = [served.get(f"{URL}?{query}").json()["errors"][0] for query in ("form=v1", "key=rnu")]
    assert [error["did_you_mean"][0] for error in errors] == ["from", "run"]
    assert served.get("/api/datasets/nothing/diff").json()["code"] == "dataset_not_found"


def test_the_command_line(bt: Any) -> None:
    found = bt("runs", "--limit", "1")
    assert (found.exit_code, found.stdout) == (0, GOLDEN)
    assert bt("runs", "v1", "v2").stdout == GOLDEN.partition("\nchanged:")[0]
    assert bt("runs", "v1", "v1").stdout == "runs v1 → v1: 0 added, 0 removed, 0 changed, 4 unchanged (as whole rows)\n"


def test_the_command_line_as_json(bt: Any, served: TestClient) -> None:
    found = json.loads(bt("runs", "--json").stdout)
    answer = served.get(URL).json()
    assert answer.pop("links")
    assert found == answer


@pytest.mark.parametrize("args, code", [(("runs", "v9"), 3), (("nothing",), 3), (("runs", "--key", "x"), 2)])
def test_the_command_line_fails_in_one_line(bt: Any, args: tuple[str, ...], code: int) -> None:
    found = bt(*args)
    assert (found.exit_code, found.stdout) == (code, "")
    assert re.fullmatch(r"bt: error: .*\n", found.stderr)
