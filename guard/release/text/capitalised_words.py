"""Capitalised words of a text, what stands between them and behind them."""

from __future__ import annotations

import re
from typing import NamedTuple

_CAPITALISED = re.compile(r"(?<![A-Za-z0-9])[A-Z][A-Za-z]*(?:['-][A-Za-z]+)*")
_NEXT_WORDS = re.compile(r"(?:'s?|s')?(?:[ -][A-Z][A-Za-z]*){0,2}[ -][A-Za-z]+")
_NEXT_WORD = re.compile(r"(?:'s?|s')?[ -]([A-Za-z]+)")


class CapitalisedWord(NamedTuple):
    """A capitalised word of a window, in lower case and without a possessive, and what stands before it."""

    start: int
    end: int
    word: str
    gap: str  # between the word before and this one
    capitals: bool  # all of it


def capitalised_words(text: str) -> list[CapitalisedWord]:
    """The capitalised words of a text, in order."""
    words = []
    before = 0
    for match in _CAPITALISED.finditer(text):
        start, end = match.span()
        whole = match.group()
        if whole.endswith(("'s", "'S")):
            whole, end = whole[:-2], end - 2
        words.append(CapitalisedWord(start, end, whole.lower(), text[before:start], whole.isupper()))
        before = end
    return words


def is_initial(text: str, word: CapitalisedWord) -> bool:
    """Whether a word is one letter with a full stop."""
    return len(word.word) == 1 and text[word.end : word.end + 1] == "."


def end_of_name(text: str, last: CapitalisedWord) -> int:
    """Where a name ends: an initial takes its point along."""
    return last.end + 1 if is_initial(text, last) else last.end


def next_word(text: str, end: int) -> str:
    """The word behind a place, in lower case, if only a space, a hyphen or a possessive is between."""
    match = _NEXT_WORD.match(text, end)
    return match[1].lower() if match else ""


def next_words(text: str, end: int) -> list[str]:
    """The word behind a place and, after capitalised ones, the two behind it, in lower case."""
    match = _NEXT_WORDS.match(text, end)
    return match[0].lower().replace("-", " ").split(" ") if match else []
