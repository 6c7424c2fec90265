"""The checkout itself: what is in it, what is not, and that Python finds the right things beside it."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("engine", "papers", "queries", "server")

# `web` comes with the page; everything that Python runs is in one of the others.
FOLDERS = {".ci", "benchmarks", "datasets", "docs", "engine", "papers", "queries", "server", "tests", "web"}

MAX_FILE_BYTES = 1_000_000  # data is made or dropped in, never committed: a clone stays quick


def tracked_files() -> list[str]:
    """What is in git, or would be with `git add .`: a file too large is best found before it is in the history."""
    git = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(git, check=True, capture_output=True, text=True).stdout
    return sorted({name for name in listing.split("\0") if name and (ROOT / name).is_file()})


def pinned(lock: str) -> dict[str, set[str]]:
    """Package → its pins, each with its marker: a universal lock may hold several of one package."""
    pins: dict[str, set[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if found := re.match(r"([A-Za-z0-9._-]+)==(.+?) \\$", line):
            pins.setdefault(found[1], set()).add(found[2])
    return pins


def test_the_top_level_is_as_drawn() -> None:
    folders = {name.split("/")[0] for name in tracked_files() if "/" in name}
    assert folders <= FOLDERS
    assert {*PACKAGES, "tests", ".ci"} <= folders


@pytest.mark.parametrize("name", [*PACKAGES])
def test_each_package_is_a_regular_one_with_a_docstring(name: str) -> None:
    assert ast.get_docstring(ast.parse((ROOT / name / "__init__.py").read_text()))


def test_every_folder_of_tests_is_a_package() -> None:
    """A lone tests/server/__init__.py would be imported as `server` and hide ours."""
    folders = {path for file in (ROOT / "tests").rglob("*.py") for path in [file.parent]}
    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_datasets_holds_no_code() -> None:
    """With one .py in it, `import datasets` could mean this folder."""
    assert [name for name in tracked_files() if name.startswith("datasets/") and name.endswith((".py", ".pyi"))] == []


def test_hugging_face_datasets_imports_beside_ours() -> None:
    """From the checkout, with the checkout first in the path: the worst place for it."""
    code = "import datasets, engine; print(datasets.__file__); print(datasets.Dataset.from_dict({'a': [1]}).num_rows)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    file, rows = run.stdout.splitlines()
    assert ROOT / "datasets" not in Path(file).parents
    assert metadata.version("datasets") in (Path(file).parent / "__init__.py").read_text()
    assert rows == "1"


def test_no_installed_package_hides_ours() -> None:
    """The checkout is last in the path, so a distribution with a stray top-level `tests` or `server` would win."""
    installed = metadata.packages_distributions()
    ours = {name: owners for name in (*PACKAGES, "tests", "benchmarks") if (owners := installed.get(name))}
    assert {name: owners for name, owners in ours.items() if set(owners) != {"bytomorrow"}} == {}


def test_no_file_is_large() -> None:
    assert [name for name in tracked_files() if (ROOT / name).stat().st_size > MAX_FILE_BYTES] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_names_no_place(lock: str) -> None:
    """No host and no folder: it installs from whatever index its user's pip is set up for."""
    for line in (ROOT / lock).read_text().splitlines():
        assert not re.search(r"://|^\s*-(?!-hash=)|@ |^\S*/|localhost", line), line


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_every_pin_is_hashed(lock: str) -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / lock).read_text().strip())
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_developers_lock_holds_the_users() -> None:
    """`./bt test` installs it over the users' environment and counts both as there."""
    users, developers = pinned("requirements.lock"), pinned("requirements-dev.lock")
    assert users
    assert {name: pins for name, pins in users.items() if developers.get(name) != pins} == {}


def requirements() -> Iterator[tuple[str, str]]:
    """Each name that pyproject.toml asks for, with the lock that must have it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for lock, wanted in [
        ("requirements.lock", project["dependencies"]),
        *(("requirements-dev.lock", extra) for extra in project["optional-dependencies"].values()),
    ]:
        for line in wanted:
            name = re.match(r"[A-Za-z0-9._-]+", line)
            assert name
            if name[0] != project["name"]:
                yield name[0], lock


@pytest.mark.parametrize("name, lock", [*requirements()])
def test_the_locks_are_no_older_than_pyproject(name: str, lock: str) -> None:
    assert name in pinned(lock), f"run .ci/lock: {name} is in pyproject.toml and not in {lock}"
