"""What is known of a patient is found however it is written, and what only resembles it stays."""

import base64
import codecs
import re

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.release.text import IdentifierKind, KnownIdentifiers, TextFilter, needle_search
from medward.guard.release.text.typos import TypoTable

KNOWN = KnownIdentifiers.from_dicom(
    {
        "PatientName": "FEATHERSTONE^JANE^ANN",
        "PatientID": "MR1234567",
        "PatientBirthDate": "19600305",
        "PatientTelephoneNumbers": "555-987-6543",
        "PatientAddress": "12 Elm Street, Springfield",
        "InstitutionName": "Quiet Harbour Clinic",
    }
)
FILTER = TextFilter()
PLAIN = TextFilter(kinds=frozenset(IdentifierKind))

WRITTEN = {
    "name": [
        "jane featherstone",
        "FEATHERSTONE, JANE",
        "Featherstone Jane",
        "J. Featherstone",
        "Jane A. Featherstone",
        "J.A.F.",
        "JaneFeatherstone",
        "jfeatherstone",
        "jane_featherstone",
        "J a n e",
        "J-a-n-e",
        "J.a.n.e",
        "J\na\nn\ne",
        "F e a t h e r s t o n e",
        "Feather-stone",
        "Fea ther stone",
        "ja\u200bne",
        "Jаne",
        "Ｊａｎｅ",
        "𝐉𝐚𝐧𝐞",
        "Jáne",
        "\u202eenaJ\u202c",
        "enotsrehtaeF enaJ",
        "J4n3",
        "F3atherst0ne",
        "Fetherstone",
        "Featherstonne",
        "Faetherstone",
        "Featherstome",
        codecs.encode("Jane Featherstone", "rot13"),
        base64.b64encode(b"it is Jane Featherstone").decode(),
        base64.b64encode(base64.b64encode(b"it is Jane Featherstone")).decode(),
        "AAAAAAAAAAAA" + base64.b64encode(b"it is Jane Featherstone").decode(),
        "abcd" * 10 + base64.b64encode(b"it is Jane Featherstone").decode(),
        "abcde" * 5 + base64.b64encode(b"it is Jane Featherstone!").decode() + "wxyz" * 9,
        b"Jane".hex(),
        b"Jane".hex(" ").upper(),
        "0x4a 0x61 0x6e 0x65",
        "\\x4a\\x61\\x6e\\x65",
        "%4A%61%6E%65",
        "74 97 110 101",
        "&#74;&#97;&#110;&#101;",
    ],
    "record_number": [
        "MR1234567",
        "mr 1234567",
        "MR-1234567",
        "1234567",
        "1 2 3 4 5 6 7",
        "123-45-67",
        "7654321RM",
        "MR1234657",
        "one two three four five six seven",
        "one, two, three, four, five, sixty seven",
        "１２３４５６７",
    ],
    "date": [
        "19600305",
        "1960-03-05",
        "03/05/1960",
        "5.3.1960",
        "05-03-60",
        "March 5, 1960",
        "5th of March 1960",
        "5 Mar 60",
        "mar 5",
    ],
    "phone": [
        "555-987-6543",
        "5559876543",
        "(555) 987.6543",
        "987-6543",
        "triple five nine eight seven six five four three",
    ],
    "place": ["12 Elm Street", "elm street", "Springfield", "quiet harbour clinic", "Q u i e t Harbour Clinic"],
}


@pytest.mark.parametrize(("kind", "written"), [(kind, each) for kind in WRITTEN for each in WRITTEN[kind]])
def test_a_known_identifier_is_found_however_it_is_written(kind, written):
    text = f"the lungs are clear and {written} was noted, no effusion"
    spans = FILTER.find(text, KNOWN)
    covered = {at for span in spans for at in range(span.start, span.end)}
    begin = text.index(written)
    assert {at for at in range(begin, begin + len(written)) if text[at].isalnum()} <= covered
    assert kind in {span.kind for span in spans} or any(span.source == "pattern" for span in spans)
    assert FILTER.redact(text, KNOWN).text.startswith("the lungs are clear and ")
    assert FILTER.redact(text, KNOWN).text.endswith(" was noted, no effusion")


