"""Folded texts: the ASCII letters a reader would see in a text, and which character of the text each of them is.

Zero-width and bidi marks go, accents go, look-alike letters and compatibility forms become the letter they look like
(`characters`). Patterns and lexicons then need to know one spelling only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medward.guard.release.disguises.characters import SEEN_AS, UNREADABLE

_CONTROL = re.compile(r"[^\t\n\r\f\v -~]")
_CONTROL_BYTES = bytes([*range(9), *range(14, 32), 127])


@dataclass(frozen=True, slots=True)
class FoldedText:
    """A folded text is ASCII bytes, and for each of them the place in the text it was folded from (None: the same)."""

    text: str
    view: bytes
    places: Sequence[int] | None = None

    def span_in_text(self, start: int, end: int) -> tuple[int, int]:
        """Characters of the text that bytes `start` to `end` were folded from; what is invisible between them too."""
        if self.places is None:
            return start, end
        return self.places[start], self.places[end - 1] + 1


def fold_text(text: str) -> FoldedText:
    """The text folded; a plain ASCII text is its own folding."""
    if text.isascii() and not _CONTROL.search(text):
        return FoldedText(text, text.encode("ascii"))
    pieces = [SEEN_AS[character] for character in text]
    view = "".join(pieces).encode("ascii")
    if len(view) == len(text) and "" not in pieces:
        return FoldedText(text, view)
    return FoldedText(text, view, [place for place, piece in enumerate(pieces) for _ in piece])


def folded_view(text: str) -> bytes:
    """What is seen of the text, where nobody asks for places."""
    if text.isascii():
        return text.encode("ascii").translate(None, _CONTROL_BYTES)
    return "".join([SEEN_AS[character] for character in text]).encode("ascii")


def is_foldable(text: str) -> bool:
    """Whether each letter of a text looks like an ASCII one; of "Иван" none or not all do."""
    return UNREADABLE.encode("ascii") not in folded_view(text)
