"""Reading a log as it grows, and writing to its end against others."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from engine.errors import CorruptVersionError, InvalidNameError, StoreError
from engine.store import DatasetLog, LocalStore
from engine.store import log as log_module
from engine.store.keys import log_key
from engine.store.records import Body, Rejection, Source, encode_record
from engine.store.state import DatasetState
from tests.engine.store.support import FaultyStore, Witness


def note(number: int) -> Rejection:
    return Rejection(Source("d/results.csv", f"etag{number}", number), f"reason {number}")


def write(log: DatasetLog, count: int = 1) -> None:
    for _ in range(count):
        log.append(lambda state: note(state.seq + 1), by="me")


def test_an_empty_log(store: LocalStore, root: Path) -> None:
    assert DatasetLog(store, "d").refresh() == DatasetState("d")
    assert not root.exists(), "reading makes nothing"
    with pytest.raises(InvalidNameError):
        DatasetLog(store, "D")


def test_others_see_what_was_added(store: LocalStore) -> None:
    writer, reader = DatasetLog(store, "d"), DatasetLog(store, "d")
    write(writer, 3)
    assert (writer.state.seq, reader.state.seq) == (3, 0)
    assert reader.refresh() == writer.state
    assert [reject.reason for reject in reader.state.rejects] == ["reason 1", "reason 2", "reason 3"]


def test_a_refresh_without_news_is_one_request(store: LocalStore) -> None:
    write(DatasetLog(store, "d"), 3)
    counting = FaultyStore(store)
    log = DatasetLog(counting, "d")
    log.refresh()
    counting.arm(None)
    log.refresh()
    assert counting.step == 1


def test_nothing_to_write(store: LocalStore) -> None:
    assert DatasetLog(store, "d").append(lambda state: None, by="me") is None
    assert store.list("d/_bt/log/") == ()


def test_text_that_is_not_unicode(store: LocalStore) -> None:
    log = DatasetLog(store, "d")
    log.append(lambda state: note(1), by="m\udce9", message="half \ud800 pair")
    assert DatasetLog(store, "d").refresh().seq == 1


def test_a_gap_is_an_error_and_not_the_end(store: LocalStore) -> None:
    write(DatasetLog(store, "d"), 4)
    store.path(log_key("d", 2)).unlink()
    log = DatasetLog(store, "d")
    for _ in range(2):
        with pytest.raises(CorruptVersionError, match=r"d/_bt/log/0000000002\.json is missing"):
            log.refresh()


@pytest.mark.parametrize("damage", [b"", b"{}\n", b'{"format":1'], ids=["empty", "no fields", "cut"])
def test_a_damaged_record_stops_there(store: LocalStore, damage: bytes) -> None:
    log, late = DatasetLog(store, "d"), DatasetLog(store, "d")
    write(log, 2)
    late.refresh()
    write(log, 2)
    path = store.path(log_key("d", 3))
    path.chmod(0o644)
    path.write_bytes(damage)
    with pytest.raises(CorruptVersionError, match=r"d/_bt/log/0000000003\.json is corrupt"):
        DatasetLog(store, "d").refresh()
    for _ in range(2):
        with pytest.raises(CorruptVersionError):
            late.refresh()
        assert late.state.seq == 2, "what was known stays known"
    assert log.refresh().seq == 4, "an instance never goes back"


def test_a_lost_end_is_not_written_over(store: LocalStore) -> None:
    log = DatasetLog(store, "d")
    write(log, 3)
    store.path(log_key("d", 3)).unlink()
    assert log.refresh().seq == 3
    with pytest.raises(CorruptVersionError, match=r"0000000003\.json has disappeared"):
        write(log)


def test_many_writers_all_get_in(store: LocalStore, root: Path) -> None:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            write(DatasetLog(store, "d"), 5)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert DatasetLog(store, "d").refresh().seq == 30
    Witness(root).check()


def test_a_lost_answer_is_settled_by_the_nonce(store: LocalStore) -> None:
    """The put took effect, and its answer was an error; then the same with the answer "exists already"."""
    faulty = FaultyStore(store)
    log = DatasetLog(faulty, "d")
    log.refresh()
    faulty.arm((3, "fail", "after"))  # 1 is the read of the refresh
    write(log)
    assert log.state.seq == 1 and faulty.step > 2

    class TwiceTried(FaultyStore):
        def put_if_absent(self, key: str, content: bytes | Path) -> bool:
            super().put_if_absent(key, content)
            return super().put_if_absent(key, content)

    log = DatasetLog(TwiceTried(store), "d")
    write(log)
    assert log.state.seq == 2


def test_a_put_that_failed_is_an_error(store: LocalStore) -> None:
    class Full(FaultyStore):
        def put_if_absent(self, key: str, content: bytes | Path) -> bool:
            raise StoreError("the disk is full")

    log = DatasetLog(Full(store), "d")
    with pytest.raises(StoreError, match="the disk is full"):
        write(log)
    assert log.refresh().seq == 0
    faulty = FaultyStore(store)
    log = DatasetLog(faulty, "d")
    log.refresh()
    faulty.arm((3, "fail", "before"))
    write(log)
    assert log.state.seq == 1, "once is nothing: it is tried again"


def test_a_record_that_is_not_durable_is_not_acknowledged(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is there and the folder cannot be synced: to be seen is not enough."""
    write(DatasetLog(store, "d"))
    log = DatasetLog(store, "d")
    real, synced = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal synced
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(5, "Input/output error")
        real(descriptor)
        synced += 1

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(StoreError, match="Input/output error"):
            write(log)
    assert synced == 2 and log.refresh().seq == 2, "it is there, and nobody was told so"


