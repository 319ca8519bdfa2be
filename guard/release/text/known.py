"""Identifiers known for one request: what the caller, a DICOM header or a FHIR Patient says of this patient.

The highest-yield rule of de-identification: a value that is known to be this patient's may not leave, however it is
written.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from medward.guard.errors import MedwardError
from medward.guard.release.text.spans import IdentifierKind

_K = IdentifierKind
_DICOM: Mapping[str, IdentifierKind] = {
    "PatientName": _K.NAME,
    "OtherPatientNames": _K.NAME,
    "PatientBirthName": _K.NAME,
    "PatientMotherBirthName": _K.NAME,
    "ResponsiblePerson": _K.NAME,
    "ReferringPhysicianName": _K.NAME,
    "RequestingPhysician": _K.NAME,
    "PerformingPhysicianName": _K.NAME,
    "PhysiciansOfRecord": _K.NAME,
    "NameOfPhysiciansReadingStudy": _K.NAME,
    "OperatorsName": _K.NAME,
    "PatientID": _K.RECORD_NUMBER,
    "OtherPatientIDs": _K.RECORD_NUMBER,
    "MedicalRecordLocator": _K.RECORD_NUMBER,
    "AccessionNumber": _K.CODE,
    "StudyID": _K.CODE,
    "AdmissionID": _K.CODE,
    "PatientBirthDate": _K.DATE,
    "StudyDate": _K.DATE,
    "SeriesDate": _K.DATE,
    "AcquisitionDate": _K.DATE,
    "ContentDate": _K.DATE,
    "AdmittingDate": _K.DATE,
    "PatientAddress": _K.PLACE,
    "InstitutionName": _K.PLACE,
    "InstitutionAddress": _K.PLACE,
    "InstitutionalDepartmentName": _K.PLACE,
    "PatientTelephoneNumbers": _K.PHONE,
    "DeviceSerialNumber": _K.DEVICE,
    "StationName": _K.DEVICE,
    "StudyInstanceUID": _K.CODE,
    "SeriesInstanceUID": _K.CODE,
    "SOPInstanceUID": _K.CODE,
}
_KEYWORDS = {keyword.casefold(): keyword for keyword in _DICOM}
_FHIR_LISTS = ("name", "identifier", "telecom", "address", "contact")
_FHIR_SYSTEM = {"phone": _K.PHONE, "sms": _K.PHONE, "pager": _K.PHONE, "fax": _K.FAX, "email": _K.EMAIL, "url": _K.URL}
_FEWEST_IN_PHONE = 5  # digits
MOST_NAME_PARTS = 24
"""Parts of one known name at most, in all the alphabets it is written in."""
_PART_OF_NAME = re.compile(r"[^\s,^=.]+")
_SAYS_NOTHING = {"", "none", "unknown", "anonymous", "anonymized", "n/a", "na", "unspecified", "test", "0", "patient"}


class DicomHeader(Protocol):
    """A DICOM header gives the value of an attribute by its keyword, or None: a mapping does, and pydicom's Dataset."""

    def get(self, key: str, /) -> Any:
        """The value of one attribute."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class KnownIdentifiers:
    """Known identifiers are values of one request's patient, each with its kind; printing them shows counts only.

    A name is written with its parts apart ("Given Family", "Family, Given" or DICOM's "FAMILY^GIVEN"), a date as
    YYYY-MM-DD or YYYYMMDD. Two sets of them are joined by ``|``.
    """

    values: tuple[tuple[IdentifierKind, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuses what is no pairs, and a name of so many parts that it is none: each pair of them is searched for."""
        if not isinstance(self.values, tuple) or not all(map(_is_pair, self.values)):
            raise MedwardError(
                f"known identifiers: values must be pairs of a kind and a text, got {type(self.values).__name__} with "
                "something else; give KnownIdentifiers.from_mapping(...)"
            )
        for kind, value in self.values:
            parts = len(_PART_OF_NAME.findall(value)) if kind is _K.NAME else 0
            if parts > MOST_NAME_PARTS:
                raise MedwardError(
                    f"known identifiers: a name has {parts} parts; at most {MOST_NAME_PARTS}; give each name by itself"
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, str | Iterable[str]]) -> KnownIdentifiers:
        """Values by `IdentifierKind`: ``{"name": "Jane Roe", "record_number": ["4711", "0815"]}``."""
        _check_mapping("known identifiers", values, 'give {"name": "..."}')
        found: list[tuple[IdentifierKind, str]] = []
        for name, value in values.items():
            if name not in set(IdentifierKind):
                kinds = ", ".join(IdentifierKind)
                raise MedwardError(f"known identifiers: a key is no kind of identifier; there are: {kinds}")
            each = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
            if isinstance(value, Mapping) or not all(isinstance(one, str) for one in each):
                raise MedwardError(f"known identifiers: {name} must be a text or several; got another type")
            found += [(IdentifierKind(name), one) for one in each]
        return cls(_told(found))

    @classmethod
    def from_dicom(cls, header: DicomHeader) -> KnownIdentifiers:
        """Values of a DICOM header, keyword -> value or a pydicom Dataset; what identifies nobody is passed over.

        Raises `MedwardError` for a header without any keyword that is read, and for one that is spelled otherwise.
        """
        _check_header(header)
        found = [(kind, one) for keyword, kind in _DICOM.items() for one in _several(header.get(keyword))]
        return cls(_told(found))

    @classmethod
    def from_fhir(cls, patient: Mapping[str, Any]) -> KnownIdentifiers:
        """Values of a FHIR R4 Patient given as JSON: names, birth date, identifiers, telecom, address, contacts.

        Raises `MedwardError` for another resource, and for what has none of these fields.
        """
        _check_patient(patient)
        return cls(_told(_fhir_person(patient)))

    def __or__(self, other: KnownIdentifiers) -> KnownIdentifiers:
        """Both, each value once."""
        return KnownIdentifiers(tuple(dict.fromkeys(self.values + other.values)))

    def __repr__(self) -> str:
        """How many values there are, never which."""
        return f"KnownIdentifiers({len(self.values)} values)"


