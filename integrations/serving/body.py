"""A JSON body: read up to a bound, refused on its structure before it is parsed, then parsed."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

from fastapi import HTTPException, Request
from pydantic import ValidationError

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import model_intake
from medward.guard.named_values import shown_value
from medward.guard.spec import ModelSpec
from medward.integrations.serving.limits import Limits
from medward.integrations.serving.problems import mistake_sentence
from medward.integrations.serving.rows import VALUE_BYTES, row_bytes, row_marks

LEAST_BYTES = 64 * 1024
CLOSE = {"Connection": "close"}
SHAPES = ("missing", "extra_forbidden", "list_type", "model_type", "dict_type")
"""Mistakes that pydantic finds in the form of a body, rather than in one of its values."""
ENVELOPE = 1024  # values, lists and keys a body may hold besides its rows


def media_type(request: Request) -> str:
    """What the body is, in lower case, "" where nothing says so."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_json(request: Request, spec: ModelSpec, limits: Limits) -> bytes:
    """The body, or 413 once it is longer than `limits.rows` rows of `spec` can be."""
    size = max(VALUE_BYTES * math.prod(spec.shape), row_bytes(spec.columns))
    most = min(limits.body_bytes, max(LEAST_BYTES, limits.rows * size))
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise HTTPException(413, f"a JSON body may hold at most {most} bytes; {shorter_body(spec, most)}", CLOSE)
    return bytes(body)


def shorter_body(spec: ModelSpec, most: int) -> str:
    """How a body for the model of `spec` can be kept to `most` bytes; one row may be longer than that."""
    if VALUE_BYTES * math.prod(spec.shape) <= most:
        return "send fewer rows per request"
    try:
        model_intake(spec)
    except MedwardError:
        return "send one row per request, its values with fewer digits"
    return "send one image per request, as a PNG file or with fewer digits"


def parse_body(body: bytes, body_type: Any, spec: ModelSpec, rows: int, *, wanted: str = "") -> Any:
    """`body` as a pydantic `body_type`; text that is not JSON is a 400, a wrong value a 422.

    `wanted` says what to send, to a client whose body has other keys or lists.

    A parsed value takes up to a hundred times the memory of its text, so a body with more values, lists or
    keys than `rows` rows of `spec` need is refused unparsed, by counting the characters that make them.
    """
    values = math.prod(spec.shape)
    lists = sum(math.prod(spec.row_shape[:depth]) for depth in range(len(spec.row_shape)))
    for mark, most in ((",", values), ("[", lists), (":", 0), ("{", 0)):
        if body.count(mark.encode()) > rows * max(most, row_marks(spec.columns, mark)) + ENVELOPE:
            raise MedwardError(
                f"the body holds more than {rows} rows of shape {spec.row_shape} need; at most {rows} rows per request"
            )
    try:
        found = body_type.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise HTTPException(400, f"the body is not JSON: {mistake_sentence(first)}") from None
        sentence = mistake_sentence(first)
        raise MedwardError(f"{sentence}; {wanted}" if wanted and first["type"] in SHAPES else sentence) from None
    if spec.columns:
        json.loads(body, object_pairs_hook=_refuse_repeats, parse_int=str, parse_float=str)
    return found


def _refuse_repeats(pairs: list[tuple[str, Any]]) -> None:
    """Refuse an object that says one key twice, of which parsers keep the last without a word."""
    if len({key for key, _ in pairs}) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise MedwardError(f"the key {shown_value(twice)} stands twice in one object; leave one")
