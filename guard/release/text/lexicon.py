"""Lexicons: names of people and cities, and the clinical words that only look like them.

A word of a lexicon is a name by its company alone: a given name is one unless a clinical noun follows ("Allen test");
a word that also means something else ("Mark", "Reading") needs a surname, an initial, a preposition or something that
only people do beside it. Words of the clinic (Parkinson, Foley) are never names by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from medward.guard.release.disguises.folded_text import FoldedText
from medward.guard.release.text.capitalised_words import (
    CapitalisedWord,
    capitalised_words,
    end_of_name,
    is_initial,
    next_word,
    next_words,
)
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan

_FOLDER = files(__package__) / "lexicons"
_LONGEST_NAME = 5  # words
_LONGEST_ACRONYM = 4  # letters
_TRIGGER = re.compile(r"[A-Z][A-Za-z]+")
_INITIAL_FIRST = re.compile(r"(?<![A-Za-z])[A-Z]\. ?[A-Z]")
_CITY_GAP = re.compile(r"\.? |-")
_GOES_ON = re.compile(r"(?:'s)?[ -][A-Z][a-z]|:")
_CITY_SPACES = re.compile(r"[. ]+")


def read_lexicon(name: str) -> frozenset[str]:
    """The words of one lexicon, in lower case and without accents."""
    return frozenset((_FOLDER / f"{name}.txt").read_text(encoding="ascii").split("\n")) - {""}


@dataclass(frozen=True, kw_only=True)
class Lexicon:
    """A lexicon holds the names of one language and the rules' words; every word is in lower case."""

    given: frozenset[str]
    surnames: frozenset[str]
    cities: frozenset[str]
    ambiguous: frozenset[str]
    clinical: frozenset[str]
    clinical_nouns: frozenset[str]
    not_names: frozenset[str]
    particles: frozenset[str]
    place_prepositions: frozenset[str]
    mostly_given: frozenset[str]
    person_verbs: frozenset[str]
    person_participles: frozenset[str]

    @cached_property
    def telling_given(self) -> frozenset[str]:
        """Given names that mean nothing else."""
        return self.given - self.ambiguous - self.clinical - self.not_names

    @cached_property
    def telling_surnames(self) -> frozenset[str]:
        """Surnames that mean nothing else."""
        return self.surnames - self.ambiguous - self.clinical - self.not_names

    @cached_property
    def telling_cities(self) -> frozenset[str]:
        """Cities whose names mean nothing else."""
        return self.cities - self.surnames - self.given - self.ambiguous - self.clinical - self.not_names

    @cached_property
    def given_names(self) -> tuple[str, ...]:
        """Given names that mean nothing else, in order."""
        return tuple(sorted(self.telling_given))

    @cached_property
    def family_names(self) -> tuple[str, ...]:
        """Surnames that mean nothing else, in order."""
        return tuple(sorted(self.telling_surnames))

    @cached_property
    def city_names(self) -> tuple[str, ...]:
        """Cities whose names mean nothing else, in order."""
        return tuple(sorted(self.telling_cities))

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Names and cities of the window."""
        text = folded.view.decode("ascii")
        if self._triggers.isdisjoint(map(str.lower, _TRIGGER.findall(text))) and not _INITIAL_FIRST.search(text):
            return
        words = capitalised_words(text)
        for kind, start, end in (*self._names(text, words), *self._cities(text, words)):
            yield IdentifierSpan(*folded.span_in_text(start, end), kind, "lexicon")

    @cached_property
    def _city_starts(self) -> Mapping[str, int]:
        """The first word of each city, and of how many words the longest of that beginning is."""
        starts: dict[str, int] = {}
        for city in self.cities:
            words = re.split(r"[ -]", city)
            for first in {words[0], city.split(" ")[0]}:
                starts[first] = max(starts.get(first, 0), len(words))
        return starts

    @cached_property
    def _triggers(self) -> frozenset[str]:
        """Words without which a window holds no name and no city, but for initials."""
        telling = set(self.given)
        for city in self.cities:
            words = re.split(r"[ -]", city)
            telling.add(words[1] if len(words) > 1 and words[0] in self.not_names else words[0])
        return frozenset(telling - self.not_names)

    @cached_property
    def _gaps(self) -> re.Pattern[str]:
        """What may stand between two words of one name."""
        return re.compile(rf"\.? |\.|\.? (?:(?:{'|'.join(sorted(self.particles))})\.? ){{1,3}}")

    def _names(self, text: str, words: Sequence[CapitalisedWord]) -> Iterator[tuple[IdentifierKind, int, int]]:
        past = 0
        for first, word in enumerate(words):
            if first < past:
                continue
            last = self._last_of_name(text, words, first)
            if last is not None:
                past = last + 1
                yield IdentifierKind.NAME, word.start, end_of_name(text, words[last])

    def _last_of_name(self, text: str, words: Sequence[CapitalisedWord], first: int) -> int | None:
        """The last word of the name that begins with word `first`, if one does."""
        word = words[first]
        if word.word in self.not_names:
            return None
        last = first
        while (
            last + 1 < len(words)
            and last + 1 - first < _LONGEST_NAME
            and self._gaps.fullmatch(words[last + 1].gap)
            and self._may_follow(words[last + 1], word, is_initial(text, words[last + 1]))
            and (words[last + 1].gap[0] != "." or len(words[last].word) == 1 or words[last].word in ("jr", "sr"))
        ):
            last += 1
        beside = words[first + 1] if last > first else None
        then = words[first + 1] if first + 1 < len(words) else None
        if then and self._is_reversed(word, then):
            initial = first + 2 < len(words) and words[first + 2].gap == " " and is_initial(text, words[first + 2])
            return self._last_of_name(text, words, first + 1) or first + 1 + initial
        if then and not beside and self._is_surname_though(text, word, then):
            return first + 1
        if word.word in self.mostly_given and self._does_something(text, words[last].end):
            return last
        if next_word(text, words[last].end) in self.clinical_nouns and not (beside and len(words[last].word) == 1):
            return None
        if not beside and word.capitals and len(word.word) <= _LONGEST_ACRONYM:
            return None
        given = word.word if word.word in self.given else word.word.split("-")[0]
        if given in self.given and self.clinical.isdisjoint((word.word, given)):
            if given not in self.ambiguous:
                return last
            if beside and (
                is_initial(text, beside) or (beside.word in self.surnames and beside.word not in self.ambiguous)
            ):
                return last
        if (
            len(word.word) == 1
            and beside
            and word.end < len(text)
            and text[word.end] == "."
            and _names_someone(words[last], self)
        ):
            return last
        return None

    def _may_follow(self, word: CapitalisedWord, first: CapitalisedWord, pointed: bool) -> bool:
        """Whether a word may be part of a name that began before it."""
        if len(word.word) == 1:
            return pointed or word.word not in ("i", "a")
        if word.word in self.not_names or word.word in self.clinical_nouns:
            return False
        if word.capitals and not (first.capitals and len(first.word) > 1):
            return False
        return not word.capitals or word.word in self.surnames or word.word in self.given

    def _is_reversed(self, word: CapitalisedWord, then: CapitalisedWord) -> bool:
        """Whether two words are a surname and, behind a comma, a given name; one of them means nothing else."""
        if then.gap not in (", ", ",") or word.word not in self.surnames or then.word not in self.given:
            return False
        if then.word not in self.ambiguous:
            return True
        return word.word not in self.ambiguous | self.not_names and then.word not in self.not_names | self.clinical

    def _is_surname_though(self, text: str, word: CapitalisedWord, then: CapitalisedWord) -> bool:
        """Whether a word of other things is the surname behind a given name: "John White came", "Jack Black seen"."""
        if then.gap != " " or then.capitals or then.word not in self.surnames:
            return False
        if word.word in self.telling_given:
            return not self._goes_on(text, then.end)
        return word.word in self.mostly_given and self._does_something(text, then.end)

    def _goes_on(self, text: str, end: int) -> bool:
        """Whether a capitalised word or a clinical noun follows, or a colon: then the word before belongs to it."""
        return bool(_GOES_ON.match(text, end)) or next_word(text, end) in self.clinical_nouns

    def _does_something(self, text: str, end: int) -> bool:
        """Whether something follows that only people do."""
        return bool(self._doings.match(text, end))

    @cached_property
    def _doings(self) -> re.Pattern[str]:
        verbs, participles = ("|".join(sorted(words)) for words in (self.person_verbs, self.person_participles))
        return re.compile(rf" (?:{verbs}|(?:is|was|has been|had been|es|fue|ha sido) (?:{participles}))\b")

    def _cities(self, text: str, words: Sequence[CapitalisedWord]) -> Iterator[tuple[IdentifierKind, int, int]]:
        past, starts = 0, self._city_starts
        for first, word in enumerate(words):
            longest = starts.get(word.word, 0)
            if first < past or not longest:
                continue
            for last in range(min(first + longest, len(words)) - 1, first - 1, -1):
                if any(not _CITY_GAP.fullmatch(each.gap) for each in words[first + 1 : last + 1]):
                    continue
                name = _CITY_SPACES.sub(" ", text[word.start : words[last].start].lower() + words[last].word)
                if name in self.cities and self._is_city(text, word, name, words[last]):
                    past = last + 1
                    yield IdentifierKind.PLACE, word.start, words[last].start + len(words[last].word)
                    break

    def _is_city(self, text: str, word: CapitalisedWord, name: str, last: CapitalisedWord) -> bool:
        if name in self.not_names or not self.clinical_nouns.isdisjoint(next_words(text, last.end)):
            return False
        if " " in name:
            return True
        doubtful = name in self.ambiguous or name in self.surnames or name in self.given or name in self.clinical
        before = text[max(0, word.start - 24) : word.start].lower().split(" ")
        if not doubtful or len(before) < 2 or before[-1] or before[-2] not in self.place_prepositions:
            return not doubtful
        return name not in self.clinical or len(before) < 3 or before[-3] not in self.clinical_nouns


def _names_someone(word: CapitalisedWord, lexicon: Lexicon) -> bool:
    return word.word in lexicon.surnames and word.word not in lexicon.clinical and word.word not in lexicon.ambiguous


def load_lexicon(language: str, lists: Mapping[str, Sequence[str]]) -> Lexicon:
    """The lexicon of a language: its files, and the lists of its data file."""
    given = read_lexicon(f"given_{language}")
    return Lexicon(
        given=given,
        surnames=read_lexicon(f"surnames_{language}"),
        cities=read_lexicon(f"cities_{language}"),
        ambiguous=frozenset(lists["ambiguous"]),
        clinical=frozenset(lists["clinical"]),
        clinical_nouns=frozenset(lists["clinical_nouns"]),
        not_names=frozenset(lists["not_names"]) | (frozenset(lists["countries"]) - given),
        particles=frozenset(lists["particles"]),
        place_prepositions=frozenset(lists["place_prepositions"]),
        mostly_given=frozenset(lists["mostly_given"]),
        person_verbs=frozenset(lists["person_verbs"]),
        person_participles=frozenset(lists["person_participles"]),
    )
