"""Headers beside an independent de-identifier (dicognito), and identifiers hidden in frames, planes and bits."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from claim import Claim
from dicognito.anonymizer import Anonymizer
from PIL import Image
from pydicom import dcmread
from pydicom.datadict import keyword_for_tag

from medward.attacks.benchmarks.overlay_planes import HIDING_PLACES, hidden_overlay
from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.cleaner import Deidentification
from medward.guard.intake.deidentify.dicom_file import deidentify_dicom
from medward.guard.intake.deidentify.header_identifiers import header_identifiers
from medward.guard.intake.deidentify.pseudonyms import Pseudonyms
from medward.guard.intake.deidentify.regions import Region
from medward.guard.intake.dicom import HUSH

CLAIMS = ("deidentify_headers", "deidentify_hidden_overlays")
EACH, SEED, SIDE = 3, 20261130, 320


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
            known = header_identifiers(before)
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
        claim=CLAIMS[1],
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
