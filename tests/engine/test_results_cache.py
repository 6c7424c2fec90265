"""The cache of small answers: the same bits from it as from the data, and never more bytes than it may hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from engine import Aggregate, Engine, EngineConfig, QueryRequest, ResultStream
from engine.connection import Database
from engine.errors import CorruptVersionError
from engine.result import Answer
from engine.results_cache import LARGEST_SHARE, ResultsCache

TABLE = pa.table({"a": ["x", "y", "x", None], "v": [1.5, float("nan"), None, 2.5]})


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(EngineConfig(store=tmp_path / "store", definitions=None)) as engine:
        engine.publish("t", TABLE)
        yield engine


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that DuckDB was given."""
    found: list[str] = []
    stream = Database.stream

    def spy(self: Database, sql: str, *arguments: object, **named: object) -> object:
        found.append(sql)
        return stream(self, sql, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Database, "stream", spy)
    return found


def test_a_repeated_question_runs_once(engine: Engine, ran: list[str]) -> None:
    query = engine.dataset("t").limit(2)
    first = query.run()
    assert ran
    ran.clear()
    again = engine.dataset("t").limit(2).run()
    assert ran == []
    assert (again.table.schema, str(again.table)) == (first.table.schema, str(first.table))
    assert again.meta == first.meta
    assert (again.meta.total, again.meta.truncated) == (4, True)
    assert again.meta.next_cursor is not None


def test_another_version_or_question_is_another_answer(engine: Engine, ran: list[str]) -> None:
    assert engine.dataset("t").run().table.num_rows == 4
    engine.publish("t", TABLE.slice(0, 1))
    assert engine.dataset("t").run().table.num_rows == 1
    assert engine.dataset("t", "v1").run().table.num_rows == 4
    ran.clear()
    engine.dataset("t").where(a="x").run()
    assert ran


def test_explain_always_runs(engine: Engine, ran: list[str]) -> None:
    request = QueryRequest(dataset="t", explain=True)
    engine.run(engine.prepare(request))
    ran.clear()
    engine.run(engine.prepare(request))
    assert ran


def test_what_is_as_it_was_written_is_never_another_requests(engine: Engine) -> None:
    """Equal canonical queries, of which one names the column that goes without saying, or another spelling."""
    unsaid = engine.dataset("t").group_by("a").agg(Aggregate(fn="mean", as_="m")).run()
    said = engine.dataset("t").group_by("a").agg(Aggregate(fn="mean", col="v", as_="m")).run()
    assert unsaid.table.column_names[-1] == "nans" and said.table.column_names[-1] == "nans_v"
    engine.publish("s", pa.table({"params": ["60M", "1B"], "v": [1.0, 2.0]}))
    for text in ("61M", "61000000"):
        assert text in engine.dataset("s").lenient().where(params=text).run().meta.warnings[0]


def test_facets_and_columns_weigh_too(engine: Engine) -> None:
    engine.publish("f", pa.table({"a": [f"value {number}" for number in range(5_000)], "v": [1.0] * 5_000}))
    stream = engine.stream(engine.prepare(QueryRequest(dataset="f", facets=("a",), limit=1)))
    kept = stream.kept() if isinstance(stream, ResultStream) else None
    assert kept is not None and kept.size_bytes > 1_000_000


def test_damage_is_noticed_all_the_same(engine: Engine) -> None:
    engine.dataset("t").run()
    for file in engine.version("t").version.files:
        path = engine.store.path(file.key)
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptVersionError):
        engine.dataset("t").run()


def test_it_may_be_off(tmp_path: Path, ran: list[str]) -> None:
    with Engine(EngineConfig(store=tmp_path / "store", definitions=None, results_cache_bytes=0)) as engine:
        engine.publish("t", TABLE)
        engine.dataset("t").run()
        ran.clear()
        engine.dataset("t").run()
        assert ran


def answer(size_bytes: int) -> Answer:
    return Answer(pa.schema([]), (), (), None, size_bytes)  # type: ignore[arg-type]


def test_it_never_holds_more_than_it_may() -> None:
    cache = ResultsCache(16_000)
    for number in range(40):
        cache.put(("r", str(number)), answer(1_000))
        assert cache.size_bytes <= 16_000
    assert cache.get(("r", "0")) is None, "what was used longest ago went first"
    assert cache.get(("r", "39")) is not None
    cache.put(("r", "39"), answer(600))
    assert cache.size_bytes == 15_600, "given again, it counts once"
    cache.put(("r", "large"), answer(16_000 // LARGEST_SHARE + 1))
    assert cache.get(("r", "large")) is None


def test_rows_are_kept_exactly_and_lie_together() -> None:
    numbers = pa.array([1.5, float("nan"), None, -0.0] * 2_000)
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0] * 2_000, pa.uint8()), pa.array(["x", "y"]))
    nested = pa.array([[{"a": 1}], [], None, [{"a": None}]] * 2_000)
    whole = pa.record_batch({"v": numbers, "c": coded, "n": nested, "s": pa.array(["α", "", None, "z"] * 2_000)})
    batches = (whole.slice(3, 10), whole.slice(7_000))  # parts of a larger whole, which must not be kept with them
    cache = ResultsCache(16 << 20)
    cache.put(("r",), Answer(whole.schema, (), batches, None, 1))  # type: ignore[arg-type]
    kept = cache.get(("r",))
    assert kept is not None and kept.batches is not None
    assert [batch.num_rows for batch in kept.batches] == [10, 1_000]
    assert kept.schema == whole.schema
    for before, after in zip(batches, kept.batches, strict=True):
        assert after.schema == whole.schema
        assert str(after.to_pydict()) == str(before.to_pydict())
    assert cache.size_bytes < whole.nbytes / 4
