"""Disguises letter by letter: each character of a value is replaced, marked or set apart."""

from __future__ import annotations

import re
import unicodedata

_NATO = re.findall(
    r"\S+",
    "alfa bravo charlie delta echo foxtrot golf hotel india juliett kilo lima mike november oscar papa quebec romeo "
    "sierra tango uniform victor whiskey x-ray yankee zulu",
)
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LOOKALIKES = str.maketrans("aceopxyijsABCEHIKMOPTX", "асеорхуіјѕАВСЕНІКМОРТХ")
_LATIN = {chr(value): chr(key) for key, value in _LOOKALIKES.items()}
_LEET = str.maketrans("aegostAEGOST", "436057436057")
_UNLEET = str.maketrans("436057", "aegost")
_DIGIT = re.compile(r"\d")
_BOLD = {ord(letter): chr(0x1D400 + place) for place, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")} | {
    ord(letter): chr(0x1D41A + place) for place, letter in enumerate("abcdefghijklmnopqrstuvwxyz")
}
_INITIALS = re.findall(
    r"\S+",
    "aorta bones clear dense each few good heart image just kidney lungs may normal old pleura quite right small the "
    "under very with xiphoid yet zone",
)


def spell_digits(value: str) -> str:
    """Each digit as a word: "one two"."""
    return re.sub(r"\d", lambda match: f" {_DIGITS[int(match[0])]} ", value)


def unspell_digits(text: str) -> str:
    """Words that are digits as digits again."""
    return re.sub(
        r"\b(" + "|".join(_DIGITS) + r")\b", lambda match: str(_DIGITS.index(match[0].lower())), text, flags=2
    )


def spell_letters(value: str) -> str:
    """Each letter as a word of the spelling alphabet, each digit as a word."""
    return " ".join(_spoken(character) for character in value.lower() if character.isalnum())


def unspell_letters(text: str) -> str:
    """The letters and digits that words of the spelling alphabet stand for."""
    words = re.findall(r"x-ray|[a-z]+", text.lower())
    known = {**{word: word[0] for word in _NATO}, **{word: str(digit) for digit, word in enumerate(_DIGITS)}}
    return "".join(known.get(word, "\n") for word in words)


def swap_lookalikes(value: str) -> str:
    """Latin letters as Cyrillic ones that look alike."""
    return value.translate(_LOOKALIKES)


def unswap_lookalikes(text: str) -> str:
    """Cyrillic lookalikes as Latin letters."""
    return "".join(_LATIN.get(each, each) for each in text)


def embolden(value: str) -> str:
    """Letters as mathematical bold ones."""
    return value.translate(_BOLD)


def compatible(text: str) -> str:
    """Letters as they are without style, width or marks."""
    return "".join(each for each in unicodedata.normalize("NFKD", text) if not unicodedata.combining(each))


def widen(value: str) -> str:
    """Characters in full width."""
    return "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in value)


def write_leet(value: str) -> str:
    """Digits for the letters that look like them; a word that has digits stays, after a mark."""
    return re.sub(
        r"[^\W_]+", lambda match: f"#{match[0]}" if _DIGIT.search(match[0]) else match[0].translate(_LEET), value
    )


def read_leet(text: str) -> str:
    """Letters for digits, but in marked words."""
    return re.sub(r"#?[^\W_]+", lambda match: match[0] if match[0][0] == "#" else match[0].translate(_UNLEET), text)


def join_characters(value: str, between: str) -> str:
    """`between` after every character."""
    return between.join(value)


def without_invisible(text: str) -> str:
    """What is left without joiners and marks of direction."""
    return "".join(each for each in text if unicodedata.category(each) != "Cf")


def write_acrostic(value: str) -> str:
    """A word that begins with each letter; a digit begins one as itself."""
    letters = [each for each in value.lower() if each.isalnum()]
    return " ".join(_INITIALS[ord(each) - ord("a")] if each.isalpha() else f"{each}-fold" for each in letters)


def read_acrostic(text: str) -> str:
    """The first letter of each word."""
    return "".join(word[0] for word in re.findall(r"[\w-]+", text))


def _spoken(character: str) -> str:
    return _DIGITS[int(character)] if character.isdigit() else _NATO[ord(character) - ord("a")]
