"""The views of the first server under their old paths: each is a query of the default dataset, or of ``dataset=``."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter

from queries.errors import GrammarError
from queries.request import DEFAULT_FUNCTIONS, Aggregate, QueryRequest
from queries.schema import Schema
from queries.url import read_target
from server.answer import Question
from server.links import Address
from server.openapi import DATASET, FILTERS, FORMAT, QUERY_ANSWER, QUERY_PARAMETERS, VERSION, described, parameter
from server.parameters import first_value
from server.reading import question_of_name, question_of_url
from server.routes.query_route import Asked, QueryRoute, Reading
from server.scaling import question_of_scaling

router = APIRouter(prefix="/visualize", tags=["visualize"], route_class=QueryRoute)

TABLE_LIMIT = 1_000  # rows of a table that nobody gave a limit

_EXTRA = described(DATASET, *QUERY_PARAMETERS)


@router.get("/data", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def data(asked: Asked) -> Question:
    """Filtered rows."""
    dataset = _dataset(asked)
    return _named(question_of_url(asked.engine, dataset, asked.path, asked.pairs), dataset)


@router.get("/data/small", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def small(asked: Asked) -> Question:
    """The named query ``small``: for DataDecide the Dolma1.7 pile-valppl slice at step 5000."""
    return _of_name("small", asked)


@router.get("/data/unmelted", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def unmelted(asked: Asked) -> Question:
    """The named query ``unmelted``: one column per metric."""
    return _of_name("unmelted", asked)


@router.get("/data/ft", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def ft(asked: Asked) -> Question:
    """The named query ``ft``: the wide table of fine-tuning runs."""
    return _of_name("ft", asked)


@router.get(
    "/aggregated",
    responses=QUERY_ANSWER,
    openapi_extra=described(
        DATASET, *QUERY_PARAMETERS, parameter("metric", "Which metric; in a wide table, which column.")
    ),
)
def aggregated(asked: Asked) -> Question:
    """Groups with mean, standard deviation and count, or with what ``agg`` says."""
    dataset = _dataset(asked)
    if first_value(asked.pairs, "group_by") is None:
        raise GrammarError("group_by is needed: name the columns to group by, as group_by=params", param="group_by")
    _, version = read_target(asked.pairs)
    is_wide = asked.engine.version(dataset, version).schema.find("metric") is None
    question = question_of_url(
        asked.engine,
        dataset,
        asked.path,
        asked.pairs,
        also_reserved=("metric",) if is_wide else (),
        adjust=_measure if is_wide else None,
    )
    return _named(question, dataset)


@router.get("/table", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def table(asked: Asked) -> Question:
    """A page of rows; 1000 of them when ``limit`` does not say otherwise."""
    dataset = _dataset(asked)
    question = question_of_url(asked.engine, dataset, asked.path, asked.pairs, defaults={"limit": str(TABLE_LIMIT)})
    return _named(question, dataset)


@router.get(
    "/scaling",
    responses=QUERY_ANSWER,
    openapi_extra=described(
        DATASET,
        VERSION,
        FORMAT,
        parameter("x_axis", "Size, tokens or compute: a column of numbers, such as params_numeric."),
        parameter("y_axis", "A metric, or a column of numbers."),
        parameter("group_by", "One line for each value of these columns."),
        parameter("at", "Where in each run: last, best, step:N, tokens:N or compute:C."),
        parameter("fit", "ols: a straight line in the logarithms of both axes."),
        FILTERS,
    ),
)
def scaling(asked: Asked) -> Question:
    """A metric against size, tokens or compute: the points, and a line through those of each group."""
    dataset = _dataset(asked)
    question = question_of_scaling(asked.engine, dataset, asked.path, asked.pairs)
    return _named(question, dataset)


def _of_name(name: str, asked: Reading) -> Question:
    dataset = _dataset(asked)
    return _named(question_of_name(asked.engine, dataset, name, asked.path, asked.pairs), dataset)


def _dataset(asked: Reading) -> str:
    return read_target(asked.pairs)[0] or asked.settings.dataset


def _named(question: Question, dataset: str) -> Question:
    """The question with its dataset in the pinned URL, which must not follow the server's default."""
    pinned = question.pinned
    if pinned is None or not pinned.path.startswith("/api/visualize/"):
        return question
    pairs = [("dataset", dataset), *((key, value) for key, value in pinned.pairs if key != "dataset")]
    return replace(question, pinned=Address.of(pinned.path, pairs))


def _measure(request: QueryRequest, schema: Schema, own: dict[str, str]) -> QueryRequest:
    """In a wide table ``metric`` names the column that is aggregated; the answer looks as that of a long one."""
    metric = own.get("metric")
    if metric is None:
        return request
    aggregates = request.aggs or tuple(Aggregate(fn=fn) for fn in DEFAULT_FUNCTIONS)
    named = tuple(
        one if one.col is not None else one.model_copy(update={"col": metric, "as_": one.as_ or one.fn})
        for one in aggregates
    )
    return request.model_copy(update={"aggs": named})
