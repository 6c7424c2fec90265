"""What is asked of all systems: scenarios named by what a user waits for. Measures nothing.

A scenario's questions are asked in turn. Where there are many, no two requests in a row are the same, so that a cache
of answers or plans does not pass for speed; where there is one, it is a view that people open again and again. Our own
cache of answers is off while measuring, except where a scenario is about it.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlencode

from benchmarks.question import Question
from engine.demo.facts import METRICS, PERPLEXITIES, RECIPES, SIZES

Encoding = Literal["json", "columns", "arrow", "ndjson", "csv", "parquet", "nothing"]

ROWS = "/api/visualize/data"
SEVEN = "mean,std,count,min,max,median,p95"
IN_SEVERAL_FORMATS = ("slice", "full")  # there are scenarios of these in other formats
FILTERS = 5_000  # different simple filters, of 502,775 that there are
DEEP = 1_000_000
_SEED = 20_261_125


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
        Our URLs, asked in turn; the seed's way has the same.
    questions
        What each path asks, for the systems that have no such URLs; one to a path.
    encoding
        What the answer is in.
    compare
        Columns in which answers must agree, beside the number of rows.
    like
        The scenario whose measurement of the seed stands beside this one: it has JSON alone.
    light
        Answered in milliseconds, so that it is asked often.
    whole
        A full load: slow systems are asked once.
    revalidate
        Sends the ETag of an earlier answer. Others have none, and answer in full.
    keeps_answers
        Asks our second server, whose cache of answers is on.
    after
        The path of the page before: its ``next_cursor`` goes into ``paths``.
    most_times
        The largest size of data that it is asked of unless it is named.
    """

    name: str
    waits_for: str
    paths: tuple[str, ...]
    questions: tuple[Question, ...] = ()
    encoding: Encoding = "json"
    compare: tuple[str, ...] = ()
    like: str | None = None
    light: bool = False
    whole: bool = False
    revalidate: bool = False
    keeps_answers: bool = False
    after: str | None = None
    most_times: int = 100

    @property
    def is_bare(self) -> bool:
        """No query runs, so that the bare reply alone is the limit."""
        return self.revalidate or self.keeps_answers or self.encoding == "nothing"


def url(path: str, **parameters: str | int) -> str:
    """A path with its query, every reserved character encoded.

    >>> url("/api/visualize/data", data_source="Dolma1.6++")
    '/api/visualize/data?data_source=Dolma1.6%2B%2B'
    """
    return f"{path}?{urlencode(parameters)}" if parameters else path


_LONG = ("params", "data", "step", "metric", "value")
_CHECKPOINT = ("params", "data", "step", "tokens", "compute")
_WIDE = ("params", "data", "step", "pile-valppl")

_SMALL = Question("rows", where=(("data", ("Dolma1.7",)), ("metric", ("pile-valppl",)), ("step", (5_000,))))
_ALL = Question("rows")

#: Every metric of one recipe at four sizes: 35 139 rows of the demo data, spread over all of the file.
_SLICE = {"data_source": "Dolma1.7", "params": "90M,300M,750M,1B"}
_SLICE_QUESTION = Question("rows", where=(("data", ("Dolma1.7",)), ("params", ("90M", "300M", "750M", "1B"))))
_GROUPS = ("params", "data", "metric")


def _filters() -> list[tuple[str, str, str, str]]:
    """Recipe, two sizes and a metric, each combination once, in an order that keeps neighbours apart."""
    pairs = list(itertools.combinations([size.label for size in SIZES], 2))
    every = range(len(RECIPES) * len(pairs) * len(METRICS))
    chosen_ones = random.Random(_SEED).sample(every, FILTERS)
    found = []
    for number in chosen_ones:
        rest, metric = divmod(number, len(METRICS))
        pair, recipe = divmod(rest, len(RECIPES))
        found.append((RECIPES[recipe], *pairs[pair], METRICS[metric]))
    return found


