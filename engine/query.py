"""The Python spelling of a query: an immutable builder that a notebook works with. Everything runs when asked for::

engine.dataset("datadecide").where(data="Dolma1.7", step__gte=5000).group_by("params").agg("mean").to_pandas()
"""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pyarrow as pa
from pydantic import ValidationError

from engine.result import QueryResult
from queries.errors import GrammarError, InvalidValueError
from queries.request import Aggregate, And, BestBy, Condition, Not, Operator, Or, QueryRequest, SortKey, Where
from queries.schema import Schema
from queries.url_format import format_query
from queries.values import format_value

if TYPE_CHECKING:
    import duckdb

    from engine.engine import Engine, Prepared

_PREVIEW_ROWS = 10


class Query:
    """One question about one dataset. Each method gives a new query and leaves this one as it is.

    Two queries that ask the same have the same ``query_id``, however they were written.
    """

    def __init__(self, engine: Engine, request: QueryRequest) -> None:
        self._engine = engine
        self.request = request

    # --- building

    def where(self, *conditions: Where | Mapping[str, Any], **equals: Any) -> Query:
        """Keep rows for which all of these hold, and all that was asked before.

        Parameters
        ----------
        *conditions
            ``Condition``, ``And``, ``Or``, ``Not``, or mappings such as ``{"step__gte": 5000}`` for names that Python
            cannot spell.
        **equals
            ``column=value`` or ``column__op=value``; a list means any of them, None means null.
        """
        return self._with(where=_joined(self.request.where, (*conditions, equals), self._schema()))

    def select(self, *columns: str) -> Query:
        """Only these columns, in this order."""
        return self._with(select=columns)

    def group_by(self, *columns: str) -> Query:
        """One row for each combination of these; ``agg`` says of what (mean, std and count when it is not called)."""
        return self._with(group_by=columns)

    def agg(self, *functions: str | Aggregate, **named: str | tuple[str, str]) -> Query:
        """Aggregates: ``"mean"``, ``"max:step"``, or ``best=("max", "value")`` under a name of your own."""
        aggs = [_aggregate(one) for one in functions]
        for name, one in named.items():
            fn, _, col = one.partition(":") if isinstance(one, str) else (one[0], "", one[1])
            aggs.append(Aggregate(fn=fn, col=col or None, as_=name))
        return self._with(aggs=tuple(aggs))

    def having(self, *conditions: Where | Mapping[str, Any], **equals: Any) -> Query:
        """Keep groups for which all of these hold; names are those of the answer's columns."""
        return self._with(having=_joined(self.request.having, (*conditions, equals), None))

    def sort(self, *keys: str) -> Query:
        """Order by these; ``-`` before a name for descending. Nulls come last; ties keep the order of the file."""
        return self._with(sort=tuple(_sort_key(key, self._schema()) for key in keys))

    def limit(self, rows: int | None, offset: int = 0) -> Query:
        return self._with(limit=rows, offset=offset)

    def distinct(self) -> Query:
        """Each combination of the selected columns once."""
        return self._with(distinct=True)

    def last_by(self, *columns: str) -> Query:
        """Of each group the row at the largest step."""
        return self._with(last_by=columns)

    def best_by(self, *columns: str, of: str | None = None) -> Query:
        """Of each group the row with the best value; ``of="-value"`` says the largest of it, ``"value"`` the least."""
        col = None if of is None else of.removeprefix("-")
        return self._with(best_by=BestBy(by=columns, col=col, desc=None if of is None else of.startswith("-")))

    def pivot(self, column: str, values: str | None = None) -> Query:
        """Long to wide: one column for each value of ``column``, holding ``values`` (the measure when None)."""
        return self._with(pivot=column, pivot_values=values)

    def facets(self, *columns: str) -> Query:
        return self._with(facets=columns)

    def lenient(self) -> Query:
        """Let a value that a dimension does not have be a warning and not an error."""
        return self._with(strict=False)

    # --- what it means

    @property
    def sql(self) -> str:
        """The DuckDB SQL, with numbered parameters. For a pivot this asks the data for its columns."""
        return self._engine.compile(self._prepared()).sql

    @property
    def params(self) -> tuple[object, ...]:
        """The parameters of ``sql``, in order."""
        return self._engine.compile(self._prepared()).params

    @property
    def query_id(self) -> str:
        """SHA-256 of the canonical query, as 64 hexadecimal digits."""
        return self._prepared().query_id

    @property
    def canonical(self) -> str:
        """The canonical query as JSON."""
        return self._prepared().canonical

    @property
    def url(self) -> str:
        """The path and query of the same request over HTTP.

        Raises
        ------
        GrammarError
            It has no such spelling (nested conditions, two columns compared); POST it to ``/api/query``.
        """
        prepared = self._prepared()
        pairs = format_query(self.request, prepared.version.schema)
        if pairs is None:
            raise GrammarError("this query cannot be written as a URL; POST query.body to /api/query")
        rest = [(key, value) for key, value in pairs if key != "dataset"]
        path = f"/api/datasets/{quote(self.request.dataset)}/rows"
        return f"{path}?{urlencode(rest, quote_via=quote)}" if rest else path

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of the same request for ``POST /api/query``; what JSON has no number for is text."""
        body: dict[str, Any] = _as_json(self.request.model_dump(by_alias=True, exclude_defaults=True))
        return body

    def explain(self) -> dict[str, Any]:
        """SQL, plan, files and rows read; runs the query."""
        return self._engine.explain(self._prepared())

    # --- answers

    def run(self) -> QueryResult:
        """The whole answer with what is known about it."""
        return self._engine.run(self._prepared())

    def to_arrow(self) -> pa.Table:
        """The answer as a pyarrow table: null is null and NaN is NaN."""
        return self.run().table

    def to_pandas(self) -> Any:
        """The answer as a pandas data frame, on Arrow types, so that null and NaN stay two things."""
        pd = _optional("pandas")
        return self.to_arrow().to_pandas(types_mapper=pd.ArrowDtype)

    def to_polars(self) -> Any:
        """The answer as a polars data frame; needs polars."""
        pl = _optional("polars")
        return pl.from_arrow(self.to_arrow())

    def to_pylist(self) -> list[dict[str, Any]]:
        """The answer as a list of dictionaries."""
        rows: list[dict[str, Any]] = self.to_arrow().to_pylist()
        return rows

    def relation(self) -> duckdb.DuckDBPyRelation:
        """The query as a lazy DuckDB relation, on a connection of its own without a deadline."""
        return self._engine.lazily(self._prepared())

    def plot(self, x: str | None = None, y: str | None = None, *, by: str | None = None, ax: Any = None) -> Any:
        """Draw y over x, a line for each value of ``by``; needs matplotlib. Gives the axes.

        Without names, x is the first axis (or column) of the answer and y the first measure after it.
        """
        from engine.plotting import plot_result

        _optional("matplotlib")
        return plot_result(self.run(), self._prepared().version.schema, x=x, y=y, by=by, ax=ax)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def __repr__(self) -> str:
        version = self.request.version or "latest"
        return f"<Query of {self.request.dataset} {version}: {self.body}>"

    def _repr_html_(self) -> str:
        limit = _PREVIEW_ROWS if self.request.limit is None else min(self.request.limit, _PREVIEW_ROWS)
        preview = self._with(limit=limit).run()
        names = [column.name for column in preview.meta.columns]
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f"<td>{_cell(row[name])}</td>" for name in names) + "</tr>"
            for row in preview.table.to_pylist()
        )
        shown, total = preview.table.num_rows, preview.meta.total
        foot = f"{preview.meta.dataset} {preview.meta.version}: {shown} of {total} rows"
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{html.escape(foot)}</p>"

    def _with(self, **changes: Any) -> Query:
        fields = {name: getattr(self.request, name) for name in QueryRequest.model_fields}
        try:
            return Query(self._engine, QueryRequest.model_validate({**fields, **changes}))
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0])
            raise InvalidValueError(
                f"{name} does not take {changes[name]!r}: {first['msg']}", param=name, value=changes[name]
            ) from None

    def _prepared(self) -> Prepared:
        return self._engine.prepare(self.request)

    def _schema(self) -> Schema:
        return self._engine.version(self.request.dataset, self.request.version).schema


def _joined(before: Where | None, conditions: Sequence[object], schema: Schema | None) -> Where | None:
    """All of these and what was asked before; ``schema`` None is that of an answer, whose columns are not known."""
    parts: list[Where] = [] if before is None else [before]
    for condition in conditions:
        if isinstance(condition, (Condition, And, Or, Not)):
            parts.append(condition)
        elif isinstance(condition, Mapping):
            parts += [_condition(key, value, schema) for key, value in condition.items()]
        else:
            raise GrammarError(f"conditions or mappings are expected, not {type(condition).__name__}", param="where")
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else And(and_=tuple(parts))


def _optional(name: str) -> Any:
    """A library that a notebook has and a server need not have; raises ImportError saying how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"this needs {name}: pip install {name}") from error


