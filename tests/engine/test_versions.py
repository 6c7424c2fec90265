"""Opening versions: each once, the files checked each time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import engine.versions
from engine import Engine
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


def test_columns_that_hold_numbers_alone_are_known(tmp_path: Path) -> None:
    nan, inf = float("nan"), float("inf")
    columns = {
        "numbers": [1.5, -0.0, None],
        "nothing": pa.array([None] * 3, pa.float64()),
        "a_nan": [1.0, nan, 2.0],
        "an_infinity": [1.0, -inf, 2.0],
        "single": pa.array([1.0, 2.0, 3.0], pa.float32()),
        "whole": [1, 2, 3],
    }
    with Engine.open(tmp_path, definitions=None) as lab:
        lab.publish("odd", pa.table(columns))
        schema = lab.version("odd").schema
        assert {column.name for column in schema.columns if column.is_finite} == {"numbers", "nothing"}
        sql = {name: lab.dataset("odd").agg(f"std:{name}", f"mean:{name}").sql for name in columns}
        looks = {name for name, text in sql.items() if "NULLIF" in text or "ISINF" in text}
        assert looks == {"a_nan", "an_infinity", "single"}
        row = lab.dataset("odd").agg("mean:numbers", "std:a_nan", "std:an_infinity", "max:nothing").to_pylist()[0]
        assert (row["mean_numbers"], row["std_a_nan"], row["max_nothing"]) == (0.75, 0.5**0.5, None)
        assert math.isnan(row["std_an_infinity"])
