"""What an engine needs to know, as one frozen argument; ``settings.py`` is what reads the environment."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

PROJECT_DEFINITIONS = Path(__file__).resolve().parent.parent / "datasets"
MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30

_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)B?\s*", re.IGNORECASE)


def parse_bytes(text: str) -> int:
    """Bytes from ``256MB`` (decimal), ``256MiB`` (binary) or a bare number; raises ValueError on anything else."""
    match = _BYTES.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an amount of memory; write it like 256MB, 1GiB or 1048576")
    power = " KMGT".index(match[2].upper()) if match[2] else 0
    factor: int = (1024 if match[3] else 1000) ** power
    return round(float(match[1]) * factor)


# What all of S3, R2 and Ceph take: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"(?!.*\.\.)(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class S3Location:
    """A bucket, or what lies below a prefix of it, and how it is reached. Its text is ``s3://bucket/prefix``.

    Attributes
    ----------
    bucket, prefix
        The prefix has no slash at either end, and is empty for the whole bucket.
    endpoint
        ``https://host[:port]`` of the service; None for Amazon's.
    region
        None, or ``auto``, for what the service takes by itself.
    access_key_id, secret_access_key, session_token
        Never shown. None looks where Amazon's own tools do, and takes none when nothing is there.
    profile, credentials_file
        Which of the profiles in which file those tools keep; None for their defaults.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    profile: str | None = None
    credentials_file: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    @classmethod
    def parse(cls, text: str) -> S3Location:
        """From ``s3://bucket/prefix``, with or without slashes too many; raises ValueError saying what is wrong."""
        if text[:5].lower() != "s3://":
            raise ValueError("it does not begin with s3://")
        bucket, _, rest = text[5:].partition("/")
        if "@" in bucket or ":" in bucket:
            raise ValueError("after s3:// comes a bucket; keys belong in AWS_ACCESS_KEY_ID, a host in BT_S3_ENDPOINT")
        if _BUCKET.fullmatch(bucket) is None:
            raise ValueError(
                f"{bucket!r} is not the name of a bucket: that has 3 to 63 of the characters a-z, 0-9, . and -, and "
                "begins and ends with a letter or a digit"
            )
        parts = [part for part in rest.split("/") if part]
        if any(part in (".", "..") or "\\" in part or not part.isprintable() for part in parts):
            raise ValueError(
                "the prefix after the bucket has a part that is . or .., or a character that cannot be seen"
            )
        return cls(bucket, "/".join(parts))

    def filled(self, **values: Any) -> S3Location:
        """The same, with values for what is None."""
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) is None})


def user_cache_dir() -> Path:
    """The folder for what this user may lose but would rather keep over a restart."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return Path(tempfile.gettempdir()) / f"bytomorrow-{os.getuid()}"
    return base / "bytomorrow"


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Settings of one engine.

    Attributes
    ----------
    store
        Folder that holds the datasets, or the bucket.
    definitions
        Folder of the project's own ``<name>/dataset.toml``, which win over those beside the data; None for none.
    cache_dir
        Folder for DuckDB's spill files; with a bucket also for copies of its files. None spills to the system's
        temporary folder and keeps copies in ``local_dir``.
    cache_bytes
        How much of a bucket's files ``local_dir`` may keep.
    memory_limit_bytes
        What DuckDB may allocate. The server's budget of 512 MB leaves about this much beside Python and Arrow.
    query_timeout_s
        How long one query may work; waiting for a slow reader does not count.
    max_rows
        An answer asked for without ``limit`` may not be longer.
    results_cache_bytes
        Of small answers that are kept to be given again; 0 for none.
    tables_bytes
        Of memory for copies of versions that are asked often; a part of ``memory_limit_bytes``. 0 for none.
    lookup_bytes
        Of disk in ``scratch_dir`` for columns of versions that are often asked for a few rows. 0 for none.
    max_concurrent
        Queries that run at once; more wait for ``queue_timeout_s`` and are then refused.
    refresh_s
        How old what is known of a bucket may be before it is asked again.
    """

    store: Path | S3Location
    definitions: Path | None = PROJECT_DEFINITIONS
    cache_dir: Path | None = None
    memory_limit_bytes: int = 256 * MEBIBYTE
    query_timeout_s: float = 30.0
    max_rows: int = 5_000_000
    max_concurrent: int = 8
    queue_timeout_s: float = 10.0
    results_cache_bytes: int = 16 * MEBIBYTE
    tables_bytes: int = 96 * MEBIBYTE
    lookup_bytes: int = GIBIBYTE
    drop_settle_s: float = 2.0  # a dropped file counts once it has not changed for so long
    schema_policy: str = "warn"  # or "block-breaking"
    cache_bytes: int = 4 * GIBIBYTE
    refresh_s: float = 15.0

    @property
    def scratch_dir(self) -> Path:
        """A folder on a disk for files that are of no use to another process, and have no name."""
        if self.cache_dir is not None:
            return self.cache_dir
        # The system's other folder for temporary files is often in memory, which these are there to spare.
        on_disk = Path("/var/tmp")
        return on_disk if os.access(on_disk, os.W_OK) else Path(tempfile.gettempdir())

    @property
    def local_dir(self) -> Path:
        """Where copies of a bucket's files are kept, and files that are about to go there."""
        return self.cache_dir or user_cache_dir()
