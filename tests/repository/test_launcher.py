"""`./bt` as a user meets it: real processes in a copy of its own, with a lock that needs no network.

The copy's `server` is a stub that tells how it was called, so these tests hold what the launcher does and nothing of
what the command line does.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# The interpreter behind this environment: the copies make theirs from it, whatever else is in PATH.
BASE_PYTHON = str(Path(sys.base_prefix, "bin", "python3"))

STUB = '''
"""Stands in for the command line: prints its arguments and place, exits as told."""
import json, os, signal, sys, time

arguments = sys.argv[1:]
print(json.dumps({"args": arguments, "cwd": os.getcwd(), "prefix": sys.prefix, "pid": os.getpid()}), flush=True)
if arguments[:1] == ["exit"]:
    sys.exit(int(arguments[1]))
if arguments[:1] == ["wait"]:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(43))
    print("waiting", flush=True)
    time.sleep(30)
'''

# Just enough of pytest for `./bt test`: the copy's locks are empty.
PYTEST_STUB = "import sys\nprint('pytest', sys.argv[1:])\nsys.exit(5)\n"


def clean_environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BT_", "PYTHON", "VIRTUAL_ENV"))}
    return {**kept, "BT_PYTHON": BASE_PYTHON, "PORT": "8123", **more}


def copy_of_bt(folder: Path) -> Path:
    """A checkout with the launcher, empty locks and the stubs."""
    folder.mkdir(parents=True)
    shutil.copy2(ROOT / "bt", folder / "bt")
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (folder / lock).write_text("# nothing\n")
    (folder / "server").mkdir()
    (folder / "server" / "__init__.py").touch()
    (folder / "server" / "__main__.py").write_text(STUB)
    (folder / "pytest.py").write_text(PYTEST_STUB)
    return folder


def bt(checkout: Path, *args: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(checkout / "bt"), *args],
        cwd=cwd or checkout,
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )


def calls(run: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def fake_python(folder: Path, script: str, name: str = "python3") -> str:
    """A PATH with that `python3` in it and the few tools that the launcher needs, and no other Python."""
    folder.mkdir()
    for tool in ("sh", "cat", "cksum", "ls", "mkdir", "rm", "mv", "grep", "tail", "sed", "readlink", "dirname"):
        found = shutil.which(tool)
        assert found
        (folder / tool).symlink_to(found)
    if script:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose environment is made; its path has spaces and a quote, which nothing may trip over."""
    checkout = copy_of_bt(tmp_path_factory.mktemp("launcher") / "it's a 'check out'")
    first = bt(checkout, "version")
    assert first.returncode == 0, first.stderr
    assert "making the environment" in first.stderr
    return checkout


@pytest.fixture
def unbuilt(tmp_path: Path) -> Path:
    return copy_of_bt(tmp_path / "checkout")


def test_a_later_start_builds_nothing_and_says_nothing(built: Path) -> None:
    run = bt(built, "version")
    assert (run.returncode, run.stderr) == (0, "")
    assert calls(run)[0]["prefix"] == str(built / ".venv")


