"""Words of FHIR R4 that answers and records are said in: concepts, quantities, references, and what stands for nothing.

Reference: HL7 FHIR R4 (4.0.1), datatypes; the code systems are those of HL7 terminology.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Resource = dict[str, Any]
"""A FHIR resource, or an element of one, as plain data for JSON."""
FHIR_JSON = "application/fhir+json"
UCUM = "http://unitsofmeasure.org"
UID_SYSTEM, URI_SYSTEM = "urn:dicom:uid", "urn:ietf:rfc:3986"
_INTERPRETATIONS = {"POS": "Positive", "NEG": "Negative", "IND": "Indeterminate"}
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_TERMS = "http://terminology.hl7.org/CodeSystem"


def text_concept(text: str, *codings: Mapping[str, str]) -> Resource:
    """A concept that says `text`, and the site's codes for it where there are any."""
    return {**({"coding": [dict(each) for each in codings]} if codings else {}), "text": text}


def interpreted(code: str) -> list[Resource]:
    """An interpretation: POS, NEG or IND."""
    coding = {
        "system": f"{_TERMS}/v3-ObservationInterpretation",
        "code": code,
        "display": _INTERPRETATIONS[code],
    }
    return [{"coding": [coding]}]


def masked(text: str) -> Resource:
    """Why a value is absent: it is there and does not leave. `text` says what kept it."""
    coding = {"system": _ABSENT, "code": "masked", "display": "Masked"}
    return {"coding": [coding], "text": text}


def quantity(value: float, unit: str = "", code: str = "") -> Resource:
    """A number with its unit in words and, where it is known, in UCUM."""
    if not math.isfinite(value):
        raise ValueError("a quantity of FHIR is a finite number")
    said: Resource = {"value": value}
    if unit:
        said["unit"] = unit
    return said | ({"system": UCUM, "code": code} if code else {})


def probability(value: float) -> Resource:
    """A number without a unit."""
    return quantity(value, "1", "1")


def uid_reference(kind: str, uid: str) -> Resource:
    """A reference to a resource of `kind` by the DICOM unique identifier of what it describes."""
    return {"type": kind, "identifier": {"system": UID_SYSTEM, "value": f"urn:oid:{uid}"}}


def value_or_masked(value: Resource | None, text: str) -> Resource:
    """``valueQuantity`` or, of a number that does not leave, why."""
    return {"dataAbsentReason": masked(text)} if value is None else {"valueQuantity": value}
