"""Which text of a header stays: that of attributes that describe a machine, defined terms, and codes of a dictionary.

An allow-list fails safe: what a person may have typed goes, whether it names somebody or not. Terms are those that
PS3.3 defines for how pixels are made and read; they stay even where a patient is called like one of them (Ms. Right).
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_TECHNICAL_ATTRIBUTES = """
    AcquisitionMode AlgorithmName AlgorithmVersion AttenuationCorrectionMethod CardiacFramingType CodeMeaning CodeValue
    CodingSchemeDesignator CodingSchemeVersion CollimatorGridName ContrastBolusRoute ConvolutionKernel
    DetectorLinesOfResponseUsed DetectorManufacturerModelName DetectorManufacturerName DigitalImageFormatAcquired
    DimensionDescriptionLabel DoseModeName EnergyWindowName FilterType ImageFilter ImagedNucleus LUTExplanation LUTLabel
    Manufacturer ManufacturerModelName ModalityLUTType MultiCoilConfiguration OutputPower PVCRejection PaddleDescription
    PhosphorType PixelSpacingCalibrationDescription PlateType ProcessingFunction PulseSequenceName Radiopharmaceutical
    RadiopharmaceuticalRoute ReceiveCoilManufacturerName ReceiveCoilName ReconstructionMethod RescaleType
    ScatterCorrectionMethod SecondaryCaptureDeviceManufacturer SecondaryCaptureDeviceManufacturerModelName
    SecondaryCaptureDeviceSoftwareVersions SequenceName SoftwareVersions StackID StageName TransducerData
    TransmitCoilManufacturerName TransmitCoilName TriggerSourceOrType TypeOfFilters VideoImageFormatAcquired ViewName
    WindowCenterWidthExplanation
"""
TECHNICAL = frozenset(_TECHNICAL_ATTRIBUTES.split())
"""Attributes of free text (LO, SH) that stay, unless an identifier stands in them."""
_DEFINED_TERMS = """
    00 01 03 A AXIAL B BOTH CT CR DERIVED DX ES F FFDL FFDR FFP FFS FH GM H HF HFDL HFDR HFP HFS HU I IO IVUS L LA LEFT
    LH LIN LOCALIZER LP LR M MG MODIFIED MONOCHROME1 MONOCHROME2 MR N NM NO NONE OCT OP ORIGINAL OT P PA PALETTE PRIMARY
    PT PX R RA RF RGB RIGHT RL RP RT S SAGITTAL CORONAL SC SECONDARY SEG SI STANDARD STATIC TOMO TRANSVERSE U UNKNOWN
    US UNSIGNED VOLUME W WHOLE XA XC Y YES YBR_FULL YBR_FULL_422 YBR_ICT YBR_RCT ISO_10918_1 ISO_14495_1 ISO_15444_1
    ISO_IR COLOR
"""
_TERMS = frozenset(_DEFINED_TERMS.split())
_LONGEST_CODE_STRING = 16
_NUMBER = re.compile(r"[0-9]{6}")
_CODE = re.compile(r"[A-Z]{1,2}-[0-9A-F]{4,6}|[0-9]{1,6}-[0-9]|[0-9]{5,6}")
_VERSION = re.compile(r"[0-9][0-9.]{0,11}")
_OLD_SCHEMES = frozenset({"SRT", "SNM3", "99SDM"})


def is_defined_term(values: list[str]) -> bool:
    """Whether each of the `values` of a coded string is a term that says how pixels are made or read."""
    return all(not part or part in _TERMS for each in values for part in each.strip().split(" "))


def is_code_string(values: list[str]) -> bool:
    """Whether each of `values` could be a coded string: short, and no number as persons have them."""
    return all(len(each) <= _LONGEST_CODE_STRING and not _NUMBER.search(each) for each in values)


def keep_standard_code(item: Any) -> None:
    """Make the coded entry in `item`, if it has one, say what its dictionary does, or nothing, in place.

    A code that no dictionary here has keeps its value where that is one of SNOMED's, DICOM's or LOINC's forms; what
    somebody wrote as its meaning goes.
    """
    if "CodeMeaning" not in item and "CodeValue" not in item:
        return
    scheme, value = (str(item.get(each) or "").strip() for each in ("CodingSchemeDesignator", "CodeValue"))
    meanings = _meanings()
    meaning = meanings.get((scheme, value), "")
    known = bool(meaning) or (scheme in {*_OLD_SCHEMES, *(each for each, _ in meanings)} and _CODE.fullmatch(value))
    version = str(item.get("CodingSchemeVersion") or "").strip()
    kept = {
        "CodeMeaning": meaning,
        "CodeValue": value if known else "",
        "CodingSchemeDesignator": scheme if known else "",
        "CodingSchemeVersion": version if known and _VERSION.fullmatch(version) else "",
    }
    for keyword, said in kept.items():
        if keyword in item:
            item[keyword].value = said


@cache
def _meanings() -> dict[tuple[str, str], str]:
    """What pydicom's dictionaries of codes say each means, by scheme and value."""
    from pydicom.sr.codedict import codes

    found = (code for scheme in codes.schemes() for code in getattr(codes, scheme).concepts.values())
    return {(code.scheme_designator, code.value): code.meaning for code in found}
