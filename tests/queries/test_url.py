"""The URL's grammar: filters, lists, parameters, what is refused and how, and writing a request back."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from engine.demo.facts import RECIPES
from queries.errors import (
    GrammarError,
    InvalidValueError,
    LimitExceededError,
    QueryError,
    UnknownColumnError,
    UnknownParameterError,
)
from queries.request import Aggregate, And, BestBy, Condition, Not, Operator, Or, QueryRequest, SortKey, Where
from queries.schema import Column, Role, Schema
from queries.url import MAX_PARAMETERS, parse_query, read_target
from queries.url_format import format_query
from queries.values import format_value

SCHEMA = Schema(
    "demo",
    (
        Column("params", "VARCHAR", Role.DIMENSION, is_size_label=True),
        Column("data", "VARCHAR", Role.DIMENSION, aliases=("data_source", "recipe")),
        Column("metric", "VARCHAR", Role.METRIC),
        Column("step", "BIGINT", Role.AXIS),
        Column("value", "DOUBLE", Role.MEASURE),
        Column("at", "TIMESTAMP"),
        Column("limit", "BIGINT"),  # as the parameter
        Column("smooth", "DOUBLE"),  # as the parameter to come
        Column("having.x", "BIGINT"),  # as a condition on groups
        Column("x", "BIGINT"),
        Column("x__gt", "BIGINT"),  # as an operator on x
        Column("c.y", "BIGINT"),  # as the long spelling of y
        Column("y", "BIGINT"),
        Column("-neg", "BIGINT"),  # as neg, descending
        Column("a,b:c", "BIGINT"),
    ),
)


def pairs_of(query: str) -> list[tuple[str, str]]:
    return parse_qsl(query.replace("%", "%25"), keep_blank_values=True)


def parse(query: str, **more: Any) -> QueryRequest:
    return parse_query(pairs_of(query), SCHEMA, **more)[0]


def eq(col: str, value: object, op: str = "eq") -> Condition:
    return Condition(col=col, op=Operator(op), value=value)


def both(*parts: Where) -> And:
    return And(and_=parts)


FILTERS: dict[str, tuple[str, Where | None]] = {
    "nothing": ("", None),
    "one": ("step=5000", eq("step", "5000")),
    "not typed here": ("step=abc", eq("step", "abc")),
    "list": ("params=60M,150M", eq("params", ("60M", "150M"), "in")),
    "repeated": ("params=60M&params=150M,1B", eq("params", ("60M", "150M", "1B"), "in")),
    "repeated, others between": (
        "params=60M&step=1&params=150M",
        both(eq("params", ("60M", "150M"), "in"), eq("step", "1")),
    ),
    "empty text": ("data=", eq("data", "")),
    "quoted": ('data="a,b"', eq("data", "a,b")),
    "json": ('step=[1,"2",3.5]', eq("step", (1, "2", 3.5), "in")),
    "json of one": ("step=[1]", eq("step", 1)),
    "json of none": ("step=[]", eq("step", (), "in")),
    "eq does not split": ("data__eq=a,b", eq("data", "a,b")),
    "eq takes anything": ('data__eq=[ "(', eq("data", '[ "(')),
    "ne": ("data__ne=a,b", eq("data", "a,b", "ne")),
    "lt": ("step__lt=5e3", eq("step", "5e3", "lt")),
    "lte": ("step__lte=5", eq("step", "5", "lte")),
    "gt": ("step__gt=5", eq("step", "5", "gt")),
    "gte": ("params__gte=150M", eq("params", "150M", "gte")),
    "in": ("params__in=60M,150M", eq("params", ("60M", "150M"), "in")),
    "in, one": ("params__in=60M", eq("params", ("60M",), "in")),
    "in, repeated": ("params__in=60M&params__in=1B", eq("params", ("60M", "1B"), "in")),
    "notin": ("params__notin=60M,150M", eq("params", ("60M", "150M"), "notin")),
    "between": ("step__between=1,2", eq("step", ("1", "2"), "between")),
    "isnull": ("data__isnull=1", eq("data", True, "isnull")),
    "isnull, false": ("data__isnull=false", eq("data", False, "isnull")),
    "isnull, bare": ("data__isnull=", eq("data", True, "isnull")),
    "contains": ("data__contains=a,b", eq("data", "a,b", "contains")),
    "startswith": ("data__startswith=(", eq("data", "(", "startswith")),
    "endswith": ('data__endswith="', eq("data", '"', "endswith")),
    "glob": ("data__glob=[ab]*", eq("data", "[ab]*", "glob")),
    "different keys": (
        "params=60M&params__eq=150M&params__in=1B",
        both(eq("params", "60M"), eq("params", "150M"), eq("params", ("1B",), "in")),
    ),
    "alias": ("data_source=C4&recipe__ne=Falcon", both(eq("data_source", "C4"), eq("recipe", "Falcon", "ne"))),
    "reserved name": ("c.limit=5&c.limit__gt=3", both(eq("limit", "5"), eq("limit", "3", "gt"))),
    "reserved name, operator": ("limit__gt=3", eq("limit", "3", "gt")),
    "c. where it is not needed": ("c.step=5&step=6", both(eq("step", "5"), eq("step", "6"))),
    "name to come": ("c.smooth=1", eq("smooth", "1")),
    "name like having": ("c.having.x=1", eq("having.x", "1")),
    "whole name first": ("x__gt=5&c.x__gt=6", both(eq("x__gt", "5"), eq("x__gt", "6"))),
    "operator on such a name": ("x__gt__gt=5&x__lt=6", both(eq("x__gt", "5", "gt"), eq("x", "6", "lt"))),
    "name that begins with c.": ("c.c.y=1&c.y=2", both(eq("c.y", "1"), eq("y", "2"))),
    "unencoded plus": ("data=Dolma1.6++", eq("data", "Dolma1.6")),
    "all recipes": (f"data={','.join(RECIPES).replace('+', '%2B')}", eq("data", RECIPES, "in")),
}


@pytest.mark.parametrize("query, where", FILTERS.values(), ids=FILTERS)
def test_filters(query: str, where: Where | None) -> None:
    pairs = parse_qsl(query.replace("%2B", "\1").replace("%", "%25").replace("\1", "%2B"), keep_blank_values=True)
    assert parse_query(pairs, SCHEMA) == (QueryRequest(dataset="demo", where=where), {})


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "dataset": ("dataset=other", {"dataset": "other"}),
    "version": ("version=v7", {"version": "v7"}),
    "select": ("select=params, data", {"select": ("params", "data")}),
    "select, quoted": ('select="a,b:c",x', {"select": ("a,b:c", "x")}),
    "select, json": ('select=["a,b:c"]', {"select": ("a,b:c",)}),
    "select, not resolved here": ("select=nothing", {"select": ("nothing",)}),
    "group_by": ("group_by=params,data_source", {"group_by": ("params", "data_source")}),
    "agg": ("agg=mean,std", {"aggs": (Aggregate(fn="mean"), Aggregate(fn="std"))}),
    "agg, columns": (
        "agg=mean:value,max:step,p05:value,p99",
        {
            "aggs": (
                Aggregate(fn="mean", col="value"),
                Aggregate(fn="max", col="step"),
                Aggregate(fn="p05", col="value"),
                Aggregate(fn="p99"),
            )
        },
    ),
    "agg, first colon": ("agg=max:a:b", {"aggs": (Aggregate(fn="max", col="a:b"),)}),
    "agg, item in quotes": (
        'agg="max:a,b:c",count',
        {"aggs": (Aggregate(fn="max", col="a,b:c"), Aggregate(fn="count"))},
    ),
    "agg, column in quotes": ('agg=max:"a,b:c"', {"aggs": (Aggregate(fn="max", col="a,b:c"),)}),
    "agg, json": ('agg=["max:a,b:c"]', {"aggs": (Aggregate(fn="max", col="a,b:c"),)}),
    "agg, quotes in the name": ('agg="max:""q"""', {"aggs": (Aggregate(fn="max", col='"q"'),)}),
    "sort": ("sort=-mean,step", {"sort": (SortKey(col="mean", desc=True), SortKey(col="step"))}),
    "sort, name with a dash": ("sort=-neg,--neg", {"sort": (SortKey(col="-neg"), SortKey(col="-neg", desc=True))}),
    "sort, quoted": ('sort="-a,b:c"', {"sort": (SortKey(col="a,b:c", desc=True),)}),
    "sort, name in quotes": ('sort=-"a,b:c"', {"sort": (SortKey(col="a,b:c", desc=True),)}),
    "sort, json": ('sort=["-mean"]', {"sort": (SortKey(col="mean", desc=True),)}),
    "limit": ("limit=1000&offset=0", {"limit": 1000, "offset": 0}),
    "limit 0": ("limit=0", {"limit": 0}),
    "largest offset": (f"offset={2**63 - 1}", {"offset": 2**63 - 1}),
    "cursor": ("cursor=abc", {"cursor": "abc"}),
    "pivot": ("pivot=metric&pivot_values=value", {"pivot": "metric", "pivot_values": "value"}),
    "distinct": ("distinct=1", {"distinct": True}),
    "distinct, not": ("distinct=false", {"distinct": False}),
    "last_by": ("last_by=params,data", {"last_by": ("params", "data")}),
    "best_by": ("best_by=params,data", {"best_by": BestBy(by=("params", "data"))}),
    "best_by, largest": (
        "best_by=params,data:-value",
        {"best_by": BestBy(by=("params", "data"), col="value", desc=True)},
    ),
    "best_by, smallest": ("best_by=params:value", {"best_by": BestBy(by=("params",), col="value", desc=False)}),
    "best_by, quoted": (
        'best_by="a,b:c",x:-"a,b:c"',
        {"best_by": BestBy(by=("a,b:c", "x"), col="a,b:c", desc=True)},
    ),
    "best_by, all quoted": ('best_by=x:"-a,b:c"', {"best_by": BestBy(by=("x",), col="a,b:c", desc=True)}),
    "best_by, last colon": ("best_by=a:b:x", {"best_by": BestBy(by=("a:b",), col="x", desc=False)}),
    "best_by, dash": ("best_by=x:-neg", {"best_by": BestBy(by=("x",), col="-neg", desc=False)}),
    "best_by, json": ('best_by=["a,b:c"]:-x', {"best_by": BestBy(by=("a,b:c",), col="x", desc=True)}),
    "best_by, json alone": ('best_by=["a,b:c"]', {"best_by": BestBy(by=("a,b:c",))}),
    "facets": ("facets=params,data", {"facets": ("params", "data")}),
    "explain": ("explain=true", {"explain": True}),
    "strict": ("strict=0", {"strict": False}),
    "total": ("total=0", {"total": False}),
    "having": ("having.mean__gt=0.4", {"having": eq("mean", "0.4", "gt")}),
    "having, bare": ("having.n=1,2&having.n=3", {"having": eq("n", ("1", "2", "3"), "in")}),
    "having, any name": ("having.a__b.c__lt=1", {"having": eq("a__b.c", "1", "lt")}),
    "having, two": (
        "having.mean__gt=1&having.mean__lt=2",
        {"having": both(eq("mean", "1", "gt"), eq("mean", "2", "lt"))},
    ),
}


