"""Which datasets a store holds, and one log for each of them per process."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from engine.errors import EngineError
from engine.store.keys import PRIVATE, check_dataset_name, definition_key, is_dataset_name, is_drop, log_prefix
from engine.store.log import DatasetLog, Fallback
from engine.store.protocol import ObjectStat, Store


def list_datasets(store: Store, logs: DatasetLogs | None = None) -> list[str]:
    """The names of all datasets, sorted: folders with a log, or with a dropped file that may become a version.

    A folder that cannot be looked into is among them, so that somebody hears of it; the others must not suffer. With
    ``logs``, folders whose log is known need no look: in a bucket each of them costs a request.
    """
    names = filter(is_dataset_name, list_folders(store))
    return [name for name in names if (logs is not None and logs.knows(name)) or _may_exist(store, name)]


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
    return [name for name in list_folders(store) if not is_dataset_name(name) and has_drop(store, name)]


def has_drop(store: Store, folder: str) -> bool:
    """Whether a folder of any name holds a dropped file; False when it cannot be looked into."""
    try:
        return any(is_drop(key) for key in store.list(f"{folder}/"))
    except EngineError:  # not even a key, as a name with a backslash, or closed to us
        return False


def list_drops(store: Store, dataset: str) -> list[str]:
    """The keys of a dataset's dropped files; in a folder also of what is called like one and is a folder."""
    return [key for key in store.list(f"{dataset}/") if is_drop(key)]


def find_drops(store: Store, dataset: str) -> list[ObjectStat]:
    """What is known of a dataset's dropped files."""
    return list(look_beside(store, dataset).drops)


@dataclass(frozen=True, slots=True)
class Beside:
    """What lies beside the versions of a dataset: dropped files, and in a bucket a definition, if there is one."""

    drops: tuple[ObjectStat, ...]
    definition: ObjectStat | None


def look_beside(store: Store, dataset: str) -> Beside:
    """One look at what the researchers own of a dataset: for a bucket that is one listing."""
    if store.is_remote:
        listed, definition = store.list_stats(f"{dataset}/"), definition_key(dataset)
        drops = tuple(stat for stat in listed if is_drop(stat.key) and not stat.key.endswith("/"))
        return Beside(drops, next((stat for stat in listed if stat.key == definition), None))
    found = (store.stat(key.rstrip("/")) for key in list_drops(store, dataset))
    return Beside(tuple(stat for stat in found if stat is not None), None)


def list_folders(store: Store) -> list[str]:
    """The names of all folders of a store, whatever they hold."""
    # By name and not by key: "a-b/" comes before "a/".
    return sorted(key.removesuffix("/") for key in store.list("") if key.endswith("/") and key != f"{PRIVATE}/")


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

    def known(self) -> dict[str, DatasetLog]:
        """The logs that were asked for so far; asks nobody."""
        return dict(self._logs)

    def knows(self, dataset: str) -> bool:
        """Whether this process has read a record of that dataset's log; asks nobody."""
        with self._lock:
            log = self._logs.get(dataset)
        return log is not None and log.state.seq > 0

    def forget(self, dataset: str) -> None:
        """Drop the log of a dataset that does not exist."""
        with self._lock:
            log = self._logs.get(dataset)
            if log is not None and not log.state.seq:
                del self._logs[dataset]
