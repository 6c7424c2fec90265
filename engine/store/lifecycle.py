"""Tags, yanking and expiring: what is decided about versions after they were published. Touches no file.

Each check is made against the newest state of the log, at the moment of writing: of two who contradict each other, the
one whose record comes first is right, and the other is told so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime

from engine.errors import InvalidNameError, PublishConflictError, StoreError, VersionNotFoundError
from engine.store.catalogue import DatasetLogs
from engine.store.protocol import Store
from engine.store.records import Body, Expire, Restore, Tag, Yank
from engine.store.state import DatasetState, Version, is_tag_name

KEEP = 3  # of the newest versions that can be served none may expire, unless somebody says otherwise


class Lifecycle:
    """Writes what becomes of versions. May be used by many threads; the log decides between them."""

    def __init__(self, store: Store, logs: DatasetLogs, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._logs = logs
        self._clock = clock

    def tag(
        self, dataset: str, name: str, spec: str | int, *, move: bool = False, by: str = "", message: str = ""
    ) -> Version:
        """Call a version by a name of its own; nothing is written when it is called so already.

        Raises
        ------
        InvalidNameError
            Not a name that a tag may have.
        PublishConflictError
            Another version has that tag, and ``move`` is not set.
        VersionNotFoundError, StoreError
        """
        if not is_tag_name(name):
            raise InvalidNameError(
                f"{name!r} is not a tag: use 1 to 63 of the characters a-z, A-Z, 0-9, ., _ and -, beginning with a "
                "letter, and nothing that reads as a version (v7), a content id or latest"
            )
        target = self._resolve(dataset, spec)

        def write(state: DatasetState) -> Body | None:
            version = state.resolve(target.number)
            tagged = dict(state.tags).get(name)
            if tagged == version.number:
                return None
            if tagged is not None and not move:
                raise PublishConflictError(
                    f"the tag {name} of {dataset} is on v{tagged}; moving it to {version.name} has to be asked for"
                )
            return Tag(name, version.number)

        self._logs.of(dataset).append(write, by=by, message=message)
        return target

    def untag(self, dataset: str, name: str, *, by: str = "", message: str = "") -> int | None:
        """Take a tag away. Returns the number of the version that had it; None when none had."""
        self._require_writable()
        found: int | None = None

        def write(state: DatasetState) -> Body | None:
            nonlocal found
            found = dict(state.tags).get(name)
            return None if found is None else Tag(name, None)

        self._logs.of(dataset).append(write, by=by, message=message)
        return found

    def yank(self, dataset: str, spec: str | int, *, by: str = "", message: str = "") -> Version:
        """Say that a version is not to be used. Who names it still gets it; when it was current, the one before is.

        Raises
        ------
        VersionNotFoundError, StoreError
        """
        return self._mark(dataset, spec, Yank, by, message)

    def restore(self, dataset: str, spec: str | int, *, by: str = "", message: str = "") -> Version:
        """Take a yank back. An expired version cannot come back: its data has to be published again.

        Raises
        ------
        VersionNotFoundError, StoreError
        """
        return self._mark(dataset, spec, Restore, by, message)

    def _mark(self, dataset: str, spec: str | int, mark: type[Yank] | type[Restore], by: str, message: str) -> Version:
        """Record a mark on a version that does not have it."""
        target = self._resolve(dataset, spec)

        def write(state: DatasetState) -> Body | None:
            number = state.resolve(target.number).number
            return None if state.is_yanked(number) == (mark is Yank) else mark(number)

        self._logs.of(dataset).append(write, by=by, message=message)
        return target

    def expire(
        self,
        dataset: str,
        specs: Sequence[str | int] | None = None,
        *,
        older_than_s: float | None = None,
        keep: int = KEEP,
        dry_run: bool = False,
        by: str = "",
        message: str = "",
    ) -> tuple[Version, ...]:
        """Serve versions no longer; their files may be deleted after a time of grace.

        The current version, tagged ones and the newest ``keep`` of those that can be served stay.

        Parameters
        ----------
        specs
            Which versions: all of them, or none and an error. None expires whatever may expire.
        older_than_s
            With no ``specs``: only versions that were published longer ago.
        dry_run
            Only say which ones.

        Returns
        -------
        tuple of Version
            Those that expired now (or would); what had expired before is not among them.

        Raises
        ------
        PublishConflictError
            One of ``specs`` has to stay; says which and why.
        VersionNotFoundError, StoreError
        """
        if keep < 0:
            raise ValueError(f"keep is a number from 0 on, not {keep}")
        state = self._logs.of(dataset).refresh()
        named = None if specs is None else tuple(dict.fromkeys(_number(state, spec) for spec in specs))
        chosen: tuple[Version, ...] = ()

        def write(state: DatasetState) -> Body | None:
            nonlocal chosen
            if named is None:
                chosen = self._may_expire(state, older_than_s, keep)
            else:
                chosen = tuple(_found(state, number) for number in named if not state.is_expired(number))
                _refuse(state, chosen, keep)
            return Expire(tuple(version.number for version in chosen)) if chosen else None

        if dry_run:
            write(state)
        else:
            self._require_writable()
            self._logs.of(dataset).append(write, by=by, message=message)
        return chosen

    def _may_expire(self, state: DatasetState, older_than_s: float | None, keep: int) -> tuple[Version, ...]:
        before = float("inf") if older_than_s is None else self._clock() - older_than_s
        return tuple(
            version
            for version in state.live
            if why_kept(state, version, keep) is None and seconds_of(version.at) < before
        )

    def _resolve(self, dataset: str, spec: str | int) -> Version:
        """What the caller means, settled once: whatever is published meanwhile, nothing else is to be marked."""
        self._require_writable()
        return self._logs.of(dataset).refresh().resolve(spec)

    def _require_writable(self) -> None:
        if self._store.read_only:
            raise StoreError("the store is read-only: it can be served, and nothing can be changed in it")


def why_kept(state: DatasetState, version: Version, keep: int = KEEP) -> str | None:
    """Why a version may not expire, as the end of a sentence; None when it may."""
    if state.current == version:
        return "is what readers get"
    if tags := state.tags_of(version.number):
        return f"is tagged {', '.join(tags)}"
    if keep and version in state.live[-keep:]:
        return "is the newest one" if keep == 1 else f"is one of the newest {keep}"
    return None


def check_usable(state: DatasetState, version: Version) -> None:
    """Refuse what readers must not be given unasked.

    Raises
    ------
    VersionNotFoundError
        The version has expired.
    PublishConflictError
        It is yanked.
    """
    if not version.number:
        return  # a store without a log marks nothing
    state.resolve(version.number)
    mark = next((mark for mark in state.yanked if mark.version == version.number), None)
    if mark is not None:
        why = f" ({mark.message})" if mark.message else ""
        raise PublishConflictError(
            f"{state.dataset} {version.name} is yanked{why}; restore it first if readers are to get it"
        )


def _number(state: DatasetState, spec: str | int) -> int:
    """The number of the version that is meant, also when it has expired already."""
    text = str(spec).strip().lower().removeprefix("v")
    if text.isascii() and text.isdigit() and len(text) < 8 and state.is_expired(int(text)):
        return int(text)
    return state.resolve(spec).number


def _found(state: DatasetState, number: int) -> Version:
    version = state.number(number)
    if version is None:
        raise VersionNotFoundError(f"{state.dataset} has no version v{number}")
    return version


def _refuse(state: DatasetState, versions: Sequence[Version], keep: int) -> None:
    reasons = [f"{version.name} {why}" for version in versions if (why := why_kept(state, version, keep))]
    if reasons:
        raise PublishConflictError(f"{state.dataset} keeps {'; '.join(reasons)}: nothing has expired")


def seconds_of(at: str) -> float:
    """A time of the log in seconds since 1970; for text that is none, a time that nothing is older than."""
    try:
        return datetime.fromisoformat(at).timestamp()
    except ValueError:
        return float("inf")
