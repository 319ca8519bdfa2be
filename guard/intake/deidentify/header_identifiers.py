"""The identifiers that a file's own header names, looked for in what else it says, however they are written.

The search is that of the text filter (`guard.release.text`), which knows spellings, order, typos and disguises. What a
header says of places and numbers is looked for in parts too, since codes have room for a part only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, MutableSequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

from medward.guard.release.disguises.folded_text import fold_text, folded_view
from medward.guard.release.text import IdentifierKind, KnownIdentifiers, TextFilter

FEWEST_LEFT = 8  # letters of a name that are looked for where the rest was cut off: codes have room for 16, or 8 apart
_K = IdentifierKind
_BESIDE: Mapping[str, IdentifierKind] = {
    "PatientBirthDateInAlternativeCalendar": _K.CODE,
    "PatientDeathDateInAlternativeCalendar": _K.CODE,
    "OtherPatientNames": _K.NAME,
    "RequestingService": _K.PLACE,
    "CurrentPatientLocation": _K.PLACE,
    "PatientInstitutionResidence": _K.PLACE,
    "RequestedProcedureID": _K.CODE,
    "ScheduledProcedureStepID": _K.CODE,
    "PerformedProcedureStepID": _K.CODE,
    "FillerOrderNumberImagingServiceRequest": _K.CODE,
    "PlacerOrderNumberImagingServiceRequest": _K.CODE,
    "IssuerOfPatientID": _K.CODE,
    "StationAETitle": _K.DEVICE,
    "PerformedStationName": _K.DEVICE,
    "PerformedStationAETitle": _K.DEVICE,
    "ScheduledStationName": _K.DEVICE,
    "DeviceID": _K.DEVICE,
    "DetectorID": _K.DEVICE,
    "GantryID": _K.DEVICE,
    "PlateID": _K.DEVICE,
    "CassetteID": _K.DEVICE,
    "GridID": _K.DEVICE,
}
"""Attributes that identify, beside those that the text filter knows of."""
_PLACES = ("InstitutionName", "InstitutionAddress", "PatientAddress", "InstitutionalDepartmentName")
_PLACE_WORDS = """
    hospital clinic center centre general medical health department radiology university street road avenue saint
    imaging institute north south east west city county the and for
"""
_ANY_PLACE = frozenset(_PLACE_WORDS.split())
_BY_FORM = frozenset((_K.NAME, _K.DATE, _K.PHONE, _K.FAX, _K.EMAIL, _K.URL, _K.SOCIAL_SECURITY))
"""Kinds that are recognised where nobody knew them: places are not, since makers of devices are called like them."""
_FEWEST = 2  # letters and digits of a value that is looked for
_FEWEST_IN_WORD = 4  # of a part of a number or a place
_WORD = re.compile(r"[A-Za-z0-9]+")
_DIGITS = re.compile(r"[0-9]{4,}")
_MOST_TEXTS = 4096  # whose answer is kept: frames of one file say the same again and again


class HeaderIdentifiers:
    """The identifiers of one file's patient, staff, places and devices, to be looked for in other attributes."""

    def __init__(self, known: KnownIdentifiers, names: frozenset[str] = frozenset()) -> None:
        self._search = TextFilter().reader(known).known
        self._names = frozenset(each for each in names if len(each) > _FEWEST)
        self._others = TextFilter(kinds=_BY_FORM)
        self._stand_in_text = lru_cache(_MOST_TEXTS)(self._looked_up)

    def stand_in(self, value: Any) -> bool:
        """Whether a `value`, one or several, holds one of them or names somebody else; so does unreadable text."""
        values = [str(each) for each in _values_of(value)]
        return self._stand_in_text(" ".join(values)) or any(self._stand_in_text(each) for each in values)

    def _looked_up(self, text: str) -> bool:
        if any(unicodedata.category(each) in ("Cc", "Cf", "Co", "Cs") or each == "\ufffd" for each in text):
            return True
        plain = re.sub(r"[_^]", " ", text).upper()  # a name is one in capitals, where it is no common word
        if not self._names.isdisjoint(_words(plain)):  # a clinical word too, which the text filter leaves
            return True
        if self._search is not None and next(self._search.find(fold_text(plain)), None) is not None:
            return True
        return bool(self._others.find(plain))


def header_identifiers(dataset: Any) -> HeaderIdentifiers:
    """What the data set itself says of persons, numbers, dates, places and devices, at every depth."""
    said: dict[str, list[str]] = {"PatientName": []}  # a header may name nobody
    names: list[str] = []
    for element in dataset.iterall():
        if element.VR == "PN":
            names += map(str, _values_of(element.value))
        elif element.keyword and element.VR not in ("SQ", "UI") and isinstance(element.value, str | MutableSequence):
            said.setdefault(element.keyword, []).extend(map(str, _values_of(element.value)))
    beside: dict[str, list[str]] = {_K.NAME: [*names, *_parts_of_names(names)]}
    for keyword, kind in _BESIDE.items():
        beside.setdefault(kind, []).extend(said.get(keyword, ()))
    beside.setdefault(_K.PLACE, []).extend(
        part for keyword in _PLACES for value in said.get(keyword, ()) for part in _parts_of_a_place(value)
    )
    known = KnownIdentifiers.from_dicom(said) | KnownIdentifiers.from_mapping(beside)
    numbers = [
        part
        for kind, value in known.values
        if kind not in (_K.NAME, _K.PLACE, _K.DATE)
        for part in _DIGITS.findall(value)
    ]
    known = known | KnownIdentifiers.from_mapping({_K.RECORD_NUMBER: numbers})
    long_enough = tuple((kind, value) for kind, value in known.values if _length(value) >= _FEWEST)
    return HeaderIdentifiers(KnownIdentifiers(long_enough), header_names(dataset))


def header_names(dataset: Any) -> frozenset[str]:
    """The words of two letters or more of all names of persons in the data set, in capitals."""
    named = (str(each) for element in dataset.iterall() if element.VR == "PN" for each in _values_of(element.value))
    return frozenset(word for name in named for word in _words(name.upper()) if len(word) > 1)


def _parts_of_names(names: list[str]) -> Iterator[str]:
    """A family name with an initial, and the beginnings of long names, which short text has no room for."""
    for name in names:
        family, *others = _words(name) or [""]
        for other in others:
            yield from (family + other[0], other[0] + family) if len(family) > 2 else ()
        yield from (each[:end] for each in (family, *others) for end in range(FEWEST_LEFT, len(each)))


def _parts_of_a_place(value: str) -> Iterator[str]:
    """The words of a place that not every place has, and each two beside each other."""
    words = _words(value)
    yield from (each for each in words if len(each) >= _FEWEST_IN_WORD and each.lower() not in _ANY_PLACE)
    yield from (" ".join(two) for two in pairwise(words) if not _ANY_PLACE.issuperset(each.lower() for each in two))


def _words(text: str) -> list[str]:
    """The words of a text as a reader sees them, without accents and other marks."""
    return _WORD.findall(folded_view(text.replace("'", "")).decode("ascii"))


def _length(value: str) -> int:
    return sum(each.isalnum() for each in value) + (not value.isascii())  # one Chinese letter is a name


def _values_of(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple | MutableSequence) else [value]  # a name can be iterated too