@pytest.mark.parametrize("query, fields", SHAPES.values(), ids=SHAPES)
def test_shapes(query: str, fields: dict[str, Any]) -> None:
    assert parse(query) == QueryRequest(**{"dataset": "demo", **fields})


REFUSED: dict[str, tuple[str, type[QueryError], str, tuple[str, ...]]] = {
    # query, class, param, the best of did_you_mean
    "misspelt column": ("prams=60M", UnknownParameterError, "prams", ("params",)),
    "misspelt alias": ("data_sorce=C4", UnknownParameterError, "data_sorce", ("data_source",)),
    "misspelt parameter": ("grup_by=data", UnknownParameterError, "grup_by", ("group_by",)),
    "case": ("Params=60M", UnknownParameterError, "Params", ("params",)),
    "another tool's word": ("order_by=step", UnknownParameterError, "order_by", ("sort",)),
    "nothing like it": ("zzzzzzzzz=1", UnknownParameterError, "zzzzzzzzz", ()),
    "empty key": ("=1", UnknownParameterError, "", ()),
    "no operator": ("params__foo=1", UnknownParameterError, "params__foo", ()),
    "misspelt operator": ("params__contain=1", UnknownParameterError, "params__contain", ("params__contains",)),
    "another tool's operator": ("step__ge=1", UnknownParameterError, "step__ge", ("step__gte",)),
    "no operator, c.": ("c.limit__ge=1", UnknownParameterError, "c.limit__ge", ("c.limit__gte",)),
    "no column": ("prams__gte=1", UnknownColumnError, "prams__gte", ("params__gte",)),
    "no column, c.": ("c.limi=1", UnknownColumnError, "c.limi", ("c.limit",)),
    "no column, reserved": ("lmit__gt=1", UnknownColumnError, "lmit__gt", ("c.limit__gt",)),
    "metric as a column": ("pile-valppl=1", UnknownParameterError, "pile-valppl", ()),
    "operator on nothing": ("__gt=1", UnknownParameterError, "__gt", ()),
    "to come": ("max_points=2000", UnknownParameterError, "max_points", ()),
    "to come, though a column": ("smooth=ema:0.9", UnknownParameterError, "smooth", ()),
    "repeated operator": ("step__gt=1&step__gt=2", GrammarError, "step__gt", ()),
    "repeated eq": ("step__eq=1&step__eq=1", GrammarError, "step__eq", ()),
    "repeated notin": ("step__notin=1&step__notin=2", GrammarError, "step__notin", ()),
    "repeated parameter": ("limit=1&limit=1", GrammarError, "limit", ()),
    "repeated list": ("group_by=data&group_by=params", GrammarError, "group_by", ()),
    "repeated having": ("having.n__gt=1&having.n__gt=2", GrammarError, "having.n__gt", ()),
    "unbalanced": ("data=a (b", GrammarError, "data", ()),
    "unbalanced, in": ('data__in="a', GrammarError, "data__in", ()),
    "unbalanced having": ("having.n=(", GrammarError, "having.n", ()),
    "json": ("data=[a]", GrammarError, "data", ()),
    "having nothing": ("having.=1", GrammarError, "having.", ()),
    "empty select": ("select=", GrammarError, "select", ()),
    "blank select": ("select=  ", GrammarError, "select", ()),
    "empty json select": ("select=[]", GrammarError, "select", ()),
    "select of numbers": ("select=[1]", GrammarError, "select", ()),
    "select, gap": ("select=a,,b", GrammarError, "select", ()),
    "empty pivot": ("pivot=", GrammarError, "pivot", ()),
    "empty version": ("version=", GrammarError, "version", ()),
    "no function": ("agg=avg", GrammarError, "agg", ("mean",)),
    "no percentile": ("agg=p100", GrammarError, "agg", ()),
    "one digit": ("agg=p5", GrammarError, "agg", ("p05",)),
    "function of nothing": ("agg=mean:", GrammarError, "agg", ()),
    "sort by nothing": ("sort=-", GrammarError, "-", ()),
    "best of nothing": ("best_by=:value", GrammarError, "best_by", ()),
    "best by nothing": ("best_by=params:", GrammarError, "best_by", ()),
    "best, bad json": ('best_by=["a":-x', GrammarError, "best_by", ()),
    "limit": ("limit=-1", InvalidValueError, "limit", ()),
    "limit, text": ("limit=ten", InvalidValueError, "limit", ()),
    "limit, empty": ("limit=", InvalidValueError, "limit", ()),
    "limit, float": ("limit=1e3", InvalidValueError, "limit", ()),
    "limit, Arabic": ("limit=٥", InvalidValueError, "limit", ()),
    "limit, huge": (f"limit={2**63}", InvalidValueError, "limit", ()),
    "limit, gigantic": (f"limit={'9' * 9_999}", InvalidValueError, "limit", ()),
    "switch": ("distinct=yes", InvalidValueError, "distinct", ()),
    "switch, empty": ("strict=", InvalidValueError, "strict", ()),
    "isnull": ("data__isnull=maybe", InvalidValueError, "data__isnull", ()),
    "too many values": (f"step={','.join('1' * 10_001)}", LimitExceededError, "step", ()),
    "too many, joined": ("&".join([f"step={','.join('1' * 6_000)}"] * 2), LimitExceededError, "step", ()),
    "too many names": (f"select={','.join('a' * 10_001)}", LimitExceededError, "select", ()),
}


