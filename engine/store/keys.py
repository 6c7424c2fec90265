"""The names of everything in a store: which key holds what, and which names a dataset may have. Does no I/O."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from engine.errors import InvalidNameError

_DATASET = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LOG_RECORD = re.compile(r"(\d{10})\.json")

PRIVATE = "_bt"  # everything below it is ours; everything beside it belongs to the researchers

#: The formats a dropped or published file may have, by the end of its name.
FORMATS = {
    "parquet": "parquet",
    "csv": "csv",
    "tsv": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "arrow": "arrow",
    "feather": "arrow",
}


def is_dataset_name(name: str) -> bool:
    return _DATASET.fullmatch(name) is not None


def check_dataset_name(name: str) -> str:
    """The name itself; raises InvalidNameError when it is not one."""
    if not is_dataset_name(name):
        raise InvalidNameError(
            f"{name!r} is not a dataset name: use 1 to 63 of the characters a-z, 0-9, _ and -, beginning with a letter "
            "or a digit"
        )
    return name


def check_key(key: str) -> str:
    """The key itself; raises InvalidNameError when it could lead out of a store, or is spelt in more than one way."""
    if not is_key(key):
        raise InvalidNameError(f"{key!r} is not a key of this store")
    return key


def is_key(key: str) -> bool:
    parts = key.removesuffix("/").split("/")
    return not any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts)


def log_prefix(dataset: str) -> str:
    return f"{dataset}/{PRIVATE}/log/"


def log_key(dataset: str, seq: int) -> str:
    return f"{log_prefix(dataset)}{seq:010d}.json"


def seq_of(key: str) -> int | None:
    """The number of a log record's key; None for any other file in that folder."""
    match = _LOG_RECORD.fullmatch(key.rpartition("/")[2])
    return int(match[1]) if match else None


def data_prefix(dataset: str) -> str:
    return f"{dataset}/{PRIVATE}/data/"


def meta_prefix(dataset: str) -> str:
    return f"{dataset}/{PRIVATE}/meta/"


def staging_prefix(dataset: str) -> str:
    return f"{dataset}/{PRIVATE}/tmp/"


def new_blob_key(dataset: str, sha256: str) -> str:
    """A key that was never used before: time, 32 random bits, and the first digits of the content's hash."""
    return f"{data_prefix(dataset)}{_unique(sha256)}.parquet"


def new_meta_key(dataset: str, sha256: str, extension: str) -> str:
    """The same for a file that goes with a version and has none of its rows. ``extension`` is parquet or json."""
    return f"{meta_prefix(dataset)}{_unique(sha256)}.{extension}"


def _unique(sha256: str) -> str:
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(4)}-{sha256[:12]}"


def definition_key(dataset: str) -> str:
    return f"{dataset}/dataset.toml"


def format_of(name: str) -> str | None:
    """``parquet``, ``csv``, ``jsonl`` or ``arrow`` by the end of a file's name; None when it says nothing."""
    return FORMATS.get(name.rpartition(".")[2].lower()) if "." in name else None


def is_drop(key: str) -> bool:
    """Whether a key is a drop: ``<dataset>/results.<one of FORMATS>``, in lower case."""
    _, _, name = key.rstrip("/").rpartition("/")
    stem, _, extension = name.partition(".")
    return stem == "results" and extension in FORMATS
