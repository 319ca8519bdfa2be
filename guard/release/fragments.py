"""Fragments: short answers that together spell a part of a value that is known."""

from __future__ import annotations

from collections.abc import Iterable

from medward.guard.release.disguises.folded_words import folded_words
from medward.guard.release.disguises.spoken import spoken_as_written
from medward.guard.release.redaction_stream import NEVER, TextSpan

FRAGMENT = 12
"""Letters and digits of an answer up to which it counts as a fragment."""
SPELLED = 3
"""Letters and digits in a row of a known value that fragments may not add up to."""
WITHHELD_KIND = "withheld"
"""The kind of a fragment that may not leave."""
_KEPT = 128  # letters of fragments that are remembered
_LONGEST = 4096  # characters of an answer without more letters than a fragment has, that are waited for


class Fragments:
    """Fragments remember the letters of a conversation's short answers.

    Whoever asks for one letter at a time gets answers that say nothing each by itself, and a value would be known by
    its last letter only. So from the third letter in a row on a short answer is withheld.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = [run for run in map(_letters, known) if run]
        self._said = b""

    def spells(self, answer: str) -> bool:
        """Whether a fragment adds a letter to a run of a known value that spans answers; it is remembered."""
        letters = _letters(answer)
        if not letters or len(letters) > FRAGMENT:
            return False
        before, self._said = self._said, (self._said + letters)[-_KEPT:]
        seam = before[-SPELLED + 1 :] + letters
        starts = range(len(seam) - SPELLED + 1)
        new = len(seam) - len(letters)
        runs = [seam[start : start + SPELLED] for start in starts if start < new < start + SPELLED]
        return any(run in value for run in runs for value in self._known)


class FragmentReader:
    """A fragment reader waits whether an answer is a fragment, and takes it out as a whole where it spells too much.

    An answer whose first 4,096 characters hold no more letters than a fragment is no text, and is taken out too: it
    cannot be waited for to its end.
    """

    def __init__(self, fragments: Fragments) -> None:
        self._fragments, self._text = fragments, ""
        self._done = self._no_text = False
        self._next = self._read = 0

    @property
    def settled(self) -> int:
        """Nothing until the answer is longer than a fragment, or over."""
        return NEVER if self._done else 0

    def read(self, piece: str, *, whole: bool) -> list[TextSpan]:
        """The whole answer, where it is a fragment that may not leave."""
        start, self._read = self._read, self._read + len(piece)
        if self._done:
            return self._withheld(start) if self._no_text and piece else []
        self._text += piece
        if len(self._text) >= _LONGEST:
            self._done, self._no_text = True, len(_letters(self._text[:_LONGEST])) <= FRAGMENT
            return self._withheld(0) if self._no_text else []
        if whole:
            self._done = True
            return self._withheld(0) if self._fragments.spells(self._text) else []
        if len(self._text) >= self._next:
            self._next = len(self._text) + max(1, len(self._text) // 2)  # so that the time is linear
            self._done = len(_letters(_whole_words(self._text))) > FRAGMENT
        return []

    def _withheld(self, start: int) -> list[TextSpan]:
        return [TextSpan(start, self._read, WITHHELD_KIND, "conversation")]


def _whole_words(text: str) -> str:
    """The text up to its last white space: a word that goes on may still become one letter of the spelling alphabet."""
    return text[: max((place for place, each in enumerate(text) if each.isspace()), default=0)]


def _letters(text: str) -> bytes:
    return spoken_as_written(folded_words(text))
