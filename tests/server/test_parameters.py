"""Query strings, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import HttpError
from server.links import Address
from server.parameters import MAX_QUERY_BYTES, format_pairs, read_pairs

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize(
    "text, expected",
    [
        (b"", []),
        (b"&&", []),
        (b"a=1&b=2", [("a", "1"), ("b", "2")]),
        (b"a", [("a", "")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"a=1+2%2B3", [("a", "1 2+3")]),
        (b"a=1;b=2", [("a", "1;b=2")]),
        (b"a%20b=%C3%BC", [("a b", "ü")]),
        (b"a=\xc3\xbc", [("a", "ü")]),
        (b"data=DCLM-Baseline%2025%25%20/%20Dolma%2075%25", [("data", "DCLM-Baseline 25% / Dolma 75%")]),
    ],
)
def test_reading(text: bytes, expected: list[tuple[str, str]]) -> None:
    assert read_pairs(text) == expected


@pytest.mark.parametrize("text", [b"a=25% / 75%", b"a=%", b"a=%4", b"a=%zz", b"a=%ff", b"%C3=1", b"a=\xff"])
def test_what_cannot_be_decoded(text: bytes) -> None:
    with pytest.raises(HttpError) as caught:
        read_pairs(text)
    assert caught.value.status == 400


def test_a_query_string_may_not_be_endless() -> None:
    assert read_pairs(b"a=" + b"x" * (MAX_QUERY_BYTES - 2))
    with pytest.raises(HttpError) as caught:
        read_pairs(b"a=" + b"x" * (MAX_QUERY_BYTES - 1))
    assert caught.value.status == 414


@given(pairs=st.lists(st.tuples(TEXTS.filter(bool), TEXTS), max_size=8))
def test_what_is_written_is_read_back(pairs: list[tuple[str, str]]) -> None:
    assert read_pairs(format_pairs(pairs).encode("ascii")) == pairs


def test_addresses() -> None:
    address = Address.of("/api/datasets/a/rows", [("x", "1"), ("version", "latest"), ("x", "a b,c")])
    assert address.url == "/api/datasets/a/rows?x=1&version=latest&x=a%20b,c"
    assert address.having(version="v2").url == "/api/datasets/a/rows?x=1&version=v2&x=a%20b,c"
    assert address.having(version=None, cursor="z").url == "/api/datasets/a/rows?x=1&x=a%20b,c&cursor=z"
    assert Address.of("/api/a b", []).url == "/api/a%20b"
