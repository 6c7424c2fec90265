"""The exact form of log records: what is written, what is refused, what is let pass."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CorruptVersionError
from engine.store.local import LocalStore
from engine.store.log import DatasetLog
from engine.store.records import (
    FileEntry,
    Original,
    Publish,
    Record,
    Rejection,
    Retyped,
    SchemaDiff,
    SchemaField,
    Seen,
    SetCurrent,
    Source,
    Unknown,
    canonical_json,
    decode_record,
    diff_schemas,
    encode_record,
    hash_schema,
)
from engine.store.state import DatasetState, apply
from engine.store.verify import verify_blob

SHA = "ab" * 32
SOURCE = Source("d/results.parquet", "etag", 9, "2026-01-01T00:00:00.000Z")
PUBLISH = Publish(
    files=(FileEntry(f"d/_bt/data/x-{SHA[:12]}.parquet", 9, SHA, None, 3, 1),),
    schema=(SchemaField("größe", "BIGINT", False),),
    schema_hash=hash_schema([SchemaField("größe", "BIGINT", False)]),
    diff=SchemaDiff(("größe",), ("size",), (Retyped("x", "BIGINT", "VARCHAR"),)),
    original=Original(SHA, 9, "results.parquet", "parquet"),
    source=SOURCE,
    parent=None,
    definition='title = "Maße"\n',
)
BODIES = [PUBLISH, SetCurrent(1), Rejection(SOURCE, "it is empty"), Seen(SOURCE, 1)]


def record(body: Any, seq: int = 1) -> Record:
    return Record(seq, "2026-01-01T00:00:00.000Z", "me", "first", "n0", body)


def sealed(content: dict[str, Any]) -> bytes:
    """A record as a later release might write it."""
    content = {key: value for key, value in content.items() if key != "checksum"}
    return canonical_json({**content, "checksum": hashlib.sha256(canonical_json(content)).hexdigest()}) + b"\n"


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.kind)
def test_a_record_comes_back_as_it_was(body: Any) -> None:
    data = encode_record(record(body))
    assert decode_record(data, "d", 1) == record(body)
    assert data == canonical_json(json.loads(data)) + b"\n"
    assert {"format", "seq", "kind", "at", "by", "message", "nonce"} < set(json.loads(data))


@given(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8")), st.integers(1, 10**9))
def test_any_text_survives(message: str, definition: str, seq: int) -> None:
    body = Publish(PUBLISH.files, (), "", SchemaDiff(), PUBLISH.original, definition=definition)
    given_record = Record(seq, "t", "me", message, "n", body)
    assert decode_record(encode_record(given_record), "d", seq) == given_record


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.kind)
def test_every_flipped_bit_and_every_cut_is_noticed(body: Any) -> None:
    data = encode_record(record(body))
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(CorruptVersionError, match="d/_bt/log/0000000001.json"):
                decode_record(bytes(flipped), "d", 1)
        with pytest.raises(CorruptVersionError):
            decode_record(data[:position], "d", 1)


@pytest.mark.parametrize(
    "data",
    [b"", b"\n", b"null\n", b"[]\n", b"{}\n", b"\xff\n", b'{"a":NaN}\n', b'{"a":"\\ud800"}\n', b"[" * 100_000 + b"\n"],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_record(data: bytes) -> None:
    with pytest.raises(CorruptVersionError, match="d/_bt/log/0000000001.json is corrupt"):
        decode_record(data, "d", 1)


def test_a_record_in_the_wrong_place() -> None:
    with pytest.raises(CorruptVersionError, match="seq 1"):
        decode_record(encode_record(record(SetCurrent(1))), "d", 2)


def test_unknown_fields_and_kinds_pass_and_change_nothing() -> None:
    content = json.loads(encode_record(record(PUBLISH)))
    more = sealed({**content, "signed_by": {"key": 1}})
    assert decode_record(more, "d", 1) == record(PUBLISH)
    poem = decode_record(sealed({**content, "kind": "poem", "name": "paper", "target": 1, "seq": 2}), "d", 2)
    assert poem.body == Unknown("poem")
    state = apply(DatasetState("d"), record(PUBLISH))
    assert apply(state, poem).current == state.current
    assert apply(state, poem).seq == 2


def test_a_later_format_is_refused_and_not_guessed_at() -> None:
    content = json.loads(encode_record(record(PUBLISH)))
    with pytest.raises(CorruptVersionError, match=r"has format 2, and this release reads up to 1"):
        decode_record(sealed({**content, "format": 2}), "d", 1)


@pytest.mark.parametrize(
    "change",
    [
        {"files": None},
        {"files": [{"key": "d/_bt/data/x.parquet"}]},
        {"schema": "BIGINT"},
        {"parent": "1"},
        {"definition": 5},
        {"files": [{**json.loads(canonical_json({"size": 1, "sha256": SHA, "etag": None, "rows": 1})), "row_groups": 1,
                    "key": "../../etc/passwd"}]},
    ],
    ids=lambda change: str(change)[:30],
)  # fmt: skip
def test_well_sealed_nonsense(change: dict[str, Any]) -> None:
    content = json.loads(encode_record(record(PUBLISH)))
    with pytest.raises(CorruptVersionError, match=r"0000000001\.json is corrupt"):
        decode_record(sealed({**content, **change}), "d", 1)


def test_a_target_that_does_not_exist() -> None:
    with pytest.raises(CorruptVersionError, match="names version 7"):
        apply(DatasetState("d"), record(SetCurrent(7)))


def test_a_gap_does_not_fold() -> None:
    with pytest.raises(CorruptVersionError, match="record 3 after record 0"):
        apply(DatasetState("d"), record(PUBLISH, seq=3))


def test_schema_diff() -> None:
    before = [SchemaField("a", "BIGINT", True), SchemaField("b", "VARCHAR", True)]
    after = [SchemaField("b", "BIGINT", True), SchemaField("c", "DOUBLE", True)]
    diff = diff_schemas(before, after)
    assert diff == SchemaDiff(("c",), ("a",), (Retyped("b", "VARCHAR", "BIGINT"),))
    assert diff.is_breaking and not diff_schemas(before, [*before, after[1]]).is_breaking
    assert diff.describe() == (
        "columns added: c",
        "columns removed: a",
        "columns of another type: b (VARCHAR to BIGINT)",
    )


def test_a_store_of_format_1_stays_readable() -> None:
    """Written by the first release; it must be read by every later one, and is never written anew."""
    store = LocalStore(Path(__file__).parent / "format1", read_only=True)
    state = DatasetLog(store, "sweep").refresh()
    assert [version.name for version in state.versions] == ["v1", "v4"]
    assert (state.seq, state.resolve("latest").name) == (5, "v1")
    assert [reject.reason for reject in state.rejects] == ["results.csv is empty"]
    assert state.resolve("v4").definition == 'title = "Sweep"\n'
    assert state.resolve("v4").original.format == "jsonl"
    for version in state.versions:
        for file in version.files:
            verify_blob(store, file)
