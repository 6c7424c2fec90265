"""The bytes of an answer in each format, made of Arrow batches with bounded memory. Knows nothing of HTTP requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.encoding.arrow import METADATA_KEY, encode_arrow
from server.encoding.columns import encode_columns
from server.encoding.csv import encode_csv
from server.encoding.json import encode_json, encode_ndjson
from server.encoding.parquet import encode_parquet
from server.encoding.payload import Payload, UnsupportedColumnError

#: Part of every ETag: raise it when the same rows would give other bytes.
ENCODING_VERSION = 1


@dataclass(frozen=True, slots=True)
class Format:
    """A format by its name in ``format=``; ``aliases`` are further media types that ask for it."""

    name: str
    media_type: str
    encode: Callable[[Payload], Iterator[bytes]]
    aliases: tuple[str, ...] = ()
    charset: str = ""

    @property
    def content_type(self) -> str:
        return f"{self.media_type}; charset={self.charset}" if self.charset else self.media_type


#: All formats, the preferred one first.
FORMATS = (
    Format("json", "application/json", encode_json),
    Format("columns", "application/vnd.bytomorrow.columns+json", encode_columns),
    Format("ndjson", "application/x-ndjson", encode_ndjson, ("application/ndjson", "application/jsonl")),
    Format("csv", "text/csv", encode_csv, charset="utf-8"),
    Format("arrow", "application/vnd.apache.arrow.stream", encode_arrow),
    Format("parquet", "application/vnd.apache.parquet", encode_parquet),
)

__all__ = ["ENCODING_VERSION", "FORMATS", "METADATA_KEY", "Format", "Payload", "UnsupportedColumnError"]
