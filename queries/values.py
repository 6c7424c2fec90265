"""One value and its column: text, JSON or Python becomes the one Python value that the column's type has for it.

Checks no value against the data, and no operator against its column; that is the planner's.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from queries.errors import InvalidValueError, TypeMismatchError
from queries.numeric import LARGEST, SMALLEST, read_decimal, read_float, read_integer
from queries.schema import Column, Kind, parse_size_label
from queries.strict_json import is_unicode
from queries.temporal import format_span, read_date, read_moment, read_span, read_time
from queries.vocabulary import shown

_UUID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SCALE = re.compile(r"DECIMAL\([0-9]+,\s*([0-9]+)\)", re.IGNORECASE)
_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_LONGEST_LABEL = 40  # characters of a size label; a longer text is not one


def parse_value(column: Column, value: object, *, param: str) -> object:
    """The value as the column has it.

    Parameters
    ----------
    column
        Its type decides; of a size-label column, the number behind the label.
    value
        Text as from a URL, a JSON value, or a Python, numpy or pandas scalar.
    param
        The parameter or path to name in an error.

    Returns
    -------
    object
        int, float (NaN and infinities too; rounded to 32 bits for FLOAT), Decimal without trailing zeros, bool, str,
        date, naive UTC datetime (TIMESTAMP), aware UTC datetime (TIMESTAMPTZ), time, UUID or timedelta. Of a
        size-label column int, or the text itself where it is no label.

    Raises
    ------
    InvalidValueError
        The value is null, or does not fit.
    TypeMismatchError
        Blobs and nested columns have no values to compare with.
    """
    reader = _READERS.get(column.kind)
    if reader is None:
        raise TypeMismatchError(
            f"{column.name} is {column.sql_type}, which compares with no value; only isnull works on it",
            param=param,
            value=shown(value, quote=False),
        )
    accepted, read = reader
    if column.is_size_label:
        accepted, read = "a size such as 60M or 60000000", _read_size
    try:
        return read(column, plain(value))
    except (ValueError, OverflowError) as error:
        raise InvalidValueError(
            f"{shown(value)} does not fit {column.name}, which takes {accepted}: {error}",
            param=param,
            value=shown(value, quote=False),
        ) from None


def parse_flag(value: object, *, param: str) -> bool:
    """A switch such as ``distinct=1``: ``1``, ``0``, ``true``, ``false`` or a bool.

    Raises
    ------
    InvalidValueError
    """
    value = plain(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise InvalidValueError(
        f"{param} takes 1, 0, true or false, and not {shown(value)}", param=param, value=shown(value, quote=False)
    )


def plain(value: object) -> object:
    """A numpy scalar as its Python value; everything else as it is. Imports no numpy.

    Raises
    ------
    ValueError
        It is finer than Python's types, or not a scalar.
    """
    if type(value) is str or type(value).__module__.partition(".")[0] != "numpy":
        return value
    scalar: Any = value
    if getattr(scalar, "shape", None) != ():
        raise ValueError("it is not one value")
    if scalar.dtype.kind in "mM":
        micro = scalar.astype(f"{scalar.dtype.kind}8[us]")
        if micro.item() is not None and micro != scalar:
            raise ValueError("it is finer than a microsecond")
        scalar = micro
    item: object = scalar.item()
    return item


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("it is not text")
    if "\0" in value:
        raise ValueError("it holds a NUL")
    if not is_unicode(value):
        raise ValueError("it holds half a surrogate pair")
    return str.__str__(value)  # a plain str, also of an enumeration's member


def _read_size(column: Column, value: object) -> int | str:
    if not isinstance(value, str):
        return read_integer(value)
    text = _read_text(value)
    if len(text) > _LONGEST_LABEL:
        return text
    try:
        label = parse_size_label(text)
        number = read_integer(text) if label is None else label
    except ValueError:
        return text
    return number if SMALLEST <= number <= LARGEST else text


def _read_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise ValueError("it is neither")


def _read_uuid(value: object) -> UUID:
    if isinstance(value, UUID):
        return UUID(int=value.int)
    if isinstance(value, str) and _UUID.fullmatch(value):
        return UUID(value)
    raise ValueError("it is not a UUID")


def _scale(column: Column) -> int:
    match = _SCALE.match(column.sql_type.strip())
    return int(match[1]) if match else 0


def _not_null(read: Callable[[Column, object], object]) -> Callable[[Column, object], object]:
    def checked(column: Column, value: object) -> object:
        # NaT is a datetime that differs from itself; a float NaN is a value.
        if value is None or (isinstance(value, (date, timedelta)) and value != value):
            raise ValueError("null is tested for with the operator isnull")
        return read(column, value)

    return checked


#: By kind: what it accepts, for the error's text, and how it is read.
_READERS: dict[Kind, tuple[str, Callable[[Column, object], object]]] = {
    kind: (accepted, _not_null(read))
    for kind, accepted, read in (
        (Kind.INTEGER, "a whole number such as 5000 or 5e3", lambda column, value: read_integer(value)),
        (
            Kind.FLOAT,
            "a number such as 0.1, 5e3, nan or inf",
            lambda column, value: read_float(value, single=column.sql_type.strip().upper() == "FLOAT"),
        ),
        (Kind.DECIMAL, "a decimal number", lambda column, value: read_decimal(value, _scale(column))),
        (Kind.BOOLEAN, "true or false", lambda column, value: _read_bool(value)),
        (Kind.STRING, "text", lambda column, value: _read_text(value)),
        (Kind.DATE, "a date such as 2024-05-01", lambda column, value: read_date(value)),
        (Kind.TIMESTAMP, "a time such as 2024-05-01T12:00:00Z", lambda column, value: read_moment(value)),
        (
            Kind.TIMESTAMPTZ,
            "a time such as 2024-05-01T12:00:00Z",
            lambda column, value: read_moment(value).replace(tzinfo=UTC),
        ),
        (Kind.TIME, "a time of day such as 12:00:00", lambda column, value: read_time(value)),
        (Kind.UUID, "a UUID", lambda column, value: _read_uuid(value)),
        (Kind.INTERVAL, "a length of time such as P1DT2H", lambda column, value: read_span(value)),
    )
}


def canonical_value(value: object) -> Any:
    """The JSON form of a value from :func:`parse_value`, for the canonical query.

    Equal values have one form, and values of different types have different ones once written as JSON: what JSON has
    no type for becomes an object with one key. Also takes a tuple or list of values.

    >>> canonical_value((1, 1.0, "1", Decimal("1"), float("nan")))
    [1, 1.0, '1', {'decimal': '1'}, {'float': 'nan'}]
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [canonical_value(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return value + 0.0
    return {_tag(value): format_value(value)}


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def canonical_json(content: object) -> str:
    """JSON as canonical queries are written: keys sorted, no blanks, and no character escaped that need not be.

    >>> canonical_json({"op": "eq", "col": "größe"})
    '{"col":"größe","op":"eq"}'
    """
    return _encode(content)


def _tag(value: object) -> str:
    if isinstance(value, datetime):
        return "timestamp" if value.tzinfo is None else "timestamptz"
    types = {float: "float", Decimal: "decimal", date: "date", time: "time", UUID: "uuid", timedelta: "interval"}
    return types[type(value)]


def format_value(value: object) -> str:
    """The text that :func:`parse_value` reads back as the same value.

    Raises
    ------
    TypeError
        It is no value that a filter may have.
    """
    value = plain(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return repr(float(value) + 0.0)
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat() if value.tzinfo is None else read_moment(value).isoformat() + "Z"
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format_span(value)
    raise TypeError(f"{type(value).__name__} is no type of filter values")
