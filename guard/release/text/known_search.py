"""Search for known identifiers, however they are written: in any case, order, spacing or disguise, with one typo."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import re2

from medward.guard.release.disguises.ciphers import LEETSPEAK, from_the_end, rotated, rotated_from_the_end
from medward.guard.release.disguises.encodings import encoded_stretches
from medward.guard.release.disguises.folded_text import FoldedText, folded_view
from medward.guard.release.disguises.letters import look_alike_letters, plain_letters, spelled_letters
from medward.guard.release.disguises.spoken import spelling_words
from medward.guard.release.disguises.views import TokenReader, TokenViews
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.needle_search import IdentifierRange, NeedleSearch, PlainWords
from medward.guard.release.text.needles import (
    Needle,
    known_needles,
    name_parts,
    rotated_accent_needles,
    turned_word_needles,
    unfoldable_parts,
)
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan
from medward.guard.release.text.typos import TypoTable

_SHORTEST_ENCIPHERED = 4
_SHORTEST_IN_PIECES = 7  # digits: measurements side by side would be taken for shorter numbers
_SHORTEST_INITIALS = 6  # letters: the initials of any five words spell something
_SHORTEST_INITIAL_DIGITS = 5
_SHORTEST_WITH_TYPO = 6
_SHORTEST_NUMBER_WITH_TYPO = 7
_SHORTEST_LOWER_WITH_TYPO = 8  # without a capital, where common words would be taken for names
_MARKUP_VIEWS, _ENCODED_VIEWS = ("outside-markup", "numbers"), ("base64", "hex", "decimal")
_INITIALS_VIEWS = ("initials", "line-initials")
_ADDRESSES = (IdentifierKind.EMAIL, IdentifierKind.URL)
_OF_WORDS = (IdentifierKind.NAME, IdentifierKind.PLACE)
_WORDS = re.compile(rb"[A-Za-z]{3,}(?:'[A-Za-z]+)?|[A-Za-z]{1,2}'[A-Za-z]{2,}")
_NUMBERS = re.compile(rb"(?<![A-Za-z0-9])[A-Za-z]{0,4}[-/#]?[0-9](?:[-./ ]?[0-9]){4,30}(?![A-Za-z0-9])")


class KnownSearch:
    """A search for the known identifiers of one request in the windows of a text.

    `words`, `digits`, `months` and `titles`, which are no part of a name, are the language's; `reader` is a
    `views_reader`, and may be shared.
    """

    def __init__(
        self,
        known: KnownIdentifiers,
        *,
        months: Mapping[str, int],
        digits: Mapping[str, str],
        words: PlainWords,
        titles: frozenset[str],
        reader: TokenReader,
    ) -> None:
        needles = known_needles(known, months, titles)
        self._unfoldable = unfoldable_parts(known)
        long_enough = [each for each in needles if len(each.letters) >= _SHORTEST_ENCIPHERED]
        in_words = [each for each in long_enough if each.name or each.kind in _ADDRESSES]
        telling = [
            each for each in long_enough if not each.letters.isdigit() or len(each.letters) >= _SHORTEST_IN_PIECES
        ]
        self._needles = NeedleSearch(needles)
        self._look_alikes = NeedleSearch([_enciphered(each, _leetspeak) for each in in_words])
        self._enciphered = NeedleSearch(
            [_enciphered(each, from_the_end) for each in telling]
            + [_enciphered(each, encipher) for each in in_words for encipher in (rotated, rotated_from_the_end)]
            + [*turned_word_needles(known, _SHORTEST_ENCIPHERED)]
            + [*rotated_accent_needles(known, titles, _SHORTEST_ENCIPHERED)]
        )
        self._long_enough = NeedleSearch(long_enough)
        initials = NeedleSearch([each for each in needles if _may_be_initials(each)])
        self._in_views = {
            **dict.fromkeys(_MARKUP_VIEWS, NeedleSearch(telling)),
            **dict.fromkeys(_ENCODED_VIEWS, self._long_enough),
            **dict.fromkeys(_INITIALS_VIEWS, initials),
        }
        self._words, self._reader = words, reader
        self._spelled = spelling_words(digits)
        self._two_spelled = re2.compile(
            rb"(?i)\b(?:%s)\b[^A-Za-z0-9]{1,8}\b(?:[a-z0-9]|%s)\b" % ((_any_of(self._spelled),) * 2)
        )
        self._typos = {
            kind: TypoTable(each.letters for each in needles if each.kind is kind and _may_have_typo(each))
            for kind in {each.kind for each in needles if _may_have_typo(each)}
        }
        self._initials = [
            re.compile(rb"(?<![A-Za-z])" + rb"\.? ?".join(part[:1].upper() for part in parts) + rb"\.(?![A-Za-z])")
            for kind, value in known.values
            if kind is IdentifierKind.NAME and len(whole := name_parts(value, titles)) > 1
            for parts in (whole, [whole[0], whole[-1]])
        ]
        names = [value for kind, value in known.values if kind is IdentifierKind.NAME]
        self._initial_letters = {part[:1] for value in names for part in name_parts(value, titles)}

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
        yield from self._needles.matches(view, plain, self._words)
        yield from self._look_alikes.matches(view, look_alike_letters(view), self._words)
        yield from self._enciphered.matches(view, plain)
        if self._long_enough.needles and self._two_spelled.search(view):
            yield from self._long_enough.matches(view, spelled_letters(view, self._spelled))
        if self._long_enough.needles and len(plain.letters) >= _SHORTEST_ENCIPHERED:
            yield from self._in_pieces(view)
        for start, end, text in encoded_stretches(view):
            kind = self._long_enough.kind_in(plain_letters(folded_view(text)).letters)
            if kind:
                yield start, end, kind
        yield from self._with_typo(view)
        for initials in self._initials:
            yield from ((*match.span(), IdentifierKind.NAME) for match in initials.finditer(view))

    def _in_pieces(self, view: bytes) -> Iterator[IdentifierRange]:
        """What is said in fields of JSON, between tags, word by word in a code, or by initials of words or lines."""
        views = TokenViews(view.decode("ascii"), self._reader)
        for number, (run, (name, search)) in enumerate(zip(views.runs, self._in_views.items(), strict=True)):
            if run and search.kind_in(run):
                across = name not in _ENCODED_VIEWS
                yield from search.token_matches(view, views.letters(number), self._words, across=across)

    def _with_typo(self, view: bytes) -> Iterator[IdentifierRange]:
        in_words = [(kind, table) for kind, table in self._typos.items() if kind in _OF_WORDS]
        if in_words:
            for match in _WORDS.finditer(view):
                word = match[0].lower().replace(b"'", b"")
                least = _SHORTEST_WITH_TYPO if match[0][0] < ord("a") else _SHORTEST_LOWER_WITH_TYPO
                if len(word) >= least - 1 and not self._is_plain(word.decode("ascii")):
                    yield from ((*match.span(), kind) for kind, table in in_words if table.knows(word))
        for kind, table in self._typos.items():
            if kind not in (*_OF_WORDS, IdentifierKind.DATE):
                for match in _NUMBERS.finditer(view):
                    if table.knows(re.sub(rb"[^a-z0-9]", b"", match[0].lower())):
                        yield *match.span(), kind

    def _is_plain(self, word: str) -> bool:
        return word in self._words.common or word in self._words.clinical

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


def views_reader() -> TokenReader:
    """A reader for any number of searches, in the views in which an identifier may stand in pieces."""
    return TokenReader((*_MARKUP_VIEWS, *_ENCODED_VIEWS, *_INITIALS_VIEWS), zeros_kept=True)


_SIDE_BY_SIDE = re.compile(rb"(?:[ ,.^_-]{0,3}(?:[A-Za-z]\.)?[ ,.^_-]{0,2})")
_INITIAL_BEFORE = re.compile(rb"(?<![A-Za-z0-9])([A-Za-z])\.? ?$")
_INITIAL_BEHIND = re.compile(rb",? ([A-Z])\.")


def _any_of(words: Iterable[str]) -> bytes:
    return "|".join(words).encode("ascii")


def _enciphered(needle: Needle, encipher: Callable[[bytes], bytes]) -> Needle:
    return replace(needle, letters=encipher(needle.letters))


def _leetspeak(letters: bytes) -> bytes:
    return letters.translate(LEETSPEAK)


def _is_short_number(needle: Needle) -> bool:
    return needle.letters.isdigit() and len(needle.letters) < _SHORTEST_IN_PIECES


def _may_be_initials(needle: Needle) -> bool:
    """Whether a needle is long enough; the initial in "j roe" could be that of any word before it."""
    if needle.letters.isdigit():
        return len(needle.letters) >= _SHORTEST_INITIAL_DIGITS
    return len(needle.letters) >= _SHORTEST_INITIALS and (needle.name or needle.kind is not IdentifierKind.NAME)


def _may_have_typo(needle: Needle) -> bool:
    if needle.name:
        return len(needle.letters) >= _SHORTEST_WITH_TYPO
    return needle.letters[-4:].isdigit() and len(needle.letters) >= _SHORTEST_NUMBER_WITH_TYPO
