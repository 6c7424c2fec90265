"""The JSON body: what is taken, what is refused with which path, the bounds, and the published schema beside them."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from queries.body import _FIELDS, MAX_BYTES, parse_body
from queries.body_schema import json_schema
from queries.errors import GrammarError, InvalidValueError, LimitExceededError, QueryError, UnknownParameterError
from queries.request import Aggregate, And, BestBy, Condition, Not, Operator, Or, QueryRequest, SortKey

VALIDATOR = Draft202012Validator(json_schema())


def parse(fields: dict[str, Any], **bounds: int) -> QueryRequest:
    return parse_body(json.dumps({"dataset": "demo", **fields}).encode(), **bounds)


def where(value: object) -> dict[str, Any]:
    return {"where": value}


ONE = Condition(col="step", value=1)
STEP = {"col": "step", "value": 1}

TAKEN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "version": ({"version": "v7"}, {"version": "v7"}),
    "version as a number": ({"version": 7}, {"version": "v7"}),
    "null is not given": ({"limit": None, "where": None, "select": None, "total": None}, {}),
    "select": ({"select": ["a", "b"]}, {"select": ("a", "b")}),
    "select, one": ({"select": "a,b"}, {"select": ("a,b",)}),
    "group_by": ({"group_by": "params"}, {"group_by": ("params",)}),
    "group_by nothing": ({"group_by": [], "last_by": [], "facets": [], "aggs": [], "sort": []}, {}),
    "condition": (where({"col": "step", "op": "eq", "value": 1}), {"where": ONE}),
    "no operator": (where(STEP), {"where": ONE}),
    "no operator, list": (where({"col": "step", "value": [1]}), {"where": Condition(col="step", op="in", value=(1,))}),
    "list of one": (
        where({"col": "a", "op": "in", "value": "x"}),
        {"where": Condition(col="a", op="in", value=("x",))},
    ),
    "between": (
        where({"col": "a", "op": "between", "value": [1, 2.5]}),
        {"where": Condition(col="a", op="between", value=(1, 2.5))},
    ),
    "types stay": (
        where({"col": "a", "op": "in", "value": ["1", 1, 1.5, True]}),
        {"where": Condition(col="a", op="in", value=("1", 1, 1.5, True))},
    ),
    "isnull": (where({"col": "a", "op": "isnull"}), {"where": Condition(col="a", op="isnull")}),
    "not null": (
        where({"col": "a", "op": "isnull", "value": False}),
        {"where": Condition(col="a", op="isnull", value=False)},
    ),
    "two columns": (
        where({"col": "step", "op": "eq", "ref": "total_steps"}),
        {"where": Condition(col="step", ref="total_steps")},
    ),
    "tree": (
        where({"and": [STEP, {"or": [STEP, {"not": STEP}]}, {"and": []}]}),
        {"where": And(and_=(ONE, Or(or_=(ONE, Not(not_=ONE))), And(and_=())))},
    ),
    "having": (
        {"having": {"col": "mean", "op": "gt", "value": 0.4}},
        {"having": Condition(col="mean", op="gt", value=0.4)},
    ),
    "aggs": (
        {"aggs": [{"fn": "mean"}, {"fn": "max", "col": "step", "as": "last_step"}, {"fn": "p05", "col": None}]},
        {"aggs": (Aggregate(fn="mean"), Aggregate(fn="max", col="step", as_="last_step"), Aggregate(fn="p05"))},
    ),
    "aggs, short": ({"aggs": ["mean", "max:a:b"]}, {"aggs": (Aggregate(fn="mean"), Aggregate(fn="max", col="a:b"))}),
    "aggs, one": ({"aggs": {"fn": "mean"}}, {"aggs": (Aggregate(fn="mean"),)}),
    "sort": (
        {"sort": [{"col": "mean", "desc": True}, {"col": "-x"}, "-y", "z"]},
        {"sort": (SortKey(col="mean", desc=True), SortKey(col="-x"), SortKey(col="y", desc=True), SortKey(col="z"))},
    ),
    "sort, one": ({"sort": "-y"}, {"sort": (SortKey(col="y", desc=True),)}),
    "paging": (
        {"limit": 10, "offset": 2**63 - 1, "cursor": "abc"},
        {"limit": 10, "offset": 2**63 - 1, "cursor": "abc"},
    ),
    "whole number": ({"limit": 10.0}, {"limit": 10}),
    "pivot": ({"pivot": "metric", "pivot_values": "value"}, {"pivot": "metric", "pivot_values": "value"}),
    "last_by": ({"last_by": ["params"]}, {"last_by": ("params",)}),
    "best_by": ({"best_by": ["params", "data"]}, {"best_by": BestBy(by=("params", "data"))}),
    "best_by, one": ({"best_by": "params"}, {"best_by": BestBy(by=("params",))}),
    "best_by, whole": (
        {"best_by": {"by": ["params"], "col": "value", "desc": True}},
        {"best_by": BestBy(by=("params",), col="value", desc=True)},
    ),
    "best_by, half": ({"best_by": {"by": "params", "col": "value"}}, {"best_by": BestBy(by=("params",), col="value")}),
    "facets": ({"facets": ["params"]}, {"facets": ("params",)}),
    "switches": (
        {"distinct": True, "explain": True, "strict": False, "total": False},
        {"distinct": True, "explain": True, "strict": False, "total": False},
    ),
}


@pytest.mark.parametrize("given_fields, fields", TAKEN.values(), ids=TAKEN)
def test_taken(given_fields: dict[str, Any], fields: dict[str, Any]) -> None:
    found = parse(given_fields)
    assert found == QueryRequest(**{"dataset": "demo", **fields})
    assert repr(found) == repr(QueryRequest(**{"dataset": "demo", **fields}))  # where 1 is not 1.0 or true
    assert VALIDATOR.is_valid({"dataset": "demo", **given_fields})


def test_numbers_keep_every_digit() -> None:
    text = b'{"dataset":"demo","where":{"col":"a","value":[9007199254740993,0.1,1e3,0.1234567890123456789,1e400]}}'
    found = parse_body(text).where
    assert isinstance(found, Condition)
    assert [repr(value) for value in found.value] == [
        "9007199254740993", "0.1", "1000.0", repr(Decimal("0.1234567890123456789")), repr(Decimal("1e400")),
    ]  # fmt: skip


REFUSED: dict[str, tuple[dict[str, Any], type[QueryError], str, tuple[str, ...]]] = {
    # body, class, param, the best of did_you_mean
    "unknown field": ({"grup_by": 1}, UnknownParameterError, "grup_by", ("group_by",)),
    "the URL's name": ({"agg": "mean"}, UnknownParameterError, "agg", ("aggs",)),
    "another tool's name": ({"filters": []}, UnknownParameterError, "filters", ("where",)),
    "to come": ({"smooth": "ema:0.9"}, UnknownParameterError, "smooth", ()),
    "unknown field below": (where({"and": [{"colum": "a"}]}), UnknownParameterError, "where.and[0].colum", ("col",)),
    "joined twice": (where({"and": [], "or": []}), UnknownParameterError, "where.or", ()),
    "joined condition": (where({"not": STEP, "col": "a"}), UnknownParameterError, "where.col", ()),
    "agg field": ({"aggs": [{"fn": "mean", "name": "m"}]}, UnknownParameterError, "aggs[0].name", ()),
    "dataset": ({"dataset": 5}, GrammarError, "dataset", ()),
    "empty dataset": ({"dataset": ""}, GrammarError, "dataset", ()),
    "no dataset": ({"dataset": None}, GrammarError, "dataset", ()),
    "version": ({"version": 1.5}, GrammarError, "version", ()),
    "version, bool": ({"version": True}, GrammarError, "version", ()),
    "version, negative": ({"version": -1}, GrammarError, "version", ()),
    "select nothing": ({"select": []}, GrammarError, "select", ()),
    "select numbers": ({"select": ["a", 5]}, GrammarError, "select[1]", ()),
    "select an object": ({"select": {"a": 1}}, GrammarError, "select", ()),
    "group by null": ({"group_by": ["a", None]}, GrammarError, "group_by[1]", ()),
    "where, text": (where("step=5"), GrammarError, "where", ()),
    "where, list": (where([STEP]), GrammarError, "where", ()),
    "where, empty": (where({}), GrammarError, "where.col", ()),
    "and, object": (where({"and": STEP}), GrammarError, "where.and", ()),
    "and, null": (where({"and": None}), GrammarError, "where.and", ()),
    "not, list": (where({"not": [STEP]}), GrammarError, "where.not", ()),
    "operator": (
        where({"and": [{"col": "a", "op": "contain", "value": 1}]}), GrammarError, "where.and[0].op", ("contains",)
    ),
    "another tool's operator": (where({"col": "a", "op": ">=", "value": 1}), GrammarError, "where.op", ("gte",)),
    "operator, upper case": (where({"col": "a", "op": "EQ", "value": 1}), GrammarError, "where.op", ("eq",)),
    "operator, number": (where({"col": "a", "op": 1, "value": 1}), GrammarError, "where.op", ()),
    "no value": (where({"or": [STEP, {"col": "a"}]}), GrammarError, "where.or[1].value", ("isnull",)),
    "null": (where({"col": "a", "value": None}), GrammarError, "where.value", ("isnull",)),
    "value, object": (where({"col": "a", "value": {"b": 1}}), GrammarError, "where.value", ()),
    "value, nested": (where({"col": "a", "value": [1, [2]]}), GrammarError, "where.value[1]", ()),
    "null in a list": (where({"col": "a", "value": [1, None]}), InvalidValueError, "where.value[1]", ("isnull",)),
    "ref": (where({"col": "a", "ref": 5}), GrammarError, "where.ref", ()),
    "having": ({"having": {"not": {"op": "eq"}}}, GrammarError, "having.not.col", ()),
    "function": ({"aggs": ["mean", {"fn": "avg"}]}, GrammarError, "aggs[1].fn", ("mean",)),
    "function, short": ({"aggs": ["stddev:value"]}, GrammarError, "aggs[0]", ("std",)),
    "function, number": ({"aggs": [{"fn": 5}]}, GrammarError, "aggs[0].fn", ()),
    "no function": ({"aggs": [{"col": "a"}]}, GrammarError, "aggs[0].fn", ()),
    "function of nothing": ({"aggs": ["max:"]}, GrammarError, "aggs[0]", ()),
    "aggs, number": ({"aggs": 5}, GrammarError, "aggs", ()),
    "sort by nothing": ({"sort": ["-"]}, GrammarError, "sort[0]", ()),
    "sort without column": ({"sort": [{"desc": True}]}, GrammarError, "sort[0].col", ()),
    "desc": ({"sort": [{"col": "a", "desc": "yes"}]}, GrammarError, "sort[0].desc", ()),
    "best without by": ({"best_by": {"col": "a"}}, GrammarError, "best_by.by", ()),
    "best by nothing": ({"best_by": []}, GrammarError, "best_by", ()),
    "switch": ({"distinct": 1}, GrammarError, "distinct", ()),
    "switch, text": ({"total": "0"}, GrammarError, "total", ()),
    "limit, text": ({"limit": "10"}, GrammarError, "limit", ()),
    "limit, negative": ({"limit": -1}, InvalidValueError, "limit", ()),
    "limit, half": ({"limit": 0.5}, InvalidValueError, "limit", ()),
    "limit, bool": ({"limit": True}, InvalidValueError, "limit", ()),
    "limit, list": ({"limit": [1]}, InvalidValueError, "limit", ()),
    "offset, huge": ({"offset": 2**63}, InvalidValueError, "offset", ()),
}  # fmt: skip


@pytest.mark.parametrize("fields, error, param, best", REFUSED.values(), ids=REFUSED)
def test_refused(fields: dict[str, Any], error: type[QueryError], param: str, best: tuple[str, ...]) -> None:
    with pytest.raises(error) as caught:
        parse(fields)
    assert type(caught.value) is error
    assert caught.value.param == param
    assert caught.value.did_you_mean[: len(best)] == best
    assert not VALIDATOR.is_valid({"dataset": "demo", **fields})


RAW: dict[str, tuple[bytes, type[QueryError], str]] = {
    "nothing": (b"", GrammarError, "not JSON"),
    "cut": (b'{"dataset": "demo"', GrammarError, "line 1, column 19"),
    "more": (b'{"dataset": "demo"} 1', GrammarError, "Extra data"),
    "single quotes": (b"{'dataset': 'demo'}", GrammarError, "not JSON"),
    "not UTF-8": (b'{"dataset": "\xff"}', GrammarError, "UTF-8 at byte 13"),
    "UTF-16": ('{"dataset": "demo"}'.encode("utf-16"), GrammarError, "UTF-8"),
    "list": (b"[]", GrammarError, "is an object"),
    "null": (b"null", GrammarError, "is an object"),
    "no dataset": (b"{}", GrammarError, "names its dataset"),
    "NaN": (b'{"dataset": "demo", "where": {"col": "a", "value": NaN}}', GrammarError, "NaN is no JSON"),
    "infinity": (b'{"dataset": "demo", "where": {"col": "a", "value": -Infinity}}', GrammarError, "no JSON"),
    "twice": (b'{"dataset": "demo", "limit": 1, "limit": 1}', GrammarError, '"limit" stands twice'),
    "twice, below": (b'{"dataset": "demo", "where": {"col": "a", "col": "b"}}', GrammarError, '"col" stands twice'),
    "surrogate": (b'{"dataset": "\\ud800"}', GrammarError, "surrogate"),
    "surrogate key": (b'{"\\ud800": 1}', GrammarError, "surrogate"),
    "huge exponent": (b'{"dataset": "demo", "limit": 1e99999999999999999999}', GrammarError, "exponent"),
    "huge limit": (b'{"dataset": "demo", "limit": 1e999999999}', InvalidValueError, "whole number"),
    "long limit": (b'{"dataset": "demo", "limit": ' + b"9" * 900_000 + b"}", InvalidValueError, "whole number"),
    "deep": (b'{"dataset": "demo", "where": ' + b'{"not": ' * 100 + b"1" + b"}" * 101, GrammarError, "deeper"),
    "very deep": (b"[" * 1_000_000, GrammarError, "deeper"),
    "deep objects": (b'{"a":' * 160_000, GrammarError, "deeper"),
    "large": (b" " * (MAX_BYTES + 1), LimitExceededError, "bytes"),
}


@pytest.mark.parametrize("data, error, reason", RAW.values(), ids=RAW)
def test_refused_before_it_is_a_query(data: bytes, error: type[QueryError], reason: str) -> None:
    with pytest.raises(error) as caught:
        parse_body(data)
    assert type(caught.value) is error
    assert reason in caught.value.detail
    assert len(caught.value.detail.encode()) < 1_000


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse_body(b'\xef\xbb\xbf{"dataset": "demo"}') == QueryRequest(dataset="demo")


def test_brackets_in_text_are_not_depth() -> None:
    text = "[{" * 1_000 + '"\\'
    assert parse(where({"col": text, "value": text})).where == Condition(col=text, value=text)


def test_many_keys_take_no_long() -> None:
    """Looking for a repeated key must not compare each with each."""
    with pytest.raises(GrammarError, match="twice"):
        parse_body(("{" + ",".join(f'"{n}":1' for n in range(80_000)) + ',"79999":1}').encode())


def test_bounds() -> None:
    def nested(depth: int) -> dict[str, Any]:
        tree: dict[str, Any] = STEP
        for _ in range(depth):
            tree = {"not": tree}
        return where(tree)

    assert parse(nested(62)).where
    with pytest.raises(GrammarError, match="64 levels"):
        parse(nested(63))
    with pytest.raises(GrammarError, match="3 levels"):
        parse(nested(2), max_depth=3)

    many = where({"col": "step", "op": "in", "value": list(range(10_000))})
    assert parse(many).where
    many["where"]["value"].append(1)
    with pytest.raises(LimitExceededError, match="10001 items"):
        parse(many)

    assert parse(where({"or": [STEP] * 1_000})).where
    with pytest.raises(LimitExceededError, match="1001 conditions") as caught:
        parse({"having": {"not": {"and": [{"or": [STEP] * 500}] * 2 + [STEP]}}})
    assert caught.value.param == "having"
    with pytest.raises(LimitExceededError, match="bytes"):
        parse({}, max_bytes=10)


def test_every_field_of_a_request_can_be_said() -> None:
    assert set(_FIELDS) == set(QueryRequest.model_fields) == set(json_schema()["properties"])


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(json_schema())
    json.dumps(json_schema())
    condition = json_schema()["$defs"]["condition"]["properties"]
    assert condition["op"]["anyOf"][0]["enum"] == [operator.value for operator in Operator]


SCALARS = (
    st.none() | st.booleans() | st.integers(-3, 2**64) | st.sampled_from([0.5, 2.0, "", "a", "-a", "mean", "max:b"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("col op value ref and or not fn as desc by x".split()),
            inner | st.sampled_from(["eq", "in", "between", "mean", "p50"]),
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*_FIELDS, "x"]), VALUES, max_size=4))
def test_the_schema_takes_what_we_take(fields: dict[str, Any]) -> None:
    body = {"dataset": "demo", **fields}
    try:
        parse_body(json.dumps(body).encode())
    except QueryError:
        taken = False
    else:
        taken = True
    assert VALIDATOR.is_valid(body) is taken, [error.message for error in VALIDATOR.iter_errors(body)]
