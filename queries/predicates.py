"""One SQL rule for each filter operator. Knows nothing of requests: names and values are settled by now.

As in SQL, a comparison with null is unknown. NaN is neither smaller nor greater than anything, though DuckDB sorts it
last; it equals itself, so that one can ask for it.
"""

from __future__ import annotations

from sqlglot import exp

from queries.expressions import Expression, Scope, call, cast
from queries.plan import Comparison, Every, Negation, Predicate, Some
from queries.request import Operator
from queries.schema import Column, Kind

_COMPARISONS: dict[Operator, type[exp.Binary]] = {
    Operator.EQ: exp.EQ,
    Operator.NE: exp.NEQ,
    Operator.LT: exp.LT,
    Operator.LTE: exp.LTE,
    Operator.GT: exp.GT,
    Operator.GTE: exp.GTE,
}
_FUNCTIONS = {Operator.CONTAINS: "contains", Operator.STARTSWITH: "starts_with", Operator.ENDSWITH: "ends_with"}


def compile_predicate(predicate: Predicate, scope: Scope) -> Expression:
    """The condition as a sqlglot tree, parenthesised wherever it could be misread."""
    match predicate:
        case Every(parts=parts):
            return exp.and_(*[compile_predicate(part, scope) for part in parts]) if parts else exp.true()
        case Some(parts=parts):
            return exp.paren(exp.or_(*[compile_predicate(part, scope) for part in parts])) if parts else exp.false()
        case Negation(part=part):
            return exp.Not(this=exp.paren(compile_predicate(part, scope)))
        case Comparison():
            return _compile_comparison(predicate, scope)


def _compile_comparison(node: Comparison, scope: Scope) -> Expression:
    op, column = node.op, node.column
    value = scope.value(column)
    if op is Operator.ISNULL:
        missing: Expression = exp.Is(this=value, expression=exp.Null())
        return exp.Not(this=missing) if node.negated else missing
    if node.ref is not None:
        return _compile_columns(node, node.ref, scope)
    if op in (Operator.IN, Operator.NOTIN):
        return _compile_membership(node, scope)
    if op in _FUNCTIONS:
        return call(_FUNCTIONS[op], _text(column, value), scope.parameter(node.slots[0]))
    if op is Operator.GLOB:
        return exp.Glob(this=_text(column, value), expression=scope.parameter(node.slots[0]))
    if op in (Operator.EQ, Operator.NE):
        return _COMPARISONS[op](this=value, expression=scope.typed(node.slots[0], column))
    rank = scope.rank(column)
    if op is Operator.BETWEEN:
        low, high = (scope.typed(slot, column) for slot in node.slots)
        # An upper bound leaves NaN out, unless it is infinite: DuckDB has NaN above infinity, and not equal to it.
        return exp.Between(this=rank, low=low, high=high)
    compared = _COMPARISONS[op](this=rank, expression=scope.typed(node.slots[0], column))
    if op in (Operator.GT, Operator.GTE) and column.may_be_nan:
        return exp.and_(compared, _is_number(scope.value(column)))
    return compared


def _compile_columns(node: Comparison, ref: Column, scope: Scope) -> Expression:
    labels = node.column.is_size_label and ref.is_size_label
    left, right = (scope.rank(one) if labels else scope.value(one) for one in (node.column, ref))
    if _as_doubles(node.column, ref):
        left, right = cast(left, "DOUBLE"), cast(right, "DOUBLE")
    elif node.column.sql_type != ref.sql_type:
        left, right = _in_range(left, node.column), _in_range(right, ref)
    compared = _COMPARISONS[node.op](this=left, expression=right)
    if node.op in (Operator.EQ, Operator.NE):
        return compared
    numbers = [_is_number(scope.value(one)) for one in (node.column, ref) if one.may_be_nan]
    if not numbers:
        return compared
    # A null on one side makes it unknown, also where NaN on the other would make it false.
    missing = exp.or_(*[exp.Is(this=scope.value(one), expression=exp.Null()) for one in (node.column, ref)])
    return exp.Case(ifs=[exp.If(this=missing, true=exp.Null())], default=exp.and_(compared, *numbers))


def _as_doubles(left: Column, right: Column) -> bool:
    """Whether two columns hold numbers of different kinds.

    DuckDB would round integers to 32 bits beside a FLOAT, and fail where a wide decimal has no room for the other's
    scale.
    """
    if not (left.kind.is_numeric and right.kind.is_numeric) or left.sql_type == right.sql_type:
        return False
    return left.kind is not Kind.INTEGER or right.kind is not Kind.INTEGER


def _in_range(value: Expression, column: Column) -> Expression:
    """A time beside one of another type: DuckDB would take both for nanoseconds, which end in the year 2262."""
    return cast(value, "TIMESTAMP") if column.sql_type == "TIMESTAMP_NS" else value


def _compile_membership(node: Comparison, scope: Scope) -> Expression:
    column = node.column
    value = scope.value(column)
    found: Expression
    if node.listed:
        item = "VARCHAR" if column.kind is Kind.STRING else column.sql_type
        listed = cast(scope.parameter(node.slots[0]), f"{item}[]")
        found = exp.In(this=value, query=exp.Subquery(this=exp.select(call("unnest", listed))))
    elif node.slots:
        found = exp.In(this=value, expressions=[scope.typed(slot, column) for slot in node.slots])
    else:  # nothing is in an empty list, and all is outside of it; of null neither is known
        same = exp.EQ if node.op is Operator.NOTIN else exp.NEQ
        return same(this=value, expression=scope.value(column))
    return exp.Not(this=exp.paren(found)) if node.op is Operator.NOTIN else found


def _text(column: Column, value: Expression) -> Expression:
    return cast(value, "VARCHAR") if column.sql_type.upper().startswith("ENUM") else value


def _is_number(value: Expression) -> Expression:
    return exp.Not(this=call("isnan", value))
