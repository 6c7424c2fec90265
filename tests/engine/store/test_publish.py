"""Publishing: what becomes a version, what is one already, and what two publishers do to each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from engine.connection import Database
from engine.errors import (
    CorruptVersionError,
    InvalidNameError,
    PreconditionFailedError,
    PublishConflictError,
    RejectedFileError,
    StoreError,
    VersionNotFoundError,
)
from engine.store import DatasetLog, LocalStore, Publisher, Source, definition_text, verify_blob
from engine.store.facts import parse_facts
from engine.store.records import FileEntry, Original, Publish, SchemaDiff
from engine.store.rows import Limits
from engine.store.staging import UnsettledFileError
from tests.engine.store.support import FaultyStore, Process, Witness, current_of, read_log, sha256, write_parquet

TABLE = pa.table({"step": [1, 2, 3], "name": ["a", "b,c", None], "value": [0.5, None, float("nan")]})


def write_csv(path: Path) -> None:
    path.write_text('step,name,value\n1,a,0.5\n2,"b,c",\n3,,nan\n')


def write_tsv(path: Path) -> None:
    path.write_text("step\tname\tvalue\n1\ta\t0.5\n2\tb,c\t\n3\t\tnan\n")


def write_arrow(path: Path) -> None:
    with pa.ipc.new_file(path, TABLE.schema) as writer:
        writer.write_table(TABLE)


def write_json_lines(path: Path) -> None:
    lines = [{"step": 1, "name": "a", "value": 0.5}, {"step": 2, "name": "b,c", "value": None}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "name": null, "value": NaN}\n')


FORMATS: list[tuple[str, str, Callable[[Path], Any]]] = [
    ("a.parquet", "parquet", lambda path: pq.write_table(TABLE, path)),
    ("a.csv", "csv", write_csv),
    ("a.tsv", "csv", write_tsv),
    ("a.jsonl", "jsonl", write_json_lines),
    ("a.ndjson", "jsonl", write_json_lines),
    ("a.arrow", "arrow", write_arrow),
    ("a.feather", "arrow", lambda path: pyarrow.feather.write_feather(TABLE, str(path))),
    ("PARQUET", "parquet", lambda path: pq.write_table(TABLE, path)),
    ("größe 中 'a'.CSV", "csv", write_csv),
]


def stored(store: LocalStore, version: Any) -> pa.Table:
    return pa.concat_tables(pq.ParquetFile(verify_blob(store, file)).read() for file in version.files)


@pytest.mark.parametrize("name, file_format, write", FORMATS, ids=[name for name, *_ in FORMATS])
def test_each_format(
    process: Process, store: LocalStore, tmp_path: Path, name: str, file_format: str, write: Callable[[Path], Any]
) -> None:
    path = tmp_path / name
    write(path)
    before = path.read_bytes()
    outcome = process.publisher.publish("d", path, message="first", by="ada")
    version = outcome.version
    assert outcome.created and outcome.warnings == ()
    assert (version.number, version.name, version.message, version.by) == (1, "v1", "first", "ada")
    assert (version.original.name, version.original.format) == (name, file_format)
    assert (version.original.sha256, version.original.size) == (sha256(before), len(before))
    assert [(column.name, column.type) for column in version.schema] == [
        ("step", "BIGINT"),
        ("name", "VARCHAR"),
        ("value", "DOUBLE"),
    ]
    assert (version.rows, version.parent, version.source, version.definition) == (3, None, None, None)
    assert stored(store, version).to_pylist()[:2] == TABLE.to_pylist()[:2]
    assert str(stored(store, version).to_pylist()[2]) == str(TABLE.to_pylist()[2])
    if file_format == "parquet":
        assert version.content_id == sha256(before), "what is parquet already is stored as it is"
    assert path.read_bytes() == before and list((store.root / "d/_bt/tmp").iterdir()) == []


@pytest.mark.parametrize("name, file_format, write", FORMATS[1:4], ids=[name for name, *_ in FORMATS[1:4]])
def test_the_same_file_again_is_the_same_version(
    process: Process, store: LocalStore, root: Path, tmp_path: Path, name: str, file_format: str, write: Any
) -> None:
    write(tmp_path / name)
    first = process.publisher.publish("d", tmp_path / name, message="one")
    again = process.publisher.publish("d", tmp_path / name, message="two", by="somebody else")
    fresh = Process(store, process.database).publisher.publish("d", tmp_path / name)
    assert first.created and not again.created and not fresh.created
    assert first.version == again.version == fresh.version
    assert len(read_log(root, "d")) == 1 and len(list((root / "d/_bt/data").iterdir())) == 1


def test_the_same_bytes_always_give_the_same_content_id(database: Database, tmp_path: Path) -> None:
    for name, _, write in FORMATS[:4]:
        write(tmp_path / name)
        ids = set()
        for number in range(2):
            process = Process(LocalStore(tmp_path / f"store{number}"), database)
            ids.add(process.publisher.publish("d", tmp_path / name).version.content_id)
        assert len(ids) == 1, name


def test_parents_and_differences(process: Process, tmp_path: Path) -> None:
    tables = [
        {"a": [1], "b": [1.5]},
        {"a": [1], "b": [1.5], "c": ["x"]},
        {"a": ["1"], "c": ["x"]},
    ]
    outcomes = [
        process.publisher.publish("d", write_parquet(tmp_path / f"{number}.parquet", columns=columns))
        for number, columns in enumerate(tables)
    ]
    assert [outcome.version.parent for outcome in outcomes] == [None, 1, 2]
    assert [outcome.warnings for outcome in outcomes] == [
        (),
        ("columns added: c",),
        ("columns removed: b", "columns of another type: a (BIGINT to VARCHAR)"),
    ]
    assert outcomes[0].version.schema_hash != outcomes[1].version.schema_hash
    same = process.publisher.publish("d", write_parquet(tmp_path / "x", columns={"a": ["2"], "c": ["y"]}))
    assert same.created and same.warnings == () and same.version.schema_hash == outcomes[2].version.schema_hash


def test_a_policy_that_blocks_what_breaks(store: LocalStore, database: Database, root: Path, tmp_path: Path) -> None:
    publisher = Process(store, database, policy="block-breaking").publisher
    publisher.publish("d", write_parquet(tmp_path / "1.parquet", columns={"a": [1], "b": [1.5]}))
    publisher.publish("d", write_parquet(tmp_path / "2.parquet", columns={"a": [1], "b": [1.5], "c": ["x"]}))
    for columns, cause in [
        ({"a": [1], "b": [1.5]}, "columns removed: c"),
        ({"a": ["1"], "b": [1.5], "c": ["x"]}, r"a \(BIGINT to VARCHAR\)"),
    ]:
        with pytest.raises(PublishConflictError, match=f"would break queries on d: .*{cause}"):
            publisher.publish("d", write_parquet(tmp_path / "3.parquet", columns=columns))
    assert len(read_log(root, "d")) == 2
    assert len(list((root / "d/_bt/data").iterdir())) == 2, "what was refused is not kept"
    assert publisher.set_current("d", 1).number == 1  # compared from now on with what is current
    assert publisher.publish("d", write_parquet(tmp_path / "4.parquet", columns={"a": [2], "b": [1.5]})).created
    with pytest.raises(ValueError, match="schema_policy must be one of warn, block-breaking"):
        Process(store, database, policy="strict")


def test_the_definition_in_force_is_recorded(process: Process, root: Path, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    (root / "d").mkdir(parents=True)
    toml = root / "d/dataset.toml"
    toml.write_text('title = "Größe"\n')
    assert process.publisher.publish("d", path).version.definition == 'title = "Größe"\n'
    toml.write_text('title = "Other"\n')
    again = process.publisher.publish("d", path)
    assert again.created and again.version.definition == 'title = "Other"\n', "the same data under another definition"
    first, second = read_log(root, "d")
    assert first["files"] == second["files"], "stored once"
    toml.write_text("title = ")
    broken = process.publisher.publish("d", write_parquet(tmp_path / "b.parquet", seed=1))
    assert broken.created and broken.version.definition == 'title = "Other"\n'
    assert re.match("the definition of d is not valid TOML: .*; it was not applied", broken.warnings[0])
    toml.unlink()
    assert process.publisher.publish("d", tmp_path / "b.parquet").version.definition is None


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/etc/passwd")])
def test_a_definition_that_is_no_file(process: Process, root: Path, tmp_path: Path, make: Any) -> None:
    (root / "d").mkdir(parents=True)
    make(root / "d/dataset.toml")
    outcome = process.publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    assert outcome.created and outcome.version.definition is None
    assert "not applied" in outcome.warnings[0] and "root" not in outcome.warnings[0]


def test_a_definition_that_is_far_too_long(process: Process, root: Path, tmp_path: Path) -> None:
    (root / "d").mkdir(parents=True)
    with open(root / "d/dataset.toml", "wb") as writer:
        writer.truncate(1 << 40)  # were it read whole before its size is checked, the process would be gone
    outcome = process.publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    assert outcome.version.definition is None and "1048576 is the most" in outcome.warnings[0]


def test_publish_definition(process: Process, root: Path, tmp_path: Path) -> None:
    with pytest.raises(VersionNotFoundError):
        process.publisher.publish_definition("d")
    first = process.publisher.publish("d", write_parquet(tmp_path / "a.parquet")).version
    assert not process.publisher.publish_definition("d").created
    (root / "d/dataset.toml").write_text("x = 1\n")
    second = process.publisher.publish_definition("d", by="ada")
    assert second.created and second.version.definition == "x = 1\n" and second.version.parent == 1
    assert second.version.files == first.files and second.version.content_id == first.content_id
    assert not process.publisher.publish_definition("d").created
    process.publisher.set_current("d", 1)
    assert not process.publisher.publish_definition("d").created, "a rollback to an older definition is meant"
    assert process.logs.of("d").state.resolve(None).number == 1


def test_rollback_and_then_publish(process: Process, root: Path, tmp_path: Path) -> None:
    paths = [write_parquet(tmp_path / f"{seed}.parquet", seed=seed) for seed in range(3)]
    first = process.publisher.publish("d", paths[0]).version
    second = process.publisher.publish("d", paths[1]).version
    assert process.publisher.set_current("d", "v1", by="ada", message="v2 is wrong") == first
    assert process.publisher.set_current("d", 1) == first
    records = read_log(root, "d")
    kinds = [record["kind"] for record in records]
    assert kinds == ["publish", "publish", "set_current"], "nothing new, nothing written"
    assert (records[2]["by"], records[2]["message"], records[2]["target"]) == ("ada", "v2 is wrong", 1)
    state = process.logs.of("d").refresh()
    assert (state.resolve(None), state.resolve(2)) == (first, second)
    third = process.publisher.publish("d", paths[2]).version
    assert (third.number, third.parent) == (4, 1)
    assert process.logs.of("d").state.resolve(None) == third
    back = process.publisher.publish("d", paths[1])
    assert back.created and back.version.number == 5, "what was current once and is not any more is published anew"
    assert back.version.files == second.files
    with pytest.raises(VersionNotFoundError, match="v5, v4, v2, v1"):
        process.publisher.set_current("d", 3)  # a record, and no version


def test_a_pin_by_content(process: Process, tmp_path: Path) -> None:
    first = process.publisher.publish("d", write_parquet(tmp_path / "a.parquet")).version
    process.publisher.publish("d", write_parquet(tmp_path / "b.parquet", seed=1))
    process.publisher.publish("d", tmp_path / "a.parquet")
    state = process.logs.of("d").state
    assert state.resolve(first.content_id[:8]) == state.resolve(first.content_id) == first
    assert process.publisher.set_current("d", first.content_id[:12]) == first


def test_a_file_that_is_no_table_leaves_nothing(process: Process, root: Path, tmp_path: Path) -> None:
    process.publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    before = current_of(root, "d")
    for name, data in [("b.parquet", b"no"), ("b.csv", b""), ("b.xlsx", b"PK"), ("b.jsonl", b"[1]\n")]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(RejectedFileError, match=f"^{name} "):
            process.publisher.publish("d", tmp_path / name)
    with pytest.raises(UnsettledFileError, match=r"gone\.csv does not exist"):
        process.publisher.publish("d", tmp_path / "gone.csv")
    assert current_of(root, "d") == before and len(read_log(root, "d")) == 1
    assert list((root / "d/_bt/tmp").iterdir()) == []


def test_a_reject_is_noted_once_and_moves_nothing(process: Process, root: Path, tmp_path: Path) -> None:
    version = process.publisher.publish("d", write_parquet(tmp_path / "a.parquet")).version
    source = Source("d/results.csv", "etag", 3)
    for _ in range(2):
        process.publisher.reject("d", source, "it is empty")
    assert [record["kind"] for record in read_log(root, "d")] == ["publish", "reject"]
    state = process.logs.of("d").refresh()
    assert state.current == version and state.rejects[0].reason == "it is empty"


def test_a_source_is_published_once(process: Process, root: Path, tmp_path: Path) -> None:
    source = Source("d/results.parquet", "etag", 3)
    path, other = write_parquet(tmp_path / "a.parquet"), write_parquet(tmp_path / "b.parquet", seed=1)
    first = process.publisher.publish("d", path, source=source)
    process.publisher.publish("d", other)
    for given in (path, other):
        again = process.publisher.publish("d", given, source=source)
        assert not again.created and again.version == first.version
    assert len(read_log(root, "d")) == 2
    assert len(list((root / "d/_bt/data").iterdir())) == 2


def test_bad_names(process: Process, root: Path, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    for name in ("", "D", "../d", "d/e", "_bt", "größe"):
        with pytest.raises(InvalidNameError):
            process.publisher.publish(name, path)
        with pytest.raises(InvalidNameError):
            process.publisher.set_current(name, 1)
    assert not root.exists()


STRANGE_NAMES = "caf\udce9.csv|a.c\0sv.csv|../../up.csv|a.[x].csv|C:\\x\\a.csv|a\nb.csv".split("|")


@pytest.mark.parametrize("name", [*STRANGE_NAMES, "x" * 5000 + ".csv"], ids=lambda name: ascii(name[:20]))
def test_a_name_is_only_ever_a_name(process: Process, root: Path, tmp_path: Path, name: str) -> None:
    """What an upload calls itself, or a file whose name is not UTF-8."""
    write_csv(tmp_path / "a.csv")
    version = process.publisher.publish("d", tmp_path / "a.csv", name=name, by="m\udce9").version
    assert version.original.format == "csv" and version.original.name == name.replace("\udce9", "?")
    assert DatasetLog(process.store, "d").refresh().versions == (version,)
    assert sorted(path.name for path in root.iterdir()) == ["d"]


def test_a_name_with_glob_characters_and_no_ending(process: Process, tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "a.[x]*")
    assert process.publisher.publish("d", tmp_path / "a.[x]*").version.rows == 3


def test_a_file_name_that_is_not_utf8(process: Process, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.csv")
    write_csv(path)
    assert process.publisher.publish("d", path).version.original.name == "caf?.csv"


def test_progress_is_told(process: Process, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    told: list[tuple[str, int, int]] = []
    process.publisher.publish("d", tmp_path / "a.csv", progress=lambda *what: told.append(what))
    assert [step for step, _, _ in told] == ["copy", "convert", "check", "describe"]
    assert told[-2:] == [("check", 3, 3), ("describe", 3, 3)]


def test_a_missing_blob_is_put_back(process: Process, store: LocalStore, root: Path, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    version = process.publisher.publish("d", path).version
    store.path(version.files[0].key).unlink()
    again = process.publisher.publish("d", path)
    assert not again.created and again.version == version
    assert verify_blob(store, version.files[0]).read_bytes() == path.read_bytes()
    assert len(read_log(root, "d")) == 1


def damage(path: Path, *, size_too: bool) -> None:
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.chmod(0o644)
    path.write_bytes(data[:-1] if size_too else data)


@pytest.mark.parametrize("size_too", [False, True])
def test_a_damaged_blob_is_not_trusted_again(
    process: Process, store: LocalStore, root: Path, tmp_path: Path, size_too: bool
) -> None:
    """The good bytes are given again: readers must be able to have them, though the old name stays broken."""
    path, other = write_parquet(tmp_path / "a.parquet"), write_parquet(tmp_path / "b.parquet", seed=1)
    first = process.publisher.publish("d", path).version
    damage(store.path(first.files[0].key), size_too=size_too)
    second = process.publisher.publish("d", path)
    assert second.created and second.version.content_id == first.content_id
    assert verify_blob(store, second.version.files[0]).read_bytes() == path.read_bytes()
    with pytest.raises(CorruptVersionError):
        verify_blob(store, first.files[0])
    process.publisher.publish("d", other)
    damage(store.path(second.version.files[0].key), size_too=size_too)
    fourth = process.publisher.publish("d", path).version
    assert fourth.number == 4
    verify_blob(store, fourth.files[0])


def test_a_lost_blob_that_no_conversion_gives_again(process: Process, store: LocalStore, tmp_path: Path) -> None:
    """The version was made by a release that wrote other bytes for the same file."""
    write_csv(tmp_path / "a.csv")
    original = Original(sha256((tmp_path / "a.csv").read_bytes()), 1, "a.csv", "csv")
    entry = FileEntry("d/_bt/data/lost.parquet", 9, "ab" * 32, None, 3, 1)
    process.logs.of("d").append(lambda state: Publish((entry,), (), "", SchemaDiff(), original), by="old release")
    outcome = process.publisher.publish("d", tmp_path / "a.csv")
    assert outcome.created and stored(store, outcome.version).num_rows == 3


def test_another_conversion_of_the_same_file_is_no_news(process: Process, store: LocalStore, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    original = Original(sha256((tmp_path / "a.csv").read_bytes()), 1, "a.csv", "csv")
    assert store.put_if_absent("d/_bt/data/old.parquet", b"other bytes")
    entry = FileEntry("d/_bt/data/old.parquet", 11, sha256(b"other bytes"), None, 3, 1)
    process.logs.of("d").append(lambda state: Publish((entry,), (), "", SchemaDiff(), original), by="old release")
    assert not process.publisher.publish("d", tmp_path / "a.csv").created


def test_threads_publishing_to_one_dataset(store: LocalStore, database: Database, root: Path, tmp_path: Path) -> None:
    process = Process(store, database)
    found: list[Any] = []

    def work(number: int, publisher: Any) -> None:
        try:
            for turn in range(4):
                path = write_parquet(tmp_path / f"{number}-{turn}.parquet", seed=10 * number + turn)
                found.append(publisher.publish("d", path).version)
        except BaseException as error:
            found.append(error)

    publishers = [process.publisher, process.publisher, Process(store, database).publisher]
    threads = [threading.Thread(target=work, args=item) for item in enumerate(publishers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(version.number for version in found) == list(range(1, 13))
    Witness(root).check()


def test_threads_publishing_the_same(store: LocalStore, database: Database, root: Path, tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet")
    processes = [Process(store, database) for _ in range(6)]
    outcomes: list[Any] = []
    threads = [
        threading.Thread(target=lambda one=one: outcomes.append(one.publisher.publish("d", path))) for one in processes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 6 and sum(outcome.created for outcome in outcomes) == 1
    assert len(read_log(root, "d")) == 1
    assert len(list((root / "d/_bt/data").iterdir())) == 1, "who came too late took the copy away again"


PUBLISH_MANY = """
import sys
from pathlib import Path
from engine.connection import Database
from engine.store import LocalStore
from tests.engine.store.support import Process, write_parquet
root, scratch, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
publisher = Process(LocalStore(root), Database([root])).publisher
print("ready", flush=True)
sys.stdin.readline()
for turn in range(8):
    path = write_parquet(scratch / f"{number}-{turn}.parquet", seed=100 * number + turn)
    version = publisher.publish("d", path, by=f"p{number}").version
    print(version.number, version.content_id, flush=True)
