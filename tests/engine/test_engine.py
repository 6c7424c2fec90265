"""The engine on a real store: versions, cursors, paging, limits, pivots, facets, damage, threads and time."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import Engine, QueryRequest
from engine.errors import (
    CorruptVersionError,
    DatasetNotFoundError,
    EngineBusyError,
    EngineError,
    InvalidNameError,
    NamedQueryNotFoundError,
    QueryTimeoutError,
    RejectedFileError,
    ResultTooLargeError,
    StoreError,
    VersionNotFoundError,
)
from queries.errors import CursorError, GrammarError, LimitExceededError, UnknownColumnError, UnknownValueError
from queries.request import BestBy
from tests.engine.support import DEFINITION, Lab, sweep, write_parquet
from tests.queries.support import aggs, by, every, is_, not_


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One sweep that nobody changes."""
    lab = Lab(tmp_path_factory.mktemp("shared"))
    lab.sweep()
    yield lab
    lab.engine.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.engine.close()


# --- versions


class TestVersions:
    def test_readers_follow_the_latest(self, lab: Lab) -> None:
        assert lab.sweep().version.name == "v1"
        assert lab.ask().meta.version == "v1"
        lab.sweep(1.0)
        assert lab.ask().meta.version == "v2"
        lab.engine.set_current("sweep", "v1")
        assert lab.ask().meta.version == "v1"
        assert lab.ask(version="latest").meta.version == "v1"

    @pytest.mark.parametrize("spec", ["v1", "1", 1, "id"])
    def test_a_pinned_version_stays(self, lab: Lab, spec: str | int) -> None:
        first = lab.sweep().version
        lab.sweep(1.0)
        pinned = first.content_id[:12] if spec == "id" else spec
        result = lab.ask(version=pinned)
        assert result.meta.version == "v1"
        assert result.table["value"].equals(lab.ask(version="v1").table["value"])
        prepared = lab.engine.prepare(QueryRequest(dataset="sweep", version=pinned))
        assert prepared.is_pinned and not lab.engine.prepare(QueryRequest(dataset="sweep")).is_pinned

    def test_another_process_publishes(self, lab: Lab) -> None:
        lab.sweep()
        with Engine.open(lab.store, definitions=lab.definitions) as other:
            other.publish("sweep", sweep(1.0))
        assert lab.ask().meta.version == "v2"

    @pytest.mark.parametrize("spec", ["v9", "9", "0123456789ab", "newest", "v0", ""])
    def test_a_version_that_is_not_there(self, shared: Lab, spec: str) -> None:
        with pytest.raises(VersionNotFoundError):
            shared.ask(version=spec)

    def test_a_dataset_that_is_not_there(self, shared: Lab) -> None:
        with pytest.raises(DatasetNotFoundError) as caught:
            shared.ask("swep")
        assert caught.value.did_you_mean == ("sweep",)

    @pytest.mark.parametrize("name", ["../sweep", "Sweep", "", "a b", "_bt"])
    def test_a_name_that_cannot_be_one(self, shared: Lab, name: str) -> None:
        with pytest.raises(InvalidNameError):
            shared.ask(name)
        with pytest.raises(InvalidNameError):
            shared.engine.dataset(name)

    def test_a_new_definition_is_a_new_version_of_the_same_content(self, lab: Lab) -> None:
        lab.sweep()
        before = lab.ask(select=("params_exact",), distinct=True)
        assert lab.publish("sweep", sweep(), DEFINITION.replace("57078144", "57000000")).version.name == "v2"
        after = lab.ask(select=("params_exact",), distinct=True)
        assert before.meta.content_id == after.meta.content_id
        assert before.table.to_pylist()[0] == {"params_exact": 57_078_144}
        assert after.table.to_pylist()[0] == {"params_exact": 57_000_000}
        assert lab.ask(version="v1", select=("params_exact",), distinct=True).table == before.table

    def test_a_definition_may_take_the_name_of_the_ordinal(self, lab: Lab) -> None:
        derived = DEFINITION + '[derived._ordinal]\nkind = "size_label"\nfrom = "params"\n'
        lab.sweep()
        first = list(lab.pages(limit=50, version="v1"))
        lab.publish("sweep", sweep(), derived)
        assert lab.ask(limit=1, select=("_ordinal",)).table.to_pylist() == [{"_ordinal": 60_000_000}]
        assert [page.table for page in lab.pages(limit=50, version="v1")] == [page.table for page in first]

    def test_the_catalogue(self, shared: Lab) -> None:
        assert shared.engine.dataset_names() == ["sweep"]
        assert repr(shared.engine) == "<Engine of 1 datasets: sweep>"
        shared.engine.ready()

    def test_publishing_what_is_there(self, lab: Lab, tmp_path: Path) -> None:
        first = lab.sweep()
        again = lab.sweep()
        assert (first.created, again.created) == (True, False)
        assert again.version == first.version
        path = write_parquet(tmp_path / "x.parquet", sweep(3.0))
        outcome = lab.engine.publish("sweep", path, message="by hand", by="me")
        assert (outcome.version.message, outcome.version.by) == ("by hand", "me")

    def test_publishing_what_cannot_be_served(self, lab: Lab, tmp_path: Path) -> None:
        bad = tmp_path / "bad.parquet"
        bad.write_bytes(b"PAR1 and no more")
        with pytest.raises(RejectedFileError, match="bad"):
            lab.engine.publish("sweep", bad)
        with pytest.raises(TypeError, match="pyarrow, pandas or polars"):
            lab.engine.publish("sweep", [1, 2, 3])
        assert lab.engine.dataset_names() == []

    def test_a_version_of_several_files_has_one_order(self, lab: Lab) -> None:
        for name, shift in (("one", 0.0), ("two", 1000.0)):
            lab.publish(name, sweep(shift))
        one, two = (lab.engine.state(name).resolve(None) for name in ("one", "two"))
        both = lab.engine.open_version(replace(one, number=9, files=(*one.files, *two.files)))
        with lab.engine.scan(both) as scan:
            table = lab.engine.database.table(f'SELECT * FROM "{scan.relation}"')
        assert table[both.schema.ordinal].to_pylist() == list(range(144))
        expected = pa.concat_tables([sweep(), sweep(1000.0)])
        found = table.drop_columns([both.schema.ordinal])
        assert found == expected.cast(found.schema)


