"""Cursors come back as they went, and in no other way."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from queries.cursor import Cursor, decode_cursor, encode_cursor
from queries.errors import CursorError

KEY = b"k" * 32
HALVES = st.binary(min_size=8, max_size=8).map(bytes.hex)
CURSOR = Cursor(7, "0123456789abcdef", "fedcba9876543210", 1_000, 41_999)
COUNTS = st.integers(0, 2**62)


@given(st.builds(Cursor, COUNTS, HALVES, HALVES, COUNTS, st.none() | COUNTS))
def test_there_and_back(cursor: Cursor) -> None:
    assert decode_cursor(encode_cursor(cursor, KEY), KEY) == cursor


def test_it_is_short_and_needs_no_encoding() -> None:
    text = encode_cursor(CURSOR, KEY)
    assert len(text) < 60
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert encode_cursor(CURSOR, KEY) == text


def test_nothing_is_not_zero() -> None:
    none, zero = (Cursor(1, "0" * 16, "0" * 16, 0, after) for after in (None, 0))
    assert encode_cursor(none, KEY) != encode_cursor(zero, KEY)


def test_any_change_of_one_character_is_found() -> None:
    """Also of the last one, whose lowest bits are no part of the data."""
    text = encode_cursor(CURSOR, KEY)
    for index, old in enumerate(text):
        for new in "AB-_z9=+/ é":
            if new != old:
                with pytest.raises(CursorError, match="start again"):
                    decode_cursor(text[:index] + new + text[index + 1 :], KEY)


def test_any_cut_is_found() -> None:
    text = encode_cursor(CURSOR, KEY)
    for end in range(len(text)):
        with pytest.raises(CursorError):
            decode_cursor(text[:end], KEY)


FOREIGN = {
    "another key": encode_cursor(CURSOR, b"x" * 32),
    "padded": encode_cursor(CURSOR, KEY) + "=",
    "more": encode_cursor(CURSOR, KEY) + "AAAA",
    "not base64": "no cursor!",
    "not signed": base64.urlsafe_b64encode(bytes(60)).decode(),
    "endless": "A" * 1_000_000,
    "surrogate": "\ud800",
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_a_foreign_one_is_refused(text: str) -> None:
    with pytest.raises(CursorError) as caught:
        decode_cursor(text, KEY)
    assert caught.value.param == "cursor"
    assert caught.value.value is not None and len(caught.value.value.encode()) < 300


@given(st.text())
def test_no_text_is_a_cursor(text: str) -> None:
    with pytest.raises(CursorError):
        decode_cursor(text, KEY)


@pytest.mark.parametrize(
    "cursor, key",
    [
        (CURSOR, b""),
        (CURSOR, b"short"),
        (Cursor(-1, "0" * 16, "0" * 16, 0), KEY),
        (Cursor(1, "0" * 16, "0" * 16, 2**63), KEY),
        (Cursor(1, "0" * 16, "0" * 16, 0, -2), KEY),
        (Cursor(1, "0" * 15, "0" * 16, 0), KEY),
        (Cursor(1, "0" * 14, "0" * 18, 0), KEY),
        (Cursor(1, "no hex here at a", "0" * 16, 0), KEY),
    ],
    ids=["no key", "short key", "version", "offset", "after", "odd", "shifted", "not hex"],
)
def test_what_cannot_be_encoded(cursor: Cursor, key: bytes) -> None:
    with pytest.raises(ValueError):
        encode_cursor(cursor, key)
