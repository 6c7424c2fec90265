"""DuckDB over files that are not on this disk: the same answers, or the store's own error."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.errors import CorruptVersionError, EngineError, StoreError
from engine.store import FileEntry
from engine.store.blobs import CachedBlobs, Lease
from engine.store.cache import DiskCache
from engine.store.filesystem import BlobFileSystem
from tests.engine.store.cache_support import BLOCK, Objects, descriptors, used

ROOM = 20 * BLOCK


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def blobs(objects: Objects, tmp_path: Path) -> Iterator[CachedBlobs]:
    blobs = CachedBlobs(objects, DiskCache(tmp_path / "cache", ROOM, block_bytes=BLOCK, wait_s=10))
    yield blobs
    blobs.close()


@pytest.fixture
def files(blobs: CachedBlobs) -> BlobFileSystem:
    assert blobs.filesystem is not None
    return blobs.filesystem


@pytest.fixture
def connection(files: BlobFileSystem, tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Set up as ``engine.connection.Database`` does."""
    with duckdb.connect(
        config={"threads": 1, "autoinstall_known_extensions": False, "autoload_known_extensions": False}
    ) as connection:
        connection.register_filesystem(files)
        connection.execute("SET allowed_directories = ['btblob://']")
        connection.execute("SET GLOBAL parquet_metadata_cache = true")
        connection.execute("SET GLOBAL enable_external_access = false")
        connection.execute("SET GLOBAL lock_configuration = true")
        yield connection


def table(seed: int, rows: int) -> pa.Table:
    numbers = list(range(seed * rows, (seed + 1) * rows))
    texts = [f"{number * 2654435761 % 2**32:x}" * 4 for number in numbers]
    return pa.table({"a": numbers, "b": [number / 7 for number in numbers], "s": texts})


def put(objects: Objects, tmp_path: Path, seed: int, rows: int = 2000) -> FileEntry:
    path = tmp_path / f"{seed}.parquet"
    pq.write_table(table(seed, rows), path, row_group_size=500, compression="none")
    return objects.put_bytes(f"d/_bt/data/{seed}.parquet", path.read_bytes())


def select(lease: Lease, columns: str = "*") -> str:
    return f"SELECT {columns} FROM read_parquet([{', '.join(repr(source) for source in lease.sources)}])"


@pytest.mark.parametrize("rows", [2000, 9000])  # files that go through the cache, and files that do not
def test_the_same_answer(
    connection: duckdb.DuckDBPyConnection, blobs: CachedBlobs, objects: Objects, tmp_path: Path, rows: int
) -> None:
    entries = [put(objects, tmp_path, seed, rows) for seed in range(4)]
    want = pa.concat_tables([table(seed, rows) for seed in range(4)])
    with blobs.lease(entries) as lease:
        assert lease.sources[0].startswith("btblob://")
        for _ in range(2):
            assert connection.cursor().sql(select(lease)).to_arrow_table().cast(want.schema) == want
            assert used(tmp_path / "cache") <= ROOM
        found = connection.cursor().sql(f"{select(lease, 'sum(a), max(s)')} WHERE a % 3 = 0").fetchall()
        numbers = [number for number in range(4 * rows) if number % 3 == 0]
        assert found[0][0] == sum(numbers)
    metrics = blobs.metrics()
    assert metrics is not None
    assert metrics.bytes_fetched if rows == 2000 else metrics.bytes_by_range


def test_a_view_outlives_its_lease(
    connection: duckdb.DuckDBPyConnection, blobs: CachedBlobs, objects: Objects, tmp_path: Path
) -> None:
    entries = [put(objects, tmp_path, seed, 9000) for seed in range(2)]
    before = descriptors()
    with blobs.lease(entries) as lease:
        connection.execute(f"CREATE VIEW v AS {select(lease)}")
    assert connection.sql("SELECT count(*) FROM v WHERE a >= 0").fetchall() == [(18000,)]
    assert descriptors() == before, "nothing stays open"


