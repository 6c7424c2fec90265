"""Which dataset.toml is in force for a dataset, as text. What the text means is not decided here."""

from __future__ import annotations

import tomllib
from pathlib import Path

from engine.errors import DefinitionError, StoreError
from engine.store.keys import check_dataset_name, definition_key
from engine.store.protocol import ObjectStat, Store

MAX_BYTES = 1 << 20  # the text is copied into every publish record


def definition_text(project_folder: Path | None, store: Store, dataset: str) -> str | None:
    """The text of the project's own definition, else of the one beside the data, else None.

    Raises
    ------
    DefinitionError
        It cannot be read, is not UTF-8, or is far too long.
    """
    data = _of_the_project(project_folder, check_dataset_name(dataset))
    return _decoded(dataset, _beside_the_data(store, dataset) if data is None else data)


class ListedDefinitions:
    """``definition_text`` for who has just listed what lies beside the data: reads that file once for each etag."""

    def __init__(self, project_folder: Path | None, store: Store) -> None:
        self._project_folder = project_folder
        self._store = store
        self._read: dict[str, tuple[str, bytes | None]] = {}

    def __call__(self, dataset: str, listed: ObjectStat | None) -> str | None:
        """The text; ``listed`` is the file beside the data, None when there is none. Raises DefinitionError."""
        data = _of_the_project(self._project_folder, check_dataset_name(dataset))
        if data is None and listed is not None:
            known = self._read.get(dataset)
            if known is None or known[0] != listed.etag:
                known = self._read[dataset] = (listed.etag, _beside_the_data(self._store, dataset))
            data = known[1]
        return _decoded(dataset, data)


def _of_the_project(project_folder: Path | None, dataset: str) -> bytes | None:
    if project_folder is None:
        return None
    path = project_folder / dataset / "dataset.toml"
    try:
        _check_size(dataset, path.stat().st_size)
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DefinitionError(f"the definition of {dataset} cannot be read: {error.strerror}") from error


def _decoded(dataset: str, data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DefinitionError(f"the definition of {dataset} is not UTF-8") from error


def _beside_the_data(store: Store, dataset: str) -> bytes | None:
    key = definition_key(dataset)
    try:
        found = store.stat(key)
        if found is None:
            return None
        _check_size(dataset, found.size)
        data = store.read(key)
    except StoreError as error:
        if store.is_remote:  # it may pass: a version under another definition would stay
            raise
        # What a researcher did to this one file must not keep the data beside it from being served.
        raise DefinitionError(f"the definition of {dataset} cannot be read: {error.detail}") from error
    if data is not None:
        _check_size(dataset, len(data))
    return data


def _check_size(dataset: str, size: int) -> None:
    if size > MAX_BYTES:
        raise DefinitionError(f"the definition of {dataset} is {size} bytes long; {MAX_BYTES} is the most")


def check_toml(dataset: str, text: str | None) -> None:
    """Raises DefinitionError when a definition is not TOML at all."""
    try:
        tomllib.loads(text or "")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DefinitionError(f"the definition of {dataset} is not valid TOML: {error}") from error