def _filter_scenario() -> Scenario:
    asked = _filters()
    return Scenario(
        "filter",
        f"a simple filter: a metric of a recipe at two sizes ({FILTERS:,} different ones in turn)",
        tuple(url(ROWS, data_source=recipe, params=f"{a},{b}", metric=metric) for recipe, a, b, metric in asked),
        tuple(
            Question("rows", where=(("data", (recipe,)), ("params", (a, b)), ("metric", (metric,))))
            for recipe, a, b, metric in asked
        ),
        compare=_LONG,
        light=True,
    )


def _formats_of_slice() -> list[Scenario]:
    return [
        Scenario(
            f"slice-{encoding}",
            f"35 139 rows as {words}",
            (url(ROWS, **_SLICE, format=encoding),),
            (_SLICE_QUESTION,),
            encoding=encoding,
            like="slice",
        )
        for encoding, words in _WORDS.items()
        if encoding in ("columns", "arrow")
    ]


def _formats_of_all() -> list[Scenario]:
    return [
        Scenario(
            f"full-{encoding}",
            f"all rows as {words}",
            (url(ROWS, format=encoding),),
            (_ALL,),
            encoding=encoding,
            like="full",
            whole=True,
            most_times=10 if encoding == "arrow" else 1,
        )
        for encoding, words in _WORDS.items()
    ]


_WORDS: dict[Encoding, str] = {
    "columns": "columnar JSON",
    "arrow": "Arrow",
    "ndjson": "NDJSON",
    "csv": "CSV",
    "parquet": "parquet",
}


def _page(name: str, waits_for: str, offset: int) -> Scenario:
    return Scenario(
        name,
        waits_for,
        (url("/api/visualize/table", limit=1000, offset=offset, sort="step"),),
        (Question("rows", sort=("step",), limit=1000, offset=offset),),
        compare=_LONG,
    )


