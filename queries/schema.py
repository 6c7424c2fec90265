"""All that the planner knows of a version: its columns, their types and roles, and the values of its dimensions.

Nothing here reads a file; the engine builds a :class:`Schema` from a version's record and definition.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import Protocol

from queries.errors import UnknownColumnError, nearest


class Kind(enum.StrEnum):
    """What one can do with a column's values."""

    __hash__ = str.__hash__  # an Enum's own is a function in Python, and each request asks for many

    INTEGER = "integer"
    FLOAT = "float"
    DECIMAL = "decimal"
    BOOLEAN = "boolean"
    STRING = "string"
    DATE = "date"
    TIMESTAMP = "timestamp"
    TIMESTAMPTZ = "timestamptz"
    TIME = "time"
    UUID = "uuid"
    INTERVAL = "interval"
    BLOB = "blob"
    NESTED = "nested"

    @property
    def is_numeric(self) -> bool:
        return self in (Kind.INTEGER, Kind.FLOAT, Kind.DECIMAL)

    @property
    def is_ordered(self) -> bool:
        """Whether values have an order that a filter, a sort or ``min`` may use."""
        return self not in (Kind.BLOB, Kind.NESTED)


class Role(enum.StrEnum):
    """What a column is for."""

    __hash__ = str.__hash__  # an Enum's own is a function in Python, and each request asks for many

    DIMENSION = "dimension"  # filtered and grouped by
    AXIS = "axis"  # plotted along: step, tokens, compute, parameters as a number
    MEASURE = "measure"  # a value
    METRIC = "metric"  # the dimension of a long table that names what `value` measures
    SEED = "seed"  # the dimension that tells repeated runs apart
    ATTRIBUTE = "attribute"  # anything else: texts, times, nested values

    @property
    def is_dimension(self) -> bool:
        return self in (Role.DIMENSION, Role.METRIC, Role.SEED)


_INTEGERS = frozenset("TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT".split())
_KINDS = {
    "FLOAT": Kind.FLOAT,
    "DOUBLE": Kind.FLOAT,
    "BOOLEAN": Kind.BOOLEAN,
    "VARCHAR": Kind.STRING,
    "DATE": Kind.DATE,
    "TIMESTAMP": Kind.TIMESTAMP,
    "TIMESTAMP_S": Kind.TIMESTAMP,
    "TIMESTAMP_MS": Kind.TIMESTAMP,
    "TIMESTAMP_NS": Kind.TIMESTAMP,
    "TIMESTAMP WITH TIME ZONE": Kind.TIMESTAMPTZ,
    "TIME": Kind.TIME,
    "TIME_NS": Kind.TIME,
    "UUID": Kind.UUID,
    "INTERVAL": Kind.INTERVAL,
    "BLOB": Kind.BLOB,
}


def is_empty_type(sql_type: str) -> bool:
    """Whether a type is that of a column that holds nothing but null."""
    return sql_type.strip('"').upper() == "NULL"


@lru_cache(maxsize=1024)  # each column of each request asks, and there are few types
def kind_of(sql_type: str) -> Kind:
    """The kind of a DuckDB type name such as ``BIGINT``, ``DECIMAL(10,2)`` or ``STRUCT(a INTEGER)[]``.

    A type that is not known (a map, a union, one of a later release) counts as nested: it can be selected and tested
    for null, and nothing else.
    """
    name = sql_type.upper().strip()
    if name.endswith("]"):
        return Kind.NESTED
    if is_empty_type(name):
        return Kind.STRING
    if name in _INTEGERS:
        return Kind.INTEGER
    if name.startswith("DECIMAL("):
        return Kind.DECIMAL
    if name.startswith("ENUM("):
        return Kind.STRING
    return _KINDS.get(name, Kind.NESTED)