# --- pages


class TestPages:
    def test_each_row_once_while_another_version_appears(self, lab: Lab) -> None:
        lab.sweep()
        whole = lab.ask(version="v1").table
        found, versions = [], set()
        for at, page in enumerate(lab.pages(limit=7)):
            found.append(page.table)
            versions.add(page.meta.version)
            if at == 3:
                lab.sweep(100.0)
        assert pa.concat_tables(found) == whole
        assert versions == {"v1"}
        assert lab.ask().meta.version == "v2"

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"where": is_("metric", "accuracy"), "select": ("value", "params")},
            {"sort": by("-params", "value")},
            {"group_by": ("params", "data", "metric")},
            {"select": ("data", "step"), "distinct": True},
            {"pivot": "metric"},
            {"last_by": ("params", "data", "metric")},
            {"best_by": BestBy(by=("params", "data", "metric"))},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("limit", [1, 5, 18, 72, 100])
    def test_pages_make_the_whole(self, shared: Lab, fields: dict[str, Any], limit: int) -> None:
        whole = shared.ask(**fields)
        rows = whole.table.num_rows
        pages = list(shared.pages(limit=limit, **fields))
        assert pa.concat_tables([page.table for page in pages]) == whole.table
        assert [page.meta.returned for page in pages] == [
            min(limit, rows - start) for start in range(0, max(rows, 1), limit)
        ]
        assert {page.meta.total for page in pages} == {rows}
        assert [page.meta.offset for page in pages] == list(range(0, max(rows, 1), limit))
        assert [page.meta.truncated for page in pages] == [True] * (len(pages) - 1) + [False]

    @pytest.mark.parametrize(
        "limit, offset, returned, truncated",
        [
            (None, 0, 72, False),
            (0, 0, 0, True),
            (72, 0, 72, False),
            (71, 0, 71, True),
            (100, 0, 72, False),
            (10, 62, 10, False),
            (10, 61, 10, True),
            (10, 72, 0, False),
            (10, 1000, 0, False),
            (0, 72, 0, False),
            (None, 70, 2, False),
            (None, 100, 0, False),
        ],
    )
    def test_what_a_page_says_of_itself(
        self, shared: Lab, limit: int | None, offset: int, returned: int, truncated: bool
    ) -> None:
        meta = shared.ask(limit=limit, offset=offset).meta
        assert (meta.returned, meta.total, meta.total_exact) == (returned, 72, True)
        assert (meta.truncated, meta.next_cursor is not None) == (truncated, truncated)
        assert (meta.limit, meta.offset) == (limit, offset)

    def test_an_answer_of_nothing(self, shared: Lab) -> None:
        meta = shared.ask(where=is_("value", 1e9, "gt"), limit=5).meta
        assert (meta.returned, meta.total, meta.truncated, meta.next_cursor) == (0, 0, False, None)

    def test_a_page_of_nothing_begins_where_it_stands(self, shared: Lab) -> None:
        first = shared.ask(limit=10)
        nothing = shared.ask(limit=0, cursor=first.meta.next_cursor)
        assert (nothing.meta.returned, nothing.meta.offset, nothing.meta.truncated) == (0, 10, True)
        rest = shared.ask(limit=10, cursor=nothing.meta.next_cursor)
        assert rest.table == shared.ask(limit=10, offset=10).table

    def test_the_rest_at_once(self, shared: Lab) -> None:
        cursor = shared.ask(limit=10).meta.next_cursor
        rest = shared.ask(cursor=cursor)
        assert rest.table == shared.ask(offset=10).table
        assert (rest.meta.returned, rest.meta.total, rest.meta.truncated) == (62, 72, False)

    def test_no_total(self, shared: Lab) -> None:
        meta = shared.ask(limit=10, total=False).meta
        assert (meta.total, meta.total_exact, meta.truncated) == (None, False, True)
        assert shared.ask(total=False).meta.returned == 72

    @pytest.mark.parametrize(
        "changes",
        [
            {"where": is_("metric", "accuracy")},
            {"select": ("value",)},
            {"sort": by("value")},
            {"group_by": ("params",)},
            {"dataset": "other"},
        ],
        ids=str,
    )
    def test_a_cursor_of_another_query(self, lab: Lab, changes: dict[str, Any]) -> None:
        lab.sweep()
        lab.publish("other", sweep(), DEFINITION)
        cursor = lab.ask(limit=5).meta.next_cursor
        with pytest.raises(CursorError) as caught:
            lab.ask(**{"limit": 5, "cursor": cursor, **changes})
        assert caught.value.param == "cursor"

    def test_a_cursor_that_was_changed(self, shared: Lab) -> None:
        cursor = shared.ask(limit=5).meta.next_cursor
        assert cursor is not None
        other = "A" if cursor[20] != "A" else "B"
        for text in (cursor[:-1], cursor[:20] + other + cursor[21:], cursor + "A", "", "x", "é"):
            with pytest.raises(CursorError):
                shared.ask(limit=5, cursor=text)

    def test_a_cursor_of_another_version(self, lab: Lab) -> None:
        lab.sweep()
        cursor = lab.ask(limit=5).meta.next_cursor
        lab.sweep(1.0)
        assert lab.ask(limit=5, cursor=cursor, version="v1").meta.version == "v1"
        with pytest.raises(CursorError, match="v1"):
            lab.ask(limit=5, cursor=cursor, version="v2")
        with pytest.raises(GrammarError):
            lab.ask(limit=5, cursor=cursor, offset=5)

    def test_a_cursor_of_another_store(self, lab: Lab, tmp_path: Path) -> None:
        lab.sweep()
        cursor = lab.ask(limit=5).meta.next_cursor
        other = Lab(tmp_path / "other")
        other.sweep(5.0)
        with other.engine, pytest.raises(CursorError, match="not here"):
            other.ask(limit=5, cursor=cursor)

    def test_equal_sort_keys_keep_the_order_of_the_file(self, shared: Lab) -> None:
        ordered = shared.ask(sort=by("metric"), select=("step", "params", "data")).table.to_pylist()
        again = [shared.ask(sort=by("metric"), limit=1, offset=at).table["step"][0].as_py() for at in (0, 35, 36, 71)]
        assert again == [ordered[at]["step"] for at in (0, 35, 36, 71)]


