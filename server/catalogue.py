"""What the catalogue says of a dataset, a version, a column, as plain JSON content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from engine.definition import parse_definition
from engine.engine import Engine
from engine.store import DatasetState, Version
from engine.store.state import Event, Mark
from engine.summary import ColumnSummary
from queries.schema import Column, Lookup, Product, SizeLabel
from server.documents import plain

if TYPE_CHECKING:
    from engine.store.publish import PublishPlan


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
        "versions": len(state.live),
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
        "versions": [listed.name for listed in reversed(state.live)],
        "tags": {tag: f"v{number}" for tag, number in state.tags},
        "yanked": [f"v{mark.version}" for mark in state.yanked],
        "expired": [f"v{mark.version}" for mark in state.expired],
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
    """What never changes about a version; what may is for ``describe_status``."""
    link = version_link(version)
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
            {
                "sha256": file.sha256,
                "bytes": file.size,
                "rows": file.rows,
                "row_groups": file.row_groups,
                "link": file_link(version, part),
            }
            for part, file in enumerate(version.files, 1)
        ],
        "sorted_by": list(version.sorted_by),
        "original": asdict(version.original),
        "parent": f"v{version.parent}" if version.parent else None,
        "diff": asdict(version.diff),
        "links": {
            "self": link,
            "file": f"{link}/file",
            "rows": f"/api/datasets/{version.dataset}/rows?version={version.name}",
        },
    }


def version_link(version: Version) -> str:
    """Where a version is described."""
    return f"/api/datasets/{version.dataset}/versions/{version.name}"


def file_link(version: Version, part: int) -> str:
    """Where one of a version's files is, counted from 1."""
    return f"{version_link(version)}/file" + (f"?part={part}" if len(version.files) > 1 else "")


def describe_status(version: Version, state: DatasetState) -> dict[str, Any]:
    """What may change about a version, so that no document may say it which is kept for ever."""
    return {
        "latest": version == state.current,
        "tags": list(state.tags_of(version.number)),
        "yanked": _mark(state.yanked, version),
        "expired": _mark(state.expired, version),
    }


def _mark(marks: Sequence[Mark], version: Version) -> dict[str, Any] | None:
    found = next((mark for mark in marks if mark.version == version.number), None)
    return None if found is None else {"at": found.at, "by": found.by, "message": found.message}


def describe_event(event: Event) -> dict[str, Any]:
    """One entry of a history. ``detail`` is a tag, a dropped file with what is wrong with it, or a list of versions."""
    return {
        "seq": event.seq,
        "at": event.at,
        "by": event.by,
        "kind": event.kind,
        "version": None if event.target is None else f"v{event.target}",
        "detail": event.detail,
        "message": event.message,
    }


def describe_plan(plan: PublishPlan) -> dict[str, Any]:
    """What publishing a file would do. ``kind`` is ``new``, ``same`` or ``refused``."""
    current = plan.current
    return {
        "dataset": plan.dataset,
        "dry_run": True,
        "kind": plan.kind,
        "reason": plan.reason,
        "version": plan.version.name if plan.version else None,
        "latest": current.name if current else None,
        "original": asdict(plan.original),
        "schema": [asdict(column) for column in plan.schema],
        "diff": asdict(plan.diff),
        "rows": plan.rows,
        "rows_before": current.rows if current else None,
        "bytes": plan.size_bytes,
        "bytes_before": current.size_bytes if current else None,
        "files": [{"bytes": size, "rows": rows} for size, rows in plan.files],
        "sorted_by": list(plan.sorted_by),
        "reordered": plan.moved,
        "warnings": list(plan.warnings),
    }


def _sources(column: Column) -> list[str] | None:
    match column.derivation:
        case None:
            return None
        case SizeLabel(source=source) | Lookup(source=source):
            return [source]
        case Product(columns=columns):
            return [source.name for source in columns]