@pytest.mark.parametrize("query, error, param, best", REFUSED.values(), ids=REFUSED)
def test_refused(query: str, error: type[QueryError], param: str, best: tuple[str, ...]) -> None:
    with pytest.raises(error) as caught:
        parse(query)
    assert type(caught.value) is error
    assert caught.value.param == param
    assert caught.value.did_you_mean[: len(best)] == best
    assert len(caught.value.detail) < 500


def test_an_unknown_operator_says_which_there_are() -> None:
    with pytest.raises(UnknownParameterError) as caught:
        parse("params__foo=1")
    assert all(operator.value in caught.value.detail for operator in Operator)
    assert '"foo"' in caught.value.detail


def test_the_number_of_parameters_has_a_bound() -> None:
    assert parse("&".join(["step=1"] * MAX_PARAMETERS))
    with pytest.raises(LimitExceededError, match="JSON body"):
        parse("&".join(["step=1"] * (MAX_PARAMETERS + 1)))


@pytest.mark.parametrize("pair", [("data", "\ud800"), ("\udfff", "a")])
def test_what_is_no_text_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(GrammarError) as caught:
        parse_query([pair], SCHEMA)
    assert caught.value.detail.encode() and str(caught.value.param).encode()


def test_the_routes_own_parameters() -> None:
    pairs = pairs_of("x_axis=step&format=csv&smooth=mean:5&limit=many&data=C4")
    request, own = parse_query(pairs, SCHEMA, also_reserved=("x_axis", "y_axis", "smooth", "limit"))
    assert request == QueryRequest(dataset="demo", where=eq("data", "C4"))
    assert own == {"x_axis": "step", "format": "csv", "smooth": "mean:5", "limit": "many"}
    with pytest.raises(GrammarError, match="given twice"):
        parse_query([*pairs, ("x_axis", "x")], SCHEMA, also_reserved=("x_axis", "smooth", "limit"))
    with pytest.raises(UnknownParameterError) as caught:
        parse_query([("x_axes", "step")], SCHEMA, also_reserved=("x_axis",))
    assert caught.value.did_you_mean[0] == "x_axis"


