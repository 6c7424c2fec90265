"""Which dataset.toml is in force for a dataset, as text. What the text means is not decided here."""

from __future__ import annotations

import tomllib
from pathlib import Path

from engine.errors import DefinitionError, StoreError
from engine.store.keys import check_dataset_name, definition_key
from engine.store.protocol import Store

MAX_BYTES = 1 << 20  # the text is copied into every publish record


def definition_text(project_folder: Path | None, store: Store, dataset: str) -> str | None:
    """The text of the project's own definition, else of the one beside the data, else None.

    Raises
    ------
    DefinitionError
        It cannot be read, is not UTF-8, or is far too long.
    """
    check_dataset_name(dataset)
    data = None
    if project_folder is not None:
        path = project_folder / dataset / "dataset.toml"
        try:
            _check_size(dataset, path.stat().st_size)
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise DefinitionError(f"the definition of {dataset} cannot be read: {error.strerror}") from error
    if data is None:
        data = _beside_the_data(store, dataset)
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
