"""The one DuckDB: what it refuses, when it stops, what it holds in memory, and what its errors say."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine import connection
from engine.connection import BATCH_ROWS, FIRST_BYTES, FIRST_ROWS, Database, Stoppable, translate
from engine.errors import (
    CorruptVersionError,
    EngineBusyError,
    EngineError,
    QueryTimeoutError,
    ResourceLimitError,
    StoreError,
)

# Seconds of work on any machine, in little memory.
ENDLESS = "SELECT sum(a.range * b.range) AS s FROM range(10000000) a, range(10000000) b"
FAST_THEN_SLOW = "SELECT a.range AS n FROM range(10000000) a, range(10000000) b WHERE a.range + b.range < 300"
MANY_ROWS = "SELECT range AS n FROM range(5000000)"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    pq.write_table(pa.table({"a": [1, 2, 3]}), folder / "inside.parquet")
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "store-private"  # its name begins like the allowed one's
    outside.mkdir()
    pq.write_table(pa.table({"a": ["secret"]}), outside / "secret.parquet")
    (outside / "secret.csv").write_text("a\nsecret\n")
    return outside


@pytest.fixture
def database(folder: Path) -> Iterator[Database]:
    database = Database([folder], max_concurrent=4, queue_timeout_s=0.05)  # two places for short queries, two for long
    yield database
    database.close()


def test_what_lies_inside_is_read(database: Database, folder: Path) -> None:
    assert database.table("SELECT a FROM read_parquet(?)", [str(folder / "inside.parquet")])["a"].to_pylist() == [
        1,
        2,
        3,
    ]


READERS = "read_parquet read_csv read_json read_text read_blob parquet_metadata parquet_schema sniff_csv glob".split()


@pytest.mark.parametrize("reader", READERS)
def test_nothing_outside_is_read(database: Database, folder: Path, outside: Path, reader: str) -> None:
    (folder / "link.parquet").symlink_to(outside / "secret.parquet")
    (folder / "linked").symlink_to(outside)
    for path in (
        outside / "secret.parquet",
        folder / ".." / outside.name / "secret.parquet",
        folder / "link.parquet",
        folder / "linked" / "secret.parquet",
        outside / "*.parquet",
        Path("/etc/passwd"),
    ):
        with pytest.raises(EngineError, match="disabled by configuration") as caught:
            database.table(f"SELECT * FROM {reader}(?)", [str(path)])
        assert "secret" not in caught.value.detail and "passwd" not in caught.value.detail


def test_a_path_is_no_table(database: Database, folder: Path, outside: Path) -> None:
    for path in (outside / "secret.parquet", outside / "secret.csv"):
        with pytest.raises(EngineError):
            database.table(f"SELECT * FROM '{path}'")
    table = pa.table({"a": [1]})
    with pytest.raises(EngineError):
        database.table("SELECT * FROM table")
    with pytest.raises(EngineError, match="does not exist"):  # variables of the caller are not tables
        database.table('SELECT * FROM "table"')
    assert table.num_rows == 1


@pytest.mark.parametrize(
    "path", ["http://127.0.0.1:9/x.parquet", "https://localhost/x.csv", "s3://bucket/x.parquet", "hf://datasets/x"]
)
def test_no_network(database: Database, path: str) -> None:
    for reader in ("read_parquet", "read_csv", "read_text"):
        with pytest.raises(EngineError, match="disabled by configuration|Permission"):
            database.table(f"SELECT * FROM {reader}(?)", [path])


@pytest.mark.parametrize(
    "statement",
    [
        "COPY (SELECT 1) TO '{folder}/new.parquet'",
        "COPY (SELECT 1) TO '{folder}/inside.parquet' (FORMAT parquet)",
        "COPY (SELECT 1) TO '{outside}/new.csv'",
        "EXPORT DATABASE '{folder}/new'",
        "ATTACH '{folder}/new.db'",
        "ATTACH '{folder}/new.db' AS other (READ_ONLY)",
        "ATTACH ':memory:' AS other",
        "DETACH memory",
        "USE memory",
        "SET memory_limit = '1TB'",
        "SET GLOBAL threads = 8",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET allowed_directories = ['/']",
        "SET VARIABLE x = 1",
        "SET schema = 'main'",
        "RESET memory_limit",
        "PRAGMA threads = 8",
        "PRAGMA database_list",
        "INSTALL httpfs",
        "LOAD httpfs",
        "LOAD '{folder}/new.duckdb_extension'",
        "CREATE SECRET (TYPE s3)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE MACRO m() AS 1",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "CALL pragma_version()",
        "CHECKPOINT",
        "BEGIN",
        "VACUUM",
        "PIVOT (SELECT 1 AS a, 2 AS b) ON a USING sum(b)",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE t",
        "SELECT 1; SET threads = 8",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO '{folder}/new.parquet'",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "",
        ";",
        "-- nothing",
    ],
)
def test_nothing_but_a_select_is_run(database: Database, folder: Path, outside: Path, statement: str) -> None:
    before = sorted(folder.iterdir()), (folder / "inside.parquet").read_bytes(), sorted(outside.iterdir())
    with pytest.raises(EngineError):
        database.table(statement.format(folder=folder, outside=outside))
    assert before == (sorted(folder.iterdir()), (folder / "inside.parquet").read_bytes(), sorted(outside.iterdir()))
    with pytest.raises(EngineError):
        database.table("SELECT * FROM t")


def test_the_settings_are_locked_even_for_us(database: Database) -> None:
    """Below the check of statements, DuckDB itself refuses."""
    for statement in (
        "SET memory_limit = '1TB'",
        "RESET memory_limit",
        "SET threads = 8",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SET allowed_directories = ['/']",
        "SET temp_directory = '/'",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET autoload_known_extensions = true",
    ):
        with pytest.raises(duckdb.Error):
            database._root.execute(statement)
    for statement in ("INSTALL httpfs", "LOAD httpfs"):
        with pytest.raises(duckdb.Error):
            database._root.execute(statement)
    settings = database.table(
        "SELECT current_setting('threads') AS threads, current_setting('TimeZone') AS zone, "
        "current_setting('enable_external_access') AS access"
    ).to_pylist()
    assert settings == [{"threads": 1, "zone": "UTC", "access": False}]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "SELECT 1;",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "VALUES (1)",
        "FROM range(1)",
        "DESCRIBE SELECT 1",
        "EXPLAIN SELECT 1",
        "SELECT 'a;b' -- two; statements",
    ],
)
def test_what_is_a_select(database: Database, statement: str) -> None:
    assert database.table(statement).num_rows >= 1


def test_parameters_by_position_and_by_name(database: Database) -> None:
    assert database.table("SELECT ? AS a, ? AS b", [1, "x"]).to_pylist() == [{"a": 1, "b": "x"}]
    assert database.table("SELECT $b AS a, $a AS b", {"a": 1, "b": "'; --"}).to_pylist() == [{"a": "'; --", "b": 1}]


def test_a_query_whose_time_is_up_is_interrupted(database: Database) -> None:
    started = time.monotonic()
    with pytest.raises(QueryTimeoutError, match=r"longer than its limit of 0\.2 s"):
        database.table(ENDLESS, timeout_s=0.2)
    assert time.monotonic() - started < 5
    assert database.table("SELECT 1 AS a")["a"].to_pylist() == [1]
    free(database)


def test_a_limit_that_passes_before_the_work_begins_still_counts(database: Database) -> None:
    with pytest.raises(QueryTimeoutError):
        database.table(ENDLESS, timeout_s=1e-6)
    free(database)


def test_the_time_of_the_reader_is_not_counted(database: Database) -> None:
    with database.stream(MANY_ROWS, timeout_s=1.0) as rows:
        batches = iter(rows)
        next(batches)
        time.sleep(1.2)
        assert sum(batch.num_rows for batch in batches) == 5_000_000 - BATCH_ROWS
        assert 0 < rows.engine_s < 1.0


def test_the_limit_is_for_the_whole_query_and_not_for_each_batch(database: Database) -> None:
    with database.stream(FAST_THEN_SLOW, timeout_s=1.5, batch_rows=1000) as rows:
        batches = iter(rows)
        assert next(batches).num_rows
        with pytest.raises(QueryTimeoutError, match=r"limit of 1\.5 s"):
            list(batches)
    free(database)


def test_many_batches_leave_no_deadlines_behind(database: Database) -> None:
    with database.stream("SELECT range FROM range(300000)", timeout_s=3600, batch_rows=100) as rows:
        assert sum(batch.num_rows for batch in rows) == 300_000
    assert len(database._watchdog._heap) < 200


def free(database: Database) -> None:
    """Both places for short queries are free, and there is no third."""
    with database.stream("SELECT 1"), database.stream("SELECT 1"), pytest.raises(EngineBusyError):
        database.stream("SELECT 1")


def test_slots_and_who_gives_them_back(database: Database) -> None:
    free(database)
    for _ in range(5):
        database.table("SELECT 1")
        with pytest.raises(EngineError):
            database.table("SELECT nothing")
        with database.stream(MANY_ROWS) as rows:
            next(iter(rows))  # a reader who leaves early
        rows.close()
        list(database.stream("SELECT 1"))  # read to the end, never closed
    free(database)
    with database.stream("SELECT 1"), database.stream("SELECT 1"):
        assert database.table("SELECT 1 AS a", nested=True).num_rows == 1
    free(database)


def test_a_stream_that_is_forgotten_gives_its_slot_back(database: Database) -> None:
    for _ in range(5):
        database.stream(MANY_ROWS)
        iter(database.stream(MANY_ROWS))
        next(iter(database.stream(MANY_ROWS)))
        gc.collect()
    free(database)


def test_who_waits_gets_a_slot_when_one_is_free(folder: Path) -> None:
    database = Database([folder], max_concurrent=1, queue_timeout_s=20)
    with database.stream("SELECT 1") as rows:
        threading.Timer(0.1, rows.close).start()
        assert database.table("SELECT 1 AS a").num_rows == 1
    database.close()


def test_memory_stays_bounded_while_streaming(database: Database) -> None:
    """Two gigabytes pass through; what is held at any time is a batch."""
    process = psutil.Process()
    sql = "SELECT range AS n, repeat('x', 1000) AS text FROM range(2000000)"
    with database.stream(sql) as rows:
        batches = iter(rows)
        next(batches)
        before = process.memory_info().rss
        most = before
        for position, batch in enumerate(batches):
            assert batch.num_rows <= BATCH_ROWS
            if position % 10 == 0:
                most = max(most, process.memory_info().rss)
    assert most - before < 200 << 20


def test_closing_from_another_thread_stops_the_work(database: Database) -> None:
    """A client that leaves: the thread that reads is in the middle of a batch, or between two."""
    rows = database.stream(FAST_THEN_SLOW, batch_rows=1000, timeout_s=60)
    seen: list[object] = []

    def read() -> None:
        try:
            seen.extend(rows)
        except EngineError as error:
            seen.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    time.sleep(0.2)
    rows.close()
    reader.join(10)
    assert not reader.is_alive()
    assert len(seen) > 1 and isinstance(seen[-1], EngineError)
    free(database)


def test_an_early_end_never_looks_like_the_end(database: Database) -> None:
    rows = database.stream(MANY_ROWS)
    batches = iter(rows)
    next(batches)
    rows.close()
    with pytest.raises(EngineError, match="cannot be read on"):
        next(batches)
    with database.stream("SELECT 1") as rows:
        assert len(list(rows)) == 1
        with pytest.raises(EngineError, match="were read already"):
            list(rows)


def test_the_schema_is_known_without_rows(database: Database) -> None:
    with database.stream("SELECT 1::BIGINT AS a, 'x' AS b WHERE false") as rows:
        assert rows.schema.names == ["a", "b"]
        assert list(rows) == []
    assert database.table("SELECT 1::BIGINT AS a WHERE false").schema == pa.schema({"a": pa.int64()})


def test_more_memory_than_allowed(folder: Path, tmp_path: Path) -> None:
    database = Database([folder], memory_limit_bytes=48 << 20, temp_directory=tmp_path / "spill")
    with pytest.raises(ResourceLimitError, match="needs more memory"):
        database.table("SELECT list(range::VARCHAR || repeat('x', 100)) AS a FROM range(5000000)")
    # A sort does not fit either, and goes to its own folder instead.
    sql = "SELECT n, text FROM (SELECT range AS n, repeat('x', 200) AS text FROM range(300000)) ORDER BY hash(n)"
    with database.stream(sql) as rows:
        assert sum(batch.num_rows for batch in rows) == 300_000
    database.close()


def test_queries_of_many_threads(database: Database, folder: Path) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        for turn in range(20):
            try:
                path = str(folder / "inside.parquet")
                found = database.table("SELECT a + ? AS a FROM read_parquet(?)", [number * turn, path], nested=True)
                assert found["a"].to_pylist() == [number * turn + a for a in (1, 2, 3)]
            except BaseException as error:
                failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("name", ["store", "o'brien", 'a "b"', "new\nline", "sp ace", "ünï", "[x]*"])
def test_errors_name_no_path(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "hidden-place" / name
    folder.mkdir(parents=True)
    (folder / "bad.parquet").write_bytes(b"PAR1 this is no parquet file PAR1")
    (folder / "bad.csv").write_bytes(b"a,b\n1\n\xff\n")
    (folder / "bad.json").write_bytes(b'{"a":')
    database = Database([folder])
    for sql, path in [
        ("SELECT * FROM read_parquet(?)", folder / "bad.parquet"),
        ("SELECT * FROM parquet_metadata(?)", folder / "bad.parquet"),
        ("SELECT * FROM read_csv(?, strict_mode = true, sample_size = -1)", folder / "bad.csv"),
        ("SELECT * FROM read_json(?)", folder / "bad.json"),
        ("SELECT * FROM read_parquet(?)", folder / "missing.parquet"),
        ("SELECT * FROM read_parquet(?)", folder.parent / "missing.parquet"),
        ("SELECT * FROM read_text(?)", Path("/etc/shadow")),
    ]:
        with pytest.raises(EngineError) as caught:
            database.table(sql, [str(path)])
        for part in (str(tmp_path), "hidden-place", "/etc", "missing.parquet"):
            assert part not in caught.value.detail
        assert "\n" not in caught.value.detail and len(caught.value.detail) < 1000
    database.close()


def test_a_parquet_file_that_is_none(database: Database, folder: Path) -> None:
    (folder / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(CorruptVersionError, match="could not be read"):
        database.table("SELECT * FROM read_parquet(?)", [str(folder / "bad.parquet")])


def test_a_number_out_of_range(database: Database) -> None:
    with pytest.raises(ResourceLimitError, match="left the range of its type"):
        database.table("SELECT 9223372036854775807 + a AS a FROM (VALUES (1::BIGINT)) t(a)")


@pytest.mark.parametrize(
    "error, kind",
    [
        (duckdb.OutOfMemoryException("failed to allocate"), ResourceLimitError),
        (pa.ArrowMemoryError("malloc: Out of Memory"), ResourceLimitError),
        (duckdb.InterruptException("INTERRUPT Error: Interrupted!"), QueryTimeoutError),
        (duckdb.IOException('IO Error: Cannot open file "/a/b": Too many open files'), StoreError),
        (duckdb.IOException("IO Error: Could not write all bytes: No space left on device"), StoreError),
        (OSError(5, "Input/output error"), StoreError),
        (duckdb.PermissionException('Permission Error: Cannot access file "/a/b"'), StoreError),
        (duckdb.InvalidInputException('No magic bytes found at end of file "/a/b"'), CorruptVersionError),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), CorruptVersionError),
    ],
)
def test_translation(error: BaseException, kind: type[EngineError]) -> None:
    found = translate(error)
    assert type(found) is kind
    assert "/a/b" not in found.detail


def test_a_dead_database_is_nobodys_fault_but_its_own() -> None:
    found = translate(duckdb.FatalException("FATAL Error: database has been invalidated"))
    assert type(found) is EngineError and "restart" in found.detail


def test_a_full_table_of_open_files_is_no_damage(folder: Path) -> None:
    """A real refusal by the kernel, in a process of its own."""
    code = (
        "import os, resource, sys\n"
        "from pathlib import Path\n"
        "from engine.connection import Database\n"
        "from engine.errors import EngineError\n"
        "database = Database([Path(sys.argv[1])])\n"
        "sql = 'SELECT count(*) AS n FROM read_parquet(?)'\n"
        "database.table('SELECT 1')\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "held = []\n"
        "try:\n"
        "    while True:\n"
        "        held.append(os.open('/dev/null', os.O_RDONLY))\n"
        "except OSError:\n"
        "    pass\n"
        "try:\n"
        "    database.table(sql, [sys.argv[1] + '/inside.parquet'])\n"
        "except EngineError as error:\n"
        "    failure = error\n"
        "for descriptor in held:\n"
        "    os.close(descriptor)\n"
        "print(type(failure).__name__, failure.detail)\n"
        "print(database.table(sql, [sys.argv[1] + '/inside.parquet']).to_pylist())\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.stdout == "StoreError the disk cannot be used now: Too many open files\n[{'n': 3}]\n", done.stderr


def test_a_closed_database(folder: Path) -> None:
    database = Database([folder], max_concurrent=1, queue_timeout_s=0.05)
    database.close()
    for _ in range(3):
        with pytest.raises(EngineError, match="the database is closed"):
            database.table("SELECT 1")


def test_the_private_scratch_folder_is_removed(folder: Path) -> None:
    database = Database([folder])
    scratch = database.table("SELECT current_setting('temp_directory') AS path")["path"].to_pylist()[0]
    assert os.path.isdir(scratch)
    database.close()
    assert not os.path.exists(scratch)


def test_closing_before_there_is_a_first_row(tmp_path: Path) -> None:
    """Whoever asked may be gone long before the first row: the slot is free at once, and not when the query ends."""
    database = Database([tmp_path], max_concurrent=1, queue_timeout_s=5.0, timeout_s=60.0)
    try:
        timers: list[threading.Timer] = []

        def close_soon(rows: Stoppable) -> None:
            timers.append(threading.Timer(0.2, rows.close))
            timers[0].start()

        with pytest.raises(EngineError):
            database.stream("SELECT sum(sqrt(i)) FROM range(100000000000) t(i)", started=close_soon)
        timers[0].join()
        assert database.table("SELECT 1 AS one").num_rows == 1
        with pytest.raises(EngineError):
            database.stream("SELECT 1", started=lambda rows: rows.close())
        assert database.table("SELECT 1 AS one").num_rows == 1
    finally:
        database.close()


def test_long_answers_hold_no_place_of_short_ones(tmp_path: Path) -> None:
    database = Database([tmp_path], max_concurrent=2, queue_timeout_s=0.05)
    try:
        with database.stream(MANY_ROWS) as rows:
            batches = iter(rows)
            read = 0
            while read <= FIRST_ROWS:
                assert database.admission.counts()["short"] == 1
                read += next(batches).num_rows
            assert database.admission.counts()["long"] == 1
            assert database.table("SELECT 1 AS one").num_rows == 1
            with pytest.raises(EngineBusyError, match="too many long answers"):
                database.table(MANY_ROWS)
            assert database.table("SELECT 1 AS one").num_rows == 1
            assert read + sum(batch.num_rows for batch in batches) == 5_000_000
        wide = "SELECT repeat('x', 1000) || range AS a FROM range(10000)"
        with database.stream(wide) as rows:
            assert sum(batch.nbytes for batch in rows) > FIRST_BYTES
            assert rows._given_bytes > FIRST_BYTES
        assert set(database.admission.counts().values()) == {0}
    finally:
        database.close()


def test_a_query_that_waits_for_its_turn_can_be_stopped(tmp_path: Path) -> None:
    database = Database([tmp_path], max_concurrent=1, queue_timeout_s=60)
    try:
        ended: list[str] = []
        with database.stream("SELECT 1"):
            with pytest.raises(EngineError, match="nobody waits"):
                database.stream("SELECT 2", started=lambda waits: waits.close(), ended=lambda: ended.append("2"))
            assert ended == ["2"]
        assert set(database.admission.counts().values()) == {0}
    finally:
        database.close()


def test_publishing_is_not_refused_for_a_long_line(tmp_path: Path) -> None:
    database = Database([tmp_path], max_concurrent=1, queue_timeout_s=0.05, timeout_s=1.0)
    try:
        rows = database.stream("SELECT 1")
        with pytest.raises(EngineBusyError):
            database.table("SELECT 2")
        timer = threading.Timer(0.5, rows.close)
        timer.start()
        assert database.table("SELECT 3 AS n", timeout_s=60)["n"].to_pylist() == [3]
        timer.join()
        # Nor does it go where long answers are, which slow clients may hold for as long as they read.
        with database.stream(MANY_ROWS, timeout_s=60) as rows:
            for _ in zip(range(10), rows, strict=False):
                assert database.admission.counts()["long"] == 0
    finally:
        database.close()


class Refusing:
    """In place of the reader of a query: refuses memory before some of its batches."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: list[int]) -> None:
        self.refused = refused  # before which batches of the query, counted over all its runs
        self.runs = 0
        self._given = 0
        self._open = connection._arrow_reader
        monkeypatch.setattr(connection, "_arrow_reader", self)
        monkeypatch.setattr(connection, "REFUSED_AGAIN_S", 0.001)

    def __call__(self, *arguments: Any) -> pa.RecordBatchReader:
        self.runs += 1
        reader = self._open(*arguments)

        def batches() -> Iterator[pa.RecordBatch]:
            for batch in reader:
                if self._given in self.refused:
                    self.refused.remove(self._given)
                    raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate block")
                self._given += 1
                yield batch

        return pa.RecordBatchReader.from_batches(reader.schema, batches())


