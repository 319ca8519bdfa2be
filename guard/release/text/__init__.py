"""Identifiers in text: found, and replaced by visible markers before the text leaves."""

from medward.guard.release.text.filter import TextFilter, find_identifiers
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan

__all__ = [
    "IdentifierKind",
    "IdentifierSpan",
    "KnownIdentifiers",
    "TextFilter",
    "find_identifiers",
]
