"""Names that print alike are one name: a person who reads ``Clinic-A`` and ``clinic-a`` on a screen sees one account.

Reference: Unicode Standard Annex 15 (NFKC) and Standard, sec. 3.13 (caseless matching).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TypeVar

from guard.errors import MedwardError

T = TypeVar("T")

# Printable to Python and yet not seen on a screen: Default_Ignorable_Code_Point, and the Braille blank.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")


def folded(name: str) -> str:
    """The one spelling of all names that print like `name`: compatible letters alike, lower case, single spaces."""
    text = name
    for _ in range(3):  # case folding can undo what normalising did, and the other way round
        text = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def hides(name: str) -> bool:
    """Whether a character of `name` is a control or cannot be seen."""
    text = unicodedata.normalize("NFKC", name)
    return not text.isprintable() or UNSEEN.search(name) is not None


def alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two of `names` that print alike, if any do."""
    known: dict[str, str] = {}
    for name in names:
        if folded(name) in known:
            return known[folded(name)], name
        known[folded(name)] = name
    return None


def by_folded(named: Mapping[str, T], what: str) -> dict[str, T]:
    """`named` under the one spelling of each name; raises `MedwardError` for two of `what` that print alike."""
    if two := alike(named):
        raise MedwardError(f"{what}: {two[0]!r} and {two[1]!r} print alike and are one name; keep one of them")
    return {folded(name): each for name, each in named.items()}