def _cursor_page(name: str, waits_for: str, offset: int) -> Scenario:
    """In the order of the file, which is where a cursor does not skip."""
    return Scenario(
        name,
        waits_for,
        (url("/api/visualize/table", limit=1000),),
        (Question("rows", limit=1000, offset=offset),),
        after=url("/api/visualize/table", limit=1000, offset=offset - 1000),
        compare=_LONG,
    )


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("health", "is it there?", ("/api/health",), (Question("health"),), encoding="nothing", light=True),
    Scenario("small", "the small view opens", (f"{ROWS}/small",), (_SMALL,), compare=_LONG, light=True),
    Scenario(
        "small-again",
        "the small view again, unchanged (304)",
        (f"{ROWS}/small",),
        (_SMALL,),
        like="small",
        light=True,
        revalidate=True,
    ),
    Scenario(
        "small-cached",
        "the small view, which somebody asked before (our cache of answers on)",
        (f"{ROWS}/small",),
        (_SMALL,),
        like="small",
        light=True,
        keeps_answers=True,
    ),
    _filter_scenario(),
    Scenario(
        "by-size",
        "one metric by size, seven aggregates with median and p95 (221 metrics in turn)",
        tuple(url("/api/visualize/aggregated", group_by="params", metric=metric, agg=SEVEN) for metric in METRICS),
        tuple(
            Question("groups", where=(("metric", (metric,)),), group_by=("params",), aggs=tuple(SEVEN.split(",")))
            for metric in METRICS
        ),
        compare=("params", *SEVEN.split(",")),
        light=True,
    ),
    Scenario(
        "aggregated",
        "mean, std and count of every metric by size",
        (url("/api/visualize/aggregated", group_by="metric,params"),),
        (Question("groups", group_by=("metric", "params"), aggs=("mean", "std", "count")),),
        compare=("metric", "params", "mean", "std", "count"),
    ),
    Scenario(
        "groups",
        "mean and count by size, recipe and metric (77,350 groups)",
        (url("/api/visualize/aggregated", group_by=",".join(_GROUPS), agg="mean,count"),),
        (Question("groups", group_by=_GROUPS, aggs=("mean", "count")),),
        compare=(*_GROUPS, "mean", "count"),
    ),
    Scenario(
        "groups-top",
        "the largest 1,000 of them",
        (url("/api/visualize/aggregated", group_by=",".join(_GROUPS), agg="mean,count", sort="-mean", limit=1000),),
        (Question("groups", group_by=_GROUPS, aggs=("mean", "count"), sort=("-mean",), limit=1000),),
        compare=("mean", "count"),
    ),
    Scenario(
        "scaling",
        "a scaling line for each recipe and its points (11 metrics in turn)",
        tuple(
            url("/api/visualize/scaling", x_axis="params_numeric", y_axis=metric, group_by="data", fit="ols")
            for metric in PERPLEXITIES
        ),
        tuple(Question("scaling", where=(("metric", (metric,)),), group_by=("data",)) for metric in PERPLEXITIES),
        compare=("params", "data", "step", "x", "y"),
    ),
    _page("table-first", "the table's first page, by step", 0),
    _page("table-deep", "the table's page at row 1,000,000, by step", DEEP),
    _cursor_page("cursor-second", "the second page, by cursor", 1000),
    _cursor_page("cursor-deep", "the page at row 1,000,000, by cursor", DEEP),
    Scenario(
        "facets",
        "how many rows each size and each recipe has of a metric (221 in turn)",
        tuple(url(ROWS, metric=metric, facets="params,data", limit=0) for metric in METRICS),
        tuple(Question("facets", where=(("metric", (metric,)),), facets=("params", "data")) for metric in METRICS),
        compare=("facet", "value", "count"),
    ),
    Scenario(
        "ft",
        "the fine-tuning table (149 × 483)",
        (f"{ROWS}/ft",),
        (Question("rows", dataset="ft-matched"),),
        compare=("run_id", "params", "wall_time_s"),
    ),
    Scenario(
        "unmelted-recipe",
        "one recipe, a column per metric (337 × 226; 25 recipes in turn)",
        tuple(url(f"{ROWS}/unmelted", data_source=recipe) for recipe in RECIPES),
        tuple(
            Question("pivot", where=(("data", (recipe,)),), columns=_CHECKPOINT, pivot="metric") for recipe in RECIPES
        ),
        compare=_WIDE,
    ),
    Scenario(
        "unmelted",
        "every recipe, a column per metric (8 425 × 226)",
        (f"{ROWS}/unmelted",),
        (Question("pivot", columns=_CHECKPOINT, pivot="metric"),),
        compare=_WIDE,
        most_times=10,
    ),
    Scenario("slice", "35 139 rows as JSON", (url(ROWS, **_SLICE),), (_SLICE_QUESTION,), compare=_LONG),
    *_formats_of_slice(),
    Scenario("full", "all rows as JSON", (ROWS,), (_ALL,), whole=True, most_times=10),
    *_formats_of_all(),
)


def named(name: str) -> Scenario:
    """The scenario of that name; KeyError when there is none."""
    found = next((scenario for scenario in SCENARIOS if scenario.name == name), None)
    if found is None:
        raise KeyError(name)
    return found


def chosen(patterns: list[str], times: int = 1) -> tuple[Scenario, ...]:
    """The scenarios that have one of the names, in order. A trailing ``*`` stands for any ending.

    Without names all that are asked of data of that size.

    Raises
    ------
    ValueError
        When a name is no scenario's.
    """
    if not patterns:
        return tuple(scenario for scenario in SCENARIOS if times <= scenario.most_times)
    names = [scenario.name for scenario in SCENARIOS]
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in names):
            raise ValueError(f"no scenario {pattern!r}; there are {', '.join(names)}")
    return tuple(scenario for scenario in SCENARIOS if any(_fits(scenario.name, pattern) for pattern in patterns))


def _fits(name: str, pattern: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern
