"""Needle search: many needles in the letters of a window at once, each where it stands apart and hangs together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import re2

from medward.guard.errors import MedwardError
from medward.guard.release.disguises.letters import UndisguisedLetters
from medward.guard.release.text.needles import Needle
from medward.guard.release.text.spans import IdentifierKind

_WIDEST_GAP = 8  # characters between two letters of one identifier
_SHORTEST_SPLIT = 5  # letters from which a name may be split anywhere; a shorter one into single letters only

_MEMORY = 128 << 20  # bytes, for the expression of all needles
_WORD = re.compile(r"[A-Za-z]+")
_WORD_BEFORE = re.compile(rb"([A-Za-z]+)[^A-Za-z0-9]{0,4}$")
_LABEL_BEFORE = re.compile(rb"(?:([A-Za-z]+)[ .:=#(-]{1,4}(?:is )?|#)$")
_WORD_BEHIND = re.compile(rb"[ -]{0,2}([A-Za-z]+|%)")
_DECIMAL = re.compile(rb"[0-9][.,][0-9]")
_SHORT_DATE = re.compile(rb"[0-9]{6}|[0-9]{1,2}([/. -])[0-9]{1,2}\1[0-9]{2}|[0-9]([^0-9]{1,8})[0-9](?:\2[0-9]){4}")
_LONGEST_SHORT_DATE = 6  # digits, of which two are the year
_LONGEST_QUANTITY = 5  # digits
_SHORTEST_NAME = 2  # letters
_HYPHENATED = re.compile(rb"-[A-Z]{2}")
_LOOKED_BACK = 24  # characters

IdentifierRange = tuple[int, int, IdentifierKind]
"""Start and end in a window, and the kind of what stands there."""


@dataclass(frozen=True, slots=True)
class PlainWords:
    """Plain words are words of a language in small letters: which of them what is known may be mistaken for.

    `common` ones are names only with a capital, `clinical` ones only beside a title; a number before one that is
    `measured` is a quantity; behind `labels` and `titles` stand numbers and names.
    """

    common: frozenset[str] = frozenset()
    clinical: frozenset[str] = frozenset()
    measured: frozenset[str] = frozenset()
    labels: frozenset[str] = frozenset()
    titles: frozenset[str] = frozenset()


class NeedleSearch:
    """A needle search finds many needles in the letters of a window."""

    def __init__(self, needles: Sequence[Needle]) -> None:
        self.needles = needles
        self._kinds = {each.letters: each.kind for each in needles}
        try:
            self._any = re2.compile(b"|".join(each.letters for each in needles) or rb"[^\x00-\xff]", _latin1())
        except re2.error:
            raise MedwardError(
                f"known identifiers: {len(needles)} ways to write them are too many to search for; give fewer values"
            ) from None

    def kind_in(self, letters: bytes) -> IdentifierKind | None:
        """The kind of a needle that is in the letters, wherever, if there is one."""
        match = self._any.search(letters)
        return self._kinds[match.group()] if match else None

    def matches(
        self, view: bytes, found: UndisguisedLetters, words: PlainWords = PlainWords()
    ) -> Iterator[IdentifierRange]:
        """Where the needles stand in the window, and are not plain words or quantities there."""
        if not self._any.search(found.letters):
            return
        for needle in self.needles:
            at = found.letters.find(needle.letters)
            while at >= 0:
                past = at + len(needle.letters)
                start = int(min(found.starts[at], found.starts[past - 1]))
                end = int(max(found.ends[at], found.ends[past - 1]))
                if (
                    _stands_apart(view, start, end, needle)
                    and _close_enough(found, at, past, needle)
                    and not _means_something_else(view, start, end, needle, words)
                ):
                    yield start, end, needle.kind
                at = found.letters.find(needle.letters, at + 1)

    def token_matches(
        self, view: bytes, found: UndisguisedLetters, words: PlainWords, *, across: bool
    ) -> Iterator[IdentifierRange]:
        """Where the needles stand in letters of tokens, whole tokens unless loose; `across` several, however far apart.

        What stands within one token as it is written is left to `matches`, which knows common words.
        """
        for needle in self.needles:
            at = found.letters.find(needle.letters)
            while at >= 0:
                past = at + len(needle.letters)
                start, end = int(found.starts[at]), int(found.ends[past - 1])
                if (needle.loose or _whole_tokens(found, at, past)) and not (
                    across
                    and (_in_one_token(found, at, past) or _means_something_else(view, start, end, needle, words))
                ):
                    yield start, end, needle.kind
                at = found.letters.find(needle.letters, at + 1)


def _latin1() -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False  # the expression holds what may not be logged
    options.max_mem = _MEMORY
    return options


def _stands_apart(view: bytes, start: int, end: int, needle: Needle) -> bool:
    """Whether no letter or digit is right beside a match that must stand apart."""
    return needle.loose or not (view[max(0, start - 1) : start].isalnum() or view[end : end + 1].isalnum())


def _means_something_else(view: bytes, start: int, end: int, needle: Needle, words: PlainWords) -> bool:
    """Whether what stands there is a plain word, a quantity, or too short to mean what is known."""
    written = view[start:end]
    if needle.labelled and written.strip() != view.strip() and not _is_labelled(view, start, words.labels):
        return True
    if needle.letters.isdigit():
        if needle.kind is IdentifierKind.DATE:
            return len(needle.letters) <= _LONGEST_SHORT_DATE and not _SHORT_DATE.fullmatch(written)
        behind = _WORD_BEHIND.match(view, end)
        return len(needle.letters) <= _LONGEST_QUANTITY and bool(
            (behind and behind[1].decode().lower() in words.measured)
            or (len(needle.letters) < _LONGEST_QUANTITY and _DECIMAL.search(written))
        )
    if needle.name and len(needle.letters) <= _SHORTEST_NAME and _HYPHENATED.match(view, end):
        return True
    said = _WORD.findall(written.decode("ascii")) if needle.name else []
    low = [each.lower() for each in said]
    if needle.kind is IdentifierKind.PLACE:
        return bool(low) and (
            (written.islower() and len(low) == 1 and low[0] in words.common) or words.clinical.issuperset(low)
        )
    if not low or not all(each in words.common or each in words.clinical for each in low):
        return False
    if not all(each[0].isupper() for each in said):
        return True
    return len(low) == 1 and low[0] in words.clinical and not _is_addressed(view, start, words.titles)


def _is_labelled(view: bytes, start: int, labels: frozenset[str]) -> bool:
    match = _LABEL_BEFORE.search(view, max(0, start - _LOOKED_BACK), start)
    return match is not None and (match[1] is None or match[1].decode().lower() in labels)


def _is_addressed(view: bytes, start: int, titles: frozenset[str]) -> bool:
    match = _WORD_BEFORE.search(view, max(0, start - _LOOKED_BACK), start)
    return match is not None and match[1].decode().lower() in titles


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
