"""The published JSON Schema of the body of ``POST /api/query``. ``body.py`` does not need it: it reads and explains."""

from __future__ import annotations

from typing import Any

from queries.request import FUNCTIONS, Operator
from queries.strict_json import MAX_ITEMS
from queries.url import MAX_COUNT

_NAME = {"type": "string", "minLength": 1}
_NAMES = {"anyOf": [_NAME, {"type": "array", "items": _NAME, "minItems": 1, "maxItems": MAX_ITEMS}]}
_KEYS = {"anyOf": [_NAME, {"type": "array", "items": _NAME, "maxItems": MAX_ITEMS}]}
_SCALAR = {"type": ["string", "number", "boolean"]}
_SCALARS = {"type": "array", "items": _SCALAR, "maxItems": MAX_ITEMS}
_TREE = {"$ref": "#/$defs/where"}
_FUNCTION = {
    "description": "The percentiles are p01 to p99; std, var and sem are the sample's.",
    "anyOf": [{"enum": list(FUNCTIONS)}, {"type": "string", "pattern": "^p(0[1-9]|[1-9][0-9])$"}],
}


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what :func:`queries.body.parse_body` takes.

    It says all but what no schema can: the nesting depth, the number of conditions and the bytes of the whole.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Query",
        "description": "One question about one version of a dataset. A field that is null counts as not given.",
        **_object(
            ["dataset"],
            dataset=_said(_NAME, "Name of the dataset."),
            version=_said(
                {"type": ["string", "integer"], "minLength": 1, "minimum": 0},
                "As v7, 7 or a content id; the latest when not given.",
            ),
            select=_said(_NAMES, "Columns of the answer; all physical ones when not given."),
            where=_said(_TREE, "Which rows."),
            group_by=_said(_KEYS, "Group keys; the aggregates are mean, std and count unless aggs says otherwise."),
            aggs=_said(_some({"$ref": "#/$defs/aggregate"}), "Aggregates, one column each."),
            having=_said(_TREE, "Which groups; columns are those of the answer."),
            sort=_said(
                _some({"$ref": "#/$defs/sort_key"}), "Sort keys; ties keep the order of the rows, nulls come last."
            ),
            limit=_said({"type": "integer", "minimum": 0, "maximum": MAX_COUNT}, "The most rows; all when not given."),
            offset=_said({"type": "integer", "minimum": 0, "maximum": MAX_COUNT}, "Rows to skip."),
            cursor=_said(_NAME, "next_cursor of the answer before."),
            pivot=_said(_NAME, "Column whose values become columns."),
            pivot_values=_said(_NAME, "Column that fills them."),
            distinct=_said({"type": "boolean"}, "Each row of the answer once."),
            last_by=_said(_KEYS, "Of each group of these columns, the row at the largest step."),
            best_by=_said({"$ref": "#/$defs/best_by"}, "Of each group, the row with the best value."),
            facets=_said(_KEYS, "Columns whose distinct values are counted under the other filters."),
            explain=_said({"type": "boolean"}, "Add the SQL and the plan."),
            strict=_said({"type": "boolean"}, "False: a value that a dimension does not have is a warning."),
            total=_said({"type": "boolean"}, "False: spare counting the rows that there are without limit."),
        ),
        "$defs": {
            "where": {
                "description": "A condition, or conditions joined.",
                "oneOf": [
                    {"$ref": "#/$defs/condition"},
                    *(
                        {
                            "type": "object",
                            "properties": {name: {"type": "array", "items": _TREE, "maxItems": MAX_ITEMS}},
                            "required": [name],
                            "additionalProperties": False,
                        }
                        for name in ("and", "or")
                    ),
                    {
                        "type": "object",
                        "properties": {"not": _TREE},
                        "required": ["not"],
                        "additionalProperties": False,
                    },
                ],
            },
            "condition": {
                **_object(
                    ["col"],
                    col=_NAME,
                    op=_said({"enum": [operator.value for operator in Operator]}, "eq when not given, in with a list."),
                    value={"anyOf": [_SCALAR, _SCALARS]},
                    ref=_said(_NAME, "A second column, in place of a value."),
                ),
                "anyOf": [
                    *(
                        {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
                        for name in ("value", "ref")
                    ),
                    {"required": ["op"], "properties": {"op": {"const": Operator.ISNULL.value}}},
                ],
            },
            "aggregate": {
                "anyOf": [
                    {"type": "string", "pattern": f"^({'|'.join(FUNCTIONS)}|p(0[1-9]|[1-9][0-9]))(:[\\s\\S]+)?$"},
                    _object(["fn"], fn=_FUNCTION, col=_NAME, **{"as": _NAME}),
                ]
            },
            "sort_key": {
                "anyOf": [
                    {"type": "string", "pattern": "^(-[\\s\\S]|[^-])"},
                    _object(["col"], col=_NAME, desc={"type": "boolean"}),
                ]
            },
            "best_by": {
                "anyOf": [
                    _NAMES,
                    _object(
                        ["by"],
                        by=_NAMES,
                        col=_said(_NAME, "The measure when not given."),
                        desc=_said(
                            {"type": "boolean"}, "Whether the largest is best; the metric's direction when not given."
                        ),
                    ),
                ]
            },
        },
    }


def _said(schema: dict[str, Any], text: str) -> dict[str, Any]:
    return {"description": text, **schema}


def _some(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item, "maxItems": MAX_ITEMS}]}


def _object(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    """An object of these and no other fields, of which all but the required ones may be null."""
    return {
        "type": "object",
        "properties": {
            name: schema if name in required else {"anyOf": [schema, {"type": "null"}]}
            for name, schema in properties.items()
        },
        "required": required,
        "additionalProperties": False,
    }