class TestStreams:
    def test_a_small_answer_is_whole_at_once(self, shared: Lab) -> None:
        with shared.engine.stream(shared.engine.prepare(QueryRequest(dataset="sweep"))) as stream:
            assert stream.complete
            assert (stream.meta().returned, stream.count()) == (72, 72)
            assert sum(batch.num_rows for batch in stream) == 72

    def test_a_large_answer_streams(self, lab: Lab) -> None:
        lab.publish("big", {"x": range(300_000)})
        with lab.engine.stream(lab.engine.prepare(QueryRequest(dataset="big"))) as stream:
            assert not stream.complete
            meta = stream.meta()
            assert (meta.returned, meta.total, meta.truncated, meta.next_cursor) == (None, None, None, None)
            assert stream.count() == 300_000
            assert stream.meta().total == 300_000
            read = [value for batch in stream for value in batch.column(0).to_pylist()]
            assert read == list(range(300_000))
            assert stream.complete and stream.meta().returned == 300_000
            assert stream.engine_s > 0

    @pytest.mark.parametrize(
        "limit, offset, rows", [(200_000, 0, 200_000), (None, 100_000, 200_000), (150_000, 299_999, 1)]
    )
    def test_a_page_of_a_large_answer(self, lab: Lab, limit: int | None, offset: int, rows: int) -> None:
        lab.publish("big", {"x": range(300_000)})
        request = QueryRequest(dataset="big", limit=limit, offset=offset)
        with lab.engine.stream(lab.engine.prepare(request)) as stream:
            assert stream.count() == rows
            assert [value for batch in stream for value in batch.column(0).to_pylist()] == list(
                range(offset, offset + rows)
            )
            assert stream.meta().total == 300_000

    def test_closing_in_the_middle_gives_everything_back(self, tmp_path: Path) -> None:
        lab = Lab(tmp_path, max_concurrent=1, queue_timeout_s=0.2)
        with lab.engine:
            lab.publish("big", {"x": range(300_000)})
            prepared = lab.engine.prepare(QueryRequest(dataset="big"))
            for _ in range(3):
                stream = lab.engine.stream(prepared)
                batches = iter(stream)
                next(batches)
                stream.close()
                stream.close()
                with pytest.raises(EngineError):
                    list(batches)
            assert lab.ask("big", limit=1).meta.returned == 1

    def test_closing_the_engine_in_the_middle(self, tmp_path: Path) -> None:
        lab = Lab(tmp_path)
        lab.publish("big", {"x": range(300_000)})
        stream = lab.engine.stream(lab.engine.prepare(QueryRequest(dataset="big")))
        lab.engine.close()
        try:
            read = sum(batch.num_rows for batch in stream)
        except EngineError:
            return
        assert read == 300_000  # either all of it, or an error: never a part

    def test_too_many_at_once(self, tmp_path: Path) -> None:
        lab = Lab(tmp_path, max_concurrent=1, queue_timeout_s=0.05)
        with lab.engine:
            lab.publish("big", {"x": range(300_000)})
            prepared = lab.engine.prepare(QueryRequest(dataset="big"))
            with lab.engine.stream(prepared), pytest.raises(EngineBusyError):
                lab.engine.stream(prepared)
            assert lab.engine.run(prepared).table.num_rows == 300_000


