"""What changed between two versions of a dataset: columns, rows by key, and the largest changes of each metric."""

from engine.diff.comparison import MAX_LIMIT, Comparison, resolve_pair
from engine.diff.result import ChangedRows, LargeChange, MetricChange, RowSample, SchemaChanges, VersionDiff

__all__ = [
    "MAX_LIMIT",
    "ChangedRows",
    "Comparison",
    "LargeChange",
    "MetricChange",
    "RowSample",
    "SchemaChanges",
    "VersionDiff",
    "resolve_pair",
]
