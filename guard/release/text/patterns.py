"""The pattern engine: expressions in RE2, which reads a text in linear time whatever is in it, and their checks.

Expressions are run on folded text. A set of all of them says in one pass which occur in a window at all (Cox 2010,
"Regular expression matching in the wild"); only those are searched for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import re2

from medward.guard.errors import MedwardError
from medward.guard.release.disguises.folded_text import FoldedText
from medward.guard.release.text.checksums import CHECKS
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan

_INITIAL = re.compile(r"[A-Z]\.?")
_NEXT_WORD = re.compile(rb"(?:'s)?[ -]{0,2}([A-Za-z]+|%)")
_LAST_WORD = re.compile(rb"([A-Za-z0-9]+)[ :=(]{0,3}$")
_LONGEST_WORD = 24  # characters that are looked back for a word
_MEMORY = 64 << 20  # bytes, for the set of all expressions


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierPattern:
    """An identifier pattern says what an identifier of one kind looks like.

    Where the expression has a group ``(?P<id>...)``, that is the identifier and the rest is context that must be there.
    `check` names a checksum that must hold. A match of which all words are in `unless` is none, nor is one of which any
    word is in `never`; these lists are in lower case. Words in `trim` at its ends are no part of it, but for the one
    right behind a word in `after` ("Dr. White"); nor is a full stop behind a whole word. A word that
    ends as in `trim_endings`, and is no name, goes too. A match is none right before a word in `not_before` ("99 mL")
    or right behind one in `not_behind` ("temperature 99").
    """

    kind: IdentifierKind
    expression: str
    check: str = ""
    unless: frozenset[str] = frozenset()
    trim: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()
    after: frozenset[str] = frozenset()
    trim_endings: frozenset[str] = frozenset()
    not_before: frozenset[str] = frozenset()
    not_behind: frozenset[str] = frozenset()


class PatternSet:
    """A pattern set searches a window for many identifier patterns.

    `given` are given names: one that is trimmed from the front stays where a name follows ("Will Young"); `surnames`
    are known besides, so that no ending makes a verb of them.
    """

    def __init__(
        self,
        patterns: Sequence[IdentifierPattern],
        given: frozenset[str] = frozenset(),
        surnames: frozenset[str] = frozenset(),
    ) -> None:
        self._given, self._names = given, given | surnames
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1
        options.log_errors = False
        self._compiled = []
        roomy = re2.Options()
        roomy.encoding, roomy.log_errors, roomy.max_mem = options.encoding, False, _MEMORY
        self._occurring = re2.Set.SearchSet(roomy)
        for pattern in patterns:
            expression = pattern.expression.encode("ascii")
            try:
                compiled = re2.compile(expression, options)
            except re2.error:
                raise MedwardError(
                    f"pattern for {pattern.kind}: not an expression RE2 can read: {pattern.expression}"
                ) from None
            self._occurring.Add(expression)
            check = CHECKS[pattern.check] if pattern.check else None
            self._compiled.append((pattern, compiled, compiled.groupindex.get(b"id", 0), check))
        self._occurring.Add(rb"\C")
        self._occurring.Compile()

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Every match in the window, of every pattern."""
        for number in self._occurring_in(folded.view):
            pattern, expression, group, check = self._compiled[number]
            for start, end in _matches(expression, group, folded.view):
                value = folded.view[start:end].decode()
                if pattern.trim:
                    before, value = self._trimmed(value, pattern)
                    start, end = start + before, start + before + len(value)
                if not value or (check and not check(value)) or not _allowed(pattern, value):
                    continue
                if not _stands_well(pattern, folded.view, start, end):
                    continue
                yield IdentifierSpan(*folded.span_in_text(start, end), pattern.kind, "pattern")

    def _trimmed(self, value: str, pattern: IdentifierPattern) -> tuple[int, str]:
        """What is left of a value without words to trim at its ends, and how many characters before it are gone."""
        parts = value.split(" ")
        first, last = 0, len(parts)
        while first < last and self._goes(parts[first], pattern):
            first += 1
        if 0 < first < last and _bare(parts[first - 1]) in self._given:
            first -= 1
        while last > first and self._goes(parts[last - 1], pattern):
            if last - first > 1 and _addresses(parts[last - 2], pattern.after):
                break
            if last - first > 1 and parts[last - 2].endswith(",") and _INITIAL.fullmatch(parts[last - 1]):
                break  # "Khan, A."
            last -= 1
        left = " ".join(parts[first:last])
        if left.endswith(".") and (len(parts[last - 1]) > 3 or last - first == 1):
            left = left[:-1]
        left = left.removesuffix("'s").removesuffix(",")
        return len(value) - len(" ".join(parts[first:])), left

    def _goes(self, part: str, pattern: IdentifierPattern) -> bool:
        """Whether a word is to trim: one of the list, or a verb by its ending."""
        word = _bare(part)
        return word in pattern.trim or (word.endswith(tuple(pattern.trim_endings)) and word not in self._names)

    def _occurring_in(self, view: bytes) -> Sequence[int]:
        """Which patterns occur. A set that ran out of memory says nothing, not even its last, which always occurs."""
        occurring: Sequence[int] = self._occurring.Match(view) or ()
        everything = range(len(self._compiled))
        return [each for each in occurring if each in everything] if len(everything) in occurring else everything


def _matches(expression: Any, group: int, view: bytes) -> Iterator[tuple[int, int]]:
    """Where the group matches, from left to right; what stands behind one match may stand before the next."""
    match = expression.search(view)
    while match:
        start, end = match.span(group)
        yield start, end
        match = expression.search(view, max(end, match.start() + 1))


def _bare(word: str) -> str:
    return word.lower().removesuffix("'s").rstrip(".,")


def _allowed(pattern: IdentifierPattern, value: str) -> bool:
    """Whether the words of a match are neither all, nor any of them, words of other things."""
    if not pattern.unless and not pattern.never:
        return True
    words = {_bare(each) for each in value.split()}
    return not words <= pattern.unless and words.isdisjoint(pattern.never)


def _stands_well(pattern: IdentifierPattern, view: bytes, start: int, end: int) -> bool:
    """Whether no word that makes something else of a match stands right before or behind it."""
    if pattern.not_before and (then := _NEXT_WORD.match(view, end)) and then[1].decode().lower() in pattern.not_before:
        return False
    before = _LAST_WORD.search(view, max(0, start - _LONGEST_WORD), start) if pattern.not_behind else None
    return not before or before[1].decode().lower() not in pattern.not_behind


def _addresses(word: str, titles: frozenset[str]) -> bool:
    """Whether a word is a title that a name must follow; MR and MS without a full stop are also other things."""
    return _bare(word) in titles and (word.endswith(".") or not word.isupper())
