"""Names in capitals: words that no list knows, beside a name, behind a cue, or alone on a line, are a name's.

Burned-in headers are in capitals, and many surnames are in no lexicon. In capitals nothing tells a name but its
company: a run of words that are no words of the language is a name where one of them is a given name, where a label or
a title announces it, or where nothing else stands on its line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import re2

from medward.guard.release.disguises.folded_text import FoldedText
from medward.guard.release.text.lexicon import Lexicon
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan

_CAPITALS = re.compile(r"\b[A-Z]+\b(?:['-][A-Z]+\b)*(?!['-][A-Za-z0-9])")
_NEAR = frozenset({" ", "^", " ^ "})
_POINT = frozenset({".", ". "})
_COMMA = frozenset({",", ", ", " , "})
_VOWEL = re.compile("[aeiouy]")
_INSIDE = frozenset({"-", "'"})  # of a word that is not all in capitals
_LETTER_WORDS = frozenset("aefimoy")  # articles, conjunctions and sexes
_MOST_WORDS = 4
_SHORTEST = 3  # letters of a word that no list knows
_BEGINNING = re.compile(r"(?:^|[\n\r.:;|(\[>])[ \t]*$")
_LINE_BEGINS, _NUMBER = re.compile(r"(?:^|[\n\r])[ \t]*$"), re.compile(r"[ \t,]+[0-9]")
_ENTRY_BEGINS, _ENTRY_ENDS = re.compile(r"(?:^|[\n\r:;|])[ \t]*$"), re.compile(r"[ \t.]*(?:$|[\n\r;|])")
_CUE_LENGTH = 32  # characters that are looked back for a cue
_OTHER_WORDS = [
    "common_words",
    "clinical_words",
    "clinical_nouns",
    "person_verbs",
    "person_participles",
    "states",
    "titles",
    "name_suffixes",
    "generic",
    "number_labels",
    "measured",
    "place_acronyms",
    "place_prepositions",
]


class _Word(NamedTuple):
    start: int
    end: int
    word: str  # in lower case


class CapitalNames:
    """Capital names are names that the company of words that no list of one language knows gives away."""

    def __init__(self, lexicon: Lexicon, lists: Mapping[str, Sequence[str]], words: Mapping[str, str]) -> None:
        self._other = frozenset(word for each in _OTHER_WORDS for word in lists[each]) | (
            lexicon.not_names
            | (lexicon.clinical - lexicon.surnames)
            | (frozenset([*lists["place_words"], *lists["facilities"]]) - lexicon.surnames)
        )
        self._endings = frozenset(lists["word_endings"])
        self._lengths = sorted({len(each) for each in self._endings})
        self._verb_endings = tuple(lists["verb_endings"])
        self._names = (lexicon.given | lexicon.surnames) - self._other
        self._given = lexicon.telling_given - self._other
        self._surnames = lexicon.telling_surnames - self._other
        self._particles = frozenset(each for each in lexicon.particles if len(each) > 1)
        self._cue = re.compile(rf"(?<![A-Za-z])(?:{words['name_cue']})[ .:=,]{{1,3}}(?:{words['copula']} )?$", re.I)
        self._label = re.compile(rf"(?<![A-Za-z])(?i:{words['label']}) ?(?::|\bby\b) ?$")
        self._subject = re.compile(rf"(?<![A-Za-z])(?:{words['subject']}) $")
        options = re2.Options()
        options.encoding, options.log_errors = re2.Options.Encoding.LATIN1, False
        self._worth_reading = re2.compile(
            rf"[A-Z]{{2}}[ ,.^'-]{{1,3}}[A-Z]{{2}}|\b(?:(?i:{words['name_cue']}|{words['label']})|{words['subject']})"
            rf"[^A-Za-z]{{1,4}}(?:(?i:{words['copula']}) )?[A-Z]{{2}}".encode("ascii"),
            options,
        )

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Names in capitals of the window."""
        if not self._worth_reading.search(folded.view):
            return
        text = folded.view.decode("ascii")
        for run in self._runs(text):
            for first, last in self._named(folded, text, run):
                yield IdentifierSpan(
                    *folded.span_in_text(run[first].start, run[last].end), IdentifierKind.NAME, "lexicon"
                )

    def _runs(self, text: str) -> Iterator[Sequence[_Word]]:
        """Words in capitals that stand together and may all be a name's."""
        run: list[_Word] = []
        for match in _CAPITALS.finditer(text):
            word = _Word(match.start(), match.end(), match[0].lower().removesuffix("'s"))
            if run and not _stands_near(text, run[-1], word):
                yield from self._trimmed(run)
                run = []
            if not self._may_be_named(word.word) or text[word.start - 1 : word.start] in _INSIDE:
                yield from self._trimmed(run)
                run = []
            elif run or len(word.word) > 1:
                run.append(word)
        yield from self._trimmed(run)

    def _trimmed(self, run: Sequence[_Word]) -> Iterator[Sequence[_Word]]:
        """The run without particles and letters behind it that are no initials, if something is left."""
        last = len(run)
        while last and (run[last - 1].word in self._particles or run[last - 1].word in _LETTER_WORDS):
            last -= 1
        if last:
            yield run[:last]

    def _may_be_named(self, word: str) -> bool:
        if len(word) == 1 or word in self._particles or word in self._names:
            return True
        return self._is_unknown(word) or ("-" in word and any(map(self._is_unknown, word.split("-"))))

    def _is_unknown(self, word: str) -> bool:
        """Whether a word is in no list, and neither an abbreviation nor of a common ending."""
        return (
            len(word) >= _SHORTEST
            and word not in self._other
            and not any(word[-length:] in self._endings for length in self._lengths)
            and bool(_VOWEL.search(word))
        )

    def _named(self, folded: FoldedText, text: str, run: Sequence[_Word]) -> Iterator[tuple[int, int]]:
        """First and last words of the names in a run."""
        parts = _parts(text, run)
        if self._is_announced(text, run) or (len(run) > 1 and _is_alone(folded, run)):
            yield 0, min(parts[min(1, len(parts) - 1)][1], _MOST_WORDS - 1)
            return
        begins = _begins(folded, run)
        for number, (first, last) in enumerate(parts):
            while first < last and run[first].word in self._particles:
                first += 1
            given = next((each for each in range(first, last + 1) if run[each].word in self._given), None)
            if given is None:
                if begins and not number and last == first + 1 and run[last].word in self._surnames:
                    yield first, last
                continue
            start = given
            if given == first + 1 and (run[first].word in self._names or (begins and not number)):
                start = first
            elif given == first and number and first - parts[number - 1][0] <= 2:
                start = parts[number - 1][0]
            end = min(last, start + _MOST_WORDS - 1)
            if end > start:
                yield start, end

    def _is_announced(self, text: str, run: Sequence[_Word]) -> bool:
        """Whether a cue or a label stands before a run, or a subject before what ends as no verb, or carets in it."""
        if "^" in text[run[0].start : run[-1].end]:
            return True  # as DICOM parts a name
        before = text[max(0, run[0].start - _CUE_LENGTH) : run[0].start]
        if self._cue.search(before) or self._label.search(before):
            return True
        if not self._subject.search(before):
            return False
        return not run[0].word.endswith(self._verb_endings) or any(each.word in self._names for each in run)