def test_format_is_the_routes_also_when_it_asks_for_nothing() -> None:
    assert parse_query([("format", "csv")], SCHEMA)[1] == {"format": "csv"}


def test_target() -> None:
    assert read_target(pairs_of("a=1&version=v3&dataset=other&a=2")) == ("other", "v3")
    assert read_target([]) == (None, None)
    for query in ("version=1&version=2", "dataset="):
        with pytest.raises(GrammarError):
            read_target(pairs_of(query))


# --- writing


@pytest.mark.parametrize("query", [case[0] for case in (*FILTERS.values(), *SHAPES.values())])
def test_what_was_read_is_written_back(query: str) -> None:
    request = parse(query)
    pairs = format_query(request, SCHEMA)
    assert pairs is not None
    assert as_text(parse_query(parse_qsl(urlencode(pairs), keep_blank_values=True), SCHEMA)[0]) == as_text(request)


WRITTEN: dict[str, tuple[Where | None, list[tuple[str, str]]]] = {
    "plain": (eq("data", "Dolma1.6++"), [("data", "Dolma1.6++")]),
    "parentheses": (eq("data", "a (b, c)"), [("data", "a (b, c)")]),
    "comma": (eq("data", "a,b"), [("data__eq", "a,b")]),
    "bracket": (eq("data", "[a]"), [("data__eq", "[a]")]),
    "blanks": (eq("data", " a"), [("data__eq", " a")]),
    "typed": (eq("step", 5000), [("step", "5000")]),
    "float": (eq("value", 0.1, "lt"), [("value__lt", "0.1")]),
    "bool": (eq("x", None, "isnull"), [("x__isnull", "1")]),
    "list": (eq("data", ("a,b", "c"), "in"), [("data", '"a,b",c')]),
    "list of one": (eq("data", ("a",), "in"), [("data__in", "a")]),
    "list of none": (eq("data", (), "in"), [("data__in", "[]")]),
    "one value where a list may be": (eq("data", "a", "notin"), [("data__notin", "a")]),
    "reserved": (eq("limit", 5), [("c.limit", "5")]),
    "reserved, operator": (eq("limit", 5, "gt"), [("c.limit__gt", "5")]),
    "to come": (eq("smooth", 5), [("c.smooth", "5")]),
    "like having": (eq("having.x", 5), [("c.having.x", "5")]),
    "like an operator": (eq("x__gt", 5), [("x__gt", "5")]),
    "like the long spelling": (eq("c.y", 5), [("c.c.y", "5")]),
    "twice the same column": (
        both(eq("data", "a"), eq("data", "b"), eq("data", "c,d")),
        [("data", "a"), ("data__eq", "b"), ("c.data__eq", "c,d")],
    ),
    "twice the same operator": (
        both(*(eq("data", text, "ne") for text in "abcd")),
        [("data__ne", "a"), ("c.data__ne", "b"), ("data_source__ne", "c"), ("c.data_source__ne", "d")],
    ),
    "or of one column": (Or(or_=(eq("data", "a"), eq("data", ("b", "c"), "in"))), [("data", "a,b,c")]),
    "or of one part": (Or(or_=(eq("data", "a", "ne"),)), [("data__ne", "a")]),
    "and in and": (both(both(eq("data", "a")), both(), eq("x", "1")), [("data", "a"), ("x", "1")]),
    "and of nothing": (both(), []),
    "or of two columns": (Or(or_=(eq("data", "a"), eq("x", "1"))), None),
    "or of other operators": (Or(or_=(eq("data", "a"), eq("data", "b", "ne"))), None),
    "or of nothing": (Or(or_=()), None),
    "not": (Not(not_=eq("data", "a")), None),
    "ref": (Condition(col="step", op=Operator.EQ, ref="x"), None),
    "null": (eq("data", None), None),
    "null in a list": (eq("data", ("a", None), "in"), None),
    "list for one value": (eq("data", ("a", "b")), None),
    "number for a text": (eq("data", 5), None),
    "hidden by another column": (eq("x", 5, "gt"), None),
    "unknown column": (eq("nothing", 5), None),
    "too many on one column": (both(*(eq("x", n, "lt") for n in range(3))), None),
    "half a surrogate pair": (eq("data", "\ud800"), None),
    "isnull of a text": (eq("data", "maybe", "isnull"), None),
}


