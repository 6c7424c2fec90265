"""What a request's version means."""

from __future__ import annotations

import pytest

from engine.errors import VersionNotFoundError
from engine.store.records import (
    Body,
    Expire,
    FileEntry,
    Original,
    Publish,
    Record,
    Rejection,
    Restore,
    SchemaDiff,
    SetCurrent,
    Source,
    Tag,
    Yank,
    content_id_of,
)
from engine.store.state import DatasetState, apply, is_pin, is_tag_name

FIRST, SECOND = "12345678" + "ab" * 28, "12345678" + "cd" * 28


def publish(sha: str) -> Publish:
    file = FileEntry(f"d/_bt/data/{sha}.parquet", 10, sha, None, 5, 1)
    return Publish((file,), (), "", SchemaDiff(), Original(sha, 10, "x", "parquet"))


def fold(*bodies: Body) -> DatasetState:
    state = DatasetState("d")
    for seq, body in enumerate(bodies, start=1):
        state = apply(state, Record(seq, f"2026-11-25T00:00:0{seq % 10}.000Z", "me", "", "n", body))
    return state


def test_numbers_names_and_content() -> None:
    state = fold(publish(FIRST), publish(SECOND), publish(FIRST))
    assert [state.resolve(spec).number for spec in (None, "latest", 2, "2", "v2", " V2 ", "002")] == [3, 3, *[2] * 5]
    assert state.resolve(SECOND).number == 2
    assert state.resolve(SECOND[:12]).number == 2
    assert state.resolve(FIRST.upper()[:12]).number == 1, "a pin means the oldest version with that content"
    assert (state.resolve(3).rows, state.resolve(3).size_bytes, state.resolve(3).name) == (5, 10, "v3")


def test_a_pin_of_eight_decimal_digits_is_content_even_when_numbers_grow() -> None:
    state = fold(publish(FIRST))
    assert state.resolve("12345678").number == 1
    with pytest.raises(VersionNotFoundError):
        state.resolve("v12345678")


@pytest.mark.parametrize("spec", [0, 4, -1, "v0", "0", "v4", "", "abc", "1234567", "ffffffff", "vv1", "v", "1.5", "٣"])
def test_unknown_versions_say_which_exist(spec: str | int) -> None:
    with pytest.raises(VersionNotFoundError, match="it has v3, v2, v1") as caught:
        fold(publish(FIRST), publish(SECOND), publish(FIRST)).resolve(spec)
    assert caught.value.did_you_mean == ("v3", "v2", "v1")


def test_an_ambiguous_prefix_is_an_error() -> None:
    with pytest.raises(VersionNotFoundError, match="give more digits"):
        fold(publish(FIRST), publish(SECOND)).resolve("12345678")


def test_many_versions_are_not_all_listed() -> None:
    state = fold(*[publish(f"{number:064x}") for number in range(30)])
    with pytest.raises(VersionNotFoundError, match="v21 and 20 older ones"):
        state.resolve("v99")


def test_nothing_published_says_why() -> None:
    with pytest.raises(VersionNotFoundError, match="no version yet$"):
        fold().resolve(None)
    state = fold(Rejection(Source("d/results.csv", "e", 0), "results.csv is empty"))
    for spec in ("latest", "v1"):
        with pytest.raises(VersionNotFoundError, match="the last file dropped was rejected: results.csv is empty"):
            state.resolve(spec)


def test_rollback_and_a_later_publish() -> None:
    state = fold(publish(FIRST), publish(SECOND), SetCurrent(1))
    assert state.resolve(None).number == 1
    assert state.newest is not None and state.newest.number == 2
    assert fold(publish(FIRST), publish(SECOND), SetCurrent(1), publish("ee" * 32)).resolve(None).number == 4


def test_content_id_of_several_files_depends_on_their_order() -> None:
    assert content_id_of([FIRST]) == FIRST
    assert len({content_id_of([FIRST, SECOND]), content_id_of([SECOND, FIRST]), FIRST}) == 3


def test_a_content_id_means_the_oldest_version_even_when_it_has_expired() -> None:
    """The newer one of the same files may have another definition, and so other answers."""
    history = [publish(FIRST), publish(SECOND), publish(FIRST)]
    assert fold(*history).resolve(FIRST).number == 1
    with pytest.raises(VersionNotFoundError, match="v1 has expired"):
        fold(*history, Expire((1,))).resolve(FIRST)
    assert fold(*history, Expire((1,))).resolve("v3").content_id == FIRST


def test_tags_and_moments() -> None:
    state = fold(publish(FIRST), publish(SECOND), Tag("paper", 1), Yank(2))
    assert state.resolve("paper").number == 1
    assert state.current is not None and state.current.number == 1, "what is yanked is never latest"
    assert state.resolve("v2").number == 2
    restored = fold(publish(FIRST), publish(SECOND), Tag("paper", 1), Yank(2), Restore(2), Tag("paper", None))
    assert restored.resolve(None).number == 2
    with pytest.raises(VersionNotFoundError):
        restored.resolve("paper")
    assert state.resolve(restored.history[0].at).dataset == "d"
    with pytest.raises(VersionNotFoundError, match="had no version at"):
        state.resolve("1999-01-01")


@pytest.mark.parametrize("name", ["v1", "1", "deadbeef", "LATEST", "12345678", "2026-01-01", "", "a b", "x" * 64])
def test_what_no_tag_may_be_called(name: str) -> None:
    assert not is_tag_name(name)


def test_pins() -> None:
    assert all(is_pin(spec) for spec in (3, "3", "v3", " V3 ", "12345678", FIRST))
    assert not any(is_pin(spec) for spec in (None, "latest", "paper", "2026-01-01", "beef"))
