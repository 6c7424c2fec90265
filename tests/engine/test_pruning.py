"""Which files a plan can do without. That no row is lost is tested where many files are: ``test_properties.py``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from engine.pruning import files_of_plan
from queries.planner import Limits, plan_query
from queries.request import QueryRequest
from queries.schema import Column, Role, Schema
from queries.url import parse_query


@dataclass(frozen=True)
class Range:
    nulls: int
    min: Any
    max: Any


@dataclass(frozen=True)
class File:
    rows: int
    columns: Mapping[str, Range] = field(default_factory=dict)


SCHEMA = Schema(
    "d",
    (
        Column("metric", "VARCHAR", role=Role.ATTRIBUTE),
        Column("step", "BIGINT", role=Role.AXIS),
        Column("value", "DOUBLE", role=Role.MEASURE),
        Column("small", "FLOAT", role=Role.MEASURE),
    ),
)
FILES = [
    File(10, {"metric": Range(0, "acc", "loss"), "step": Range(0, 0, 9), "value": Range(0, -1.0, 0.5)}),
    File(10, {"metric": Range(0, "loss", "ppl"), "step": Range(0, 10, 19), "value": Range(2, 0.5, 7.0)}),
    File(10, {"metric": Range(10, None, None), "step": Range(0, 20, 29), "value": Range(0, None, None)}),
]


def chosen(query: str) -> tuple[int, ...]:
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in query.split("&") if part)]
    request, _ = parse_query([("dataset", "d"), *pairs], SCHEMA)
    return files_of_plan(plan_query(request, SCHEMA, Limits()), FILES)


@pytest.mark.parametrize(
    "query, files",
    [
        ("", (0, 1, 2)),
        ("metric=acc", (0,)),
        ("metric=loss", (0, 1)),
        ("metric=acc,ppl", (0, 1)),
        ("metric=zzz", ()),
        ("metric__ne=acc", (0, 1)),  # which says nothing, but for the file that holds nothing but null
        ("metric__isnull=true", (2,)),
        ("metric__isnull=false", (0, 1)),
        ("metric__gt=loss", (1,)),
        ("metric__contains=o", (0, 1)),
        ("step=10", (1,)),
        ("step__lt=10", (0,)),
        ("step__lte=10", (0, 1)),
        ("step__between=9,10", (0, 1)),
        ("step__gte=20", (2,)),
        ("step__in=0,29", (0, 2)),
        ("step__gte=10&metric=acc", ()),
        ("value=0.5", (0, 1, 2)),  # of the third nothing is known: there may be NaN in it
        ("value__gt=6", (1, 2)),
        ("value=nan", (0, 1, 2)),
        ("value__isnull=true", (1,)),
        ("small=1", (0, 1, 2)),
        ("limit=5", (0,)),
        ("limit=10", (0, 1)),  # an eleventh row tells that there are more
        ("limit=5&offset=8", (0, 1)),
        ("limit=5&sort=step", (0, 1, 2)),
        ("limit=5&metric=ppl", (1,)),
    ],
)
def test_files_of_plan(query: str, files: tuple[int, ...]) -> None:
    assert chosen(query) == files


def test_nan_in_a_list_is_looked_for() -> None:
    assert not math.isnan(FILES[1].columns["value"].max)
    request = QueryRequest(dataset="d")
    assert files_of_plan(plan_query(request, SCHEMA, Limits()), FILES) == (0, 1, 2)
