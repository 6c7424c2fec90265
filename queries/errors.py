"""Everything that can be wrong with a request, before any engine is involved.

    QueryError
    ├── GrammarError            the request cannot be read: unbalanced list, repeated key, bad JSON body
    ├── UnknownParameterError   a parameter that does not exist
    ├── UnknownColumnError      a name that is neither column, alias, derived column nor metric
    ├── TypeMismatchError       an operator or function that does not fit its column
    ├── InvalidValueError       a value that does not parse as its column's type
    ├── UnknownValueError       a value that a dimension does not have
    ├── CursorError             a cursor that was changed, or that belongs to another query or version
    └── LimitExceededError      a well-formed request beyond a stated bound

HTTP status codes are not decided here; ``server/errors.py`` holds that one table.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar


class QueryError(Exception):
    """Base class of all request errors.

    Parameters
    ----------
    detail
        One sentence: what was given and what would be accepted.
    param
        The parameter, or the path inside the JSON body, that is wrong.
    value
        What was given there, as text.
    did_you_mean
        Accepted spellings nearest to the given one, best first.
    """

    code: ClassVar[str] = "query_error"

    def __init__(
        self, detail: str, *, param: str | None = None, value: object = None, did_you_mean: Iterable[str] = ()
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.param = param
        self.value = None if value is None else str(value)
        self.did_you_mean = tuple(did_you_mean)


class GrammarError(QueryError):
    code = "grammar"


class UnknownParameterError(QueryError):
    code = "unknown_parameter"


class UnknownColumnError(QueryError):
    code = "unknown_column"


class TypeMismatchError(QueryError):
    code = "type_mismatch"


class InvalidValueError(QueryError):
    code = "invalid_value"


class UnknownValueError(QueryError):
    code = "unknown_value"


class CursorError(QueryError):
    code = "bad_cursor"


class LimitExceededError(QueryError):
    code = "limit_exceeded"


def nearest(given: str, accepted: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The accepted spellings that most resemble ``given``, best first.

    A ``+`` that was not percent-encoded arrives as a space, so two spellings that differ only in that, or in case,
    come before any other likeness.
    """
    candidates = list(dict.fromkeys(accepted))

    def fold(text: str) -> str:
        return text.replace("+", " ").strip().casefold()

    folded = fold(given)
    exact = [name for name in candidates if fold(name) == folded]
    by_fold: dict[str, str] = {}
    for name in candidates:
        by_fold.setdefault(fold(name), name)
    close = [by_fold[key] for key in difflib.get_close_matches(folded, list(by_fold), n=most, cutoff=0.5)]
    prefixed = [name for name in candidates if folded and fold(name).startswith(folded)]
    return tuple(dict.fromkeys([*exact, *close, *prefixed]))[:most]
