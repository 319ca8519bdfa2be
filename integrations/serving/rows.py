"""Rows of a table by the names of their columns: ``{"rows": [{"age": 63, "sex": "f", "lactate": null}]}``.

Every column is sent, a missing value as null where the column may be missing: an absent key is a mistake of the
client's more often than a gap of the patient's, and is refused. A table without gaps and categories may be sent as
numbers too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from medward.guard.columns import TRUTH, Column, is_plain
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec

VALUE_BYTES = 32  # a float64 in full has 24 characters; the rest is for spaces
_ESCAPED = 6  # characters that JSON may write one as
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Word = Annotated[str, Field(strict=True)]
Truth = Annotated[bool, Field(strict=True)]


def nested_numbers_type(spec: ModelSpec) -> Any:
    """Lists of numbers nested as a batch of `spec`; sizes and range are left to `spec.check`."""
    kind: Any = Number
    for _ in range(len(spec.row_shape) + 1):
        kind = Annotated[list[kind], Field(fail_fast=True)]
    return kind


def named_rows_type() -> Any:
    """Rows by the names of their columns, which are left to `spec.check`."""
    row: Any = dict[str, Truth | Number | Word | None]
    return Annotated[list[row], Field(fail_fast=True)]


def rows_type(inputs: Any) -> type[BaseModel]:
    """``{"rows": [...]}`` or ``{"inputs": ...}`` of the type `inputs`."""
    rows = named_rows_type()
    return create_model(
        "PredictRequest", __config__=ConfigDict(extra="forbid"), inputs=(inputs | None, None), rows=(rows | None, None)
    )


def named_inputs(body: Any, spec: ModelSpec) -> Any:
    """What a body for a model with columns holds: named rows, or numbers where these are all that a row is."""
    if (body.rows is None) == (body.inputs is None):
        raise MedwardError('send "rows", objects with a value for each column, and nothing else')
    if body.rows is not None:
        if not body.rows:
            raise MedwardError("rows: at least one row is needed")
        return body.rows
    refuse_numbers(spec)
    return body.inputs


def refuse_numbers(spec: ModelSpec) -> None:
    """Refuse rows of bare numbers for a model whose table has gaps or categories."""
    if not is_plain(spec.columns):
        odd = next(each.name for each in spec.columns if not is_plain([each]))
        raise MedwardError(
            f'inputs: column {odd!r} has gaps or categories, which bare numbers do not say; send "rows" to /v1/predict'
        )


def batch_schemas(spec: ModelSpec, rows: int) -> dict[str, dict[str, Any]]:
    """The JSON schemas of at most `rows` rows of `spec`, by the key of ``/v1/predict`` that they stand under."""
    if spec.columns and not is_plain(spec.columns):
        return {"rows": named_rows_schema(spec.columns, rows)}
    nested: dict[str, Any] = {"type": "number"}
    if spec.low is not None:
        nested["minimum"] = spec.low
    if spec.high is not None:
        nested["maximum"] = spec.high
    for size in reversed(spec.row_shape):
        nested = {"type": "array", "items": nested, "minItems": size, "maxItems": size}
    numbers = {"inputs": {"type": "array", "items": nested, "minItems": 1, "maxItems": rows}}
    return {"rows": named_rows_schema(spec.columns, rows), **numbers} if spec.columns else numbers


def object_schema(key: str, schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of an object that holds `key` and nothing else."""
    return {"type": "object", "required": [key], "additionalProperties": False, "properties": {key: schema}}


def either_schema(schemas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The JSON schema of what one of `schemas` allows."""
    return schemas[0] if len(schemas) == 1 else {"oneOf": [*schemas]}


def named_rows_schema(columns: Sequence[Column], rows: int) -> dict[str, Any]:
    """The JSON schema of at most `rows` named rows."""
    row = {
        "type": "object",
        "required": [each.name for each in columns],
        "additionalProperties": False,
        "properties": {each.name: _value_schema(each) for each in columns},
    }
    return {"type": "array", "items": row, "minItems": 1, "maxItems": rows}


def row_bytes(columns: Sequence[Column]) -> int:
    """How many bytes one named row takes at most."""
    longest = [max([VALUE_BYTES, *(_ESCAPED * len(each) + 2 for each in column.values)]) for column in columns]
    return sum(_ESCAPED * len(each.name) + 8 + size for each, size in zip(columns, longest, strict=True))


def row_marks(columns: Sequence[Column], mark: str) -> int:
    """How often the character `mark` stands in one named row at most: between its values, in names and in texts."""
    within = [each.name.count(mark) + max([0, *(text.count(mark) for text in each.values)]) for each in columns]
    own = {",": len(columns), ":": len(columns), "{": 1}.get(mark, 0)
    return own + sum(within)


def _value_schema(column: Column) -> dict[str, Any]:
    null = ["null"] * column.missing
    if not column.values:
        kind: dict[str, Any] = {"type": ["number", *null] if null else "number"}
    elif column.values == TRUTH:
        kind = {"type": ["boolean", *null] if null else "boolean"}
    else:
        kind = {"enum": [*column.values, *[None] * column.missing]}
    return kind | ({"description": f"in {column.unit}"} if column.unit else {})
