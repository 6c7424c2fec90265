"""The order of rows by keys that fit into one number, against sorting them in memory."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from engine.store.order import IntegerKey, Key, TextKey, fits, places_in_order
from engine.store.rows import write_array

TEXTS = ["4M", "10M", "ü", "", "Z"]  # in the order that is asked for, whatever that is
_ROWS = st.lists(
    st.tuples(st.sampled_from([*TEXTS, None]), st.none() | st.integers(-3, 70_000), st.sampled_from([True, False])),
    max_size=80,
)


def order(columns: list[pa.Array], keys: list[Key], folder: Path, batch_rows: int = 7) -> list[int]:
    count = len(columns[0])
    table = pa.table([pa.array(range(count), pa.int64()), *columns], names=list("abcdefgh"[: len(columns) + 1]))
    batches = table.to_batches(max_chunksize=batch_rows)
    pieces = list(places_in_order(batches, keys, folder, deal_rows=10, sort_rows=5))
    assert not folder.exists()
    return [place for piece in pieces for place in piece.tolist()]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=_ROWS)
def test_as_sorting_in_memory(tmp_path: Path, rows: list[tuple[str | None, int | None, bool]]) -> None:
    texts, numbers, flags = zip(*rows, strict=True) if rows else ((), (), ())
    known = [number for number in numbers if number is not None]
    keys: list[Key] = [
        TextKey(tuple(TEXTS)),
        IntegerKey(min(known, default=0), max(known, default=0)),
        IntegerKey(0, 1),
    ]
    columns = [pa.array(texts, pa.string()), pa.array(numbers, pa.int64()), pa.array(flags, pa.bool_())]
    expected = sorted(
        range(len(rows)),
        key=lambda row: (
            len(TEXTS) if (text := texts[row]) is None else TEXTS.index(text),
            numbers[row] is None,
            numbers[row] or 0,
            flags[row],
            row,
        ),
    )
    assert order(columns, keys, tmp_path / "deal") == expected


def test_many_equal_keys_and_a_far_one(tmp_path: Path) -> None:
    numbers = pa.array([5] * 50 + [1 << 60] + [5] * 50, pa.int64())
    found = order([numbers], [IntegerKey(5, 1 << 60)], tmp_path / "deal")
    assert found == [*range(50), *range(51, 101), 50]


def test_what_fits_into_one_number() -> None:
    assert fits([TextKey(("a",)), IntegerKey(0, (1 << 60) - 3)])
    assert not fits([TextKey(("a",)), IntegerKey(0, 1 << 61)])
    assert not fits([IntegerKey((1 << 63) - 2, (1 << 63) - 1)])  # null would have no number
    assert fits([IntegerKey(-(1 << 63), -(1 << 63) + 5)])


@pytest.mark.parametrize("values", [["a", "x"], ["a", "", "b"]])
def test_a_value_that_nobody_knew_is_an_error(tmp_path: Path, values: list[str]) -> None:
    with pytest.raises(ValueError, match="another value"):
        order([pa.array(values)], [TextKey(("a", "b"))], tmp_path / "deal")
    with pytest.raises(ValueError, match="another value"):
        order([pa.array([1, 9])], [IntegerKey(1, 8)], tmp_path / "other")
    assert not (tmp_path / "deal").exists() and not (tmp_path / "other").exists()


def test_the_folder_goes_when_nobody_reads_on(tmp_path: Path) -> None:
    batch = pa.record_batch({"place": pa.array(np.arange(1000)), "key": pa.array(np.arange(1000) % 10)})
    pieces = places_in_order([batch], [IntegerKey(0, 9)], tmp_path / "deal", deal_rows=10, sort_rows=5)
    next(pieces)
    assert (tmp_path / "deal").exists()
    pieces.close()
    assert not (tmp_path / "deal").exists()


def test_a_full_disk_says_so(tmp_path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(OSError, match="No space left"):
        write_array(full, np.arange(5))
    with open(tmp_path / "file", "wb") as file:
        write_array(file, np.arange(6).reshape(2, 3)[:, 1:])
    assert np.fromfile(tmp_path / "file", np.int64).tolist() == [1, 2, 4, 5]
