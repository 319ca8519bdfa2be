"""Names that differ in spelling only are one name: ``Clinic-A`` and ``clinic-a`` are one account.

What is folded: compatible forms (NFKC), letter case, kinds of dashes, and spaces at the ends and in a row. What is not:
letters that look alike. A Latin "a" and a Cyrillic one are two letters, so names that differ in them are two names.

Reference: Unicode Standard Annex 15 (NFKC) and Standard, sec. 3.13 (caseless matching).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from medward.guard.errors import MedwardError
from medward.guard.types import Principal

MAX_DEPTH = 8  # levels of a principal
MAX_NAME = 128  # characters of a level, in its one spelling
_DECOMPOSED = 4  # characters at most that one is written as in the form NFD
_T = TypeVar("_T")

# Printable to Python and yet not seen on a screen: Default_Ignorable_Code_Point, and the Braille blank.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")

# Hyphen; figure, en and em dash; bar; hyphen bullet; minus sign. NFKC maps other forms of dashes to these.
DASHES = str.maketrans(dict.fromkeys("\u2010\u2012\u2013\u2014\u2015\u2043\u2212", "-"))


def folded_name(name: str) -> str:
    """`name` in the one spelling of its compatible forms: lower case, "-" for every dash, single spaces."""
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).translate(DASHES).split())


def hides_character(name: str) -> bool:
    """Whether a character of `name` is a control or cannot be seen."""
    text = unicodedata.normalize("NFKC", name)
    return not text.isprintable() or UNSEEN.search(name) is not None


def first_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two of `names` with one spelling, if any have."""
    known: dict[str, str] = {}
    for name in names:
        if folded_name(name) in known:
            return known[folded_name(name)], name
        known[folded_name(name)] = name
    return None


def by_folded(named: Mapping[str, _T], what: str) -> dict[str, _T]:
    """`named` under the one spelling of each name; raises `MedwardError` for two of `what` that have the same."""
    if two := first_alike(named):
        raise MedwardError(f"{what}: {two[0]!r} and {two[1]!r} print alike and are one name; keep one of them")
    return {folded_name(name): each for name, each in named.items()}


def checked_principal(principal: Principal) -> Principal:
    """The account of `principal`: every level in its one spelling.

    Refuses an empty path, and names that could be mistaken for one another once joined or hide a character.
    """
    if isinstance(principal, str):
        raise MedwardError(
            f"principal: a path is a tuple of names, got the text {principal!r}; give {tuple(principal.split('/'))!r}"
        )
    if not isinstance(principal, Sequence):
        raise MedwardError(f"principal: a path is a tuple of names, got {type(principal).__name__}; give ('name',)")
    if not principal or len(principal) > MAX_DEPTH:
        raise MedwardError(f"principal: needs 1 to {MAX_DEPTH} levels, got {len(principal)}")
    return tuple(_checked_level(name) for name in principal)


def _checked_level(name: str) -> str:
    if not isinstance(name, str):
        raise MedwardError(f"principal: a level is a text, got {type(name).__name__}; give str(...) of it")
    if len(name) <= _DECOMPOSED * MAX_NAME and not hides_character(name):
        spelled = folded_name(name)
        if spelled and "/" not in spelled and len(spelled) <= MAX_NAME:
            return spelled
    raise MedwardError(
        f"principal: a level is 1 to {MAX_NAME} printable characters without '/', got {name[: MAX_NAME + 1]!r}"
    )
