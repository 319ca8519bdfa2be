"""The header profile: at every depth, consistent, and beside an independent de-identifier tag by tag."""

from __future__ import annotations

import io

import pytest
from pydicom import dcmread
from support.burned_in import KEY, PLANTED, STUDY, how, planted_header
from support.dicom_files import dicom_bytes

from medward.guard.errors import MedwardError
from medward.guard.intake.deidentify.dicom_file import deidentify_dicom
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