@pytest.mark.parametrize("rows", [2000, 9000])
@pytest.mark.parametrize("at", range(8))
def test_a_failure_at_any_read_fails_the_query(
    connection: duckdb.DuckDBPyConnection,
    files: BlobFileSystem,
    blobs: CachedBlobs,
    objects: Objects,
    tmp_path: Path,
    rows: int,
    at: int,
) -> None:
    entries = [put(objects, tmp_path, seed, rows) for seed in range(4)]
    left = [at]

    def before(key: str, start: int, length: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("the store is gone, says the test")

    objects.before = before
    with blobs.lease(entries) as lease:
        with pytest.raises(duckdb.Error) as caught:
            connection.cursor().sql(select(lease, "sum(a), max(s), sum(b)")).fetchall()
        error = files.take_error(caught.value)
        assert type(error) is StoreError and error.detail == "the store is gone, says the test"
        objects.before = lambda key, start, length: None
        found = connection.cursor().sql(select(lease, "count(s), sum(a)")).fetchall()
        assert found == [(4 * rows, sum(range(4 * rows)))], "and is over when the fault is"


def test_the_error_of_a_missing_and_of_a_shortened_file(
    connection: duckdb.DuckDBPyConnection, files: BlobFileSystem, blobs: CachedBlobs, objects: Objects, tmp_path: Path
) -> None:
    entries = [put(objects, tmp_path, seed, 9000) for seed in range(3)]
    del objects.content[entries[1].key]
    objects.content[entries[2].key] = objects.content[entries[2].key][:-1]
    for entry, what in ((entries[1], "is missing"), (entries[2], "is damaged")):
        with blobs.lease([entry]) as lease, pytest.raises(duckdb.Error) as caught:
            connection.cursor().sql(select(lease)).fetchall()
        error = files.take_error(caught.value)
        assert isinstance(error, CorruptVersionError) and error.detail.startswith(f"{entry.key} {what}")
        second = files.take_error(caught.value)
        assert type(second) is StoreError, "the second time nobody knows it any more"


def test_names_that_nobody_leased(connection: duckdb.DuckDBPyConnection, files: BlobFileSystem, tmp_path: Path) -> None:
    name = f"btblob://{'0' * 64}.parquet"
    with pytest.raises(duckdb.IOException, match="No files found"):
        connection.sql(f"SELECT * FROM read_parquet('{name}')")
    with pytest.raises(OSError) as caught:
        files.open(name)
    error = files.take_error(caught.value)
    assert isinstance(error, EngineError) and "is no file of a version" in error.detail
    assert files.take_error(OSError("something else")) is None
    (tmp_path / "x.parquet").write_bytes(b"")
    with pytest.raises(duckdb.PermissionException):
        connection.sql(f"SELECT * FROM read_parquet('{tmp_path / 'x.parquet'}')")


def test_nothing_can_be_written(
    connection: duckdb.DuckDBPyConnection, files: BlobFileSystem, blobs: CachedBlobs, objects: Objects, tmp_path: Path
) -> None:
    entry = put(objects, tmp_path, 1, 9000)
    with blobs.lease([entry]) as lease:
        with pytest.raises((duckdb.Error, OSError)):
            connection.execute(f"COPY (SELECT 1) TO '{lease.sources[0]}' (FORMAT parquet)")
        with pytest.raises(OSError):
            files.open(lease.sources[0], "wb")
        with pytest.raises((duckdb.Error, NotImplementedError, OSError)):
            connection.execute(f"COPY (SELECT 1) TO 'btblob://{'1' * 64}.parquet' (FORMAT parquet)")


def test_a_file_object(files: BlobFileSystem, blobs: CachedBlobs, objects: Objects) -> None:
    entry = objects.put(1, 21 * BLOCK + 7)
    data = objects.content[entry.key]
    with blobs.lease([entry]) as lease:
        (source,) = lease.sources
        assert files.info(source)["size"] == len(data)
        assert files.exists(source) and files.glob(source) == files.ls(source, detail=False) == [source]
        assert files.ls(source)[0]["type"] == "file"
        assert files.cat_file(source) == data
        file = files.open(source)
        assert (file.read(3), file.tell(), file.seek(-2, 2), file.read(), file.read(1)) == (
            data[:3],
            3,
            len(data) - 2,
            data[-2:],
            b"",
        )
        assert file.seek(BLOCK - 1) == BLOCK - 1 and file.read(2) == data[BLOCK - 1 : BLOCK + 1]
        assert file.seek(1, 1) == BLOCK + 2
        assert file.seekable() and file.readable() and not file.writable()
        file.close()


def test_an_error_that_nobody_foresaw_shows_nothing(
    files: BlobFileSystem, blobs: CachedBlobs, objects: Objects
) -> None:
    def before(key: str, start: int, length: int) -> None:
        raise ValueError("/root/secret")

    objects.before = before
    entry = objects.put(1, 21 * BLOCK)
    with blobs.lease([entry]) as lease, pytest.raises(OSError) as caught:
        files.open(lease.sources[0]).read(1)
    error = files.take_error(caught.value)
    assert type(error) is StoreError and error.detail == "a file of the version could not be read: ValueError"


def test_errors_that_nobody_takes_are_forgotten(files: BlobFileSystem) -> None:
    for _ in range(1000):
        with pytest.raises(OSError):
            files.open(f"btblob://{'0' * 64}.parquet")
    assert len(files._errors) <= 256


def test_many_queries_at_once(
    connection: duckdb.DuckDBPyConnection, blobs: CachedBlobs, objects: Objects, tmp_path: Path
) -> None:
    entries = [put(objects, tmp_path, seed, 2000) for seed in range(6)]

    def work(number: int) -> None:
        for step in range(4):
            chosen = [entries[(number + step + more) % 6] for more in range(4)]
            with blobs.lease(chosen) as lease:
                want = sum(sum(table(entries.index(entry), 2000)["a"].to_pylist()) for entry in chosen)
                assert connection.cursor().sql(select(lease, "sum(a), count(s)")).fetchall() == [(want, 8000)]

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(work, number) for number in range(4)]:
            future.result(120)
    assert used(tmp_path / "cache") <= ROOM
