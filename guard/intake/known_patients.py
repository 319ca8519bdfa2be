"""What files say of their own patients: identifiers that then leave in no text about them."""

from __future__ import annotations

from collections.abc import Sequence

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import is_dicom
from medward.guard.intake.dicom import HUSH, parse_dicom
from medward.guard.release.text.known import KnownIdentifiers


def known_patients(files: Sequence[bytes]) -> tuple[KnownIdentifiers | None, ...]:
    """The identifiers in the header of each of `files`, None of one that is no DICOM file or names nobody.

    Raises `MedwardError` for a DICOM file that cannot be read.
    """
    return tuple(_known_in(file, index) for index, file in enumerate(files))


def _known_in(file: bytes, index: int) -> KnownIdentifiers | None:
    if not is_dicom(file):
        return None
    try:
        with HUSH:
            header = parse_dicom(file)
    except MedwardError as error:
        raise MedwardError(f"image {index}: {error}") from None
    except Exception as error:  # a parser fed a broken file raises anything
        raise MedwardError(f"image {index}: is not a readable DICOM file ({type(error).__name__})") from None
    try:
        found = KnownIdentifiers.from_dicom(header)
    except MedwardError:  # it has none of the keywords that name a patient
        return None
    return found if found.values else None
