"""``bt history``, ``tag``, ``yank``, ``restore``, ``expire``, ``gc``, ``watch``, and publishing with conditions."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from server.cli import cli

ROOT = Path(__file__).parents[2]
Bt = Callable[..., Result]


def write(path: Path, seed: int, **more: list[int]) -> Path:
    pq.write_table(pa.table({"step": [1, 2, 3], "loss": [seed + 0.5, seed + 0.25, seed + 0.125], **more}), path)
    return path


@pytest.fixture
def bt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bt:
    """Runs a command on a store with three versions of ``sweep``."""
    for name in [name for name in os.environ if name.startswith(("BT_", "PORT"))]:
        monkeypatch.delenv(name)
    for name, value in {"ENV_FILE": "none", "STORE": str(tmp_path / "store"), "DROP_SETTLE": "0.05"}.items():
        monkeypatch.setenv(f"BT_{name}", value)
    monkeypatch.setenv("BT_DEFINITIONS", "none")

    def run(*args: str | Path) -> Result:
        return CliRunner().invoke(cli, [str(arg) for arg in args])

    for seed in (1, 2, 3):
        done = run("publish", "sweep", write(tmp_path / "a.parquet", seed), "--by", "ada", "-m", f"seed {seed}")
        assert done.exit_code == 0, done.output
    return run


def error(result: Result, code: int) -> str:
    assert result.exit_code == code, result.output
    line = result.stderr.splitlines()[-1]
    assert line.startswith("bt: error: ")
    return line.removeprefix("bt: error: ")


def done(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_tags(bt: Bt) -> None:
    assert done(bt("tag", "sweep", "v1", "paper", "-m", "figure 3")) == "sweep: v1 is paper\n"
    assert "the tag paper of sweep is on v1" in error(bt("tag", "sweep", "v2", "paper"), 4)
    assert done(bt("tag", "sweep", "latest", "paper", "--move")) == "sweep: v3 is paper\n"
    assert json.loads(done(bt("tag", "sweep", "v1", "old", "--json")))["tags"] == {"old": "v1", "paper": "v3"}
    listed = done(bt("versions", "sweep")).splitlines()
    assert "marks" in listed[0] and "paper" in listed[2] and "old" in listed[4]
    assert done(bt("query", "sweep", "version=old", "--format", "csv")).splitlines()[1] == "1,1.5"
    assert done(bt("tag", "sweep", "--delete", "paper")) == "sweep: v3 is no longer called paper\n"
    assert error(bt("tag", "sweep", "--delete", "paper"), 3) == "sweep has no tag 'paper'"
    assert "is not a tag" in error(bt("tag", "sweep", "v1", "v2"), 2)
    assert "by which TAG" in error(bt("tag", "sweep", "v1"), 2)
    assert "takes no VERSION" in error(bt("tag", "sweep", "v1", "x", "--delete", "y"), 2)
    assert "no version" in error(bt("tag", "sweep", "v9", "x"), 3)


def test_yank_and_restore(bt: Bt) -> None:
    assert done(bt("yank", "sweep", "v3", "-m", "wrong")) == "sweep: v3 is yanked; latest is v2\n"
    listed = bt("versions", "sweep")
    assert "(yanked)" in listed.stdout and "v2 *" in listed.stdout and listed.stderr == ""
    assert "is yanked (wrong); restore it first" in error(bt("rollback", "sweep", "v3"), 4)
    answer = json.loads(done(bt("yank", "sweep", "v2", "--json")))
    assert (answer["version"], answer["yanked"]["message"], answer["latest"]) == ("v2", "", False)
    assert done(bt("yank", "sweep", "1")).endswith("nothing is the latest now\n")
    assert "every version of sweep is yanked" in error(bt("query", "sweep"), 3)
    assert done(bt("restore", "sweep", "v3")) == "sweep: v3 is not yanked; latest is v3\n"


def test_expire_and_gc(bt: Bt, tmp_path: Path) -> None:
    assert "v3 is what readers get" in error(bt("expire", "sweep", "v3", "--keep", "0"), 4)
    assert "is one of the newest 3" in error(bt("expire", "sweep", "v1"), 4)
    assert done(bt("expire", "sweep", "--keep", "2", "--dry-run")) == "sweep: would expire v1\n"
    assert done(bt("expire", "sweep", "v1", "--keep", "1", "-m", "old")) == "sweep: expired v1\n"
    assert "has no version to expire" in bt("expire", "sweep", "--older-than", "90d").stderr
    assert json.loads(done(bt("expire", "sweep", "v1", "--json"))) == {
        "dataset": "sweep",
        "expired": [],
        "dry_run": False,
    }
    assert "sweep v1 has expired" in error(bt("restore", "sweep", "v1"), 3)
    assert "nothing to delete" in bt("gc").stderr
    planned = done(bt("gc", "--grace", "0s", "--dry-run"))
    assert re.match(r"sweep: would delete \d files? of expired versions, \d", planned)
    removed = json.loads(done(bt("gc", "sweep", "--grace", "0s", "--json")))
    assert {one["why"] for one in removed["removed"]} == {"expired"} and removed["bytes"] > 0
    assert not any((tmp_path / "store" / one["key"]).exists() for one in removed["removed"])
    assert done(bt("query", "sweep", "version=v2", "--format", "csv"))
    listed = done(bt("versions", "sweep"))
    assert "(expired)" in listed


def test_gc_leaves_what_it_cannot_read(bt: Bt, tmp_path: Path) -> None:
    done(bt("publish", "other", write(tmp_path / "b.parquet", 9)))
    record = tmp_path / "store" / "other" / "_bt" / "log" / "0000000001.json"
    record.chmod(0o644)
    record.write_bytes(b"{}")
    result = bt("gc", "--json")
    assert "1 dataset could not be looked at" in error(result, 1)
    assert "bt: warning: other was left alone: the log record" in result.stderr
    assert json.loads(result.stdout)["problems"][0]["code"] == "corrupt_version"


@pytest.mark.parametrize(
    "args, says",
    [
        (["expire", "sweep"], "--older-than or --keep"),
        (["expire", "sweep", "v1", "--older-than", "9d"], "not both"),
        (["expire", "sweep", "--older-than", "soon"], "is no time such as 90d"),
        (["expire", "sweep", "--keep", "-1"], "-1"),
        (["gc", "--grace", "7"], "is no time such as 90d"),
        (["watch", "--interval", "0"], "--interval"),
    ],
)
def test_wrong_command_lines(bt: Bt, args: list[str], says: str) -> None:
    assert says in error(bt(*args), 2)


def test_a_history_that_a_person_reads(bt: Bt, tmp_path: Path) -> None:
    bt("tag", "sweep", "v1", "paper", "--by", "bob", "-m", "figure 3")
    bt("rollback", "sweep", "v1")
    bt("yank", "sweep", "v2", "-m", "wrong seed")
    bt("restore", "sweep", "v2")
    bt("tag", "sweep", "--delete", "paper")
    bt("tag", "sweep", "v2", "kept")
    bt("yank", "sweep", "v2")
    bt("expire", "sweep", "v3", "--keep", "0")
    (tmp_path / "store/sweep/results.csv").write_bytes(b"")
    bt("refresh", "sweep")
    lines = done(bt("history", "sweep")).splitlines()
    assert lines[0].split() == ["time", "(UTC)", "by", "what", "message"]
    told = [re.sub(r"^[-\d]+ [:\d]+  +", "", line) for line in lines[2:]]
    assert all(re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines[2:])
    for line, words in zip(
        told,
        [
            "rejected sweep/results.csv: results.csv is empty",
            "expired v3",
            "yanked v2",
            "called v2 kept",
            "took the tag paper away",
            "restored v2",
            "yanked v2 +wrong seed",
            "made v1 the latest",
            "called v1 paper +figure 3",
            r"published v3 \[\(expired\)\], 3 rows, \d.*seed 3",
            r"published v2 \[kept \(yanked\)\], 3 rows, \d.*seed 2",
            r"published v1 \[latest\], 3 rows, \d.*seed 1",
        ],
        strict=True,
    ):
        assert re.search(rf"  {words}", f"  {line}"), line
    assert told[8].startswith("bob ") and told[11].startswith("ada ")
    events = json.loads(done(bt("history", "sweep", "--json")))
    assert [event["seq"] for event in events] == list(range(12, 0, -1))
    assert "no dataset" in error(bt("history", "nothing"), 3)


# --- publishing


def test_a_dry_run(bt: Bt, tmp_path: Path) -> None:
    wider = write(tmp_path / "b.parquet", 4, extra=[1, 2, 3])
    result = bt("publish", "sweep", wider, "--dry-run")
    first, second, third = done(result).splitlines()
    assert re.match(r"sweep: would publish 3 rows, 3 columns, \d.* in 1 file", first)
    assert "rows 3 → 3 (+0)" in second and "compared with v3" in second
    assert "columns added: extra" in third
    assert json.loads(done(bt("publish", "sweep", wider, "--dry-run", "--json")))["kind"] == "new"
    same = write(tmp_path / "c.parquet", 3)
    assert "the same content is v3 already" in done(bt("publish", "sweep", same, "--dry-run"))
    assert "it would be the first version" in done(bt("publish", "fresh", same, "--dry-run"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    assert bt("publish", "sweep", tmp_path / "bad.parquet", "--dry-run").exit_code == 4
    assert len(json.loads(done(bt("versions", "sweep", "--json")))) == 3
    assert "fresh" not in done(bt("datasets"))


def test_a_dry_run_that_would_be_refused(bt: Bt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BT_SCHEMA_POLICY", "block-breaking")
    narrow = tmp_path / "b.parquet"
    pq.write_table(pa.table({"step": [1]}), narrow)
    assert "would break queries" in error(bt("publish", "sweep", narrow, "--dry-run"), 4)


def test_if_latest(bt: Bt, tmp_path: Path) -> None:
    assert "published v4" in done(bt("publish", "sweep", write(tmp_path / "b.parquet", 4), "--if-latest", "v3"))
    line = error(bt("publish", "sweep", write(tmp_path / "c.parquet", 5), "--if-latest", "v3"), 4)
    assert "v4" in line
    assert error(bt("publish", "sweep", tmp_path / "c.parquet", "--if-latest", "none"), 4)
    assert "published v1" in done(bt("publish", "fresh", tmp_path / "c.parquet", "--if-latest", "none"))


# --- watching


def test_watching_once(bt: Bt, tmp_path: Path) -> None:
    assert done(bt("watch", "--once")) == ""
    folder = tmp_path / "store" / "dropped"
    folder.mkdir()
    write(folder / "results.parquet", 7)
    past = time.time() - 60
    os.utime(folder / "results.parquet", (past, past))
    assert done(bt("watch", "--once")) == "dropped/results.parquet: published v1\n"
    (folder / "results.csv").write_bytes(b"")
    os.utime(folder / "results.csv", (past, past))
    result = bt("watch", "--once", "--json")
    assert error(result, 4) == "a dropped file was rejected"
    event = json.loads(result.stdout)
    assert (event["kind"], event["key"]) == ("rejected", "dropped/results.csv")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_two_watchers(bt: Bt, tmp_path: Path, number: int) -> None:
    """Real processes: one drop is published once, and each of them ends in order when it is told to."""
    watchers = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "server", "watch", "--interval", "0.05"],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for watcher in watchers:
            assert watcher.stderr is not None
            assert watcher.stderr.readline() == "bt: looking for dropped files every 0.05 seconds (Ctrl-C stops)\n"
        folder = tmp_path / "store" / "dropped"
        folder.mkdir()
        write(tmp_path / "new.parquet", 8).rename(folder / "results.parquet")
        log = folder / "_bt" / "log" / "0000000001.json"
        deadline = time.monotonic() + 60
        while not log.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        for watcher in watchers:
            watcher.send_signal(number)
        told = [watcher.communicate(timeout=60) for watcher in watchers]
        assert [watcher.returncode for watcher in watchers] == [0, 0], told
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()
    lines = [line for out, _ in told for line in out.splitlines()]
    assert lines.count("dropped/results.parquet: published v1") == 1
    assert set(lines) <= {
        "dropped/results.parquet: published v1",
        "dropped/results.parquet: holds what v1 holds already",
    }
    assert [err for _, err in told] == ["bt: stopped\n"] * 2
    assert len(list(log.parent.iterdir())) == 1


def test_a_read_only_store_is_not_watched(bt: Bt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.store.local.LocalStore.read_only", property(lambda _: True))
    assert "the store is read-only" in error(bt("watch"), 1)


def test_export_gives_the_rows_as_they_were_published(bt: Bt, tmp_path: Path) -> None:
    (tmp_path / "store/sorted").mkdir(parents=True)
    (tmp_path / "store/sorted/dataset.toml").write_text('key = ["step"]\n')
    table = pa.table({"step": [3, 1, 2], "loss": [0.3, 0.1, 0.2]})
    pq.write_table(table, tmp_path / "given.parquet")
    done(bt("publish", "sorted", tmp_path / "given.parquet"))
    said = done(bt("export", "sorted", tmp_path / "out.parquet"))
    assert said.startswith(f"sorted: v1 is in {tmp_path / 'out.parquet'}, 3 rows, ")
    assert pq.read_table(tmp_path / "out.parquet").equals(table)
    assert "--force writes over it" in error(bt("export", "sorted", tmp_path / "out.parquet"), 1)
    done(bt("export", "sweep", tmp_path / "out.parquet", "--version", "v2", "--force"))
    assert pq.read_table(tmp_path / "out.parquet")["loss"].to_pylist() == [2.5, 2.25, 2.125]
    assert "there is no folder" in error(bt("export", "sweep", tmp_path / "none" / "out.parquet"), 1)
