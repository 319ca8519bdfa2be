"""Folding: the ASCII letters a reader would see in a text, and which character of the text each of them is.

Zero-width and bidi marks go, accents go, look-alike letters of other alphabets and compatibility forms (full width,
mathematical, circled) become the letter they look like (Unicode UTS 39, confusables; UAX 15, NFKD). Patterns and
lexicons then need to know one spelling only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_UNREADABLE = "\x7f"  # a letter that looks like no ASCII one: no part of a word
_LOOK_ALIKES = (
    dict(
        zip(
            "АВЕЅІЈКМНОРСТУХЗаеорсухіјѕԁһӏԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαγινορτυχϲıȷɑɡꓐꓑꓒßøØđĐłŁæÆœŒðÐþÞ",
            "ABESIJKMHOPCTYX3aeopcyxijsdhlqwABEZHIKMNOPTYXayivoptuxcijagBPDsoOdDlLaAoOdDtT",
            strict=True,
        )
    )
    | dict.fromkeys("‘’‚‛′ʼ´`", "'")
    | dict.fromkeys("“”„‟″«»", '"')
    | dict.fromkeys("‐‑‒–—―−⁃﹣－·•", "-")
    | {"№": "#"}
)
_INVISIBLE = ("Cf", "Mn", "Me", "Cc")
_KEPT = "\t\n\r\f\v"
_CONTROL = re.compile(r"[^\t\n\r\f\v -~]")


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


class _Table(dict[str, str]):
    """What each character folds to, learned as characters are met; at most one entry a character of Unicode."""

    def __missing__(self, character: str) -> str:
        folded = _fold_character(character)
        self[character] = folded
        return folded


def _fold_character(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() or character in _KEPT else ""
    if character in _LOOK_ALIKES:
        return _LOOK_ALIKES[character]
    if unicodedata.category(character) in _INVISIBLE:
        return ""
    if character.isspace():
        return "\n" if character in "\x85\u2028\u2029" else " "
    plain = [_LOOK_ALIKES.get(each, each) for each in unicodedata.normalize("NFKD", character)]
    return "".join(each for each in plain if each.isascii() and each.isprintable())[:4] or _UNREADABLE


_TABLE = _Table()


def fold_text(text: str) -> FoldedText:
    """The text folded; a plain ASCII text is its own folding."""
    if text.isascii() and not _CONTROL.search(text):
        return FoldedText(text, text.encode("ascii"))
    pieces = [_TABLE[character] for character in text]
    view = "".join(pieces).encode("ascii")
    if len(view) == len(text) and "" not in pieces:
        return FoldedText(text, view)
    return FoldedText(text, view, [place for place, piece in enumerate(pieces) for _ in piece])


def is_foldable(text: str) -> bool:
    """Whether each letter of a text looks like an ASCII one; of "Иван" or "太郎" none or not all do."""
    return _UNREADABLE.encode("ascii") not in fold_text(text).view
