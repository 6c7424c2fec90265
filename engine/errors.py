"""Everything that can go wrong between a valid request and its answer.

    EngineError
    ├── DatasetNotFoundError
    ├── VersionNotFoundError
    ├── NamedQueryNotFoundError
    ├── InvalidNameError          a dataset name that does not fit the rule
    ├── RejectedFileError         a file that cannot become a version, with the reason
    ├── PublishConflictError      the schema policy, or another publisher, forbids this publish
    ├── PreconditionFailedError   the dataset is not in the state that the request expects
    ├── DefinitionError           a dataset.toml that cannot be used
    ├── CorruptVersionError       stored bytes that are not what the log says, or cannot be read
    ├── StoreError                the store cannot be reached, read or written
    ├── EngineBusyError           too many queries at once; try again
    ├── QueryTimeoutError         the time limit of a query passed
    ├── ResourceLimitError        the memory limit of the engine was reached
    └── ResultTooLargeError       an answer beyond the row limit

Requests that are wrong in themselves are ``queries.errors.QueryError``. Exceptions of DuckDB are translated in
``engine/connection.py`` and go no further.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class EngineError(Exception):
    """Base class; ``detail`` is one sentence that may be shown to anyone, so it holds no path of this machine."""

    code: ClassVar[str] = "engine_error"

    def __init__(self, detail: str, *, did_you_mean: Iterable[str] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.did_you_mean = tuple(did_you_mean)


class DatasetNotFoundError(EngineError):
    code = "dataset_not_found"


class VersionNotFoundError(EngineError):
    code = "version_not_found"


class NamedQueryNotFoundError(EngineError):
    code = "query_not_found"


class InvalidNameError(EngineError):
    code = "invalid_name"


class RejectedFileError(EngineError):
    code = "rejected_file"


class PublishConflictError(EngineError):
    code = "publish_conflict"


class PreconditionFailedError(EngineError):
    code = "precondition_failed"


class DefinitionError(EngineError):
    code = "invalid_definition"


class CorruptVersionError(EngineError):
    code = "corrupt_version"


class StoreError(EngineError):
    code = "store_error"


class EngineBusyError(EngineError):
    """``retry_after_s`` is how long it is likely to take until there is a place."""

    code = "busy"

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class QueryTimeoutError(EngineError):
    code = "query_timeout"


class ResourceLimitError(EngineError):
    code = "resource_limit"


class ResultTooLargeError(EngineError):
    code = "result_too_large"