def test_who_is_refused_memory_beside_another_query_begins_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database([tmp_path], max_concurrent=4)
    many = "SELECT range AS n FROM range(100000)"
    try:
        with database.stream("SELECT 1 AS other"):
            refusing = Refusing(monkeypatch, refused=[0, 3, 5])
            assert database.table(many)["n"].to_pylist() == list(range(100_000))
            assert (refusing.runs, refusing.refused) == (4, [])
            refusing = Refusing(monkeypatch, refused=[0, 0])
            with pytest.raises(ResourceLimitError, match="needs more memory"):
                database.table(many)
            assert refusing.runs == 2
        refusing = Refusing(monkeypatch, refused=[0])
        with pytest.raises(ResourceLimitError, match="needs more memory"):
            database.table(many)
        assert refusing.runs == 1, "alone, there is nobody to wait for"
        assert set(database.admission.counts().values()) == {0}
    finally:
        database.close()


def test_rows_come_as_a_relation_would_give_them(database: Database, folder: Path) -> None:
    """The call behind ``relation.to_arrow_reader`` is not public: it has to give the same."""
    path = str(folder / "inside.parquet")
    cases: list[tuple[str, connection.Parameters | None]] = [
        ("SELECT a, a * 1.5 AS x, 'é' AS s, [a, NULL] AS l FROM read_parquet($1) WHERE a > $2", [path, 1]),
        ("SELECT $name AS n, $other::DATE AS d", {"other": "2024-02-29", "name": None}),
        ("SELECT 'b'::ENUM('a', 'b') AS e, {'k': uuid()} IS NULL AS u, INTERVAL 1 DAY AS i", None),
        ("SELECT 1 AS a WHERE false", ()),
    ]
    for sql, parameters in cases:
        found = database.table(sql, parameters)
        relation = database.relation(sql, parameters)
        expected = relation.to_arrow_reader(BATCH_ROWS).read_all()
        assert found.schema.equals(expected.schema, check_metadata=True)
        assert found.equals(expected)
