"""How many cases a test tried, for ``docs/reliability.md``: pytest shows it with ``-s``."""

from __future__ import annotations

import os


def tried(what: object) -> None:
    name = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" ")[0].rpartition("/")[2]
    print(f"\ntried by {name}: {what}")  # noqa: T201