def _condition(key: str, value: Any, schema: Schema | None) -> Condition:
    """``column__op`` and a value; the operator is the last suffix that is one, of a column that exists."""
    name, separator, suffix = key.rpartition("__")
    is_whole = schema is not None and schema.find(key) is not None
    if separator and not is_whole and suffix in {op.value for op in Operator}:
        op, column = Operator(suffix), name
    else:
        op, column = Operator.EQ, key
    value = _plain(value)
    if op is Operator.EQ and value is None:
        return Condition(col=column, op=Operator.ISNULL, value=True)
    if op is Operator.EQ and isinstance(value, (list, tuple, set, frozenset, range)):
        op = Operator.IN
    return Condition(col=column, op=op, value=value)


def _plain(value: Any) -> Any:
    """A numpy or pandas scalar as Python's, and an array or series of them as a list."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    module = type(value).__module__.partition(".")[0]
    if module in ("numpy", "pandas", "polars") and (
        listed := getattr(value, "tolist", None) or getattr(value, "to_list", None)
    ):
        return listed()
    return value


def _as_json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    is_plain = value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))
    return value if is_plain else format_value(value)


def _aggregate(one: str | Aggregate) -> Aggregate:
    if isinstance(one, Aggregate):
        return one
    fn, _, col = one.partition(":")
    return Aggregate(fn=fn, col=col or None)


def _sort_key(text: str, schema: Schema) -> SortKey:
    if text.startswith("-") and schema.find(text) is None:
        return SortKey(col=text[1:], desc=True)
    return SortKey(col=text)


def _cell(value: object) -> str:
    return "" if value is None else html.escape(str(value))
