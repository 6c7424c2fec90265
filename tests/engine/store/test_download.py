"""A download has every byte, asks for none twice, and goes on where another stopped."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import CorruptVersionError, StoreError
from engine.store.download import DownloadStoppedError, Journal, download
from tests.engine.store.cache_support import BLOCK, Objects, content


@pytest.fixture
def objects() -> Objects:
    return Objects()


@pytest.fixture
def part(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "part", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def journal(tmp_path: Path, size: int) -> Journal:
    return Journal(tmp_path / "part.jsonl", size, BLOCK)


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 7 * BLOCK + 3])
@pytest.mark.parametrize("threads", [1, 4])
def test_all_bytes_arrive_once(objects: Objects, part: int, tmp_path: Path, size: int, threads: int) -> None:
    entry = objects.put(1, size)
    counts: list[int] = []
    download(objects.read_range, entry.key, part, journal(tmp_path, size), threads=threads, received=counts.append)
    assert (tmp_path / "part").read_bytes() == content(1, size)
    assert sum(counts) == objects.bytes_asked == size
    assert len(objects.asked) == len(set(objects.asked)) == -(-size // BLOCK)


def test_several_ranges_are_under_way_at_once_but_no_more_than_there_are_slots(
    objects: Objects, part: int, tmp_path: Path
) -> None:
    entry = objects.put(1, 12 * BLOCK)
    both = threading.Barrier(2, timeout=10)
    at_once: list[int] = []
    running: set[int] = set()

    def before(key: str, start: int, length: int) -> None:
        running.add(start)
        at_once.append(len(running))
        both.wait()  # nothing would move if they came one by one
        running.discard(start)

    objects.before = before
    download(
        objects.read_range, entry.key, part, journal(tmp_path, entry.size), threads=4, slots=threading.Semaphore(2)
    )
    assert max(at_once) == 2
    assert (tmp_path / "part").read_bytes() == objects.content[entry.key]


def test_a_failed_download_is_gone_on_with(objects: Objects, part: int, tmp_path: Path) -> None:
    entry = objects.put(1, 8 * BLOCK)
    book = journal(tmp_path, entry.size)

    def before(key: str, start: int, length: int) -> None:
        if start == 3 * BLOCK:
            raise StoreError("gone")

    objects.before = before
    with pytest.raises(StoreError, match="gone"):
        download(objects.read_range, entry.key, part, book, threads=1)
    assert book.read(entry.size) == {0, 1, 2}
    objects.before = lambda key, start, length: None
    objects.asked.clear()
    download(objects.read_range, entry.key, part, book, finished=book.read(entry.size), threads=3)
    assert objects.bytes_asked == 5 * BLOCK
    assert (tmp_path / "part").read_bytes() == objects.content[entry.key]
    assert book.read(entry.size) == set(range(8))


def test_the_first_error_ends_all_threads(objects: Objects, part: int, tmp_path: Path) -> None:
    entry = objects.put(1, 40 * BLOCK)
    objects.down = True
    with pytest.raises(StoreError, match="cannot be reached"):
        download(objects.read_range, entry.key, part, journal(tmp_path, entry.size), threads=4)
    assert len(objects.asked) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name == "blob-download"]


def test_a_missing_object_and_too_few_bytes(objects: Objects, part: int, tmp_path: Path) -> None:
    book = journal(tmp_path, 10)
    with pytest.raises(CorruptVersionError, match="k is missing"):
        download(objects.read_range, "k", part, book)
    objects.content["k"] = b"12345"
    with pytest.raises(StoreError, match="gave 5 bytes of k where 10 were asked for"):
        download(objects.read_range, "k", part, book)
    assert book.read(10) == set()


def test_a_download_that_nobody_wants_any_more(objects: Objects, part: int, tmp_path: Path) -> None:
    entry = objects.put(1, 8 * BLOCK)
    stop = threading.Event()
    objects.before = lambda key, start, length: stop.set() if start == BLOCK else None
    with pytest.raises(DownloadStoppedError):
        download(objects.read_range, entry.key, part, journal(tmp_path, entry.size), threads=1, stop=stop)
    assert len(objects.asked) == 2


@given(data=st.data())
def test_a_journal_believes_no_more_than_it_was_told(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    book = journal(folder, 20 * BLOCK)
    finished = data.draw(st.sets(st.integers(0, 19)))
    os.close(book.start(finished))
    whole = book.path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    present = data.draw(st.integers(0, 20))
    book.path.write_bytes(whole[:cut])
    assert book.read(present * BLOCK) <= {number for number in finished if number < present}
    book.path.write_bytes(whole)
    assert book.read(20 * BLOCK) == finished


@pytest.mark.parametrize(
    "text",
    ["", "[]\n1\n", "\xff\n", '{"size":1,"block_bytes":16384}\n0\n', "null\n{}\n", "{head}\ntrue\n1.0\n-1\n99\n"],
)
def test_a_journal_of_something_else(tmp_path: Path, text: str) -> None:
    book = journal(tmp_path, 4 * BLOCK)
    os.close(book.start(set()))
    head = book.path.read_text().strip()
    book.path.write_bytes(text.replace("{head}", head).encode("latin-1"))
    assert book.read(4 * BLOCK) == set()


def test_a_journal_fits_its_share(tmp_path: Path) -> None:
    for size in (1, 1 << 20, 128 << 20, 100 << 30):
        assert Journal(tmp_path / "j", size).most_bytes <= 256 + size // 1024
