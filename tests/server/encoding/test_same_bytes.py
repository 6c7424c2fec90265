"""However an answer comes and is written, its bytes are those that the first encoders gave: ``first/`` is frozen.

A change of the bytes is a change of ``ENCODING_VERSION``, and of what stands in ``first/``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server.encoding import FORMATS, Payload
from server.encoding.small import MOST_VALUES
from tests.server.encoding.first import FIRST
from tests.server.encoding.tables import answers, with_enums

Encode = Callable[[Payload], Iterator[bytes]]
NOW: dict[str, Encode] = {form.name: form.encode for form in FORMATS}


def written(
    encode: Encode, batches: Sequence[pa.RecordBatch], is_whole: bool, schema: pa.Schema | None = None
) -> bytes | str:
    """The body, or what kind of error it was."""
    rows = sum(batch.num_rows for batch in batches)

    def closing(nonfinite: int) -> dict[str, Any]:
        return {"meta": {"returned": rows, "nonfinite": nonfinite}, "links": {}}

    given = Payload(schema or batches[0].schema, iter(batches), is_whole, lambda: {"meta": {"returned": rows}}, closing)
    try:
        return b"".join(encode(given))
    except Exception as error:
        return type(error).__name__


def assert_same(plain: Sequence[pa.RecordBatch], *others: Sequence[pa.RecordBatch], formats: Any = NOW) -> None:
    for name in formats:
        for is_whole in (True, False):
            # The engine gives no batch without rows; the first encoder of Arrow made of them what came of its kernels.
            filled = [batch for batch in plain if batch.num_rows] if name == "arrow" and is_whole else plain
            expected = written(FIRST[name], filled, is_whole, plain[0].schema)
            for batches in (plain, *others):
                assert written(NOW[name], batches, is_whole) == expected, (name, is_whole)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(batches=answers(), seed=st.integers(0, 2**32))
def test_any_answer(batches: list[pa.RecordBatch], seed: int) -> None:
    assert_same(batches, with_enums(batches, seed))


def measurements(rows: int, values: int) -> pa.RecordBatch:
    """Rows like those of a sweep: names, counters that go with them, and a value that is different in most rows."""
    chance = random.Random(rows)
    steps = [1_250 * (row % values) for row in range(rows)]
    return pa.record_batch(
        {
            "params": pa.array([f"{row // 40 % 14}M" for row in range(rows)]),
            "data": pa.array([None if row % 97 == 5 else f"recipe {row // 560 % 25}, 7%" for row in range(rows)]),
            "step": pa.array(steps, pa.int64()),
            "tokens": pa.array([65_536 * step + 2**53 * (step % 3) for step in steps], pa.int64()),
            "compute": pa.array([float(step) * 1.5e15 for step in steps]),
            "ok": pa.array([row % 3 == 0 for row in range(rows)]),
            "metric": pa.array(['pile-"valppl"' if row % 2 else "accuracy" for row in range(rows)]),
            "value": pa.array([chance.random() if row % 50 else float("nan") for row in range(rows)]),
            "half": pa.array([None if row % 9 == 0 else row % 7 / 4 for row in range(rows)], pa.float32()),
            "zero": pa.array([(0.0, -0.0)[row // 3 % 2] for row in range(rows)]),
            "id": pa.array([f"run {row}" for row in range(rows)]),
        }
    )


@pytest.mark.parametrize("rows", [1, MOST_VALUES // 11, MOST_VALUES // 11 + 1, 700, 20_000])
@pytest.mark.parametrize("values", [1, 60, 10_000])
def test_rows_of_a_sweep(rows: int, values: int) -> None:
    batch = measurements(rows, values)
    cut = [batch.slice(0, rows // 3), batch.slice(rows // 3, 0), batch.slice(rows // 3)]
    assert_same([batch], with_enums([batch], rows))
    assert_same(cut, with_enums(cut, rows + 1))


def test_dictionaries_beyond_what_they_may_grow_to() -> None:
    """The third batch's values are too many, and its dictionary starts anew; the fourth's are known to that one."""
    ids = [*range(30_000), *range(20_000, 50_000), *range(40_000, 75_000), *range(74_000, 75_000)]
    ends = [0, 30_000, 60_000, 95_000, 96_000]
    texts = pa.array([None if one % 1_000 == 7 else f"run {one // 2}" for one in ids * 2])
    plain = [pa.record_batch({"id": texts.slice(a, b - a)}) for a, b in pairwise(ends)]
    plain += [
        pa.record_batch({"id": pa.array([f"{row % 9_000} {batch}" for row in range(36_000)])}) for batch in range(9)
    ]
    index = pa.dictionary(pa.uint32(), pa.string())
    own = [pa.record_batch({"id": batch["id"].dictionary_encode().cast(index)}) for batch in plain]
    everything = pa.array([f"run {one}" for one in range(40_000)] + [f"{one} 0" for one in range(9_000)])
    mixed = []
    for batch in plain:  # one large dictionary for many batches, as DuckDB gives it
        codes = pa.compute.index_in(batch["id"], value_set=everything)
        fits = codes.null_count == batch["id"].null_count
        shared = pa.DictionaryArray.from_arrays(codes.cast(pa.uint32()), everything)
        mixed.append(pa.record_batch({"id": shared}) if fits else own[len(mixed)])
    assert_same(plain, own, mixed, formats=["arrow", "json", "columns"])


def test_a_dictionary_that_comes_again_after_a_larger_one() -> None:
    """What the larger one brought is known by then."""
    small = pa.array(["a", "b", "c"])
    large = pa.array([f"v{one}" for one in range(400)] + ["c"])
    batches = [
        pa.record_batch({"t": pa.DictionaryArray.from_arrays(pa.array(codes * 50, pa.uint16()), texts)})
        for texts, codes in ((small, [0, 1]), (large, [7, 400]), (small, [1, 2]), (small, [2, 0]))
    ]
    assert_same([pa.record_batch({"t": batch["t"].dictionary_decode()}) for batch in batches], batches)


@pytest.mark.parametrize("edge", [2**53, 2**53 + 1, -(2**53), -(2**53) - 1])
def test_integers_at_the_edge_of_what_json_has(edge: int) -> None:
    many = pa.array([*range(5_000), edge], pa.int64())
    few = pa.array([*[1] * 5_000, edge], pa.int64())
    assert_same([pa.record_batch({"many": many, "few": few})])


ENUMS = """
SELECT {e} AS e, [{e}, NULL] AS l, {{'a': {e}, 'n': i}} AS s, MAP {{{e}: i}} AS m, [{e}, {e}]::{t}[2] AS f,
    [{{'a': [{e}]}}] AS d, CASE WHEN i % 5 > 0 THEN {e} END AS n, i::DOUBLE AS v
