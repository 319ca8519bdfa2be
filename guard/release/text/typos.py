"""Typos: whether a word is a known one with one letter wrong, missing, too many or two of them swapped.

Two words are at most that far apart if deleting at most one letter of each can make them equal (SymSpell, Garbe 2012),
so a word is compared with all known ones at once, in time linear in its length.
"""

from __future__ import annotations

from collections.abc import Iterable


def one_deleted(word: bytes) -> frozenset[bytes]:
    """The word, and what is left of it when any one letter is deleted."""
    return frozenset([word, *(word[:at] + word[at + 1 :] for at in range(len(word)))])


class TypoTable:
    """A table of known words that finds those a written word differs from by one typo."""

    def __init__(self, words: Iterable[bytes]) -> None:
        known = sorted(set(words))
        self._forms = frozenset(form for word in known for form in one_deleted(word))
        self._lengths = frozenset(range(min(map(len, known), default=1) - 1, max(map(len, known), default=-2) + 2))
        self._begins = frozenset(word[:2] for word in known)
        self._ends = frozenset(word[-2:] for word in known)

    def knows(self, written: bytes) -> bool:
        """Whether the word is a known one with at most one typo; of four letters or more, one end is spared by it."""
        if len(written) not in self._lengths or (written[:2] not in self._begins and written[-2:] not in self._ends):
            return False
        return not self._forms.isdisjoint(one_deleted(written))
