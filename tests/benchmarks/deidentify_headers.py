"""Headers of the DICOM set, attribute by attribute, beside an independent de-identifier (dicognito)."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from claim import Claim
from dicognito.anonymizer import Anonymizer
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.dicom_file import deidentify_dicom
from medward.guard.intake.deidentify.known import known_identifiers
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.dicom import HUSH

CLAIMS = ("deidentify_headers",)


class _Blind:
    """Reads nothing: this is about headers."""

    def read(self, *_: Any, **__: Any) -> tuple[()]:
        """No text."""
        return ()


def measure() -> Iterator[Claim]:
    """Every attribute, at every depth, that dicognito changes or removes has to be changed or removed here."""
    folder = Path(os.environ.get("MEDWARD_DATA", "")) / "dicom_phi"
    if not folder.is_dir():
        raise MedwardError("MEDWARD_DATA: names no folder with dicom_phi, on which this is measured")
    how = Deidentification(pseudonyms=Pseudonyms(bytes(32)), reader=_Blind())
    kept: Counter[str] = Counter()
    theirs_kept: Counter[str] = Counter()
    compared = files = named = 0
    refused = {}
    for path in sorted(folder.rglob("*.dcm")):
        file = path.read_bytes()
        try:
            cleaned = deidentify_dicom(file, how).content
        except MedwardError as error:
            refused[path.name] = str(error)
            continue
        files += 1
        with HUSH:
            before, other, after = (dcmread(io.BytesIO(each)) for each in (file, file, cleaned))
            known = known_identifiers(before)
            Anonymizer(seed="benchmark").anonymize(other)
            one, two, three = (_leaves(each) for each in (before, other, after))
            named += sum(known.stand_in(value) for _, value in three.items() if isinstance(value, str))
        for place, value in one.items():
            changed = [each.get(place) != value for each in (two, three)]
            compared += 1
            if changed == [True, False]:
                kept[place] += 1
            if changed == [False, True]:
                theirs_kept[_name(place)] += 1
    return_value = sum(kept.values())
    yield Claim(
        claim=CLAIMS[0],
        value=return_value,
        target="0 attributes that dicognito changes or removes and that are kept here; no identifier of a header in it",
        met=return_value == 0 and named == 0,
        n=compared,
        details={
            "files": files,
            "kept_here_only": dict(kept),
            "kept_by_dicognito_only": dict(theirs_kept.most_common(40)),
            "values_with_an_identifier_of_the_header": named,
            "refused": refused,
        },
    )


def _leaves(dataset: Any, above: str = "") -> dict[str, Any]:
    """Every value of a data set by its path; pixels and private attributes apart, which are looked at elsewhere."""
    found: dict[str, Any] = {}
    for element in dataset:
        place = f"{above}/{element.tag}"
        if element.VR == "SQ":
            for index, item in enumerate(element.value):
                found.update(_leaves(item, f"{place}[{index}]"))
        elif element.tag.group != 0x7FE0 and element.value not in (None, "", b""):
            found[place] = str(element.value)
    return found


def _name(place: str) -> str:
    tag = place.rpartition("/")[2].strip("()").replace(",", "")
    return keyword_for_tag(int(tag, 16)) or "private"
