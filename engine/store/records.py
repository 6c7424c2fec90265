"""The records of a dataset's log, their exact JSON form, and the pure fold that turns them into a state. Does no I/O.

A record is canonical JSON (sorted keys, no spaces) and a newline. Its ``checksum`` is the SHA-256 of the same text
without that field, so that one flipped bit is noticed. Fields and kinds that are not known are kept out of the way:
a later release may add them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from engine.errors import CorruptVersionError, VersionNotFoundError
from engine.store.keys import data_prefix, log_key

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SchemaField:
    """One column: its name as DuckDB gives it, its DuckDB type, and whether it may hold null."""

    name: str
    type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One immutable parquet file of a version. ``etag`` is the bucket's; a folder has none."""

    key: str
    size: int
    sha256: str
    etag: str | None
    rows: int
    row_groups: int


@dataclass(frozen=True, slots=True)
class Source:
    """The dropped object that a version was made of. ``last_modified`` is UTC, ISO 8601."""

    key: str
    etag: str
    size: int
    last_modified: str | None = None

    def is_same(self, other: Source) -> bool:
        return (self.key, self.etag, self.size) == (other.key, other.etag, other.size)


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
        return bool(self.removed or self.retyped)

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
    """A new version. ``definition`` is the text of the definition then in force, for pinned answers never change."""

    kind: ClassVar[str] = "publish"
    files: tuple[FileEntry, ...]
    schema: tuple[SchemaField, ...]
    schema_hash: str
    diff: SchemaDiff
    original: Original
    source: Source | None = None
    parent: int | None = None
    definition: str | None = None


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
class Unknown:
    """A record of a kind that this release does not know; it changes nothing."""

    kind: str


Body = Publish | SetCurrent | Rejection | Seen | Unknown


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
    body.kind: TypeAdapter(body) for body in (Publish, SetCurrent, Rejection, Seen)
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
    if isinstance(body, Publish) and not all(file.key.startswith(data_prefix(dataset)) for file in body.files):
        raise corrupt("it names a file outside its dataset")
    return Record(seq=seq, **texts, body=body)


