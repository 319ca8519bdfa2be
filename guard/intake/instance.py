"""Which DICOM instance a file is, by the unique identifiers of its header, for answers that refer to it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import is_dicom
from medward.guard.intake.picture import image_library

LONGEST_UID = 64
_UID = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+", re.ASCII)
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomInstance:
    """A DICOM instance is named by the UIDs of its study, series, class and its own; `patient` is the PatientID.

    `header` is the file's data set without its pixels, for documents that quote it.
    """

    study: str
    series: str
    sop_class: str
    sop_instance: str
    patient: str = field(default="", repr=False)
    header: Any = field(default=None, repr=False, compare=False)


def is_uid(text: str) -> bool:
    """Whether `text` is a unique identifier by the grammar of DICOM PS3.5, sec. 9.1: digits and dots, 64 at most."""
    return len(text) <= LONGEST_UID and _UID.fullmatch(text) is not None


def dicom_instance(file: bytes) -> DicomInstance | None:
    """The instance that `file` is; None of what is no DICOM file or lacks a UID that says which it is.

    Raises `MedwardError` for a DICOM file that cannot be read.
    """
    if not is_dicom(file):
        return None
    image_library("pydicom", "DICOM files", "dicom")
    from medward.guard.intake.dicom import HUSH, parse_dicom  # needs the extra `dicom`

    try:
        with HUSH:
            header = parse_dicom(file)
            names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "PatientID")
            study, series, sop_class, sop_instance, patient = (str(header.get(name) or "").strip() for name in names)
    except MedwardError:
        raise
    except Exception as error:  # a parser fed a broken file raises anything
        raise MedwardError(f"is not a readable DICOM file ({type(error).__name__})") from None
    if not all(map(is_uid, (study, sop_class, sop_instance))):
        return None
    for name in _PIXELS:
        if name in header:
            del header[name]
    return DicomInstance(
        study=study,
        series=series if is_uid(series) else "",
        sop_class=sop_class,
        sop_instance=sop_instance,
        patient=patient,
        header=header,
    )
