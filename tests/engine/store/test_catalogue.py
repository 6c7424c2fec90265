"""Which datasets there are."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from engine.connection import Database
from engine.errors import DefinitionError, InvalidNameError, StoreError
from engine.store import DatasetLogs, LocalStore, dataset_exists, definition_text, list_datasets
from engine.store.catalogue import list_drops, list_misnamed
from tests.engine.store.support import Process, place, write_parquet


def test_an_empty_store(store: LocalStore, root: Path) -> None:
    assert list_datasets(store) == [] == list_misnamed(store)
    assert not dataset_exists(store, "d")
    assert not root.exists(), "looking makes nothing"


def test_what_makes_a_dataset(store: LocalStore, root: Path, database: Database, tmp_path: Path) -> None:
    for name in (
        "dropped/results.csv",
        "other/notes.csv",
        "defined/dataset.toml",
        "My Data/results.csv",
        "_x/results.csv",
    ):
        place(root / name, b"a\n1\n", 0)
    (root / "empty").mkdir()
    (root / "staged/_bt/tmp").mkdir(parents=True)
    (root / "blobs/_bt/data").mkdir(parents=True)
    (root / "results.csv").write_text("a\n1\n")
    Process(store, database).publisher.publish("logged", write_parquet(tmp_path / "a.parquet"))
    assert list_datasets(store) == ["dropped", "logged"]
    assert [dataset_exists(store, name) for name in ("dropped", "logged", "other", "empty", "nothing")] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert list_misnamed(store) == ["My Data", "_x"]
    assert list_drops(store, "dropped") == ["dropped/results.csv"] and list_drops(store, "logged") == []


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "_bt", "a\0", "/etc"])
def test_only_names_are_asked_for(store: LocalStore, name: str) -> None:
    with pytest.raises(InvalidNameError):
        dataset_exists(store, name)
    with pytest.raises(InvalidNameError):
        DatasetLogs(store).of(name)


def test_a_folder_that_cannot_be_looked_into_hides_no_other(store: LocalStore, root: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c", "Bad"):
        place(root / name / "results.csv", b"a\n1\n", 0)
    (root / "b/_bt").mkdir()
    (root / "b/results.csv").unlink()
    (tmp_path / "elsewhere").mkdir()
    (root / "b/_bt/log").symlink_to(tmp_path / "elsewhere")
    assert list_datasets(store) == ["a", "b", "c"]
    with pytest.raises(StoreError):
        dataset_exists(store, "b")


def test_closed_folders(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look everywhere, so the refusal is imitated."""
    for name in ("a", "b", "Bad"):
        place(root / name / "results.csv", b"a\n1\n", 0)
    real = LocalStore.list

    def refuse(self: LocalStore, prefix: str) -> tuple[str, ...]:
        if prefix in ("a/", "Bad/"):
            raise StoreError(f"{prefix} cannot be listed: Permission denied")
        return real(self, prefix)

    monkeypatch.setattr(LocalStore, "list", refuse)
    store = LocalStore(root)
    assert list_datasets(store) == ["a", "b"]
    assert list_misnamed(store) == []


def test_one_log_for_all_threads(store: LocalStore) -> None:
    logs = DatasetLogs(store)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(logs.of("d"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, found))) == 1


def test_which_definition_is_in_force(store: LocalStore, root: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    assert definition_text(project, store, "d") is None
    place(root / "d/dataset.toml", b"\xef\xbb\xbfside = 1\n", 0)
    assert definition_text(project, store, "d") == definition_text(None, store, "d") == "side = 1\n"
    place(project / "d/dataset.toml", b"own = 1\n", 0)
    assert definition_text(project, store, "d") == "own = 1\n"
    with pytest.raises(InvalidNameError):
        definition_text(project, store, "../d")


@pytest.mark.parametrize("where", ["project", "store"])
def test_definitions_that_cannot_be_read(store: LocalStore, root: Path, tmp_path: Path, where: str) -> None:
    project = tmp_path / "project"
    path = (project if where == "project" else root) / "d/dataset.toml"
    place(path, b"\xff", 0)
    with pytest.raises(DefinitionError, match="the definition of d is not UTF-8"):
        definition_text(project, store, "d")
    with open(path, "wb") as writer:
        writer.truncate(1 << 40)
    with pytest.raises(DefinitionError, match="is 1099511627776 bytes long; 1048576 is the most"):
        definition_text(project, store, "d")
    path.unlink()
    path.mkdir()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        with pytest.raises(DefinitionError, match="the definition of d cannot be read") as caught:
            definition_text(project, store, "d")
        assert str(tmp_path) not in caught.value.detail
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors, "what was opened is closed"