_SIZE_LABEL = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([KMBT])\s*", re.IGNORECASE)
_LONGEST_LABEL = 32  # characters; a longer text is no label, and could be a number that no float holds
_SIZE_FACTOR = {"K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}


def parse_size_label(text: str) -> int | None:
    """The number that a size label stands for: ``60M`` is 60 000 000, ``1.4b`` is 1 400 000 000; else None.

    Rounded to the nearest integer, so that ``1.4B`` does not suffer from the binary fraction of 1.4. A number beyond
    64 bits is the size of nothing.
    """
    return _parse_short(text) if len(text) <= _LONGEST_LABEL else None


@lru_cache(maxsize=4096)
def _parse_short(text: str) -> int | None:
    match = _SIZE_LABEL.fullmatch(text)
    if match is None:
        return None
    number = float(match[1]) * _SIZE_FACTOR[match[2].upper()]
    return round(number) if number < 2**63 else None


@dataclass(frozen=True, slots=True)
class SizeLabel:
    """Derives the number behind a size label (``60M``) in column ``source``; null where it is no label."""

    source: str


@dataclass(frozen=True, slots=True)
class Lookup:
    """Derives a number from a table keyed by the text in column ``source``; null where the table has no entry."""

    source: str
    table: tuple[tuple[str, int | float], ...]


@dataclass(frozen=True, slots=True)
class Product:
    """Derives ``factor`` times the product of numeric columns, physical or derived; null where one of them is null."""

    columns: tuple[Column, ...]
    factor: float = 1.0


Derivation = SizeLabel | Lookup | Product


@dataclass(frozen=True, slots=True)
class Column:
    """One physical or derived column.

    ``sql_type`` is the DuckDB type name. ``is_size_label`` says that every non-null text in the column is a size
    label, so that comparisons and sorts go by the number and not by the letters. ``is_finite`` says that a column of
    floats is known to hold neither NaN nor infinities, so that SQL need not look for them.
    """

    name: str
    sql_type: str
    role: Role = Role.ATTRIBUTE
    nullable: bool = True
    unit: str | None = None
    direction: str | None = None  # "lower" or "higher" is better
    description: str | None = None
    aliases: tuple[str, ...] = ()
    derivation: Derivation | None = None
    is_size_label: bool = False
    labels_of: str | None = None  # of an aggregate that is a size label: the column whose labels these are
    role_source: str = "inferred"  # or "definition"
    is_finite: bool = False

    def __hash__(self) -> int:
        return hash(self.name)  # equal columns have equal names, and a plan is hashed with all columns in it

    @property
    def kind(self) -> Kind:
        return kind_of(self.sql_type)

    @property
    def may_be_nan(self) -> bool:
        """Whether a value may be NaN, or infinite."""
        return self.kind is Kind.FLOAT and not self.is_finite

    @property
    def computed(self) -> Column:
        """The column at a later stage of a query, where its value stands under its name."""
        return replace(self, derivation=None)


class ValueIndex(Protocol):
    """What the planner may ask about the data itself. The engine answers from the immutable version, and caches."""

    def values(self, column: str) -> frozenset[object] | None:
        """The distinct non-null values of a physical column; None when there are too many to list."""

    def key(self) -> tuple[str, ...]:
        """Columns that tell all rows apart, as the data has it: those that the definition names, or the fewest found.

        () when there are none.
        """

    def determined_by(self, keys: Sequence[str], columns: Sequence[str]) -> frozenset[str]:
        """Those of ``columns`` that hold one value (or only null) for each combination of ``keys``."""


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """Unit and direction of the metrics whose names match a glob."""

    pattern: str
    direction: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True)
class Sizes:
    """The texts in a column of size labels. Lists, as parameters of SQL are; nobody changes them.

    ``texts`` are those that are labels, in order, and ``numbers`` what they stand for. ``spelled`` has all texts by
    their number, and those that are no labels by themselves.
    """

    texts: list[str]
    numbers: list[int]
    spelled: Mapping[object, Sequence[str]]

    @classmethod
    def of(cls, values: Iterable[object]) -> Sizes:
        texts = sorted(str(value) for value in values)
        pairs = [(text, number) for text in texts if (number := parse_size_label(text)) is not None]
        spelled: dict[object, list[str]] = {}
        for text in texts:
            spelled.setdefault(size_of(text), []).append(text)
        return cls([text for text, _ in pairs], [number for _, number in pairs], spelled)


def size_of(value: object) -> object:
    """A size label as the number it stands for; else the value itself."""
    number = parse_size_label(value) if isinstance(value, str) else None
    return value if number is None else number


_STEPS = ("step", "_step", "global_step", "steps", "iteration", "iter", "tokens", "epoch")


