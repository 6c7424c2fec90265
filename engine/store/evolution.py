"""How the type of a column may change from one version to the next, in the names that DuckDB has. Does no I/O."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from engine.store.records import Retyped

TypeChange = Literal["widened", "narrowed", "retyped"]

_SIGNED = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_UNSIGNED = {"UTINYINT": 8, "USMALLINT": 16, "UINTEGER": 32, "UBIGINT": 64, "UHUGEINT": 128}
_MANTISSA = {"FLOAT": 24, "DOUBLE": 53}  # bits of the integers that each holds exactly
_OTHERS = {("FLOAT", "DOUBLE"), ("DATE", "TIMESTAMP")}
_DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")


def classify(change: Retyped) -> TypeChange:
    """What became of a column whose type changed.

    ``widened``: every value that there was still fits, so that queries go on as before. ``narrowed``: the other way
    round. ``retyped``: neither.
    """
    if is_widening(change.before, change.after):
        return "widened"
    return "narrowed" if is_widening(change.after, change.before) else "retyped"


def is_widening(before: str, after: str) -> bool:
    """Whether every value of one type is one of another too, and means the same there.

    An integer is a float only where each is exactly one, so INTEGER widens to DOUBLE, and BIGINT does not. A type
    does not widen to itself.

    >>> is_widening("INTEGER", "BIGINT"), is_widening("BIGINT", "INTEGER"), is_widening("BIGINT", "DOUBLE")
    (True, False, False)
    """
    before, after = before.strip().upper(), after.strip().upper()
    if before == after or is_null_type(after):
        return False
    if is_null_type(before) or (before, after) in _OTHERS:
        return True
    if before.startswith("ENUM("):
        return after == "VARCHAR"
    small, large = _DECIMAL.fullmatch(before), _DECIMAL.fullmatch(after)
    if small and large:
        grown = int(large[2]) - int(small[2])
        return grown >= 0 and int(large[1]) - int(small[1]) >= grown
    return _is_wider_for_integers(before, after, large)


def _is_wider_for_integers(before: str, after: str, decimal: re.Match[str] | None) -> bool:
    signed, unsigned = _SIGNED.get(before), _UNSIGNED.get(before)
    if signed is None and unsigned is None:
        return False
    # Bits of the magnitude: that of -128 needs 8, and is exact in a float as any power of two is.
    bits = unsigned or (signed or 0) - 1
    if after in _SIGNED:
        return _SIGNED[after] - 1 >= bits
    if after in _UNSIGNED:
        return signed is None and _UNSIGNED[after] >= bits
    if after in _MANTISSA:
        return _MANTISSA[after] >= bits
    return decimal is not None and int(decimal[1]) - int(decimal[2]) >= len(str(2**bits))


def is_null_type(sql_type: str) -> bool:
    """Whether a type is that of a column that holds nothing but null."""
    return sql_type.strip('" ').upper() == "NULL"
