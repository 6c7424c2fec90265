"""Columns, kinds, size labels, and what a schema finds under a name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from queries.schema import Column, Kind, MetricInfo, Role, Schema, SizeLabel, kind_of, parse_size_label
from tests.queries.support import LONG, METRICS, WIDE, Values


@pytest.mark.parametrize(
    "sql_type, kind",
    [
        ("BIGINT", Kind.INTEGER),
        ("uhugeint", Kind.INTEGER),
        ("FLOAT", Kind.FLOAT),
        ("DECIMAL(18,3)", Kind.DECIMAL),
        ("VARCHAR", Kind.STRING),
        ("ENUM('a', 'b')", Kind.STRING),
        ("TIMESTAMP_NS", Kind.TIMESTAMP),
        ("TIMESTAMP WITH TIME ZONE", Kind.TIMESTAMPTZ),
        ("BLOB", Kind.BLOB),
        ("VARCHAR[]", Kind.NESTED),
        ("DOUBLE[3]", Kind.NESTED),
        ("STRUCT(a INTEGER, b VARCHAR)", Kind.NESTED),
        ("MAP(VARCHAR, INTEGER)", Kind.NESTED),
        ("VARIANT", Kind.NESTED),
    ],
)
def test_kinds(sql_type: str, kind: Kind) -> None:
    assert kind_of(sql_type) is kind
    assert Column("x", sql_type).kind is kind


@pytest.mark.parametrize(
    "text, number",
    [
        ("60M", 60_000_000),
        ("60m", 60_000_000),
        ("1.4B", 1_400_000_000),
        ("6.9b", 6_900_000_000),
        (" 2.8 B ", 2_800_000_000),
        (".5K", 500),
        ("1.T", 10**12),
        ("0M", 0),
        ("9223372036854T", None),  # beyond 64 bits
        ("9223372T", 9_223_372 * 10**12),
        ("60", None),
        ("M", None),
        ("60MB", None),
        ("-60M", None),
        ("1e3M", None),
        ("60M model", None),
        ("", None),
        ("1" * 400 + "M", None),
    ],
)
def test_size_labels(text: str, number: int | None) -> None:
    assert parse_size_label(text) == number


def test_a_name_goes_before_an_alias() -> None:
    schema = Schema("x", (Column("a", "BIGINT", aliases=("b", "c")), Column("b", "BIGINT", aliases=("c",))))
    assert [found.name if (found := schema.find(name)) else None for name in "abcd"] == ["a", "b", "a", None]


def test_the_ordinal_has_a_name_of_its_own() -> None:
    assert LONG.ordinal == "_ordinal"
    assert WIDE.ordinal == "_ordinal_"
    assert Schema("x", (Column("_Ordinal", "BIGINT"), Column("_ordinal_", "BIGINT"))).ordinal == "_ordinal__"


def test_physical_columns_stand_before_derived_ones() -> None:
    assert [column.name for column in LONG.columns][: len(LONG.physical)] == [one.name for one in LONG.physical]
    assert {column.name for column in LONG.columns} - {one.name for one in LONG.physical} == {
        "params_numeric", "params_exact", "compute"
    }  # fmt: skip


@pytest.mark.parametrize(
    "columns, step",
    [
        ((Column("tokens", "BIGINT", Role.AXIS), Column("step", "BIGINT")), "step"),
        ((Column("compute", "DOUBLE", Role.AXIS), Column("tokens", "BIGINT", Role.AXIS)), "tokens"),
        ((Column("compute", "DOUBLE", Role.AXIS), Column("x", "BIGINT", Role.AXIS)), "compute"),
        ((Column("batch", "BIGINT", Role.AXIS, aliases=("step",)), Column("tokens", "BIGINT", Role.AXIS)), "batch"),
        ((Column("step", "BIGINT[]"), Column("epoch", "BIGINT")), "epoch"),
        ((Column("value", "DOUBLE", Role.MEASURE),), None),
    ],
)
def test_what_grows_during_training(columns: tuple[Column, ...], step: str | None) -> None:
    found = Schema("x", columns).step
    assert (found.name if found else None) == step


def test_metrics() -> None:
    assert LONG.metric_names() == METRICS
    assert WIDE.metric_names() == frozenset()
    exact = replace(LONG, metrics=(MetricInfo("pile-*", "lower"), MetricInfo("pile-valppl", "higher")))
    assert exact.metric_info("pile-valppl") == MetricInfo("pile-valppl", "higher")
    assert exact.metric_info("pile-x") == MetricInfo("pile-*", "lower")
    assert exact.metric_info("Pile-x") is None


def test_values_are_those_of_physical_columns() -> None:
    assert LONG.values_of(LONG.by_name["data"]) is not None
    derived = LONG.by_name["params_numeric"]
    assert LONG.values_of(derived) is None
    assert LONG.values_of(replace(derived, derivation=None)) is None  # as after a group_by
    assert LONG.values_of(Column("agg_0", "VARCHAR", Role.DIMENSION)) is None
    assert WIDE.values_of(WIDE.by_name["name"]) is None  # nobody to ask


class TestPivotIndex:
    def index(self, schema: Schema, by: str, cell: str = "value") -> list[str]:
        return [column.name for column in schema.pivot_index(schema.by_name[by], schema.by_name[cell])]

    def test_the_key_and_what_follows_from_it(self) -> None:
        assert self.index(LONG, "metric") == ["params", "data", "seed", "step", "tokens"]
        assert self.index(LONG, "params") == ["data", "seed", "step", "tokens", "metric"]

    def test_a_derived_column_stands_for_its_source(self) -> None:
        assert self.index(LONG, "params_numeric") == ["data", "seed", "step", "tokens", "metric"]

    def test_the_cell_is_no_part_of_it(self) -> None:
        assert "step" not in self.index(LONG, "metric", "step")

    def test_without_a_key_all_dimensions_and_axes(self) -> None:
        schema = replace(LONG, index=Values({}, ()))
        assert self.index(schema, "metric") == ["params", "data", "seed", "step", "tokens"]

    def test_without_data_too(self) -> None:
        schema = replace(LONG, index=None)
        assert self.index(schema, "metric") == ["params", "data", "seed", "step", "tokens"]

    def test_what_changes_with_the_pivot_would_split_each_row(self) -> None:
        columns = (
            Column("params", "VARCHAR", Role.DIMENSION),
            Column("params_numeric", "BIGINT", Role.AXIS),
            Column("step", "BIGINT", Role.AXIS),
            Column("compute", "DOUBLE", Role.AXIS),
            Column("value", "DOUBLE", Role.MEASURE),
        )

        class Data(Values):
            def determined_by(self, keys: object, columns: object) -> frozenset[str]:
                assert isinstance(keys, list) and isinstance(columns, list)
                follows = {("params",): {"params_numeric"}, ("step",): set()}[tuple(keys)]
                return frozenset(follows & set(columns))

        schema = Schema("x", columns, index=Data({}, ("params", "params_numeric", "step")))
        assert self.index(schema, "params") == ["step"]


def test_columns_compare_by_all_they_are() -> None:
    assert Column("a", "BIGINT") == Column("a", "BIGINT")
    assert Column("a", "BIGINT") != Column("a", "BIGINT", derivation=SizeLabel("b"))
