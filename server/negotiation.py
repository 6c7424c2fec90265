"""Which format and which content coding a request gets, by what it says it accepts (RFC 9110, section 12)."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from server.encoding import FORMATS, Format
from server.errors import HttpError

#: The content codings that we can make, the preferred one first.
CODINGS = ("zstd", "br", "gzip")

VARY = "Accept, Accept-Encoding"

MOST_REMEMBERED = 1_024  # characters of a header whose reading is remembered; browsers send fewer than 200


@dataclass(frozen=True, slots=True)
class Coding:
    """``name`` None leaves the bytes as they are. ``is_forced``: even small bodies, for identity is refused."""

    name: str | None
    is_forced: bool = False


def choose_format(accept: str | None, named: str | None = None) -> Format:
    """The format that ``format=`` names, else the one that ``Accept`` likes best; of several, the first in our order.

    Raises
    ------
    HttpError
        406 when none fits.
    """
    names = [item.name for item in FORMATS]
    if named is not None:
        found = next((item for item in FORMATS if item.name == named), None)
        if found is None:
            raise HttpError(
                406,
                "not_acceptable",
                f"{named[:100]!r} is not a format; the formats are {', '.join(names)}",
                param="format",
                value=named,
                did_you_mean=difflib.get_close_matches(named.lower(), names, 2),
            )
        return found
    preferred = (_preferred if len(accept or "") <= MOST_REMEMBERED else _preferred.__wrapped__)(accept or "*/*")
    if preferred is None:
        types = ", ".join(item.media_type for item in FORMATS)
        raise HttpError(
            406,
            "not_acceptable",
            f"none of the types in Accept is served; served are {types}",
            headers={"Vary": VARY},
        )
    return preferred


def choose_coding(accept_encoding: str | None) -> Coding:
    """The content coding that ``Accept-Encoding`` likes best; none when it is silent.

    Raises
    ------
    HttpError
        406 when it refuses everything, identity too.
    """
    if accept_encoding is None:
        return Coding(None)
    given = dict(_read_qualities(accept_encoding))
    if "x-gzip" in given:
        given.setdefault("gzip", given["x-gzip"])
    rest = given.get("*")
    rated = [(given.get(name, rest or 0.0), name) for name in CODINGS]
    quality, best = max(rated, key=lambda pair: pair[0])
    # Identity is fine unless it is refused by name, or by a star that does not name it.
    identity = given.get("identity", 0.0 if rest == 0 else None)
    if quality > 0 and (identity is None or quality >= identity):
        return Coding(best, is_forced=identity == 0)
    if identity == 0:
        raise HttpError(
            406,
            "not_acceptable",
            f"Accept-Encoding refuses all that is served: {', '.join(CODINGS)}, identity",
            headers={"Vary": VARY},
        )
    return Coding(None)


@lru_cache(maxsize=1_024)  # there are few headers, and reading one takes as long as finding a kept answer
def _preferred(accept: str) -> Format | None:
    ranges = list(_read_qualities(accept)) or [("*/*", 1.0)]
    rated = [(max(_rate(kind, ranges) for kind in (item.media_type, *item.aliases)), item) for item in FORMATS]
    best = max(quality for quality, _ in rated)
    return next(item for quality, item in rated if quality == best) if best > 0 else None


def _read_qualities(header: str) -> Iterator[tuple[str, float]]:
    """The items of an Accept header in lower case with their qualities; an item that cannot be read is left out."""
    for part in header.split(","):
        name, *parameters = (piece.strip() for piece in part.lower().split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    quality = min(max(0.0, float(value)), 1.0)  # in this order, in which nan counts as 0
                except ValueError:
                    quality = 0.0
        if name:
            yield name, quality


def _rate(media_type: str, ranges: list[tuple[str, float]]) -> float:
    """The quality of a media type: the most exact range that covers it decides."""
    major = media_type.partition("/")[0]
    for wanted in (media_type, f"{major}/*", "*/*"):
        found = [quality for name, quality in ranges if name == wanted]
        if found:
            return max(found)
    return 0.0
