"""Fragments: short answers, or lone characters in longer ones, that together spell a part of a value that is known."""

from __future__ import annotations

import re
from collections.abc import Iterable

from medward.guard.release.disguises.folded_words import folded_words
from medward.guard.release.disguises.spoken import spoken_as_written
from medward.guard.release.redaction_stream import NEVER, TextSpan

FRAGMENT = 12
"""Letters and digits of an answer up to which it counts as a fragment."""
SPELLED = 3
"""Letters and digits in a row of a known value that fragments may not add up to."""
SPELLED_APART = 4
"""The same for lone characters in longer answers, which also count something."""
WITHHELD_KIND = "withheld"
"""The kind of a fragment that may not leave."""
_KEPT = 128  # letters of fragments that are remembered
_WORD = re.compile(r"[^\W_]+")
_LONGEST_WORD = 64  # characters, of a word that stands for one letter
_OWN_WORDS = b"ai"  # letters that are words, too
_LONGEST = 4096  # characters of an answer without more letters than a fragment has, that are waited for


class Fragments:
    """Fragments remember the letters of a conversation's short answers.

    Whoever asks for one letter at a time gets answers that say nothing each by itself, and a value would be known by
    its last letter only. So from the third letter in a row on a short answer is withheld.
    """

    def __init__(self, known: Iterable[str]) -> None:
        self._known = [run for run in map(_letters, known) if run]
        self._said = b""
        self._lone = dict.fromkeys(_WORD_LETTERS, b"")

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

    def lone(self, symbol: bytes, before: int) -> bool:
        """Whether a lone character, behind `before` ones of the same answer, adds to a run that spans answers."""
        found = False
        for own in _WORD_LETTERS:
            if symbol in own:
                continue
            said = self._lone[own] = (self._lone[own] + symbol)[-_KEPT:]
            run = said[-SPELLED_APART:]
            found |= (
                before < SPELLED_APART - 1
                and len(run) == SPELLED_APART
                and any(run in value.translate(None, own) for value in self._known)
            )
        return found


_WORD_LETTERS = (b"", _OWN_WORDS)  # which of them are left out


class LoneCharacterReader:
    """A lone character reader takes out of an answer each digit or letter that stands alone and spells on.

    Whoever asks for one letter at a time in a whole sentence gets answers that are no fragments.
    """

    def __init__(self, fragments: Fragments) -> None:
        self._fragments, self._text, self._offset, self._count = fragments, "", 0, 0

    @property
    def settled(self) -> int:
        """As far as whole words were read."""
        return self._offset

    def read(self, piece: str, *, whole: bool) -> list[TextSpan]:
        """The lone characters that may not leave, in the words that are complete."""
        self._text += piece
        found = []
        read = 0
        for word in _WORD.finditer(self._text):
            if word.end() == len(self._text) and not whole:
                break
            read = word.end()
            symbol = _letters(word[0])
            if len(symbol) == 1:
                if self._fragments.lone(symbol, self._count):
                    start, end = self._offset + word.start(), self._offset + read
                    found.append(TextSpan(start, end, WITHHELD_KIND, "conversation"))
                self._count += 1
        else:
            read = len(self._text)
        read = max(read, len(self._text) - _LONGEST_WORD)  # of a longer word its end is kept: it is not lone
        self._text, self._offset = self._text[read:], self._offset + read
        return found


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
