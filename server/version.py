"""Which release this is. For people: what a cache may keep depends on ``caching.code_version``."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import metadata

from engine.settings import checkout


@cache
def application_version() -> str:
    """The version in ``pyproject.toml``: that of the checkout, else that of the installed package."""
    root = checkout()
    if root is not None:
        return str(tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])
    return metadata.version("bytomorrow")
