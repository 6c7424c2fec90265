"""The command line as scripts and people meet it: what it prints where, exit codes, and real processes that serve."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import click
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from engine.demo import DEMO_DATASETS
from engine.settings import checkout
from server.cli import cli
from server.commands.failures import ExitCode

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")

TABLE = pa.table(
    {
        "params": ["4M", "10M", "1B", "4M", "10M", "1B"],
        "data": ["Dolma1.7", "Dolma1.7", "Dolma1.7", "C4", "C4", "C4"],
        "step": [100, 100, 100, 200, 200, 200],
        "loss": [3.5, 3.25, 2.125, 3.75, None, float("nan")],
    }
)

DEFINITION = """
title = "A sweep"
[queries.small]
title = "The smallest"
[queries.small.parameters]
params = "4M"
select = "data,loss"
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def bt(store: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command on the store, in this process."""
    for name in [name for name in os.environ if name.startswith(("BT_", "PORT"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BT_ENV_FILE", "none")
    monkeypatch.setenv("BT_STORE", str(store))
    monkeypatch.setenv("BT_DROP_SETTLE", "0.05")

    def run(*args: str | Path) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    return run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "results.parquet"
    pq.write_table(TABLE, path)
    return path


@pytest.fixture
def sweep(bt: Callable[..., Result], store: Path, file: Path) -> Callable[..., Result]:
    """The same, on a store with a dataset in it."""
    (store / "sweep").mkdir(parents=True)
    (store / "sweep" / "dataset.toml").write_text(DEFINITION)
    assert bt("publish", "sweep", file, "-m", "first").exit_code == 0
    return bt


def other_file(tmp_path: Path, **columns: list[object]) -> Path:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table(columns or {"step": [1, 2], "loss": [0.5, 0.25]}), path)
    return path


def error(result: Result, code: int) -> str:
    """The one line that a command which fails leaves on stderr."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("bt: error: ")
    return line.removeprefix("bt: error: ")


# --- the whole of it


def test_the_manual_has_every_command_and_no_other() -> None:
    assert re.findall(r"^\| `bt ([a-z]+)", MANUAL, re.MULTILINE) == list(cli.commands)


def test_the_manual_has_every_exit_code() -> None:
    listed = [int(code) for code in re.findall(r"^\| (\d+) \|", MANUAL, re.MULTILINE)]
    assert listed == [int(code) for code in ExitCode]


@pytest.mark.parametrize("name", list(cli.commands))
def test_the_manual_tells_of_every_option(name: str) -> None:
    options = [parameter.opts for parameter in cli.commands[name].params if isinstance(parameter, click.Option)]
    assert [names for names in options if not any(re.search(rf"[` ]{option}[` ]", MANUAL) for option in names)] == []


def test_help_lists_the_commands(bt: Callable[..., Result]) -> None:
    result = bt("--help")
    assert result.exit_code == 0
    assert all(f"\n  {name} " in result.stdout for name in cli.commands)
    for name in cli.commands:
        if name != "bench":  # whose --help is the benchmarks' own
            assert bt(name, "--help").exit_code == 0


def test_version(bt: Callable[..., Result]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert bt("--version").stdout == f"By Tomorrow {project['version']}\n"


def imported(*args: str, store: Path) -> set[str]:
    """Which heavy packages a command imports."""
    heavy = ("duckdb", "fastapi", "pandas", "polars", "pyarrow", "rich", "sqlglot", "starlette", "uvicorn")
    code = f"""
import sys
from server.cli import cli
try:
    cli.main({list(args)!r})
except SystemExit:
    print("|", *(name for name in {heavy!r} if name in sys.modules))
"""
    run = subprocess.run([sys.executable, "-P", "-c", code], env=environment(store), capture_output=True, text=True)
    return set(run.stdout.rpartition("|")[2].split())


def test_a_command_imports_what_it_needs(store: Path, sweep: Callable[..., Result]) -> None:
    assert imported("--help", store=store) == set()
    assert imported("publish", "--help", store=store) == set()
    assert imported("versions", "sweep", store=store) & {"fastapi", "pandas", "polars", "rich", "uvicorn"} == set()


# --- publishing


def test_publish_and_versions(sweep: Callable[..., Result], tmp_path: Path) -> None:
    result = sweep("publish", "sweep", other_file(tmp_path), "-m", "other", "--by", "ada")
    assert result.exit_code == 0
    assert re.fullmatch(r"sweep: published v2, 2 rows, 2 columns, \d+ (bytes|kB)\n", result.stdout)
    assert "bt: warning: columns removed: params, data" in result.stderr
    listed = sweep("versions", "sweep")
    newest, first = (line.split() for line in listed.stdout.splitlines()[2:])
    assert newest[:2] == ["v2", "*"] and newest[-2:] == ["ada", "other"]
    assert first[0] == "v1" and first[-1] == "first"
    assert listed.stderr == ""


def test_publish_as_json(bt: Callable[..., Result], file: Path) -> None:
    answer = json.loads(bt("publish", "sweep", file, "--json").stdout)
    assert (answer["dataset"], answer["version"], answer["created"], answer["latest"]) == ("sweep", "v1", True, True)
    assert (answer["rows"], len(answer["schema"]), answer["parent"]) == (6, 4, None)
    assert re.fullmatch("[0-9a-f]{64}", answer["content_id"])
    again = json.loads(bt("publish", "sweep", file, "--json").stdout)
    assert again == {**answer, "created": False}


def test_the_same_again_is_no_error(sweep: Callable[..., Result], file: Path) -> None:
    result = sweep("publish", "sweep", file)
    assert (result.exit_code, result.stdout) == (0, "sweep: the same content is v1 already\n")


def test_versions_as_json(sweep: Callable[..., Result], tmp_path: Path) -> None:
    sweep("publish", "sweep", other_file(tmp_path))
    newest, first = json.loads(sweep("versions", "sweep", "--json").stdout)
    assert (newest["version"], newest["parent"], newest["latest"], first["latest"]) == ("v2", "v1", True, False)
    assert newest["diff"]["removed"] == ["params", "data"]
    assert first["message"] == "first"


def test_rollback(sweep: Callable[..., Result], tmp_path: Path) -> None:
    sweep("publish", "sweep", other_file(tmp_path))
    assert sweep("rollback", "sweep", "v1").stdout == "sweep: latest is v1 now, and was v2\n"
    assert sweep("rollback", "sweep", "1").stdout == "sweep: latest is v1, as before\n"
    listed = sweep("versions", "sweep")
    assert "v1 *" in listed.stdout and "v2 is newer" in listed.stderr
    content = json.loads(sweep("versions", "sweep", "--json").stdout)[0]["content_id"]
    answer = json.loads(sweep("rollback", "sweep", content[:12], "--json").stdout)
    assert (answer["version"], answer["previous"], answer["changed"]) == ("v2", "v1", True)


def test_datasets(sweep: Callable[..., Result], store: Path) -> None:
    assert sweep("datasets").stdout.splitlines()[2].split()[:3] == ["sweep", "v1", "6"]
    (store / "new").mkdir()
    (store / "new" / "results.parquet").write_bytes(b"PAR1, or so it says")
    sweep("refresh")
    new, entry = json.loads(sweep("datasets", "--json").stdout)
    assert (entry["title"], entry["version"], entry["rows"], entry["versions"]) == ("A sweep", "v1", 6, 1)
    assert (new["name"], new["version"]) == ("new", None)
    assert "rejected" in new["error"]


def test_an_empty_store_says_what_to_do(bt: Callable[..., Result]) -> None:
    result = bt("datasets")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "bt demo" in result.stderr
    assert bt("datasets", "--json").stdout == "[]\n"


def test_what_cannot_be_published(bt: Callable[..., Result], tmp_path: Path, file: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(file.read_bytes()[:-9])
    assert "cut short" in error(without_progress(bt("publish", "sweep", tmp_path / "bad.parquet")), 4)
    assert "there is no file" in error(bt("publish", "sweep", tmp_path / "none.parquet"), 3)
    assert "is a folder" in error(without_progress(bt("publish", "sweep", tmp_path)), 4)
    assert "is not a dataset name" in error(bt("publish", "My Sweep", file), 2)


def without_progress(result: Result) -> Result:
    """The result without the lines that tell of progress where there is no terminal."""
    lines = [line for line in result.stderr.splitlines() if not re.match("bt: (copying|checking|converting)", line)]
    result.stderr_bytes = "".join(f"{line}\n" for line in lines).encode()
    return result


def test_a_breaking_change_can_be_forbidden(
    sweep: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BT_SCHEMA_POLICY", "block-breaking")
    assert "would break queries" in error(without_progress(sweep("publish", "sweep", other_file(tmp_path))), 4)


def test_what_is_not_there(sweep: Callable[..., Result]) -> None:
    assert error(sweep("versions", "swep"), 3) == "there is no dataset 'swep'; did you mean sweep?"
    assert "no version 'v9'" in error(sweep("rollback", "sweep", "v9"), 3)
    assert "no version" in error(sweep("query", "sweep", "version=9"), 3)
    assert "no named query 'smal'" in error(sweep("query", "sweep", "--named", "smal"), 3)
    assert "there is no dataset" in error(sweep("refresh", "swep"), 3)


# --- wrong command lines and settings


@pytest.mark.parametrize(
    "args, says",
    [
        (["publisch"], "publish"),
        (["versions"], "NAME"),
        (["versions", "sweep", "--jsno"], "--json"),
        (["versions", "a", "b"], "b"),
        (["query", "sweep", "params"], "'params' is no PARAMETER=VALUE"),
        (["query", "sweep", "--format", "xml"], "xml"),
        (["query", "sweep", "format=xml"], "format=xml is none of table, json"),
        (["query", "sweep", "-o", "answer.xml"], "tells no format"),
        (["query", "sweep", "parms=4M"], "did you mean params"),
        (["query", "sweep", "params=5M"], "has no value"),
        (["query", "sweep", "dataset=other"], "other"),
        (["query", "sweep", "step__gt=many"], "many"),
    ],
)
def test_a_wrong_command_line_is_one_line(sweep: Callable[..., Result], args: list[str], says: str) -> None:
    assert says in error(sweep(*args), 2)


def test_without_a_command_there_is_help(bt: Callable[..., Result]) -> None:
    result = bt()
    assert result.exit_code == 2
    assert "Commands:" in result.output


@pytest.mark.parametrize("command", [["datasets"], ["versions", "x"], ["query", "x"], ["serve"], ["demo"]])
def test_a_wrong_setting_is_one_line(
    bt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("BT_QUERY_TIMEOUT", "soon")
    assert error(bt(*command), 2).startswith("BT_QUERY_TIMEOUT is 'soon'; it takes seconds")


def test_a_bucket_that_cannot_be_one(bt: Callable[..., Result]) -> None:
    line = error(bt("--store", "s3://Bucket/prefix", "datasets"), 2)
    assert line.startswith(
        "BT_STORE is 's3://Bucket/prefix' (on the command line): 'Bucket' is not the name of a bucket"
    )


def test_a_setting_that_does_nothing_is_said(bt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_STOER", "x")
    monkeypatch.setenv("BT_RATE_LIMIT", "10")
    assert [line for line in bt("datasets", "--json").stderr.splitlines() if "warning" in line] == [
        "bt: warning: BT_RATE_LIMIT has no effect yet: rate limits will come with a later release",
        "bt: warning: BT_STOER is no setting; did you mean BT_STORE?",
    ]


def test_a_store_can_be_named(bt: Callable[..., Result], tmp_path: Path, file: Path) -> None:
    assert bt("--store", tmp_path / "second", "publish", "mine", file).exit_code == 0
    assert (tmp_path / "second" / "mine" / "_bt" / "log" / "0000000001.json").is_file()


def test_a_defect_is_one_line_too(bt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("engine.engine.Engine.dataset_names", fail)
    assert (
        error(bt("datasets"), 1) == "ZeroDivisionError: a\\nb; this is a defect of bt, and `bt --debug …` shows where"
    )
    assert "Traceback" in bt("--debug", "datasets").stderr


def test_a_full_disk_is_no_defect(bt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device", "/data/x")

    monkeypatch.setattr("engine.engine.Engine.dataset_names", fail)
    assert error(bt("datasets"), 1) == "/data/x: No space left on device"


# --- asking


def rows_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()[2:]]


def test_a_table(sweep: Callable[..., Result]) -> None:
    result = sweep("query", "sweep", "data=C4", "sort=params", "select=params,loss")
    assert result.stdout.splitlines()[0] == "params  loss"
    assert rows_of(result.stdout) == [["4M", "3.75"], ["10M", "null"], ["1B", "nan"]]
    assert result.stderr == ""


def test_a_table_is_cut_and_says_so(bt: Callable[..., Result], tmp_path: Path) -> None:
    bt("publish", "long", other_file(tmp_path, n=list(range(1_234))))
    result = bt("query", "long")
    assert len(rows_of(result.stdout)) == 50
    assert result.stderr == "bt: showing 50 of 1,234 rows; --all shows all\n"
    whole = bt("query", "long", "--all")
    assert (len(rows_of(whole.stdout)), whole.stderr) == (1_234, "")
    page = bt("query", "long", "limit=2", "offset=3")
    assert (rows_of(page.stdout), page.stderr) == ([["3"], ["4"]], "bt: showing 2 of 1,234 rows\n")
    assert bt("query", "long", "total=0").stderr == "bt: showing 50 of more rows; --all shows all\n"


def test_a_table_ends_at_the_edge_of_the_terminal(
    bt: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bt("publish", "wide", other_file(tmp_path, **{f"column{n}": [n] for n in range(100)}))
    monkeypatch.setattr("server.commands.query.terminal_width", lambda: 40)
    result = bt("query", "wide")
    assert result.stdout.splitlines()[0].split() == ["column0", "column1", "column2", "column3"]
    assert "showing 4 of 100 columns" in result.stderr
    assert len(bt("query", "wide", "--all").stdout.splitlines()[0].split()) == 100


def test_what_was_asked_beside_the_rows_is_below_the_table(sweep: Callable[..., Result]) -> None:
    result = sweep("query", "sweep", "facets=params", "explain=1", "limit=1")
    table, facets, sql, *_, read = result.stdout.split("\n\n")
    assert len(rows_of(table)) == 1
    assert sorted(rows_of(facets)) == [["10M", "2"], ["1B", "2"], ["4M", "2"]]
    assert sql.startswith("SELECT")
    assert re.fullmatch(r"rows read: \d+\n", read)


def test_nothing_in_a_file_can_move_the_cursor(bt: Callable[..., Result], tmp_path: Path) -> None:
    bt("publish", "odd", other_file(tmp_path, text=["\x1b[31mred", "two\nlines", "宽", "e\u0301"]), "-m", "a\x1bb")
    lines = bt("query", "odd").stdout.splitlines()[2:]
    assert lines == ["\\x1b[31mred", "two\\nlines", "宽", "e\u0301"]
    assert "\x1b" not in bt("versions", "odd").stdout


def test_the_formats_are_what_http_answers(sweep: Callable[..., Result], store: Path) -> None:
    from starlette.testclient import TestClient

    from server.app import create_app
    from server.encoding import FORMATS
    from server.settings import Settings

    with TestClient(create_app(Settings(store=store, definitions=None, ingest=False))) as client:
        for form in FORMATS:
            for parameters in (["data=C4"], ["group_by=params", "agg=mean,count", "sort=-mean"], ["limit=2"]):
                query = "&".join(parameters)
                headers = {"Accept": form.media_type, "Accept-Encoding": "identity"}
                served = client.get(f"/api/datasets/sweep/rows?{query}", headers=headers)
                assert served.status_code == 200
                printed = sweep("query", "sweep", *parameters, "--format", form.name).stdout_bytes
                assert printed == served.content, f"{form.name} {query}"


def test_a_file_appears_when_it_is_complete(sweep: Callable[..., Result], tmp_path: Path) -> None:
    target = tmp_path / "answer.parquet"
    result = sweep("query", "sweep", "data=C4", "-o", target)
    assert result.exit_code == 0
    assert re.fullmatch(rf"bt: {re.escape(str(target))}: 3 rows, .*\n", result.stderr)
    assert pq.read_table(target).column("params").to_pylist() == ["4M", "10M", "1B"]
    before = target.read_bytes()
    error(sweep("query", "sweep", "data=C5", "-o", target), 2)
    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".part")] == []


@pytest.mark.parametrize(
    "name", ["a.json", "a.columns", "a.ndjson", "a.jsonl", "a.csv", "a.arrow", "a.parquet", "a.TXT"]
)
def test_the_name_of_a_file_tells_its_format(sweep: Callable[..., Result], tmp_path: Path, name: str) -> None:
    assert sweep("query", "sweep", "-o", tmp_path / name).exit_code == 0
    start = (tmp_path / name).read_bytes()[:8]
    starts = {
        "json": b'{"data":',
        "columns": b'{"data":',
        "ndjson": b'{"params',
        "jsonl": b'{"params',
        "csv": b"params,d",
    }
    others = {"arrow": b"\xff\xff\xff\xff", "parquet": b"PAR1", "TXT": b"params"}
    assert start.startswith({**starts, **others}[name[2:]])


def test_a_link_stays_a_link_and_a_device_a_device(sweep: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "there.csv").write_text("old")
    (tmp_path / "here.csv").symlink_to("there.csv")
    assert sweep("query", "sweep", "-o", tmp_path / "here.csv").exit_code == 0
    assert (tmp_path / "here.csv").is_symlink()
    assert (tmp_path / "there.csv").read_text().startswith("params,data")
    assert sweep("query", "sweep", "--format", "csv", "-o", os.devnull).exit_code == 0
    assert Path(os.devnull).is_char_device()


def test_bytes_do_not_go_to_a_terminal(sweep: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.commands.query.terminal_width", lambda: 80)
    assert "not for a terminal" in error(sweep("query", "sweep", "--format", "arrow"), 2)
    assert "not for a terminal" in error(sweep("query", "sweep", "format=parquet"), 2)


def test_arrow_to_a_pipe(sweep: Callable[..., Result]) -> None:
    read = pa.ipc.open_stream(io.BytesIO(sweep("query", "sweep", "-f", "arrow").stdout_bytes)).read_all()
    assert read.num_rows == 6


def test_the_sql(sweep: Callable[..., Result]) -> None:
    result = sweep("query", "sweep", "data=Dolma1.7", "step__gte=100", "--sql")
    assert result.exit_code == 0
    sql, *values = result.stdout.split("\n-- ")
    assert sql.startswith("SELECT")
    assert "Dolma" not in sql
    assert any(value.startswith("$") and "'Dolma1.7'" in value for value in values)


def test_a_named_query(sweep: Callable[..., Result]) -> None:
    assert rows_of(sweep("query", "sweep", "--named", "small").stdout) == [["Dolma1.7", "3.5"], ["C4", "3.75"]]
    assert rows_of(sweep("query", "sweep", "--named", "small", "params=1B").stdout) == [
        ["Dolma1.7", "2.125"],
        ["C4", "nan"],
    ]


def test_a_version_can_be_pinned(sweep: Callable[..., Result], tmp_path: Path) -> None:
    sweep("publish", "sweep", other_file(tmp_path))
    assert len(rows_of(sweep("query", "sweep").stdout)) == 2
    assert len(rows_of(sweep("query", "sweep", "version=v1").stdout)) == 6


# --- the demo


@pytest.fixture
def quick_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the three, the smallest."""
    monkeypatch.setattr("engine.demo.DEMO_DATASETS", ("ft-matched",))


@pytest.mark.usefixtures("quick_demo")
def test_the_demo_is_made_once(bt: Callable[..., Result]) -> None:
    first = bt("demo")
    assert first.exit_code == 0
    assert "ft-matched: published v1, 149 rows" in first.stderr
    assert "the same content is v1 already" in bt("demo").stderr
    again = bt("demo", "--if-missing")
    assert (again.exit_code, again.output) == (0, "")


@pytest.mark.usefixtures("quick_demo")
def test_the_demo_does_not_cover_real_data(bt: Callable[..., Result], file: Path) -> None:
    bt("publish", "ft-matched", file)
    assert bt("demo", "--if-missing").exit_code == 0
    assert "--replace" in error(bt("demo"), 4)
    assert "published v2" in bt("demo", "--replace").stderr


def test_the_demo_twice_at_once(store: Path) -> None:
    """With all three, as `./bt` in two windows does it."""
    runs = [start(store, "demo", "--if-missing") for _ in range(2)]
    for run in runs:
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
    listed = json.loads(subprocess.run([*BT, "datasets", "--json"], env=environment(store), capture_output=True).stdout)
    assert {entry["name"]: entry["versions"] for entry in listed} == dict.fromkeys(sorted(DEMO_DATASETS), 1)
    assert [entry["rows"] for entry in listed if entry["name"] == "ft-matched"] == [149]


# --- drops


def test_refresh_takes_in_what_was_dropped_just_now(bt: Callable[..., Result], store: Path, file: Path) -> None:
    (store / "fresh").mkdir(parents=True)
    shutil.copy(file, store / "fresh" / "results.parquet")
    result = bt("refresh", "fresh")
    assert (result.exit_code, result.stdout) == (0, "fresh/results.parquet: published v1\n")
    again = bt("refresh")
    assert (again.exit_code, again.stdout, again.stderr) == (0, "", "bt: nothing new was dropped\n")
    assert bt("refresh", "--json").stdout == "[]\n"


def test_refresh_tells_of_a_file_that_cannot_be_used(bt: Callable[..., Result], store: Path) -> None:
    (store / "bad").mkdir(parents=True)
    (store / "bad" / "results.parquet").write_bytes(b"no parquet")
    result = bt("refresh", "bad", "--json")
    assert result.exit_code == 4
    (event,) = json.loads(result.stdout)
    assert (event["kind"], event["version"]) == ("rejected", None)
    assert "not parquet" in event["reason"]
    assert bt("refresh", "bad").exit_code == 0, "it is told once"
    assert "was rejected" in bt("versions", "bad").stderr


# --- the doctor


def findings(result: Result, level: str) -> list[tuple[str, str]]:
    return [(one["where"], one["what"]) for one in json.loads(result.stdout)["findings"] if one["level"] == level]


def test_a_sound_store(sweep: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_DATASET", "sweep")
    result = sweep("doctor", "--json")
    assert (result.exit_code, json.loads(result.stdout)["ok"]) == (0, True)
    assert findings(result, "problem") == []
    assert [what for _, what in findings(result, "warning") if "free on its disk" not in what] == []
    looked_at = " ".join(what for _, what in findings(result, "ok"))
    for part in ("log is whole", "can be written", "answers a query", "hashes are those in the log", "definition"):
        assert part in looked_at
    told = sweep("doctor")
    assert told.exit_code == 0
    assert told.stdout.splitlines()[-1].startswith("0 problems, ")


def test_an_empty_store_is_no_problem(bt: Callable[..., Result]) -> None:
    result = bt("doctor", "--json")
    assert result.exit_code == 0
    assert any("does not exist yet" in what for _, what in findings(result, "warning"))


def blob_of(store: Path) -> Path:
    (blob,) = (store / "sweep" / "_bt" / "data").iterdir()
    blob.chmod(0o644)
    return blob


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_a_damaged_file_is_found(sweep: Callable[..., Result], store: Path, tmp_path: Path) -> None:
    flip(blob_of(store))
    assert sweep("doctor", "--quick").exit_code == 1, "the latest version is asked a question"
    sweep("publish", "sweep", other_file(tmp_path))
    assert sweep("doctor", "--quick").exit_code == 0, "and of an older one the size does not tell"
    result = sweep("doctor", "--json")
    assert result.exit_code == 1
    ((where, what),) = findings(result, "problem")
    assert where == "sweep"
    assert "is damaged: its SHA-256" in what
    assert "put this file back from a backup" in result.stdout


@pytest.mark.parametrize("quick", [(), ("--quick",)])
def test_a_file_that_is_short_or_gone_is_found(
    sweep: Callable[..., Result], store: Path, quick: tuple[str, ...]
) -> None:
    blob = blob_of(store)
    blob.write_bytes(blob.read_bytes()[:-1])
    assert "bytes, and its record says" in str(findings(sweep("doctor", "--json", *quick), "problem"))
    blob.unlink()
    result = sweep("doctor", *quick)
    assert result.exit_code == 1
    assert "is missing, though the log names it" in result.stdout


def test_a_damaged_log_is_found_and_hides_no_other_dataset(
    sweep: Callable[..., Result], store: Path, tmp_path: Path
) -> None:
    sweep("publish", "zoo", other_file(tmp_path))
    flip(store / "sweep" / "_bt" / "log" / "0000000001.json")
    result = sweep("doctor", "--json")
    assert result.exit_code == 1
    ((where, what),) = findings(result, "problem")
    assert (where, "is corrupt" in what) == ("sweep", True)
    assert any(where == "zoo" and "answers" in what for where, what in findings(result, "ok"))


def test_a_missing_log_record_is_found(sweep: Callable[..., Result], store: Path, tmp_path: Path) -> None:
    sweep("publish", "sweep", other_file(tmp_path))
    (store / "sweep" / "_bt" / "log" / "0000000001.json").unlink()
    assert "is missing, and later ones exist" in str(findings(sweep("doctor", "--json"), "problem"))


def test_what_is_odd_and_does_no_harm(
    sweep: Callable[..., Result], store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (store / "My Sweep").mkdir()
    (store / "My Sweep" / "results.csv").write_text("a\n1\n")
    (store / "bad").mkdir()
    (store / "bad" / "results.csv").write_bytes(b"a,b\0\n")
    sweep("refresh")
    waiting = store / "sweep" / "results.csv"
    waiting.write_text("a\n1\n")
    os.utime(waiting, (time.time() - 7200, time.time() - 7200))
    (store / "sweep" / "_bt" / "data" / "20260101T000000Z-00000000-000000000000.parquet").write_bytes(b"1234")
    monkeypatch.setenv("BT_STOER", "x")
    result = sweep("doctor", "--json")
    assert result.exit_code == 0
    told = " | ".join(what for _, what in findings(result, "warning"))
    for part in (
        "BT_STOER is no setting",
        "'My Sweep' holds results",
        "bad/results.csv was rejected",
        "it has no version yet",
        "sweep/results.csv has been waiting for 2 hours",
        "that no version names, 4 bytes",
        "BT_DATASET is 'datadecide'",
    ):
        assert part in told
    assert json.loads(result.stdout)["ok"] is True


def test_a_definition_that_cannot_be_used(sweep: Callable[..., Result], store: Path) -> None:
    (store / "sweep" / "dataset.toml").write_text("title = ")
    result = sweep("doctor", "--json")
    assert result.exit_code == 1
    assert "not valid TOML" in str(findings(result, "problem"))
    (store / "sweep" / "dataset.toml").write_text("[columns.loss]\nrole = 'mesure'\n[columns.los]\nunit = 'nats'\n")
    sweep("refresh")
    sweep("refresh")
    result = sweep("doctor", "--json")
    assert result.exit_code == 0
    told = " ".join(what for _, what in findings(result, "warning"))
    assert "role 'mesure' is none of" in told
    assert "speaks of the column 'los', which v2 does not have" in told


def test_the_doctor_tells_of_a_wrong_setting(bt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_MAX_ROWS", "all")
    result = bt("doctor")
    assert result.exit_code == 1
    assert "problem settings: BT_MAX_ROWS is 'all'" in result.stdout


# --- around


def test_the_openapi_document(bt: Callable[..., Result], store: Path) -> None:
    result = bt("openapi")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["openapi"].startswith("3.")
    assert "/api/health" in document["paths"]
    assert not store.exists()


def test_the_benchmarks_are_part_of_a_checkout(bt: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    assert checkout() == ROOT
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert "are part of a checkout" in error(bt("bench"), 1)


# --- real processes

BT = (sys.executable, "-P", "-m", "server")


def environment(store: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BT_", "PORT"))}
    path = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    ours = {"BT_STORE": str(store), "BT_ENV_FILE": "none", "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    return {**kept, **ours, **more}


def start(store: Path, *args: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*BT, *args],
        env=environment(store, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def serving(store: Path, *args: str, **more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server on a free port, and its URL."""
    process = start(store, "serve", "--port", "0", *args, BT_DEFINITIONS="none", BT_DROP_SETTLE="0.1", **more)
    try:
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            if found := re.search(r"serving .* on (http://\S+) ", line):
                yield process, found[1]
                break
        else:
            raise AssertionError(f"it ended before it served: {lines}")
    finally:
        process.kill()
        process.communicate()


def fetch(url: str) -> tuple[int, bytes]:
    try:
        with urlopen(url, timeout=10) as answer:
            return answer.status, answer.read()
    except HTTPError as problem:
        with problem:
            return problem.code, problem.read()


def test_serve_until_sigterm(store: Path, sweep: Callable[..., Result]) -> None:
    with serving(store) as (process, url):
        assert fetch(f"{url}/api/health")[0] == 200
        status, body = fetch(f"{url}/api/datasets/sweep/rows?params=1B&data=Dolma1.7")
        assert (status, [row["loss"] for row in json.loads(body)["data"]]) == (200, [2.125])
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "bt: stopped\n")


def test_ctrl_c_is_130(store: Path) -> None:
    with serving(store) as (process, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "Traceback" not in err


def test_a_port_in_use_is_one_line(store: Path) -> None:
    with serving(store) as (_, url):
        port = url.rpartition(":")[2]
        second = start(store, "serve", PORT=port)
        out, err = second.communicate(timeout=30)
        assert (second.returncode, out) == (1, "")
        (line,) = err.splitlines()
        assert line.startswith(f"bt: error: port {port} of 127.0.0.1 is in use")


def test_a_server_that_cannot_start_says_why(store: Path, file: Path) -> None:
    """A cache folder below a file: not even root can make one."""
    process = start(store, "serve", "--port", "0", BT_CACHE_DIR=str(file / "cache"))
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    lines = [line for line in err.splitlines() if "does not exist yet" not in line]
    assert len(lines) == 1
    assert lines[0].startswith("bt: error: ")
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "host, says", [("no-such-host.invalid", "no host that is known"), ("192.0.2.1", "no address of this machine")]
)
def test_a_host_that_is_not_here_is_one_line(bt: Callable[..., Result], host: str, says: str) -> None:
    assert says in error(bt("serve", "--host", host, "--port", "0"), 1)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def test_a_dropped_file_is_served_without_a_restart(store: Path, shared_data: Path) -> None:
    store.mkdir()
    with serving(store, BT_POLL_INTERVAL="0.2") as (_, url):
        rows = f"{url}/api/datasets/pythia/rows?params=12B&data=Pile&step=143000&metric=lambada_openai-acc"
        assert fetch(rows)[0] == 404
        (store / "pythia").mkdir()
        shutil.copy(shared_data / "pythia" / "pythia_v1_zero_shot.parquet", store / "pythia" / "results.parquet")
        until(lambda: fetch(rows)[0] == 200)
        assert [row["value"] for row in json.loads(fetch(rows)[1])["data"]] == [pytest.approx(0.704638, abs=1e-6)]


def test_a_server_can_leave_dropped_files_alone(store: Path, file: Path) -> None:
    (store / "mine").mkdir(parents=True)
    shutil.copy(file, store / "mine" / "results.parquet")
    with serving(store, "--no-ingest", BT_POLL_INTERVAL="0.1") as (_, url):
        time.sleep(1)
        assert fetch(f"{url}/api/datasets/mine/rows")[0] == 404


def test_whoever_reads_may_go(store: Path, bt: Callable[..., Result], tmp_path: Path) -> None:
    bt("publish", "long", other_file(tmp_path, n=list(range(200_000))))
    process = start(store, "query", "long", "--format", "csv")
    assert process.stdout and process.stderr
    assert process.stdout.readline() == "n\n"
    process.stdout.close()
    with process.stderr as stderr:
        assert stderr.read() == ""
    assert process.wait(timeout=20) == ExitCode.BROKEN_PIPE


def test_ctrl_c_leaves_no_traceback(store: Path) -> None:
    process = start(store, "demo")
    assert process.stderr
    process.stderr.readline()  # it has begun
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == ExitCode.INTERRUPTED
    assert "Traceback" not in err


def test_a_lost_log_is_found(sweep: Callable[..., Result], store: Path) -> None:
    for record in (store / "sweep" / "_bt" / "log").iterdir():
        record.unlink()
    result = sweep("doctor", "--json")
    assert result.exit_code == 1
    ((where, what),) = findings(result, "problem")
    assert (where, what) == ("sweep", "sweep/_bt/data/ holds versions, and their log is gone")
