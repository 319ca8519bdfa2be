"""Which burned-in text stays: laterality, view and position markers, and labels of scale bars. All other is filled.

An allow-list fails safe: what is not on it is filled, whatever it may be. So is what is on it and in the names that the
file's own header has: Rao is a family name, and RAO a view. Views of mammography are those of DICOM PS3.16 CID 4014.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

SINGLE_LETTERS = frozenset("LRAPHFSI")
_LISTED = """
    LT RT LEFT RIGHT LAT LATERAL BILAT BILATERAL PA AP PORT PORTABLE MOBILE BEDSIDE ERECT UPRIGHT SEMI
    SEMIUPRIGHT SEMIERECT SUPINE PRONE SITTING STANDING RECUMBENT DECUB DECUBITUS INSP EXP INSPIRATION
    EXPIRATION CHEST CXR ABDOMEN OBL OBLIQUE RAO LAO RPO LPO CC MLO ML LM XCCL RCC LCC RMLO LMLO ANT POST
    ANTERIOR POSTERIOR HEAD FEET INTERNAL EXTERNAL INT EXT WEIGHT BEARING WEIGHTBEARING FLEXION EXTENSION
    NEUTRAL AXIAL SAGITTAL CORONAL VIEW FRONTAL ROTATED SCOUT CM MM
"""
MARKERS = frozenset(_LISTED.split())
_SCALE = re.compile(r"\d{1,3}([.,]\d{1,2})?\s*(CM|MM)|\d{1,2}")
_WORD = re.compile(r"[A-Z0-9]+")


def is_marker(text: str, names: frozenset[str] = frozenset()) -> bool:
    """Whether `text` as a whole is made of markers, of which at most one is a single letter, or labels a scale bar.

    What holds one of `names`, words in capitals, is no marker; a name of two letters counts only as a whole word.
    """
    plain = unicodedata.normalize("NFKC", text).upper()
    if _SCALE.fullmatch(plain.strip()):
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


@cache
def _is_marker_word(word: str) -> bool:
    """A marker, or several without the spaces between them, as readers drop them."""
    if word in MARKERS or word in SINGLE_LETTERS:
        return True
    return any(word.startswith(each) and _is_marker_word(word[len(each) :]) for each in MARKERS if word != each)