class TestLimits:
    def test_an_answer_that_is_too_large_is_refused_whole(self, tmp_path: Path) -> None:
        lab = Lab(tmp_path, max_rows=50)
        with lab.engine:
            lab.sweep()
            with pytest.raises(ResultTooLargeError, match="72 rows, and 50 is the most"):
                lab.ask()
            with pytest.raises(LimitExceededError):
                lab.ask(limit=51)
            assert lab.ask(limit=50).meta.truncated
            assert lab.ask(where=is_("metric", "accuracy")).meta.returned == 36
            assert lab.ask(group_by=("params",)).meta.returned == 3
            assert lab.ask(pivot="metric").meta.returned == 36
            assert lab.ask(offset=22).meta.returned == 50
            with pytest.raises(ResultTooLargeError):
                lab.ask(offset=21)
            cursor = lab.ask(limit=30).meta.next_cursor
            assert lab.ask(cursor=cursor).meta.returned == 42
            with pytest.raises(ResultTooLargeError):
                lab.ask(cursor=lab.ask(limit=1).meta.next_cursor)

    def test_a_pivot_that_is_too_wide(self, lab: Lab) -> None:
        lab.publish("wide", {"x": range(5_001), "value": [0.0] * 5_001})
        with pytest.raises(LimitExceededError, match="5001 columns"):
            lab.ask("wide", pivot="x", pivot_values="value", select=())
        assert len(lab.ask("wide", pivot="x", where=is_("x", 5_000, "lt"), select=()).meta.columns) == 5_000

    def test_time(self, tmp_path: Path) -> None:
        lab = Lab(tmp_path)
        with lab.engine:
            lab.publish("big", {"x": range(1_000_000), "y": [at % 7 for at in range(1_000_000)]})
        slow = Lab(tmp_path, query_timeout_s=0.02)
        with slow.engine:
            prepared = slow.engine.prepare(
                QueryRequest(dataset="big", group_by=("x", "y"), aggs=aggs("p50:x", "nunique:x"), sort=by("-p50_x"))
            )
            with pytest.raises(QueryTimeoutError, match=r"0\.02 s"):
                slow.engine.run(prepared)
            assert slow.ask("big", limit=1).meta.returned == 1  # and the next one works


# --- shapes of answers


