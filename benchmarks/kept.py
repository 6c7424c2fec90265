"""Results that were kept as JSON, found and read again. Measures nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.process import CHECKOUT

RECORDED = CHECKOUT / "benchmarks" / "results"
SCRATCH = CHECKOUT / "benchmarks" / "scratch"  # git ignores it


class NoResultError(LookupError):
    """A name stands for no result, or for several."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One result file. Systems of a scenario are dicts as ``results.series_json`` writes them."""

    path: Path
    about: dict[str, Any]
    scenarios: dict[str, dict[str, Any]]
    memory_bytes: dict[str, dict[str, int | None]]

    @property
    def title(self) -> str:
        size = f" ×{self.size}" if self.size != 1 else ""
        return f"{self.about.get('at', '?')[:10]} {self.about.get('commit', '?')}{size}"

    @property
    def size(self) -> int:
        return int(self.about.get("size", 1))

    def series(self, scenario: str, system: str) -> dict[str, Any] | None:
        """What was measured; the first format of the file had two systems, one beside the other."""
        found = self.scenarios.get(scenario, {})
        systems = found.get("systems", found)
        series = systems.get(system)
        return series if isinstance(series, dict) else None


def read_result(path: Path) -> Kept:
    """Raises NoResultError when a file holds no result of this benchmark."""
    try:
        content = json.loads(path.read_text())
        return Kept(path, content["about"], content["scenarios"], content.get("memory_bytes", {}))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoResultError(f"{path} holds no result of this benchmark: {error}") from error


def find_result(name: str, folder: Path = RECORDED) -> Kept:
    """By path, or by the beginning of a date or commit of a file in ``folder``.

    Raises
    ------
    NoResultError
        When there is none, or several; the text lists what there is.
    """
    if Path(name).is_file():
        return read_result(Path(name))
    paths = [path for path in sorted(folder.glob("2*.json")) if _fits(path.stem, name)]
    if len(paths) == 1:
        return read_result(paths[0])
    there = ", ".join(path.stem for path in (paths or sorted(folder.glob("2*.json")))) or "none"
    raise NoResultError(f"{'several results begin' if paths else 'no result begins'} with {name!r}; there are: {there}")


def _fits(stem: str, name: str) -> bool:
    """A stem is date-commit, or date-commit-x10."""
    return stem.startswith(name) or stem[11:].startswith(name)
