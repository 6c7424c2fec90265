"""ETags and what caches may do. An ETag is known before any query runs: equal ones mean equal bytes."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from server.encoding import ENCODING_VERSION

PINNED = "public, max-age=31536000, immutable"
LATEST = "no-cache"  # may be kept, and must be asked about each time
NEVER = "no-store"

_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_ROOT = Path(__file__).resolve().parent.parent
# What turns a query into bytes; another release of one of them may turn it into others.
_LIBRARIES = ("duckdb", "numpy", "orjson", "pyarrow", "sqlglot", "brotli", "zstandard")


@cache
def code_version() -> str:
    """A hash of this code and of the libraries that shape an answer, so that no client keeps what a bug made."""
    digest = hashlib.sha256()
    for package in ("queries", "engine", "server"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(_ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    for library in _LIBRARIES:
        digest.update(f"{library}={version(library)}\0".encode())
    return digest.hexdigest()[:16]


def make_etag(*parts: str) -> str:
    """A strong ETag for what ``parts`` determine."""
    text = "\0".join([*parts, f"encoding {ENCODING_VERSION}", code_version()])
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def etag_of_body(body: bytes, coding: str | None = None) -> str:
    """A strong ETag of bytes at hand, for small documents that no query makes.

    Its first part is the same in every content coding, for who compares states and not bytes.
    """
    return f'"{hashlib.sha256(body).hexdigest()[:32]}{f"-{coding}" if coding else ""}"'


def is_same_state(header: str, etag: str) -> bool:
    """Whether an ``If-Match`` header lists the ETag of a document, in whatever content coding it was read."""
    listed = [tag.strip('"').partition("-")[0] for tag in _ENTITY_TAG.findall(header)]
    return header.strip() == "*" or etag.strip('"').partition("-")[0] in listed


def is_match(header: str | None, etag: str) -> bool:
    """Whether an ``If-None-Match`` or ``If-Match`` header lists the ETag, or is a star; weakness is disregarded."""
    if header is None:
        return False
    return header.strip() == "*" or etag in _ENTITY_TAG.findall(header)
