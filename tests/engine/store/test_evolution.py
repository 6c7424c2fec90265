"""Which changes of a column's type leave every value as it was."""

from __future__ import annotations

import duckdb
import pytest

from engine.store.evolution import classify, is_widening
from engine.store.records import Retyped, SchemaDiff

WIDER = {
    "TINYINT": ["SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL(10,2)"],
    "INTEGER": ["BIGINT", "HUGEINT", "DOUBLE", "DECIMAL(10,0)"],
    "BIGINT": ["HUGEINT"],
    "UTINYINT": ["SMALLINT", "USMALLINT", "UBIGINT", "FLOAT"],
    "UINTEGER": ["BIGINT", "UBIGINT", "DOUBLE"],
    "UBIGINT": ["HUGEINT", "UHUGEINT"],
    "FLOAT": ["DOUBLE"],
    "DATE": ["TIMESTAMP"],
    "DECIMAL(10,2)": ["DECIMAL(11,3)", "DECIMAL(12,2)"],
    '"NULL"': ["VARCHAR", "DOUBLE", "INTEGER[]"],
    "ENUM('a', 'b')": ["VARCHAR"],
}
NOT_WIDER = {
    "SMALLINT": ["TINYINT", "UINTEGER", "SMALLINT"],
    "INTEGER": ["UBIGINT", "FLOAT", "VARCHAR", "DECIMAL(10,1)"],
    "BIGINT": ["DOUBLE", "INTEGER", "UBIGINT"],
    "UINTEGER": ["INTEGER", "FLOAT"],
    "DOUBLE": ["FLOAT", "BIGINT", "VARCHAR"],
    "DECIMAL(10,2)": ["DECIMAL(10,3)", "DOUBLE", "DECIMAL(12,1)"],
    "VARCHAR": ["ENUM('a')", '"NULL"'],
    "TIMESTAMP": ["DATE", "TIMESTAMP WITH TIME ZONE"],
}


@pytest.mark.parametrize("before, after", [(one, other) for one, others in WIDER.items() for other in others])
def test_wider(before: str, after: str) -> None:
    assert is_widening(before, after) and not is_widening(after, before)
    assert classify(Retyped("x", before, after)) == "widened"
    assert classify(Retyped("x", after, before)) == "narrowed"
    assert not SchemaDiff(retyped=(Retyped("x", before, after),)).is_breaking


@pytest.mark.parametrize("before, after", [(one, other) for one, others in NOT_WIDER.items() for other in others])
def test_not_wider(before: str, after: str) -> None:
    assert not is_widening(before, after)
    assert SchemaDiff(retyped=(Retyped("x", before, after),)).is_breaking


@pytest.mark.parametrize("before", ["TINYINT", "INTEGER", "BIGINT", "UTINYINT", "UINTEGER", "UBIGINT"])
def test_the_extremes_of_an_integer_come_back(before: str) -> None:
    size = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}[before.removeprefix("U")]
    unsigned = before.startswith("U")
    for value in (0, 2**size - 1) if unsigned else (-(2 ** (size - 1)), 2 ** (size - 1) - 1):
        for after in WIDER[before]:
            sql = f"SELECT CAST(CAST(CAST({value} AS {before}) AS {after}) AS {before})"
            assert duckdb.sql(sql).fetchall() == [(value,)]
