"""The state of a dataset: the pure fold over its log's records, and which version a request means. Does no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from engine.errors import CorruptVersionError, VersionNotFoundError
from engine.store.keys import log_key
from engine.store.records import (
    Expire,
    FileEntry,
    Original,
    Publish,
    Record,
    Rejection,
    Restore,
    SchemaDiff,
    SchemaField,
    Seen,
    SetCurrent,
    Source,
    Tag,
    Unknown,
    Yank,
    all_files,
    content_id_of,
)


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
    sorted_by: tuple[str, ...] = ()
    place: str | None = None
    facts: FileEntry | None = None

    @cached_property
    def content_id(self) -> str:
        return content_id_of(file.sha256 for file in self.files)

    @cached_property
    def name(self) -> str:
        """``v3``; the first digits of the content id where there is no log to number versions."""
        return f"v{self.number}" if self.number else self.content_id[:12]

    @property
    def all_files(self) -> tuple[FileEntry, ...]:
        """The files with the rows, and those that go with them."""
        return all_files(self)

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


@dataclass(frozen=True, slots=True)
class Event:
    """One record of the log, as a history tells it. ``target`` is the version it is about, where it is about one."""

    seq: int
    at: str
    by: str
    message: str
    kind: str
    target: int | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """That a version was yanked or expired, and when."""

    version: int
    at: str
    by: str
    message: str


@dataclass(frozen=True, slots=True)
class Pointer:
    """From record ``seq`` on, ``version`` was what readers followed, unless that was yanked or expired."""

    seq: int
    at: str
    version: int


_TAG = re.compile(r"[a-z][a-z0-9._-]{0,62}", re.IGNORECASE)
_AMBIGUOUS_TAG = re.compile(r"v?[0-9]+|[0-9a-f]{8,64}|latest", re.IGNORECASE)


def is_tag_name(name: str) -> bool:
    """Whether a tag may be called so: nothing that could be read as a version, a content id, ``latest`` or a time."""
    return _TAG.fullmatch(name) is not None and _AMBIGUOUS_TAG.fullmatch(name) is None


_PREFIX = re.compile(r"[0-9a-f]{8,64}")
_BARE_NUMBER = re.compile(r"[0-9]{1,7}")  # eight digits or more are the beginning of a content id
_NUMBER = re.compile(r"v([0-9]{1,10})")


def is_pin(spec: str | int | None) -> bool:
    """Whether a request that names this version can never mean another one.

    A number and the beginning of a content id are pins; ``latest``, a tag and a time are not: tags move, and what was
    current at a moment to come is not known yet.
    """
    text = str("" if spec is None else spec).strip().lower()
    return any(pattern.fullmatch(text) for pattern in (_BARE_NUMBER, _NUMBER, _PREFIX))


def is_pinned(spec: str | int | None, version: Version) -> bool:
    """Whether what is answered for a version that was named so can never change.

    Without a log it may: the definition beside the data is then not that of the version, but of the moment.
    """
    return is_pin(spec) and version.number > 0


@dataclass(frozen=True, slots=True)
class DatasetState:
    """Everything that a log says, up to record ``seq``.

    ``versions`` are the published ones, oldest first, expired ones included; ``current`` is what readers follow who pin
    nothing. ``tags`` are names with the number of their version, in the order of the names.
    """

    dataset: str
    seq: int = 0
    versions: tuple[Version, ...] = ()
    current: Version | None = None
    rejects: tuple[Reject, ...] = ()
    drops: tuple[KnownDrop, ...] = field(default=(), repr=False)
    tags: tuple[tuple[str, int], ...] = ()
    yanked: tuple[Mark, ...] = ()
    expired: tuple[Mark, ...] = ()
    pointers: tuple[Pointer, ...] = field(default=(), repr=False)
    history: tuple[Event, ...] = field(default=(), repr=False)

    @property
    def newest(self) -> Version | None:
        """The version published last, whether or not it is current."""
        return self.versions[-1] if self.versions else None

    @property
    def live(self) -> tuple[Version, ...]:
        """The versions that can be served: all but the expired ones."""
        gone = {mark.version for mark in self.expired}
        return tuple(version for version in self.versions if version.number not in gone) if gone else self.versions

    def number(self, number: int) -> Version | None:
        """The version of that number, expired or not."""
        return next((version for version in reversed(self.versions) if version.number == number), None)

    def is_yanked(self, number: int) -> bool:
        return any(mark.version == number for mark in self.yanked)

    def is_expired(self, number: int) -> bool:
        return any(mark.version == number for mark in self.expired)

    def tags_of(self, number: int) -> tuple[str, ...]:
        return tuple(name for name, target in self.tags if target == number)

    def known_drop(self, source: Source) -> KnownDrop | None:
        """What the log says of exactly this dropped object."""
        return next((drop for drop in reversed(self.drops) if drop.source.is_same(source)), None)

    def last_drop(self, key: str) -> Version | None:
        """The version that the last good object dropped under ``key`` became."""
        for drop in reversed(self.drops):
            if drop.source.key == key and drop.version is not None:
                return self.number(drop.version)
        return None

    def as_of(self, at: str) -> Version | None:
        """The version that readers followed at a moment (UTC, ISO 8601 with ``Z``); None before the first.

        Records count up to the last one that was written by then, whatever the clocks of their writers said between.
        """
        last = max((event.seq for event in self.history if event.at <= at), default=0)
        yanked = {event.target: event.kind == "yank" for event in self.history
                  if event.seq <= last and event.kind in ("yank", "restore")}  # fmt: skip
        expired = {mark.version for mark in self.expired if mark.at <= at}
        for pointer in reversed(self.pointers):
            if pointer.seq <= last and not yanked.get(pointer.version) and pointer.version not in expired:
                return self.number(pointer.version)
        return None

    def resolve(self, spec: str | int | None) -> Version:
        """The version that a request means.

        ``None`` and ``latest`` are the current one; ``7``, ``"7"`` and ``"v7"`` go by number; 8 or more hexadecimal
        digits (all of the decimal ones included) are the beginning of a content id, and mean the oldest version with
        that content, so that a pin never moves; then tags; and a date or a time in ISO 8601 (UTC where it names no
        zone; a date is its end) is what was current then. A version that was yanked is found by all but the first.

        Raises
        ------
        VersionNotFoundError
            There is none, or it has expired.
        """
        if spec is None or spec == "latest":
            if self.current is None:
                raise VersionNotFoundError(self._nothing_published())
            return self.current
        given = f"v{spec}" if isinstance(spec, int) else spec.strip()
        found = self._find(given)
        if found is not None:
            if self.is_expired(found.number):
                raise VersionNotFoundError(
                    f"{self.dataset} {found.name} has expired: its files are kept no longer, and only publishing "
                    "its data again brings them back",
                    did_you_mean=self._names()[:3],
                )
            return found
        if not self.versions:
            raise VersionNotFoundError(self._nothing_published())
        names = self._names()
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} older ones" if len(names) > 10 else "")
        tagged = f"; its tags are {', '.join(name for name, _ in self.tags[:10])}" if self.tags else ""
        detail = f"{self.dataset} has no version {str(spec)!r}; it has {listed}{tagged}"
        raise VersionNotFoundError(detail, did_you_mean=names[:3])

    def _find(self, given: str) -> Version | None:
        text = given.lower()
        numbered = _NUMBER.fullmatch(f"v{text}" if _BARE_NUMBER.fullmatch(text) else text)
        if numbered and int(numbered[1]) and (found := self.number(int(numbered[1]))):
            return found
        if _PREFIX.fullmatch(text) and (found := self._by_content(text)):
            return found
        tagged = dict(self.tags).get(given)
        if tagged is not None:
            return self.number(tagged)
        moment = _moment(given)
        if moment is None:
            return None
        found = self.as_of(moment)
        if found is None and self.versions:
            raise VersionNotFoundError(f"{self.dataset} had no version at {moment}", did_you_mean=self._names()[-1:])
        return found

    def _by_content(self, prefix: str) -> Version | None:
        # The oldest, expired or not: another one may have another definition, and what is pinned never changes.
        oldest = {version.content_id: version for version in reversed(self.versions)}
        matches = [version for content, version in oldest.items() if content.startswith(prefix)]
        if len(matches) > 1:
            raise VersionNotFoundError(
                f"{prefix} begins the content id of {len(matches)} versions of {self.dataset}; give more digits"
            )
        return matches[0] if matches else None

    def _names(self) -> list[str]:
        return [version.name for version in reversed(self.live)]

    def _nothing_published(self) -> str:
        if self.versions:
            return f"every version of {self.dataset} is yanked or expired"
        reason = f"; the last file dropped was rejected: {self.rejects[-1].reason}" if self.rejects else ""
        return f"{self.dataset} has no version yet{reason}"


def _moment(text: str) -> str | None:
    """A date or time as the log writes it; None for any other text."""
    if not _TIME.match(text):
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if text.count(" ") == 1 and "T" in text else text)
    except ValueError:
        return None
    if len(text) == len("2026-11-25"):
        moment += timedelta(days=1, milliseconds=-1)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_TIME = re.compile(r"\d{4}-\d{2}-\d{2}")


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
    target: int | None = None
    detail = ""
    match record.body:
        case Publish() as body:
            state, target = _published(state, record, body), record.seq
        case SetCurrent(target=target):
            _target(state, target)
            state = replace(state, pointers=(*state.pointers, Pointer(record.seq, record.at, target)))
        case Seen(source=source, target=target):
            detail = source.key
            state = replace(state, drops=(*state.drops, KnownDrop(source, _target(state, target).number)))
        case Rejection(source=source, reason=reason):
            detail = f"{source.key}: {reason}"
            reject = Reject(record.seq, record.at, source, reason)
            state = replace(state, rejects=(*state.rejects, reject), drops=(*state.drops, KnownDrop(source, None)))
        case Tag(name=name, target=target):
            detail = name
            tags = {**dict(state.tags), name: _target(state, target).number} if target is not None else dict(state.tags)
            if target is None:
                tags.pop(name, None)
            state = replace(state, tags=tuple(sorted(tags.items())))
        case Yank(target=target):
            others = tuple(mark for mark in state.yanked if mark.version != target)
            state = replace(state, yanked=(*others, _mark(_target(state, target).number, record)))
        case Restore(target=target):
            _target(state, target)
            state = replace(state, yanked=tuple(mark for mark in state.yanked if mark.version != target))
        case Expire(targets=targets):
            detail = ", ".join(f"v{number}" for number in targets)
            fresh = [number for number in targets if not state.is_expired(_target(state, number).number)]
            state = replace(state, expired=(*state.expired, *(_mark(number, record) for number in fresh)))
        case Unknown():
            pass
    event = Event(record.seq, record.at, record.by, record.message, record.body.kind, target, detail)
    return replace(state, current=_current(state), history=(*state.history, event))


def _published(state: DatasetState, record: Record, body: Publish) -> DatasetState:
    version = Version(
        dataset=state.dataset,
        number=record.seq,
        at=record.at,
        by=record.by,
        message=record.message,
        **{item.name: getattr(body, item.name) for item in fields(body)},
    )
    drops = (*state.drops, KnownDrop(body.source, record.seq)) if body.source else state.drops
    pointers = (*state.pointers, Pointer(record.seq, record.at, record.seq))
    return replace(state, versions=(*state.versions, version), drops=drops, pointers=pointers)


def _current(state: DatasetState) -> Version | None:
    """What the newest publish or set_current says whose version is neither yanked nor expired."""
    unusable = {mark.version for mark in (*state.yanked, *state.expired)}
    number = next((one.version for one in reversed(state.pointers) if one.version not in unusable), None)
    return None if number is None else state.number(number)


def _mark(number: int, record: Record) -> Mark:
    return Mark(number, record.at, record.by, record.message)


def _target(state: DatasetState, number: int) -> Version:
    found = state.number(number)
    if found is None:
        raise CorruptVersionError(
            f"the log record {log_key(state.dataset, state.seq)} names version {number}, which does not exist"
        )
    return found