def test_a_later_start_adds_little(built: Path) -> None:
    def quickest(command: list[str]) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run(command, env=environment, cwd=built, check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        return min(times)

    environment = clean_environment()
    del environment["BT_PYTHON"]  # whoever asks for a certain Python pays for a look at it
    bare = quickest([str(built / ".venv/bin/python"), "-P", "-m", "server", "version"])
    assert quickest([str(built / "bt"), "version"]) - bare < 0.05


def test_arguments_arrive_as_they_were_given(built: Path) -> None:
    given = [
        "query",
        "",
        "a b",
        "$HOME",
        "*",
        "it's",
        'a "quote"',
        "back\\slash",
        "--",
        "-x=Dolma1.7,DCLM",
        "new\nline",
    ]
    assert calls(bt(built, *given))[0]["args"] == given


def test_a_command_runs_where_its_caller_stands(built: Path, tmp_path: Path) -> None:
    """A file named on the command line is the caller's, and no package of the caller's folder is imported."""
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__main__.py").write_text("raise SystemExit('the wrong server')")
    (call,) = calls(bt(built, "publish", "results.parquet", cwd=tmp_path))
    assert call["cwd"] == str(tmp_path)


def test_a_symlink_to_the_launcher_finds_the_checkout(built: Path, tmp_path: Path) -> None:
    (tmp_path / "there").symlink_to(built / "bt")
    (tmp_path / "bt").symlink_to("there")
    assert calls(bt(tmp_path, "version"))[0]["prefix"] == str(built / ".venv")


def test_without_a_command_it_makes_the_demo_and_serves_it(built: Path, tmp_path: Path) -> None:
    run = bt(built, cwd=tmp_path)
    assert [call["args"] for call in calls(run)] == [["demo", "--if-missing"], ["serve"]]
    assert {call["cwd"] for call in calls(run)} == {str(built)}
    assert "starting the server" in run.stderr, "the address is for the server to say: it knows its settings"


def test_a_demo_that_fails_is_not_served(built: Path) -> None:
    stub = built / "server" / "__main__.py"
    try:
        stub.write_text("import sys; print(sys.argv[1:]); sys.exit(7)")
        run = bt(built)
        assert (run.returncode, run.stdout) == (7, "['demo', '--if-missing']\n")
    finally:
        stub.write_text(STUB)


@pytest.mark.parametrize("code", [0, 2, 42])
def test_the_exit_code_is_the_commands(built: Path, code: int) -> None:
    assert bt(built, "exit", str(code)).returncode == code


@pytest.mark.parametrize("sent, code", [(signal.SIGTERM, 43), (signal.SIGKILL, -signal.SIGKILL)])
def test_signals_reach_the_command(built: Path, sent: signal.Signals, code: int) -> None:
    with subprocess.Popen(
        [str(built / "bt"), "wait"], env=clean_environment(), cwd=built, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["pid"] == process.pid, "the launcher replaced itself"
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(sent)
        assert process.wait(timeout=10) == code


def test_bt_test_is_pytest(built: Path, tmp_path: Path) -> None:
    run = bt(built, "test", "-k", "a or b", cwd=tmp_path)
    assert (run.returncode, run.stdout) == (5, "pytest ['-k', 'a or b']\n")
    assert "requirements-dev.lock" in run.stderr, "it adds the developers' packages"
    assert "making the environment" not in run.stderr, "to the environment that is there"
    assert bt(built, "test").stderr == ""
    assert bt(built, "version").stderr == "", "and the users' environment still counts"


def test_bench_has_the_developers_packages(tmp_path: Path) -> None:
    """It measures pandas too, which the users' environment lacks."""
    run = bt(copy_of_bt(tmp_path / "checkout"), "bench", "--quick")
    assert calls(run)[0]["args"] == ["bench", "--quick"]
    assert "requirements-dev.lock" in run.stderr


def test_a_changed_lock_makes_the_environment_anew(built: Path) -> None:
    stale = built / ".venv" / "of an earlier lock"
    stale.touch()
    lock = built / "requirements.lock"
    lock.write_text(lock.read_text() + "# changed\n")
    assert "making the environment" in bt(built, "version").stderr
    assert not stale.exists()
    assert bt(built, "version").stderr == ""


def test_a_moved_checkout_makes_the_environment_anew(built: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(built, tmp_path / "moved", symlinks=True)
    run = bt(moved, "version")
    assert "making the environment" in run.stderr
    assert calls(run)[0]["prefix"] == str(moved / ".venv")


def test_an_interrupted_build_is_made_again(unbuilt: Path) -> None:
    """Killed, with all it started, at whatever moment it has come to in that time."""
    for seconds in (0.15, 0.6, 1.2):
        with subprocess.Popen(
            [str(unbuilt / "bt"), "version"], env=clean_environment(), start_new_session=True, stdout=-3, stderr=-3
        ) as process:
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
    run = bt(unbuilt, "version")
    assert run.returncode == 0, run.stderr
    assert bt(unbuilt, "version").stderr == ""


def test_first_starts_at_once(unbuilt: Path) -> None:
    starts = [
        subprocess.Popen(
            [str(unbuilt / "bt"), "version", str(number)],
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    said = []
    for number, process in enumerate(starts):
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert json.loads(out)["args"] == ["version", str(number)]
        said.append(err)
    assert sum("making the environment in" in err for err in said) == 1
    assert any("waiting" in err for err in said)


def test_another_place_for_the_environment(unbuilt: Path, tmp_path: Path) -> None:
    """And `./bt test` as the very first start, after which the users' environment is there too."""
    elsewhere = tmp_path / "else where" / "venv"
    assert bt(unbuilt, "test", BT_VENV=str(elsewhere)).returncode == 5
    assert bt(unbuilt, "version", BT_VENV=str(elsewhere)).stderr == ""
    assert calls(bt(unbuilt, "version", BT_VENV=str(elsewhere)))[0]["prefix"] == str(elsewhere)
    assert not (unbuilt / ".venv").exists()


def one_sentence(run: subprocess.CompletedProcess[str]) -> str:
    """What a start that cannot succeed says: one line, and no success."""
    assert run.returncode == 1
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert line.startswith("bt: ")
    return line


def test_a_folder_that_is_not_ours_is_left_alone(unbuilt: Path, tmp_path: Path) -> None:
    precious = tmp_path / "home"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    assert "was not made by ./bt" in one_sentence(bt(unbuilt, "version", BT_VENV=str(precious)))
    assert [path.name for path in precious.iterdir()] == ["thesis.tex"]


def test_a_place_that_cannot_be_written(unbuilt: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # root may write into any folder, but not below a file
    line = one_sentence(bt(unbuilt, "version", BT_VENV=str(tmp_path / "file" / "venv")))
    assert "cannot be written" in line
    assert "BT_VENV" in line


def test_an_old_python_is_named(unbuilt: Path, tmp_path: Path) -> None:
    old = 'case $2 in *exit*) exit 1 ;; *) echo "python 3.9" ;; esac'
    path = fake_python(tmp_path / "bin", old)
    line = one_sentence(bt(unbuilt, "version", PATH=path, BT_PYTHON=""))
    assert "3.11 or newer" in line
    assert "python3 is python 3.9" in line
    assert "BT_PYTHON" in one_sentence(bt(unbuilt, "version", BT_PYTHON=f"{path}/python3"))


def test_no_python_at_all(unbuilt: Path, tmp_path: Path) -> None:
    path = fake_python(tmp_path / "bin", "")
    assert "no python3 in PATH" in one_sentence(bt(unbuilt, "version", PATH=path, BT_PYTHON=""))
    assert "does not run" in one_sentence(bt(unbuilt, "version", BT_PYTHON="/no/such/python"))


def test_a_newer_python_beside_an_old_one_is_found(unbuilt: Path, tmp_path: Path) -> None:
    path = fake_python(tmp_path / "bin", 'case $2 in *exit*) exit 1 ;; *) echo "python 3.9" ;; esac')
    (tmp_path / "bin" / "python3.11").write_text(f'#!/bin/sh\nexec "{BASE_PYTHON}" "$@"\n')
    (tmp_path / "bin" / "python3.11").chmod(0o755)
    assert bt(unbuilt, "version", PATH=path, BT_PYTHON="").returncode == 0


def test_a_python_without_venv_is_told_what_to_install(unbuilt: Path, tmp_path: Path) -> None:
    crippled = f'case $2 in *ensurepip*) exit 1 ;; *) exec "{BASE_PYTHON}" "$@" ;; esac'
    path = fake_python(tmp_path / "bin", crippled)
    assert "python3-venv" in one_sentence(bt(unbuilt, "version", PATH=path, BT_PYTHON=""))
    assert not (unbuilt / ".venv").exists()


def test_no_network_is_said_in_one_line(unbuilt: Path) -> None:
    (unbuilt / "requirements.lock").write_text(f"by-tomorrow-no-such==1 --hash=sha256:{'0' * 64}\n")
    run = bt(
        unbuilt,
        "version",
        PIP_INDEX_URL="http://127.0.0.1:9/",  # the discard port: nobody answers
        PIP_RETRIES="0",
        PIP_CONFIG_FILE=os.devnull,
        PIP_FIND_LINKS="",
    )
    assert run.returncode == 1
    assert run.stdout == ""
    last = run.stderr.splitlines()[-1]
    assert "network" in last
    assert "Traceback" not in run.stderr


def test_a_checkout_without_its_lock(unbuilt: Path) -> None:
    (unbuilt / "requirements.lock").unlink()
    assert "requirements.lock is missing" in one_sentence(bt(unbuilt, "version"))


def test_an_empty_command_is_not_a_start(built: Path) -> None:
    assert "empty" in one_sentence(bt(built, ""))


@pytest.mark.skipif(not shutil.which("dash"), reason="no dash here")
def test_it_is_posix(built: Path) -> None:
    dash = ["dash", "-n", str(built / "bt")]
    assert subprocess.run(dash, capture_output=True, text=True, check=True).stderr == ""
