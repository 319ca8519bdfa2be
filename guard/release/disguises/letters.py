"""Letters: a window of folded text letter by letter, as it stands or undisguised, and where each letter is from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.release.disguises.ciphers import LEETSPEAK

_Places = NDArray[np.signedinteger[Any]]

_LETTER = np.zeros(256, dtype=bool)
_LETTER[[*b"abcdefghijklmnopqrstuvwxyz0123456789"]] = True
_NO_LETTER = bytes(each for each in range(256) if not _LETTER[each])
_WORD = re.compile(rb"x-ray|[a-z]+|[0-9]")


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
    return plain_letters(view.lower().translate(LEETSPEAK))


def letters_without_zeros(found: UndisguisedLetters) -> UndisguisedLetters:
    """The letters but for the digit 0."""
    kept = np.frombuffer(found.letters, np.uint8) != ord("0")
    return UndisguisedLetters(found.letters.replace(b"0", b""), found.starts[kept], found.ends[kept])


def spelled_letters(view: bytes, words: Mapping[str, str]) -> UndisguisedLetters:
    """Numerals and single letters, what `words` stand for ("double five", "Oscar"), a zero byte for any other word."""
    found: list[tuple[str, int, int]] = []
    times, begun = 1, -1
    for match in _WORD.finditer(view.lower()):
        word = match[0].decode("ascii")
        start, end = match.span()
        spelled = words.get(word, word if len(word) == 1 else "")
        if len(spelled) > 1 and spelled[0] == "x":  # "double": the next one counts twice
            times, begun = int(spelled[1:]), start
            continue
        start = begun if begun >= 0 else start
        if len(spelled) == 1 and found and len(found[-1][0]) == 2 and found[-1][0][1] == "0" and spelled.isdigit():
            found[-1] = (found[-1][0][0], *found[-1][1:])  # "fifty five" is 55
        found.append((spelled * times or "\0", start, end))
        times, begun = 1, -1
    letters = "".join(each for each, _, _ in found).encode("ascii")
    starts = [start for each, start, _ in found for _ in each]
    ends = [end for each, _, end in found for _ in each]
    return UndisguisedLetters(letters, np.array(starts, dtype=int), np.array(ends, dtype=int))
