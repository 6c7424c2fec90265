"""What the catalogue says of a dataset, a version, a column, as plain JSON content."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from engine.definition import parse_definition
from engine.engine import Engine
from engine.store import Version
from engine.summary import ColumnSummary
from queries.schema import Column, Lookup, Product, SizeLabel
from server.documents import plain


def summarize_dataset(engine: Engine, name: str) -> dict[str, Any]:
    """One line of the catalogue. It opens no file, so that a damaged one does not hide the dataset."""
    state = engine.state(name)
    current = state.current
    definition = parse_definition(current.definition if current else None)
    return {
        "name": name,
        "title": definition.title,
        "description": definition.description,
        "synthetic": definition.synthetic,
        "version": current.name if current else None,
        "content_id": current.content_id if current else None,
        "rows": current.rows if current else None,
        "bytes": current.size_bytes if current else None,
        "column_count": len(current.schema) if current else None,
        "versions": len(state.versions),
        "at": current.at if current else None,
        "by": current.by if current else None,
        "message": current.message if current else None,
        "links": {"self": f"/api/datasets/{name}", "rows": f"/api/datasets/{name}/rows"},
    }


def describe_dataset(engine: Engine, name: str, version: str | None) -> dict[str, Any]:
    """All that is known about a dataset as of one version."""
    state = engine.state(name)
    opened = engine.open_version(state.resolve(version))
    definition = opened.definition
    return {
        "name": name,
        "title": definition.title,
        "description": definition.description,
        "source": definition.source,
        "licence": definition.licence,
        "synthetic": definition.synthetic,
        "version": describe_version(opened.version),
        "latest": state.current.name if state.current else None,
        "versions": [listed.name for listed in reversed(state.versions)],
        "rows": opened.version.rows,
        "bytes": opened.version.size_bytes,
        "columns": [describe_column(column) for column in opened.schema.columns],
        "key": list(opened.schema.key),
        "sort": list(opened.schema.sort),
        "metric_column": opened.schema.metric_column,
        "value_column": opened.schema.value_column,
        "metrics": [asdict(info) for info in opened.schema.metrics],
        "queries": [
            {
                "name": query.name,
                "title": query.title,
                "dataset": query.dataset or name,
                "parameters": dict(query.parameters),
                "url": f"/api/queries/{name}/{query.name}",
            }
            for query in definition.queries.values()
        ],
        "problems": list(definition.problems),
    }


def describe_column(column: Column) -> dict[str, Any]:
    """One column: its type, what it is for, and where that is known from."""
    return {
        "name": column.name,
        "type": column.sql_type,
        "kind": column.kind.value,
        "role": column.role.value,
        "role_source": column.role_source,
        "nullable": column.nullable,
        "unit": column.unit,
        "direction": column.direction,
        "description": column.description,
        "aliases": list(column.aliases),
        "is_size_label": column.is_size_label,
        "derived_from": _sources(column),
    }


def describe_summary(summary: ColumnSummary) -> dict[str, Any]:
    """What is in a column."""
    return {
        "rows": summary.rows,
        "nulls": summary.nulls,
        "nans": summary.nans,
        "distinct": summary.distinct,
        "min": plain(summary.minimum),
        "max": plain(summary.maximum),
        "quantiles": plain(summary.quantiles),
        "histogram": plain(asdict(summary.histogram)) if summary.histogram else None,
        "values": plain(summary.values),
        "matching": summary.matching,
    }


def describe_version(version: Version) -> dict[str, Any]:
    """What never changes about a version."""
    return {
        "dataset": version.dataset,
        "version": version.name,
        "number": version.number,
        "content_id": version.content_id,
        "at": version.at,
        "by": version.by,
        "message": version.message,
        "rows": version.rows,
        "bytes": version.size_bytes,
        "schema": [asdict(column) for column in version.schema],
        "schema_hash": version.schema_hash,
        "files": [
            {"sha256": file.sha256, "bytes": file.size, "rows": file.rows, "row_groups": file.row_groups}
            for file in version.files
        ],
        "original": asdict(version.original),
        "parent": f"v{version.parent}" if version.parent else None,
        "diff": asdict(version.diff),
        "links": {
            "self": f"/api/datasets/{version.dataset}/versions/{version.name}",
            "file": f"/api/datasets/{version.dataset}/versions/{version.name}/file",
            "rows": f"/api/datasets/{version.dataset}/rows?version={version.name}",
        },
    }


def _sources(column: Column) -> list[str] | None:
    match column.derivation:
        case None:
            return None
        case SizeLabel(source=source) | Lookup(source=source):
            return [source]
        case Product(columns=columns):
            return [source.name for source in columns]
