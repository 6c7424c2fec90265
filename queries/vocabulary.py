"""The words of the query language, and what somebody probably meant by a wrong one. Knows no column.

All three spellings use it: URL parameters, JSON body and Python builder.
"""

from __future__ import annotations

from collections.abc import Iterable

from queries.errors import GrammarError, nearest
from queries.request import FUNCTIONS, PERCENTILES, Operator

#: URL parameters that are no filters. A column with such a name is reached as ``c.<name>``.
RESERVED = tuple(
    "dataset version select group_by agg sort limit offset cursor pivot pivot_values distinct last_by best_by facets "
    "explain strict total format".split()
)

#: Part of the language, but not built: an error today, so that nobody takes an unsmoothed curve for a smooth one.
NOT_YET = ("smooth", "max_points")

OPERATORS: dict[str, Operator] = {operator.value: operator for operator in Operator}

# What other tools call the same thing. Never accepted, only suggested.
_OTHER_OPERATORS = {
    "=": "eq",
    "==": "eq",
    "!=": "ne",
    "<>": "ne",
    "neq": "ne",
    "not": "ne",
    "<": "lt",
    "<=": "lte",
    "le": "lte",
    ">": "gt",
    ">=": "gte",
    "ge": "gte",
    "not_in": "notin",
    "null": "isnull",
    "is_null": "isnull",
    "like": "glob",
    "regex": "glob",
    "exact": "eq",
    "range": "between",
}
_OTHER_FUNCTIONS = {
    "avg": "mean",
    "average": "mean",
    "stddev": "std",
    "stdev": "std",
    "variance": "var",
    "stderr": "sem",
    "n": "count",
    "size": "count",
    "len": "count",
    "total": "sum",
    "minimum": "min",
    "maximum": "max",
    "distinct": "nunique",
    "n_unique": "nunique",
    "count_distinct": "nunique",
    "quantile": "median",
    "p5": "p05",
}
_OTHER_FIELDS = {
    "order_by": "sort",
    "orderby": "sort",
    "filter": "where",
    "filters": "where",
    "columns": "select",
    "fields": "select",
    "groupby": "group_by",
    "per_page": "limit",
    "skip": "offset",
}


def nearest_words(given: str, accepted: Iterable[str], most: int = 3) -> tuple[str, ...]:
    """The accepted words that somebody who wrote ``given`` may have meant, best first.

    >>> nearest_words(">=", OPERATORS)
    ('gte',)
    >>> nearest_words("avg", FUNCTIONS)
    ('mean',)
    """
    accepted = tuple(accepted)
    others = (_OTHER_OPERATORS, _OTHER_FUNCTIONS, _OTHER_FIELDS)
    same = [words[given.casefold()] for words in others if words.get(given.casefold()) in accepted]
    return tuple(same) or nearest(given, accepted, most)


def find_operator(name: object, *, param: str) -> Operator:
    """The operator of that name.

    Raises
    ------
    GrammarError
        There is none.
    """
    if isinstance(name, str) and name in OPERATORS:
        return OPERATORS[name]
    raise GrammarError(
        f"{shown(name)} is no operator; the operators are {', '.join(OPERATORS)}",
        param=param,
        value=shown(name, quote=False),
        did_you_mean=nearest_words(name, OPERATORS) if isinstance(name, str) else (),
    )


def check_function(name: object, *, param: str) -> str:
    """``name`` itself, when it is an aggregate function.

    Raises
    ------
    GrammarError
        It is none.
    """
    if isinstance(name, str) and (name in FUNCTIONS or name in PERCENTILES):
        return name
    raise GrammarError(
        f"{shown(name)} is no aggregate function; the functions are {', '.join(FUNCTIONS)} and p01 to p99",
        param=param,
        value=shown(name, quote=False),
        did_you_mean=nearest_words(name, (*FUNCTIONS, *PERCENTILES)) if isinstance(name, str) else (),
    )


def shown(value: object, *, quote: bool = True, most: int = 200) -> str:
    """A value as an error quotes it: never much longer than ``most`` characters, and always encodable.

    >>> shown("a" * 500, most=5), shown(10**5_000), shown((1, None))
    ('"aaaaa…"', 'a huge number', '1, null')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > 1_000:  # far below the length at which str() itself gives up
        return "a huge number"
    if isinstance(value, (tuple, list)):
        text, quote = ", ".join(shown(item, quote=quote, most=most) for item in value[:20]), False
    else:
        text, quote = str(value), quote and isinstance(value, str)
    text = text if len(text) <= most else f"{text[:most]}…"
    text = text.encode("utf-8", "backslashreplace").decode()
    return f'"{text}"' if quote else text
