"""The header profile: at every depth, consistent, and beside an independent de-identifier tag by tag."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from support.burned_in import KEY, PLANTED, STUDY, how, planted_header
from support.dicom_files import dicom_bytes

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.dicom_file import deidentify_dicom
from medward.guard.intake.deidentify.header_identifiers import header_identifiers
from medward.guard.intake.deidentify.pseudonyms import MOST_DAYS, Pseudonyms, read_or_make_key


def cleaned(header, **more):
    return dcmread(io.BytesIO(deidentify_dicom(dicom_bytes(header), how(**more)).content))


def test_nothing_planted_is_left_at_any_depth():
    found = deidentify_dicom(dicom_bytes(planted_header()), how())
    said = found.content.upper()
    for secret in (PLANTED[:16], "4711", "ACC991", "VANDERSLOOT", "WESTMERE", "20240229", "19760616", "101112", STUDY):
        assert secret.upper().encode() not in said, secret
    header = dcmread(io.BytesIO(found.content))
    assert not [each for each in header.iterall() if each.tag.is_private or each.VR in ("UN",)]
    assert "IconImageSequence" not in header
    assert {"private attributes", "dates moved", "identifiers in other attributes"} <= set(found.removed)


def test_what_is_no_identifier_stays():
    header = cleaned(planted_header())
    assert (header.Modality, header.KVP, header.Rows) == ("CR", 120, 32)
    assert header.SourceImageSequence[0].ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.1"


def test_a_unique_identifier_below_the_standard_s_root_stays_only_where_the_standard_defines_it():
    header = planted_header()
    header.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.840.10008.4711223.19600305"
    assert not cleaned(header).SourceImageSequence[0].ReferencedSOPInstanceUID.startswith("1.2.840.10008")


def test_a_name_that_is_a_clinical_word_is_found_in_coded_strings():
    header = planted_header()
    header.PatientName, header.BodyPartExamined = "PANCREAS^0001", "PANCREAS"
    assert "PANCREAS" not in str(cleaned(header).get("BodyPartExamined", ""))
    header.PatientName = "ROE^JANE"
    assert cleaned(header).BodyPartExamined == "PANCREAS"


def test_a_header_that_names_nobody_is_looked_through_too():
    header = Dataset()
    header.Modality = "CT"
    known = header_identifiers(header)
    assert not known.stand_in("AXIAL")
    assert known.stand_in("Dr. Okonkwo")


def test_the_header_says_what_was_done():
    header = cleaned(planted_header())
    assert (header.PatientIdentityRemoved, header.BurnedInAnnotation) == ("YES", "NO")
    assert header.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [each.CodeValue for each in header.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113101", "113107"]
    assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
    assert header.preamble == b"\0" * 128


def test_a_folder_stays_one_study_and_another_key_makes_another():
    one, two = cleaned(planted_header()), cleaned(planted_header(SOPInstanceUID=f"{STUDY}.44"))
    assert one.StudyInstanceUID == two.StudyInstanceUID != STUDY
    assert one.PatientID == two.PatientID
    assert one.SOPInstanceUID != two.SOPInstanceUID
    reference = cleaned(planted_header(SOPInstanceUID=f"{STUDY}.8"))
    assert one.SourceImageSequence[0].ReferencedSOPInstanceUID == reference.SOPInstanceUID
    other = cleaned(planted_header(), pseudonyms=Pseudonyms(b"\1" * 32))
    assert other.PatientID != one.PatientID
    assert other.StudyInstanceUID != one.StudyInstanceUID


def test_dates_of_a_patient_move_together():
    from datetime import date

    header = cleaned(planted_header())
    study, series = (date.fromisoformat(each) for each in (header.StudyDate, header.SeriesDate))
    assert (series - study).days == 1
    assert 30 <= (date(2024, 2, 29) - study).days <= MOST_DAYS
    assert cleaned(planted_header(PatientID="another")).StudyDate != header.StudyDate
    assert not header.PatientBirthDate


def test_bidirectional_tricks_and_bad_bytes_do_not_hide_a_name():
    header = planted_header(BodyPartExamined="")
    header.SpecificCharacterSet = "ISO_IR 192"
    hidden = "\u202e" + PLANTED[::-1] + "\u202c"
    split = "\u200b".join(PLANTED[:8])
    header.ScanOptions, header.SequenceName, header.ImageComments = "A", split, hidden
    header.ContrastBolusAgent = hidden
    file = dicom_bytes(header).replace(b"chest of", b"\xff\xfe\xff of".ljust(8))
    found = dcmread(io.BytesIO(deidentify_dicom(file, how()).content))
    kept = "".join(str(each.value) for each in found.iterall() if each.VR not in ("SQ", "OB", "OW"))
    assert not any(each in kept for each in (PLANTED, PLANTED[::-1], "\u202e", "\u200b"))


ADA = {"PatientName": "Featherstone^Ada", "PatientBirthDate": "19760616"}
SPELLINGS = [
    (ADA, "FEATHERSTONE_ADA"),
    (ADA, "ADA FEATHERSTON"),
    (ADA, "DOB 16/06/1976"),
    (ADA, "born Jun 16 1976"),
    (ADA, "AFeatherstone"),
    ({"PatientName": "LEE^KIM"}, "Lee Kim"),
    ({"PatientName": "LEE^KIM"}, "lee"),
    ({"PatientName": "O'Brien^Mary"}, "OBRIEN"),
    ({"PatientName": "Müller^Jörg"}, "MUELLER"),
    ({"PatientName": "Smith^J"}, "SmithJ"),
    ({"PatientName": "Smith^J"}, "J_SMITH"),
    ({"PatientName": "山田^太郎"}, "山田"),
    ({"PatientName": "Christophersonville^Al"}, "CHRISTOPHERSONVI"),
    ({"PatientName": "Castellano^Greta"}, "C A S T E L L A "),
    ({"PatientID": "777"}, "pt 777"),
    ({"PatientID": "MRN-4711-X"}, "no 4711"),
    ({"AccessionNumber": "ACC-99120"}, "acc99120"),
    ({"PatientAddress": "12 Elm Street"}, "12 Elm"),
    ({"InstitutionName": "Westmere General"}, "Westmere General 3"),
    ({"InstitutionName": "Westmere General"}, "WESTMERE"),
    ({"StationName": "WGRAD01"}, "WGRAD01"),
    ({}, "JOHN_MILLER"),
    ({}, "12/03/1960"),
]


@pytest.mark.parametrize("attribute", ["ContrastBolusRoute", "SequenceName", "WindowCenterWidthExplanation"])
@pytest.mark.parametrize(("header", "said"), SPELLINGS)
def test_what_a_header_names_is_found_however_it_is_written(header, said, attribute):
    planted = planted_header(SpecificCharacterSet="ISO_IR 192", **header, **{attribute: said[:16]})
    assert not cleaned(planted).get(attribute)


@pytest.mark.parametrize("attribute", ["LUTExplanation", "PixelSpacingCalibrationDescription", "BodyPartExamined"])
def test_no_group_of_attributes_is_left_out(attribute):
    assert not cleaned(planted_header(**{attribute: PLANTED.upper()[:16]})).get(attribute)


def test_free_text_that_is_not_of_a_machine_goes_whoever_it_names():
    header = planted_header(DeviceID="DEV-99812", GridID="G-77123-X", FrameLabel="wife of the mayor")
    header.PatientBirthDateInAlternativeCalendar, header.PatientAlternativeCalendar = "S51.06.16", "JAPANESE"
    after = cleaned(header)
    assert not {"DeviceID", "GridID", "FrameLabel", "PatientBirthDateInAlternativeCalendar"} & set(after.dir())


def test_what_describes_a_machine_and_the_pixels_stays():
    said = {
        "Manufacturer": "Philips Medical Systems",
        "ConvolutionKernel": "B30f",
        "SequenceName": "*tfl3d1_16ns",
        "RescaleType": "HU",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "BodyPartExamined": "CHEST",
        "PatientOrientation": ["L", "P"],
        "Modality": "CT",
        "WindowCenterWidthExplanation": ["BRAIN", "BONE"],
    }
    after = cleaned(planted_header(**said, StationName="CT", StudyID="30"))
    assert {name: after[name].value for name in said} == said


def test_a_number_of_the_patient_is_no_count_of_anything():
    header = planted_header(PatientID="MRN-471199", StudyID="30", InstanceNumber="30", AcquisitionNumber="471199")
    after = cleaned(header)
    assert (after.InstanceNumber, after.AcquisitionNumber) == (30, None)


def test_codes_say_what_their_dictionary_does():
    items = []
    for scheme, value, meaning in (
        ("SCT", "76752008", "wife of Joseph Miller"),
        ("SRT", "T-62000", "wife of Joseph Miller"),
        ("99HOSPITAL", "MILLER-7", "wife of Joseph Miller"),
    ):
        item = Dataset()
        item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning = scheme, value, meaning
        items.append(item)
    after = cleaned(planted_header(AnatomicRegionSequence=Sequence(items))).AnatomicRegionSequence
    assert [(each.CodeValue, each.CodingSchemeDesignator) for each in after] == [
        ("76752008", "SCT"),
        ("T-62000", "SRT"),
        ("", ""),
    ]
    assert [each.CodeMeaning for each in after] == ["Breast structure (body structure)", "", ""]


def test_no_binary_attribute_keeps_what_it_held():
    secret = b"FEATHERSTONE ADA MRN-4711-X ".ljust(48)
    header, inner = planted_header(), Dataset()
    for tag, (vr, _, _, retired, _) in DicomDictionary.items():
        binary = vr.split(" or ")[-1]
        if binary in ("OB", "OW", "OF", "OD", "OL", "OV") and tag >> 16 not in (0x7FE0, 0x0002, 0x0004) and not retired:
            header.add_new(tag, binary, secret)
            inner.add_new(tag, binary, secret)
    header.WaveformSequence = header.EncryptedAttributesSequence = header.ReferencedImageSequence = Sequence([inner])
    assert len(inner) > 50
    found = deidentify_dicom(dicom_bytes(header), how())
    assert b"FEATHERSTONE" not in found.content
    assert found.removed["binary content"] > 50


@pytest.mark.parametrize(
    ("vr", "entries", "stays"),
    [
        ("US", list(range(0, 512, 2)), True),
        ("OW", np.arange(256, dtype="<u2").tobytes(), True),
        ("OW", np.arange(255, -1, -1, dtype="<u2").tobytes(), True),
        ("US", list(range(255)), False),
        ("OW", b"FEATHERSTONE ADA".ljust(512), False),
        ("US", [*b"FEATHERSTONE ADA".ljust(256)], False),
    ],
)
def test_a_table_of_grey_levels_stays_where_it_is_one(vr, entries, stays):
    table = Dataset()
    table.LUTDescriptor = [256, 0, 16]
    table.add_new(0x00283006, vr, entries)
    after = cleaned(planted_header(VOILUTSequence=Sequence([table])))
    assert ("VOILUTSequence" in after) == stays


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"PatientID": "UNKNOWN", "PatientName": "A^B"}, {"PatientID": "UNKNOWN", "PatientName": "C^D"}, False),
        ({"PatientID": "0000", "PatientName": "A^B"}, {"PatientID": "0000", "PatientName": "C^D"}, False),
        ({"PatientID": "UNKNOWN"}, {"PatientID": "UNKNOWN", "PatientBirthDate": "19000101"}, False),
        ({"PatientID": "7", "IssuerOfPatientID": "A"}, {"PatientID": "7", "IssuerOfPatientID": "B"}, False),
        ({"PatientID": "7", "PatientName": "Roe^Jane"}, {"PatientID": "7", "PatientName": "Roe^J"}, True),
        ({"PatientID": "ANONYMOUS", "PatientName": "Roe^Jane"}, {"PatientID": "", "PatientName": "Roe^Jane"}, True),
    ],
)
def test_patients_are_told_apart_by_what_says_something(one, two, same):
    patients = [cleaned(planted_header(**each)).PatientID for each in (one, two)]
    assert (patients[0] == patients[1]) == same


def test_an_unknown_character_set_is_no_way_through():
    file = dicom_bytes(planted_header(SpecificCharacterSet="ISO_IR 192")).replace(b"ISO_IR 192", b"ISO_IR 999")
    try:
        found = deidentify_dicom(file, how()).content
    except MedwardError as error:
        found = str(error).encode()
    assert PLANTED.encode() not in found


def test_what_an_independent_de_identifier_changes_is_changed_here_too():
    dicognito = pytest.importorskip("dicognito.anonymizer", reason="dicognito is not installed")
    header = planted_header()
    before = dcmread(io.BytesIO(dicom_bytes(header)))
    theirs = dcmread(io.BytesIO(dicom_bytes(header)))
    dicognito.Anonymizer(seed="x").anonymize(theirs)
    ours = cleaned(header)
    changed = {each.tag for each in before if each.tag not in theirs or theirs[each.tag].value != each.value}
    assert len(changed) > 10
    kept = [tag for tag in changed if tag in ours and ours[tag].value == before[tag].value and before[tag].value]
    assert kept == []


def test_the_key_is_drawn_once_and_kept(tmp_path):
    key = read_or_make_key(tmp_path / "key")
    assert (len(key), read_or_make_key(tmp_path / "key")) == (32, key)
    assert (tmp_path / "key").stat().st_mode & 0o077 == 0
    assert Pseudonyms(key).identifier("patient", "1") != Pseudonyms(KEY).identifier("patient", "1")
    (tmp_path / "other").write_text("no key")
    with pytest.raises(MedwardError, match="is no key of 32 bytes"):
        read_or_make_key(tmp_path / "other")
