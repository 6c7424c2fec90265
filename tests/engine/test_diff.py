"""What changed between two versions: against a slow, obvious reference, and the cases that a reference cannot show."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.diff import VersionDiff
from engine.errors import QueryTimeoutError, VersionNotFoundError
from queries.errors import InvalidValueError, TypeMismatchError, UnknownColumnError
from tests.engine.support import DEFINITION, Lab, sweep

NAN = float("nan")
Row = dict[str, Any]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.engine.close()


def compare(lab: Lab, before: pa.Table | Row, after: pa.Table | Row, **options: Any) -> VersionDiff:
    lab.publish("table", before)
    lab.publish("table", after)
    return lab.engine.diff("table", **options)


def counts(diff: VersionDiff) -> tuple[int, int, int, int]:
    return diff.added.total, diff.removed.total, diff.changed.total, diff.unchanged


# --- the reference

TYPES = {
    "k": (pa.string(), pa.string()),
    "n": (pa.int32(), pa.int64()),  # widened
    "x": (pa.float64(), pa.float64()),
    "f": (pa.float32(), pa.float64()),
    "t": (pa.string(), pa.int64()),  # retyped: not compared
}
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 2.5, NAN, math.inf, -math.inf, None])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "k": st.sampled_from(["a", "b", "c", "d", "e", None]),
            "n": st.sampled_from([0, 1, None]),
            "x": FLOATS,
            "f": FLOATS,
        }
    ),
    max_size=8,
)


def as_table(rows: list[Row], side: int) -> pa.Table:
    texts = ["1"] * len(rows) if side == 0 else [1] * len(rows)
    columns = {name: texts if name == "t" else [row[name] for row in rows] for name in TYPES}
    return pa.table({name: pa.array(columns[name], TYPES[name][side]) for name in TYPES})


def bits(value: Any) -> Any:
    """A value that equals another one when the two are the same to a diff."""
    if isinstance(value, float):
        return "nan" if math.isnan(value) else struct.pack(">d", value)
    return value


def whole(row: Row) -> tuple[Any, ...]:
    return tuple(bits(row[name]) for name in ("k", "n", "x", "f"))


def expected(before: list[Row], after: list[Row], key: tuple[str, ...]) -> tuple[int, int, int, int]:
    groups: dict[Any, tuple[list[Row], list[Row]]] = {}
    for side, rows in enumerate((before, after)):
        for row in rows:
            groups.setdefault(tuple(row[name] for name in key), ([], []))[side].append(row)
    added = removed = changed = unchanged = 0
    for old, new in groups.values():
        if len(old) == len(new) == 1:
            is_same = whole(old[0]) == whole(new[0])
            unchanged += is_same
            changed += not is_same
            continue
        was, now = Counter(map(whole, old)), Counter(map(whole, new))
        added += (now - was).total()
        removed += (was - now).total()
        unchanged += (was & now).total()
    return added, removed, changed, unchanged


@given(st.lists(st.tuples(ROWS, ROWS), min_size=1, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_counts_are_those_of_the_reference(tmp_path_factory: pytest.TempPathFactory, pairs: Any) -> None:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        for number, (before, after) in enumerate(pairs):
            name = f"t{number}"
            first = lab.publish(name, as_table(before, 0)).version
            second = lab.publish(name, as_table(after, 1)).version
            for key in (("k",), ("k", "n")):
                diff = lab.engine.diff(name, first.number, second.number, key=key)
                assert counts(diff) == expected(before, after, key), (before, after, key)
                check_samples(diff, before, after)
    finally:
        lab.engine.close()


def check_samples(diff: VersionDiff, before: list[Row], after: list[Row]) -> None:
    """Every row that is listed is one of its side, and each changed cell is one that differs."""
    for sample, rows in ((diff.added, after), (diff.removed, before)):
        assert sample.table.num_rows == sample.total or not sample.total
        known = Counter(map(whole, rows))
        assert not Counter(map(whole, sample.table.to_pylist())) - known
    listed = list(diff.changed)
    assert len(listed) == diff.changed.total
    for _, changes in listed:
        assert changes and all(bits(old) != bits(new) for old, new in changes.values())
    assert sum(diff.cells.values()) == sum(len(changes) for _, changes in listed)


# --- metrics


def test_a_long_table_by_metric(lab: Lab) -> None:
    lab.sweep()
    table = sweep()
    values = table["value"].to_pylist()
    values[0] += 5.0  # pile-valppl
    values[2] -= 1.0  # pile-valppl
    values[1] = NAN  # accuracy
    lab.publish("sweep", table.set_column(6, "value", pa.array(values)), DEFINITION)
    diff = lab.engine.diff("sweep")
    assert diff.key == ("params", "data", "step", "metric")
    assert counts(diff) == (0, 0, 3, 69)
    loss, accuracy = diff.metrics
    assert (loss.metric, loss.unit, loss.direction) == ("pile-valppl", "perplexity", "lower")
    assert (loss.changed, loss.unchanged, loss.increased, loss.decreased, loss.undefined) == (2, 34, 1, 1, 0)
    assert [loss.max_abs, loss.mean_abs] == pytest.approx([5.0, 3.0])
    top = loss.largest[0]
    assert dict(top.key) == {"params": "60M", "data": "C4", "step": 0, "metric": "pile-valppl"}
    assert [top.after - top.before, top.change] == pytest.approx([5.0, 5.0])
    assert [change.change for change in loss.largest] == pytest.approx([5.0, -1.0])
    assert (accuracy.changed, accuracy.undefined, accuracy.mean_abs, accuracy.largest) == (1, 1, None, ())


def test_a_new_metric_is_told_by_its_rows(lab: Lab) -> None:
    lab.sweep()
    table = sweep()
    more = table.filter(pa.compute.equal(table["metric"], "accuracy"))
    more = more.set_column(5, "metric", pa.array(["f1"] * more.num_rows))
    lab.publish("sweep", pa.concat_tables([table, more]), DEFINITION)
    (metric,) = lab.engine.diff("sweep").metrics
    assert (metric.metric, metric.added, metric.changed) == ("f1", 36, 0)


def test_a_wide_table_by_column(lab: Lab) -> None:
    runs = [f"r{number}" for number in range(10)]
    before = {"run": runs, "loss": [float(number) for number in range(10)], "acc": [0.5] * 10}
    after = {"run": runs, "loss": [number + number / 10 for number in range(10)], "acc": [0.5] * 9 + [0.25]}
    diff = compare(lab, before, after)
    assert diff.key == ("run",)
    loss, acc = diff.metrics
    assert (loss.column, loss.metric, loss.changed, acc.column, acc.changed) == ("loss", None, 9, "acc", 1)
    assert [change.key["run"] for change in loss.largest] == ["r9", "r8", "r7", "r6", "r5"]
    assert acc.largest[0].change == -0.25
    assert diff.cells == {"loss": 9, "acc": 1}


# --- columns and keys


def test_columns_that_came_went_and_changed(lab: Lab) -> None:
    before = {"run": ["a", "b"], "n": pa.array([1, 2], pa.int32()), "t": ["1", "2"], "old": [1, 2]}
    after = {"run": ["a", "b"], "n": pa.array([1, 3], pa.int64()), "t": [1, 2], "new": [1.0, 2.0]}
    diff = compare(lab, before, after)
    assert [one.name for one in diff.schema.added] == ["new"]
    assert [one.name for one in diff.schema.removed] == ["old"]
    assert [(one.name, one.before, one.after) for one in diff.schema.widened] == [("n", "INTEGER", "BIGINT")]
    assert [one.name for one in diff.schema.retyped] == ["t"] == list(diff.schema.not_compared)
    assert "not compared" in diff.warnings[0]
    assert counts(diff) == (0, 0, 1, 1)
    assert diff.to_arrow().to_pylist() == [{"run": "b", "n_before": 2, "n_after": 3}]


def test_the_columns_of_a_narrowed_type_are_compared_all_the_same(lab: Lab) -> None:
    wide, narrow = pa.array([1, 2**40], pa.int64()), pa.array([1, 2], pa.int32())
    diff = compare(lab, {"run": ["a", "b"], "n": wide}, {"run": ["a", "b"], "n": narrow})
    assert ([one.name for one in diff.schema.retyped], diff.schema.not_compared) == (["n"], ())
    assert list(diff.changed) == [({"run": "b"}, {"n": (2**40, 2)})]


def test_the_same_content_is_not_scanned(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.sweep()
    lab.engine.version("sweep")
    monkeypatch.setattr(lab.engine.database, "table", lambda *_, **__: 1 / 0)
    diff = lab.engine.diff("sweep", 1, 1)
    assert counts(diff) == (0, 0, 0, 72)
    assert diff.is_identical and diff.metrics == ()


def test_without_a_key_rows_are_compared_as_a_whole(lab: Lab) -> None:
    diff = compare(lab, {"x": [1.0, 1.0, 2.0, 0.0]}, {"x": [1.0, 2.0, 2.0, -0.0]})
    assert (diff.key, counts(diff)) == ((), (2, 2, 0, 2))
    assert "as a whole" in diff.warnings[0]
    assert [str(row["x"]) for row in diff.added.table.to_pylist()] == ["-0.0", "2.0"]
    assert [str(row["x"]) for row in diff.removed.table.to_pylist()] == ["0.0", "1.0"]


def test_a_declared_key_with_a_few_repeats_stays_the_key(lab: Lab) -> None:
    lab.sweep()
    twice = pa.concat_tables([sweep(), sweep(9.0).slice(0, 1)])
    lab.publish("sweep", twice, DEFINITION)
    diff = lab.engine.diff("sweep")
    assert diff.key == ("params", "data", "step", "metric")
    assert counts(diff) == (1, 0, 0, 72)
    assert "2 rows of v2" in diff.warnings[-1] and "0 rows of v1" in diff.warnings[-1]


def test_nothing_in_common(lab: Lab) -> None:
    diff = compare(lab, {"a": [1, 2]}, {"b": [3]})
    assert counts(diff) == (1, 2, 0, 0)
    assert (diff.added.table.to_pylist(), diff.removed.table.num_rows) == ([{"b": 3}], 2)


def test_limits_and_totals(lab: Lab) -> None:
    runs = [f"r{number}" for number in range(10)]
    diff = compare(lab, {"run": runs, "x": [1.0] * 10}, {"run": [*runs[2:], "s", "t"], "x": [2.0] * 10}, limit=1)
    assert counts(diff) == (2, 2, 8, 0)
    for sample in (diff.added, diff.removed):
        assert (sample.table.num_rows, sample.truncated) == (1, True)
    assert (len(list(diff.changed)), diff.changed.truncated) == (1, True)
    nothing = lab.engine.diff("table", limit=0)
    assert (counts(nothing), nothing.changed.truncated) == (counts(diff), True)


def test_a_name_with_quotes_is_a_name(lab: Lab) -> None:
    name = 'a "b"; DROP TABLE x --'
    diff = compare(lab, {name: ["p", "q"], "x": [1.0, 2.0]}, {name: ["p", "q"], "x": [1.0, 3.0]}, key=[name])
    assert list(diff.changed) == [({name: "q"}, {"x": (2.0, 3.0)})]


def test_nested_values(lab: Lab) -> None:
    before = pa.table({"run": ["a", "b"], "tags": [["x"], ["y", None]], "at": [{"z": 1}, {"z": 2}]})
    after = pa.table({"run": ["a", "b"], "tags": [["x"], ["y"]], "at": [{"z": 1}, {"z": 3}]})
    diff = compare(lab, before, after)
    assert list(diff.changed) == [({"run": "b"}, {"tags": (["y", None], ["y"]), "at": ({"z": 2}, {"z": 3})})]


@pytest.mark.parametrize("key", [["run"], None])
def test_a_table_of_very_many_columns(lab: Lab, key: list[str] | None) -> None:
    """More columns than one query has the memory for."""
    rows = 100
    runs = [f"r{number:02}" for number in range(rows)] if key else ["r"] * rows
    before = {"run": runs, **{f"m{number}": [float(number)] * rows for number in range(500)}}
    after = dict(before)
    for number in range(0, 500, 4):  # in more columns than are compared in one pass
        after[f"m{number}"] = [float(number + (row in (7, number // 4))) for row in range(rows)]
    diff = compare(lab, before, after, key=key)
    if key is None:
        assert counts(diff) == (100, 100, 0, 0)
        return
    assert counts(diff) == (0, 0, 100, 0)
    assert (len(diff.cells), len(diff.metrics), diff.metrics_total) == (125, 125, 125)
    listed = {row["run"]: changes for row, changes in diff.changed}
    assert listed["r03"] == {"m12": (12.0, 13.0)}
    assert len(listed["r07"]) == 125
    assert diff.to_arrow().num_columns == 251


def test_wrong_keys(lab: Lab) -> None:
    lab.publish("table", {"run": ["a"], "t": ["1"], "old": [1]})
    lab.publish("table", {"run": ["a"], "t": [1]})
    with pytest.raises(UnknownColumnError, match=r"v2 has no column 'old'"):
        lab.engine.diff("table", key=["old"])
    with pytest.raises(UnknownColumnError) as unknown:
        lab.engine.diff("table", key=["rnu"])
    assert unknown.value.did_you_mean == ("run",)
    with pytest.raises(TypeMismatchError):
        lab.engine.diff("table", key=["t"])
    with pytest.raises(InvalidValueError):
        lab.engine.diff("table", limit=-1)


# --- which versions


def test_what_is_compared_when_nothing_is_said(lab: Lab) -> None:
    lab.publish("table", {"x": [1]})
    with pytest.raises(VersionNotFoundError, match="no version before it"):
        lab.engine.diff("table")
    for value in (2, 3):
        lab.publish("table", {"x": [value]})
    names = [(diff.before.name, diff.after.name) for diff in (lab.engine.diff("table"), lab.engine.diff("table", "v1"))]
    assert names == [("v2", "v3"), ("v1", "v3")]
    lab.engine.set_current("table", "v1")
    fourth = lab.publish("table", {"x": [4]}).version
    diff = lab.engine.diff("table")
    assert (diff.before.name, diff.after.name) == ("v1", fourth.name)  # its parent is what readers had
    assert "v1 → " in str(diff) and "<pre>" in diff._repr_html_()


def test_one_time_limit_for_all_of_it(lab: Lab) -> None:
    lab.sweep()
    lab.sweep(1.0)
    lab.engine.config = replace(lab.engine.config, query_timeout_s=0.0)
    with pytest.raises(QueryTimeoutError, match="comparison"):
        lab.engine.diff("sweep")
