"""JSON as RFC 8259 has it, and nothing that Python's reader adds to it. Knows nothing of requests.

Numbers keep their exact value, and no input makes the reader recurse or run for long.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal, InvalidOperation

from queries.errors import GrammarError, LimitExceededError
from queries.vocabulary import shown

MAX_DEPTH = 64  # arrays and objects inside each other
MAX_ITEMS = 10_000  # in one array

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_LONGEST_INTEGER = 400  # digits; Python's own limit of 4,300 is an exception and not an answer


def load_json(text: str, *, param: str | None = None, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS) -> object:
    """Read one JSON value.

    Returns
    -------
    object
        None, bool, int, float, str, list or dict; and a Decimal for a number that no float holds exactly.

    Raises
    ------
    GrammarError
        Not JSON, ``NaN`` or ``Infinity``, a key given twice, half a surrogate pair, nested deeper than ``max_depth``.
    LimitExceededError
        An array of more than ``max_items``.
    """
    _check_depth(text, param, max_depth)

    def refuse(constant: str) -> None:
        raise GrammarError(f'{constant} is no JSON; write "{constant.lower()}" in quotes', param=param, value=constant)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                name = shown(key, quote=False)
                raise GrammarError(f'the key "{name}" stands twice in one object', param=param or name, value=name)
            found[key] = value
        return found

    try:
        value: object = json.loads(
            text, parse_constant=refuse, object_pairs_hook=unique, parse_float=_real, parse_int=_integer
        )
    except json.JSONDecodeError as error:
        raise GrammarError(
            f"this is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
            param=param,
            value=shown(text, quote=False),
        ) from None
    except InvalidOperation:
        raise GrammarError("a number's exponent is out of all range", param=param) from None
    _check_content(value, param, max_items)
    return value


def _check_depth(text: str, param: str | None, max_depth: int) -> None:
    """Before parsing, because the parser recurses."""
    depth = 0
    for token in _TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth > max_depth:
                raise GrammarError(f"nested deeper than {max_depth} levels", param=param)
        elif token[0] in "]}":
            depth -= 1


def _check_content(value: object, param: str | None, max_items: int) -> None:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            if len(item) > max_items:
                raise LimitExceededError(
                    f"a list has {len(item)} items, and at most {max_items} are taken", param=param, value=len(item)
                )
            todo.extend(item)
        elif isinstance(item, dict):
            todo.extend(item)
            todo.extend(item.values())
        elif isinstance(item, str) and not is_unicode(item):
            raise GrammarError(
                "a text holds half a surrogate pair, which is no character",
                param=param,
                value=shown(item, quote=False),
            )


def is_unicode(text: str) -> bool:
    """Whether the text can be encoded: half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _real(text: str) -> float | Decimal:
    exact = Decimal(text)
    value = float(text)
    return value if math.isfinite(value) and Decimal(repr(value)) == exact else exact


def _integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _LONGEST_INTEGER else Decimal(text)
