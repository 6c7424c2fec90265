"""The comma rule: every recipe unquoted, quotes and JSON where they are needed, and the way back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.demo.facts import RECIPES
from queries.errors import GrammarError, LimitExceededError
from queries.lists import join_list, quote, split_list

SPLIT = {
    "one": ("60M", ("60M",)),
    "several": ("60M,150M", ("60M", "150M")),
    "blanks around": ("  a , b c\t", ("a", "b c")),
    "empty": ("", ("",)),
    "blank": ("  ", ("",)),
    "empty, quoted": ('""', ("",)),
    "empty among others": ('a,"",b', ("a", "", "b")),
    "parentheses": ("f(a,b),c", ("f(a,b)", "c")),
    "nested parentheses": ("f(a,(b,c),d),e", ("f(a,(b,c),d)", "e")),
    "quoted comma": ('"a,b",c', ("a,b", "c")),
    "quoted blanks": ('" a "', (" a ",)),
    "quote in quotes": ('"say ""a, b"""', ('say "a, b"',)),
    "quotes in the middle stay": ('say "a, b" now,c', ('say "a, b" now', "c")),
    "two quoted parts stay": ('"a" "b,c"', ('"a" "b,c"',)),
    "quoted parenthesis": ('":)",b', (":)", "b")),
    "quote in parentheses": ('f("a)",b),c', ('f("a)",b)', "c")),
    "bracket later": ("a[0,b]", ("a[0", "b]")),
    "quoted bracket": ('"[a]"', ("[a]",)),
    "json": ('["60M", 5, 2.5, true, null]', ("60M", 5, 2.5, True, None)),
    "json after blanks": (' ["a,b"] ', ("a,b",)),
    "json, nothing": ("[]", ()),
    "json, past 2^53": ("[9007199254740993]", (9007199254740993,)),
}


@pytest.mark.parametrize("text, values", SPLIT.values(), ids=SPLIT)
def test_split(text: str, values: tuple[object, ...]) -> None:
    found = split_list(text, "data")
    assert found == values
    assert [type(item) for item in found] == [type(item) for item in values]


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_recipe_needs_no_quotes(recipe: str) -> None:
    assert split_list(recipe, "data") == (recipe,)
    assert quote(recipe) == recipe


def test_all_recipes_joined() -> None:
    assert len(RECIPES) == 25
    assert split_list(",".join(RECIPES), "data") == RECIPES
    assert split_list(", ".join(RECIPES), "data") == RECIPES


REFUSED = {
    "open parenthesis": ("a (b", "( has no )"),
    "closed parenthesis": ("a) b", ") has no ("),
    "wrong order": (")a(", ") has no ("),
    "open quote": ('"a,b', "no second"),
    "inch mark": ('5" disk', "no second"),
    "empty item": ("a,,b", "empty item"),
    "trailing comma": ("a,", "empty item"),
    "leading comma": (",a", "empty item"),
    "not json": ("[a]", "JSON array"),
    "json, open": ("[1", "JSON array"),
    "json and more": ("[1],2", "JSON array"),
    "json, nested": ("[[1]]", "deeper"),
    "json, object": ('[{"a": 1}]', "deeper"),
    "json, very deep": ("[" * 100_000, "deeper"),
    "json, NaN": ("[NaN]", "NaN"),
    "json, half a surrogate pair": ('["\\ud800"]', "surrogate"),
    "json, exponent": ("[1e99999999999999999999]", "exponent"),
}


@pytest.mark.parametrize("text, reason", REFUSED.values(), ids=REFUSED)
def test_refused(text: str, reason: str) -> None:
    with pytest.raises(GrammarError) as caught:
        split_list(text, "data")
    assert reason in caught.value.detail
    assert "data" in caught.value.detail
    assert caught.value.param == "data"
    assert caught.value.value is not None and text.startswith(caught.value.value.rstrip("…"))


def test_an_array_has_a_bound() -> None:
    assert len(split_list(f"[{','.join('1' * 10_000)}]", "step")) == 10_000
    with pytest.raises(LimitExceededError):
        split_list(f"[{','.join('1' * 10_001)}]", "step")


@given(st.lists(st.text() | st.text('a,()[]" \\')))
@example(["[a"])
@example(["a", "[b"])
@example([""])
@example(['""'])
@example(["\u00a0"])
def test_join_is_the_inverse(values: list[str]) -> None:
    assert split_list(join_list(values), "data") == tuple(values)


@given(
    st.lists(st.text() | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False))
)
def test_join_keeps_types(values: list[object]) -> None:
    found = split_list(join_list(values), "data")
    assert found == tuple(values)
    assert [type(item) for item in found] == [type(item) for item in values]


@given(st.text('ab,()[]"1 \\'))
def test_any_text_splits_or_is_refused(text: str) -> None:
    try:
        values = split_list(text, "data")
    except GrammarError:
        return
    assert split_list(join_list(values), "data") == values
