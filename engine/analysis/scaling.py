"""Scaling: a metric against size, tokens or compute at one point of each run's training, and the line through it.

The points are an ordinary query, prepared and run like any other; the fit works on what that gives.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.analysis.least_squares import fit_line
from engine.errors import ResultTooLargeError
from engine.result import ResultMeta, python_rows
from queries.errors import GrammarError, InvalidValueError, TypeMismatchError, UnknownColumnError, nearest
from queries.plan import OutputColumn
from queries.request import And, BestBy, Condition, QueryRequest
from queries.schema import Column, Role, Schema, parse_size_label
from queries.values import parse_value

if TYPE_CHECKING:
    from engine.engine import Engine, Prepared

FORMS = ("ols",)
MAX_POINTS = 100_000  # a fit reads them into Python
_PLACES = ("step", "tokens", "compute")  # exact places in training


@dataclass(frozen=True, slots=True)
class ScalingRequest:
    """What to plot against what.

    ``query`` has the dataset, the version and the filters. ``at`` is ``last``, ``best``, or ``column:value`` for the
    rows where an axis has a value (``step:5000``). ``forms`` are the laws to fit.
    """

    query: QueryRequest
    x_axis: str
    y_axis: str
    group_by: tuple[str, ...] = ()
    at: str = "last"
    forms: tuple[str, ...] = ("ols",)


@dataclass(frozen=True)
class PreparedScaling:
    """A scaling request that is known to be answerable; ``points`` is the query behind it."""

    request: ScalingRequest
    points: Prepared
    x: Column
    y: Column
    groups: tuple[Column, ...]
    canonical: str
    query_id: str


@dataclass(frozen=True)
class ScalingAnswer:
    """The points in the order of groups and x, as columns of the run and ``x`` and ``y``; and a fit per group and form.

    ``dropped`` counts points that have no place on logarithmic axes: null, NaN, infinite, zero or negative.
    """

    table: pa.Table
    columns: tuple[OutputColumn, ...]
    fits: tuple[dict[str, Any], ...]
    meta: ResultMeta
    dropped: int


def prepare_scaling(engine: Engine, request: ScalingRequest) -> PreparedScaling:
    """Resolve the axes and the query for the points. Runs nothing.

    Raises
    ------
    QueryError
        An axis is no number, a name is unknown, ``at`` or a form is not one.
    """
    for form in request.forms:
        if form not in FORMS:
            raise InvalidValueError(
                f"fit={form} is not available; there is {', '.join(FORMS)}",
                param="fit",
                value=form,
                did_you_mean=FORMS[:1],
            )
    schema = engine.version(request.query.dataset, request.query.version).schema
    x = _x_axis(schema, request.x_axis)
    y, metric = _y_axis(schema, request.y_axis)
    groups = tuple(_group_column(schema, name) for name in request.group_by)
    runs = tuple(column for column in schema.physical if column.role in (Role.DIMENSION, Role.SEED) and column != y)
    query = _at(request, schema, runs, y, metric)
    shown = {column.name: column for column in (*groups, *runs, *_steps(schema), x, y)}
    points = engine.prepare(query.model_copy(update={"select": tuple(shown), "limit": MAX_POINTS}))
    canonical = json.dumps(
        {
            "scaling": {
                "points": points.canonical,
                "x": x.name,
                "y": y.name,
                "group_by": [column.name for column in groups],
                "fit": list(request.forms),
            }
        },
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    query_id = hashlib.sha256(canonical.encode()).hexdigest()
    return PreparedScaling(request, points, x, y, groups, canonical, query_id)


def run_scaling(engine: Engine, prepared: PreparedScaling) -> ScalingAnswer:
    """Select the points and fit them."""
    result = engine.run(prepared.points)
    if result.meta.truncated:
        raise ResultTooLargeError(
            f"there would be more than {MAX_POINTS} points to fit; filter, or group by fewer runs"
        )
    rows = python_rows(result.table)
    x, y = prepared.x.name, prepared.y.name
    places = [place for place, row in enumerate(rows) if _is_positive(row[x]) and _is_positive(row[y])]
    order = _group_order([rows[place] for place in places], prepared.groups)
    # Stable, so that points of equal x stay in the order of the file.
    places.sort(key=lambda place: (order[_group(rows[place], prepared.groups)], float(rows[place][x])))
    kept = [rows[place] for place in places]
    chosen = result.table.take(pa.array(places, pa.int64())).combine_chunks()
    # The axes come under their own names too, unless those are taken by the roles that they play here.
    names = [name for name in result.table.schema.names if name not in (y, "x", "y")]
    table = pa.table(
        {
            **{name: chosen.column(name) for name in names},
            "x": pa.array([float(row[x]) for row in kept], pa.float64()),
            "y": pa.array([float(row[y]) for row in kept], pa.float64()),
        }
    )
    described = {column.name: column for column in result.meta.columns}
    columns = (
        *(described[name] for name in names),
        replace(described[x], name="x", sql_type="DOUBLE"),
        replace(described[y], name="y", sql_type="DOUBLE"),
    )
    dropped = len(rows) - len(kept)
    warnings = list(result.meta.warnings)
    if not rows:
        warnings.append(f"no row stands at {prepared.request.at} under these filters")
    if dropped:
        warnings.append(
            f"{dropped} of {len(rows)} points are null, NaN, infinite or not positive: they have no logarithm"
        )
    meta = replace(
        result.meta,
        query_id=prepared.query_id,
        limit=None,
        columns=columns,
        returned=len(kept),
        total=len(kept),
        warnings=tuple(warnings),
    )
    return ScalingAnswer(table, columns, _fits(prepared, kept), meta, dropped)


def _fits(prepared: PreparedScaling, rows: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(_group(row, prepared.groups), []).append(row)
    seed = prepared.points.version.schema.seed
    fits = []
    for group, members in grouped.items():
        x = [math.log(row[prepared.x.name]) for row in members]
        y = [math.log(row[prepared.y.name]) for row in members]
        seeds = None if seed is None else len({row[seed.name] for row in members} - {None})
        named = dict(zip((column.name for column in prepared.groups), group, strict=True))
        fits += [_fit(form, named, x, y, seeds) for form in prepared.request.forms]
    return tuple(fits)


def _fit(form: str, group: dict[str, Any], x: list[float], y: list[float], seeds: int | None) -> dict[str, Any]:
    """One fit as SPEC 3.4 writes it; ``params`` is None where there are too few points."""
    line = fit_line(x, y)
    common = {"group": group, "form": form, "loss": "log_l2", "n": len(x), "seeds": seeds}
    if line is None:
        return {**common, "params": None, "warnings": ["a line needs points at two different x"]}
    warnings = [] if line.n > 2 else ["two points leave nothing to estimate errors from"]
    return {
        **common,
        "params": {"slope": line.slope, "intercept": line.intercept},
        "standard_errors": {"slope": line.slope_error, "intercept": line.intercept_error},
        "objective": line.objective,
        "r2": line.r2,
        "residuals": list(line.residuals),
        "warnings": warnings,
    }


def _x_axis(schema: Schema, name: str) -> Column:
    column = schema.require(name, "x_axis")
    if column.is_size_label:
        return schema.by_name.get(f"{column.name}_numeric", column)
    if not column.kind.is_numeric:
        raise TypeMismatchError(
            f"x_axis needs numbers, and {column.name} is {column.kind}",
            param="x_axis",
            value=name,
            did_you_mean=[one.name for one in schema.columns if one.role is Role.AXIS][:3],
        )
    return column


def _y_axis(schema: Schema, name: str) -> tuple[Column, str | None]:
    """The column of the values, and in long form the metric whose they are."""
    column = schema.find(name)
    if column is not None and column.kind.is_numeric:
        return column, None
    if name in schema.metric_names() and schema.value_column is not None:
        return schema.by_name[schema.value_column], name
    if column is not None:
        raise TypeMismatchError(f"y_axis needs numbers, and {column.name} is {column.kind}", param="y_axis", value=name)
    metrics = sorted(str(metric) for metric in schema.metric_names())
    measures = [one.name for one in schema.measures]
    raise UnknownColumnError(
        f"{schema.dataset} has no column and no metric {name!r}",
        param="y_axis",
        value=name,
        did_you_mean=nearest(name, [*metrics, *measures]),
    )


def _group_column(schema: Schema, name: str) -> Column:
    column = schema.require(name, "group_by")
    if not column.kind.is_ordered:
        raise TypeMismatchError(f"{column.name} is {column.kind}; one groups by plain columns", param="group_by")
    return column


def _steps(schema: Schema) -> tuple[Column, ...]:
    return () if schema.step is None else (schema.step,)


def _at(
    request: ScalingRequest, schema: Schema, runs: tuple[Column, ...], y: Column, metric: str | None
) -> QueryRequest:
    """The query for the points: its filters, the metric, and at which place of each run."""
    parts = [] if request.query.where is None else [request.query.where]
    if metric is not None and schema.metric_column is not None:
        parts.append(Condition(col=schema.metric_column, value=metric))
    changes: dict[str, Any] = {}
    # In long form each metric is a curve of its own.
    extra = (schema.metric_column,) if schema.metric_column is not None and metric is None else ()
    by = (*(column.name for column in runs), *extra)
    kind, _, value = request.at.partition(":")
    if request.at == "last":
        if by and schema.step is not None:
            changes["last_by"] = by
    elif request.at == "best":
        if by:
            changes["best_by"] = BestBy(by=by, col=y.name if metric is None else None)
    elif value and kind in _PLACES and (axis := schema.find(kind)) is not None and axis.kind.is_numeric:
        parts.append(Condition(col=axis.name, value=parse_value(axis, value, param="at")))
    else:
        raise GrammarError(
            f"at is last, best, step:N, tokens:N or compute:C, where there is such a column, and not {request.at!r}",
            param="at",
            value=request.at,
        )
    where = parts[0] if len(parts) == 1 else And(and_=tuple(parts)) if parts else None
    return request.query.model_copy(update={**changes, "where": where})


def _is_positive(value: Any) -> bool:
    return value is not None and math.isfinite(number := float(value)) and number > 0


def _group(row: dict[str, Any], groups: Sequence[Column]) -> tuple[Any, ...]:
    return tuple(row[column.name] for column in groups)


def _group_order(rows: Sequence[dict[str, Any]], groups: Sequence[Column]) -> dict[tuple[Any, ...], int]:
    """Groups in the order of their values, sizes by their number, those with null last."""
    sizes = [column.is_size_label for column in groups]

    def rank(group: tuple[Any, ...]) -> tuple[Any, ...]:
        numbers = [
            parse_size_label(value) if size and value else value for value, size in zip(group, sizes, strict=True)
        ]
        return tuple((number is None, str(type(number)), 0 if number is None else number) for number in numbers)

    ordered = sorted({_group(row, groups) for row in rows}, key=rank)
    return {group: position for position, group in enumerate(ordered)}
