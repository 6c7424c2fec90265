"""Fixtures for every folder of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.object_storage.fixtures import (  # noqa: F401  pytest finds fixtures by their names here
    bucket,
    moto_bucket,
    moto_proxy,
    moto_server,
    no_keys_of_this_machine,
    proxy,
    radosgw,
    storage,
)

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of third-party sample data: ``BT_SHARED_DATA``, or ``../shared/data`` beside the repository."""
    named = os.environ.get("BT_SHARED_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the third-party sample data is not here; name its folder in BT_SHARED_DATA")
    return folder
