"""Languages: what identifiers look like in one of them, read from a data file."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files

from medward.guard.errors import MedwardError
from medward.guard.release.disguises.folded_text import FoldedText, single_spaced
from medward.guard.release.text.capital_names import CapitalNames
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.known_search import KnownSearch, views_reader
from medward.guard.release.text.letter_case import LetterCase
from medward.guard.release.text.lexicon import load_lexicon
from medward.guard.release.text.needle_search import PlainWords
from medward.guard.release.text.patterns import IdentifierPattern, PatternSet
from medward.guard.release.text.spans import IdentifierKind, IdentifierSpan
from medward.guard.release.text.surrogates import Surrogates

_FOLDER = files(__package__) / "languages"
_SHARED = "common"
_LISTS = ("unless", "trim", "never", "after", "trim_endings", "not_before", "not_behind")  # of words, of a pattern
_OF_WORDS = (IdentifierKind.NAME, IdentifierKind.PLACE)


class Language:
    """A language finds the identifiers that nobody had to know beforehand: by patterns and by lexicons."""

    def __init__(self, name: str) -> None:
        shared, data = (tomllib.loads((_FOLDER / f"{each}.toml").read_text()) for each in (_SHARED, name))
        words = data["words"]
        lists = {name: each.split() for name, each in data["lists"].items()}
        self._lexicon = load_lexicon(name, lists)
        self._letter_case = LetterCase(self._lexicon, lists, words)
        self._capital_names = CapitalNames(self._lexicon, lists, words)
        common = frozenset(
            word for each in ("ambiguous", "clinical", "clinical_nouns", "not_names") for word in lists[each]
        )
        names = self._lexicon.given | self._lexicon.surnames
        self._words = PlainWords(
            common=common,
            clinical=frozenset(lists["clinical_words"] + lists["clinical_nouns"])
            | (frozenset(lists["not_names"]) - names),
            measured=frozenset(lists["measured"]),
            labels=frozenset(lists["number_labels"]),
            titles=frozenset(lists["titles"]),
        )
        self._titles = frozenset(lists["titles"] + lists["name_suffixes"])
        self._no_parts = frozenset(lists["honorifics"] + lists["name_suffixes"])
        self._months: dict[str, int] = data["months"]
        self._reader = views_reader()
        self._digits: dict[str, str] = data["digits"]
        self._day_first: bool = data["day_first"]
        self._patterns = PatternSet(
            [
                IdentifierPattern(
                    kind=IdentifierKind(each["kind"]),
                    expression=_filled(each["expression"], words),
                    check=each.get("check", ""),
                    **{name: _joined(lists, each.get(name, "")) for name in _LISTS},
                )
                for each in shared["pattern"] + data["pattern"]
            ],
            given=self._lexicon.given,
            surnames=self._lexicon.surnames,
        )

    def find(self, folded: FoldedText) -> Iterator[IdentifierSpan]:
        """Every identifier of the window, however its lines are broken; names and places in whatever case."""
        spaced = single_spaced(folded)
        yield from self._capital_names.find(spaced)
        capitalised = self._letter_case.capitalised(spaced)
        yield from self._lexicon.find(capitalised)
        if capitalised is spaced:
            yield from self._patterns.find(spaced)
            return
        yield from (each for each in self._patterns.find(capitalised) if each.kind in _OF_WORDS)
        yield from (each for each in self._patterns.find(spaced) if each.kind not in _OF_WORDS)

    def search_for(self, known: KnownIdentifiers) -> KnownSearch:
        """A search for the known identifiers of one request, in this language's numbers and months."""
        return KnownSearch(
            known,
            months=self._months,
            digits=self._digits,
            words=self._words,
            titles=self._no_parts,
            reader=self._reader,
        )

    def surrogates(self, key: bytes, patient: str) -> Surrogates:
        """Surrogates for one patient, out of this language's names."""
        lexicon = self._lexicon
        return Surrogates(
            key=key,
            patient=patient,
            given=lexicon.given_names,
            surnames=lexicon.family_names,
            cities=lexicon.city_names,
            titles=self._titles,
            months=self._months,
            day_first=self._day_first,
        )


def _joined(lists: Mapping[str, Sequence[str]], names: str) -> frozenset[str]:
    """The words of several lists."""
    return frozenset(word for name in names.split() for word in lists[name])


def _filled(expression: str, words: dict[str, str]) -> str:
    """The expression with each ``<word>`` replaced by what stands for it."""
    for name, value in reversed(words.items()):  # a later entry may use an earlier one
        expression = expression.replace(f"<{name}>", f"(?:{value})")
    return expression


def language_names() -> list[str]:
    """Languages that there is a data file for."""
    names = {each.name.removesuffix(".toml") for each in _FOLDER.iterdir() if each.name.endswith(".toml")}
    return sorted(names - {_SHARED})


def check_language(name: str) -> None:
    """Refuse a language that there is no data file for."""
    if name not in language_names():
        raise MedwardError(f"language {name!r}: no data file; there are: {', '.join(language_names())}")


@cache
def load_language(name: str) -> Language:
    """The language called `name`, read once."""
    check_language(name)
    return Language(name)