def _checksum(content: dict[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()


@dataclass(frozen=True)
class Version:
    """One immutable state of a dataset.

    ``number`` is the seq of its publish record; 0 for a file that a read-only store holds without a log. ``parent`` is
    the version that readers had before, which ``diff`` compares with. ``definition`` is a dataset.toml's text.
    """

    dataset: str
    number: int
    at: str
    by: str
    message: str
    files: tuple[FileEntry, ...]
    schema: tuple[SchemaField, ...]
    schema_hash: str
    diff: SchemaDiff
    original: Original
    source: Source | None = None
    parent: int | None = None
    definition: str | None = None

    @cached_property
    def content_id(self) -> str:
        return content_id_of(file.sha256 for file in self.files)

    @cached_property
    def name(self) -> str:
        """``v3``; the first digits of the content id where there is no log to number versions."""
        return f"v{self.number}" if self.number else self.content_id[:12]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)


@dataclass(frozen=True, slots=True)
class Reject:
    """A dropped file that did not become a version."""

    seq: int
    at: str
    source: Source
    reason: str


@dataclass(frozen=True, slots=True)
class KnownDrop:
    """A dropped object that the log has dealt with; ``version`` is None when it was rejected."""

    source: Source
    version: int | None


_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_BARE_NUMBER = re.compile(r"[0-9]{1,7}")  # eight digits or more are the beginning of a content id
_NUMBER = re.compile(r"v([0-9]{1,10})")


@dataclass(frozen=True, slots=True)
class DatasetState:
    """Everything that a log says, up to record ``seq``.

    ``versions`` are the published ones, oldest first; ``current`` is what readers follow who pin nothing.
    """

    dataset: str
    seq: int = 0
    versions: tuple[Version, ...] = ()
    current: Version | None = None
    rejects: tuple[Reject, ...] = ()
    drops: tuple[KnownDrop, ...] = field(default=(), repr=False)

    @property
    def newest(self) -> Version | None:
        """The version published last, whether or not it is current."""
        return self.versions[-1] if self.versions else None

    def number(self, number: int) -> Version | None:
        return next((version for version in reversed(self.versions) if version.number == number), None)

    def known_drop(self, source: Source) -> KnownDrop | None:
        """What the log says of exactly this dropped object."""
        return next((drop for drop in reversed(self.drops) if drop.source.is_same(source)), None)

    def last_drop(self, key: str) -> Version | None:
        """The version that the last good object dropped under ``key`` became."""
        for drop in reversed(self.drops):
            if drop.source.key == key and drop.version is not None:
                return self.number(drop.version)
        return None

    def resolve(self, spec: str | int | None) -> Version:
        """The version that a request means.

        ``None`` and ``latest`` are the current one; ``7``, ``"7"`` and ``"v7"`` go by number; 8 or more hexadecimal
        digits (all of the decimal ones included) are the beginning of a content id, and mean the oldest version with
        that content, so that a pin never moves.

        Raises
        ------
        VersionNotFoundError
        """
        if spec is None or spec == "latest":
            if self.current is None:
                raise VersionNotFoundError(self._nothing_published())
            return self.current
        text = f"v{spec}" if isinstance(spec, int) else spec.strip().lower()
        numbered = _NUMBER.fullmatch(f"v{text}" if _BARE_NUMBER.fullmatch(text) else text)
        if numbered and int(numbered[1]) and (found := self.number(int(numbered[1]))):
            return found
        if _PREFIX.fullmatch(text):
            oldest = {version.content_id: version for version in reversed(self.versions)}
            matches = [version for content, version in oldest.items() if content.startswith(text)]
            if len(matches) == 1:
                return matches[0]
            if matches:
                raise VersionNotFoundError(
                    f"{text} begins the content id of {len(matches)} versions of {self.dataset}; give more digits"
                )
        if not self.versions:
            raise VersionNotFoundError(self._nothing_published())
        names = [version.name for version in reversed(self.versions)]
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} older ones" if len(names) > 10 else "")
        detail = f"{self.dataset} has no version {str(spec)!r}; it has {listed}"
        raise VersionNotFoundError(detail, did_you_mean=names[:3])

    def _nothing_published(self) -> str:
        reason = f"; the last file dropped was rejected: {self.rejects[-1].reason}" if self.rejects else ""
        return f"{self.dataset} has no version yet{reason}"


def apply(state: DatasetState, record: Record) -> DatasetState:
    """The state after one more record.

    Raises
    ------
    CorruptVersionError
        When the record does not follow the state's last one, or names a version that does not exist.
    """
    if record.seq != state.seq + 1:
        raise CorruptVersionError(f"the log of {state.dataset} has record {record.seq} after record {state.seq}")
    state = replace(state, seq=record.seq)
    match record.body:
        case Publish(source=source) as body:
            version = Version(
                dataset=state.dataset,
                number=record.seq,
                at=record.at,
                by=record.by,
                message=record.message,
                **{item.name: getattr(body, item.name) for item in fields(body)},
            )
            drops = (*state.drops, KnownDrop(source, record.seq)) if source else state.drops
            return replace(state, versions=(*state.versions, version), current=version, drops=drops)
        case SetCurrent(target=target):
            return replace(state, current=_target(state, target))
        case Seen(source=source, target=target):
            return replace(state, drops=(*state.drops, KnownDrop(source, _target(state, target).number)))
        case Rejection(source=source, reason=reason):
            reject = Reject(record.seq, record.at, source, reason)
            return replace(state, rejects=(*state.rejects, reject), drops=(*state.drops, KnownDrop(source, None)))
        case Unknown():
            return state


def _target(state: DatasetState, number: int) -> Version:
    found = state.number(number)
    if found is None:
        raise CorruptVersionError(
            f"the log record {log_key(state.dataset, state.seq)} names version {number}, which does not exist"
        )
    return found
