"""Ciphers of letters: a search for letters finds what was enciphered when they are enciphered in the same way.

Letters are bytes in lower case, with digits among them; what is no letter stays.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Mapping

LEETSPEAK = bytes.maketrans(b"01345678@$!|l", b"oieasgtbasiii")
"""Digits and signs to the letters they stand for ("J0hn"); i and l become one, for 1 and | stand for both."""
_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_ROT13 = bytes.maketrans(_ALPHABET.encode(), codecs.encode(_ALPHABET, "rot13").encode())


def from_the_end(letters: bytes) -> bytes:
    """The letters from the last to the first."""
    return letters[::-1]


def rotated(letters: bytes) -> bytes:
    """The letters, each thirteen places on in the alphabet."""
    return letters.translate(_ROT13)


def rotated_text(text: str) -> str:
    """A text in rot13, which leaves letters with an accent as they are: folded, it differs from `rotated` there."""
    return codecs.encode(text, "rot13")


def rotated_from_the_end(letters: bytes) -> bytes:
    """Both at once."""
    return rotated(letters)[::-1]


CIPHERS: Mapping[str, Callable[[bytes], bytes]] = {
    "from the end": from_the_end,
    "rot13": rotated,
    "rot13 from the end": rotated_from_the_end,
}
"""Every cipher by name."""
