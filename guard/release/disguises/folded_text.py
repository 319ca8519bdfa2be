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
_WIDE_SPACE = re.compile(rb"[\t\n\r\f\v ]{2,}|[\t\n\r\f\v]")
_BREAKS = re.compile(rb"\r\n|[\n\r\f\v]")
_NEW_ENTRY = re.compile(rb"[A-Z][A-Za-z/() -]{0,40}:|[-*>]|[0-9]{1,2}[.)] ")  # a label, an item of a list
_LAST_WORD = re.compile(rb"(?:[A-Za-z]{5}|[0-9]{3}) ?[.;]$")  # of a sentence; what is shorter may be an abbreviation


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


def single_spaced(folded: FoldedText) -> FoldedText:
    """The folded text with each run of white space read as one space, as a line break within a sentence is.

    A blank line, and a break behind a sentence or before a label or an item of a list, separate: they are read as one
    line break.
    """
    view = folded.view
    runs = list(_WIDE_SPACE.finditer(view))
    if not runs:
        return folded
    kept: list[bytes] = []
    places: list[int] = []
    before = 0
    same = all(match.end() - match.start() == 1 for match in runs)
    for match in runs:
        start, end = match.span()
        kept += (view[before:start], b"\n" if _separates(view, start, end) else b" ")
        if not same:
            places += range(before, start + 1)
        before = end
    kept.append(view[before:])
    if same:
        return FoldedText(folded.text, b"".join(kept), folded.places)
    places += range(before, len(view))
    if folded.places is not None:
        places = [folded.places[place] for place in places]
    return FoldedText(folded.text, b"".join(kept), places)


def _separates(view: bytes, start: int, end: int) -> bool:
    """Whether a run of white space separates what stands before it from what follows."""
    breaks = len(_BREAKS.findall(view, start, end))
    if breaks != 1:
        return breaks > 1
    return bool(_NEW_ENTRY.match(view, end) or _LAST_WORD.search(view[max(0, start - 8) : start]))


def folded_view(text: str) -> bytes:
    """What is seen of the text, where nobody asks for places."""
    if text.isascii():
        return text.encode("ascii").translate(None, _CONTROL_BYTES)
    return "".join([SEEN_AS[character] for character in text]).encode("ascii")


def is_foldable(text: str) -> bool:
    """Whether each letter of a text looks like an ASCII one; of "Иван" none or not all do."""
    return UNREADABLE.encode("ascii") not in folded_view(text)
