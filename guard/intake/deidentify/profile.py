"""A DICOM header without identifiers: the Basic Profile of PS3.15 Annex E, with dates moved instead of removed.

What the profile asks of each attribute (remove, empty, replace, keep consistent) comes from the table that
dicom-anonymizer (Kitware, BSD-3-Clause) generates from the standard's own. It is applied at every depth. Beyond it, and
where the table says nothing, what could hold an identifier goes: private and unknown attributes, names of persons, long
text, free text but that of machines (`kept_text`), binary content but the tables that grey levels need, overlay and
curve planes, images in sequences, and text in which an identifier of the same file still stands.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from medward.guard.intake.deidentify.header_identifiers import HeaderIdentifiers
from medward.guard.intake.deidentify.kept_text import TECHNICAL, is_code_string, is_defined_term, keep_standard_code
from medward.guard.intake.deidentify.lookup_tables import COLOUR_TABLES, GREY_TABLE, GREY_TABLES, is_plain_table
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.picture import image_library

EDITION = "dicomfields_2026c"
PATIENT_GROUP, MOST_META_GROUP, PIXEL_GROUP, PIXEL_DATA = 0x0010, 0x0007, 0x7FE0, 0x7FE00010
PLANES = (0x5000, 0x6000)  # curves and overlays, of 16 groups each
DUMMY = {"AS": "000Y", "CS": "ANONYMIZED", "DS": "0", "IS": "0", "UR": "http://anonymized.invalid", "TM": "000000"}
_BINARY = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "UN"})
_LONG_TEXT = frozenset({"LT", "ST", "UT", "UC", "UR"})
_NUMBERS = frozenset({"FD", "FL", "SL", "SS", "UL", "US", "SV", "UV"})
_PSEUDONYMS = {0x00100010: "patient", 0x00100020: "patient", 0x00080050: "accession", 0x00200010: "study"}


@dataclass(slots=True)
class HeaderProfile:
    """A header profile takes the identifiers out of one file's data set; `removed` counts what went, by kind.

    `palette` says that its pixels are numbers of colours, whose tables stay.
    """

    pseudonyms: Pseudonyms
    patient: str
    known: HeaderIdentifiers
    palette: bool = False
    removed: Counter[str] = field(default_factory=Counter)

    def clean(self, dataset: Any, *, depth: int = 0) -> None:
        """Apply the profile to `dataset` and all that is nested in it, in place."""
        keep_standard_code(dataset)
        for tag in list(dataset.keys()):
            if int(tag) == PIXEL_DATA and depth == 0:
                continue
            self._clean_element(dataset, tag, depth)

    def _clean_element(self, dataset: Any, tag: Any, depth: int) -> None:
        if kind := _never_kept(tag):
            del dataset[tag]
            self.removed[kind] += 1
            return
        element = dataset[tag]
        action = _action_of(tag)
        if int(tag) == GREY_TABLE and is_plain_table(dataset):
            return
        if (
            tag.group == PIXEL_GROUP
            or int(tag) == GREY_TABLE
            or (element.VR in _BINARY and not self._is_colour(tag, depth))
        ):
            self._delete(dataset, element)
        elif int(tag) in _PSEUDONYMS:
            kind = _PSEUDONYMS[int(tag)]
            value = self.patient if kind == "patient" else str(element.value)
            element.value = self.pseudonyms.identifier(kind, value) if value else ""
            self.removed["names and identifiers"] += 1
        elif element.VR == "SQ":
            self._clean_sequence(dataset, element, action, depth)
        elif element.VR == "UI":
            self._replace_identifiers(element)
        elif element.VR in ("DA", "DT") and tag.group != PATIENT_GROUP:
            dates = element.value if isinstance(element.value, list) or element.VM > 1 else [element.value]
            moved = [self.pseudonyms.shifted_date(str(each or ""), self.patient) for each in dates]
            element.value = moved if len(moved) > 1 else moved[0]
            self.removed["dates moved"] += 1
        elif action:
            self._act(dataset, element, action)
        elif element.VR in ("PN", "TM", *_LONG_TEXT):
            self._delete(dataset, element)
        elif _is_free_text(element):
            self._delete(dataset, element, "free text")
        elif element.VR in ("CS", "LO", "SH", "IS") and not self._may_stay(element):
            element.value = ""
            self.removed["identifiers in other attributes"] += 1

    def _may_stay(self, element: Any) -> bool:
        """Whether text that no person typed holds no identifier either."""
        said = [str(each) for each in (element.value if element.VM > 1 else [element.value or ""])]
        if is_defined_term(said) or (element.VR == "IS" and is_code_string(said)):
            return True
        return (element.VR != "CS" or is_code_string(said)) and not self.known.stand_in(said)

    def _is_colour(self, tag: Any, depth: int) -> bool:
        """Whether an attribute is one of the colour tables that the pixels need, which were written anew."""
        return self.palette and depth == 0 and int(tag) in COLOUR_TABLES

    def _clean_sequence(self, dataset: Any, element: Any, action: str, depth: int) -> None:
        if action and action != "delete_or_empty_or_replace_UID":
            self._delete(dataset, element)
            return
        for item in element.value:
            self.clean(item, depth=depth + 1)
        if int(element.tag) in GREY_TABLES and not all(GREY_TABLE in item for item in element.value):
            self._delete(dataset, element)

    def _replace_identifiers(self, element: Any) -> None:
        """Every UID but those that the standard defines becomes another, the same for the same."""
        from pydicom.uid import UID_dictionary

        if not element.value:
            return
        values = [element.value] if isinstance(element.value, str) else list(element.value)
        new = [each if each in UID_dictionary else self.pseudonyms.unique_identifier(each) for each in values]
        if new != values:
            element.value = new if len(new) > 1 else new[0]
            self.removed["unique identifiers replaced"] += 1

    def _act(self, dataset: Any, element: Any, action: str) -> None:
        """What the table says: remove, else empty, else a dummy value of the same kind."""
        if action == "delete":
            self._delete(dataset, element)
            return
        self.removed[_kind_of(element)] += 1
        if action in ("empty", "delete_or_empty") or element.VR in ("DA", "DT"):
            element.value = None if element.VR in _NUMBERS else ""
        elif element.VR in _NUMBERS:
            element.value = 0
        else:
            element.value = DUMMY.get(element.VR, "ANONYMIZED")

    def _delete(self, dataset: Any, element: Any, kind: str = "") -> None:
        self.removed[kind or _kind_of(element)] += 1
        del dataset[element.tag]


def _is_free_text(element: Any) -> bool:
    """Whether a person may have typed it: text that describes neither a machine nor, by a code, anything else."""
    return element.VR == "AE" or (element.VR in ("LO", "SH") and element.keyword not in TECHNICAL)


def _never_kept(tag: Any) -> str:
    """Why an attribute goes whatever it holds; empty where it need not."""
    from pydicom.datadict import dictionary_has_tag, dictionary_is_retired

    if tag.is_private:
        return "private attributes"
    if 0x00100033 <= int(tag) <= 0x00100035:
        return "dates and times removed"  # of birth and death, in another calendar
    for plane, kind in zip(PLANES, ("curves", "overlay planes"), strict=True):
        if plane <= tag.group < plane + 0x100:
            return kind
    if tag.element == 0 or tag.group <= MOST_META_GROUP or not dictionary_has_tag(tag) or dictionary_is_retired(tag):
        return "unknown or retired attributes"
    return ""


def _kind_of(element: Any) -> str:
    if element.VR in ("DA", "DT", "TM"):
        return "dates and times removed"
    if element.VR == "SQ":
        return "sequences removed"
    if element.VR in _BINARY:
        return "binary content"
    if element.VR in ("PN", "LO", "SH", "AE"):
        return "names and identifiers"
    if element.VR in _LONG_TEXT:
        return "long text"
    return "other attributes"


def _action_of(tag: Any) -> str:
    exact, repeating = _table()
    if (action := exact.get((tag.group, tag.element))) is not None:
        return action
    for (group, element, group_mask, element_mask), action in repeating.items():
        if tag.group & group_mask == group & group_mask and tag.element & element_mask == element & element_mask:
            return action
    return ""


@cache
def _table() -> tuple[dict[tuple[int, int], str], dict[tuple[int, int, int, int], str]]:
    """The name of the profile's action by tag, and by tag and masks where groups repeat."""
    library = image_library("dicomanonymizer.simpledicomanonymizer", "headers without identifiers", "deidentify")
    actions = {tag: action.__name__ for tag, action in library.initialize_actions(EDITION).items()}
    exact = {tag: name for tag, name in actions.items() if len(tag) == 2}
    return exact, {tag: name for tag, name in actions.items() if len(tag) == 4}
