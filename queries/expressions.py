"""Small SQL expressions as sqlglot trees: names, parameters, functions, and the expression behind a derived column."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from queries.plan import Slot
from queries.schema import Column, Kind, Product

Expression = exp.Expr  # sqlglot's name for any node


def name(text: str, table: str | None = None) -> Expression:
    """A quoted identifier."""
    return exp.column(
        exp.to_identifier(text, quoted=True), table=exp.to_identifier(table, quoted=True) if table else None
    )


def call(function: str, *arguments: Expression) -> Expression:
    """A function by its DuckDB name, which sqlglot leaves as it is."""
    return exp.Anonymous(this=function, expressions=list(arguments))


def number(value: int) -> Expression:
    return exp.Literal.number(value)


def cast(expression: Expression, sql_type: str) -> Expression:
    return exp.Cast(this=expression, to=exp.DataType.build(sql_type, dialect="duckdb"))


def nan() -> Expression:
    return cast(exp.Literal.string("nan"), "DOUBLE")


def aliased(expression: Expression, alias: str) -> Expression:
    return exp.alias_(expression, exp.to_identifier(alias, quoted=True))


def fresh(wanted: str, taken: Collection[str]) -> str:
    """``wanted``, or something like it that is not taken, whatever the case of its letters."""
    lowered = {text.casefold() for text in taken}
    while wanted.casefold() in lowered:
        wanted += "_"
    return wanted


@dataclass
class Scope:
    """Turns slots into parameters and columns into expressions.

    Parameters are numbered by their first use, so that equal shapes give equal texts; ``slots`` is their order.
    """

    tables: Mapping[str, tuple[Slot, Slot]]
    slots: list[Slot] = field(default_factory=list)

    def parameter(self, slot: Slot) -> Expression:
        if slot not in self.slots:
            self.slots.append(slot)
        return exp.Parameter(this=exp.Literal.number(self.slots.index(slot) + 1))

    def typed(self, slot: Slot, column: Column) -> Expression:
        """A parameter as a value of a column's type, where DuckDB would otherwise compare in a wider one."""
        parameter = self.parameter(slot)
        if column.sql_type == "FLOAT" or column.kind is Kind.INTERVAL:
            return cast(parameter, column.sql_type)
        return parameter

    def value(self, column: Column) -> Expression:
        """What a column holds; for a derived one its definition written out."""
        derivation = column.derivation
        if derivation is None:
            return name(column.name)
        if isinstance(derivation, Product):
            product: Expression = exp.Literal.number(repr(derivation.factor))
            for source in derivation.columns:
                product = exp.Mul(this=product, expression=cast(self.value(source), "DOUBLE"))
            return exp.paren(product)
        return self.lookup(self.tables[column.name], name(derivation.source), column.sql_type)

    def rank(self, column: Column) -> Expression:
        """What a column is ordered by: itself, and for a size label its number."""
        table = self.tables.get(column.labels_of or column.name)
        if column.is_size_label and table is not None:
            return self.lookup(table, self.value(column), "BIGINT")
        return self.value(column)

    def lookup(self, table: tuple[Slot, Slot], text: Expression, sql_type: str) -> Expression:
        """The number that a table has for a text; null where it has none."""
        texts, numbers = table
        position = call("list_position", cast(self.parameter(texts), "VARCHAR[]"), text)
        return call("list_extract", cast(self.parameter(numbers), f"{sql_type}[]"), position)
