"""A question as a URL of the small API before PostgreSQL, and back."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlencode

from benchmarks.question import Question

_INTEGERS = ("step", "tokens")
_LISTS = ("columns", "group_by", "aggs", "sort", "facets")
KINDS = ("rows", "groups", "pivot", "scaling", "facets")
_WHERE = "where."


def path_of(question: Question) -> str:
    """``/rows?where.data=C4&columns=step&columns=value``."""
    pairs = [(_WHERE + name, str(value)) for name, values in question.where for value in values]
    pairs += [(name, value) for name in _LISTS for value in getattr(question, name)]
    pairs += [(name, str(value)) for name in ("pivot", "limit") if (value := getattr(question, name)) is not None]
    if question.offset:
        pairs.append(("offset", str(question.offset)))
    return f"/{question.dataset}/{question.kind}?{urlencode(pairs)}"


def question_of(dataset: str, kind: str, pairs: Iterable[tuple[str, str]]) -> Question:
    """The question of such a URL. Raises ValueError."""
    if kind not in KINDS:
        raise ValueError(f"no questions of the kind {kind}")
    where: dict[str, list[str | int]] = {}
    lists: dict[str, list[str]] = {}
    single: dict[str, str] = {}
    for name, value in pairs:
        if name.startswith(_WHERE):
            column = name.removeprefix(_WHERE)
            where.setdefault(column, []).append(int(value) if column in _INTEGERS else value)
        elif name in _LISTS:
            lists.setdefault(name, []).append(value)
        else:
            single[name] = value
    limit = single.get("limit")
    return Question(
        kind,  # type: ignore[arg-type]
        where=tuple((column, tuple(values)) for column, values in where.items()),
        **{name: tuple(values) for name, values in lists.items()},  # type: ignore[arg-type]
        limit=None if limit is None else int(limit),
        offset=int(single.get("offset", "0")),
        pivot=single.get("pivot"),
        dataset=dataset,
    )
