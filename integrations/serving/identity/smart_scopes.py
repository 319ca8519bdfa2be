"""Scopes of SMART on FHIR: which granted one covers which that is needed.

``system/DiagnosticReport.c`` lets a backend service create reports; ``system/*.cruds`` lets it do anything.

Reference: SMART App Launch 2.2, "Scopes for requesting FHIR resources"; of version 1 ``.read`` is ``.rs``, ``.write``
is ``.cud`` and ``.*`` is all of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from medward.guard.errors import MedwardError

_SMART = re.compile(r"(patient|user|system)/(\*|[A-Z][A-Za-z]*)\.(read|write|\*|c?r?u?d?s?)")
_FIRST_VERSION = {"read": "rs", "write": "cud", "*": "cruds"}
_OTHER = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749, sec. 3.3: scope-token


class SmartScope(NamedTuple):
    """A scope of SMART on FHIR is whose records, which resource, and what may be done with it."""

    context: str
    resource: str
    permissions: frozenset[str]


def smart_scope(scope: str) -> SmartScope | None:
    """The parts of `scope`, or None where it is none of SMART's or is narrowed by a query."""
    match = _SMART.fullmatch(scope)
    if match is None or not match[3]:
        return None
    return SmartScope(match[1], match[2], frozenset(_FIRST_VERSION.get(match[3], match[3])))


def scope_covers(granted: str, needed: str) -> bool:
    """Whether who was granted the one scope may do all that the other says; scopes not of SMART must be the same."""
    have, need = smart_scope(granted), smart_scope(needed)
    if have is None or need is None:
        return granted == needed
    return (
        have.context == need.context and have.resource in ("*", need.resource) and have.permissions >= need.permissions
    )


def check_scope(needed: str) -> None:
    """Refuse a text that no scope can be, and one that looks like one of SMART's but cannot be read."""
    looks_smart = re.match(r"(patient|user|system)/", needed) is not None
    if _OTHER.fullmatch(needed) is None or (looks_smart and smart_scope(needed) is None):
        raise MedwardError(f"identity: {needed!r} is no scope; write system/DiagnosticReport.c, or the issuer's own")
