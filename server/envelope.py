"""What an answer says about itself in JSON, and in the metadata of Arrow and parquet. Counts nothing itself."""

from __future__ import annotations

from typing import Any

from engine import ResultMeta
from server.documents import plain


def describe_meta(meta: ResultMeta) -> dict[str, Any]:
    """``meta`` of SPEC 3.1."""
    content: dict[str, Any] = {
        "dataset": meta.dataset,
        "version": meta.version,
        "content_id": meta.content_id,
        "query_id": meta.query_id,
        "schema": [
            {"name": column.name, "type": column.sql_type, "unit": column.unit, "direction": column.direction}
            for column in meta.columns
        ],
        "returned": meta.returned,
        "total": meta.total,
        "total_exact": meta.total_exact,
        "truncated": meta.truncated,
        "limit": meta.limit,
        "offset": meta.offset,
        "next_cursor": meta.next_cursor,
        "warnings": list(meta.warnings),
    }
    if meta.facets is not None:
        content["facets"] = plain(meta.facets)
    if meta.explain is not None:
        content["explain"] = plain(meta.explain)
    return content
