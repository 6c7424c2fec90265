"""Formats and content codings by what a request accepts."""

from __future__ import annotations

import pytest

from server.errors import HttpError
from server.negotiation import choose_coding, choose_format


@pytest.mark.parametrize(
    "accept, expected",
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("application/json", "json"),
        ("APPLICATION/JSON; charset=utf-8", "json"),
        ("application/*", "json"),
        ("text/*", "csv"),
        ("text/csv", "csv"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("application/x-ndjson", "ndjson"),
        ("application/jsonl", "ndjson"),
        ("application/vnd.apache.arrow.stream", "arrow"),
        ("application/vnd.apache.parquet, application/json;q=0.9", "parquet"),
        ("application/json;q=0.1, text/csv;q=0.2", "csv"),
        ("application/json;q=0, */*", "columns"),
        ("application/vnd.bytomorrow.columns+json", "columns"),
        ("text/csv;q=nonsense, application/json;q=0.5", "json"),
        ("*/*;q=0.1, application/*;q=0.5, text/csv", "csv"),
        ("*/*;q=nan, text/csv;q=0.1", "csv"),
    ],
)
def test_accept(accept: str | None, expected: str) -> None:
    assert choose_format(accept).name == expected


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "*/*;q=0"])
def test_nothing_acceptable(accept: str) -> None:
    with pytest.raises(HttpError) as caught:
        choose_format(accept)
    assert caught.value.status == 406


def test_the_parameter_wins() -> None:
    assert choose_format("text/html", "arrow").name == "arrow"
    with pytest.raises(HttpError) as caught:
        choose_format("application/json", "arow")
    assert caught.value.status == 406
    assert caught.value.did_you_mean == ("arrow",)


@pytest.mark.parametrize(
    "header, expected",
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("identity;q=1, gzip;q=0.5", None),
        ("identity;q=0.5, gzip;q=0.6", "gzip"),
        ("*", "zstd"),
        ("*;q=0.5, zstd;q=0", "br"),
        ("gzip;q=0, br;q=0, zstd;q=0", None),
        ("deflate", None),
    ],
)
def test_accept_encoding(header: str | None, expected: str | None) -> None:
    assert choose_coding(header).name == expected


@pytest.mark.parametrize("header", ["identity;q=0", "*;q=0", "identity;q=0, deflate", "identity;q=0, gzip;q=0"])
def test_no_coding_acceptable(header: str) -> None:
    with pytest.raises(HttpError) as caught:
        choose_coding(header)
    assert caught.value.status == 406


@pytest.mark.parametrize("header", ["gzip, identity;q=0", "gzip, *;q=0"])
def test_a_coding_that_is_forced(header: str) -> None:
    assert choose_coding(header).name == "gzip"
    assert choose_coding(header).is_forced
