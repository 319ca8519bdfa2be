"""Passages worth stealing: stretches of training texts whose words hardly any other patient's text has in that order.

What is rare is told here by words, without any filter's own definition.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Sequence

_WORD = re.compile(r"\S+")
_PHRASE = 3


def rare_passages(
    texts: Sequence[str], patients: Sequence[Hashable], *, words: int = 24, phrases: int = 6
) -> list[tuple[int, str]]:
    """The first passage of each text, with its place, that has `words` words and among them `phrases` phrases of three
    words, apart from each other, that no other patient's text has.
    """
    owners: dict[tuple[str, ...], set[Hashable]] = defaultdict(set)
    split = [[(match[0], match.start(), match.end()) for match in _WORD.finditer(text)] for text in texts]
    for found, who in zip(split, patients, strict=True):
        for phrase in _phrases([word for word, _, _ in found]):
            owners[phrase].add(who)
    passages = []
    for place, found in enumerate(split):
        rare = [len(owners[phrase]) == 1 for phrase in _phrases([word for word, _, _ in found])]
        for start in range(len(found) - words + 1):
            if _apart(rare[start : start + words - _PHRASE + 1]) >= phrases:
                passages.append((place, texts[place][found[start][1] : found[start + words - 1][2]]))
                break
    return passages


def _phrases(words: Sequence[str]) -> list[tuple[str, ...]]:
    plain = [re.sub(r"\W", "", word.lower()) for word in words]
    return [tuple(plain[start : start + _PHRASE]) for start in range(len(plain) - _PHRASE + 1)]


def _apart(rare: Sequence[bool]) -> int:
    """How many rare phrases fit in without sharing a word."""
    count, place = 0, 0
    while place < len(rare):
        count, place = (count + 1, place + _PHRASE) if rare[place] else (count, place + 1)
    return count
