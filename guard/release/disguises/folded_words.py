"""Folded words: the letters and digits of a text, whatever its case, marks, spacing or script tricks.

They are bytes: a to z, 0 to 9, and bytes from 128 on for letters of other scripts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from medward.guard.release.disguises.characters import SEEN_AS, UNREADABLE

_PARTS = re.compile(rb"[^\x00-/:-\x60{-\x7f]+")


def folded_words(text: str) -> list[bytes]:
    """The words of a short text, folded letter by letter; numbers stay as they are spelled."""
    return words_of(folded_characters(text))


def folded_characters(text: str) -> bytes:
    """The characters of a short text in lower case, folded, with what is no letter or digit between them."""
    return (text.lower() if text.isascii() else "".join(_plain_characters(text))).encode("latin-1")


def words_of(folded: bytes) -> list[bytes]:
    """Runs of letters and digits, in order; of the spelling alphabet the one word with a hyphen is one of them."""
    return _PARTS.findall(folded.replace(b"x-ray", b"xray"))


def without_zeros(letters: bytes) -> bytes:
    """The letters without the digit 0: then numbers read alike as digits and as words."""
    return letters.replace(b"0", b"")


def _plain_characters(text: str) -> Iterator[str]:
    """Characters below 256: Latin letters without marks, invisible ones left out, letters of other scripts hashed."""
    for character in text:
        seen = SEEN_AS[character]
        if seen != UNREADABLE:
            yield seen.lower()
            continue
        for part in unicodedata.normalize("NFKD", character).lower():
            kind = unicodedata.category(part)
            if kind[0] == "L":
                yield chr(128 + ord(part) % 127)
            elif kind[0] not in "MC":  # marks, and what is not seen: joiners, directions, controls
                yield " "