def _stands_near(text: str, before: _Word, word: _Word) -> bool:
    """Whether two words may be of one name by what is between them: a point only behind an initial."""
    gap = text[before.end : word.start]
    if text[before.end - 2 : before.end] == "'S":
        return False
    return gap in _NEAR or gap in _COMMA or (gap in _POINT and len(before.word) == 1)


def _parts(text: str, run: Sequence[_Word]) -> list[tuple[int, int]]:
    """First and last words of what commas part."""
    parts, first = [], 0
    for each in range(1, len(run)):
        if text[run[each - 1].end : run[each].start] in _COMMA:
            parts.append((first, each - 1))
            first = each
    return [*parts, (first, len(run) - 1)]


def _is_alone(folded: FoldedText, run: Sequence[_Word]) -> bool:
    """Whether nothing else stands in an entry but a label before a run, or on a line but a number behind it."""
    start, end = folded.span_in_text(run[0].start, run[-1].end)
    before = folded.text[max(0, start - _CUE_LENGTH) : start]
    if _ENTRY_BEGINS.search(before) and _ENTRY_ENDS.match(folded.text, end):
        return True
    return bool(_LINE_BEGINS.search(before) and _NUMBER.match(folded.text, end))


def _begins(folded: FoldedText, run: Sequence[_Word]) -> bool:
    """Whether a run begins a line, a sentence or what is in brackets."""
    start, _ = folded.span_in_text(run[0].start, run[0].end)
    return bool(_BEGINNING.search(folded.text[max(0, start - _CUE_LENGTH) : start]))
