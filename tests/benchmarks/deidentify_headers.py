"""Headers beside an independent de-identifier (dicognito), planted spellings, and what frames, planes and bits hide.

What is left is judged by code of its own (`_Oracle`) that shares nothing with what cleans.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from claim import Claim
from dicognito.anonymizer import Anonymizer
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import DicomDictionary, keyword_for_tag

from medward.attacks.benchmarks.burned_in_text import FAMILY_NAMES, GIVEN_NAMES, HOSPITALS
from medward.attacks.benchmarks.overlay_planes import HIDING_PLACES, hidden_overlay, unnamed_header
from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.dicom_file import deidentify_dicom
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.deidentify.regions import Region
from medward.guard.intake.dicom import HUSH
from medward.guard.statistics.binomial import rate_limits

CLAIMS = ("deidentify_headers", "deidentify_spellings", "deidentify_hidden_overlays")
EACH, SEED, SIDE, PATIENTS = 3, 20261130, 320, 20
TEXT = {"CS": 16, "SH": 16, "AE": 16, "LO": 64, "UC": 64, "ST": 64, "LT": 64, "UT": 64}
"""Kinds of attributes that hold text, and how many letters of a spelling are planted in one."""
NOT_PLANTED = ("SpecificCharacterSet", "PhotometricInterpretation", "DeidentificationMethod", "PatientIdentityRemoved")


class _Blind:
    """Reads nothing: this is about headers."""

    def read(self, *_: Any, **__: Any) -> tuple[()]:
        """No text."""
        return ()


def measure() -> Iterator[Claim]:
    """The DICOM set, then made-up identifiers in every hiding place."""
    data = Path(os.environ.get("MEDWARD_DATA", ""))
    if not (data / "dicom_phi").is_dir():
        raise MedwardError("MEDWARD_DATA: names no folder with dicom_phi, on which this is measured")
    yield _headers(data / "dicom_phi")
    yield _spellings()
    yield _hidden(data / "nih_cxr" / "originals")


def _headers(folder: Path) -> Claim:
    """Every attribute, at every depth, that dicognito changes or removes has to be changed or removed here."""
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
            oracle = _Oracle(before)
            Anonymizer(seed="benchmark").anonymize(other)
            one, two, three = (_leaves(each) for each in (before, other, after))
            named += sum(oracle.names(value) for value in _texts(after))
        for place, value in one.items():
            changed = [each.get(place) != value for each in (two, three)]
            compared += 1
            if changed == [True, False]:
                kept[place] += 1
            if changed == [False, True]:
                theirs_kept[_name(place)] += 1
    return Claim(
        claim=CLAIMS[0],
        value=sum(kept.values()),
        target="0 attributes that dicognito changes or removes and that are kept here; no identifier of a header in it",
        met=not kept and named == 0,
        n=compared,
        details={
            "files": files,
            "kept_here_only": dict(kept),
            "kept_by_dicognito_only": dict(theirs_kept.most_common(40)),
            "values_with_an_identifier_of_the_header": named,
            "refused": refused,
        },
    )


def _spellings() -> Claim:
    """Every text attribute of the dictionary holds a spelling of what its header names; which are there afterwards."""
    generator = np.random.default_rng(SEED)
    how = Deidentification(pseudonyms=Pseudonyms(bytes(32)), reader=_Blind())
    places = [
        (tag, vr)
        for tag, (vr, _, _, retired, keyword) in sorted(DicomDictionary.items())
        if vr in TEXT and keyword and not retired and keyword not in NOT_PLANTED and 0x0008 <= tag >> 16 < 0x7FE0
    ]
    planted: Counter[str] = Counter()
    left: Counter[str] = Counter()
    where: Counter[str] = Counter()
    for patient in range(PATIENTS):
        header, spellings = _patient(generator)
        forms, own = sorted(spellings), {element.tag for element in header}
        said = {}
        with HUSH:
            for number, (tag, vr) in enumerate(places):
                form = forms[(number + patient) % len(forms)]
                if tag not in own:
                    said[tag] = form, spellings[form][: TEXT[vr]]
                    header.add_new(tag, vr, said[tag][1])
                    planted[form] += 1
            out = io.BytesIO()
            header.save_as(out, enforce_file_format=True)
            after = dcmread(io.BytesIO(deidentify_dicom(out.getvalue(), how).content))
            for tag, (form, text) in said.items():
                if tag in after and _plain(text) in _plain(str(after[tag].value)):
                    left[form] += 1
                    where[keyword_for_tag(tag)] += 1
    return Claim(
        claim=CLAIMS[1],
        value=sum(left.values()),
        target="0 spellings of a name, date, number or place of the same header, or of a stranger, left in its text",
        met=not sum(left.values()),
        n=sum(planted.values()),
        seed=SEED,
        interval=rate_limits(sum(left.values()), sum(planted.values())),
        details={
            "attributes": len(places),
            "patients": PATIENTS,
            "planted": dict(planted),
            "left": dict(left),
            "left_in": dict(where.most_common(20)),
        },
    )


def _patient(generator: np.random.Generator) -> tuple[Any, dict[str, str]]:
    """A header that names a made-up patient, and what of it is written how."""
    family, given = (str(generator.choice(each)) for each in (FAMILY_NAMES, GIVEN_NAMES))
    stranger = f"{generator.choice(['JAMES', 'MARY', 'ROBERT', 'LINDA'])} {generator.choice(['MILLER', 'DAVIS'])}"
    number, street = str(int(generator.integers(10**5, 10**8))), f"{int(generator.integers(1, 99))} Elm Street"
    day, month, year = (int(generator.integers(*each)) for each in ((1, 29), (1, 13), (1930, 2020)))
    institution, station = str(generator.choice(HOSPITALS)), f"RAD{int(generator.integers(10, 99))}X"
    header = unnamed_header(np.zeros((8, 8), np.uint16))
    header.PatientName, header.PatientID = f"{family}^{given}", f"MRN-{number}-X"
    header.PatientBirthDate, header.PatientAddress = f"{year}{month:02d}{day:02d}", street
    header.InstitutionName, header.StationName = institution, station
    at = int(generator.integers(2, len(family) - 1))
    return header, {
        "given family": f"{given} {family}",
        "underscore, capitals": f"{family}_{given}".upper(),
        "no space, lower case": f"{family}{given}".lower(),
        "a letter left out": f"{given} {family[:at] + family[at + 1 :]}".upper(),
        "initial before": f"{given[0]}{family}",
        "initial behind": f"{family} {given[0]}.",
        "letters apart": " ".join(family.upper()),
        "born, day first": f"DOB {day:02d}/{month:02d}/{year}",
        "born, year first": f"{year}-{month:02d}-{day:02d}",
        "number alone": f"no {number}",
        "number in groups": f"{number[:3]} {number[3:]}",
        "place": f"{institution} 3"[:16],
        "station": f"on {station}",
        "street": street[: street.index(" Street")],
        "a stranger": stranger,
    }


class _Oracle:
    """The identifiers of a header, looked for in other text by plain means: letters and digits, one of them wrong."""

    def __init__(self, before: Any) -> None:
        names = {word for each in before.iterall() if each.VR == "PN" for word in re.split(r"\W|_", str(each.value))}
        numbers = (before.get(each) for each in ("PatientID", "AccessionNumber", "PatientBirthDate", "StudyID"))
        self.names_of = {_plain(each) for each in names if len(_plain(each)) >= 4}
        self.numbers = {_plain(str(each)) for each in numbers if each and len(_plain(str(each))) >= 5}

    def names(self, text: str) -> bool:
        """Whether one of them stands in `text`."""
        plain = _plain(text)
        return any(each in plain for each in self.names_of | self.numbers) or any(
            _nearly_in(each, plain) for each in self.names_of if len(each) >= 6
        )


def _nearly_in(wanted: str, text: str) -> bool:
    """Whether `wanted`, but for one letter that is left out or another, stands in `text`."""
    return any(
        re.search(re.escape(wanted[:at]) + each + re.escape(wanted[at + 1 :]), text)
        for at in range(1, len(wanted))
        for each in ("", ".")
    )


def _plain(text: str) -> str:
    """The letters and digits of `text`, in one case and without accents."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))


