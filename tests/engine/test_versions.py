"""Opening versions: each once, the files checked each time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import engine.versions
from engine.errors import CorruptVersionError
from tests.engine.support import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    lab.sweep()
    yield lab
    lab.engine.close()


def test_opened_once(lab: Lab) -> None:
    first = lab.engine.version("sweep")
    assert lab.engine.version("sweep", "v1") is first
    assert (first.dataset, first.content_id) == ("sweep", first.version.content_id)
    assert first.definition.title == "A small sweep"
    lab.sweep(1.0)
    assert lab.engine.version("sweep") is not first
    assert lab.engine.version("sweep", 1) is first


def test_the_ones_used_longest_ago_are_forgotten(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.versions, "MAX_OPEN", 2)
    first = lab.engine.version("sweep", 1)
    lab.sweep(1.0)
    second = lab.engine.version("sweep", 2)
    assert lab.engine.version("sweep", 1) is first
    lab.sweep(2.0)
    lab.engine.version("sweep", 3)
    assert lab.engine.version("sweep", 1) is first
    again = lab.engine.version("sweep", 2)
    assert again is not second and again == second
    assert lab.ask(version="v2").table.num_rows == 72


def test_an_opened_version_is_checked_again(lab: Lab) -> None:
    lab.engine.version("sweep")
    lab.blob().chmod(0o644)
    lab.blob().write_bytes(b"PAR1")
    with pytest.raises(CorruptVersionError, match=r"sweep/_bt/data/.*\.parquet is damaged"):
        lab.engine.version("sweep")


def test_two_versions_of_one_content_have_relations_of_their_own(lab: Lab) -> None:
    lab.define("sweep", 'title = "Another"')
    lab.engine.publish("sweep", lab.blob())
    one, two = lab.engine.version("sweep", 1), lab.engine.version("sweep", 2)
    assert one.content_id == two.content_id
    assert one.relation != two.relation
    assert (one.definition.title, two.definition.title) == ("A small sweep", "Another")
