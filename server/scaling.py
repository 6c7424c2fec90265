"""From the parameters of ``visualize/scaling`` to a question whose answer is points and fits. Fits nothing itself."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from engine import Engine, ResultMeta
from engine.analysis.scaling import PreparedScaling, ScalingAnswer, ScalingRequest, prepare_scaling, run_scaling
from engine.store.state import is_pinned
from queries.errors import GrammarError, UnknownParameterError
from queries.lists import split_list
from server.answer import Found, Question
from server.documents import plain
from server.links import Address
from server.parameters import Pairs, first_value
from server.reading import read_query

_OWN = ("x_axis", "y_axis", "group_by", "at", "fit")
#: Of a query's parameters those that choose rows; the others would change what is fitted.
_SHAPING = tuple(
    "select agg sort limit offset cursor pivot pivot_values distinct last_by best_by facets explain total".split()
)


def question_of_scaling(engine: Engine, dataset: str, path: str, pairs: Pairs) -> Question:
    """The question that ``visualize/scaling`` asks with these parameters.

    Raises
    ------
    GrammarError, UnknownParameterError
        An axis is missing, or a parameter does not belong here.
    """
    for key, value in pairs:
        if key in _SHAPING or key.startswith("having."):
            raise UnknownParameterError(
                f"{key} does not apply to scaling, which takes filters and {', '.join(_OWN)}", param=key, value=value
            )
    read = read_query(engine, dataset, [pair for pair in pairs if pair[0] not in _OWN])
    request = ScalingRequest(
        read.request,
        _needed(pairs, "x_axis", "params_numeric"),
        _needed(pairs, "y_axis", "a metric"),
        _listed(pairs, "group_by"),
        _once(pairs, "at") or "last",
        tuple(dict.fromkeys(form for key, value in pairs if key == "fit" for form in value.split(","))) or ("ols",),
    )
    prepared = prepare_scaling(engine, request)
    version = prepared.points.version
    address = Address.of(path, pairs)
    return Question(
        version,
        prepared.query_id,
        lambda _: _run(engine, prepared),
        address,
        address.having(version=version.version.name),
        is_pinned(read.request.version, version.version),
        read.own.get("format"),
    )


def _run(engine: Engine, prepared: PreparedScaling) -> Found:
    found = run_scaling(engine, prepared)
    return Found(_Points(found), {"fits": plain(found.fits)})


class _Points:
    """The points of a scaling answer as rows that are all at hand."""

    complete = True
    engine_s = 0.0

    def __init__(self, found: ScalingAnswer) -> None:
        self._found = found
        self.schema: pa.Schema = found.table.schema

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return iter(self._found.table.to_batches())

    def meta(self) -> ResultMeta:
        return self._found.meta

    def count(self) -> int:
        return int(self._found.table.num_rows)

    def close(self) -> None:
        """Nothing is held."""


def _once(pairs: Pairs, key: str) -> str | None:
    if sum(name == key for name, _ in pairs) > 1:
        raise GrammarError(f"{key} is given twice", param=key)
    return first_value(pairs, key)


def _needed(pairs: Pairs, key: str, example: str) -> str:
    value = _once(pairs, key)
    if not value:
        raise GrammarError(f"{key} is needed: name a column, such as {example}", param=key)
    return value


def _listed(pairs: Pairs, key: str) -> tuple[str, ...]:
    value = _once(pairs, key)
    return tuple(str(name) for name in split_list(value, key)) if value else ()
