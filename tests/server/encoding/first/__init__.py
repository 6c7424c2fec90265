"""The encoders of encoding version 1 as they were first written, one kernel after another: slow, and frozen.

They say which bytes an answer has. ``test_same_bytes.py`` compares every quicker way with them; nothing else uses them.
Rows come to them with texts as plain strings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from server.encoding import Payload
from tests.server.encoding.first.arrow import encode_arrow
from tests.server.encoding.first.columns import encode_columns
from tests.server.encoding.first.csv import encode_csv
from tests.server.encoding.first.json import encode_json, encode_ndjson
from tests.server.encoding.first.parquet import encode_parquet

FIRST: dict[str, Callable[[Payload], Iterator[bytes]]] = {
    "json": encode_json,
    "columns": encode_columns,
    "ndjson": encode_ndjson,
    "csv": encode_csv,
    "arrow": encode_arrow,
    "parquet": encode_parquet,
}
