"""One DICOM file without identifiers, in its header or burned into any of its frames; or a refusal."""

from __future__ import annotations

import io
import zlib
from collections import Counter
from typing import Any

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.intake.decode import is_dicom
from medward.guard.intake.deidentify.burned_in import BurnedInText, fill_burned_in_text
from medward.guard.intake.deidentify.cleaner import Deidentification, DeidentifiedFile
from medward.guard.intake.deidentify.codestreams import all_plain
from medward.guard.intake.deidentify.frames import StoredFrames
from medward.guard.intake.deidentify.header_identifiers import header_identifiers, header_names
from medward.guard.intake.deidentify.lookup_tables import write_used_colours
from medward.guard.intake.deidentify.pixel_data import (
    check_image,
    frame_count,
    has_trailing_bytes,
    has_uncounted_bits,
    stored_frames,
    wrap_frames_anew,
    write_frames,
)
from medward.guard.intake.deidentify.profile import HeaderProfile
from medward.guard.intake.dicom import DEFLATED, FILE_META, HUSH, parse_dicom
from medward.guard.intake.picture import image_library
from medward.guard.release.text import IdentifierKind, KnownIdentifiers

MOST_INFLATED = 2**28  # bytes of a deflated file
READ_WHOLE = frozenset({"US", "SC", "ES", "XC", "GM", "OT", "IVUS", "OP"})
"""Modalities whose machines draw text into the picture: all pixels are read."""
_UNDEFINED_LENGTH = 0xFFFFFFFF
METHOD = ("PS3.15 Annex E Basic Profile", "burned-in text filled and read again", "Medward")
METHOD_CODES = (
    ("113100", "Basic Application Confidentiality Profile"),
    ("113101", "Clean Pixel Data Option"),
    ("113107", "Retain Longitudinal Temporal Information Modified Dates Option"),
)


def deidentify_dicom(file: bytes, how: Deidentification) -> DeidentifiedFile:
    """Take the identifiers out of one DICOM `file`.

    Pixels outside filled regions keep their values bit for bit. Raises `MedwardError`, in which nothing of the file's
    content stands, for what is no readable DICOM image and for text that can still be read after it was filled.
    """
    if not is_dicom(file):
        raise MedwardError("is not a DICOM file: it has no DICM after 128 bytes")
    image_library("pydicom", "DICOM files", "dicom")
    try:
        with HUSH:
            return _deidentified(_inflated(file), how)
    except MedwardError:
        raise
    except RecursionError:
        raise MedwardError("is a DICOM file whose sequences are nested too deep to be read") from None
    except Exception as error:  # a parser fed a broken file raises anything
        raise MedwardError(
            f"is a DICOM file that is cut off or damaged ({type(error).__name__}); fetch it again"
        ) from None


def _deidentified(file: bytes, how: Deidentification) -> DeidentifiedFile:
    header = parse_dicom(file)
    if "PixelData" not in header and _is_cut_off(file):
        raise MedwardError(
            f"is a DICOM file that is cut off or damaged: it ends after {len(file)} bytes, before the end of its data; "
            "fetch it again"
        )
    header.decode()
    check_image(header)
    frames, hidden = stored_frames(file, header)
    text = _fill(header, frames, how)
    removed = Counter({"burned-in text filled": len(text.filled)}) if text.filled else Counter[str]()
    if hidden:
        removed["bits hidden in pixels"] += 1
    changed = bool(text.filled) or hidden
    if changed or _has_room(header):
        write_frames(header, frames)
    elif header.file_meta.TransferSyntaxUID.is_encapsulated:
        wrap_frames_anew(header)
    write_used_colours(header, frames.values)
    name = _clean_header(header, how, removed)
    content = _written(header)
    if changed:
        _check_written(content, frames)
    return DeidentifiedFile(
        content=content,
        name=name,
        kind="DICOM",
        frames=frame_count(header),
        removed=removed,
        markers=text.markers,
        pixels_changed=changed,
    )


def _fill(header: Any, frames: StoredFrames, how: Deidentification) -> BurnedInText:
    """Fill burned-in text; a file that says it has some, in which none can be read, is refused."""
    said = str(header.get("BurnedInAnnotation") or "").strip().upper() == "YES"
    drawn = str(header.get("Modality") or "").strip().upper() in READ_WHOLE
    text = fill_burned_in_text(
        frames, how.reader, everywhere=how.everywhere or said or drawn, names=header_names(header)
    )
    if said and not text.found:
        raise MedwardError("says that it has burned-in annotation, and none can be read; look at it")
    return text


def _has_room(header: Any) -> bool:
    """Whether the pixels as they are coded could hold more than pixels, so that they are written anew."""
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return has_trailing_bytes(header)
    return has_uncounted_bits(header) or not all_plain(header, frame_count(header))


def _clean_header(header: Any, how: Deidentification, removed: Counter[str]) -> str:
    """Apply the profile, say that it was applied, and give the new name: patient / series / instance."""
    patient = _patient_of(header)
    palette = header.PhotometricInterpretation == "PALETTE COLOR"
    profile = HeaderProfile(how.pseudonyms, patient, header_identifiers(header), palette)
    profile.clean(header)
    removed.update(profile.removed)
    header.PatientIdentityRemoved = "YES"
    header.DeidentificationMethod = list(METHOD)
    header.DeidentificationMethodCodeSequence = [_code(*each) for each in METHOD_CODES]
    header.BurnedInAnnotation = "NO"
    header.LongitudinalTemporalInformationModified = "MODIFIED"
    header.SpecificCharacterSet = "ISO_IR 192"
    if not header.get("SOPInstanceUID") or not header.get("SOPClassUID"):
        raise MedwardError("is a DICOM file without SOPClassUID or SOPInstanceUID, which say which image it is")
    series = str(header.get("SeriesInstanceUID") or "series")
    return f"{how.pseudonyms.identifier('patient', patient)}/{series}/{header.SOPInstanceUID}.dcm"


def _patient_of(header: Any) -> str:
    """What tells this patient from others: the identifier and who gave it, else name and birth date, else the study.

    An identifier or a name that says nothing, as UNKNOWN, 0 or XXXX, tells nobody apart.
    """
    number, name, birth, issuer = (
        str(header.get(each) or "").strip()
        for each in ("PatientID", "PatientName", "PatientBirthDate", "IssuerOfPatientID")
    )
    if _says_something(number):
        return f"{number}\0{issuer}" if _says_something(issuer) else number
    if _says_something(name):
        return f"{name} {birth}".strip()
    return str(header.get("StudyInstanceUID") or header.get("SOPInstanceUID"))


def _says_something(value: str) -> bool:
    """Whether a `value` is no placeholder: not known for one, and not one letter again and again."""
    told = KnownIdentifiers.from_mapping({IdentifierKind.RECORD_NUMBER: value.replace("^", " ").strip()}).values
    return bool(told) and (len(value) == 1 or len({each for each in value if each.isalnum()}) > 1)


def _code(value: str, meaning: str) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _written(header: Any) -> bytes:
    """`header` as a file, with a preamble and a meta group that hold nothing of the old ones."""
    from pydicom import dcmwrite
    from pydicom.dataset import FileMetaDataset

    syntax = header.file_meta.TransferSyntaxUID
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    header.file_meta, header.preamble = meta, b"\0" * 128
    out = io.BytesIO()
    dcmwrite(out, header, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=True)
    return out.getvalue()


def _check_written(content: bytes, frames: StoredFrames) -> None:
    """Read back what was written: every frame has the values that were meant."""
    header = parse_dicom(content)
    again, _ = stored_frames(content, header)
    if not np.array_equal(again.values, frames.values):
        raise MedwardError("cannot be written so that it reads the same; it is left out")


def _is_cut_off(file: bytes) -> bool:
    """Whether `file` ends within an element, which pydicom leaves out without an error, or before the first."""
    from pydicom.dataelem import RawDataElement
    from pydicom.filereader import data_element_generator, read_dataset, read_preamble

    source = io.BytesIO(file)
    try:
        read_preamble(source, force=False)
        meta = read_dataset(source, False, True, stop_when=lambda tag, *_: tag.group != FILE_META)
        syntax, end = meta.TransferSyntaxUID, 0
        for element in data_element_generator(source, syntax.is_implicit_VR, syntax.is_little_endian):
            end = source.tell()
            if isinstance(element, RawDataElement) and element.length != _UNDEFINED_LENGTH:
                end = element.value_tell + element.length
    except Exception:  # a parser fed a broken file raises anything
        return True
    return end != len(file)


def _inflated(file: bytes) -> bytes:
    """`file` without the compression of its data set as a whole, where it has one, up to `MOST_INFLATED` bytes."""
    from pydicom.filereader import read_dataset, read_preamble
    from pydicom.uid import ExplicitVRLittleEndian

    source = io.BytesIO(file)
    read_preamble(source, force=False)
    meta = read_dataset(source, False, True, stop_when=lambda tag, *_: tag.group != FILE_META)
    if str(meta.get("TransferSyntaxUID")) != DEFLATED:
        return file
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(file[source.tell() :], MOST_INFLATED)
    if not inflater.eof:
        raise MedwardError(f"is deflated, and damaged or more than {MOST_INFLATED} bytes when inflated")
    head = io.BytesIO()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    _write_meta(head, meta)
    return b"\0" * 128 + b"DICM" + head.getvalue() + content


def _write_meta(head: io.BytesIO, meta: Any) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import write_file_meta_info

    write_file_meta_info(head, FileMetaDataset(meta), enforce_standard=False)
