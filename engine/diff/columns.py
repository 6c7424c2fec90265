"""Which columns of two versions can be compared, and as what type. Reads no data."""

from __future__ import annotations

import re
from dataclasses import dataclass

from engine.connection import quoted
from engine.diff.result import SchemaChanges
from engine.store import Version
from engine.store.evolution import classify, is_null_type, is_widening
from engine.store.records import diff_schemas
from engine.versions import DatasetVersion
from queries.schema import Column, Kind, kind_of

_TYPE = re.compile(r"[A-Z0-9_]+(?: [A-Z]+)*(?:\(\d+, ?\d+\))?")  # what a cast may name


@dataclass(frozen=True, slots=True)
class Shared:
    """A column of both versions. ``column`` is that of the later one; both are compared as ``compared_as``."""

    column: Column
    before: str
    after: str
    compared_as: str

    @property
    def name(self) -> str:
        return self.column.name

    @property
    def kind(self) -> Kind:
        return kind_of(self.compared_as)

    def sql(self, *, is_after: bool) -> str:
        """The column of one side as the type to compare in."""
        own = self.after if is_after else self.before
        if own == self.compared_as or is_null_type(own):
            return quoted(self.name)
        return f"CAST({quoted(self.name)} AS {self.compared_as})"


def common_type(before: str, after: str) -> str | None:
    """The type in which values of both types can be compared without loss; None when there is none."""
    if before == after:
        return after
    if before.startswith("ENUM(") and after.startswith("ENUM("):
        return "VARCHAR"
    wider = after if is_widening(before, after) else before if is_widening(after, before) else None
    if wider is None or is_null_type(before) or is_null_type(after):  # nothing is cast
        return wider
    return wider if _TYPE.fullmatch(wider) else None


def shared_columns(before: DatasetVersion, after: DatasetVersion) -> tuple[Shared, ...]:
    """The columns that can be compared, in the order of the later version."""
    old = {field.name: field.type for field in before.version.schema}
    found = []
    for field in after.version.schema:
        common = common_type(old[field.name], field.type) if field.name in old else None
        if common is not None:
            found.append(Shared(after.schema.by_name[field.name], old[field.name], field.type, common))
    return tuple(found)


def schema_changes(before: Version, after: Version) -> SchemaChanges:
    """How the columns differ."""
    diff = diff_schemas(before.schema, after.schema)
    new = {field.name: field for field in after.schema}
    old = {field.name: field for field in before.schema}
    widened = tuple(change for change in diff.retyped if classify(change) == "widened")
    return SchemaChanges(
        added=tuple(new[name] for name in diff.added),
        removed=tuple(old[name] for name in diff.removed),
        widened=widened,
        retyped=tuple(change for change in diff.retyped if change not in widened),
        not_compared=tuple(change.name for change in diff.retyped if common_type(change.before, change.after) is None),
    )