def check_known(known: object) -> None:
    """Refuse what is given as known and is none."""
    if not isinstance(known, KnownIdentifiers):
        raise MedwardError(
            f"known identifiers: expected KnownIdentifiers, got {type(known).__name__}; make them by "
            "KnownIdentifiers.from_mapping, from_dicom or from_fhir"
        )


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 2
        and isinstance(value[1], str)
        and isinstance(value[0], str)
        and value[0] in set(IdentifierKind)
    )


def _check_mapping(what: str, value: object, remedy: str) -> None:
    if not isinstance(value, Mapping):
        raise MedwardError(f"{what}: expected a mapping, got {type(value).__name__}; {remedy}")


def _check_header(header: DicomHeader) -> None:
    """Refuse a header that nothing would be read from, and a mapping that spells a keyword in another way."""
    if not callable(getattr(header, "get", None)):
        raise MedwardError(
            f"DICOM header: expected a mapping or a pydicom Dataset, got {type(header).__name__}; read a file with "
            "pydicom.dcmread"
        )
    keys = [key for key in header if isinstance(key, str)] if isinstance(header, Mapping) else []
    for key in keys:
        keyword = _KEYWORDS.get(re.sub(r"[\W_]", "", key).casefold())
        if keyword and key != keyword:
            raise MedwardError(f"DICOM header: a key is {keyword} spelled otherwise; write {keyword}")
        value = header.get(key)
        if keyword and isinstance(value, Mapping | bytes):
            raise MedwardError(f"DICOM header: {keyword} must be a text or several, got {type(value).__name__}")
    held = header if isinstance(header, Container) else ()
    if not any(keyword in held or header.get(keyword) is not None for keyword in _DICOM):
        raise MedwardError(
            "DICOM header: no keyword that is read, such as PatientName or PatientID; write keywords as DICOM does"
        )


def _check_patient(patient: Mapping[str, Any]) -> None:
    """Refuse what is no FHIR Patient, or has fields of another form."""
    _check_mapping("FHIR Patient", patient, "give the JSON object, by json.loads")
    said = patient.get("resourceType")
    if said not in (None, "Patient"):
        raise MedwardError(f"FHIR Patient: resourceType must be Patient, got {said!r:.40}; give the Patient itself")
    if not any(field in patient for field in (*_FHIR_LISTS, "birthDate")):
        raise MedwardError(f"FHIR Patient: no field that is read; there are: {', '.join(_FHIR_LISTS)}, birthDate")
    for field in _FHIR_LISTS:
        value = patient.get(field) or []
        each = [value] if isinstance(value, Mapping) and field in ("name", "address") else value
        if not isinstance(each, list | tuple) or not all(isinstance(one, Mapping) for one in each):
            raise MedwardError(f"FHIR Patient: {field} must be a list of objects; got something else")


def _told(found: Iterable[tuple[IdentifierKind, str]]) -> tuple[tuple[IdentifierKind, str], ...]:
    """Values that say something, once each, in order."""
    apart = ((kind, one) for kind, value in found for one in (value.split("=") if kind is _K.NAME else [value]))
    stripped = ((kind, value.strip()) for kind, value in apart)  # DICOM writes a name in up to three alphabets
    return tuple(dict.fromkeys((kind, value) for kind, value in stripped if value.casefold() not in _SAYS_NOTHING))


def _several(value: Any) -> Iterator[str]:
    """The values of one attribute: a text, or several of them, or a list of such."""
    if value is None or isinstance(value, Mapping | bytes):
        return
    if not isinstance(value, str) and isinstance(value, Sequence | Set):
        for each in value:
            yield from _several(each)
        return
    yield from str(value).split("\\")


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (each for each in value if isinstance(each, Mapping)) if isinstance(value, list | tuple) else ()


def _contact_kind(system: str, value: str) -> IdentifierKind:
    """The kind of a contact point by its form, and by its `system` where the form does not tell."""
    if "@" in value:
        return _K.EMAIL
    kind = _FHIR_SYSTEM.get(system, _K.CODE)
    is_number = kind in (_K.EMAIL, _K.CODE) and sum(map(str.isdigit, value)) >= _FEWEST_IN_PHONE
    return _K.PHONE if is_number else kind


def _fhir_person(person: Mapping[str, Any]) -> Iterator[tuple[IdentifierKind, str]]:
    names = [*_mappings(person.get("name"))]
    if isinstance(person.get("name"), Mapping):  # a contact has one name, a patient has several
        names.append(person["name"])
    for name in names:
        parts = [*_several(name.get("given")), *_several(name.get("family"))]
        yield _K.NAME, " ".join(parts) or str(name.get("text", ""))
    yield from ((_K.DATE, each) for each in _several(person.get("birthDate")))
    yield from (
        (_K.RECORD_NUMBER, one) for each in _mappings(person.get("identifier")) for one in _several(each.get("value"))
    )
    for telecom in _mappings(person.get("telecom")):
        system = str(telecom.get("system")).casefold()
        yield from ((_contact_kind(system, one), one) for one in _several(telecom.get("value")))
    addresses = person.get("address")
    for address in [addresses] if isinstance(addresses, Mapping) else _mappings(addresses):
        for part in ("line", "city", "district", "postalCode"):
            yield from ((_K.PLACE, one) for one in _several(address.get(part)))
    for contact in _mappings(person.get("contact")):
        yield from _fhir_person(contact)
