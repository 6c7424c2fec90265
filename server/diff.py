"""What changed between two versions, as plain JSON content: of the route and of ``bt diff --json`` alike."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from engine.diff import LargeChange, MetricChange, RowSample, VersionDiff
from engine.result import python_rows
from engine.store import Version
from server.documents import plain


def describe_diff(diff: VersionDiff) -> dict[str, Any]:
    """The whole answer. NaN and infinities are null, and counted in ``nonfinite``."""
    encode = _Encoder()
    schema = diff.schema
    about = {
        "dataset": diff.after.dataset,
        "from": _version(diff.before),
        "to": _version(diff.after),
        "key": list(diff.key),
        "limit": diff.limit,
        "warnings": list(diff.warnings),
    }
    content = {
        "summary": {
            "added": diff.added.total,
            "removed": diff.removed.total,
            "changed": diff.changed.total,
            "unchanged": diff.unchanged,
            "cells": dict(diff.cells),
        },
        "schema": {
            "added": [asdict(one) for one in schema.added],
            "removed": [asdict(one) for one in schema.removed],
            "widened": [asdict(one) for one in schema.widened],
            "retyped": [{**asdict(one), "compared": one.name not in schema.not_compared} for one in schema.retyped],
        },
        "metrics": _listed([_metric(one, encode) for one in diff.metrics], diff.metrics_total),
        "data": [
            {
                "key": encode(key),
                "changes": {
                    name: {"before": encode(before), "after": encode(after)}
                    for name, (before, after) in changes.items()
                },
            }
            for key, changes in diff.changed
        ],
        "total": diff.changed.total,
        "truncated": diff.changed.truncated,
        "added": _rows(diff.added, encode),
        "removed": _rows(diff.removed, encode),
    }
    return {**about, "nonfinite": encode.nonfinite, **content}


class _Encoder:
    """Values of columns as JSON has them; counts the floats that it has not."""

    def __init__(self) -> None:
        self.nonfinite = 0

    def __call__(self, value: Any) -> Any:
        if isinstance(value, float):
            self.nonfinite += not math.isfinite(value)
            return plain(value)
        if isinstance(value, bytes):
            return base64.b64encode(value).decode()
        if isinstance(value, Mapping):
            return {str(key): self(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self(item) for item in value]
        return plain(value)


def _listed(items: list[Any], total: int) -> dict[str, Any]:
    return {"data": items, "total": total, "truncated": len(items) < total}


def _rows(sample: RowSample, encode: _Encoder) -> dict[str, Any]:
    return _listed([encode(row) for row in python_rows(sample.table)], sample.total)


def _metric(one: MetricChange, encode: _Encoder) -> dict[str, Any]:
    counts = {name: getattr(one, name) for name in ("changed", "unchanged", "increased", "decreased", "undefined")}
    if one.metric is not None:
        counts |= {"added": one.added, "removed": one.removed}
    return {
        "metric": encode(one.metric),
        "column": one.column,
        "unit": one.unit,
        "direction": one.direction,
        **counts,
        "mean_abs": encode(one.mean_abs),
        "max_abs": encode(one.max_abs),
        "largest": [_large(change, encode) for change in one.largest],
    }


def _large(change: LargeChange, encode: _Encoder) -> dict[str, Any]:
    return {
        "key": encode(change.key),
        "before": encode(change.before),
        "after": encode(change.after),
        "change": encode(change.change),
    }


def _version(version: Version) -> dict[str, Any]:
    return {"version": version.name, "content_id": version.content_id, "rows": version.rows, "at": version.at}
