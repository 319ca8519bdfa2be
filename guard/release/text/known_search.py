"""Search for known identifiers, however they are written: in any case, order, spacing or disguise, with one typo."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import re2

from medward.guard.release.text.disguises import (
    LOOK_ALIKE_DIGITS,
    encoded_stretches,
    look_alike_letters,
    plain_letters,
    reversed_letters,
    rot13_letters,
    spelled_digits,
)
from medward.guard.release.text.fold import FoldedText
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.needle_search import IdentifierRange, NeedleSearch
from medward.guard.release.text.needles import Needle, known_needles, name_parts, unfoldable_parts
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan
from medward.guard.release.text.typos import TypoTable

_SHORTEST_ENCIPHERED = 4
_SHORTEST_WITH_TYPO = 6
_SHORTEST_NUMBER_WITH_TYPO = 7
_SHORTEST_LOWER_WITH_TYPO = 8  # without a capital, where common words would be taken for names
_WORDS = re.compile(rb"[A-Za-z]+(?:'[A-Za-z]+)?")
_NUMBERS = re.compile(rb"(?<![A-Za-z0-9])[A-Za-z]{0,4}[-/#]?[0-9](?:[-./ ]?[0-9]){4,30}(?![A-Za-z0-9])")


class KnownSearch:
    """A search for the known identifiers of one request in the windows of a text.

    `common` are words that are no identifier unless written with a capital; `digits` and `months` are the language's.
    """

    def __init__(
        self,
        known: KnownIdentifiers,
        *,
        months: Mapping[str, int],
        digits: Mapping[str, str],
        common: frozenset[str],
    ) -> None:
        needles = known_needles(known, months)
        self._unfoldable = unfoldable_parts(known)
        enciphered = [each for each in needles if len(each.letters) >= _SHORTEST_ENCIPHERED]
        names = [each for each in enciphered if each.name]
        self._needles = NeedleSearch(needles)
        self._look_alikes = NeedleSearch(
            [Needle(each.kind, each.letters.translate(LOOK_ALIKE_DIGITS), each.loose, True) for each in names]
        )
        self._enciphered = NeedleSearch(enciphered)
        self._enciphered_names = NeedleSearch(names)
        self._numbers = NeedleSearch([each for each in enciphered if _numeric(each)])
        self._digits, self._common = digits, common
        self._two_number_words = re2.compile(
            rb"(?i)\b(?:%s)\b[^A-Za-z0-9]{1,8}\b(?:[a-z0-9]|%s)\b" % ((_any_of(digits),) * 2)
        )
        self._typos = {
            kind: TypoTable(each.letters for each in needles if each.kind is kind and _may_have_typo(each))
            for kind in {each.kind for each in needles if _may_have_typo(each)}
        }
        self._initials = [
            re.compile(rb"(?<![A-Za-z])" + rb"\.? ?".join(part[:1].upper() for part in parts) + rb"\.(?![A-Za-z])")
            for kind, value in known.values
            if kind is IdentifierKind.NAME and len(whole := name_parts(value)) > 1
            for parts in (whole, [whole[0], whole[-1]])
        ]
        self._initial_letters = {
            part[:1] for kind, value in known.values if kind is IdentifierKind.NAME for part in name_parts(value)
        }

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Every place at which a known identifier stands; parts of one name are one span."""
        for start, end, kind in self._joined(folded.view, sorted(set(self._ranges(folded.view)))):
            yield IdentifierSpan(*folded.span_in_text(start, end), kind, "known")
        for kind, part in self._unfoldable:
            at = folded.text.find(part)
            while at >= 0:
                yield IdentifierSpan(at, at + len(part), kind, "known")
                at = folded.text.find(part, at + 1)

    def _ranges(self, view: bytes) -> Iterator[IdentifierRange]:
        plain = plain_letters(view)
        yield from self._needles.matches(view, plain, self._common)
        yield from self._look_alikes.matches(view, look_alike_letters(view), self._common)
        yield from self._enciphered.matches(view, reversed_letters(plain))
        yield from self._enciphered_names.matches(view, rot13_letters(plain))
        if self._numbers.needles and self._two_number_words.search(view):
            yield from self._numbers.matches(view, spelled_digits(view, self._digits))
        for start, end, text in encoded_stretches(view):
            kind = self._enciphered.kind_in(plain_letters(text).letters)
            if kind:
                yield start, end, kind
        yield from self._with_typo(view)
        for initials in self._initials:
            yield from ((*match.span(), IdentifierKind.NAME) for match in initials.finditer(view))

    def _with_typo(self, view: bytes) -> Iterator[IdentifierRange]:
        for kind, table in self._typos.items():
            if kind in (IdentifierKind.NAME, IdentifierKind.PLACE):
                for match in _WORDS.finditer(view):
                    word = match[0].lower().replace(b"'", b"")
                    least = _SHORTEST_WITH_TYPO if match[0][:1].isupper() else _SHORTEST_LOWER_WITH_TYPO
                    if len(word) >= least - 1 and word.decode() not in self._common and table.knows(word):
                        yield *match.span(), kind
            elif kind is not IdentifierKind.DATE:
                for match in _NUMBERS.finditer(view):
                    if table.knows(re.sub(rb"[^a-z0-9]", b"", match[0].lower())):
                        yield *match.span(), kind

    def _joined(self, view: bytes, ranges: list[IdentifierRange]) -> Iterator[IdentifierRange]:
        """Ranges, where names side by side are one, with the initials beside them."""
        joined: list[IdentifierRange] = []
        for start, end, kind in ranges:
            if (
                joined
                and kind is joined[-1][2] is IdentifierKind.NAME
                and _SIDE_BY_SIDE.fullmatch(view, joined[-1][1], start)
            ):
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]), kind)
            else:
                joined.append((start, end, kind))
        for start, end, kind in joined:
            if kind is IdentifierKind.NAME:
                before = _INITIAL_BEFORE.search(view, max(0, start - 4), start)
                behind = _INITIAL_BEHIND.match(view, end)
                if before and before[1].lower() in self._initial_letters:
                    start = before.start()
                if behind and behind[1].lower() in self._initial_letters:
                    end = behind.end()
            yield start, end, kind


_SIDE_BY_SIDE = re.compile(rb"(?:[ ,.^_-]{0,3}(?:[A-Za-z]\.)?[ ,.^_-]{0,2})")
_INITIAL_BEFORE = re.compile(rb"(?<![A-Za-z0-9])([A-Za-z])\.? ?$")
_INITIAL_BEHIND = re.compile(rb",? ([A-Z])\.")


def _any_of(words: Iterable[str]) -> bytes:
    return "|".join(words).encode("ascii")


def _numeric(needle: Needle) -> bool:
    return sum(map(str.isdigit, needle.letters.decode())) >= 3


def _may_have_typo(needle: Needle) -> bool:
    if needle.name:
        return len(needle.letters) >= _SHORTEST_WITH_TYPO
    return needle.letters[-4:].isdigit() and len(needle.letters) >= _SHORTEST_NUMBER_WITH_TYPO
