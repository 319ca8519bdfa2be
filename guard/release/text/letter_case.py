"""Letter case: names that stand in small letters, or in a stretch of capitals, read as if they were capitalised.

The rules of a language know a name by its capital. Where a text has none to tell by, the words that are likely to be
names get one: behind a title or a label, a given name before a surname, a city behind a preposition; in a stretch of
capitals every word that names somebody or a place, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import re2

from medward.guard.release.disguises.folded_text import FoldedText
from medward.guard.release.text.lexicon import Lexicon

_CAPITALS = re.compile(rb"[^a-z\n]{12,}")
_CAPITAL_WORD = re.compile(r"(?<![A-Za-z0-9-])[A-Z]{2,}(?:['-][A-Z]+)*(?![A-Za-z0-9]|-[0-9])")
_GIVEN_BEHIND = re.compile(r"(?P<comma>,)? ?\b(?P<given>[a-z]{2,20}|[A-Z]{2,20})\b")
_FEWEST_CAPITAL_WORDS = 2
_SMALL_WORD = re.compile(r"(?<![A-Za-z0-9'-])[a-z]+(?![A-Za-z0-9])")
_POSSESSIVE = re.compile(r"'S$")
_FIRST_WORD = re.compile(rb"[a-z]+")
_NEXT_WORD = re.compile(r"\.? ([A-Z]+)")
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_STATE = re.compile(r", [A-Z]{2}(?![A-Z])")
_WORD_BYTES = bytes(each if chr(each).isalpha() else ord(" ") for each in range(128)) + bytes(128)


class LetterCase:
    """A letter case reads the words of one language that are names without looking like it."""

    def __init__(self, lexicon: Lexicon, lists: Mapping[str, Sequence[str]], words: Mapping[str, str]) -> None:
        self._lexicon = lexicon
        self._place_words = frozenset(lists["place_words"])
        self._acronyms, self._facilities = frozenset(lists["place_acronyms"]), frozenset(lists["facilities"])
        self._no_name = (
            lexicon.not_names | lexicon.clinical_nouns | lexicon.person_verbs | lexicon.person_participles
        ) | frozenset(lists["states"])
        self._endings = tuple(lists["participle_endings"])
        self._names = lexicon.given | lexicon.surnames
        self._city_words = frozenset(word for city in lexicon.cities for word in re.split(r"[ -]", city))
        self._longest_city = max(city.count(" ") for city in lexicon.cities) + 1
        self._cities = lexicon.cities - lexicon.ambiguous - lexicon.clinical - self._no_name
        self._given = frozenset(each.encode("ascii") for each in lexicon.telling_given)
        self._city_starts = frozenset(re.split("[ -]", each)[0].encode("ascii") for each in self._cities)
        title, label = words["small_title"], words["label"]
        self._announced = re.compile(
            rf"(?:(?P<label>(?i:{label})) ?(?::|\bby\b) ?)?(?P<title>{title})?\b(?P<name>[a-z]{{2,20}}|[A-Z]{{2,20}})\b"
        )
        options = re2.Options()
        options.encoding, options.log_errors = re2.Options.Encoding.LATIN1, False
        self._telling = re2.compile(rf"\b(?:(?i:{label}) ?(?::|\bby\b)|{title})".encode("ascii"), options)
        prepositions = "|".join(sorted(lexicon.place_prepositions))
        self._placing = re.compile(rf"(?<![A-Za-z])(?:{prepositions}|{prepositions.upper()}) (?=[a-z])".encode("ascii"))

    def capitalised(self, folded: FoldedText) -> FoldedText:
        """The folded text with capitals where a name seems to be; the same one if there is none."""
        view = folded.view
        found = bytearray(view)
        for match in _CAPITALS.finditer(view):
            stretch = match[0].decode("ascii")
            if len(_CAPITAL_WORD.findall(stretch)) >= _FEWEST_CAPITAL_WORDS:
                found[match.start() : match.end()] = self._in_capitals(stretch).encode("ascii")
        text = view.decode("ascii")
        for telling in self._telling.finditer(view):
            announced = self._announced.match(text, telling.start())
            if announced:
                self._capitalise_announced(text, announced, found)
        words = frozenset(view.translate(_WORD_BYTES).split())
        if not self._given.isdisjoint(words):
            self._capitalise_pairs(text, found)
        starts = self._city_starts.intersection(words)
        for match in self._placing.finditer(view) if starts else ():
            first = _FIRST_WORD.match(view, match.end())
            if first and first[0] in starts:
                self._capitalise_city(text, match.end(), found)
        return folded if found == view else FoldedText(folded.text, bytes(found), folded.places)

    def _in_capitals(self, stretch: str) -> str:
        """A stretch of capitals in which only names, places and words of places keep one."""
        read = _CAPITAL_WORD.sub(self._as_written_small, stretch)
        for state in _STATE.finditer(stretch) if ", " in stretch else ():
            read = read[: state.start()] + state[0] + read[state.end() :]
        return read

    def _as_written_small(self, match: re.Match[str]) -> str:
        word = match[0].lower().removesuffix("'s")
        if word in self._acronyms:
            return match[0]
        if word in self._place_words:
            return _capitalised_word(match[0])
        if word in self._no_name:
            return match[0].lower()
        facility = _NEXT_WORD.match(match.string, match.end())
        if facility and facility[1].lower() in self._facilities:
            return _capitalised_word(match[0])
        names = word in self._names or word in self._city_words
        return _capitalised_word(match[0]) if names else match[0].lower()

    def _capitalise_announced(self, text: str, match: re.Match[str], found: bytearray) -> None:
        """Give capitals to a title, to the word behind it or behind a label, and to a surname behind that."""
        word, label, title = match["name"].lower(), match["label"] or "", match["title"]
        if word in self._no_name or (word.endswith(self._endings) and word not in self._names):
            return
        if (
            not title
            and match["name"].islower()
            and word not in self._names
            and not (label or "").lower().endswith("name")
        ):
            return
        start, end = match.span("name")
        behind = _SMALL_WORD.match(text, end + 1) if text[end : end + 1] == " " else None
        if behind and (
            text[behind.end() : behind.end() + 1] == "."
            if len(behind[0]) == 1
            else behind[0] in self._names and behind[0] not in self._no_name
        ):
            end = behind.end()
        elif label and not title and (given := self._given_behind(text, match)):
            end = given
        for first, last in (match.span("title"), (start, end)) if title else ((start, end),):
            found[first:last] = _WORD.sub(lambda word: _capitalised_word(word[0]), text[first:last]).encode("ascii")

    def _given_behind(self, text: str, match: re.Match[str]) -> int | None:
        """Where a given name ends that stands behind a family name and a label: "NAME: OKONKWO, CHIDINMA"."""
        given = _GIVEN_BEHIND.match(text, match.end("name"))
        if not given or given["given"].isupper() != match["name"].isupper():
            return None
        word = given["given"].lower()
        if word in self._no_name | self._lexicon.clinical or (word.endswith(self._endings) and word not in self._names):
            return None
        return given.end() if given["comma"] or given["given"].isupper() else None

    def _capitalise_pairs(self, text: str, found: bytearray) -> None:
        """Give capitals to a given name and the surname behind it that mean nothing else."""
        words, given = self._lexicon, self._lexicon.telling_given
        before = None
        for match in _SMALL_WORD.finditer(text):
            if before and text[before.end() : match.start()] == " ":
                surname = match[0] in words.surnames and match[0] not in self._no_name | words.ambiguous
                if surname or (len(match[0]) == 1 and text[match.end() : match.end() + 1] == "."):
                    for each in (before, match):
                        found[each.start()] = ord(each[0][0].upper())
            before = match if match[0] in given else None

    def _capitalise_city(self, text: str, start: int, found: bytearray) -> None:
        """Give capitals to the words of a city, if one begins there and means nothing but people."""
        words: list[re.Match[str]] = []
        for match in _SMALL_WORD.finditer(text, start, start + 60):
            if match.start() != (words[-1].end() + 1 if words else start) or len(words) == self._longest_city:
                break
            words.append(match)
        for last in range(len(words), 0, -1):
            if text[start : words[last - 1].end()] in self._cities:
                for word in words[:last]:
                    found[word.start()] = ord(text[word.start()].upper())
                return


def _capitalised_word(word: str) -> str:
    """A word with a capital at its beginning and behind a hyphen or the apostrophe of O'Brien, not of St. Mary's."""
    return _POSSESSIVE.sub("'s", word.title())
