"""A store that may not be written to: a dropped parquet file is served as it lies there."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from engine.connection import Database
from engine.errors import CorruptVersionError, EngineError, StoreError, VersionNotFoundError
from engine.store import DatasetLog, DatasetLogs, LocalStore, UnloggedDrops, definition_text, list_datasets, verify_blob
from tests.engine.store.support import Process, place, sha256, write_parquet

Open = Callable[..., DatasetLog]


@pytest.fixture
def open_log(root: Path, database: Database) -> Open:
    def work(read_only: bool = True, database: Database = database) -> DatasetLog:
        store = LocalStore(root, read_only=read_only)
        fallback = UnloggedDrops(store, database, lambda dataset: definition_text(None, store, dataset))
        return DatasetLogs(store, fallback=fallback).of("d")

    return work


def test_the_content_hash_is_the_version(root: Path, open_log: Open) -> None:
    path = write_parquet(root / "d/results.parquet", rows=5)
    (root / "d/dataset.toml").write_text("title = 'D'\n")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    state = open_log().refresh()
    version = state.resolve(None)
    digest = sha256(path.read_bytes())
    assert (version.number, version.name, version.content_id) == (0, digest[:12], digest)
    assert (version.rows, version.at, version.by) == (5, "2023-11-14T22:13:20.000Z", "drop")
    assert version.definition == "title = 'D'\n"
    assert [(column.name, column.type) for column in version.schema] == [("step", "BIGINT"), ("value", "DOUBLE")]
    assert state.resolve(digest[:8]) == state.resolve(digest) == version
    for spec in ("v0", 0, "v1", "ffffffff"):
        with pytest.raises(VersionNotFoundError):
            state.resolve(spec)
    store = LocalStore(root, read_only=True)
    assert verify_blob(store, version.files[0]) == path
    assert list_datasets(store) == ["d"]
    assert sorted(found.name for found in (root / "d").iterdir()) == ["dataset.toml", "results.parquet"]


def test_overwriting_is_seen_at_the_next_refresh(root: Path, open_log: Open) -> None:
    place(root / "d/results.parquet", write_parquet(root / "x").read_bytes(), 1000)
    log = open_log()
    first = log.refresh().resolve(None)
    assert log.refresh().resolve(None) is first, "read once"
    place(root / "d/results.parquet", write_parquet(root / "x", seed=1).read_bytes(), 1000)
    store = LocalStore(root, read_only=True)
    with pytest.raises(CorruptVersionError, match="is damaged"):
        verify_blob(store, first.files[0])
    second = log.refresh().resolve(None)
    assert second.content_id != first.content_id
    with pytest.raises(VersionNotFoundError):
        log.state.resolve(first.content_id)
    verify_blob(store, second.files[0])


def test_a_log_wins(root: Path, database: Database, open_log: Open, tmp_path: Path) -> None:
    process = Process(LocalStore(root), database)
    version = process.publisher.publish("d", write_parquet(tmp_path / "a.parquet")).version
    write_parquet(root / "d/results.parquet", seed=1)
    assert open_log().refresh().resolve(None) == version


def test_a_log_that_appears_later_wins(root: Path, database: Database, open_log: Open, tmp_path: Path) -> None:
    write_parquet(root / "d/results.parquet", seed=1)
    log = open_log()
    assert log.refresh().resolve(None).number == 0
    version = Process(LocalStore(root), database).publisher.publish("d", write_parquet(tmp_path / "a.parquet")).version
    assert log.refresh().resolve(None) == version
    assert log.state.versions == (version,)


def test_a_writable_store_has_no_such_versions(root: Path, open_log: Open) -> None:
    write_parquet(root / "d/results.parquet")
    assert open_log(read_only=False).refresh().current is None


@pytest.mark.parametrize(
    "name, data, reason",
    [
        ("results.parquet", b"", "results.parquet is empty"),
        ("results.parquet", b"PAR1 and so on", "results.parquet is cut short"),
        ("results.csv", b"a\n1\n", "results.csv would have to be converted, and this store is read-only; drop parquet"),
    ],
)
def test_what_cannot_be_served_says_why(root: Path, open_log: Open, name: str, data: bytes, reason: str) -> None:
    place(root / "d" / name, data, 1000)
    state = open_log().refresh()
    with pytest.raises(VersionNotFoundError, match=f"the last file dropped was rejected: {reason}"):
        state.resolve(None)


def test_links_are_not_followed(root: Path, open_log: Open, tmp_path: Path) -> None:
    secret = write_parquet(tmp_path / "secret.parquet")
    (root / "d").mkdir(parents=True)
    for target in (secret, Path("inside.parquet")):
        (root / "d/inside.parquet").write_bytes(secret.read_bytes())
        (root / "d/results.parquet").unlink(missing_ok=True)
        (root / "d/results.parquet").symlink_to(target)
        state = open_log().refresh()
        assert state.current is None
        assert "is not a regular file" in state.rejects[0].reason


def test_a_folder_in_its_place(root: Path, open_log: Open) -> None:
    (root / "d/results.parquet").mkdir(parents=True)
    assert open_log().refresh().current is None


def test_what_could_not_be_found_out_is_asked_again(root: Path, open_log: Open, database: Database) -> None:
    """A busy database is no reason to call a file bad for as long as it lies there."""
    write_parquet(root / "d/results.parquet")
    with closing(Database([root], max_concurrent=1, queue_timeout_s=0.01)) as busy:
        log = open_log(database=busy)
        with busy.stream("SELECT 1"), pytest.raises(EngineError, match="too many queries"):
            log.refresh()
        assert log.refresh().resolve(None).rows == 3


def test_a_file_that_changes_while_it_is_read(root: Path, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(root / "d/results.parquet")
    newer = write_parquet(root / "x", rows=9).read_bytes()
    store = LocalStore(root, read_only=True)
    log = DatasetLog(store, "d", fallback=UnloggedDrops(store, database, lambda dataset: None))

    def overwrite(path: Path) -> str:
        place(root / "d/results.parquet", newer, 1000)
        return sha256(newer)

    with monkeypatch.context() as patched:
        patched.setattr("engine.store.unlogged.hash_file", overwrite)
        with pytest.raises(StoreError, match="changed while it was being read"):
            log.refresh()
    assert log.refresh().resolve(None).rows == 9


def test_a_broken_definition_does_not_hide_the_data(root: Path, open_log: Open) -> None:
    write_parquet(root / "d/results.parquet")
    (root / "d/dataset.toml").write_text("title = ")
    assert open_log().refresh().resolve(None).definition is None
