"""What is asked of both servers: scenarios named by what a user waits for. Measures nothing.

A scenario's ``paths`` are asked in turn. Where there are many, no two requests in a row are the same, so that a cache
of answers does not pass for speed; where there is one, it is a view that people open again and again. Our own cache of
answers is off while measuring, unless ``--cached`` is given.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from engine.demo.facts import PERPLEXITIES, RECIPES

Encoding = Literal["json", "columns", "arrow", "nothing"]

ROWS = "/api/visualize/data"
SEVEN = "mean,std,count,min,max,median,p95"


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing that a user waits for.

    Attributes
    ----------
    name
        Short, for ``--only`` and the tables.
    waits_for
        What the user sees when it is there.
    paths
        URLs, asked in turn.
    encoding
        What our answer is in; the seed's is always JSON.
    compare
        Columns in which both answers must agree, beside the number of rows.
    like
        The scenario whose seed measurement stands beside this one, for the formats that the seed does not have.
    light
        Answered in milliseconds, so that throughput is measured too.
    whole
        A full load: the seed is asked once.
    revalidate
        Sends the ETag of an earlier answer; the seed has none, and answers in full.
    """

    name: str
    waits_for: str
    paths: tuple[str, ...]
    encoding: Encoding = "json"
    compare: tuple[str, ...] = ()
    like: str | None = None
    light: bool = False
    whole: bool = False
    revalidate: bool = False

    @property
    def asks_seed(self) -> bool:
        return self.like is None


def url(path: str, **parameters: str | int) -> str:
    """A path with its query, every reserved character encoded.

    >>> url("/api/visualize/data", data_source="Dolma1.6++")
    '/api/visualize/data?data_source=Dolma1.6%2B%2B'
    """
    return f"{path}?{urlencode(parameters)}" if parameters else path


#: Every metric of one recipe at four sizes: 35 139 rows of the demo data, spread over all of the file.
_SLICE = {"data_source": "Dolma1.7", "params": "90M,300M,750M,1B"}
_LONG = ("params", "data", "step", "metric", "value")

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("health", "is it there?", ("/api/health",), encoding="nothing", light=True),
    Scenario("small", "the small view opens", (f"{ROWS}/small",), compare=_LONG, light=True),
    Scenario(
        "small-again", "the small view again, unchanged", (f"{ROWS}/small",), like="small", light=True, revalidate=True
    ),
    Scenario(
        "two-curves",
        "two loss curves of one recipe (54 rows; 275 different queries in turn)",
        tuple(
            url(ROWS, data_source=recipe, params="60M,150M", metric=metric)
            for metric, recipe in itertools.product(PERPLEXITIES, RECIPES)
        ),
        compare=_LONG,
        light=True,
    ),
    Scenario(
        "by-size",
        "one metric by size, seven aggregates (11 queries in turn)",
        tuple(url("/api/visualize/aggregated", group_by="params", metric=metric, agg=SEVEN) for metric in PERPLEXITIES),
        compare=("params", *SEVEN.split(",")),
        light=True,
    ),
    Scenario(
        "aggregated",
        "mean, std and count of every metric by size",
        (url("/api/visualize/aggregated", group_by="metric,params"),),
        compare=("metric", "params", "mean", "std", "count"),
    ),
    Scenario(
        "scaling",
        "a scaling line and its points, one per run (11 metrics in turn)",
        tuple(url("/api/visualize/scaling", x_axis="params_numeric", y_axis=metric) for metric in PERPLEXITIES),
        compare=("params", "data", "step", "x", "y"),
    ),
    Scenario(
        "table-first",
        "the table's first page",
        (url("/api/visualize/table", limit=1000, offset=0, sort="step"),),
        compare=_LONG,
    ),
    Scenario(
        "table-deep",
        "the table's page at row 1,000,000",
        (url("/api/visualize/table", limit=1000, offset=1_000_000, sort="step"),),
        compare=_LONG,
    ),
    Scenario("ft", "the fine-tuning table (149 × 483)", (f"{ROWS}/ft",), compare=("run_id", "params", "wall_time_s")),
    Scenario(
        "unmelted-recipe",
        "one recipe, a column per metric (337 × 226; 25 recipes in turn)",
        tuple(url(f"{ROWS}/unmelted", data_source=recipe) for recipe in RECIPES),
        compare=("params", "data", "step", "pile-valppl"),
    ),
    Scenario(
        "unmelted",
        "every recipe, a column per metric (8 425 × 226)",
        (f"{ROWS}/unmelted",),
        compare=("params", "data", "step", "pile-valppl"),
    ),
    Scenario("slice", "35 139 rows as JSON", (url(ROWS, **_SLICE),), compare=_LONG),
    Scenario(
        "slice-columns",
        "35 139 rows as columnar JSON",
        (url(ROWS, **_SLICE, format="columns"),),
        encoding="columns",
        like="slice",
    ),
    Scenario(
        "slice-arrow",
        "35 139 rows as Arrow",
        (url(ROWS, **_SLICE, format="arrow"),),
        encoding="arrow",
        like="slice",
    ),
    Scenario("full", "all rows as JSON", (ROWS,), compare=(), whole=True),
    Scenario(
        "full-columns",
        "all rows as columnar JSON",
        (url(ROWS, format="columns"),),
        encoding="columns",
        like="full",
        whole=True,
    ),
    Scenario(
        "full-arrow", "all rows as Arrow", (url(ROWS, format="arrow"),), encoding="arrow", like="full", whole=True
    ),
)


def named(name: str) -> Scenario:
    """The scenario of that name; KeyError when there is none."""
    found = next((scenario for scenario in SCENARIOS if scenario.name == name), None)
    if found is None:
        raise KeyError(name)
    return found


def chosen(patterns: list[str]) -> tuple[Scenario, ...]:
    """The scenarios that have one of the names, in order; all without names. A trailing ``*`` stands for any ending.

    Raises
    ------
    ValueError
        When a name is no scenario's.
    """
    if not patterns:
        return SCENARIOS
    names = [scenario.name for scenario in SCENARIOS]
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            raise ValueError(f"no scenario {pattern!r}; there are {', '.join(names)}")
    return tuple(scenario for scenario in SCENARIOS if any(_fits(scenario.name, pattern) for pattern in patterns))


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
