"""One image file of any kind that is read, without identifiers: the function for a folder and for a guard."""

from __future__ import annotations

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import is_dicom
from medward.guard.intake.deidentify.cleaner import Deidentification, DeidentifiedFile
from medward.guard.intake.picture import image_library

MOST_FILE_BYTES = 2**30


def deidentify_file(file: bytes, how: Deidentification) -> DeidentifiedFile:
    """Take the identifiers out of one DICOM, PNG or JPEG `file`, by what it holds and not by what it is called.

    Raises `MedwardError` for anything else and for what cannot be de-identified: it is never passed through.
    """
    if not file:
        raise MedwardError("is empty: it has 0 bytes; fetch it again")
    name, extra = ("dicom_file", "dicom") if is_dicom(file) else ("raster_file", "images")
    module = image_library(f"medward.guard.intake.deidentify.{name}", "image files", extra)
    if name == "dicom_file":
        cleaned: DeidentifiedFile = module.deidentify_dicom(file, how)
        return cleaned
    if not module.is_raster(file):
        raise MedwardError("is no DICOM, PNG or JPEG file by what it holds")
    cleaned = module.deidentify_raster(file, how)
    return cleaned


def check_libraries() -> None:
    """Refuse to begin where a library is missing that any file may need; the message says which extra brings it."""
    for name, what, extra in (
        ("pydicom", "DICOM files", "dicom"),
        ("PIL", "image files", "images"),
        ("rapidocr", "burned-in text", "deidentify"),
        ("dicomanonymizer", "headers without identifiers", "deidentify"),
        ("re2", "identifiers in headers", "deidentify"),
    ):
        image_library(name, what, extra)
