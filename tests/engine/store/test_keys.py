"""Names of datasets and of what is stored."""

from __future__ import annotations

import pytest

from engine.errors import InvalidNameError
from engine.store.keys import check_dataset_name, format_of, is_drop, log_key, new_blob_key, seq_of


@pytest.mark.parametrize("name", ["a", "7", "datadecide", "ft-matched", "a_b-c", "a" * 63])
def test_good_names(name: str) -> None:
    assert check_dataset_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "_bt", "a" * 64, "a b", "a/b", "..", "a\n", "é", "a.b", "a\0", "٣"], ids=repr
)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidNameError, match="not a dataset name"):
        check_dataset_name(name)


def test_log_keys_sort_by_number_and_back() -> None:
    assert log_key("d", 1) == "d/_bt/log/0000000001.json"
    assert seq_of(log_key("d", 1234)) == 1234
    assert seq_of("d/_bt/log/0000000001.json.tmp") is None
    assert seq_of("d/_bt/log/1.json") is None


def test_blob_keys_are_never_the_same() -> None:
    keys = {new_blob_key("d", "ab" * 32) for _ in range(1000)}
    assert len(keys) == 1000
    assert all(key.startswith("d/_bt/data/") and key.endswith("-abababababab.parquet") for key in keys)


@pytest.mark.parametrize(
    "key, drop",
    [
        ("d/results.parquet", True),
        ("d/results.parquet/", True),
        ("d/results.csv", True),
        ("d/results.ndjson", True),
        ("d/results.feather", True),
        ("d/other.parquet", False),
        ("d/results.parquet.tmp", False),
        ("d/.results.parquet", False),
        ("d/results.parquet.csv", False),
        ("d/results", False),
        ("d/dataset.toml", False),
        ("d/_bt/", False),
    ],
)
def test_what_is_a_drop(key: str, drop: bool) -> None:
    assert is_drop(key) is drop


def test_formats() -> None:
    assert [format_of(name) for name in ("a.parquet", "b.TSV", "c.jsonl", "d.feather", "e.xlsx", "parquet")] == [
        "parquet",
        "csv",
        "jsonl",
        "arrow",
        None,
        None,
    ]
