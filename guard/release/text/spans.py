"""Identifier spans: where in a text an identifier stands, of which kind it is, and what found it. Never its value."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class IdentifierKind(StrEnum):
    """The kinds of identifier that HIPAA's Safe Harbor lists (45 CFR 164.514(b)(2)), as far as a text can hold them.

    Fingerprints and photographs, the other two of the eighteen, are no text.
    """

    NAME = "name"
    PLACE = "place"  # anything below a state: street, city, postcode, hospital
    DATE = "date"  # anything finer than a year
    AGE = "age"  # over 89
    PHONE = "phone"
    FAX = "fax"
    EMAIL = "email"
    SOCIAL_SECURITY = "social_security"
    RECORD_NUMBER = "record_number"
    HEALTH_PLAN = "health_plan"
    ACCOUNT = "account"
    LICENCE = "licence"
    VEHICLE = "vehicle"
    DEVICE = "device"
    URL = "url"
    IP_ADDRESS = "ip_address"
    CODE = "code"  # any other number, characteristic or code that is somebody's alone


@dataclass(frozen=True, slots=True, order=True)
class IdentifierSpan:
    """An identifier span says that characters `start` to `end` (half open) are an identifier of one kind.

    `source` names the layer that found it: known, pattern, lexicon or model. The value itself is never kept, so a span
    may be logged.
    """

    start: int
    end: int
    kind: IdentifierKind
    source: str


_ORDER = {"known": 0, "pattern": 1, "lexicon": 2, "model": 3}


def join_spans(spans: Iterable[IdentifierSpan]) -> list[IdentifierSpan]:
    """The union of spans, ordered and apart: what overlaps becomes one span, of the kind of its longest part.

    Any kind goes before a mere code. Of parts as long as each other the surest says the kind: a known identifier before
    a pattern, a lexicon, a model.
    """
    joined: list[IdentifierSpan] = []
    longest: list[IdentifierSpan] = []
    for span in sorted(spans, key=_place):
        if joined and span.start < joined[-1].end:
            best = min(longest[-1], span, key=_standing)
            longest[-1] = best
            joined[-1] = IdentifierSpan(joined[-1].start, max(joined[-1].end, span.end), best.kind, best.source)
        else:
            joined.append(span)
            longest.append(span)
    return joined


def _standing(span: IdentifierSpan) -> tuple[bool, int, int]:
    return span.kind is IdentifierKind.CODE, span.start - span.end, _ORDER[span.source]


def _place(span: IdentifierSpan) -> tuple[int, int, str, str]:
    return span.start, span.end, span.kind, span.source
