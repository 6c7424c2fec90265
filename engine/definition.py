"""A dataset's definition, parsed from the text of its ``dataset.toml``. Reads no file and knows no data.

A definition is recorded with each version, and a later release must still serve what an earlier one recorded: what is
not understood is left out and listed in ``problems``, and never an error at this point.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

from queries.schema import MetricInfo, Role

_ROLES = {role.value for role in Role}
_COLUMN_FIELDS = ("role", "unit", "direction", "description", "alias")
_DIRECTIONS = ("lower", "higher")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ColumnDefinition:
    """What a definition says of one column; None and () where it says nothing."""

    role: Role | None = None
    unit: str | None = None
    direction: str | None = None
    description: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DerivedDefinition:
    """A computed column. ``kind`` is ``size_label``, ``lookup`` (with a table) or ``product`` (with a factor)."""

    name: str
    kind: str
    sources: tuple[str, ...]
    table: tuple[tuple[str, int | float], ...] = ()
    factor: float = 1.0
    about: ColumnDefinition = field(default_factory=ColumnDefinition)


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A query with a name: URL parameters, which a request may override. ``dataset`` None is the definition's own."""

    name: str
    title: str
    parameters: tuple[tuple[str, str], ...]
    dataset: str | None = None


@dataclass(frozen=True)
class DatasetDefinition:
    """All that is said about a dataset. An absent definition is one that says nothing."""

    title: str | None = None
    description: str | None = None
    source: str | None = None
    licence: str | None = None
    synthetic: bool | None = None
    key: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    columns: Mapping[str, ColumnDefinition] = field(default_factory=dict)
    metrics: tuple[MetricInfo, ...] = ()
    derived: tuple[DerivedDefinition, ...] = ()
    queries: Mapping[str, NamedQuery] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@lru_cache(maxsize=256)
def parse_definition(text: str | None) -> DatasetDefinition:
    """The definition in a TOML text; an empty one for None."""
    if text is None:
        return DatasetDefinition()
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        return DatasetDefinition(problems=(f"it is not valid TOML: {error}",))
    return _Parser(content).parse()


class _Parser:
    def __init__(self, content: dict[str, Any]) -> None:
        self.content = content
        self.problems: list[str] = []

    def parse(self) -> DatasetDefinition:
        known = {"title", "description", "source", "licence", "license", "synthetic", "key", "sort"}
        known |= {"columns", "metrics", "derived", "queries"}
        for name in [name for name in self.content if name not in known]:
            self.problems.append(f"{name} is not a field of a definition")
        licence = self._text(self.content, "licence") or self._text(self.content, "license")
        return DatasetDefinition(
            title=self._text(self.content, "title"),
            description=self._text(self.content, "description"),
            source=self._text(self.content, "source"),
            licence=licence,
            synthetic=self._flag("synthetic"),
            key=self._texts(self.content, "key"),
            sort=self._texts(self.content, "sort"),
            columns=dict(self._each("columns", self._column)),
            metrics=tuple(info for _, info in self._each("metrics", self._metric)),
            derived=tuple(one for _, one in self._each("derived", self._derived) if one is not None),
            queries=dict(self._each("queries", self._query)),
            problems=tuple(self.problems),
        )

    def _each(self, section: str, parse: Callable[[str, dict[str, Any]], _T]) -> list[tuple[str, _T]]:
        found = self.content.get(section, {})
        if not isinstance(found, dict):
            self.problems.append(f"{section} must be a table")
            return []
        parsed = []
        for name, part in found.items():
            if isinstance(part, dict):
                parsed.append((name, parse(name, part)))
            else:
                self.problems.append(f"{section}.{name} must be a table")
        return parsed

    def _column(self, name: str, part: dict[str, Any]) -> ColumnDefinition:
        for unknown in [key for key in part if key not in _COLUMN_FIELDS]:
            self.problems.append(
                f"columns.{name}: {unknown} is not a field of a column; {', '.join(_COLUMN_FIELDS)} are"
            )
        role = self._text(part, "role")
        if role is not None and role not in _ROLES:
            self.problems.append(f"columns.{name}: role {role!r} is none of {', '.join(sorted(_ROLES))}")
            role = None
        return ColumnDefinition(
            role=Role(role) if role else None,
            unit=self._text(part, "unit"),
            direction=self._direction(f"columns.{name}", part),
            description=self._text(part, "description"),
            aliases=self._texts(part, "alias"),
        )

    def _metric(self, pattern: str, part: dict[str, Any]) -> MetricInfo:
        return MetricInfo(pattern, self._direction(f"metrics.{pattern}", part), self._text(part, "unit"))

    def _derived(self, name: str, part: dict[str, Any]) -> DerivedDefinition | None:
        kind = self._text(part, "kind")
        sources = self._texts(part, "from")
        about = self._column(name, {key: part[key] for key in part.keys() & {"role", "unit", "description", "alias"}})
        if not sources or kind not in ("size_label", "lookup", "product") or (kind != "product" and len(sources) > 1):
            self.problems.append(f"derived.{name}: kind must be size_label, lookup or product, and from name columns")
            return None
        factor, table = part.get("factor", 1.0), part.get("table", {})
        if not _is_number(factor):
            self.problems.append(f"derived.{name}: factor must be a finite number")
            return None
        if kind != "lookup":
            return DerivedDefinition(name, kind, sources, factor=float(factor), about=about)
        if not isinstance(table, dict) or not table or not all(map(_is_number, table.values())):
            self.problems.append(f"derived.{name}: table must give a number for each text")
            return None
        return DerivedDefinition(name, kind, sources, tuple(table.items()), about=about)

    def _query(self, name: str, part: dict[str, Any]) -> NamedQuery:
        parameters = part.get("parameters", {})
        if not isinstance(parameters, dict) or any(isinstance(value, (dict, list)) for value in parameters.values()):
            self.problems.append(f"queries.{name}: parameters must be a table of texts, as in a URL")
            parameters = {}
        return NamedQuery(
            name,
            self._text(part, "title") or name,
            tuple((key, _parameter(value)) for key, value in parameters.items()),
            self._text(part, "dataset"),
        )

    def _direction(self, where: str, part: dict[str, Any]) -> str | None:
        direction = self._text(part, "direction")
        if direction is not None and direction not in _DIRECTIONS:
            self.problems.append(f"{where}: direction {direction!r} is neither lower nor higher")
            return None
        return direction

    def _text(self, part: dict[str, Any], name: str) -> str | None:
        value = part.get(name)
        if value is not None and not isinstance(value, str):
            self.problems.append(f"{name} must be text")
            return None
        return value

    def _texts(self, part: dict[str, Any], name: str) -> tuple[str, ...]:
        value = part.get(name, [])
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.problems.append(f"{name} must be a text or a list of texts")
            return ()
        return tuple(value)

    def _flag(self, name: str) -> bool | None:
        value = self.content.get(name)
        if value is not None and not isinstance(value, bool):
            self.problems.append(f"{name} must be true or false")
            return None
        return value


def _is_number(value: object) -> bool:
    """Whether it is a finite number; an integer of 64 bits, as a column has room for no other."""
    if isinstance(value, int):
        return not isinstance(value, bool) and -(2**63) <= value < 2**63
    return isinstance(value, float) and math.isfinite(value)


def _parameter(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