@pytest.mark.parametrize(
    "text",
    [
        "an old janet type device, stone in the gall bladder, feathery opacity",
        "heart rate 123 and 456, level 12 and 34, 7 of 12 ribs",
        "in spring the field of view; elm is a tree; harbours no mass",
        "one two three views were taken; T5 to T7; 3 of 5",
        "comparison with the prior examination is recommended",
    ],
)
def test_what_only_resembles_a_known_identifier_stays(text):
    assert FILTER.redact(text, KNOWN).text == text


def test_a_common_word_is_a_known_name_only_with_a_capital():
    known = KnownIdentifiers.from_mapping({"name": "May Will"})
    assert FILTER.redact("this may recur and will be seen", known).text == "this may recur and will be seen"
    assert FILTER.redact("we saw May today", known).text == "we saw [NAME] today"
    assert FILTER.redact("seen by Will May", known).text == "seen by [NAME]"


def test_without_it_being_known_the_disguise_is_not_seen():
    """The control: it is the knowledge that finds these."""
    assert not FILTER.find("the lungs are clear and J a n e was noted")
    assert not FILTER.find("the lungs are clear and enotsrehtaef was noted")


NAMES = st.text("bcdfghjklmnpqrstvwxz", min_size=5, max_size=9).map(str.capitalize)


@settings(max_examples=40, deadline=None)
@given(NAMES, NAMES, st.sampled_from([" ", "", ", ", "-", "\n", " \u200b"]), st.booleans(), st.booleans())
def test_any_known_name_is_found_in_any_spelling(given_name, family, between, turned, capitals):
    known = KnownIdentifiers.from_mapping({"name": f"{given_name} {family}"})
    name = between.join((family, given_name) if turned else (given_name, family))
    redacted = FILTER.redact(f"It is {name.upper() if capitals else name} again", known).text
    assert given_name.lower() not in redacted.lower()
    assert family.lower() not in redacted.lower()


@settings(max_examples=100, deadline=None)
@given(
    st.binary(min_size=6, max_size=12),
    st.integers(0, 11),
    st.integers(0, 255),
    st.sampled_from(["swap", "drop", "add", "change"]),
)
def test_one_typo_is_known_and_the_word_itself(word, at, byte, how):
    at %= len(word) - 1
    letter = bytes([byte])
    written = {
        "drop": word[:at] + word[at + 1 :],
        "add": word[:at] + letter + word[at:],
        "change": word[:at] + letter + word[at + 1 :],
        "swap": word[:at] + word[at + 1 : at + 2] + word[at : at + 1] + word[at + 2 :],
    }[how]
    assert TypoTable([word]).knows(word)
    assert TypoTable([word]).knows(written)


def test_three_typos_are_another_word():
    assert not TypoTable([b"featherstone"]).knows(b"weatherhtome")


def test_a_name_in_three_alphabets_is_found_in_each():
    known = KnownIdentifiers.from_dicom({"PatientName": "Wang^XiaoDong=\u738b^\u5c0f\u6771=\uc655^\uc18c\ub3d9"})
    for said in ("\u738b\u5c0f\u6771", "\uc655\uc18c\ub3d9", "Xiaodong Wang"):
        assert TextFilter().redact(f"Seen: {said}.", known).text == "Seen: [NAME]."


@pytest.mark.parametrize("system", [None, "other", "email", "PHONE", "sms"])
def test_a_fhir_contact_that_is_a_number_is_a_telephone_s_whatever_its_system(system):
    telecom = {"value": "+44 7700 900123", **({"system": system} if system else {})}
    known = KnownIdentifiers.from_fhir({"resourceType": "Patient", "telecom": [telecom]})
    assert TextFilter().redact("ring 07700 900123 now", known).text == "ring [PHONE] now"


def test_a_fhir_patient_is_read():
    known = KnownIdentifiers.from_fhir(
        {
            "resourceType": "Patient",
            "name": [{"family": "Roe", "given": ["Jane", "Ann"]}, {"text": "Janie Doe"}],
            "birthDate": "1960-03-05",
            "identifier": [{"value": "4711-22"}],
            "telecom": [{"system": "email", "value": "jane@example.org"}, {"system": "phone", "value": "555 1234567"}],
            "address": [{"line": ["12 Elm Street"], "city": "Springfield", "state": "IL", "postalCode": "62704"}],
            "contact": [{"name": {"family": "Poe", "given": ["Edgar"]}}],
        }
    )
    assert set(known.values) == {
        ("name", "Jane Ann Roe"),
        ("name", "Janie Doe"),
        ("name", "Edgar Poe"),
        ("date", "1960-03-05"),
        ("record_number", "4711-22"),
        ("email", "jane@example.org"),
        ("phone", "555 1234567"),
        ("place", "12 Elm Street"),
        ("place", "Springfield"),
        ("place", "62704"),
    }


