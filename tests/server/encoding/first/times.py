"""ISO 8601 texts of dates, timestamps, times of day and intervals, a whole Arrow array at a time.

Timestamps are UTC and end in ``Z``, those without a zone too. A fraction has 3, 6 or 9 digits, as many as it needs. A
year outside 0000–9999 has a sign and six digits, as in ECMAScript; DuckDB's infinities read ``infinity``.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DIGITS = {"ms": 3, "us": 6, "ns": 9}
_DAY_S = 86_400
_EPOCH = date(1970, 1, 1)
_FIRST_DAY = (date(1, 1, 1) - _EPOCH).days
_LAST_DAY = (date(9999, 12, 31) - _EPOCH).days
_ERA_DAYS = 146_097  # the Gregorian calendar repeats after 400 years
_INT64_MAX = 2**63 - 1
_INT32_MAX = 2**31 - 1


def date_texts(array: pa.Array) -> pa.BinaryArray:
    """Texts of an array of date32, null where the array is."""
    days = array.view(pa.int32())
    near = pc.and_(pc.greater_equal(days, _FIRST_DAY), pc.less_equal(days, _LAST_DAY))
    texts = pc.if_else(near, days, pa.scalar(0, pa.int32())).view(pa.date32()).cast(pa.string())
    return _patched(texts, days, near, _far_date)


def timestamp_texts(array: pa.Array) -> pa.BinaryArray:
    """Texts of an array of timestamps in any unit, null where the array is."""
    unit = array.type.unit
    per_second = _PER_SECOND[unit]
    ticks = array.view(pa.int64())
    first, last = _FIRST_DAY * _DAY_S * per_second, (_LAST_DAY + 1) * _DAY_S * per_second
    near = pc.and_(
        pc.greater_equal(ticks, max(first, -_INT64_MAX + 1)),
        pc.less(ticks, min(last, _INT64_MAX)),
    )
    naive = pc.if_else(near, ticks, pa.scalar(0, pa.int64()))
    texts = pc.replace_substring(_seconds(naive, unit), " ", "T", max_replacements=1)
    texts = pc.binary_join_element_wise(texts, "Z", "")
    return _patched(texts, ticks, near, lambda tick: _far_timestamp(tick, per_second))


def time_texts(array: pa.Array) -> pa.BinaryArray:
    """Texts of an array of times of day, null where the array is. The end of the day reads ``24:00:00``."""
    unit = array.type.unit
    ticks = array.view(pa.int64() if array.type.bit_width == 64 else pa.int32()).cast(pa.int64())
    inside = pc.less(ticks, _DAY_S * _PER_SECOND[unit])
    texts = pc.utf8_slice_codeunits(_seconds(pc.if_else(inside, ticks, pa.scalar(0, pa.int64())), unit), 11)
    return _patched(texts, ticks, inside, lambda tick: "24:00:00")


def interval_texts(array: pa.Array) -> pa.BinaryArray:
    """Durations such as ``P1Y2M3DT4.5S``, null where the array is. Months, days and seconds do not convert."""
    return pa.array([None if value is None else _duration(*value).encode() for value in array.to_pylist()], pa.binary())


def _seconds(ticks: pa.Array, unit: str) -> pa.StringArray:
    """``2024-03-01 12:00:00``, with as many digits of a second as the tick needs; the ticks lie in the years 1–9999."""
    values = ticks.fill_null(0).to_numpy()
    texts = None
    rest = np.ones(len(values), dtype=bool)
    for coarse, factor in _PER_SECOND.items():
        step = _PER_SECOND[unit] // factor
        fits = rest & (values % step == 0)
        if fits.any():
            whole = pa.array(np.where(fits, values // step, 0)).view(pa.timestamp(coarse)).cast(pa.string())
            texts = whole if texts is None else pc.if_else(pa.array(fits), whole, texts)
        rest &= ~fits
        if coarse == unit:
            break
    if texts is None:
        return pa.array([], pa.string())
    return pc.if_else(ticks.is_valid(), texts, pa.scalar(None, pa.string())) if ticks.null_count else texts


def _patched(texts: pa.StringArray, ticks: pa.Array, fine: pa.BooleanArray, far: object) -> pa.BinaryArray:
    """The texts, those that are not ``fine`` written one by one by ``far``."""
    texts = texts.cast(pa.binary())
    if pc.all(fine.fill_null(True)).as_py() is not False:
        return texts
    assert callable(far)
    strays = pc.filter(ticks, pc.invert(fine.fill_null(True)))
    written = pa.array([far(tick).encode() for tick in strays.to_pylist()], pa.binary())
    return pc.replace_with_mask(texts, pc.invert(fine.fill_null(True)), written)


def _far_date(days: int) -> str:
    if abs(days) == _INT32_MAX:
        return "infinity" if days > 0 else "-infinity"
    return _calendar(days)


def _far_timestamp(tick: int, per_second: int) -> str:
    if abs(tick) == _INT64_MAX:
        return "infinity" if tick > 0 else "-infinity"
    seconds, fraction = divmod(tick, per_second)
    days, second = divmod(seconds, _DAY_S)
    clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{_calendar(days)}T{clock}{_fraction(fraction * (10**9 // per_second))}Z"


def _calendar(days: int) -> str:
    era, day = divmod(days, _ERA_DAYS)
    near = _EPOCH + timedelta(days=day)
    year = near.year + 400 * era
    shown = f"{year:04d}" if 0 <= year <= 9999 else f"{year:+07d}"
    return f"{shown}-{near.month:02d}-{near.day:02d}"


def _fraction(nanoseconds: int) -> str:
    if not nanoseconds:
        return ""
    digits = next(width for width in _DIGITS.values() if nanoseconds % 10 ** (9 - width) == 0)
    return f".{nanoseconds:09d}"[: digits + 1]


def _duration(months: int, days: int, nanoseconds: int) -> str:
    years, months = divmod(abs(months), 12) if months >= 0 else tuple(-part for part in divmod(-months, 12))
    text = "".join(f"{count}{letter}" for count, letter in ((years, "Y"), (months, "M"), (days, "D")) if count)
    if nanoseconds:
        seconds, fraction = divmod(abs(nanoseconds), 10**9)
        text += f"T{'-' if nanoseconds < 0 else ''}{seconds}{f'.{fraction:09d}'.rstrip('0') if fraction else ''}S"
    return f"P{text or 'T0S'}"
