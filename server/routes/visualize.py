"""The views of the first server under their old paths: each is a query of the default dataset, or of ``dataset=``."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from queries.errors import GrammarError
from queries.request import DEFAULT_FUNCTIONS, Aggregate, QueryRequest
from queries.schema import Schema
from queries.url import read_target
from server.answer import Question, answer
from server.links import Address
from server.openapi import DATASET, FILTERS, FORMAT, QUERY_ANSWER, QUERY_PARAMETERS, VERSION, described, parameter
from server.parameters import Pairs, first_value
from server.reading import question_of_name, question_of_url
from server.routes.context import OpenEngine, Parameters, ServerSettings
from server.scaling import question_of_scaling

router = APIRouter(prefix="/visualize", tags=["visualize"])

TABLE_LIMIT = 1_000  # rows of a table that nobody gave a limit

_EXTRA = described(DATASET, *QUERY_PARAMETERS)


@router.get("/data", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def data(request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters) -> Response:
    """Filtered rows."""
    dataset, path = _dataset(pairs, settings.dataset), request.url.path
    return answer(request, _named(question_of_url(engine, dataset, path, pairs), dataset))


@router.get("/data/small", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def small(request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters) -> Response:
    """The named query ``small``: for DataDecide the Dolma1.7 pile-valppl slice at step 5000."""
    dataset, path = _dataset(pairs, settings.dataset), request.url.path
    return answer(request, _named(question_of_name(engine, dataset, "small", path, pairs), dataset))


@router.get("/data/unmelted", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def unmelted(request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters) -> Response:
    """The named query ``unmelted``: one column per metric."""
    dataset, path = _dataset(pairs, settings.dataset), request.url.path
    return answer(request, _named(question_of_name(engine, dataset, "unmelted", path, pairs), dataset))


@router.get("/data/ft", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def ft(request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters) -> Response:
    """The named query ``ft``: the wide table of fine-tuning runs."""
    dataset, path = _dataset(pairs, settings.dataset), request.url.path
    return answer(request, _named(question_of_name(engine, dataset, "ft", path, pairs), dataset))


@router.get(
    "/aggregated",
    responses=QUERY_ANSWER,
    openapi_extra=described(
        DATASET, *QUERY_PARAMETERS, parameter("metric", "Which metric; in a wide table, which column.")
    ),
)
def aggregated(request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters) -> Response:
    """Groups with mean, standard deviation and count, or with what ``agg`` says."""
    dataset = _dataset(pairs, settings.dataset)
    if first_value(pairs, "group_by") is None:
        raise GrammarError("group_by is needed: name the columns to group by, as group_by=params", param="group_by")
    _, version = read_target(pairs)
    is_wide = engine.version(dataset, version).schema.find("metric") is None
    question = question_of_url(
        engine,
        dataset,
        request.url.path,
        pairs,
        also_reserved=("metric",) if is_wide else (),
        adjust=_measure if is_wide else None,
    )
    return answer(request, _named(question, dataset))


@router.get("/table", responses=QUERY_ANSWER, openapi_extra=_EXTRA)
def table(request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters) -> Response:
    """A page of rows; 1000 of them when ``limit`` does not say otherwise."""
    dataset, path = _dataset(pairs, settings.dataset), request.url.path
    question = question_of_url(engine, dataset, path, pairs, defaults={"limit": str(TABLE_LIMIT)})
    return answer(request, _named(question, dataset))


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
def scaling(request: Request, engine: OpenEngine, settings: ServerSettings, pairs: Parameters) -> Response:
    """A metric against size, tokens or compute: the points, and a line through those of each group."""
    dataset = _dataset(pairs, settings.dataset)
    question = question_of_scaling(engine, dataset, request.url.path, pairs)
    return answer(request, _named(question, dataset))


def _dataset(pairs: Pairs, default: str) -> str:
    return read_target(pairs)[0] or default


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