class TestPivot:
    def test_the_columns_are_known_after_running(self, shared: Lab) -> None:
        prepared = shared.engine.prepare(QueryRequest(dataset="sweep", pivot="metric"))
        assert prepared.columns is None
        result = shared.engine.run(prepared)
        names = ["params", "data", "step", "tokens", "compute", "accuracy", "pile-valppl"]
        assert [column.name for column in result.meta.columns] == result.table.column_names == names
        assert result.table.num_rows == 36

    def test_the_index_is_what_identifies_a_row_and_what_follows_from_it(self, shared: Lab) -> None:
        """Compute follows from size and tokens: under pivot=params it would split every row."""
        result = shared.ask(pivot="params", where=is_("metric", "accuracy"))
        assert result.table.column_names == ["data", "step", "tokens", "metric", "60M", "150M", "1B"]
        assert result.table.num_rows == 12
        assert result.table["1B"].null_count == 0

    def test_the_index_without_a_definition(self, lab: Lab) -> None:
        lab.publish("plain", sweep())
        assert lab.ask("plain", pivot="params").table.column_names == [
            "data", "step", "tokens", "metric", "60M", "150M", "1B"
        ]  # fmt: skip
        assert lab.ask("plain", pivot="params_numeric").table.column_names[-3:] == [
            "60000000",
            "150000000",
            "1000000000",
        ]

    def test_rows_that_repeat(self, shared: Lab) -> None:
        result = shared.ask(pivot="metric", select=("params",), aggs=aggs("max"))
        assert result.table["params"].to_pylist() == ["60M", "150M", "1B"]
        expected = shared.ask(group_by=("params",), aggs=aggs("max"), where=is_("metric", "accuracy"))
        assert result.table["accuracy"] == expected.table["max"]
        means = shared.ask(pivot="metric", select=("params",))
        assert means.table["accuracy"].to_pylist() != result.table["accuracy"].to_pylist()

    def test_of_groups(self, shared: Lab) -> None:
        result = shared.ask(pivot="data", group_by=("params", "data"), aggs=aggs("mean"), sort=by("-C4"))
        assert result.table.column_names == ["params", "C4", "DCLM-Baseline (QC 7%, FW3)", "Dolma1.7"]
        assert result.table["params"].to_pylist() == ["1B", "150M", "60M"]

    def test_a_sort_key_that_it_does_not_make(self, shared: Lab) -> None:
        with pytest.raises(UnknownColumnError) as caught:
            shared.ask(pivot="metric", sort=by("accurracy"))
        assert caught.value.did_you_mean == ("accuracy",)

    def test_nothing_to_pivot(self, shared: Lab) -> None:
        result = shared.ask(pivot="metric", where=is_("value", 1e9, "gt"), sort=by("accuracy"))
        assert (result.table.num_rows, result.meta.total) == (0, 0)
        assert result.table.column_names == ["params", "data", "step", "tokens", "compute"]

    def test_values_that_look_alike(self, lab: Lab) -> None:
        lab.publish("odd", {"k": ["null", None, "null", None], "row": [1, 1, 2, 2], "v": [1.0, 2.0, 3.0, 4.0]})
        assert lab.ask("odd", pivot="k", pivot_values="v", select=("row",)).table.to_pylist() == [
            {"row": 1, "null": 1.0, "k=null": 2.0},
            {"row": 2, "null": 3.0, "k=null": 4.0},
        ]

    def test_sorting_moves_rows_and_no_answer(self, lab: Lab, tmp_path: Path) -> None:
        lab.sweep()
        with lab.engine.blobs.open_file(lab.engine.state("sweep").resolve(None).files[0]) as lease:
            inside = pq.read_table(lease.sources[0])
        assert inside["value"].to_pylist() != sweep()["value"].to_pylist()
        assert inside.column_names == [*sweep().column_names, "_bt_place"]
        assert lab.ask().table["value"].to_pylist() == sweep()["value"].to_pylist()
        paged = [value for page in lab.pages(limit=7) for value in page.table["value"].to_pylist()]
        assert paged == sweep()["value"].to_pylist()
        version = lab.engine.original("sweep", tmp_path / "original.parquet")
        assert version.name == "v1" and version.place == "_bt_place"
        assert pq.read_table(tmp_path / "original.parquet").equals(sweep())
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        lab.publish("plain", sweep())
        lab.engine.original("plain", tmp_path / "plain.parquet", "v1")
        assert pq.read_table(tmp_path / "plain.parquet").equals(sweep())


class TestPicks:
    def test_last_by_warns_of_ties(self, lab: Lab) -> None:
        lab.publish("runs", {"run": ["a", "a", "a", "b"], "step": [1, 2, 2, 5], "value": [1.0, 2.0, 3.0, 4.0]})
        result = lab.ask("runs", last_by=("run",))
        assert result.table["value"].to_pylist() == [2.0, 4.0]
        (warning,) = result.meta.warnings
        assert "in 1 group several rows share the largest step" in warning

    def test_no_warning_without_ties(self, shared: Lab) -> None:
        assert shared.ask(last_by=("params", "data", "metric")).meta.warnings == ()
        assert shared.ask(last_by=("params", "data"), where=is_("metric", "accuracy")).meta.warnings == ()
        (warning,) = shared.ask(last_by=("params", "data")).meta.warnings
        assert "in 9 groups" in warning

    def test_best_by_the_direction_of_the_metric(self, shared: Lab) -> None:
        best = shared.ask(best_by=BestBy(by=("metric",)), select=("metric", "step", "params")).table.to_pylist()
        assert best == [
            {"metric": "pile-valppl", "step": 5000, "params": "60M"},
            {"metric": "accuracy", "step": 0, "params": "1B"},
        ]

    @pytest.mark.parametrize("desc, day", [(True, "2024-03-01"), (False, "2024-01-01")])
    def test_best_by_what_is_no_number(self, lab: Lab, desc: bool, day: str) -> None:
        days = ["2024-02-01", "2024-01-01", "2024-03-01", None]
        table = {"run": ["a"] * 4, "day": pa.array(days).cast(pa.date32()), "u": pa.array([1, 255, 0, 3], pa.uint8())}
        lab.publish("runs", table)
        found = lab.ask("runs", best_by=BestBy(by=("run",), col="day", desc=desc)).table["day"].to_pylist()
        assert [str(one) for one in found] == [day]
        least = lab.ask("runs", best_by=BestBy(by=("run",), col="u", desc=False)).table["u"].to_pylist()
        assert least == [0]


