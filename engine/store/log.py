"""The log of one dataset: reading it as it grows, and adding one record to its end. Knows nothing of files.

An instance's view only ever grows. A record that cannot be read is an error, never the end of the log.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from engine.errors import CorruptVersionError, PublishConflictError, StoreError
from engine.store.keys import check_dataset_name, log_key, log_prefix, seq_of
from engine.store.protocol import Store
from engine.store.records import Body, Record, decode_record, encode_record
from engine.store.state import DatasetState, apply

PATIENCE_S = 60.0  # how long one writer goes on trying against others, from when one of them was first
LONGEST_PAUSE_S = 0.25
OUTAGE_S = 60.0  # how much longer a state answers while the store cannot be reached
WAIT_S = 1.0  # how long a request that has such a state waits for somebody else's refresh
RETRY_S = 5.0  # how long after a refresh failed nobody who has such a state tries it again
READ_AHEAD = 16  # records that are read at once when many are new, each of them a request to a bucket

#: What a dataset without a log offers, if anything: see ``unlogged.py``.
Fallback = Callable[[str], DatasetState | None]


class ContentionError(PublishConflictError):
    """Others were first again and again; nothing is wrong with what was to be written."""


class DatasetLog:
    """The log of one dataset, and the state that it adds up to. May be used by many threads."""

    def __init__(self, store: Store, dataset: str, *, fallback: Fallback | None = None) -> None:
        self.dataset = check_dataset_name(dataset)
        self._store = store
        self._fallback = fallback
        self._state = DatasetState(dataset)
        self._checked = False
        self._refreshed_at = float("-inf")
        self._failed_at = float("-inf")
        self._lock = threading.Lock()

    @property
    def state(self) -> DatasetState:
        """The state as of the last refresh; empty before the first."""
        return self._state

    @property
    def refreshed_at(self) -> float:
        """When the last refresh began, by ``time.monotonic``; minus infinity before the first."""
        return self._refreshed_at

    def refresh(self) -> DatasetState:
        """Read what was added since the last time: one request when nothing was.

        Raises
        ------
        CorruptVersionError
            A record is missing or damaged; ``state`` stays what it was.
        StoreError
        """
        with self._lock:
            return self._refresh()

    def recent(self, max_age_s: float) -> DatasetState:
        """The state as of at most ``max_age_s`` ago; read anew when it is older. Raises what ``refresh`` raises.

        When the store cannot be reached, or does not answer soon, a state that was read not long ago still answers.
        """
        age_s = time.monotonic() - self._refreshed_at
        if age_s <= max_age_s:
            return self._state
        may_be_stale = age_s <= max_age_s + OUTAGE_S
        if may_be_stale and time.monotonic() - self._failed_at <= min(RETRY_S, max_age_s):
            return self._state
        # One refresh of a store that does not answer takes minutes, and all requests would stand in line for it.
        if not self._lock.acquire(timeout=WAIT_S if may_be_stale else -1):
            return self._state
        try:
            age_s = time.monotonic() - self._refreshed_at
            if age_s <= max_age_s:  # while this thread waited, another one read it
                return self._state
            may_be_stale = age_s <= max_age_s + OUTAGE_S
            if may_be_stale and time.monotonic() - self._failed_at <= min(RETRY_S, max_age_s):
                return self._state
            try:
                return self._refresh()
            except CorruptVersionError:
                raise
            except StoreError:
                self._failed_at = time.monotonic()
                if may_be_stale:
                    return self._state
                raise
        finally:
            self._lock.release()

    def _refresh(self) -> DatasetState:
        started = time.monotonic()
        # Listing before reading: what appears meanwhile can only make the log longer than the list.
        last = None if self._checked else self._last_listed()
        for data in self._records_from(self._logged() + 1, last or 0):
            base = self._state if self._logged() else DatasetState(self.dataset)
            self._state = apply(base, decode_record(data, self.dataset, base.seq + 1))
        if last is not None:
            if self._logged() < last:
                raise CorruptVersionError(
                    f"the log record {log_key(self.dataset, self._logged() + 1)} is missing, and later ones exist"
                )
            self._checked = True
        if not self._logged() and self._fallback is not None:
            self._state = self._fallback(self.dataset) or DatasetState(self.dataset)
        self._refreshed_at = started
        return self._state

    def _records_from(self, seq: int, last: int) -> Iterator[bytes]:
        """The records from ``seq`` on, up to the first that is not there; up to ``last`` many are read at once."""
        if self._store.is_remote and last > seq:
            keys = [log_key(self.dataset, number) for number in range(seq, last + 1)]
            with ThreadPoolExecutor(READ_AHEAD) as pool:
                for start in range(0, len(keys), 4 * READ_AHEAD):
                    for data in pool.map(self._store.read, keys[start : start + 4 * READ_AHEAD]):
                        if data is None:
                            return
                        yield data
                        seq += 1
        while (data := self._store.read(log_key(self.dataset, seq))) is not None:
            yield data
            seq += 1

    def append(self, write: Callable[[DatasetState], Body | None], *, by: str, message: str = "") -> Record | None:
        """Add one record to the end of the log, however many others are writing.

        Parameters
        ----------
        write
            Given the newest state, says what to record, or None when there is nothing left to do. It is asked again
            each time that another writer was first.

        Returns
        -------
        Record or None
            What was recorded, durably; None when ``write`` gave None.

        Raises
        ------
        ContentionError
            Others were first again and again.
        StoreError
            The store failed, twice; whether the record is in the log, the next refresh will say.
        """
        nonce = secrets.token_hex(16)
        deadline = None  # counts from the first lost race: what ``write`` takes for a large upload is no contention
        pause_s = 0.002
        refused: Record | None = None
        while True:
            state = self.refresh()
            if refused is not None and state.seq >= refused.seq and self._is_ours(refused):
                return refused  # what was in its way was its own first try, which had not arrived yet
            body = write(state)
            if body is None:
                return None
            if state.seq and self._store.stat(log_key(self.dataset, state.seq)) is None:
                raise CorruptVersionError(f"the log record {log_key(self.dataset, state.seq)} has disappeared")
            if self._store.stat(log_key(self.dataset, state.seq + 2)) is not None:
                # Either others wrote two records since, or one was lost: filling its place would rewrite history.
                if self._store.stat(log_key(self.dataset, state.seq + 1)) is not None:
                    continue
                raise CorruptVersionError(
                    f"the log record {log_key(self.dataset, state.seq + 1)} is missing, and later ones exist"
                )
            record = Record(state.seq + 1, _now(), clean_text(by), clean_text(message), nonce, body)
            if self._put(record):
                self._advance(record)
                return record
            refused = record
            deadline = deadline or time.monotonic() + PATIENCE_S
            if time.monotonic() > deadline:
                raise ContentionError(f"others keep writing to {self.dataset}; try again in a moment")
            time.sleep(random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _advance(self, record: Record) -> None:
        """Take in a record that is known to be stored. Reading it back could fail, and it counts all the same."""
        with self._lock:
            if self._logged() == record.seq - 1:  # another thread may have read it already
                self._state = apply(self._state if self._logged() else DatasetState(self.dataset), record)

    def _put(self, record: Record) -> bool:
        key, data = log_key(self.dataset, record.seq), encode_record(record)
        try:
            if self._store.put_if_absent(key, data):
                return True
        except StoreError:
            # The record may be there all the same: its answer got lost, or only the last step failed. Seeing it is not
            # enough, for it may not be durable yet; asked again, the store makes sure of it, or fails for good.
            if self._store.put_if_absent(key, data):
                return True
        return self._is_ours(record)  # a client that tried twice is told that its own first try was in the way

    def _is_ours(self, record: Record) -> bool:
        data = self._store.read(log_key(self.dataset, record.seq))
        return data is not None and decode_record(data, self.dataset, record.seq).nonce == record.nonce

    def _logged(self) -> int:
        return self._state.seq

    def _last_listed(self) -> int:
        return max((seq_of(key) or 0 for key in self._store.list(log_prefix(self.dataset))), default=0)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clean_text(text: str) -> str:
    """Text that UTF-8 can carry: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
