"""Which burned-in text stays: laterality, view and position markers, lengths, scale labels. All other is filled.

An allow-list fails safe: what is not on it is filled, whatever it may be. So is what is on it and in the names that the
file's own header has: Rao is a family name, and RAO a view. Views of mammography are those of DICOM PS3.16 CID 4014.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

from medward.guard.intake.deidentify.reading import ReadText

SINGLE_LETTERS = frozenset("LRAPHFSI")
_LISTED = """
    LT RT LEFT RIGHT LAT LATERAL BILAT BILATERAL PA AP PORT PORTABLE MOBILE BEDSIDE ERECT UPRIGHT SEMI
    SEMIUPRIGHT SEMIERECT SUPINE PRONE SITTING STANDING RECUMBENT DECUB DECUBITUS INSP EXP INSPIRATION
    EXPIRATION CHEST CXR ABDOMEN OBL OBLIQUE RAO LAO RPO LPO CC MLO ML LM XCCL RCC LCC RMLO LMLO ANT POST
    ANTERIOR POSTERIOR HEAD FEET INTERNAL EXTERNAL INT EXT WEIGHT BEARING WEIGHTBEARING FLEXION EXTENSION
    NEUTRAL AXIAL SAGITTAL CORONAL VIEW FRONTAL ROTATED SCOUT CM MM
"""
MARKERS = frozenset(_LISTED.split())
NAMES_TOO = frozenset({"HEAD", "LAO", "POST", "RAO"})
"""Markers that are family names: where no header says what the patient is called, they are filled."""
FEWEST_LABELS = 4  # of a scale: a date or a time has three numbers
_MOST_BEND = 0.25  # of a label's height, that its place is off the line through two others
_CLOSEST = 3  # labels behind one, by any of which the distance of a scale's labels is taken
_LENGTH = re.compile(r"\d{1,3}([.,]\d{1,2})?\s*(CM|MM)|\d")
_LABEL = re.compile(r"\d{1,3}")
_WORD = re.compile(r"[A-Z0-9]+")


def is_marker(text: str, names: frozenset[str] = frozenset()) -> bool:
    """Whether `text` as a whole is made of markers, of which at most one is a single letter, or is a length or a digit.

    What holds one of `names`, words in capitals, is no marker; a name of two letters counts only as a whole word.
    """
    plain = unicodedata.normalize("NFKC", text).upper()
    if _LENGTH.fullmatch(plain.strip()):
        return True
    words = _WORD.findall(plain)
    if sum(len(each) for each in words) != sum(each.isalnum() for each in plain):
        return False  # letters of another script
    if sum(len(each) == 1 for each in words) > 1:
        return False
    if any(name == word or (len(name) > 2 and name in word) for name in names for word in words):
        return False
    return bool(words) and all(_is_marker_word(each) for each in words)


def is_symbol(text: str) -> bool:
    """Whether `text` has no letter and no digit, or is one alone: by itself that names nobody."""
    return sum(each.isalnum() for each in text) <= 1


def is_number(text: str) -> bool:
    """Whether `text` is nothing but a number of up to three digits, as scales have them."""
    return _LABEL.fullmatch(text.strip()) is not None


def scale_labels(texts: Iterable[ReadText]) -> frozenset[ReadText]:
    """The numbers of `texts` that label a scale: four or more in a row or column, as far apart as their values are.

    A label that is read in many frames, or at several sizes, counts once.
    """
    read: dict[tuple[int, ...], list[ReadText]] = {}
    for each in texts:
        if is_number(each.text):
            place = (each.region.top + each.region.bottom) // 8, (each.region.left + each.region.right) // 8
            read.setdefault((_value(each), *place), []).append(each)
    found: set[ReadText] = set()
    for across in (False, True):
        for line in _lines([several[0] for several in read.values()], across=across):
            found |= _on_a_scale(line, across=across)
    return frozenset(each for several in read.values() if several[0] in found for each in several)


def _lines(numbers: Sequence[ReadText], *, across: bool) -> Iterator[list[ReadText]]:
    """Numbers that stand in one row (`across`) or in one column, in their order along it."""
    waiting = sorted(numbers, key=lambda each: _middle(each, across=not across))
    while waiting:
        first = waiting[0]
        yield sorted(
            (each for each in waiting if _is_beside(first, each, across=across)),
            key=lambda each: _middle(each, across=across),
        )
        waiting = [each for each in waiting if not _is_beside(first, each, across=across)]


def _is_beside(one: ReadText, two: ReadText, *, across: bool) -> bool:
    """Whether both begin, end or have their middle in one line, as labels of several digits do by one of these."""
    (start, end), (other_start, other_end) = (
        (each.region.top, each.region.bottom) if across else (each.region.left, each.region.right)
        for each in (one, two)
    )
    offsets = (start - other_start, end - other_end, (start + end - other_start - other_end) / 2)
    return min(map(abs, offsets)) <= one.region.height / 2


def _on_a_scale(line: Sequence[ReadText], *, across: bool) -> set[ReadText]:
    """The most labels of `line` whose places go with their values, by two that are close to each other."""
    best: set[ReadText] = set()
    for start, first in enumerate(line):
        for second in line[start + 1 : start + 1 + _CLOSEST]:
            apart, step = _middle(second, across=across) - _middle(first, across=across), _value(second) - _value(first)
            if apart <= first.region.height / 2 or not step:
                continue
            meant = {
                each: _middle(first, across=across) + (_value(each) - _value(first)) * apart / step for each in line
            }
            fits = {
                each
                for each, place in meant.items()
                if abs(place - _middle(each, across=across)) <= max(2, _MOST_BEND * each.region.height)
            }
            if len({_value(each) for each in fits}) >= max(FEWEST_LABELS, len({_value(each) for each in best}) + 1):
                best = fits
    return best


def _value(label: ReadText) -> int:
    return int(label.text)


def _middle(text: ReadText, *, across: bool) -> float:
    region = text.region
    return (region.left + region.right) / 2 if across else (region.top + region.bottom) / 2


@cache
def _is_marker_word(word: str) -> bool:
    """A marker, or several without the spaces between them, as readers drop them."""
    if word in MARKERS or word in SINGLE_LETTERS:
        return True
    return any(word.startswith(each) and _is_marker_word(word[len(each) :]) for each in MARKERS if word != each)