FROM range({rows}) AS r(i)
"""


@pytest.mark.parametrize("rows", [0, 1, 54, 5_000])
def test_enums_of_duckdb_at_any_depth(rows: int) -> None:
    names = ", ".join(f"'kind \"{one}\"'" for one in range(200))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TYPE t AS ENUM ({names})")
        place = "('kind \"' || (i * i % 23)::VARCHAR || '\"')"
        enums = connection.sql(ENUMS.format(e=f"{place}::t", t="t", rows=rows)).to_arrow_table()
        texts = connection.sql(ENUMS.format(e=place, t="VARCHAR", rows=rows)).to_arrow_table()
        union = connection.sql(f"SELECT union_value(k := {place}::t) AS u FROM range(9) AS r(i)").to_arrow_table()
        plain = connection.sql(f"SELECT union_value(k := {place}) AS u FROM range(9) AS r(i)").to_arrow_table()
    assert pa.types.is_dictionary(enums["e"].type) and pa.types.is_dictionary(enums["l"].type.value_type)
    assert_same(_batches(texts), _batches(enums))
    assert_same(_batches(plain), _batches(union))


def _batches(table: pa.Table) -> list[pa.RecordBatch]:
    return table.to_batches() or [pa.RecordBatch.from_pylist([], schema=table.schema)]


def test_a_dictionary_with_doubles_and_nulls_in_it() -> None:
    texts = pa.array(["a", "b", "a", None, "c"])
    coded = pa.DictionaryArray.from_arrays(pa.array([2, 0, 3, 1, None, 4, 2] * 300, pa.uint8()), texts)
    plain = pa.record_batch({"t": coded.dictionary_decode()})
    assert_same([plain, plain], [pa.record_batch({"t": coded})] * 2)


def test_equal_names() -> None:
    column = [pa.array([1, 2]), pa.array(["x", "y"])]
    assert_same([pa.RecordBatch.from_arrays(column, names=["a", "a"])], formats=["json", "ndjson", "csv", "arrow"])
