"""The raw client against odd servers: whatever way an answer is cut, it is whole or an error."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.load import Load, _requests, write_requests
from benchmarks.wire import Connection, Parser, WireError, request_bytes

CHUNKED = (
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nETag: "x"\r\n\r\n'
    b"5;ext=1\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\nTrailer: y\r\n\r\n"
)
SIZED = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
EMPTY = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n"
UNSIZED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"
REQUEST = request_bytes("GET", "/x")


def parse(blocks: list[bytes]) -> Parser:
    parser = Parser(keep=True)
    ends = [parser.feed(memoryview(block)) for block in blocks]
    assert ends[:-1] == [False] * (len(blocks) - 1)
    assert ends[-1]
    return parser


@contextmanager
def serving(answer: Callable[[int], bytes], *, part: int = 1 << 20) -> Iterator[int]:
    """A server that sends ``answer(number of the request)`` in parts and then closes when told by an empty answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        numbers = itertools.count()

        def serve(connection: socket.socket) -> None:
            with connection:
                while connection.recv(65_536):
                    words = answer(next(numbers))
                    for at in range(0, len(words), part):
                        connection.sendall(words[at : at + part])
                    if b"close" in words or not words:
                        return

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_a_chunked_answer_is_read_however_it_is_cut(size: int) -> None:
    parser = parse([CHUNKED[at : at + size] for at in range(0, len(CHUNKED), size)])
    answer = parser.answer
    assert bytes(answer.kept or b"") == b"hello 0123456789"
    assert (answer.status, answer.size_bytes, answer.is_chunked, answer.keeps_alive) == (200, 16, True, True)
    assert answer.header("etag") == '"x"'


@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_an_answer_with_a_length_or_without_a_body(size: int) -> None:
    sized = parse([SIZED[at : at + size] for at in range(0, len(SIZED), size)])
    assert bytes(sized.answer.kept or b"") == b"hello"
    empty = parse([EMPTY[at : at + size] for at in range(0, len(EMPTY), size)])
    assert (empty.answer.status, empty.answer.size_bytes, empty.has_body) == (304, 0, False)


@pytest.mark.parametrize(
    "words, error",
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "no HTTP/1 answer"),
        (SIZED + b"more", "4 bytes more"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n", "no length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "no length"),
        (CHUNKED.replace(b"hello\r\n", b"helloo\r\n"), "after a chunk"),
        (CHUNKED.replace(b"5;ext", b"x;ext"), "no length"),
        (b"x" * 70_000, "no end of the head"),
    ],
    ids=["no-http", "more", "words", "negative", "long-chunk", "no-size", "no-head"],
)
def test_what_is_no_answer_is_an_error(words: bytes, error: str) -> None:
    with pytest.raises(WireError, match=error):
        Parser(keep=False).feed(memoryview(words))


@pytest.mark.parametrize("at", [4, 30, len(CHUNKED) - 3], ids=["head", "chunk", "trailer"])
def test_an_early_end_is_an_error(at: int) -> None:
    parser = Parser(keep=False)
    assert parser.feed(memoryview(CHUNKED[:at])) is False
    with pytest.raises(WireError, match="closed in the"):
        parser.close()


def test_a_connection_is_used_again_and_reopened_when_it_was_closed() -> None:
    answers = [CHUNKED, SIZED, UNSIZED, EMPTY]
    with serving(lambda number: answers[number], part=9) as port, Connection(port, 10) as connection:
        timed = [connection.ask(REQUEST) for _ in answers]
    assert [bytes(one.answer.kept or b"") for one in timed] == [b"hello 0123456789", b"hello", b"hello", b""]
    assert all(0 < one.head_s <= one.first_s <= one.total_s for one in timed)


def test_a_server_that_leaves_is_an_error() -> None:
    with (
        serving(lambda _: b"") as port,
        Connection(port, 10) as connection,
        pytest.raises(WireError, match="closed in the head"),
    ):
        connection.ask(REQUEST)


def test_a_path_must_be_one() -> None:
    for path in ("x", "/a b", "/ü", "/a\r\nX: y"):
        with pytest.raises(ValueError, match="percent-encode"):
            request_bytes("GET", path)
    body = request_bytes("POST", "/x", {"A": "b"}, b"{}")
    assert body.endswith(b"A: b\r\nContent-Length: 2\r\n\r\n{}")


def test_several_clients_are_counted() -> None:
    with serving(lambda number: UNSIZED if number % 3 == 2 else CHUNKED) as port:
        found = Load(port, [REQUEST, REQUEST], clients=4, seconds=0.1, patience_s=10).run()
    assert found["cut"] == found["refused"] == 0
    assert found["answered"] >= 4
    assert 5 * found["answered"] <= found["size_bytes"] <= 16 * found["answered"]
    assert 0 < found["elapsed_s"] < 10
    assert len(found["waited_s"]) == 3


def test_clients_do_not_wait_for_ever_and_see_refusals() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        found = Load(silent.getsockname()[1], [REQUEST], clients=2, seconds=0.05, patience_s=0.2).run()
    assert (found["answered"], found["cut"], found["waited_s"]) == (0, 2, [])
    busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    with serving(lambda _: busy) as port:
        found = Load(port, [REQUEST], clients=1, seconds=0.01, patience_s=5).run()
    assert found["answered"] == 0 < found["refused"]
    with serving(lambda _: busy.replace(b"503", b"500")) as port, pytest.raises(WireError, match="answered with 500"):
        Load(port, [REQUEST], clients=1, seconds=0.01, patience_s=5).run()


def test_requests_survive_their_file(tmp_path: Path) -> None:
    requests = [REQUEST, request_bytes("POST", "/y", None, b"\n\x00\n"), REQUEST]
    write_requests(tmp_path / "requests", requests)
    assert _requests(tmp_path / "requests") == requests
