"""Needle search: many needles in the letters of a window at once, each where it stands apart and hangs together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import re2

from medward.guard.release.disguises.letters import UndisguisedLetters
from medward.guard.release.text.needles import Needle
from medward.guard.release.text.spans import IdentifierKind

_WIDEST_GAP = 8  # characters between two letters of one identifier
_SHORTEST_SPLIT = 5  # letters from which a name may be split anywhere; a shorter one into single letters only

IdentifierRange = tuple[int, int, IdentifierKind]
"""Start and end in a window, and the kind of what stands there."""


class NeedleSearch:
    """A needle search finds many needles in the letters of a window."""

    def __init__(self, needles: Sequence[Needle]) -> None:
        self.needles = needles
        self._kinds = {each.letters: each.kind for each in needles}
        self._any = re2.compile(b"|".join(each.letters for each in needles) or rb"[^\x00-\xff]", _latin1())

    def kind_in(self, letters: bytes) -> IdentifierKind | None:
        """The kind of a needle that is in the letters, wherever, if there is one."""
        match = self._any.search(letters)
        return self._kinds[match.group()] if match else None

    def matches(
        self, view: bytes, found: UndisguisedLetters, common: frozenset[str] = frozenset()
    ) -> Iterator[IdentifierRange]:
        """Where the needles stand in the window; a name that is a common word needs a capital."""
        if not self._any.search(found.letters):
            return
        for needle in self.needles:
            at = found.letters.find(needle.letters)
            while at >= 0:
                past = at + len(needle.letters)
                start = int(min(found.starts[at], found.starts[past - 1]))
                end = int(max(found.ends[at], found.ends[past - 1]))
                word = view[start:end].decode("ascii")
                plain_word = needle.name and word.islower() and word in common
                if (
                    not plain_word
                    and _stands_apart(view, start, end, needle)
                    and _close_enough(found, at, past, needle)
                ):
                    yield start, end, needle.kind
                at = found.letters.find(needle.letters, at + 1)

    def token_matches(self, found: UndisguisedLetters, *, across: bool) -> Iterator[IdentifierRange]:
        """Where the needles stand in letters of tokens, whole tokens unless loose; `across` several, however far apart.

        What stands within one token as it is written is left to `matches`, which knows common words.
        """
        for needle in self.needles:
            at = found.letters.find(needle.letters)
            while at >= 0:
                past = at + len(needle.letters)
                if (needle.loose or _whole_tokens(found, at, past)) and not (across and _in_one_token(found, at, past)):
                    yield int(found.starts[at]), int(found.ends[past - 1]), needle.kind
                at = found.letters.find(needle.letters, at + 1)


def _latin1() -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return options


def _stands_apart(view: bytes, start: int, end: int, needle: Needle) -> bool:
    """Whether no letter or digit is right beside a match that must stand apart."""
    return needle.loose or not (view[max(0, start - 1) : start].isalnum() or view[end : end + 1].isalnum())


def _whole_tokens(found: UndisguisedLetters, at: int, past: int) -> bool:
    """Whether a match begins where a token does and ends where one does."""
    begins = at == 0 or found.starts[at - 1] != found.starts[at]
    ends = past == len(found.letters) or found.starts[past - 1] != found.starts[past]
    return bool(begins and ends)


def _in_one_token(found: UndisguisedLetters, at: int, past: int) -> bool:
    return bool(found.starts[at] == found.starts[past - 1])


def _close_enough(found: UndisguisedLetters, at: int, past: int, needle: Needle) -> bool:
    """Whether the letters of a match are near enough to each other to be read as one identifier."""
    gaps = np.abs(np.diff(found.starts[at:past])) - 1
    gaps = np.minimum(gaps, np.maximum(0, np.abs(found.starts[at + 1 : past] - found.ends[at : past - 1])))
    if not len(gaps) or not gaps.any():
        return True
    if gaps.max() > _WIDEST_GAP:
        return False
    return not needle.name or len(needle.letters) >= _SHORTEST_SPLIT or bool((gaps > 0).all())
