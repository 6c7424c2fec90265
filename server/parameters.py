"""The query string of a request as decoded pairs. Knows no parameter.

Decoding is strict: bytes that are no UTF-8, or a ``%`` without two hexadecimal digits, are an error and never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote_to_bytes

from server.errors import HttpError

MAX_QUERY_BYTES = 16 * 1024  # more than any proxy in front lets pass

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_READABLE = "/,:()*!~'@$-._"  # need no escape in a query, and read better without

Pairs = list[tuple[str, str]]


def read_pairs(query_string: bytes) -> Pairs:
    """Keys and values in their order. ``+`` is a space, ``&`` alone separates, a key without ``=`` has an empty value.

    Raises
    ------
    HttpError
        414 when the query string is too long, 400 when it cannot be decoded.
    """
    if len(query_string) > MAX_QUERY_BYTES:
        raise HttpError(
            414,
            "query_too_long",
            f"the query string has {len(query_string)} bytes, and at most {MAX_QUERY_BYTES} are taken; "
            "POST /api/query has room for more",
        )
    pairs = []
    for part in query_string.split(b"&"):
        if part:
            key, _, value = part.partition(b"=")
            name = _decode(key, None)
            pairs.append((name, _decode(value, name)))
    return pairs


def format_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """The query string that ``read_pairs`` reads back as these pairs."""
    return "&".join(f"{quote(key, safe=_READABLE)}={quote(value, safe=_READABLE)}" for key, value in pairs)


def first_value(pairs: Iterable[tuple[str, str]], key: str) -> str | None:
    """What a key was given, the first time that it was."""
    return next((value for name, value in pairs if name == key), None)


def _decode(text: bytes, param: str | None) -> str:
    text = text.replace(b"+", b" ")
    shown = text.decode("utf-8", "replace")
    if _BAD_ESCAPE.search(text):
        raise HttpError(
            400,
            "bad_request",
            "a % in a query string must be followed by two hexadecimal digits; write a percent sign itself as %25",
            param=param or shown,
            value=shown,
        )
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise HttpError(
            400, "bad_request", "the query string is not UTF-8", param=param or shown, value=shown
        ) from None
