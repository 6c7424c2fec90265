"""From the parameters of a URL to a prepared query. Plans nothing itself: the engine does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from engine.definition import NamedQuery
from engine.engine import Engine
from engine.errors import DefinitionError, NamedQueryNotFoundError, VersionNotFoundError
from engine.versions import DatasetVersion
from queries.errors import CursorError, GrammarError, QueryError, nearest
from queries.request import QueryRequest
from queries.schema import Schema
from queries.url import filter_key, parse_query, read_target
from queries.vocabulary import RESERVED
from server.answer import Question, ask
from server.links import Address, rows_address
from server.parameters import Pairs, first_value

#: Changes a request that was read, with the schema and the route's own parameters at hand.
Adjust = Callable[[QueryRequest, Schema, dict[str, str]], QueryRequest]


@dataclass(frozen=True, slots=True)
class Read:
    """A request as read, with the version whose columns it was read by and the route's own parameters."""

    request: QueryRequest
    version: DatasetVersion
    own: dict[str, str]


def read_query(engine: Engine, dataset: str, pairs: Pairs, *, also_reserved: Collection[str] = ()) -> Read:
    """Read a query of one dataset.

    Raises
    ------
    GrammarError
        The parameters name another dataset, or whatever else ``parse_query`` finds.
    DatasetNotFoundError, VersionNotFoundError
    """
    opened = _opened(engine, dataset, _target(pairs, dataset), first_value(pairs, "cursor"))
    request, own = parse_query(pairs, opened.schema, also_reserved=also_reserved)
    return Read(request, opened, own)


def _opened(engine: Engine, dataset: str, version: str | None, cursor: str | None) -> DatasetVersion:
    """The version that a query is read by: for a page that of its cursor, whatever is the latest by now."""
    return engine.version_of_cursor(dataset, cursor, version) if cursor else engine.version(dataset, version)


def _target(pairs: Pairs, dataset: str) -> str | None:
    """The version that a query names; it must not name another dataset than its path does."""
    named, version = read_target(pairs)
    if named is not None and named != dataset:
        raise GrammarError(
            f"the path names the dataset {dataset}, and the parameter {named}", param="dataset", value=named
        )
    return version


def question_of_url(
    engine: Engine,
    dataset: str,
    path: str,
    pairs: Pairs,
    *,
    also_reserved: Collection[str] = (),
    defaults: Mapping[str, str] | None = None,
    adjust: Adjust | None = None,
) -> Question:
    """The question that a path asks with these parameters, and with ``defaults`` for those that are not given."""
    keys = {key for key, _ in pairs}
    missing = [(key, value) for key, value in (defaults or {}).items() if key not in keys]
    read = read_query(engine, dataset, [*pairs, *missing], also_reserved=also_reserved)
    request = read.request if adjust is None else adjust(read.request, read.version.schema, read.own)
    return ask(engine, engine.prepare(request, read.version), Address.of(path, pairs), read.own.get("format"))


def question_of_name(engine: Engine, dataset: str, name: str, path: str, pairs: Pairs) -> Question:
    """The question that a named query asks, with the request's parameters in place of its own.

    The definition is that of the version asked for, so a pinned URL never changes its meaning. Where the query points
    to another dataset, ``version`` is that dataset's, and the query itself is the latest definition's; so only the
    plain query that it stands for can be pinned.

    Raises
    ------
    NamedQueryNotFoundError
    DefinitionError
        The query as defined does not fit the columns.
    """
    version, cursor = _target(pairs, dataset), first_value(pairs, "cursor")
    named, target = _find(engine, dataset, name, _begun(engine, dataset, version, cursor))
    given = [(key, value) for key, value in pairs if key != "dataset"]
    opened = _opened(engine, target, version, cursor)
    schema = opened.schema
    merged = [*_kept(named, given, schema), *given]
    try:
        request, own = parse_query(merged, schema)
        # Its own parameters may name a version.
        prepared = engine.prepare(request, opened if request.version == version else None)
    except QueryError:
        _check(engine, named, target, dataset, schema)
        raise
    address = Address.of(path, pairs)
    if target == dataset:
        return ask(engine, prepared, address, own.get("format"))
    plain = rows_address(target, merged).having(version=prepared.version.version.name)
    return replace(ask(engine, prepared, address, own.get("format"), pinned=plain), datasets=(dataset,))


def _begun(engine: Engine, dataset: str, version: str | None, cursor: str | None) -> str | None:
    """The version whose definition a named query is taken from: for a page the one that its first page was of."""
    try:
        return _opened(engine, dataset, version, cursor).version.name if cursor else version
    except CursorError:
        return version  # it may belong to the dataset that the query points to


def _find(engine: Engine, dataset: str, name: str, version: str | None) -> tuple[NamedQuery, str]:
    """A named query, and the dataset that it asks about.

    A version's own query comes first: what the latest definition makes of the name must not change a pinned answer.
    """
    missing: VersionNotFoundError | None = None
    queries: Mapping[str, NamedQuery] = {}
    try:
        queries = engine.version(dataset, version).definition.queries
    except VersionNotFoundError as error:
        missing = error  # it may be a version of the dataset that the query points to
    named = queries.get(name)
    if named is not None and named.dataset in (None, dataset):
        return named, dataset
    latest = engine.version(dataset).definition.queries.get(name)
    if latest is not None and latest.dataset not in (None, dataset):
        return latest, str(latest.dataset)
    if missing is not None:
        raise missing
    listed = ", ".join(queries) or "none"
    raise NamedQueryNotFoundError(
        f"{dataset} has no named query {name!r}; it has {listed}", did_you_mean=nearest(name, queries)
    )


def _kept(named: NamedQuery, given: Pairs, schema: Schema) -> Pairs:
    """The parameters of a named query that a request leaves as they are: a filter gives way to any on its column."""
    keys = {key for key, _ in given} | {_column(key, schema) for key, _ in given}
    return [
        (key, value)
        for key, value in named.parameters
        if key not in keys and (_column(key, schema) or key) not in keys and key != "dataset"
    ]


def _column(key: str, schema: Schema) -> str | None:
    """``c.`` and the name of the column that a key filters; None when it is no filter."""
    if key in RESERVED:
        return None
    try:
        column = schema.find(filter_key(key, "", schema)[0])
    except QueryError:
        return None
    return f"c.{column.name}" if column else None


def _check(engine: Engine, named: NamedQuery, target: str, dataset: str, schema: Schema) -> None:
    """Tell a named query that cannot be asked at all from a request that changes it into one."""
    try:
        engine.prepare(parse_query(named.parameters, schema)[0])
    except QueryError as error:
        raise DefinitionError(
            f"the named query {named.name} of {dataset} does not fit the columns of {target}: {error.detail}"
        ) from error
