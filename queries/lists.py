"""The comma rule: how one URL parameter holds several values. Knows no column and no type.

Commas split where they stand outside parentheses and outside double quotes, so that a recipe such as
``DCLM-Baseline (QC 7%, FW3)`` needs no quoting.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from decimal import Decimal

from queries.errors import GrammarError
from queries.strict_json import load_json
from queries.vocabulary import shown

BLANKS = " \t\r\n"

Scalar = str | int | float | bool | Decimal | None

_QUOTED = re.compile(r'"((?:[^"]|"")*)"', re.DOTALL)
_SIGNIFICANT = re.compile(r'[",()]')
_PLAIN = re.compile(r'[^"()\[]*')  # where a comma is a comma


def split_list(text: str, param: str) -> tuple[Scalar, ...]:
    """The values in one parameter.

    Items lose the blanks around them. An item wholly in double quotes loses these, and ``""`` inside stands for one
    quote; quotes in the middle of an item protect commas and parentheses, and stay. Text that begins with ``[`` is a
    JSON array, whose elements keep their types. The empty text is one empty value; elsewhere an empty item is an
    error, and ``""`` says that it is meant.

    Raises
    ------
    GrammarError
        Unbalanced parentheses or quotes, an empty item, a text after ``[`` that is no flat JSON array.

    Examples
    --------
    >>> split_list('DCLM-Baseline (QC 7%, FW3), Dolma1.6++,"a ""b"", c"', "data")
    ('DCLM-Baseline (QC 7%, FW3)', 'Dolma1.6++', 'a "b", c')
    >>> split_list('["60M", 5]', "params")
    ('60M', 5)
    """
    if _PLAIN.fullmatch(text):
        plain = tuple([item.strip(BLANKS) for item in text.split(",")])
        if len(plain) == 1 or "" not in plain:
            return plain
    elif is_json(text):
        return _json_list(text, param)
    return tuple(unquote(item) for item in split_items(text, param))


def split_items(text: str, param: str) -> list[str]:
    """The items as they were written, quotes and all, without the blanks around them. For text that is no JSON."""
    items = [item.strip(BLANKS) for item in _cut(text, param)]
    if len(items) > 1 and "" in items:
        raise GrammarError(
            f'{param} has an empty item; leave a comma out, or write "" for the empty text',
            param=param,
            value=shown(text, quote=False),
        )
    return items


def _cut(text: str, param: str) -> Iterable[str]:
    depth, quoted, start = 0, False, 0
    for found in _SIGNIFICANT.finditer(text):
        sign = found[0]
        if sign == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif sign == "(":
            depth += 1
        elif sign == ")":
            depth -= 1
            if depth < 0:
                raise _unbalanced("a ) has no (", text, param)
        elif depth == 0:
            yield text[start : found.start()]
            start = found.end()
    if quoted:
        raise _unbalanced('a " has no second one', text, param)
    if depth:
        raise _unbalanced("a ( has no )", text, param)
    yield text[start:]


def _unbalanced(what: str, text: str, param: str) -> GrammarError:
    return GrammarError(
        f'{what} in {param}; put a value that is meant so in double quotes, with "" for each quote inside',
        param=param,
        value=shown(text, quote=False),
    )


def is_json(text: str) -> bool:
    """Whether the rule takes the text for a JSON array."""
    return text.lstrip(BLANKS).startswith("[")


def _json_list(text: str, param: str) -> tuple[Scalar, ...]:
    try:
        values = load_json(text, param=param, max_depth=1)
    except GrammarError as error:
        raise GrammarError(
            f"{param} begins with [ and so must be a flat JSON array; {error.detail};"
            " put a value that is meant so in double quotes",
            param=param,
            value=shown(text, quote=False),
        ) from None
    assert isinstance(values, list)  # it begins with [, and the reader takes nothing after the array
    return tuple(values)


def unquote(item: str) -> str:
    """The item without its quotes, when it stands wholly in them; else the item."""
    quoted = _QUOTED.fullmatch(item)
    return quoted[1].replace('""', '"') if quoted else item


def quote(item: str) -> str:
    """The item as the comma rule reads it back: in double quotes when it needs them."""
    try:
        plain = item != "" and '"' not in item and not is_json(item) and split_items(item, "") == [item]
    except GrammarError:
        plain = False
    return item if plain else '"{}"'.format(item.replace('"', '""'))


def join_list(values: Iterable[str | int | float | bool | None]) -> str:
    """The text that :func:`split_list` reads back as the same values: with commas, or as JSON when not all are text.

    >>> join_list(["60M", "a,b", "(c, d)"])
    '60M,"a,b",(c, d)'
    >>> join_list(["60M", 5]), join_list([])
    ('["60M",5]', '[]')
    """
    values = tuple(values)
    if values and all(isinstance(value, str) for value in values):
        return ",".join(quote(str(value)) for value in values)
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
