"""Conditions: which operator fits which column, how values are typed, and what lies beyond a column's type."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from queries.conditions import LONG_LIST
from queries.errors import GrammarError, InvalidValueError, QueryError, TypeMismatchError
from queries.plan import Comparison, Every, Negation, Plan, Predicate, Some
from queries.ranges import within_range
from queries.request import Condition, Operator, QueryRequest, Where
from queries.schema import Column
from tests.queries.support import every, is_, long, not_, plan, some, wide

NAN = float("nan")


def settled(request: QueryRequest) -> tuple[str, Any]:
    """Operator and values of the only condition."""
    planned = plan(request)
    node = planned.shape.where
    assert isinstance(node, Comparison)
    values = [planned.values[slot] for slot in node.slots]
    return node.op.value, values[0] if node.listed else values


@pytest.mark.parametrize(
    "condition, values",
    [
        (is_("step", "5e3"), [5000]),
        (is_("step", "5000.0"), [5000]),
        (is_("loss", 0.1), [0.10000000149011612]),
        (is_("acc", "nan"), [NAN]),
        (is_("acc", "-inf", "gte"), [float("-inf")]),
        (is_("price", "1.50"), [Decimal("1.5")]),
        (is_("done", "TRUE"), [True]),
        (is_("day", "2024-05-01"), [dt.date(2024, 5, 1)]),
        (is_("at", "2024-05-01T12:00:00+02:00"), [dt.datetime(2024, 5, 1, 10, tzinfo=dt.UTC)]),
        (is_("spent", "P1DT2H"), [dt.timedelta(days=1, hours=2)]),
        (is_("name", "x*[", "contains"), ["x*["]),
        (is_("acc", (1, 0), "between"), [1.0, 0.0]),
    ],
    ids=str,
)
def test_values_have_the_type_of_their_column(condition: Condition, values: list[Any]) -> None:
    assert repr(settled(wide(where=condition))[1]) == repr(values)


@pytest.mark.parametrize(
    "condition, op, texts",
    [
        (is_("params", "60M"), "in", ["60M", "60m"]),
        (is_("params", "0.06b"), "in", ["60M", "60m"]),
        (is_("params", 10**9, "ne"), "notin", ["1B"]),
        (is_("params", ("1B", "60000000"), "in"), "in", ["1B", "60M", "60m"]),
    ],
    ids=str,
)
def test_a_size_means_each_text_that_spells_it(condition: Condition, op: str, texts: list[str]) -> None:
    assert settled(long(where=condition)) == (op, texts)


def test_sizes_are_ordered_by_their_number() -> None:
    assert settled(long(where=is_("params", "1.4B", "lt"))) == ("lt", [1_400_000_000])


def test_a_long_list_is_one_parameter() -> None:
    short, longer = tuple(range(LONG_LIST)), tuple(range(LONG_LIST + 1))
    assert len(settled(long(where=is_("step", short, "in")))[1]) == LONG_LIST
    planned = plan(long(where=is_("step", longer, "notin")))
    assert isinstance(planned.shape.where, Comparison)
    assert planned.shape.where.listed
    assert sorted(planned.values[planned.shape.where.slots[0]]) == list(longer)  # type: ignore[call-overload]


REFUSED: list[tuple[Where, type[QueryError], str]] = [
    (is_("flags", "x"), TypeMismatchError, "can only be tested with isnull"),
    (is_("raw", "x", "contains"), TypeMismatchError, "can only be tested with isnull"),
    (is_("step", "1", "contains"), TypeMismatchError, "works on text"),
    (is_("at", "2024", "glob"), TypeMismatchError, "works on text"),
    (is_("step", (1, 2, 3), "between"), GrammarError, "takes two values"),
    (is_("step", 1, "between"), GrammarError, "takes two values"),
    (is_("step", (1, 2), "lt"), GrammarError, "takes one value"),
    (is_("step", (1, 2)), GrammarError, "takes one value"),
    (is_("step", None), InvalidValueError, "isnull"),
    (is_("step", (1, None), "in"), InvalidValueError, "isnull"),
    (is_("step", "2.5"), InvalidValueError, "whole"),
    (is_("acc", "nan", "lt"), InvalidValueError, "NaN"),
    (is_("loss", (0, NAN), "between"), InvalidValueError, "NaN"),
    (is_("step", "maybe", "isnull"), InvalidValueError, "isnull takes"),
    (is_("step", 2, "isnull"), InvalidValueError, "isnull takes"),
    (is_("step", 5, ref="total_steps"), GrammarError, "both a value and a second column"),
    (is_("step", op="in", ref="total_steps"), GrammarError, "does not compare two columns"),
    (is_("step", op="isnull", ref="total_steps"), GrammarError, "does not compare two columns"),
    (is_("step", ref="name"), TypeMismatchError, "do not compare"),
    (is_("flags", ref="name"), TypeMismatchError, "can only be tested"),
    (is_("name", ref="flags"), TypeMismatchError, "do not compare"),
]


@pytest.mark.parametrize("where, error, says", REFUSED, ids=[f"{one[0]!r}"[:60] for one in REFUSED])
def test_refused(where: Where, error: type[QueryError], says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        plan(wide(where=where))
    assert type(caught.value) is error
    assert caught.value.param is not None


def test_a_size_must_be_one_where_order_counts() -> None:
    with pytest.raises(InvalidValueError, match="holds sizes"):
        plan(long(where=is_("params", "big", "lt")))


@pytest.mark.parametrize(
    "left, right",
    [("step", "acc"), ("loss", "price"), ("day", "at"), ("at", "exact_at"), ("name", "name"), ("done", "done")],
)
def test_columns_that_compare(left: str, right: str) -> None:
    node = plan(wide(where=is_(left, op="lte", ref=right))).shape.where
    assert isinstance(node, Comparison) and node.ref is not None
    assert node.ref.name == right


def test_trees_keep_their_shape() -> None:
    tree = every(is_("name", "a"), some(is_("step", 1), not_(every(is_("step", 2), is_("acc", 3)))))
    where = plan(wide(where=tree)).shape.where
    assert isinstance(where, Every)
    kinds = {type(part) for part in walk(where)}
    assert kinds == {Every, Some, Negation, Comparison}


def walk(predicate: Predicate) -> list[Predicate]:
    match predicate:
        case Every(parts=parts) | Some(parts=parts):
            return [predicate, *(inner for part in parts for inner in walk(part))]
        case Negation(part=part):
            return [predicate, *walk(part)]
        case _:
            return [predicate]


def test_equal_trees_bind_equal_slots() -> None:
    first: Plan = plan(wide(where=every(is_("name", "a"), is_("step", 1))))
    second = plan(wide(where=every(is_("step", 2), is_("name", "b"))))
    assert first.shape == second.shape
    assert (first.values, second.values) == (("a", 1), ("b", 2))


NS = (dt.datetime.fromisoformat("1677-09-21T00:12:43.145225"), dt.datetime.fromisoformat("2262-04-11T23:47:16.854775"))


@pytest.mark.parametrize(
    "sql_type, op, values, means",
    [
        ("TINYINT", "lt", (5,), ("lt", (5,))),
        ("TINYINT", "lt", (128,), ("gte", (-128,))),
        ("TINYINT", "lte", (-129,), ("lt", (-128,))),
        ("TINYINT", "gt", (128,), ("lt", (-128,))),
        ("TINYINT", "gte", (-129,), ("gte", (-128,))),
        ("TINYINT", "eq", (128,), ("lt", (-128,))),
        ("TINYINT", "ne", (128,), ("gte", (-128,))),
        ("TINYINT", "in", (1, 128, -129), ("in", (1,))),
        ("TINYINT", "in", (128,), ("lt", (-128,))),
        ("TINYINT", "notin", (128, 999), ("gte", (-128,))),
        ("TINYINT", "between", (-200, 200), ("between", (-128, 127))),
        ("TINYINT", "between", (200, 300), ("lt", (-128,))),
        ("TINYINT", "between", (-300, -200), ("lt", (-128,))),
        ("TINYINT", "between", (5, 1000), ("between", (5, 127))),
        ("TINYINT", "in", (), ("in", ())),
        ("UBIGINT", "gt", (-1,), ("gte", (0,))),
        ("UBIGINT", "eq", (2**64 - 1,), ("eq", (2**64 - 1,))),
        ("HUGEINT", "lt", (2**127,), ("gte", (-(2**127),))),
        ("UHUGEINT", "lt", (2**127,), ("lt", (2**127,))),
        ("DECIMAL(4,2)", "gt", (Decimal("100"),), ("lt", (Decimal("-99.99"),))),
        ("DECIMAL(4, 2)", "eq", (Decimal("99.99"),), ("eq", (Decimal("99.99"),))),
        ("TIMESTAMP_NS", "lt", (dt.datetime.fromisoformat("3000-01-01"),), ("gte", (NS[0],))),
        ("TIMESTAMP", "lt", (dt.datetime.fromisoformat("3000-01-01"),), None),
        ("DOUBLE", "lt", (1e300,), None),
        ("VARCHAR", "lt", ("x",), None),
    ],
)
def test_values_beyond_the_type(sql_type: str, op: str, values: tuple[Any, ...], means: Any) -> None:
    found = within_range(Column("x", sql_type), Operator(op), values)
    assert found == (means or (op, values))


def test_a_size_is_a_64_bit_number() -> None:
    assert settled(long(where=is_("params", 10**30, "lt"))) == ("gte", [-(2**63)])


@pytest.mark.parametrize("value, negated", [(1, False), (0, True), (" True ", False), (None, False), (False, True)])
def test_isnull_takes_a_switch(value: object, negated: bool) -> None:
    node = plan(long(where=Condition(col="value", op=Operator.ISNULL, value=value))).shape.where
    assert isinstance(node, Comparison)
    assert node.negated is negated


@pytest.mark.parametrize("value", [10**5_000, "\ud800", 2, 1.5, "yes"], ids=["huge", "surrogate", "2", "1.5", "yes"])
def test_isnull_refuses_what_is_none(value: object) -> None:
    """A number too long for Python to write out was a ValueError, and so a 500."""
    with pytest.raises(InvalidValueError, match="isnull takes"):
        plan(long(where=Condition(col="value", op=Operator.ISNULL, value=value)))
