"""Surrogates: made-up values in the place of real ones, so that an identifier that was missed hides among them.

Hiding in plain sight (Carrell et al., JAMIA 2013). The same value has the same surrogate under one key, each part of a
name for itself; all dates of a patient are shifted by one number of days, so that intervals stay true. Without the key
nobody can tell which value a surrogate stands for; whoever holds the key and guesses the value can.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from medward.guard.errors import MedwardError
from medward.guard.release.text.needles import only_letters
from medward.guard.release.text.shifted_date import shifted_date
from medward.guard.release.text.spans import IdentifierKind

SHORTEST_KEY = 16  # bytes
_MOST_TURNS = 64
_LARGEST_SHIFT = 182  # days, to either side, never 0
_NAME_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True, kw_only=True, repr=False)
class Surrogates:
    """Surrogates stand in for the identifiers of one patient, chosen by a secret key of 16 bytes or more.

    `given`, `surnames` and `cities` are the names to choose from, in order, `titles` stay, `months` are the month names
    of the language, in lower case, and `day_first` says whether 3/4 is in April.
    """

    key: bytes
    patient: str
    given: tuple[str, ...]
    surnames: tuple[str, ...]
    cities: tuple[str, ...]
    titles: frozenset[str]
    months: Mapping[str, int]
    day_first: bool

    def __post_init__(self) -> None:
        """Refuses a short key and a patient without a name, whose dates would be shifted like everybody's."""
        check_key(self.key)
        if not isinstance(self.patient, str):
            raise MedwardError(f"surrogates: patient must be a text, got {type(self.patient).__name__}; give its name")
        if not self.patient:
            raise MedwardError(
                "surrogates: patient is empty; name whose text it is, dates are shifted for each patient"
            )

    def surrogate(self, kind: IdentifierKind, value: str) -> str:
        """What stands for the value; a date that cannot be read becomes a marker."""
        if kind is IdentifierKind.NAME:
            return _NAME_WORD.sub(lambda match: self._name(match[0]), value)
        if kind is IdentifierKind.DATE:
            return shifted_date(value, self.shift, self.months, self.day_first) or f"[{kind.upper()}]"
        if kind is IdentifierKind.AGE:
            return "90"
        if kind is IdentifierKind.PLACE and not only_letters(value).isdigit():
            return self._other_than(value, lambda turn: _cased(self._choice(self.cities, b"place", value, turn), value))
        if kind is IdentifierKind.EMAIL:
            return f"{self._choice(self.surnames, b'email', value)}@example.org"
        if kind is IdentifierKind.URL:
            return f"https://example.org/{self._digest(b'url', value).hex()[:8]}"
        if kind is IdentifierKind.IP_ADDRESS:
            return f"2001:db8::{self._digest(b'ip', value).hex(':', 2)[:19]}"
        return self._other_than(value, lambda turn: self._same_shape(value, turn))

    @property
    def shift(self) -> timedelta:
        """By how much this patient's dates are shifted."""
        days = int.from_bytes(self._digest(b"shift", self.patient)[:4], "big") % (2 * _LARGEST_SHIFT)
        return timedelta(days=days - _LARGEST_SHIFT if days < _LARGEST_SHIFT else days - _LARGEST_SHIFT + 1)

    def _digest(self, purpose: bytes, value: str) -> bytes:
        letters = only_letters(value) or value.encode()
        return hmac.new(self.key, purpose + b"\0" + letters, hashlib.sha256).digest()

    def _other_than(self, value: str, made_up: Callable[[int], str]) -> str:
        """What is made up for a value, again until it is another one; a value without letter or digit has no other."""
        turns = map(made_up, range(_MOST_TURNS))
        return next((each for each in turns if each != value), value)

    def _choice(self, names: Sequence[str], purpose: bytes, value: str, turn: int = 0) -> str:
        digest = self._digest(purpose + b"!" * turn, value)
        return names[int.from_bytes(digest[:8], "big") % len(names)]

    def _name(self, word: str) -> str:
        low = word.lower()
        if low in self.titles:
            return word
        place = bisect_left(self.given, low)
        names = self.given if self.given[place : place + 1] == (low,) else self.surnames
        length = 1 if len(word) == 1 else None
        return self._other_than(word, lambda turn: _cased(self._choice(names, b"name", word, turn)[:length], word))

    def _same_shape(self, value: str, turn: int) -> str:
        """Digits for digits and letters for letters."""
        stream = hashlib.shake_256(self._digest(b"number" + b"!" * turn, value)).digest(len(value))
        return "".join(map(_same_sort, value, stream))


def check_key(key: object) -> None:
    """Refuse what is no key, and a short one."""
    said = f"{len(key)} bytes" if isinstance(key, bytes) else type(key).__name__
    if not isinstance(key, bytes) or len(key) < SHORTEST_KEY:
        raise MedwardError(
            f"surrogates: the key must be {SHORTEST_KEY} or more bytes, got {said}; use secrets.token_bytes(32)"
        )


def _cased(word: str, like: str) -> str:
    """The word in capitals where the other one is, else with a capital."""
    return word.upper() if like.isupper() else word.title()


def _same_sort(character: str, byte: int) -> str:
    if character.isdigit():
        return str(byte % 10)
    if character.isalpha():
        letter = chr(ord("a") + byte % 26)
        return letter.upper() if character.isupper() else letter
    return character
