"""A version's schema: the columns of its record, what its definition says of them, and where that is silent, a guess.

The guesses go by names, types and the number of distinct values; ``Column.role_source`` tells which are guesses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine.definition import ColumnDefinition, DatasetDefinition, DerivedDefinition
from engine.profile import Profile
from engine.store import SchemaField
from queries.schema import (
    Column,
    Derivation,
    Kind,
    Lookup,
    Product,
    Role,
    Schema,
    SizeLabel,
    is_empty_type,
    kind_of,
    parse_size_label,
)

_METRIC_NAMES = ("metric", "metric_name", "tag", "measure_name", "variable")
_VALUE_NAMES = ("value", "metric_value", "score", "measurement", "val")
_SEED_NAMES = ("seed", "random_seed", "run_seed", "train_seed")
_AXIS_NAMES = frozenset(
    """step steps _step global_step train_step tokens n_tokens train_tokens tokens_seen compute flops total_flops epoch
    iteration iter params_numeric params_exact n_params num_params parameters n_parameters total_steps train_time_ms
    wall_time relative_time _runtime _timestamp time timestamp""".split()
)
_ALIASES = {"data": ("data_source",)}  # as the first server's URLs call it
_SIZE_NAMES = ("params", "model_size", "size", "model")


def guess_columns(fields: Sequence[SchemaField], definition: DatasetDefinition) -> tuple[Column, ...]:
    """Columns with roles by name and type alone; text columns count as dimensions until their values are known."""
    kinds = {field.name: kind_of(field.type) for field in fields}
    metric = _long_form(definition, kinds)
    return tuple(_column(field, definition.columns.get(field.name), metric) for field in fields)


def build_schema(dataset: str, definition: DatasetDefinition, columns: Sequence[Column], index: Profile) -> Schema:
    """The schema of an opened version, with sizes recognised and derived columns added."""
    settled = [_settle(column, index) for column in columns]
    names = {column.name.casefold() for column in settled}
    by_name = {column.name: column for column in settled}
    for derived in (*definition.derived, *_inferred(settled, definition)):
        column = _derive(derived, by_name)
        # A physical column of that name wins; and for DuckDB names are the same whatever their case.
        if column is not None and column.name.casefold() not in names:
            names.add(column.name.casefold())
            by_name[column.name] = column
    every = tuple(by_name.values())
    metric = next((column.name for column in every if column.role is Role.METRIC), None)
    return Schema(
        dataset,
        every,
        key=tuple(name for name in definition.key if name in by_name),
        sort=tuple(name for name in definition.sort if name in by_name),
        metric_column=metric if metric and _value_of(every) else None,
        value_column=_value_of(every) if metric else None,
        metrics=definition.metrics,
        index=index,
    )


def _long_form(definition: DatasetDefinition, kinds: dict[str, Kind]) -> tuple[str, str] | None:
    """The names of the metric and the value column, where the columns suggest a table in long form."""
    if any(column.role is Role.METRIC for column in definition.columns.values()):
        return None  # said outright
    metric = next((name for name in _METRIC_NAMES if kinds.get(name) is Kind.STRING), None)
    value = next((name for name in _VALUE_NAMES if name in kinds and kinds[name].is_numeric), None)
    return (metric, value) if metric and value else None


def _column(field: SchemaField, about: ColumnDefinition | None, long_form: tuple[str, str] | None) -> Column:
    about = about or ColumnDefinition()
    return Column(
        field.name,
        field.type,
        role=about.role or _guess(field, long_form),
        nullable=field.nullable,
        unit=about.unit,
        direction=about.direction,
        description=about.description,
        aliases=about.aliases or _ALIASES.get(field.name, ()),
        role_source="definition" if about.role else "inferred",
    )


def _guess(field: SchemaField, long_form: tuple[str, str] | None) -> Role:
    kind, name = kind_of(field.type), field.name.lower()
    if long_form and field.name == long_form[0]:
        return Role.METRIC
    if long_form and field.name == long_form[1]:
        return Role.MEASURE
    if kind in (Kind.INTEGER, Kind.STRING) and name in _SEED_NAMES:
        return Role.SEED
    if kind.is_numeric and name in _AXIS_NAMES:
        return Role.AXIS
    if kind in (Kind.STRING, Kind.BOOLEAN) and not is_empty_type(field.type):
        return Role.DIMENSION
    if kind in (Kind.FLOAT, Kind.DECIMAL):
        return Role.MEASURE
    if kind is Kind.INTEGER and name in _VALUE_NAMES:
        return Role.MEASURE
    return Role.ATTRIBUTE


def _settle(column: Column, index: Profile) -> Column:
    """A text column once its values are known: whether it is a dimension, and whether they are sizes."""
    if column.kind is not Kind.STRING or not (column.role.is_dimension or column.name in _SIZE_NAMES):
        return column
    values = index.values(column.name)
    if values is None:
        return replace(column, role=Role.ATTRIBUTE) if column.role_source == "inferred" else column
    # Most, not all: one "unknown" among the sizes must not turn the others into letters.
    sizes = sum(isinstance(value, str) and parse_size_label(value) is not None for value in values)
    return replace(column, is_size_label=True) if 2 * sizes > len(values) else column


def _inferred(columns: Sequence[Column], definition: DatasetDefinition) -> list[DerivedDefinition]:
    """``params_numeric`` for sizes in ``params``, whatever the definition derives besides."""
    derived = {one.name for one in definition.derived}
    return [
        DerivedDefinition(f"{column.name}_numeric", "size_label", (column.name,))
        for column in columns
        if column.is_size_label and f"{column.name}_numeric" not in derived
    ]


def _derive(derived: DerivedDefinition, by_name: dict[str, Column]) -> Column | None:
    sources = [by_name.get(name) for name in derived.sources]
    if any(source is None for source in sources):
        return None
    derivation: Derivation
    match derived.kind:
        case "size_label":
            derivation, sql_type = SizeLabel(derived.sources[0]), "BIGINT"
        case "lookup":
            whole = all(isinstance(number, int) for _, number in derived.table)
            derivation, sql_type = Lookup(derived.sources[0], derived.table), "BIGINT" if whole else "DOUBLE"
        case _:
            columns = tuple(source for source in sources if source is not None and source.kind.is_numeric)
            if len(columns) != len(sources):
                return None
            derivation, sql_type = Product(columns, derived.factor), "DOUBLE"
    if not isinstance(derivation, Product) and (sources[0] is None or sources[0].kind is not Kind.STRING):
        return None
    about = derived.about
    return Column(
        derived.name,
        sql_type,
        role=about.role or Role.AXIS,
        unit=about.unit or ("parameters" if derived.kind == "size_label" else None),
        description=about.description,
        aliases=about.aliases,
        derivation=derivation,
        role_source="definition" if about.role else "inferred",
    )


def _value_of(columns: Sequence[Column]) -> str | None:
    """The value column of a table in long form: the measure called value, else the first measure."""
    measures = [column.name for column in columns if column.role is Role.MEASURE]
    return next((name for name in _VALUE_NAMES if name in measures), measures[0] if measures else None)