@pytest.mark.parametrize("where, pairs", WRITTEN.values(), ids=WRITTEN)
def test_written(where: Where | None, pairs: list[tuple[str, str]] | None) -> None:
    assert format_query(QueryRequest(dataset="demo", where=where), SCHEMA) == pairs


UNSPEAKABLE: dict[str, dict[str, Any]] = {
    "renamed": {"aggs": (Aggregate(fn="mean", as_="m"),)},
    "unknown function": {"aggs": (Aggregate(fn="avg"),)},
    "column without a name": {"aggs": (Aggregate(fn="mean", col=""),)},
    "select of nothing": {"select": ()},
    "hidden by a name with a dash": {"sort": (SortKey(col="neg", desc=True),)},
    "best by the metric's direction": {"best_by": BestBy(by=("x",), col="value")},
    "best, only which way": {"best_by": BestBy(by=("x",), desc=True)},
    "best of nothing": {"best_by": BestBy(by=())},
    "empty pivot": {"pivot": ""},
    "having with an or": {"having": Or(or_=(eq("a", 1), eq("b", 1)))},
    "too many": {"having": both(*(eq(f"n{i}", i) for i in range(MAX_PARAMETERS + 1)))},
}


@pytest.mark.parametrize("fields", UNSPEAKABLE.values(), ids=UNSPEAKABLE)
def test_what_no_url_can_say(fields: dict[str, Any]) -> None:
    assert format_query(QueryRequest(dataset="demo", **fields), SCHEMA) is None


