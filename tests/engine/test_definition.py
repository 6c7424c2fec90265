"""Definitions: those that the project comes with, and what becomes of one that is wrong in parts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import Engine
from engine.definition import ColumnDefinition, DatasetDefinition, parse_definition
from engine.demo import write_demo_parquet
from queries.planner import plan_query
from queries.schema import MetricInfo, Role
from queries.url import parse_query
from tests.engine.support import write_parquet

DATASETS = Path(__file__).parents[2] / "datasets"
COMMITTED = sorted(path.parent.name for path in DATASETS.glob("*/dataset.toml"))


def test_nothing_said() -> None:
    assert parse_definition(None) == DatasetDefinition()
    assert parse_definition("") == DatasetDefinition()


def test_everything_said() -> None:
    definition = parse_definition(
        """
        title = "T"
        description = "D"
        source = "https://example.org"
        license = "MIT"
        synthetic = true
        key = ["a", "b"]
        sort = "b"
        [columns.a]
        role = "dimension"
        unit = "u"
        direction = "lower"
        description = "d"
        alias = "x"
        [metrics."*-ppl"]
        direction = "lower"
        unit = "perplexity"
        [derived.n]
        kind = "lookup"
        from = "a"
        unit = "parameters"
        table = { "60M" = 57, "1B" = 1.5 }
        [derived.c]
        kind = "product"
        from = ["n", "b"]
        factor = 6
        [queries.small]
        parameters = { a = "60M", limit = 5, distinct = true }
        [queries.other]
        title = "Of another"
        dataset = "ft"
        """
    )
    assert definition.problems == ()
    assert (definition.title, definition.licence, definition.synthetic) == ("T", "MIT", True)
    assert (definition.key, definition.sort) == (("a", "b"), ("b",))
    assert definition.columns == {"a": ColumnDefinition(Role.DIMENSION, "u", "lower", "d", ("x",))}
    assert definition.metrics == (MetricInfo("*-ppl", "lower", "perplexity"),)
    number, product = definition.derived
    assert (number.kind, number.sources, number.table) == ("lookup", ("a",), (("60M", 57), ("1B", 1.5)))
    assert number.about.unit == "parameters"
    assert (product.kind, product.sources, product.factor) == ("product", ("n", "b"), 6.0)
    assert definition.queries["small"].parameters == (("a", "60M"), ("limit", "5"), ("distinct", "true"))
    assert definition.queries["small"].title == "small"
    assert definition.queries["other"].dataset == "ft"


@pytest.mark.parametrize(
    "text, problem",
    [
        ("title = ", "not valid TOML"),
        ("a" * 10 + " = " + "[" * 5_000 + "]" * 5_000, "not valid TOML"),
        ("title = 5", "title must be text"),
        ("colour = 'red'", "colour is not a field"),
        ("synthetic = 'yes'", "synthetic must be true or false"),
        ("key = 5", "key must be a text or a list"),
        ("key = [1, 2]", "key must be a text or a list"),
        ("columns = 5", "columns must be a table"),
        ("[[columns]]\na = 1", "columns must be a table"),
        ("columns.a = 5", "columns.a must be a table"),
        ("columns.a.role = 'king'", "role 'king' is none of"),
        ("columns.a.role = 5", "role must be text"),
        ("columns.a.direction = 'up'", "neither lower nor higher"),
        ("columns.a.alias = [[]]", "alias must be"),
        ("metrics.x.direction = 'best'", "neither lower nor higher"),
        ("derived.n.kind = 'magic'", "kind must be"),
        ("[derived.n]\nkind = 'size_label'", "from name columns"),
        ("[derived.n]\nkind = 'size_label'\nfrom = ['a', 'b']", "kind must be"),
        ("[derived.n]\nkind = 'lookup'\nfrom = 'a'", "table must give a number"),
        ("[derived.n]\nkind = 'lookup'\nfrom = 'a'\ntable = { x = 'y' }", "table must give a number"),
        ("[derived.n]\nkind = 'lookup'\nfrom = 'a'\ntable = { x = true }", "table must give a number"),
        ("[derived.n]\nkind = 'lookup'\nfrom = 'a'\ntable = { x = inf }", "table must give a number"),
        ("[derived.n]\nkind = 'lookup'\nfrom = 'a'\ntable = { x = 9223372036854775808 }", "table must give a number"),
        ("[derived.n]\nkind = 'product'\nfrom = 'a'\nfactor = inf", "factor must be a finite number"),
        ("[derived.n]\nkind = 'product'\nfrom = 'a'\nfactor = '6'", "factor must be a finite number"),
        ("queries.small = 'x'", "queries.small must be a table"),
        ("queries.small.parameters = 'x'", "parameters must be a table"),
        ("queries.small.parameters.params = ['60M']", "parameters must be a table"),
    ],
)
def test_what_is_wrong_is_left_out_and_listed(text: str, problem: str) -> None:
    definition = parse_definition(f"{text}\n")
    assert any(problem in found for found in definition.problems), definition.problems
    assert definition.derived == ()


def test_problems_stand_in_the_order_of_the_text() -> None:
    names = "q w e r t y u i o p".split()
    text = "".join(f"{name} = 1\n" for name in names) + "[columns.c]\n" + "".join(f"{name} = 1\n" for name in names)
    expected = [*names, *(f"columns.c: {name}" for name in names)]
    assert [problem.split(" is ")[0] for problem in parse_definition(text).problems] == expected


def test_the_rest_of_a_definition_still_counts() -> None:
    definition = parse_definition("title = 'T'\nsynthetic = 3\n[columns.a]\nrole = 'king'\nunit = 'u'\n")
    assert definition.title == "T"
    assert definition.columns["a"] == ColumnDefinition(unit="u")
    assert len(definition.problems) == 2


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["1", "-1", "inf", "true", "'x'", "'dimension'", "'lookup'", "2024-01-01", "[]", "{}"]),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]"),
            st.dictionaries(
                st.sampled_from("kind from table factor role alias unit parameters title direction".split()), inner
            ).map(lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"),
        ),
        max_leaves=8,
    ),
    st.sampled_from("title key sort synthetic columns columns.a metrics.a derived.a queries.a queries".split()),
)
def test_no_definition_raises(value: str, field: str) -> None:
    parse_definition(f"{field} = {value}\n")


@pytest.mark.parametrize("name", COMMITTED)
def test_the_committed_definitions_have_no_problem(name: str) -> None:
    definition = parse_definition((DATASETS / name / "dataset.toml").read_text(encoding="utf-8"))
    assert definition.problems == ()
    assert definition.title and definition.description and definition.source and definition.licence
    assert definition.synthetic is (name != "pythia")
    assert ("synthetic" in definition.title.lower()) == definition.synthetic


def test_there_are_four() -> None:
    assert COMMITTED == ["datadecide", "datadecide-seeds", "ft-matched", "pythia"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The demo data under its definitions: the wide table whole, of the long ones a few rows."""
    folder = tmp_path_factory.mktemp("demo")
    with Engine.open(folder) as engine:
        write_demo_parquet("ft-matched", folder / "ft.parquet")
        engine.publish("ft-matched", folder / "ft.parquet")
        metrics = ["pile-valppl", "mmlu_average_acc_per_char"]
        rows = {
            "params": ["60M", "150M"], "data": ["Dolma1.7", "C4"], "step": [5000, 1250], "tokens": [1, 2],
            "compute": [1.0, 2.0], "metric": metrics, "value": [1.5, None],
        }  # fmt: skip
        engine.publish("datadecide", write_parquet(folder / "long.parquet", pa.table(rows)))
        engine.publish("datadecide-seeds", pa.table({**rows, "seed": pa.array([0, 1], pa.int32())}))
        yield engine


@pytest.mark.parametrize("name", [name for name in COMMITTED if name != "pythia"])
def test_all_that_a_committed_definition_names_is_there(demo: Engine, name: str) -> None:
    version = demo.version(name)
    definition, schema = version.definition, version.schema
    assert set(definition.columns) <= set(schema.by_name)
    assert set(definition.key) | set(definition.sort) <= set(schema.by_name)
    assert {one.name for one in definition.derived} <= set(schema.by_name)
    for query in definition.queries.values():
        other = schema if query.dataset is None else demo.version(query.dataset).schema
        request, _ = parse_query(query.parameters, other)
        plan_query(request.model_copy(update={"strict": False}), other)


def test_the_key_of_the_wide_table_is_one(demo: Engine) -> None:
    version = demo.version("ft-matched")
    assert version.schema.index is not None
    assert version.schema.index.key() == version.definition.key
