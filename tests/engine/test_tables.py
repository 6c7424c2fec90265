"""The table tier: the same bits as from the files for any question, and tables that come and go by use and budget."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import Engine, QueryRequest, QueryResult
from engine.errors import ResourceLimitError
from engine.tables import USES_BEFORE, Key, Source, Tables, enumerated, estimate_bytes
from queries.errors import QueryError
from tests.engine.published import Shelf
from tests.engine.support import sweep
from tests.strategies import properties, requests, tables


def at_once(engine: Engine) -> Tables:
    """Let an engine make a table for the first question of a version, before it answers."""
    made = Tables(engine.database, engine.config.tables_bytes, uses_before=1, in_background=False)
    engine.tables = engine._versions._tables = made
    return made


def ask_all(engine: Engine, name: str, times: int = USES_BEFORE) -> None:
    """Different questions, since equal ones are answered from the cache of answers."""
    for number in range(times):
        engine.dataset(name).where(value__gt=-1000.0 - number).to_arrow()


def said(result: QueryResult) -> tuple[object, ...]:
    """All of an answer, to the sign of a zero."""
    return (
        result.table.schema,
        repr(result.table.to_pylist()),
        result.meta.total,
        result.meta.warnings,
        result.meta.facets,
    )


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    shelf = Shelf(tmp_path_factory.mktemp("shelf"), many_files=True)
    at_once(shelf.engine)
    yield shelf
    shelf.engine.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine.open(tmp_path, definitions=None, results_cache_bytes=0) as engine:
        yield engine


@properties(60)
@given(st.data())
def test_a_table_gives_the_same_bits_as_the_files(shelf: Shelf, data: st.DataObject) -> None:
    table = data.draw(tables())
    name = shelf.put(table)
    engine = shelf.engine
    for _ in range(4):
        request = data.draw(requests(table)).model_copy(update={"dataset": name})
        try:
            prepared = engine.prepare(request)
        except QueryError:
            continue  # what cannot be asked is refused before either is looked at
        opened = prepared.version
        key = Key(opened.dataset, opened.relation, opened.schema.ordinal)
        found = engine.run(prepared)
        assert not table.rows or key in engine.tables._tables or prepared.plan.explain
        engine._results._answers.clear()
        with Engine.open(shelf.folder / "store", definitions=shelf.definitions, tables_bytes=0) as other:
            wanted = other.run(other.prepare(request))
        if request.explain:
            continue
        assert said(found) == said(wanted)


def test_sums_of_constant_columns_keep_their_bits(engine: Engine) -> None:
    """DuckDB multiplies where it is handed a constant, and adds where it is handed each number."""
    count = 300_000
    table = pa.table(
        {
            "size": pa.array(["60M"] * count),
            "step": np.arange(count),
            "rate": np.full(count, 0.1),
            "decay": pa.array(np.full(count, 0.3, np.float32)),
            "some": pa.array([None if number % 3 == 0 else 0.7 for number in range(count)]),
        }
    )
    engine.publish("constant", table)
    question = (
        engine.dataset("constant").group_by("size").agg("mean:rate", "sum:rate", "std:rate", "sum:decay", "sum:some")
    )
    before = question.to_arrow()
    at_once(engine)
    after = question.to_arrow()
    assert engine.tables.size_bytes > count * 20
    assert before.equals(after)
    assert before["sum_rate"][0].as_py() != 0.1 * count  # so that the test would notice


def test_a_version_gets_a_table_once_it_is_asked_often(engine: Engine) -> None:
    engine.publish("sweep", sweep())
    ask_all(engine, "sweep", USES_BEFORE - 1)
    assert engine.tables.wait() and engine.tables.size_bytes == 0
    ask_all(engine, "sweep", 1)
    assert engine.tables.wait() and engine.tables.size_bytes > 0


def test_the_next_version_of_a_busy_dataset_gets_one_at_its_first_question(engine: Engine) -> None:
    engine.publish("sweep", sweep())
    ask_all(engine, "sweep")
    assert engine.tables.wait() and [key.relation for key in engine.tables._tables] == [
        engine.version("sweep").relation
    ]
    engine.publish("sweep", sweep(1.0))
    wanted = engine.dataset("sweep").sort("value").to_arrow()
    assert engine.tables.wait()
    assert engine.version("sweep").relation in {key.relation for key in engine.tables._tables}
    assert engine.dataset("sweep").sort("value").to_arrow().equals(wanted)


def test_no_table_without_a_budget_or_beyond_it(tmp_path: Path) -> None:
    for most in (0, 100):
        with Engine.open(tmp_path / str(most), definitions=None, results_cache_bytes=0, tables_bytes=most) as engine:
            engine.publish("sweep", sweep())
            at_once(engine)
            ask_all(engine, "sweep", 5)
            assert engine.tables.size_bytes == 0


def test_what_is_asked_less_gives_way_and_not_the_other_way_round(engine: Engine) -> None:
    for name in ("busy", "quiet", "rising"):
        engine.publish(name, sweep(float(len(name))))
    made = at_once(engine)
    ask_all(engine, "busy", 20)
    ask_all(engine, "quiet", 2)
    made._most_bytes = made.size_bytes
    assert {key.dataset for key in made._tables} == {"busy", "quiet"}
    ask_all(engine, "rising", 1)  # less than quiet was
    assert {key.dataset for key in made._tables} == {"busy", "quiet"}
    ask_all(engine, "rising", 12)
    assert {key.dataset for key in made._tables} == {"busy", "rising"}


def test_a_table_in_use_stays_until_its_query_ends(engine: Engine) -> None:
    for name in ("first", "second"):
        engine.publish(name, sweep(float(len(name))))
    made = at_once(engine)
    ask_all(engine, "first", 1)
    made._most_bytes = made.size_bytes
    prepared = engine.prepare(QueryRequest(dataset="first", limit=5))
    with engine._versions.read(prepared.version, prepared.plan) as scan:
        ask_all(engine, "second", 30)
        assert {key.dataset for key in made._tables} == {"second"}
        counted = engine.database.table(f'SELECT count(*) FROM "{scan.relation}"')
        assert counted.column(0).to_pylist() == [72]
        space = scan.relation.rpartition(" table ")[2]
        assert _spaces(engine) == {f"table {space}", next(iter(made._tables.values())).space}
    assert _spaces(engine) == {next(iter(made._tables.values())).space}


def _spaces(engine: Engine) -> set[str]:
    found = engine.database.table("SELECT schema_name FROM duckdb_schemas() WHERE schema_name LIKE 'table %'")
    return set(found.column(0).to_pylist())


def test_a_table_that_cannot_be_made_costs_no_answer(
    engine: Engine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.publish("sweep", sweep())
    made = at_once(engine)

    def fails(statements: list[str], *, timeout_s: float) -> None:
        if "CREATE" in statements[0]:
            raise ResourceLimitError("no memory")

    monkeypatch.setattr(engine.database, "own", fails)
    with caplog.at_level(logging.WARNING):
        assert engine.dataset("sweep").to_arrow().num_rows == 72
        ask_all(engine, "sweep", 5)
    assert made.size_bytes == 0
    assert [record.message.endswith("no memory") for record in caplog.records] == [True]  # it is not tried each time


def test_making_a_table_ends_with_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.open(tmp_path, definitions=None, results_cache_bytes=0)
    engine.publish("sweep", sweep())
    begun = threading.Event()
    own = engine.database.own

    def slow(statements: list[str], *, timeout_s: float) -> None:
        begun.set()
        own(["SELECT count(*) FROM range(100000000000) a, range(1000) b"], timeout_s=timeout_s)

    monkeypatch.setattr(engine.database, "own", slow)
    ask_all(engine, "sweep")
    assert begun.wait(10)
    engine.close()
    thread = engine.tables._background._thread
    assert thread is not None and not thread.is_alive()


def test_answers_stay_right_while_tables_come_and_go(engine: Engine) -> None:
    names = ("one", "two", "three")
    for number, name in enumerate(names):
        engine.publish(name, sweep(float(number)))
    wanted = {name: engine.dataset(name).sort("-value").to_arrow() for name in names}
    made = Tables(engine.database, 1 << 20, uses_before=1)
    engine.tables = engine._versions._tables = made
    ask_all(engine, "one", 1)
    assert made.wait()
    made._most_bytes = made.size_bytes
    wrong: list[object] = []

    def work(start: int) -> None:
        try:
            for turn in range(60):
                name = names[(start + turn // 15) % 3]
                if not engine.dataset(name).sort("-value").to_arrow().equals(wanted[name]):
                    wrong.append(name)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    made.close()


def test_what_a_table_is_made_of(engine: Engine) -> None:
    quoted = pa.table(
        {"it's": ["a'b", "B", "é", "a", None], "n": [1, 2, 3, 4, 5], "deep": [[1.5], [], None, [2.0], [3.0]]}
    )
    engine.publish("odd", quoted)
    made = at_once(engine)
    assert engine.dataset("odd").sort("it's").to_pylist() == engine.dataset("odd").sort("it's").to_pylist()
    assert engine.dataset("odd").to_arrow().equals(quoted)
    assert made.size_bytes > 0
    opened = engine.version("odd")
    source = engine._versions._source(Key("odd", opened.relation, opened.schema.ordinal), opened)
    assert enumerated(source) == {"it's": ["B", "a", "a'b", "é"]}
    assert estimate_bytes(replace(source, rows=8_000), enumerated(source)) == 8_000 * (1 + 8 + 40) + 3 * 1_000


def test_a_column_called_rowid_hides_no_ordinal(engine: Engine) -> None:
    engine.publish("numbered", pa.table({"rowid": [7, 7, 3], "value": [1.0, 2.0, 3.0]}))
    at_once(engine)
    answers = [engine.dataset("numbered").limit(2).run() for _ in range(2)]
    assert [row["rowid"] for row in answers[0].table.to_pylist()] == [7, 7]
    cursor = answers[0].meta.next_cursor
    assert cursor is not None
    rest = engine.run(engine.prepare(QueryRequest(dataset="numbered", limit=2, cursor=cursor)))
    assert rest.table.to_pylist() == [{"rowid": 3, "value": 3.0}]


def test_a_source_that_is_not_near_is_not_fetched_for_a_table(engine: Engine) -> None:
    engine.publish("sweep", sweep())
    made = at_once(engine)
    opened = engine.version("sweep")
    key = Key("sweep", opened.relation, opened.schema.ordinal)
    source = replace(engine._versions._source(key, opened), open=lambda: None)
    assert isinstance(source, Source)
    assert [made.lend(key, lambda: source) for _ in range(3)] == [None, None, None]
