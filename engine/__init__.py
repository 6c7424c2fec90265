"""The engine: versions, queries and answers, without HTTP. What a notebook imports::

from engine import Engine

engine = Engine.open()
engine.dataset("datadecide").where(params="60M", metric="pile-valppl").to_pandas()
"""

from engine.config import EngineConfig
from engine.engine import Engine, Prepared
from engine.errors import EngineError
from engine.query import Query
from engine.result import QueryResult, ResultMeta, ResultStream
from engine.store import PublishOutcome, Version
from engine.versions import DatasetVersion
from queries.errors import QueryError
from queries.request import Aggregate, And, Condition, Not, Or, QueryRequest

__all__ = [
    "Aggregate",
    "And",
    "Condition",
    "DatasetVersion",
    "Engine",
    "EngineConfig",
    "EngineError",
    "Not",
    "Or",
    "Prepared",
    "PublishOutcome",
    "Query",
    "QueryError",
    "QueryRequest",
    "QueryResult",
    "ResultMeta",
    "ResultStream",
    "Version",
]