class TestFacets:
    def test_under_the_filters_on_other_columns(self, shared: Lab) -> None:
        where = every(is_("params", "60M"), is_("step", 1000, "gte"), is_("metric", "accuracy"))
        facets = shared.ask(where=where, facets=("params", "data_source", "step"), limit=0).meta.facets
        assert facets == {
            "params": [{"value": size, "count": 9} for size in ("60M", "150M", "1B")],
            "data": [{"value": name, "count": 3} for name in ("C4", "DCLM-Baseline (QC 7%, FW3)", "Dolma1.7")],
            "step": [{"value": step, "count": 3} for step in (0, 1000, 2000, 5000)],
        }

    def test_the_most_frequent_first(self, shared: Lab) -> None:
        where = not_(every(is_("params", "60M"), is_("metric", "accuracy")))
        facets = shared.ask(where=where, facets=("params",)).meta.facets
        assert facets == {"params": [
            {"value": "150M", "count": 24}, {"value": "1B", "count": 24}, {"value": "60M", "count": 12}
        ]}  # fmt: skip

    def test_too_many_values(self, lab: Lab) -> None:
        lab.publish("big", {"x": range(10_001)})
        result = lab.ask("big", facets=("x",), limit=0)
        assert result.meta.facets is not None and len(result.meta.facets["x"]) == 10_000
        assert "more than 10000 values" in result.meta.warnings[0]

    def test_none_asked(self, shared: Lab) -> None:
        assert shared.ask(limit=0).meta.facets is None


def test_explain(shared: Lab) -> None:
    explained = shared.ask(where=is_("metric", "accuracy"), explain=True, limit=5).meta.explain
    assert explained is not None
    assert '"metric" = $1' in explained["sql"]
    assert "READ_PARQUET" in explained["plan"].upper()
    (file,) = explained["files"]
    assert file["rows"] == 72 and file["key"].startswith("sweep/_bt/data/")
    assert 0 < explained["rows_read"] <= 2 * 72  # the sorted rows are read again for their other columns
    assert str(shared.folder) not in str(explained)
    assert shared.ask().meta.explain is None


def test_named_queries(shared: Lab) -> None:
    version, named = shared.engine.named_query("sweep", "small")
    assert version.version.name == "v1"
    assert (named.title, dict(named.parameters)) == ("The smallest", {"params": "60M", "metric": "pile-valppl"})
    with pytest.raises(NamedQueryNotFoundError) as caught:
        shared.engine.named_query("sweep", "smal")
    assert caught.value.did_you_mean == ("small",)


def test_an_unknown_value(shared: Lab) -> None:
    with pytest.raises(UnknownValueError) as caught:
        shared.ask(where=is_("data", "Dolma1,7"))
    assert caught.value.did_you_mean == ("Dolma1.7",)
    result = shared.ask(where=is_("data", "Dolma1,7"), strict=False)
    assert result.table.num_rows == 0
    assert "Dolma1.7" in result.meta.warnings[0]


def test_a_derived_dimension_after_grouping(lab: Lab) -> None:
    lab.publish("sweep", sweep(), DEFINITION.replace('from = "params"\n', 'from = "params"\nrole = "dimension"\n'))
    result = lab.ask(group_by=("params_exact",), having=is_("params_exact", 57_078_144), aggs=aggs("count"))
    assert result.table["params_exact"].to_pylist() == [57_078_144]


def test_every_query_runs_under_the_same_settings(shared: Lab) -> None:
    """A setting of the root connection alone would not reach the cursors that run queries."""
    sql = ", ".join(
        f"current_setting('{name}') AS {name}"
        for name in ("parquet_can_have_nan", "TimeZone", "parquet_metadata_cache", "enable_external_access")
    )
    assert shared.engine.database.table(f"SELECT {sql}").to_pylist() == [
        {
            "parquet_can_have_nan": True,
            "TimeZone": "UTC",
            "parquet_metadata_cache": True,
            "enable_external_access": False,
        }
    ]


def test_nan_that_the_statistics_of_the_file_leave_out(lab: Lab) -> None:
    lab.publish("nans", {"x": [0.5, float("nan"), None, 2.5]})
    for where, rows in (
        (is_("x", "nan"), 1),
        (is_("x", 9, "gt"), 0),
        (is_("x", 9, "lt"), 2),
        (is_("x", 9, "ne"), 3),
        (is_("x", ("nan", 0.5), "in"), 2),
    ):
        assert lab.ask("nans", where=where).table.num_rows == rows
    assert lab.ask("nans", aggs=aggs("max")).table.to_pylist() == [{"max": 2.5, "count": 2, "nulls": 1, "nans": 1}]


def test_the_largest_size_of_a_group_is_a_size(shared: Lab) -> None:
    def ask(**fields: Any) -> list[str]:
        sizes: list[str] = shared.ask(group_by=("params",), aggs=aggs("max:params"), **fields).table[1].to_pylist()
        return sizes

    assert ask(sort=by("-max_params")) == ["1B", "150M", "60M"]
    assert ask(having=is_("max_params", "100M", "gt")) == ["150M", "1B"]
    assert ask(having=is_("max_params", ("0.06B", "1B"), "in")) == ["60M", "1B"]


# --- values beyond a type, and awkward names


@pytest.fixture(scope="module")
def types(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("types"))
    prices = [Decimal("1.50"), Decimal("-9.99"), Decimal("9.99"), None]
    columns = {
        "tiny": pa.array([1, -128, 127, None], pa.int8()),
        "wide": pa.array([1, 0, 2**64 - 1, None], pa.uint64()),
        "price": pa.array(prices, pa.decimal128(3, 2)),
        "at": pa.array([1, 2, 3, None], pa.timestamp("ns")),
    }
    lab.publish("types", columns)
    yield lab
    lab.engine.close()


