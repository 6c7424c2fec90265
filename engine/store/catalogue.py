"""Which datasets a store holds, and one log for each of them per process."""

from __future__ import annotations

import threading

from engine.errors import EngineError
from engine.store.keys import PRIVATE, check_dataset_name, is_dataset_name, is_drop, log_prefix
from engine.store.log import DatasetLog, Fallback
from engine.store.protocol import Store


def list_datasets(store: Store) -> list[str]:
    """The names of all datasets, sorted: folders with a log, or with a dropped file that may become a version.

    A folder that cannot be looked into is among them, so that somebody hears of it; the others must not suffer.
    """
    return [name for name in _folders(store) if is_dataset_name(name) and _may_exist(store, name)]


def _may_exist(store: Store, dataset: str) -> bool:
    try:
        return dataset_exists(store, dataset)
    except EngineError:
        return True


def dataset_exists(store: Store, dataset: str) -> bool:
    """Whether a dataset has a log or a dropped file; raises InvalidNameError, StoreError."""
    beside = store.list(f"{check_dataset_name(dataset)}/")
    return any(is_drop(key) for key in beside) or (
        f"{dataset}/{PRIVATE}/" in beside and bool(store.list(log_prefix(dataset)))
    )


def list_misnamed(store: Store) -> list[str]:
    """Folders that hold a dropped file and whose name is not one that a dataset may have."""
    return [name for name in _folders(store) if not is_dataset_name(name) and _has_drop(store, name)]


def _has_drop(store: Store, folder: str) -> bool:
    try:
        return any(is_drop(key) for key in store.list(f"{folder}/"))
    except EngineError:  # not even a key, as a name with a backslash, or closed to us
        return False


def list_drops(store: Store, dataset: str) -> list[str]:
    """The keys of a dataset's dropped files."""
    return [key for key in store.list(f"{dataset}/") if is_drop(key)]


def _folders(store: Store) -> list[str]:
    # By name and not by key: "a-b/" comes before "a/".
    return sorted(key.removesuffix("/") for key in store.list("") if key.endswith("/"))


class DatasetLogs:
    """One DatasetLog per dataset, made when first asked for, so that all parts of a process share one view."""

    def __init__(self, store: Store, *, fallback: Fallback | None = None) -> None:
        self._store = store
        self._fallback = fallback
        self._logs: dict[str, DatasetLog] = {}
        self._lock = threading.Lock()

    def of(self, dataset: str) -> DatasetLog:
        """The log of a dataset; raises InvalidNameError. It is empty when there is no such dataset."""
        with self._lock:
            log = self._logs.get(dataset)
            if log is None:
                log = self._logs[dataset] = DatasetLog(self._store, dataset, fallback=self._fallback)
            return log

    def forget(self, dataset: str) -> None:
        """Drop the log of a dataset that does not exist."""
        with self._lock:
            log = self._logs.get(dataset)
            if log is not None and not log.state.seq:
                del self._logs[dataset]
