"""What a user asks: one immutable, typed request, whichever of the three spellings it came in. Resolves no name.

A request is what was written; the planner turns it into a plan, and the plan into the canonical query whose hash is
the ``query_id``. ``url.py``, ``body.py`` and the Python builder all make these.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator


class Operator(enum.StrEnum):
    """The filter operators; their SQL is in ``predicates.py``."""

    __hash__ = str.__hash__  # an Enum's own is a function in Python, and each request asks for many

    EQ = "eq"
    NE = "ne"
    LT = "lt"
    LTE = "lte"
    GT = "gt"
    GTE = "gte"
    IN = "in"
    NOTIN = "notin"
    BETWEEN = "between"
    ISNULL = "isnull"
    CONTAINS = "contains"
    STARTSWITH = "startswith"
    ENDSWITH = "endswith"
    GLOB = "glob"

    @property
    def takes_list(self) -> bool:
        return self is Operator.IN or self is Operator.NOTIN or self is Operator.BETWEEN

    @property
    def compares(self) -> bool:
        """Whether a second column may stand in place of the value."""
        return self in (Operator.EQ, Operator.NE, Operator.LT, Operator.LTE, Operator.GT, Operator.GTE)


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Condition(_Frozen):
    """``col op value``, or ``col op ref`` with a second column.

    ``value`` is text (typed later by its column) or an already typed value; a tuple of them for the operators that
    take a list. ``isnull`` takes true or false, and true when none is given.
    """

    col: str
    op: Operator = Operator.EQ
    value: Any = None
    ref: str | None = None

    @field_validator("value", mode="after")
    @classmethod
    def _freeze(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, (list, set, frozenset, range)) else value


class And(_Frozen):
    """All of the parts; true when there is none."""

    and_: tuple[Where, ...] = Field(alias="and")


class Or(_Frozen):
    """At least one of the parts; false when there is none."""

    or_: tuple[Where, ...] = Field(alias="or")


class Not(_Frozen):
    """The rows for which the part is false. As in SQL, a comparison with null is unknown, and so is its negation."""

    not_: Where = Field(alias="not")


def _kind(value: Any) -> str:
    """Which of the four a value is; an object with none of their names counts as a condition, and is refused as one."""
    if isinstance(value, Condition):  # most are, and asking whether a thing is a mapping takes longest
        return "condition"
    if isinstance(value, Mapping):
        return next((name for name in ("and", "or", "not") if name in value), "condition")
    return "and" if isinstance(value, And) else "or" if isinstance(value, Or) else _lone(value)


def _lone(value: Any) -> str:
    return "not" if isinstance(value, Not) else "condition"


Where = Annotated[
    Annotated[And, Tag("and")]
    | Annotated[Or, Tag("or")]
    | Annotated[Not, Tag("not")]
    | Annotated[Condition, Tag("condition")],
    Discriminator(_kind),
]

#: Aggregate functions. ``std``, ``var`` and ``sem`` are the sample's (n - 1); percentiles interpolate linearly.
FUNCTIONS = ("count", "sum", "mean", "min", "max", "median", "std", "var", "sem", "first", "last", "nunique")
PERCENTILES = tuple(f"p{percent:02d}" for percent in range(1, 100))
DEFAULT_FUNCTIONS = ("mean", "std", "count")


class Aggregate(_Frozen):
    """``fn(col)``. Without a column it works on the one measure of the table; ``as`` renames its output column."""

    fn: str
    col: str | None = None
    as_: str | None = Field(default=None, alias="as")


class SortKey(_Frozen):
    col: str
    desc: bool = False


class BestBy(_Frozen):
    """The best row of each group of ``by``. ``col`` None is the measure; ``desc`` None is the metric's direction."""

    by: tuple[str, ...]
    col: str | None = None
    desc: bool | None = None


class QueryRequest(_Frozen):
    """One question about one version of a dataset. The order of work: SPEC 2.2.

    ``version`` None is the latest. ``select`` None is every physical column. ``aggs`` () with a ``group_by`` is mean,
    std and count. ``total`` False spares counting; ``strict`` False turns an unknown value into a warning.
    """

    dataset: str
    version: str | None = None
    select: tuple[str, ...] | None = None
    where: Where | None = None
    group_by: tuple[str, ...] = ()
    aggs: tuple[Aggregate, ...] = ()
    having: Where | None = None
    sort: tuple[SortKey, ...] = ()
    limit: int | None = Field(default=None, ge=0)
    offset: int = Field(default=0, ge=0)
    cursor: str | None = None
    pivot: str | None = None
    pivot_values: str | None = None
    distinct: bool = False
    last_by: tuple[str, ...] = ()
    best_by: BestBy | None = None
    facets: tuple[str, ...] = ()
    explain: bool = False
    strict: bool = True
    total: bool = True

    @field_validator("version", mode="before")
    @classmethod
    def _version_text(cls, value: Any) -> Any:
        return f"v{value}" if isinstance(value, int) and not isinstance(value, bool) else value


And.model_rebuild()
Or.model_rebuild()
Not.model_rebuild()
QueryRequest.model_rebuild()
