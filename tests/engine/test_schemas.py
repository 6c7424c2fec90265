"""Roles guessed and said, long form found, sizes recognised, derived columns added."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from engine.definition import parse_definition
from engine.schemas import build_schema, guess_columns
from engine.store import SchemaField
from queries.schema import Lookup, Product, Role, Schema, SizeLabel


class Values:
    """The profile of a version, as far as a schema asks for it when it is built."""

    def __init__(self, values: dict[str, Sequence[object] | None]) -> None:
        self._values = values

    def values(self, column: str) -> frozenset[object] | None:
        found = self._values.get(column, ("x", "y"))
        return None if found is None else frozenset(found)


def schema_of(
    columns: dict[str, str], definition: str = "", values: dict[str, Sequence[object] | None] | None = None
) -> Schema:
    parsed = parse_definition(definition)
    assert parsed.problems == ()
    fields = [SchemaField(name, sql_type, True) for name, sql_type in columns.items()]
    profile = Values(values or {})
    return build_schema("x", parsed, guess_columns(fields, parsed), profile)  # type: ignore[arg-type]


def roles(schema: Schema) -> dict[str, str]:
    return {column.name: column.role.value for column in schema.columns}


LONG = {"params": "VARCHAR", "step": "BIGINT", "metric": "VARCHAR", "value": "DOUBLE"}


def test_long_form() -> None:
    schema = schema_of(LONG)
    assert roles(schema) == {"params": "dimension", "step": "axis", "metric": "metric", "value": "measure"}
    assert (schema.metric_column, schema.value_column) == ("metric", "value")
    assert {column.role_source for column in schema.columns} == {"inferred"}


@pytest.mark.parametrize(
    "columns, long_form",
    [
        ({"metric_name": "VARCHAR", "score": "FLOAT"}, ("metric_name", "score")),
        ({"variable": "VARCHAR", "value": "BIGINT"}, ("variable", "value")),
        ({"tag": "VARCHAR", "value": "DOUBLE", "stderr": "DOUBLE"}, ("tag", "value")),
        ({"metric": "VARCHAR", "accuracy": "DOUBLE"}, (None, None)),
        ({"metric": "BIGINT", "value": "DOUBLE"}, (None, None)),
        ({"metric": "VARCHAR", "value": "VARCHAR"}, (None, None)),
        ({"loss": "DOUBLE", "value": "DOUBLE"}, (None, None)),
    ],
)
def test_what_looks_like_long_form(columns: dict[str, str], long_form: tuple[str | None, str | None]) -> None:
    schema = schema_of(columns)
    assert (schema.metric_column, schema.value_column) == long_form


def test_a_definition_says_which_column_is_the_metric() -> None:
    definition = "columns.what.role = 'metric'\ncolumns.much.role = 'measure'\n"
    schema = schema_of({**LONG, "what": "VARCHAR", "much": "DOUBLE"}, definition)
    assert schema.metric_column == "what"
    assert roles(schema)["metric"] == "dimension"
    assert schema.value_column == "value"  # the measure of that name goes first
    without = schema_of({"what": "VARCHAR", "n": "DOUBLE", "much": "FLOAT"}, definition + "columns.n.role = 'axis'")
    assert without.value_column == "much"


def test_a_metric_without_a_measure_is_no_long_form() -> None:
    schema = schema_of({"what": "VARCHAR", "n": "BIGINT"}, "columns.what.role = 'metric'")
    assert (schema.metric_column, schema.value_column) == (None, None)


@pytest.mark.parametrize(
    "name, sql_type, role",
    [
        ("seed", "INTEGER", "seed"),
        ("seed", "DOUBLE", "measure"),
        ("Step", "BIGINT", "axis"),
        ("total_flops", "DOUBLE", "axis"),
        ("tokens", "VARCHAR", "dimension"),
        ("optimiser", "VARCHAR", "dimension"),
        ("done", "BOOLEAN", "dimension"),
        ("loss", "FLOAT", "measure"),
        ("price", "DECIMAL(10,2)", "measure"),
        ("rank", "BIGINT", "attribute"),
        ("score", "BIGINT", "measure"),
        ("at", "TIMESTAMP", "attribute"),
        ("flags", "VARCHAR[]", "attribute"),
        ("raw", "BLOB", "attribute"),
    ],
)
def test_guesses(name: str, sql_type: str, role: str) -> None:
    (column,) = schema_of({name: sql_type}).columns
    assert (column.role.value, column.role_source) == (role, "inferred")


def test_a_definition_goes_before_a_guess() -> None:
    schema = schema_of(
        {"rank": "BIGINT", "loss": "DOUBLE"},
        "[columns.rank]\nrole = 'dimension'\nunit = 'u'\nalias = ['place']\n[columns.loss]\ndirection = 'lower'\n",
    )
    rank, loss = schema.columns
    assert (rank.role, rank.role_source, rank.unit, rank.aliases) == (Role.DIMENSION, "definition", "u", ("place",))
    assert (loss.role, loss.role_source, loss.direction) == (Role.MEASURE, "inferred", "lower")


def test_a_text_of_too_many_values_is_no_dimension() -> None:
    schema = schema_of({"note": "VARCHAR"}, values={"note": None})
    assert roles(schema) == {"note": "attribute"}
    said = schema_of({"note": "VARCHAR"}, "columns.note.role = 'dimension'", {"note": None})
    assert roles(said) == {"note": "dimension"}


@pytest.mark.parametrize(
    "values, is_size",
    [
        (("60M", "1.4B", "4m"), True),
        (("60M",), True),
        (("60M", "large"), False),
        (("60M", "1.4B", "unknown"), True),
        ((), False),
        (None, False),
        (("60M", "99999999999T"), False),
    ],
)
def test_sizes(values: Sequence[object] | None, is_size: bool) -> None:
    schema = schema_of({"params": "VARCHAR"}, values={"params": values})
    assert schema.by_name["params"].is_size_label is is_size
    assert ("params_numeric" in schema.by_name) is is_size
    if is_size:
        derived = schema.by_name["params_numeric"]
        assert (derived.role, derived.sql_type, derived.unit) == (Role.AXIS, "BIGINT", "parameters")
        assert derived.derivation == SizeLabel("params")


def test_a_physical_column_of_that_name_wins() -> None:
    values = {"params": ("60M",)}
    schema = schema_of({"params": "VARCHAR", "Params_Numeric": "DOUBLE"}, values=values)
    assert [column.name for column in schema.columns] == ["params", "Params_Numeric"]
    definition = "[derived.params_numeric]\nkind = 'size_label'\nfrom = 'params'\n"
    schema = schema_of({"params": "VARCHAR", "params_numeric": "DOUBLE"}, definition, values)
    assert schema.by_name["params_numeric"].derivation is None


DERIVED = """
[derived.exact]
kind = "lookup"
from = "params"
role = "dimension"
description = "Exact"
alias = "n"
table = { "60M" = 57078144, "1B" = 1176832000 }
[derived.half]
kind = "lookup"
from = "params"
table = { "60M" = 0.5 }
[derived.compute]
kind = "product"
from = ["exact", "tokens"]
factor = 6
[derived.of_nothing]
kind = "product"
from = ["missing"]
[derived.of_text]
kind = "product"
from = ["params", "tokens"]
[derived.of_number]
kind = "size_label"
from = "tokens"
[derived.of_itself]
kind = "product"
from = "of_itself"
"""


def test_derived_columns() -> None:
    schema = schema_of({"params": "VARCHAR", "tokens": "BIGINT"}, DERIVED, {"params": ("60M", "1B")})
    derived = {column.name: column for column in schema.columns if column.derivation is not None}
    assert set(derived) == {"exact", "half", "compute", "params_numeric"}  # what lacks a fitting source is left out
    exact, half, compute = derived["exact"], derived["half"], derived["compute"]
    assert exact.derivation == Lookup("params", (("60M", 57_078_144), ("1B", 1_176_832_000)))
    assert (exact.sql_type, exact.role, exact.role_source) == ("BIGINT", Role.DIMENSION, "definition")
    assert (exact.description, exact.aliases) == ("Exact", ("n",))
    assert half.sql_type == "DOUBLE"
    assert compute.derivation == Product((exact, schema.by_name["tokens"]), 6.0)
    assert compute.sql_type == "DOUBLE"


def test_keys_that_are_not_there() -> None:
    schema = schema_of(LONG, "key = ['params', 'gone', 'step']\nsort = ['gone', 'metric']")
    assert (schema.key, schema.sort) == (("params", "step"), ("metric",))