@dataclass(frozen=True)
class Schema:
    """The columns of a version in file order, derived columns last, and how they relate.

    ``key`` names the columns that the definition says identify a row, ``()`` when it says nothing. ``metric_column``
    and ``value_column`` are set for a table in long form only. ``is_in_order`` says that the relation gives its rows in
    the order of their ordinals; else that has to be asked for.
    """

    dataset: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    metric_column: str | None = None
    value_column: str | None = None
    metrics: tuple[MetricInfo, ...] = ()
    is_in_order: bool = True
    index: ValueIndex | None = field(default=None, compare=False, repr=False)

    @cached_property
    def identity(self) -> object:
        """What stands for this schema in the key of a cache: it is hashed at once, and does not keep the schema."""
        return object()

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        return {column.name: column for column in self.columns}

    @cached_property
    def by_alias(self) -> Mapping[str, Column]:
        """Aliases only; a column's own name always wins over another column's alias."""
        found: dict[str, Column] = {}
        for column in self.columns:
            for alias in column.aliases:
                if alias not in self.by_name:
                    found.setdefault(alias, column)
        return found

    @cached_property
    def physical(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.derivation is None)

    @cached_property
    def measures(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.role is Role.MEASURE)

    @cached_property
    def seed(self) -> Column | None:
        return next((column for column in self.columns if column.role is Role.SEED), None)

    @cached_property
    def ordinal(self) -> str:
        """A name that no column has, for the place of each row in what was published, from 0."""
        taken = {column.name.casefold() for column in self.columns}
        name = "_ordinal"
        while name in taken:
            name += "_"
        return name

    @cached_property
    def step(self) -> Column | None:
        """The column that grows during training: the one called step, else the first axis along it."""
        axes = [column for column in self.columns if column.role is Role.AXIS]
        named = [column for name in _STEPS if (column := self.find(name)) is not None and column.kind.is_ordered]
        return named[0] if named else axes[0] if axes else None

    def pivot_index(self, column: Column, cell: Column) -> tuple[Column, ...]:
        """The columns that a row of a pivot keeps when none are selected: what identifies it, and what follows.

        Of the axes and dimensions, those that the pivot column alone decides (``params_numeric`` under
        ``pivot=params``) would split each row, and so would those that change with it (compute).
        """
        others = [
            one
            for one in self.physical
            if (one.role.is_dimension or one.role is Role.AXIS) and one.kind.is_ordered and one not in (column, cell)
        ]
        if self.index is None:
            return tuple(others)
        source = column.derivation.source if isinstance(column.derivation, (SizeLabel, Lookup)) else column.name
        key = self.index.key()
        decided: frozenset[str] = frozenset()
        if not isinstance(column.derivation, Product):  # a product decides none of its factors
            decided = self.index.determined_by([source], [name for name in key if name != source])
        base = [name for name in key if name not in (source, column.name, cell.name) and name not in decided]
        if not key:
            base = [one.name for one in others if one.name != source]
        rest = [one.name for one in others if one.name not in base and one.name != source]
        kept = {*base, *self.index.determined_by(base, rest)}
        return tuple(one for one in self.physical if one.name in kept)

    def find(self, name: str) -> Column | None:
        """The column of that name or alias."""
        return self.by_name.get(name) or self.by_alias.get(name)

    def require(self, name: str, param: str) -> Column:
        """The column of that name or alias; raises UnknownColumnError, naming ``param`` as where it was given."""
        column = self.find(name)
        if column is None:
            raise UnknownColumnError(
                f"{self.dataset} has no column {name!r}",
                param=param,
                value=name,
                did_you_mean=nearest(name, [*self.by_name, *self.by_alias]),
            )
        return column

    def values_of(self, column: Column) -> frozenset[object] | None:
        """The distinct values of a physical column; None when they are not known, or too many to list."""
        name = column.name
        if name not in self._values:
            own = self.by_name.get(name)  # a column of a later stage may no longer say that it is derived
            if self.index is None or own is None or own.derivation is not None:
                return None
            self._values[name] = self.index.values(name)
        return self._values[name]

    @cached_property
    def _values(self) -> dict[str, frozenset[object] | None]:
        return {}

    def sizes_of(self, name: str) -> Sizes:
        """The texts in a column of size labels; none where they are not known, or the column is not there."""
        sizes = self._sizes.get(name)
        if sizes is None:
            column = self.by_name.get(name)
            sizes = Sizes.of(() if column is None else self.values_of(column) or ())
            self._sizes[name] = sizes
        return sizes

    @cached_property
    def _sizes(self) -> dict[str, Sizes]:
        return {}

    def metric_names(self) -> frozenset[object]:
        """The metrics of a long table; empty for a wide one."""
        if self.metric_column is None:
            return frozenset()
        return self.values_of(self.by_name[self.metric_column]) or frozenset()

    def metric_info(self, metric: str) -> MetricInfo | None:
        """Unit and direction of one metric of a long table: an exact name wins, then the first glob that matches."""
        if metric in self._infos:
            return self._infos[metric]
        info = self._matching_info(metric)
        if metric in self.metric_names():  # of which there are not too many, unlike of what somebody asks for
            self._infos[metric] = info
        return info

    @cached_property
    def _infos(self) -> dict[str, MetricInfo | None]:
        return {}

    def _matching_info(self, metric: str) -> MetricInfo | None:
        exact = next((info for info in self.metrics if info.pattern == metric), None)
        return exact or next((info for info in self.metrics if fnmatchcase(metric, info.pattern)), None)