def test_a_header_without_anything_to_say_gives_nothing():
    header = {"PatientName": "", "PatientID": "unknown", "PatientSex": "F", "Rows": 512, "OtherPatientIDs": None}
    assert KnownIdentifiers.from_dicom(header).values == ()


def test_several_values_of_one_attribute_are_all_known():
    known = KnownIdentifiers.from_dicom({"OtherPatientIDs": ["A-1", "B-2"], "OperatorsName": "Poe^E\\Doe^J"})
    assert len(known.values) == 4


def test_a_pydicom_data_set_is_read_as_a_mapping_is():
    dataset = pydicom.Dataset()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "ROE^JANE=山田^太郎", "4711-22", "19600305"
    dataset.OtherPatientNames = ["DOE^JANIE", "DOE^JAN"]
    assert KnownIdentifiers.from_dicom(dataset).values == (
        ("name", "ROE^JANE"),
        ("name", "山田^太郎"),
        ("name", "DOE^JANIE"),
        ("name", "DOE^JAN"),
        ("record_number", "4711-22"),
        ("date", "19600305"),
    )


def test_a_wrong_kind_is_refused_without_its_value():
    with pytest.raises(MedwardError, match="there are: name, place") as error:
        KnownIdentifiers.from_mapping({"Jane Roe": "4711"})
    assert "Jane" not in str(error.value)
    with pytest.raises(MedwardError, match="must be a text"):
        KnownIdentifiers.from_mapping({"name": [4711]})


def test_printing_known_identifiers_shows_none_of_them():
    stream = FILTER.stream(KNOWN)
    stream.push("Jane Roe, born 1960, 1234567")
    shown = re.sub("0x[0-9a-f]+", "an address", repr(KNOWN) + str(KNOWN) + repr(stream))
    assert not re.search("(?i)jane|1234567|1960", shown)


@pytest.mark.parametrize("name", ["山田^太郎", "Иванов^Пётр", "Yamada^Tarou=山田^太郎", "محمد^علي"])
def test_a_name_in_another_alphabet_is_found_as_it_is_written(name):
    known = KnownIdentifiers.from_dicom({"PatientName": name})
    family, _, given_name = name.split("=")[-1].partition("^")
    redacted = FILTER.redact(
        f"seen: {family} {given_name}; {given_name}{family}, {family.upper()}. aa no ete clear", known
    ).text
    assert family not in redacted
    assert given_name not in redacted
    assert family.upper() not in redacted
    assert redacted.endswith("aa no ete clear")


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ({"StudyID": "10"}, "Metoprolol 10 mg daily, 10 cm mass, T10 fracture, day 10."),
        ({"StudyID": "2023"}, "Stable since 2023; 2023 mL urine."),
        ({"StationName": "CT"}, "CT of the chest, comparison CT."),
        ({"OperatorsName": "PA"}, "PA and lateral chest."),
        ({"AccessionNumber": "1.5"}, "1.5 cm nodule, 15 mm."),
        ({"PatientID": "4711"}, "WBC 47.11 mm and 4711 mL."),
        ({"StudyDate": "20230305"}, "Nodules of 3.5, 2.3 cm; ratio 3.5/2.3; L3-5 2/3; levels 3, 5, 23."),
        ({"StudyDate": "20230102"}, "Stage 1, 2, 23. Segments 1, 2, 2, 3. grade 1-2, 23 mm."),
        ({"PatientBirthDate": "19600405"}, "Potassium 4.5 (60); 4.5-60; INR 4.5 6.0"),
        ({"PatientName": "MASSEY^ANN"}, "Masses are seen in the liver."),
        ({"PatientName": "LUNGREN^LEFT"}, "Left lung clear. LEFT LUNG."),
        ({"PatientName": "Small^Stone"}, "Small stone in the left kidney. A small Stone."),
        ({"ReferringPhysicianName": "LUNG^LI"}, "Lung clear. Lung-RADS 2, LI-RADS 3."),
        ({"InstitutionalDepartmentName": "Radiology"}, "Radiology was called."),
    ],
)
def test_what_is_known_erases_no_clinical_word_and_no_quantity(header, text):
    assert FILTER.redact(text, KnownIdentifiers.from_dicom(header)).text == text