class TestBeyondTheType:
    @pytest.mark.parametrize("col, beyond", [("tiny", 1000), ("wide", 2**64), ("price", 10**20), ("at", "3000-01-01")])
    @pytest.mark.parametrize(
        "op, rows", [("lt", 3), ("lte", 3), ("gt", 0), ("gte", 0), ("eq", 0), ("ne", 3), ("in", 0), ("notin", 3)]
    )
    def test_no_error_and_the_plain_answer(self, types: Lab, col: str, beyond: Any, op: str, rows: int) -> None:
        where = is_(col, (beyond,) if op.endswith("in") else beyond, op)
        assert types.ask("types", where=where).table.num_rows == rows
        assert types.ask("types", where=not_(where)).table.num_rows == 3 - rows  # of null nothing is known

    @pytest.mark.parametrize("col", ["tiny", "wide", "price"])
    def test_in_a_long_list(self, types: Lab, col: str) -> None:
        known = "1.5" if col == "price" else 1
        where = is_(col, (known, *(10**20 + at for at in range(100))), "in")
        assert types.ask("types", where=where).table.num_rows == 1
        assert types.ask("types", where=is_(col, where.value, "notin")).table.num_rows == 2


_OURS = """_ordinal file_row_number filename count mean value value__lt pivot_by pivot_cell pivot_code pivot_0
picked_rank picked_key_0 picked_ordinal groups grouped cells codes code numbered total counted v x bin nulls nans
seeds"""
_OF_SQL = """select|from|limit|where|say "hi"|it's|100%|a,b|semi;colon--|{inner}|$1|ünï| lead|line\nbreak|-neg"""
AWKWARD = [*_OURS.split(), *_OF_SQL.split("|")]


@pytest.fixture(scope="module")
def awkward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = Lab(tmp_path_factory.mktemp("awkward"))
    columns = {name: [at, at + 1, at + 1] for at, name in enumerate(AWKWARD)}
    lab.publish("awkward", {**columns, "step": [1, 2, 2], "run": ["a", "b", "b"], "Loss": [0.5, 1.5, 2.5]})
    yield lab
    lab.engine.close()


class TestAwkwardNames:
    @pytest.mark.parametrize("name", AWKWARD)
    def test_every_clause_reaches_them(self, awkward: Lab, name: str) -> None:
        low = AWKWARD.index(name)

        def ask(**fields: Any) -> list[dict[str, Any]]:
            rows: list[dict[str, Any]] = awkward.ask("awkward", **fields).table.to_pylist()
            return rows

        assert ask(select=(name,), where=is_(name, low), sort=by(f"-{name}")) == [{name: low}]
        assert ask(select=(name,), distinct=True, sort=by(f"-{name}")) == [{name: low + 1}, {name: low}]
        grouped = ask(group_by=(name,), aggs=aggs("sum:Loss=s"), having=is_(name, low, "gt"))
        assert [(row[name], row["s"]) for row in grouped] == [(low + 1, 4.0)]
        top = awkward.ask("awkward", aggs=(*aggs("mean:Loss=m"), *aggs(f"max:{name}")), where=is_(name, low, "gt"))
        assert (top.table["m"].to_pylist(), top.table.column(1).to_pylist()) == ([2.0], [low + 1])
        assert ask(select=(name,), last_by=(name,)) == [{name: low}, {name: low + 1}]
        assert ask(select=(name,), best_by=BestBy(by=("run",), col=name, desc=True)) == [{name: low}, {name: low + 1}]
        assert ask(pivot=name, pivot_values="Loss", select=("step",)) == [
            {"step": 1, str(low): 0.5, str(low + 1): None},
            {"step": 2, str(low): None, str(low + 1): 2.0},
        ]
        assert ask(pivot="run", pivot_values="Loss", select=(name,), sort=by(f"-{name}", "a")) == [
            {name: low + 1, "a": None, "b": 2.0},
            {name: low, "a": 0.5, "b": None},
        ]
        facets = awkward.ask("awkward", facets=(name,), limit=1).meta.facets
        assert facets == {name: [{"value": low + 1, "count": 2}, {"value": low, "count": 1}]}
        summary = awkward.engine.column_summary(awkward.engine.version("awkward"), name)
        assert (summary.minimum, summary.maximum, summary.distinct) == (low, low + 1, 2)

    def test_pages_of_them(self, awkward: Lab) -> None:
        pages = list(awkward.pages("awkward", limit=2))
        assert pa.concat_tables([page.table for page in pages]) == awkward.ask("awkward").table
        assert awkward.ask("awkward").table.column_names == [*AWKWARD, "step", "run", "Loss"]


# --- damage


