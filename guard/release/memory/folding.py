"""Folding: the letters and digits of a text, whatever its case, marks, spacing, script tricks or spelling of numbers.

A folded text is bytes: a to z, 1 to 9, and bytes from 128 on for letters of other scripts. The digit 0 is left out, and
so are "zero", "hundred" and "thousand"; then "twenty" is 2, "twenty-three" is 23 and "two thousand thirteen" is 213,
as digits and as words, and each word can be folded by itself.

References: Unicode Standard Annex 15 (NFKD) and Technical Standard 39 (confusables), of which the commonest are here;
the spelling alphabet is that of ICAO Annex 10.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_UNITS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SPELLING = (
    "alfa alpha bravo charlie delta echo foxtrot golf hotel india juliett juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey whisky xray yankee zulu"
)
_SPOKEN = {
    **{word: str(value).replace("0", "") for value, word in enumerate(f"{_UNITS} eighteen nineteen".split(), 1)},
    **{word: str(value) for value, word in enumerate(_TENS.split(), 2)},
    **dict.fromkeys(("zero", "hundred", "thousand"), ""),
    "niner": "9",
    **{word: word[0] for word in _SPELLING.split()},
}
_LOOKALIKES = str.maketrans(
    {
        **dict(zip("АВСЕНІЈКМОРЅТУХԌԚԜ", "abcehijkmopstyxgqw", strict=True)),
        **dict(zip("авсԁеԍнһіјкӏмопрԛгѕтуԝхѵиʙ", "abcdeghhijklmonpqrstywxvub", strict=True)),
        **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ", "abezhikmnoptyx", strict=True)),
        **dict(zip("αβγεηικνορτυχω", "abyenikvoptuxw", strict=True)),
        **dict(zip("ıłøđħŧɑɡɩոսօ", "ilodhtaginuo", strict=True)),
        **dict.fromkeys("ǀ∣│", "l"),
        "æ": "ae",
        "œ": "oe",
    }
)
_PARTS = re.compile(rb"[^\x00-/:-\x60{-\x7f]+")


def folded_words(text: str) -> list[bytes]:
    """The words of a short text, folded letter by letter; numbers stay as they are spelled."""
    plain = text.lower() if text.isascii() else "".join(_plain_characters(text))
    lowered = plain.replace("x-ray", "xray")  # the one word of the spelling alphabet that has a hyphen
    return [part.replace(b"0", b"") for part in _PARTS.findall(lowered.encode("latin-1"))]


def spoken_as_written(words: list[bytes]) -> bytes:
    """Folded words as one run, with each number word as digits and each word of the spelling alphabet as its letter."""
    return b"".join([_SYMBOLS.get(word, word) for word in words])


_SYMBOLS = {word.encode(): symbol.encode() for word, symbol in _SPOKEN.items()}


def _plain_characters(text: str) -> Iterator[str]:
    """Characters below 256: Latin letters without marks, invisible ones left out, letters of other scripts hashed."""
    for character in unicodedata.normalize("NFKD", text).translate(_LOOKALIKES).lower():
        if character < "\x80":
            yield character
            continue
        kind = unicodedata.category(character)
        if kind[0] == "L":
            yield chr(128 + ord(character) % 127)
        elif kind == "Nd":
            yield str(unicodedata.digit(character))
        elif kind[0] not in "MC":  # marks, and what is not seen: joiners, directions, controls
            yield " "
