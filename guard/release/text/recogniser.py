"""The contract of a recogniser of names: an optional second look at a text, by a trained model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from medward.guard.release.text.spans import IdentifierSpan


class NameRecogniser(Protocol):
    """A name recogniser finds people and places in a stretch of text; spans are places in it, their source "model"."""

    def recognise(self, text: str) -> Iterator[IdentifierSpan]:
        """The spans, in any order."""
        ...
