"""Needles: the letters and digits that a known identifier comes down to in each way it may be written.

A needle has no separators, case or accents, so that "Roe, Jane", "jane.roe" and "J a n e R o e" need one each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from medward.guard.release.disguises.ciphers import rotated_text
from medward.guard.release.disguises.folded_text import folded_view, is_foldable
from medward.guard.release.text.known import KnownIdentifiers
from medward.guard.release.text.spans import IdentifierKind

_PARTICLES = frozenset(("de", "la", "del", "van", "von", "der", "den", "el", "al", "le", "di", "da"))
_SHORTEST_LOOSE = 6  # characters from which a number is also found inside of a longer one
_SHORTEST_JOINED = 8  # characters from which joined parts of a name are found inside of a word
_SHORTEST_TELLING = 4  # characters from which a number says something without a label
_YEAR = re.compile(rb"(?:19|20)[0-9]{2}")
_VERBAL = ((".", "dot"), ("@", "at"), ("-", "dash"), ("_", "underscore"))


@dataclass(frozen=True, slots=True)
class Needle:
    """A needle is what to search for, as lower-case letters and digits.

    Unless `loose`, no letter or digit may stand right before or behind it. A `name` may be written with look-alike
    digits, enciphered or with one typo. One that is `labelled` is so short that it says nothing without a label.
    """

    kind: IdentifierKind
    letters: bytes
    loose: bool = False
    name: bool = False
    labelled: bool = False


def known_needles(known: KnownIdentifiers, months: Mapping[str, int], titles: frozenset[str]) -> tuple[Needle, ...]:
    """The needles of every known value, longest first; `months` and `titles` are a language's, in lower case."""
    found = {
        needle
        for kind, value in known.values
        for needle in _of_value(kind, _foldable_part(value), months, titles)
        if needle.letters
    }
    return tuple(sorted(found, key=lambda each: (-len(each.letters), each.letters, each.kind)))


def turned_word_needles(known: KnownIdentifiers, least: int) -> Iterator[Needle]:
    """Values of several words, each word from its end, in as many letters as `least` or more; a date has too many."""
    for kind, value in known.values:
        turned = only_letters(" ".join(word[::-1] for word in value.split()))
        if " " in value.strip() and kind is not IdentifierKind.DATE and len(turned) >= least:
            yield Needle(kind, turned, loose=len(turned) >= _SHORTEST_JOINED)


def rotated_accent_needles(known: KnownIdentifiers, titles: frozenset[str], least: int) -> Iterator[Needle]:
    """Parts of names in rot13, which leaves letters with an accent as they are, in `least` letters or more."""
    for kind, value in known.values:
        if kind is IdentifierKind.NAME and not value.isascii():
            for part in name_parts(rotated_text(value), titles):
                if len(part) >= least:
                    yield from (Needle(kind, each, name=True) for each in (part, part[::-1]))


def unfoldable_parts(known: KnownIdentifiers) -> tuple[tuple[IdentifierKind, str], ...]:
    """Parts of known values in other alphabets, which are searched for as they are written, in each normal form."""
    found: set[tuple[IdentifierKind, str]] = set()
    for kind, value in known.values:
        parts = [each for each in re.split(r"[\s,^=]+", value) if not is_foldable(each)]
        whole = [each for each in (*parts, "".join(parts), " ".join(parts)) if len(each) > 1]
        for form in ("NFC", "NFD", "NFKC"):
            for each in (unicodedata.normalize(form, one) for one in whole):
                found |= {(kind, each), (kind, each.lower()), (kind, each.upper())}
    return tuple(sorted(found))


def _foldable_part(value: str) -> str:
    """A value without the parts that are not in an alphabet like ours."""
    return (
        value if is_foldable(value) else "".join(part for part in re.split(r"([\s,^=]+)", value) if is_foldable(part))
    )


def only_letters(value: str) -> bytes:
    """A value folded, in lower case, its letters and digits only."""
    return re.sub(rb"[^a-z0-9]", b"", folded_view(value).lower())


def name_parts(value: str, titles: frozenset[str]) -> list[bytes]:
    """The parts of a name, the family's last, without titles and particles."""
    family, comma, given = folded_view(value).decode().lower().replace("^", ",", 1).partition(",")
    parts = re.split(r"[\s,^=.]+", f"{given} {family}" if comma else family)
    return [only_letters(each) for each in parts if only_letters(each) and each not in titles | _PARTICLES]


