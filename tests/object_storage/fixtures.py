"""Fixtures around real object storages. ``tests/conftest.py`` names them for every folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.object_storage.proxy import FaultProxy
from tests.object_storage.servers import Bucket, NoServerError, Server, ceph_server, fresh_bucket
from tests.object_storage.servers import moto_server as run_moto_server

#: For tests of one kind of storage: `@pytest.mark.parametrize("storage", [MOTO], indirect=True)`.
MOTO = pytest.param("moto", id="moto")
CEPH = pytest.param("ceph", id="ceph", marks=pytest.mark.ceph)


@pytest.fixture(autouse=True)
def no_keys_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have keys to real buckets, which no test may find."""
    import os

    for name in [name for name in os.environ if name.startswith("AWS_") and name != "AWS_CA_BUNDLE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    with run_moto_server() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw() -> Iterator[Server]:
    try:
        with ceph_server() as server:
            yield server
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture(params=[MOTO, CEPH])
def storage(request: pytest.FixtureRequest) -> Server:
    """Each of the two storages."""
    server: Server = request.getfixturevalue({"moto": "moto_server", "ceph": "radosgw"}[request.param])
    return server


@pytest.fixture
def bucket(storage: Server) -> Iterator[Bucket]:
    """A fresh bucket on each of the two."""
    with fresh_bucket(storage) as bucket:
        yield bucket


@pytest.fixture
def moto_bucket(moto_server: Server) -> Iterator[Bucket]:
    """A fresh bucket on moto alone, for what says nothing about the storage."""
    with fresh_bucket(moto_server) as bucket:
        yield bucket


@pytest.fixture
def proxy(storage: Server) -> Iterator[FaultProxy]:
    """A proxy before the storage of ``bucket``."""
    with FaultProxy(storage.endpoint) as proxy:
        yield proxy


@pytest.fixture
def moto_proxy(moto_server: Server) -> Iterator[FaultProxy]:
    """A proxy before the storage of ``moto_bucket``."""
    with FaultProxy(moto_server.endpoint) as proxy:
        yield proxy