def test_a_routes_own_names_are_left_to_it() -> None:
    request = QueryRequest(dataset="demo", where=eq("metric", "loss"), limit=5)
    assert format_query(request, SCHEMA, also_reserved=["metric"]) == [("c.metric", "loss"), ("limit", "5")]
    assert format_query(request, SCHEMA, also_reserved=["limit"]) is None


# --- any request that a URL can say comes back


def as_text(value: Any) -> Any:
    """A request with all values as the text that a URL has for them."""
    if isinstance(value, QueryRequest):
        where, having = as_text(value.where), as_text(value.having)
        return value.model_copy(update={"where": where, "having": having})
    if isinstance(value, And):
        parts = tuple(inner for part in value.and_ for inner in flat(as_text(part)))
        return parts[0] if len(parts) == 1 else And(and_=parts) if parts else None
    if isinstance(value, Or):
        parts = tuple(as_text(part) for part in value.or_)
        values = [item for part in parts for item in (part.value if isinstance(part.value, tuple) else (part.value,))]
        return parts[0] if len(parts) == 1 else eq(parts[0].col, tuple(values), "in")
    if not isinstance(value, Condition):
        return value
    if value.op is Operator.ISNULL:
        return eq(value.col, value.value is not False, "isnull")
    if isinstance(value.value, tuple):
        return eq(value.col, tuple(map(format_value, value.value)), value.op)
    return eq(value.col, format_value(value.value), value.op)


