"""Dates, times and spans from ISO 8601 text and from Python values. Knows no column; raises ValueError.

Microseconds are the finest that is kept: what is finer is refused and never rounded.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"
_DAY = re.compile(_DATE)
_CLOCK = re.compile(_TIME)
_MOMENT = re.compile(rf"({_DATE})(?:[Tt ]({_TIME})(?:([Zz])|([+-][0-9]{{2}}):?([0-9]{{2}})?)?)?")
_PLUS_LOST = re.compile(rf"{_DATE}[Tt ]{_TIME} [0-9]{{2}}:?(?:[0-9]{{2}})?")
_ISO_SPAN = re.compile(
    r"(?P<sign>[+-])?P(?=[0-9T])(?:(?P<weeks>[0-9]{1,9})W)?(?:(?P<days>[0-9]{1,9})D)?"
    r"(?:T(?=[0-9])(?:(?P<hours>[0-9]{1,9})H)?(?:(?P<minutes>[0-9]{1,9})M)?"
    r"(?:(?P<seconds>[0-9]{1,12})(?:\.(?P<fraction>[0-9]+))?S)?)?"
)
_SQL_SPAN = re.compile(
    r"(?:(?P<days>[+-]?[0-9]{1,9}) days?)?(?:(?:^| )(?P<sign>-)?(?P<hours>[0-9]{1,9}):(?P<minutes>[0-5][0-9])"
    r"(?::(?P<seconds>[0-5][0-9])(?:\.(?P<fraction>[0-9]+))?)?)?"
)


def read_date(value: object) -> date:
    """A day, from ``2024-05-01``, a date, or a moment that is midnight in UTC."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        return date.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        return date(value.year, value.month, value.day)
    moment = read_moment(value)
    if moment.time() != time():
        raise ValueError("it has a time of day")
    return moment.date()


def read_moment(value: object) -> datetime:
    """A moment in UTC, without its time zone; what names no zone is taken for UTC, and a bare day for its midnight."""
    if isinstance(value, str):
        moment = _spelled_moment(value)
    elif isinstance(value, datetime):
        moment = _plain_moment(value)
    elif isinstance(value, date):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001  (UTC, as everything here)
    else:
        raise ValueError("it is not a date and time")
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        raise ValueError("it is out of range in UTC") from None


def _spelled_moment(text: str) -> datetime:
    match = _MOMENT.fullmatch(text)
    if match is None:
        if _PLUS_LOST.fullmatch(text):
            raise ValueError("a + in a URL is written %2B")
        raise ValueError("it is not ISO 8601")
    day, clock, zulu, hours, minutes = match.groups()
    zone = "+00:00" if zulu else f"{hours}:{minutes or '00'}" if hours else ""
    return datetime.fromisoformat(f"{day}T{_whole_clock(clock or '00:00')}{zone}")


def _plain_moment(value: datetime) -> datetime:
    """From a subclass such as pandas' Timestamp, which also knows nanoseconds."""
    if getattr(value, "nanosecond", 0):
        raise ValueError("it is finer than a microsecond")
    return datetime.combine(date(value.year, value.month, value.day), value.timetz())


def read_time(value: object) -> time:
    """A time of day without zone."""
    if isinstance(value, str) and _CLOCK.fullmatch(value):
        return time.fromisoformat(_whole_clock(value))
    if isinstance(value, time):
        if value.tzinfo is not None:
            raise ValueError("it has a time zone")
        return value.replace(fold=0)
    raise ValueError("it is not a time of day")


def _whole_clock(clock: str) -> str:
    """The same with seconds and exactly six digits after them."""
    whole, _, fraction = clock.partition(".")
    if int(whole[:2]) > 23:  # some Pythons read 24:00 as the next day
        raise ValueError("an hour is 00 to 23")
    return f"{whole}{':00' if len(whole) == 5 else ''}.{_micro(fraction)}"


def _micro(fraction: str) -> str:
    if fraction[6:].strip("0"):
        raise ValueError("it is finer than a microsecond")
    return fraction[:6].ljust(6, "0")


def read_span(value: object) -> timedelta:
    """A length of time, from ``PT90M``, ``P1DT2H``, ``1 day 02:00:00`` or a timedelta.

    Months and years are refused: they have no fixed length.
    """
    if isinstance(value, timedelta):
        if getattr(value, "nanoseconds", 0):
            raise ValueError("it is finer than a microsecond")
        return timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    match = isinstance(value, str) and value and (_ISO_SPAN.fullmatch(value) or _SQL_SPAN.fullmatch(value))
    if not match:
        raise ValueError("it is not a length of time")
    parts = match.groupdict()
    number = {name: int(parts.get(name) or 0) for name in ("weeks", "days", "hours", "minutes", "seconds")}
    clock = timedelta(microseconds=int(_micro(parts["fraction"] or ""))) + timedelta(
        **{name: number[name] for name in ("hours", "minutes", "seconds")}
    )
    days = timedelta(weeks=number["weeks"], days=number["days"])
    negative = parts["sign"] == "-"
    if match.re is _ISO_SPAN:
        return -(days + clock) if negative else days + clock
    return days - clock if negative else days + clock


def format_span(span: timedelta) -> str:
    """ISO 8601, in days and seconds: ``P1DT7200S``."""
    sign, span = ("-", -span) if span < timedelta() else ("", span)
    fraction = f".{span.microseconds:06d}" if span.microseconds else ""
    return f"{sign}P{span.days}DT{span.seconds}{fraction}S"
