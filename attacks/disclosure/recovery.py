"""Recovery: how much of a value an attacker has who decodes what left."""

from __future__ import annotations

import unicodedata

NEARLY = 0.8
"""The share of a value from which it counts as recovered: the rest can be guessed."""


def recovered_share(value: str, decoded: str) -> float:
    """The longest run of letters and digits of `value` in one line of `decoded`, over all that it has.

    Case, accents, spaces and punctuation count for nothing.
    """
    wanted = comparable(value)
    if not wanted:
        return 0.0
    lines = {comparable(line) for line in decoded.splitlines()}
    if any(wanted in line for line in lines):
        return 1.0
    return max((_longest(wanted, line) / len(wanted) for line in lines), default=0.0)


def comparable(text: str) -> str:
    """The letters and digits of a text in lower case, without marks."""
    return "".join(each for each in unicodedata.normalize("NFKD", text).lower() if each.isalnum())


def _longest(one: str, two: str) -> int:
    """The length of the longest run that both have: where a run of some length is common, so is a shorter one."""
    low, high = 0, min(len(one), len(two))
    while low < high:
        size = (low + high + 1) // 2
        runs = {two[start : start + size] for start in range(len(two) - size + 1)}
        if any(one[start : start + size] in runs for start in range(len(one) - size + 1)):
            low = size
        else:
            high = size - 1
    return low