def _texts(dataset: Any) -> Iterator[str]:
    """Every text of a data set, at any depth, one by one, but for pseudonyms."""
    for element in dataset.iterall():
        if element.VR in TEXT and element.keyword not in ("PatientID", "StudyID", "AccessionNumber"):
            yield str(element.value or "")


def _hidden(folder: Path) -> Claim:
    """How many lines are still there: in any frame, in a plane, in bits that the header does not count."""
    generator = np.random.default_rng(SEED)
    how = Deidentification(pseudonyms=Pseudonyms(bytes(32)))
    grounds = [np.asarray(Image.open(path).convert("L").resize((SIDE, SIDE))) for path in sorted(folder.glob("*.png"))]
    left: Counter[str] = Counter()
    lines: Counter[str] = Counter()
    for place in HIDING_PLACES:
        for index in range(EACH):
            file, drawn = hidden_overlay(grounds[index], generator, place)
            after = dcmread(io.BytesIO(deidentify_dicom(file, how).content))
            lines[place] += len(drawn)
            if place.endswith(("plane", "overlay", "bits")):
                planes = any(each.tag.group & 0xFF00 == 0x6000 for each in after)
                bits = int(np.frombuffer(after.PixelData, "<u2").max()) >= 1 << int(after.BitsStored)
                left[place] += len(drawn) * (planes or bits)
                continue
            frames = after.pixel_array.reshape(-1, SIDE, SIDE)
            for line in drawn:  # gone where its box is as black as the frame, but for a tenth of it
                rows, columns = Region(*line.box).slices
                left[place] += any(np.mean(each[rows, columns] == each.min()) < 0.9 for each in frames)
    return Claim(
        claim=CLAIMS[2],
        value=sum(left.values()),
        target="0 made-up lines left in pixels, one frame of three, overlay planes of one and more frames, unused bits",
        met=not sum(left.values()),
        n=sum(lines.values()),
        seed=SEED,
        details={"lines": dict(lines), "left": dict(left)},
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
