"""What a column's type can hold: a comparison with a value beyond it, said with values that it has. Makes no SQL.

DuckDB would convert such a value to the column's type, and fail. ``step < 1e30`` is no error, and true of every step.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from queries.request import Operator
from queries.schema import Column

_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64, "HUGEINT": 128}
_DECIMAL = re.compile(r"DECIMAL\(([0-9]+),\s*([0-9]+)\)", re.IGNORECASE)
#: Nanoseconds since 1970 in 64 bits, to the microseconds that a value may have.
_NANOSECONDS = tuple(map(datetime.fromisoformat, ("1677-09-21T00:12:43.145225", "2262-04-11T23:47:16.854775")))

_LISTS = (Operator.EQ, Operator.NE, Operator.IN, Operator.NOTIN)


def within_range(column: Column, op: Operator, values: tuple[Any, ...]) -> tuple[Operator, tuple[Any, ...]]:
    """The operator and values that mean the same of a column, all values being ones that its type can hold."""
    bounds = _bounds("BIGINT" if column.is_size_label else column.sql_type)
    if bounds is None:
        return op, values
    low, high = bounds
    if all(low <= value <= high for value in values):
        return op, values
    # True, and false, of all that is not null.
    every, none = (Operator.GTE, (low,)), (Operator.LT, (low,))
    if op in _LISTS:
        possible = tuple(value for value in values if low <= value <= high)
        return (op, possible) if possible else none if op in (Operator.EQ, Operator.IN) else every
    if op is Operator.BETWEEN:
        lower, upper = values
        return none if lower > high or upper < low else (op, (max(lower, low), min(upper, high)))
    is_small = op in (Operator.LT, Operator.LTE)
    return every if is_small == (values[0] > high) else none


@lru_cache(maxsize=1024)  # each condition asks, and there are few types
def _bounds(sql_type: str) -> tuple[Any, Any] | None:
    """The least and the largest value of a type that others of its kind go beyond."""
    name = sql_type.upper().strip()
    if name in _BITS:
        return -(2 ** (_BITS[name] - 1)), 2 ** (_BITS[name] - 1) - 1
    if name.removeprefix("U") in _BITS:
        return 0, 2 ** _BITS[name.removeprefix("U")] - 1
    if match := _DECIMAL.fullmatch(name):
        width, scale = int(match[1]), int(match[2])
        largest = Decimal((0, (9,) * width, -scale))
        return -largest, largest
    if name == "TIMESTAMP_NS":
        return _NANOSECONDS[0], _NANOSECONDS[1]
    return None
