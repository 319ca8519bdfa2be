"""Characters: the ASCII characters that a character looks like, whatever alphabet or style it is of.

References: Unicode Technical Standard 39 (confusables), of which the commonest are here; Unicode Standard Annex 15
(NFKD) for accents and compatibility forms: full width, mathematical, circled.
"""

from __future__ import annotations

import unicodedata

UNREADABLE = "\x7f"
"""Stands for a character that looks like no ASCII one: no part of a word."""
_LOOK_ALIKES = (
    dict(zip("АВЕЅІЈКМНОРСТУХЗԌԚԜ", "ABESIJKMHOPCTYX3GQW", strict=True))
    | dict(zip("авсԁеԍнһіјкӏмопрԛгѕтуԝхѵиʙ", "abcdeghhijklmonpqrstywxvub", strict=True))
    | dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαβγεηικνορτυχωϲ", "ABEZHIKMNOPTYXabyenikvoptuxwc", strict=True))
    | dict(zip("ıȷɑɡꓐꓑꓒøØđĐðÐłŁħŧոսօ", "ijagBPDoOdDdDlLhtnuo", strict=True))
    | {"ß": "ss", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "þ": "t", "Þ": "T", "№": "#"}
    | dict.fromkeys("‘’‚‛′ʼ´`", "'")
    | dict.fromkeys("“”„‟″«»", '"')
    | dict.fromkeys("‐‑‒–—―−⁃﹣－·•", "-")
    | dict.fromkeys("ǀ∣│", "|")
)
_INVISIBLE = ("Cf", "Mn", "Me", "Mc", "Cc")
_KEPT = "\t\n\r\f\v"
_LONGEST = 4  # characters that one is read as: some ligatures are whole sentences


class _Table(dict[str, str]):
    """What each character looks like, learned as characters are met; at most one entry a character of Unicode."""

    def __missing__(self, character: str) -> str:
        seen = _seen_as(character)
        self[character] = seen
        return seen


def _seen_as(character: str) -> str:
    if character.isascii():
        return character if character.isprintable() or character in _KEPT else ""
    if character in _LOOK_ALIKES:
        return _LOOK_ALIKES[character]
    if unicodedata.category(character) in _INVISIBLE:
        return ""
    if character.isspace():
        return "\n" if character in "\x85\u2028\u2029" else " "
    parts = [_LOOK_ALIKES.get(each, _digit(each)) for each in unicodedata.normalize("NFKD", character)]
    return (
        "".join(each for part in parts for each in part if each.isascii() and each.isprintable())[:_LONGEST]
        or UNREADABLE
    )


def _digit(character: str) -> str:
    """The digit that a character of any alphabet stands for, or the character."""
    value = unicodedata.decimal(character, None)
    return character if value is None else str(value)


SEEN_AS = _Table()
"""What each character looks like: ASCII characters, nothing if it is invisible, else `UNREADABLE`."""