class TestDamage:
    def damage(self, lab: Lab, how: str) -> str:
        path = lab.blob()
        key = str(path.relative_to(lab.store))
        keep = path.with_suffix(".keep")
        shutil.copy2(path, keep)
        path.chmod(0o644)
        content = bytearray(path.read_bytes())
        if how == "flip":
            content[len(content) // 2] ^= 0xFF
            path.write_bytes(content)
        elif how == "truncate":
            path.write_bytes(content[:-100])
        else:
            path.unlink()
        return key

    @pytest.mark.parametrize("how, cause", [("flip", "SHA-256"), ("truncate", "bytes"), ("delete", "missing")])
    @pytest.mark.parametrize("opened", [False, True])
    def test_is_an_error_until_it_is_mended(self, lab: Lab, how: str, cause: str, opened: bool) -> None:
        lab.sweep()
        whole = lab.ask().table if opened else sweep()
        key = self.damage(lab, how)
        for _ in range(2):
            with pytest.raises(CorruptVersionError, match=cause) as caught:
                lab.ask()
            assert key in caught.value.detail
            assert str(lab.folder) not in caught.value.detail
        keep = lab.blob().with_suffix(".keep")
        shutil.copy2(keep, keep.with_suffix(".parquet"))
        assert lab.ask().table["value"].to_pylist() == whole["value"].to_pylist()

    def test_of_one_version_leaves_the_others(self, lab: Lab) -> None:
        lab.sweep()
        lab.ask()
        self.damage(lab, "delete")
        lab.sweep(1.0)
        assert lab.ask().meta.version == "v2"
        with pytest.raises(CorruptVersionError):
            lab.ask(version="v1")
        lab.engine.ready()

    def test_a_log_that_cannot_be_read(self, lab: Lab) -> None:
        lab.sweep()
        lab.sweep(1.0)
        record = lab.store / "sweep/_bt/log/0000000002.json"
        record.chmod(0o644)
        record.write_text("{")
        with Engine.open(lab.store, definitions=None) as fresh, pytest.raises((CorruptVersionError, StoreError)):
            fresh.version("sweep")


def test_a_read_only_store_serves_what_was_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.store import LocalStore

    folder = tmp_path / "store" / "sweep"
    folder.mkdir(parents=True)
    write_parquet(folder / "results.parquet", sweep())
    (folder / "dataset.toml").write_text(DEFINITION, encoding="utf-8")
    monkeypatch.setattr(LocalStore, "read_only", property(lambda self: True))
    with Engine.open(tmp_path / "store", definitions=None) as engine:
        version = engine.version("sweep")
        assert version.version.name == version.content_id[:12]
        assert version.definition.title == "A small sweep"
        result = engine.run(engine.prepare(QueryRequest(dataset="sweep", limit=10)))
        assert result.meta.total == 72
        again = QueryRequest(dataset="sweep", limit=10, cursor=result.meta.next_cursor, version=version.content_id)
        assert engine.run(engine.prepare(again)).meta.offset == 10
        with pytest.raises(EngineError):
            engine.publish("sweep", sweep(1.0))


# --- many at once


def test_the_same_question_from_many_threads_has_the_same_bits(shared: Lab) -> None:
    requests = [
        QueryRequest(dataset="sweep", group_by=("data",), aggs=aggs("mean", "std", "sem", "p05", "sum")),
        QueryRequest(dataset="sweep", pivot="metric", select=("params",)),
        QueryRequest(dataset="sweep", sort=by("-value"), limit=9),
        QueryRequest(dataset="sweep", last_by=("params",), facets=("data",)),
    ]
    alone = [shared.engine.run(shared.engine.prepare(request)).table for request in requests]
    with ThreadPoolExecutor(12) as pool:
        many = list(pool.map(lambda request: shared.engine.run(shared.engine.prepare(request)).table, requests * 25))
    for table, expected in zip(many, itertools.cycle(alone)):
        assert table.equals(expected)


def test_publishing_and_asking_at_once(lab: Lab) -> None:
    lab.sweep()
    stop, errors = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                result = lab.ask(group_by=("metric",), aggs=aggs("min"))
                number = int(result.meta.version.removeprefix("v"))
                least = min(result.table["min"].to_pylist())
                if not number - 1 <= least < number:  # version n holds values shifted by n - 1
                    errors.append((number, least))
            except Exception as error:
                errors.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for shift in range(1, 6):
        lab.sweep(float(shift))
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert lab.ask().meta.version == "v6"


def test_drops_are_picked_up(tmp_path: Path) -> None:
    lab = Lab(tmp_path, drop_settle_s=0.0)
    with lab.engine:
        (lab.store / "sweep").mkdir()
        write_parquet(lab.store / "sweep" / "results.parquet", sweep())
        lab.engine.poll()
        lab.engine.poll("sweep")
        assert lab.ask().meta.total == 72
        with pytest.raises(DatasetNotFoundError):
            lab.engine.poll("other")
        lab.engine.start_ingest(60.0)
        lab.engine.start_ingest(60.0)
        lab.engine.stop_ingest()
        lab.engine.stop_ingest()


def test_the_file_is_served_as_it_was_given(lab: Lab) -> None:
    lab.sweep()
    assert pq.read_table(lab.blob()).num_rows == 72