"""


def test_processes_publishing_to_one_dataset(root: Path, tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PUBLISH_MANY, str(root), str(tmp_path), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    for one in running:
        assert one.stdout is not None and one.stdout.readline() == "ready\n"
    acknowledged = {}
    for one in running:
        assert one.stdin is not None
        one.stdin.write("go\n")
        one.stdin.flush()
    for one in running:
        printed, _ = one.communicate(timeout=60)
        assert one.returncode == 0
        acknowledged.update({int(line.split()[0]): line.split()[1] for line in printed.splitlines()})
    assert sorted(acknowledged) == list(range(1, 17)), "a dense log, and nobody's version lost"
    Witness(root).check()
    state = DatasetLog(LocalStore(root), "d").refresh()
    assert {version.number: version.content_id for version in state.versions} == acknowledged
    assert {version.by for version in state.versions} == {"p0", "p1"}


def test_a_read_only_store_is_not_written(database: Database, root: Path, tmp_path: Path) -> None:
    root.mkdir()
    publisher = Process(LocalStore(root, read_only=True), database).publisher
    with pytest.raises(StoreError, match="the store is read-only"):
        publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    assert list(root.iterdir()) == []


SORTED = 'key = ["step"]\n'


def shuffled_parquet(path: Path, rows: int = 40) -> Path:
    steps = [(7 * row) % rows for row in range(rows)]
    return write_parquet(path, columns={"step": steps, "value": [float(row) for row in range(rows)]})


def define(root: Path, text: str) -> None:
    (root / "d").mkdir(parents=True, exist_ok=True)
    (root / "d/dataset.toml").write_text(text)


@pytest.fixture
def cutting(store: LocalStore, database: Database) -> Publisher:
    """A publisher whose files are tiny."""
    limits = Limits(file_bytes=100, max_bytes=700, group_rows=10)
    return Publisher(
        store, database, lambda dataset: definition_text(None, store, dataset), describe=describe, limits=limits
    )


def describe(database: Any, dataset: str, definition: str | None, schema: Any, *files: Any) -> dict[str, Any]:
    return {"values": {}, "keys": [{"declared": ["step"], "candidates": [], "key": ["step"]}]}


def test_a_version_is_sorted_cut_and_described(
    cutting: Publisher, store: LocalStore, root: Path, tmp_path: Path
) -> None:
    define(root, SORTED)
    path = shuffled_parquet(tmp_path / "a.parquet")
    version = cutting.publish("d", path).version
    assert version.sorted_by == ("step",) and len(version.files) == 4
    assert stored(store, version)["step"].to_pylist() == list(range(40))
    assert version.place is not None and version.facts is not None
    places = stored(store, version)[version.place].to_pylist()
    assert stored(store, version)["value"].to_pylist() == [float(place) for place in places]
    facts = parse_facts(verify_blob(store, version.facts).read_bytes())
    assert [(file.columns["step"].min, file.columns["step"].max) for file in facts.files] == [
        (0, 9), (10, 19), (20, 29), (30, 39)
    ]  # fmt: skip
    assert facts.keys[0].key == ("step",)
    assert [file.rows for file in version.files] == [file.rows for file in facts.files] == [10] * 4
    assert version.original.sha256 == sha256(path.read_bytes())
    assert not cutting.publish("d", path).created
    assert len(list((root / "d/_bt/data").iterdir())) == 4 and len(list((root / "d/_bt/meta").iterdir())) == 1
    assert list((root / "d/_bt/tmp").iterdir()) == []
    Witness(root).check()


def test_the_same_rows_in_another_order_are_another_version(
    cutting: Publisher, store: LocalStore, root: Path, tmp_path: Path
) -> None:
    define(root, SORTED)
    one = shuffled_parquet(tmp_path / "a.parquet")
    pq.write_table(pq.read_table(one).take(list(range(39, -1, -1))), tmp_path / "b.parquet")
    first, second = (cutting.publish("d", path) for path in (one, tmp_path / "b.parquet"))
    assert second.created and second.version.content_id != first.version.content_id
    assert second.version.facts == first.version.facts


def test_files_that_a_version_has_are_not_stored_again(cutting: Publisher, root: Path, tmp_path: Path) -> None:
    """Only what lies in another file changes; and nothing is sorted again for bytes that were given before."""
    define(root, SORTED)
    path = shuffled_parquet(tmp_path / "a.parquet")
    first = cutting.publish("d", path).version
    table = pq.read_table(path)
    changed = table.set_column(1, "value", [[0.5 if step == 39 else value for step, value in zip(
        table["step"].to_pylist(), table["value"].to_pylist(), strict=True)]])  # fmt: skip
    pq.write_table(changed, tmp_path / "b.parquet")
    second = cutting.publish("d", tmp_path / "b.parquet").version
    assert second.files[:3] == first.files[:3] and second.files[3] != first.files[3]
    told: list[str] = []
    third = cutting.publish("d", path, progress=lambda step, done, total: told.append(step))
    assert third.created and set(told) == {"copy"}
    assert (third.version.files, third.version.place, third.version.facts) == (first.files, first.place, first.facts)


def test_another_key_sorts_anew_and_a_new_definition_alone_does_not(
    cutting: Publisher, store: LocalStore, root: Path, tmp_path: Path
) -> None:
    define(root, SORTED)
    path = shuffled_parquet(tmp_path / "a.parquet")
    first = cutting.publish("d", path).version
    define(root, 'key = ["value"]\n')
    second = cutting.publish_definition("d").version
    assert (second.files, second.place, second.facts, second.sorted_by) == (
        first.files, first.place, first.facts, ("step",)
    )  # fmt: skip
    define(root, 'key = ["value"]\ntitle = "x"\n')
    third = cutting.publish("d", path).version
    assert third.sorted_by == ("value",) and third.files != first.files
    assert third.place is None, "it came in this order"


@pytest.mark.parametrize("which", ["file", "facts"])
def test_whatever_is_lost_of_a_version_is_put_back(
    cutting: Publisher, store: LocalStore, root: Path, tmp_path: Path, which: str
) -> None:
    define(root, SORTED)
    path = shuffled_parquet(tmp_path / "a.parquet")
    version = cutting.publish("d", path).version
    lost = {"file": version.files[2], "facts": version.facts}[which]
    assert lost is not None
    store.path(lost.key).unlink()
    again = cutting.publish("d", path)
    assert not again.created and again.version == version
    for entry in version.all_files:
        verify_blob(store, entry)


def test_a_plan_stores_nothing(cutting: Publisher, root: Path, tmp_path: Path) -> None:
    define(root, SORTED)
    path = shuffled_parquet(tmp_path / "a.parquet")
    before = sorted(found for found in root.rglob("*") if found.is_file())
    plan = cutting.plan("d", path)
    assert (plan.kind, plan.version, plan.current, plan.reason) == ("new", None, None, "")
    assert (plan.rows, plan.sorted_by, plan.moved) == (40, ("step",), True)
    assert [rows for _, rows in plan.files] == [10] * 4 and plan.size_bytes == sum(size for size, _ in plan.files)
    assert plan.original.sha256 == sha256(path.read_bytes())
    assert sorted(found for found in root.rglob("*") if found.is_file()) == before
    version = cutting.publish("d", path).version
    assert tuple((file.size, file.rows) for file in version.files) == plan.files
    same = cutting.plan("d", path)
    assert (same.kind, same.version, same.files) == ("same", version, plan.files)
    changed = write_parquet(tmp_path / "b.parquet", columns={"step": ["1"], "more": [1]})
    plan = cutting.plan("d", changed)
    assert plan.kind == "new" and plan.current == version and plan.rows == 1
    assert plan.warnings == (
        "columns added: more",
        "columns removed: value",
        "columns of another type: step (BIGINT to VARCHAR)",
    )
    (tmp_path / "c.csv").write_bytes(b"")
    with pytest.raises(RejectedFileError):
        cutting.plan("d", tmp_path / "c.csv")
    assert len(read_log(root, "d")) == 1


def test_a_plan_says_what_the_policy_refuses(store: LocalStore, database: Database, tmp_path: Path) -> None:
    publisher = Process(store, database, policy="block-breaking").publisher
    publisher.publish("d", write_parquet(tmp_path / "1.parquet", columns={"a": [1], "b": [1.5]}))
    plan = publisher.plan("d", write_parquet(tmp_path / "2.parquet", columns={"a": [1]}))
    assert plan.kind == "refused" and "columns removed: b" in plan.reason and plan.rows == 1


@pytest.mark.parametrize("expected", [1, "1", "v1", "V1 ", "none", "NONE", "ffffffff", "v3", "latest", "", 0, "v0"])
def test_only_upon_what_was_expected(process: Process, root: Path, tmp_path: Path, expected: str | int) -> None:
    """v2 is current; of these nothing is it."""
    for seed in (1, 2):
        process.publisher.publish("d", write_parquet(tmp_path / "a.parquet", seed=seed))
    new = write_parquet(tmp_path / "b.parquet", seed=3)
    with pytest.raises(PreconditionFailedError, match="latest of d is v2, and .* was expected"):
        process.publisher.publish("d", new, if_latest=expected)
    with pytest.raises(PreconditionFailedError):
        process.publisher.plan("d", new, if_latest=expected)
    with pytest.raises(PreconditionFailedError):
        process.publisher.set_current("d", 1, if_latest=expected)
    assert len(read_log(root, "d")) == 2 and len(list((root / "d/_bt/data").iterdir())) == 2


def test_what_was_expected(process: Process, tmp_path: Path) -> None:
    paths = [write_parquet(tmp_path / f"{seed}.parquet", seed=seed) for seed in range(5)]
    publish = process.publisher.publish
    first = publish("d", paths[0], if_latest="none").version
    assert publish("d", paths[1], if_latest=1).version.number == 2
    assert publish("d", paths[2], if_latest="v2").version.number == 3
    third = process.logs.of("d").state.resolve(3)
    assert publish("d", paths[3], if_latest=third.content_id[:10]).version.number == 4
    again = publish("d", paths[3], if_latest="v3")
    assert not again.created and again.version.number == 4, "the answer was lost, and the request comes again"
    with pytest.raises(PreconditionFailedError):
        publish("d", paths[3], if_latest="v2")
    assert process.publisher.set_current("d", 1, if_latest=4) == first


def test_who_is_second_is_told(store: LocalStore, database: Database, tmp_path: Path) -> None:
    """The check is made against the record that the new one follows, not against what was current some time before."""
    one, two = Process(store, database), Process(store, database)
    one.publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    told: list[str] = []

    def overtake(step: str, done: int, total: int) -> None:
        if step == "describe" and not told:
            told.append(step)
            two.publisher.publish("d", write_parquet(tmp_path / "b.parquet", seed=1))

    with pytest.raises(PreconditionFailedError, match="latest of d is v2, and v1 was expected"):
        one.publisher.publish("d", write_parquet(tmp_path / "c.parquet", seed=2), if_latest="v1", progress=overtake)


class TakenStore(LocalStore):
    """Says of the first files that something is there already: as a client does that sends again what has arrived."""

    left = 0
    stores = True

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        if "/_bt/log/" in key or self.left == 0:
            return super().put_if_absent(key, content)
        self.left -= 1
        if self.stores:
            assert super().put_if_absent(key, content)
        else:
            assert super().put_if_absent(key, b"something else")
        return False


@pytest.mark.parametrize("stores, left", [(True, 1), (True, 9), (False, 2)])
def test_a_name_that_is_taken(root: Path, database: Database, tmp_path: Path, stores: bool, left: int) -> None:
    store = TakenStore(root)
    store.left, store.stores = left, stores
    version = Process(store, database).publisher.publish("d", write_parquet(tmp_path / "a.parquet")).version
    for entry in version.all_files:
        verify_blob(store, entry)


def test_names_that_are_always_taken(root: Path, database: Database, tmp_path: Path) -> None:
    store = TakenStore(root)
    store.left, store.stores = 99, False
    with pytest.raises(StoreError, match="never used before"):
        Process(store, database).publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    assert not (root / "d/_bt/log").exists()


class LateStore(FaultyStore):
    """Refuses the first record, and stores it all the same, once the publisher has begun anew."""

    late: tuple[str, bytes | Path] | None = None
    looks = 0

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        if "/log/" in key and self.late is None:
            self.late = key, content
            return False
        return super().put_if_absent(key, content)

    def read(self, key: str) -> bytes | None:
        if self.late is not None and key == self.late[0]:
            self.looks += 1
            if self.looks == 2:
                assert super().put_if_absent(*self.late)
        return super().read(key)


def test_the_files_of_a_record_that_arrives_late_stay(store: LocalStore, database: Database, tmp_path: Path) -> None:
    publisher = Publisher(LateStore(store), database, lambda name: None)
    outcome = publisher.publish("d", write_parquet(tmp_path / "a.parquet"))
    assert outcome.created and outcome.version.number == 1
    assert DatasetLog(store, "d").refresh().current == outcome.version
    for file in outcome.version.all_files:
        verify_blob(store, file)
