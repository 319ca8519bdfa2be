"""Names that another name could be taken for, since letters of two scripts look alike.

`folded_name` leaves such letters alone, as a Latin "a" and a Cyrillic one are two letters. Where a name is given out,
a person reads it, so what a person cannot tell apart is refused there.

Reference: Unicode Technical Standard 39, sec. 4 (confusable detection) and 5 (mixed scripts); its table is reduced to
the small letters of Cyrillic and Greek that look like Latin ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from medward.guard.accounts.names import checked_principal, folded_name
from medward.guard.errors import MedwardError
from medward.guard.types import Principal

_CYRILLIC = dict(zip("аеорсухіјѕһԁԛԝӏѵк", "aeopcyxijshdqwlvk", strict=True))
_GREEK = dict(zip("αονιρυχκγ", "aovipuxky", strict=True))
_ALIKE = str.maketrans(_CYRILLIC | _GREEK)
_WORD = re.compile(r"[^\W\d_]+")


def distinct_principal(principal: Principal, known: Iterable[Principal] = ()) -> Principal:
    """The account of `principal` (`checked_principal`), which nobody takes for another one.

    Raises `MedwardError` for a word of Latin letters and others that look like them, and for a name at whose place one
    of `known` has another that looks the same.
    """
    account = checked_principal(principal)
    for name in account:
        if word := next((each for each in _WORD.findall(name) if _mixed(each)), None):
            raise MedwardError(
                f"principal: {word!r} mixes letters of two scripts that look alike; write it in one of them"
            )
    for other in known:
        for mine, theirs in zip(account, checked_principal(other), strict=False):
            if mine == theirs:
                continue
            if look_of(mine) == look_of(theirs):
                raise MedwardError(f"principal: {mine!r} looks like {theirs!r}, which has keys; choose another name")
            break
    return account


def look_of(name: str) -> str:
    """What `name` looks like: its one spelling, in Latin letters where others look like them."""
    return folded_name(name).translate(_ALIKE)


def _mixed(word: str) -> bool:
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in word}
    return "LATIN" in scripts and ("CYRILLIC" in scripts or any(letter in _GREEK for letter in word))
