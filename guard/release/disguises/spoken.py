"""Spoken words: numbers and the spelling alphabet of ICAO (Annex 10), read as the digits and letters they stand for."""

from __future__ import annotations

from collections.abc import Mapping

_UNITS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
_ALPHABET = (
    "alfa alpha bravo charlie delta echo foxtrot golf hotel india juliett juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey whisky xray yankee zulu"
)
SPELLING_ALPHABET: Mapping[str, str] = {word: word[0] for word in _ALPHABET.split()}
"""Words to the letters they stand for; "x-ray" has no hyphen here."""
_SPOKEN = {
    **{word: str(value) for value, word in enumerate(f"zero {_UNITS} eighteen nineteen".split())},
    **{word: f"{value}0" for value, word in enumerate(_TENS.split(), 1)},
    **dict.fromkeys(("hundred", "thousand"), ""),
    "niner": "9",
    **SPELLING_ALPHABET,
}
_SYMBOLS = {word.encode(): symbol.encode() for word, symbol in _SPOKEN.items()}


def spelling_words(digits: Mapping[str, str]) -> Mapping[str, str]:
    """Words of the spelling alphabet, as they stand in a text, beside a language's number words."""
    return {**SPELLING_ALPHABET, "x-ray": "x", **digits}


def spoken_as_written(words: list[bytes]) -> bytes:
    """Folded words as one run, with each number word as digits and each word of the spelling alphabet as its letter.

    Zeros aside, "twenty-three" is 23 and "two thousand thirteen" is 2013: then each word can be read by itself.
    """
    return b"".join([_SYMBOLS.get(word, word) for word in words])
