"""Disguises: the ways a text can hide what it says from a search and still say it.

Each is undone into letters and digits that a needle can be searched in, and the place each of them came from.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import re2
from numpy.typing import NDArray

_Places = NDArray[np.signedinteger[Any]]

_LETTER = np.zeros(256, dtype=bool)
_LETTER[[*b"abcdefghijklmnopqrstuvwxyz0123456789"]] = True
_NO_LETTER = bytes(each for each in range(256) if not _LETTER[each])
LOOK_ALIKE_DIGITS = bytes.maketrans(b"013457@$!|l", b"oieastasiii")
"""Digits and signs to the letters they stand for ("J0hn"); i and l become one, for 1 stands for both."""
_ROT13 = bytes.maketrans(
    b"abcdefghijklmnopqrstuvwxyz", codecs.encode("abcdefghijklmnopqrstuvwxyz", "rot13").encode("ascii")
)
_BASE64 = re2.compile(rb"[A-Za-z0-9+/_-]{8,}={0,2}")
_HEX = re2.compile(rb"(?:(?:0x|\\x|\\u00|%|&#x)?[0-9A-Fa-f]{2}[ :,;-]?){4,}")
_DECIMAL = re2.compile(rb"(?:&?#?[0-9]{2,3}(?:;|, ?| |-)){3,}[0-9]{0,3}")
_WORD = re.compile(rb"[a-z]+|[0-9]|[^a-z0-9]+")
_UNPRINTABLE = bytes([*range(32), *range(127, 256)])
_LEAST_PRINTABLE = 0.7  # of the characters of a text that was encoded; a plain word decoded looks like noise
_DEEPEST = 2  # encodings within each other that are undone


@dataclass(frozen=True, slots=True)
class UndisguisedLetters:
    """Letters and digits in lower case, and for each of them where it begins and ends in the window."""

    letters: bytes
    starts: _Places
    ends: _Places


def plain_letters(view: bytes) -> UndisguisedLetters:
    """The letters and digits of a window, however far apart, in whatever case."""
    lower = view.lower()
    places = np.flatnonzero(_LETTER[np.frombuffer(lower, np.uint8)])
    return UndisguisedLetters(lower.translate(None, _NO_LETTER), places, places + 1)


def look_alike_letters(view: bytes) -> UndisguisedLetters:
    """The same, with look-alike digits read as letters."""
    return plain_letters(view.lower().translate(LOOK_ALIKE_DIGITS))


def reversed_letters(plain: UndisguisedLetters) -> UndisguisedLetters:
    """The letters from the last to the first."""
    return UndisguisedLetters(plain.letters[::-1], plain.starts[::-1], plain.ends[::-1])


def rot13_letters(plain: UndisguisedLetters) -> UndisguisedLetters:
    """The letters, each thirteen places on in the alphabet."""
    return UndisguisedLetters(plain.letters.translate(_ROT13), plain.starts, plain.ends)


def spelled_digits(view: bytes, digits: Mapping[str, str]) -> UndisguisedLetters:
    """Numerals, and the numerals that number words spell ("double five"); single letters, and a zero byte for words."""
    found: list[tuple[str, int, int]] = []
    times, begun = 1, -1
    for match in _WORD.finditer(view.lower()):
        word = match[0].decode("latin-1")
        start, end = match.span()
        spelled = digits.get(word, word if len(word) == 1 else "")
        if not word[0].isalnum():
            continue
        if len(spelled) > 1 and spelled[0] == "x":  # "double": the next one counts twice
            times, begun = int(spelled[1:]), start
            continue
        start = begun if begun >= 0 else start
        if len(spelled) == 1 and found and len(found[-1][0]) == 2 and found[-1][0][1] == "0" and spelled.isdigit():
            found[-1] = (found[-1][0][0], *found[-1][1:])  # "fifty five" is 55
        found.append((spelled * times or "\0", start, end))
        times, begun = 1, -1
    letters = "".join(each for each, _, _ in found).encode("latin-1")
    starts = [start for each, start, _ in found for _ in each]
    ends = [end for each, _, end in found for _ in each]
    return UndisguisedLetters(letters, np.array(starts, dtype=int), np.array(ends, dtype=int))


def encoded_stretches(view: bytes, depth: int = 0) -> Iterator[tuple[int, int, bytes]]:
    """Stretches of a window that are base64, hexadecimal or decimal codes of a text: start, end, that text.

    What is encoded twice is decoded twice.
    """
    for expression, decode in ((_BASE64, _from_base64), (_HEX, _from_hexadecimal), (_DECIMAL, _from_decimal)):
        for match in expression.finditer(view):
            start, end = match.start(), match.start() + len(match.group().rstrip(b" :,;-"))
            for text in decode(match.group()):
                yield start, end, text
                if depth + 1 < _DEEPEST:
                    for _, _, inner in encoded_stretches(text, depth + 1):
                        yield start, end, inner


def _from_base64(stretch: bytes) -> Iterator[bytes]:
    plain = stretch.rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    for skipped in range(4):  # the stretch may have begun before the window
        cut = plain[skipped:]
        text = base64.b64decode(cut[: len(cut) // 4 * 4] + _padded(cut[len(cut) // 4 * 4 :]))
        if len(text.translate(None, _UNPRINTABLE)) >= _LEAST_PRINTABLE * len(text):
            yield text


def _padded(rest: bytes) -> bytes:
    return rest + b"=" * (4 - len(rest)) if len(rest) > 1 else b""


def _from_hexadecimal(stretch: bytes) -> Iterator[bytes]:
    digits = re.sub(rb"0x|\\x|\\u00|%|&#x|[ :,;-]", b"", stretch)
    for skipped in (0, 1):
        yield binascii.unhexlify(digits[skipped : skipped + (len(digits) - skipped) // 2 * 2])


def _from_decimal(stretch: bytes) -> Iterator[bytes]:
    yield bytes(number for number in map(int, re.findall(rb"[0-9]+", stretch)) if number < 256)
