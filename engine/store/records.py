"""The records of a dataset's log and their exact JSON form; what they add up to is in ``state.py``. Does no I/O.

A record is canonical JSON (sorted keys, no spaces) and a newline. Its ``checksum`` is the SHA-256 of the same text
without that field, so that one flipped bit is noticed. Fields and kinds that are not known are kept out of the way:
a later release may add them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol

from pydantic import TypeAdapter, ValidationError

from engine.errors import CorruptVersionError
from engine.store.evolution import classify
from engine.store.keys import data_prefix, log_key, meta_prefix

FORMAT = 1
BLOCK_BYTES = 8 << 20  # part of the format: what is recorded of blocks is of blocks of this size


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One column: its name as DuckDB gives it, its DuckDB type, and whether it may hold null."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One immutable file of a version. ``etag`` is the bucket's; a folder has none.

    ``blocks`` are the SHA-256 of each BLOCK_BYTES of a file that is longer than that, so that a piece of it can be
    checked by itself; empty where they were not recorded.
    """

    key: str
    size: int
    sha256: str
    etag: str | None
    rows: int
    row_groups: int
    blocks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Source:
    """The dropped object that a version was made of. ``last_modified`` is UTC, ISO 8601."""

    key: str
    etag: str
    size: int
    last_modified: str | None = None

    def is_same(self, other: Source) -> bool:
        """Whether both are one drop, as far as is known.

        A bucket's etag is of the content alone, so content that comes back after another one is told by its time.
        """
        if (self.key, self.etag, self.size) != (other.key, other.etag, other.size):
            return False
        if self.last_modified is None or other.last_modified is None:
            return True
        one, two = self.last_modified, other.last_modified
        # Asked for one object, services say no more than the second, which they list with its fraction.
        return one == two or (one[:19] == two[:19] and ".000Z" in (one[19:], two[19:]))


@dataclass(frozen=True, slots=True)
class Original:
    """The bytes as they were given, before any conversion. ``format`` is parquet, csv, jsonl or arrow."""

    sha256: str
    size: int
    name: str
    format: str


@dataclass(frozen=True, slots=True)
class Retyped:
    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """How the columns differ from those of the parent version."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    retyped: tuple[Retyped, ...] = ()

    @property
    def is_breaking(self) -> bool:
        """Whether a query of the version before may fail now: a column is gone, or has a type that is not wider."""
        return bool(self.removed or any(classify(change) != "widened" for change in self.retyped))

    def describe(self) -> tuple[str, ...]:
        """One sentence for each kind of change; nothing when there is none."""
        found = []
        if self.added:
            found.append(f"columns added: {', '.join(self.added)}")
        if self.removed:
            found.append(f"columns removed: {', '.join(self.removed)}")
        if self.retyped:
            changes = (f"{change.name} ({change.before} to {change.after})" for change in self.retyped)
            found.append(f"columns of another type: {', '.join(changes)}")
        return tuple(found)


def diff_schemas(before: Iterable[SchemaField], after: Iterable[SchemaField]) -> SchemaDiff:
    old = {column.name: column.type for column in before}
    new = {column.name: column.type for column in after}
    return SchemaDiff(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        retyped=tuple(Retyped(name, old[name], new[name]) for name in new if name in old and old[name] != new[name]),
    )


def hash_schema(schema: Iterable[SchemaField]) -> str:
    """SHA-256 of the canonical JSON of the columns, in order."""
    listed = [{"name": column.name, "type": column.type, "nullable": column.nullable} for column in schema]
    return hashlib.sha256(canonical_json(listed)).hexdigest()


def content_id_of(hashes: Iterable[str]) -> str:
    """The content id of files: the hash itself of a single one, else the SHA-256 of the hashes joined by newlines."""
    listed = tuple(hashes)
    return listed[0] if len(listed) == 1 else hashlib.sha256("\n".join(listed).encode()).hexdigest()


def canonical_json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def utc_text(seconds: float) -> str:
    """Seconds since 1970 as ISO 8601 with ``Z``. What lies outside the years 1 to 9999 becomes their first or last."""
    try:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    except OverflowError:
        moment = datetime.max.replace(tzinfo=UTC) if seconds > 0 else datetime.min.replace(tzinfo=UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Publish:
    """A new version. ``definition`` is the text of the definition then in force, for pinned answers never change.

    ``sorted_by`` are the columns that the rows of the files were sorted by. Where that moved a row, ``place`` is the
    name of one more column in the files, with the place that each row had in the original, from 0; it orders what is
    answered, as if nothing had moved. ``facts`` is a JSON file with what is known of the columns' values, so that a
    reader need not scan for it; see ``facts.py``.
    """

    kind: ClassVar[str] = "publish"
    files: tuple[FileEntry, ...]
    schema: tuple[SchemaField, ...]
    schema_hash: str
    diff: SchemaDiff
    original: Original
    source: Source | None = None
    parent: int | None = None
    definition: str | None = None
    sorted_by: tuple[str, ...] = ()
    place: str | None = None
    facts: FileEntry | None = None


class _HasFiles(Protocol):
    @property
    def files(self) -> tuple[FileEntry, ...]: ...
    @property
    def facts(self) -> FileEntry | None: ...


@dataclass(frozen=True, slots=True)
class SetCurrent:
    """From here on, readers who pin nothing get version ``target``."""

    kind: ClassVar[str] = "set_current"
    target: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """A dropped object that cannot become a version, with the reason."""

    kind: ClassVar[str] = "reject"
    source: Source
    reason: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A dropped object whose content version ``target`` already holds; noted so that it is never published later."""

    kind: ClassVar[str] = "seen"
    source: Source
    target: int