def test_losing_to_another_asks_again(store: LocalStore) -> None:
    log, other = DatasetLog(store, "d"), DatasetLog(store, "d")
    asked: list[int] = []

    def body(state: DatasetState) -> Body:
        asked.append(state.seq)
        if len(asked) == 1:
            write(other, 2)
        return note(100 + state.seq)

    record = log.append(body, by="me")
    assert record is not None and record.seq == 3
    assert asked == [0, 2]
    assert encode_record(record) == store.read(log_key("d", 3))


class LateStore(FaultyStore):
    """The first record that is put arrives only after the writer was refused, and has looked whether it is there."""

    late: tuple[str, bytes | Path] | None = None
    is_over = False

    def put_if_absent(self, key: str, content: bytes | Path) -> bool:
        if "/log/" in key and self.late is None and not self.is_over:
            self.late = key, content
            return False
        return super().put_if_absent(key, content)

    def read(self, key: str) -> bytes | None:
        found = super().read(key)
        if self.late is not None and key == self.late[0]:
            late, self.late, self.is_over = self.late, None, True
            assert super().put_if_absent(*late)
        return found


def test_a_record_that_arrives_after_it_was_refused(store: LocalStore) -> None:
    """As when a first try is on its way still, and the service says 409 to the second."""
    log = DatasetLog(LateStore(store), "d")
    record = log.append(lambda state: note(1) if state.seq == 0 else None, by="me")
    assert record is not None and record.seq == 1
    assert DatasetLog(store, "d").refresh() == log.state


def test_long_work_before_a_lost_race_is_no_contention(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "PATIENCE_S", 0.05)
    other = DatasetLog(store, "d")

    def slow(state: DatasetState) -> Body:
        if state.seq == 0:
            time.sleep(0.1)
            write(other)
        return note(state.seq + 1)

    record = DatasetLog(store, "d").append(slow, by="me")
    assert record is not None and record.seq == 2


class StuckStore(FaultyStore):
    """Does not answer until it is told to, and then fails."""

    def __init__(self, inner: LocalStore) -> None:
        super().__init__(inner)
        self.is_stuck = False
        self.asked = 0
        self.go = threading.Event()

    def read(self, key: str) -> bytes | None:
        if not self.is_stuck:
            return super().read(key)
        self.asked += 1
        self.go.wait()
        raise StoreError("it does not answer")


def test_readers_do_not_stand_in_line_for_a_store_that_does_not_answer(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_module, "WAIT_S", 0.05)
    write(DatasetLog(store, "d"))
    stuck = StuckStore(store)
    log = DatasetLog(stuck, "d")
    state = log.refresh()
    stuck.is_stuck = True
    first = threading.Thread(target=log.recent, args=(0.0,))
    first.start()
    while not stuck.asked:
        time.sleep(0.001)
    assert log.recent(0.0) is state, "while another one waits for the answer"
    stuck.go.set()
    first.join()
    time.sleep(0.02)
    assert log.recent(0.01) is state and stuck.asked == 2
    time.sleep(0.002)
    assert log.recent(0.01) is state and stuck.asked == 2, "it has just failed"