def flat(where: Where | None) -> tuple[Where, ...]:
    return where.and_ if isinstance(where, And) else () if where is None else (where,)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
NAMES = st.sampled_from([*SCHEMA.by_name, *SCHEMA.by_alias]) | TEXTS.filter(bool)


def conditions(names: st.SearchStrategy[str]) -> st.SearchStrategy[Condition]:
    def one(name: str) -> st.SearchStrategy[Condition]:
        column = SCHEMA.find(name)
        value = TEXTS if column is None or column.sql_type == "VARCHAR" else TEXTS | st.integers() | st.floats(width=16)
        listed, single = ("in", "notin"), ("eq", "ne", "lt", "gte", "contains", "glob")
        return st.one_of(
            st.builds(eq, st.just(name), value, st.sampled_from(single)),
            st.builds(eq, st.just(name), st.lists(value, max_size=4).map(tuple), st.sampled_from(listed)),
            st.builds(eq, st.just(name), st.tuples(value, value), st.just("between")),
            st.builds(eq, st.just(name), st.booleans() | st.none(), st.just("isnull")),
            st.builds(eq, st.just(name), value)
            .flatmap(lambda first: st.lists(value, max_size=3).map(lambda rest: [first, *(eq(name, v) for v in rest)]))
            .map(lambda parts: Or(or_=tuple(parts))),
        )

    return names.flatmap(one)