@dataclass(frozen=True, slots=True)
class Tag:
    """Version ``target`` is also called ``name``, and no other is; None for the target takes the name away."""

    kind: ClassVar[str] = "tag"
    name: str
    target: int | None


@dataclass(frozen=True, slots=True)
class Yank:
    """Version ``target`` is not to be used: it is still served to whoever names it, and is never latest."""

    kind: ClassVar[str] = "yank"
    target: int


@dataclass(frozen=True, slots=True)
class Restore:
    """Version ``target`` is no longer yanked."""

    kind: ClassVar[str] = "restore"
    target: int


@dataclass(frozen=True, slots=True)
class Expire:
    """Versions ``targets`` are served no longer; their files may be deleted after a time of grace."""

    kind: ClassVar[str] = "expire"
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """A record of a kind that this release does not know; it changes nothing."""

    kind: str


Body = Publish | SetCurrent | Rejection | Seen | Tag | Yank | Restore | Expire | Unknown


@dataclass(frozen=True, slots=True)
class Record:
    """What every record carries, and what it says. ``at`` is UTC, ISO 8601 with ``Z``; ``nonce`` is its writer's."""

    seq: int
    at: str
    by: str
    message: str
    nonce: str
    body: Body


_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    body.kind: TypeAdapter(body) for body in (Publish, SetCurrent, Rejection, Seen, Tag, Yank, Restore, Expire)
}


def encode_record(record: Record) -> bytes:
    """The exact bytes of a record."""
    if isinstance(record.body, Unknown):
        raise TypeError("a record of an unknown kind is never written")
    adapter = _ADAPTERS[record.body.kind]
    content = {
        **adapter.dump_python(record.body, mode="json"),
        "format": FORMAT,
        "kind": record.body.kind,
        **{item.name: getattr(record, item.name) for item in fields(record) if item.name != "body"},
    }
    return canonical_json({**content, "checksum": _checksum(content)}) + b"\n"


def decode_record(data: bytes, dataset: str, seq: int) -> Record:
    """The record that a log key holds; raises CorruptVersionError, naming the record, for anything else."""
    key = log_key(dataset, seq)

    def corrupt(cause: str) -> CorruptVersionError:
        return CorruptVersionError(f"the log record {key} is corrupt: {cause}")

    if not data.endswith(b"\n"):
        raise corrupt("it is cut short")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise corrupt("it is not JSON") from error
    if not isinstance(content, dict):
        raise corrupt("it is not a JSON object")
    if isinstance(content.get("format"), int) and content["format"] > FORMAT:
        raise CorruptVersionError(
            f"the log record {key} has format {content['format']}, and this release reads up to {FORMAT}; upgrade it"
        )
    stated = content.pop("checksum", None)
    try:
        if stated != _checksum(content):
            raise corrupt("its checksum does not fit its content")
    except ValueError as error:
        raise corrupt("it is not canonical JSON") from error
    if content.get("format") != FORMAT or content.get("seq") != seq:
        raise corrupt(f"it says format {content.get('format')!r} and seq {content.get('seq')!r}")
    adapter = _ADAPTERS.get(str(content.get("kind")))
    texts = {name: str(content.get(name, "")) for name in ("at", "by", "message", "nonce")}
    if adapter is None:
        return Record(seq=seq, **texts, body=Unknown(str(content.get("kind"))))
    try:
        # Through JSON, where strict typing still takes a list for a tuple.
        body: Body = adapter.validate_json(canonical_json(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise corrupt(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    homes = (data_prefix(dataset), meta_prefix(dataset))
    if isinstance(body, Publish) and not all(file.key.startswith(homes) for file in all_files(body)):
        raise corrupt("it names a file outside its dataset")
    return Record(seq=seq, **texts, body=body)


def all_files(made: _HasFiles) -> tuple[FileEntry, ...]:
    """The files with the rows, and those that go with them."""
    return made.files if made.facts is None else (*made.files, made.facts)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()
