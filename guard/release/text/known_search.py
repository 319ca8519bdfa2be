"""Search for known identifiers, however they are written: in any case, order, spacing or disguise, with one typo."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import re2

from medward.guard.release.text.disguises import (
    LOOK_ALIKE_DIGITS,
    UndisguisedLetters,
    encoded_stretches,
    look_alike_letters,
    plain_letters,
    reversed_letters,
    rot13_letters,
    spelled_digits,
)
from medward.guard.release.text.fold import FoldedText
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.needles import Needle, known_needles, name_parts
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan
from medward.guard.release.text.typos import TypoTable

_WIDEST_GAP = 8  # characters between two letters of one identifier
_SHORTEST_SPLIT = 5  # letters from which a name may be split anywhere; a shorter one into single letters only
_SHORTEST_ENCIPHERED = 4
_SHORTEST_WITH_TYPO = 6
_SHORTEST_NUMBER_WITH_TYPO = 7
_SHORTEST_LOWER_WITH_TYPO = 8  # without a capital, where common words would be taken for names
_WORDS = re.compile(rb"[A-Za-z]+(?:'[A-Za-z]+)?")
_NUMBERS = re.compile(rb"(?<![A-Za-z0-9])[A-Za-z]{0,4}[-/#]?[0-9](?:[-./ ]?[0-9]){4,30}(?![A-Za-z0-9])")

Range = tuple[int, int, IdentifierKind]


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

    def matches(self, view: bytes, found: UndisguisedLetters, common: frozenset[str] = frozenset()) -> Iterator[Range]:
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
        if self._needles.needles:
            for start, end, kind in self._joined(folded.view, sorted(set(self._ranges(folded.view)))):
                yield IdentifierSpan(*folded.span_in_text(start, end), kind, "known")

    def _ranges(self, view: bytes) -> Iterator[Range]:
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

    def _with_typo(self, view: bytes) -> Iterator[Range]:
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

    def _joined(self, view: bytes, ranges: list[Range]) -> Iterator[Range]:
        """Ranges, where names side by side are one, with the initials beside them."""
        joined: list[Range] = []
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


def _latin1() -> re2.Options:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return options


def _any_of(words: Iterable[str]) -> bytes:
    return "|".join(words).encode("ascii")


def _numeric(needle: Needle) -> bool:
    return sum(map(str.isdigit, needle.letters.decode())) >= 3


def _may_have_typo(needle: Needle) -> bool:
    if needle.name:
        return len(needle.letters) >= _SHORTEST_WITH_TYPO
    return needle.letters[-4:].isdigit() and len(needle.letters) >= _SHORTEST_NUMBER_WITH_TYPO


def _stands_apart(view: bytes, start: int, end: int, needle: Needle) -> bool:
    """Whether no letter or digit is right beside a match that must stand apart."""
    return needle.loose or not (view[max(0, start - 1) : start].isalnum() or view[end : end + 1].isalnum())


def _close_enough(found: UndisguisedLetters, at: int, past: int, needle: Needle) -> bool:
    """Whether the letters of a match are near enough to each other to be read as one identifier."""
    gaps = np.abs(np.diff(found.starts[at:past])) - 1
    gaps = np.minimum(gaps, np.maximum(0, np.abs(found.starts[at + 1 : past] - found.ends[at : past - 1])))
    if not len(gaps) or not gaps.any():
        return True
    if gaps.max() > _WIDEST_GAP:
        return False
    return not needle.name or len(needle.letters) >= _SHORTEST_SPLIT or bool((gaps > 0).all())
