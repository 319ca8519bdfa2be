"""The identifiers that a file's own header names, to be looked for in what else it says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass
from typing import Any

FEWEST_LETTERS = 4  # of a part of a name that is looked for: shorter ones stand in ordinary words
SHORT_TEXT = 16  # letters that short text and codes hold: a longer name is cut off there
FEWEST_DIGITS = 4  # of an identifier
NUMBERED = (0x00100020, 0x00101000, 0x00080050, 0x00200010, 0x00100030, 0x00101040, 0x00102154, 0x00101001)
"""Patient's and other identifiers, accession, study, birth date, address, telephone, other names."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class HeaderIdentifiers:
    """The names and numbers of one file's patient and staff, in the form in which they are compared."""

    words: frozenset[str]
    numbers: frozenset[str]

    def stand_in(self, value: Any) -> bool:
        """Whether a `value`, one or several, holds one of them, however it is written; so does unreadable text."""
        return any(self._stand_in_text(str(each)) for each in _values_of(value))

    def _stand_in_text(self, text: str) -> bool:
        if any(unicodedata.category(each) in ("Cc", "Cf", "Co", "Cs") or each == "\ufffd" for each in text):
            return True
        plain = _plain_text(text)
        if self.words & set(_WORD.findall(plain)):
            return True
        joined = "".join(_WORD.findall(plain))
        return any(each in joined for each in self.numbers)


def header_identifiers(dataset: Any) -> HeaderIdentifiers:
    """What the data set itself says of persons and numbers, at every depth."""
    words: set[str] = set()
    numbers: set[str] = set()
    for element in dataset.iterall():
        if element.VR == "PN":
            names = {each for each in _words(element.value) if len(each) >= FEWEST_LETTERS}
            words |= names | {each[:SHORT_TEXT] for each in names}
        elif int(element.tag) in NUMBERED and element.VR != "SQ":
            joined = ("".join(_WORD.findall(_plain_text(str(each)))) for each in _values_of(element.value))
            numbers |= {each for each in joined if len(each) >= FEWEST_DIGITS}
    return HeaderIdentifiers(frozenset(words), frozenset(numbers))


def header_names(dataset: Any) -> frozenset[str]:
    """The words of two letters or more of all names of persons in the data set, in capitals."""
    named = (each.value for each in dataset.iterall() if each.VR == "PN")
    return frozenset(word.upper() for value in named for word in _words(value) if len(word) > 1)


def _words(value: Any) -> Iterable[str]:
    for each in _values_of(value):
        yield from _WORD.findall(_plain_text(str(each)))


def _values_of(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | MutableSequence) else [value]  # a name can be iterated too


def _plain_text(text: str) -> str:
    """`text` in one case, without accents, compatible forms and invisible characters."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(each for each in folded if unicodedata.category(each) not in ("Mn", "Cf", "Cc"))