def _of_value(kind: IdentifierKind, value: str, months: Mapping[str, int], titles: frozenset[str]) -> Iterator[Needle]:
    if kind is IdentifierKind.NAME:
        yield from _of_name(value, titles)
    elif kind is IdentifierKind.DATE and (day := _read_date(value)):
        yield from (Needle(kind, each.encode()) for each in set(_date_spellings(day, months)))
    elif kind is IdentifierKind.PLACE:
        yield from _of_place(value)
    elif kind in (IdentifierKind.EMAIL, IdentifierKind.URL):
        yield from _of_address(kind, value)
    else:
        yield from _of_number(kind, only_letters(value))


def _of_name(value: str, titles: frozenset[str]) -> Iterator[Needle]:
    parts = name_parts(value, titles)
    whole = [each for each in parts if len(each) > 1]
    yield from (Needle(IdentifierKind.NAME, each, name=True) for each in whole)
    yield from (
        Needle(IdentifierKind.NAME, only_letters(each), name=True)
        for part in re.split(r"[\s,^=]+", value)
        if "-" in part
        for each in part.split("-")
        if len(only_letters(each)) > 2
    )
    for place, first in enumerate(whole):
        for other, second in enumerate(whole):
            if place != other:
                joined = first + second
                yield Needle(IdentifierKind.NAME, joined, loose=len(joined) >= _SHORTEST_JOINED, name=True)
                if len(second) > 2:
                    yield Needle(IdentifierKind.NAME, first[:1] + second)
                    yield Needle(IdentifierKind.NAME, second + first[:1])


def _of_place(value: str) -> Iterator[Needle]:
    pieces = [value, *re.split(r"[,;\n^]", value)]
    pieces += [re.sub(r"^\s*[0-9]+[A-Za-z]?\s+|\s+[0-9]+\s*$", "", each) for each in pieces]
    for piece in pieces:
        letters = only_letters(piece)
        if len(letters) > 3 and (len(letters) > 4 or not letters.isdigit()):
            yield Needle(IdentifierKind.PLACE, letters, name=letters.isalpha())


def _of_address(kind: IdentifierKind, value: str) -> Iterator[Needle]:
    spoken = value.lower()
    for sign, word in _VERBAL:
        spoken = spoken.replace(sign, word)
    yield Needle(kind, only_letters(value), loose=True)
    yield Needle(kind, only_letters(spoken), loose=True)
    yield Needle(kind, only_letters(value.replace("@", "a")), loose=True)  # in leetspeak, where it is that letter
    local = only_letters(value.split("@")[0])
    if "@" in value and len(local) > 4:
        yield Needle(kind, local)


def _of_number(kind: IdentifierKind, letters: bytes) -> Iterator[Needle]:
    forms = {letters, letters.lstrip(b"0"), re.sub(rb"^[a-z]+", b"", letters)}
    if kind in (IdentifierKind.PHONE, IdentifierKind.FAX):
        forms |= {letters[-10:], letters[-7:]}
    for each in forms:
        short = len(each) < _SHORTEST_TELLING or _YEAR.fullmatch(each) is not None
        if len(each) > 3 or (each == letters and len(each) > 1):
            yield Needle(kind, each, loose=len(each) >= _SHORTEST_LOOSE, labelled=short)


def _read_date(value: str) -> date | None:
    """The day a value means: YYYY-MM-DD, YYYYMMDD, or a FHIR or DICOM time that begins so."""
    match = re.match(r"\s*([0-9]{4})[-/.]?([0-9]{2})[-/.]?([0-9]{2})", value)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _date_spellings(day: date, months: Mapping[str, int]) -> Iterator[str]:
    """The ways to write a day, without separators: numbers in each order, months by name, with a year and without."""
    years = (f"{day.year}", f"{day.year % 100:02}")
    days = _either(day.day)
    for year in years:
        for month in _either(day.month):
            for number in days:
                yield from (month + number + year, number + month + year, year + month + number)
    for word in (name for name, number in months.items() if number == day.month):
        for number in (*days, *(each + end for each in days for end in ("st", "nd", "rd", "th"))):
            for year in (*years, ""):
                yield from (word + number + year, number + word + year, f"{number}of{word}{year}")
                yield from (
                    (f"{number}de{word}de{year}", f"{number}de{word}del{year}", f"{number}de{word}") if year else ()
                )


def _either(number: int) -> Sequence[str]:
    return tuple(dict.fromkeys((f"{number:02}", str(number))))