@pytest.mark.parametrize(
    ("header", "text", "redacted"),
    [
        ({"StudyID": "10"}, "Study ID: 10", "Study ID: [CODE]"),
        ({"StudyID": "10"}, "10", "[CODE]"),
        ({"StudyID": "2023"}, "exam no. 2023 is new", "exam no. [CODE] is new"),
        ({"PatientID": "4711"}, "for 4711 today", "for [RECORD_NUMBER] today"),
        ({"StudyDate": "20230305"}, "of 3.5.23, 03/05/23 and 030523.", "of [DATE], [DATE] and [DATE]."),
        ({"PatientName": "MASSEY^ANN"}, "Massie and Massey", "[NAME] and [NAME]"),
        ({"PatientName": "LUNGREN^LEFT"}, "Mr. Left was seen. It is Lungren, Left", "[NAME] was seen. It is [NAME]"),
    ],
)
def test_a_short_known_value_is_found_where_it_is_meant(header, text, redacted):
    assert FILTER.redact(text, KnownIdentifiers.from_dicom(header)).text == redacted


def test_a_name_of_too_many_parts_is_refused_without_its_value_and_nothing_is_printed(capfd):
    with pytest.raises(MedwardError, match="a name has 160 parts; at most 24") as error:
        KnownIdentifiers.from_dicom({"PatientName": " ".join(f"Part{each}" for each in range(160))})
    assert "Part1" not in str(error.value)
    assert capfd.readouterr() == ("", "")


def test_too_many_known_values_are_refused_and_none_is_printed(capfd, monkeypatch):
    monkeypatch.setattr(needle_search, "_MEMORY", 1 << 14)
    with pytest.raises(MedwardError, match="too many to search for") as error:
        FILTER.redact("x", KnownIdentifiers.from_mapping({"name": [f"Name{each} Family{each}" for each in range(300)]}))
    assert "Family1" not in str(error.value)
    assert capfd.readouterr() == ("", "")


READ = KnownIdentifiers


@pytest.mark.parametrize(
    ("read", "given", "said"),
    [
        (READ, {"name": "Jane Roe"}, "must be pairs of a kind and a text"),
        (READ, (("names", "Jane Roe"),), "must be pairs of a kind and a text"),
        (READ.from_mapping, None, "expected a mapping, got NoneType"),
        (READ.from_mapping, {"name": None}, "name must be a text or several"),
        (READ.from_dicom, "/data/Jane.dcm", "got str; read a file with pydicom.dcmread"),
        (READ.from_dicom, {}, "no keyword that is read"),
        (READ.from_dicom, {"name": "Jane Roe"}, "no keyword that is read"),
        (READ.from_dicom, {"patient_name": "Jane Roe"}, "a key is PatientName spelled otherwise; write PatientName"),
        (READ.from_dicom, {"StudyID": "7", "patientname": "Jane"}, "a key is PatientName spelled otherwise"),
        (READ.from_dicom, {"PatientName": {"Value": ["Jane"]}}, "PatientName must be a text or several, got dict"),
        (READ.from_dicom, {"PatientID": b"Jane"}, "PatientID must be a text or several, got bytes"),
        (READ.from_dicom, pydicom.Dataset(), "no keyword that is read"),
        (READ.from_fhir, '{"name": "Jane"}', "FHIR Patient: expected a mapping, got str; give the JSON object"),
        (READ.from_fhir, {"resourceType": "Observation"}, "must be Patient, got 'Observation'"),
        (READ.from_fhir, {"PatientName": "Jane Roe"}, "no field that is read; there are: name, identifier"),
        (READ.from_fhir, {"resourceType": "Patient", "Name": [{"family": "Roe"}]}, "no field that is read"),
        (READ.from_fhir, {"name": "Jane Roe"}, "name must be a list of objects"),
        (READ.from_fhir, {"name": [], "identifier": {"value": "Jane"}}, "identifier must be a list of objects"),
    ],
)
def test_what_nothing_would_be_read_from_is_refused_without_its_value(read, given, said):
    with pytest.raises(MedwardError, match=said) as error:
        read(given)
    assert "Jane" not in str(error.value)


def test_a_patient_of_whom_nothing_is_said_is_a_patient():
    assert READ.from_fhir({"resourceType": "Patient", "name": None}).values == ()
    assert READ.from_fhir({"address": {"city": "Springfield"}}).values == (("place", "Springfield"),)