def trees(names: st.SearchStrategy[str]) -> st.SearchStrategy[Where | None]:
    ones = conditions(names)
    return st.none() | ones | st.lists(ones, max_size=5).map(lambda parts: And(and_=tuple(parts)))


LISTS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
REQUESTS = st.builds(
    QueryRequest,
    dataset=st.sampled_from(["demo", "other"]),
    version=st.none() | st.sampled_from(["v7", "latest"]),
    select=st.none() | LISTS,
    where=trees(st.sampled_from([*SCHEMA.by_name, *SCHEMA.by_alias])),
    group_by=st.just(()) | LISTS,
    aggs=st.lists(
        st.builds(Aggregate, fn=st.sampled_from(["mean", "p05", "count"]), col=st.none() | NAMES), max_size=3
    ).map(tuple),
    having=trees(NAMES),
    sort=st.lists(st.builds(SortKey, col=NAMES, desc=st.booleans()), max_size=3).map(tuple),
    limit=st.none() | st.integers(0, 2**63 - 1),
    offset=st.integers(0, 10),
    cursor=st.none() | TEXTS.filter(bool),
    pivot=st.none() | NAMES,
    pivot_values=st.none() | NAMES,
    distinct=st.booleans(),
    last_by=st.just(()) | LISTS,
    best_by=st.none()
    | st.builds(BestBy, by=LISTS)
    | st.builds(BestBy, by=LISTS, col=NAMES, desc=st.booleans()),
    facets=st.just(()) | LISTS,
    explain=st.booleans(),
    strict=st.booleans(),
    total=st.booleans(),
)  # fmt: skip


def by_column(where: Where | None) -> Where | None:
    """Each condition under its column's own name: writing may have to fall back on another of its names."""
    if isinstance(where, And):
        return And(and_=tuple(by_column(part) for part in where.and_))
    column = SCHEMA.find(where.col) if isinstance(where, Condition) else None
    return where if column is None else where.model_copy(update={"col": column.name})


def one_list(where: Where | None) -> Where | None:
    """``in`` of one value and ``eq`` are the same question."""
    if isinstance(where, And):
        return And(and_=tuple(one_list(part) for part in where.and_))
    if isinstance(where, Condition) and where.op is Operator.IN and len(where.value) == 1:
        return eq(where.col, where.value[0])
    return where


def settled(request: QueryRequest) -> QueryRequest:
    request = as_text(request)
    where, having = (one_list(by_column(part)) for part in (request.where, request.having))
    return request.model_copy(update={"where": where, "having": having})


@given(REQUESTS)
def test_any_request_comes_back(request: QueryRequest) -> None:
    pairs = format_query(request, SCHEMA)
    assume(pairs is not None)
    read, own = parse_query(parse_qsl(urlencode(pairs or []), keep_blank_values=True), SCHEMA)
    assert own == {}
    assert settled(read) == settled(request)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("data step__gt limit agg sort best_by having.a c.x".split()) | st.text(max_size=8),
            st.text('ab,:-()[]"1') | st.text(max_size=8),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_any_query_is_read_or_refused(pairs: list[tuple[str, str]]) -> None:
    try:
        request, _ = parse_query(pairs, SCHEMA)
    except QueryError:
        return
    written = format_query(request, SCHEMA)
    if written is not None:
        assert settled(parse_query(written, SCHEMA)[0]) == settled(request)
