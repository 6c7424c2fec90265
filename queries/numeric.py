"""Numbers from text, JSON and Python, exactly or not at all. Knows no column; says what is wrong with a ValueError."""

from __future__ import annotations

import math
import re
import struct
from decimal import Context, Decimal, InvalidOperation

SMALLEST = -(2**127)  # HUGEINT
LARGEST = 2**128 - 1  # UHUGEINT
DECIMAL_DIGITS = 38  # of the widest DECIMAL

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_SPECIAL = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE)
_LONGEST = 1_000  # characters; the longest exact double has 767 digits
_LONGEST_BITS = 4_000
_WIDE = Context(prec=DECIMAL_DIGITS + 2)  # enough to tell a number that fits from one that does not


def read_integer(value: object) -> int:
    """An int from anything integral: 5000, 5000.0, ``5e3``."""
    exact = read_number(value)
    if not exact.is_finite():
        raise ValueError("it is not finite")
    if not exact:
        return 0
    if exact.adjusted() > DECIMAL_DIGITS:  # before int(), which would write out all digits of 1e999999999
        raise ValueError("it is out of the range of all integers")
    if exact.adjusted() < 0 or exact != exact.to_integral_value():
        raise ValueError("it is not whole")
    whole = int(exact)
    if not SMALLEST <= whole <= LARGEST:
        raise ValueError("it is out of the range of all integers")
    return whole


def read_float(value: object, *, single: bool = False) -> float:
    """The nearest 64-bit float, or the nearest 32-bit one as a float; minus zero becomes zero."""
    exact = read_number(value)
    number = float(exact)
    if single and math.isfinite(number):
        try:
            number = float(struct.unpack("<f", struct.pack("<f", number))[0])
        except OverflowError:
            number = math.inf
    if exact.is_finite() and math.isinf(number):
        raise ValueError("it is too large for a floating-point number")
    return number + 0.0


def read_decimal(value: object, scale: int) -> Decimal:
    """An exact decimal of at most ``scale`` digits after the point, without trailing zeros."""
    exact = read_number(value)
    if not exact.is_finite():
        raise ValueError("it is not finite")
    if not exact:
        return Decimal(0)
    if exact.adjusted() + 1 + scale > DECIMAL_DIGITS:
        raise ValueError("it is too large")
    short = exact.normalize(_WIDE) if exact.adjusted() >= -scale else None
    if short is None or short != exact or -int(short.as_tuple().exponent) > scale:
        raise ValueError(f"it has more than {scale} digits after the point")
    return short


def read_number(value: object) -> Decimal:
    """The exact value of a number, or of text that spells one. Booleans are no numbers."""
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        raise ValueError("it is not a number")
    if isinstance(value, Decimal):
        return Decimal("nan") if value.is_nan() else value  # a signalling NaN raises where one compares it
    if isinstance(value, int) and value.bit_length() > _LONGEST_BITS:
        raise ValueError("it is out of all range")
    if isinstance(value, float):
        # repr and not the binary fraction: whoever writes 0.1 means the decimal 0.1.
        return Decimal(repr(float(value)))
    if isinstance(value, int):
        return Decimal(int(value))
    return _spelled(value)


def _spelled(text: str) -> Decimal:
    if len(text) > _LONGEST:
        raise ValueError(f"it is longer than {_LONGEST} characters")
    if not _NUMBER.fullmatch(text) and not _SPECIAL.fullmatch(text):
        raise ValueError("it is not a number")
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("its exponent is out of all range") from None
