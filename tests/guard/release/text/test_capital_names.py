"""Names in capitals that no list knows: found beside a name, behind a cue, alone on a line; clinical text is kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medward.guard.release.text import TextFilter

FILTER, SPANISH = TextFilter(), TextFilter(language="es")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GERTRUDE HOLLINGWORTH IS SHOWN", "[NAME] IS SHOWN"),
        ("SEEN WITH GERTRUDE HOLLINGWORTH-ZORVAK TODAY", "SEEN WITH [NAME] TODAY"),
        ("GERTRUDE A HOLLINGWORTH DENIES PAIN", "[NAME] DENIES PAIN"),
        ("GERTRUDE VAN DER ZORVAK", "[NAME]"),
        ("ZORVAK, GERTRUDE: CHEST PA", "[NAME]: CHEST PA"),
        ("ZORVAK^GERTRUDE^ANNE", "[NAME]"),
        ("SEEN WITH ZORVAK^MIRELIUS TODAY", "SEEN WITH [NAME] TODAY"),
        ("PHILIPPA ABERNATHY IS SHOWN", "[NAME] IS SHOWN"),
        ("NAME: ZORVAK MIRELIUS", "NAME: [NAME]"),
        ("PATIENT NAME ZORVAK MIRELIUS TANDROV DOB", "PATIENT NAME [NAME] DOB"),
        ("The patient name is ZORVAK MIRELIUS.", "The patient name is [NAME]."),
        (
            "this study belongs to patient name ZORVAK MIRELIUS and shows",
            "this study belongs to patient name [NAME] and shows",
        ),
        ("PATIENT ZORVAK ADMITTED TODAY", "PATIENT [NAME] ADMITTED TODAY"),
        ("PT ZORVAK", "PT [NAME]"),
        ("DR ZORVAK-MIRELIUS", "[NAME]"),
        ("DR LEOPOLD ZORVAK", "[NAME]"),
        ("ZORVAK MIRELIUS", "[NAME]"),
        ("ZORVAK MIRELIUS 1950-03-04 M", "[NAME] [DATE] M"),
        ("PORTABLE CHEST AP\nZORVAK MIRELIUS\nNO ACUTE FINDING", "PORTABLE CHEST AP\n[NAME]\nNO ACUTE FINDING"),
        ("class: patient name; evidence: ZORVAK MIRELIUS", "class: patient name; evidence: [NAME]"),
    ],
)
def test_a_name_in_capitals_that_no_list_knows_is_found(text, left):
    assert FILTER.redact(text).text == left


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("PACIENTE: ZORVAK MIRELIUS", "PACIENTE: [NAME]"),
        ("PACIENTE ZORVAK, 67 AÑOS", "PACIENTE [NAME], 67 AÑOS"),
        ("NOMBRE ZORVAK", "NOMBRE [NAME]"),
        ("MARÍA ZORVAK MIRELIUS ACUDE", "[NAME] ACUDE"),
        ("ZORVAK, MARÍA", "[NAME]"),
    ],
)
def test_a_spanish_name_in_capitals_is_found(text, left):
    assert SPANISH.redact(text).text == left


@pytest.mark.parametrize(
    "text",
    [
        "NO ACUTE CARDIOPULMONARY DISEASE",
        "IMPRESSION: HYPERINFLATED LUNGS WITHOUT FOCAL CONSOLIDATION.",
        "MILD CARDIOMEGALY\nBIBASILAR ATELECTASIS\nNO PNEUMOTHORAX",
        "PATIENT ROTATED TO THE LEFT. PATIENT COUGHS. PT AMBULATES.",
        "PATIENT DENIES CHEST PAIN AND SHORTNESS OF BREATH",
        "DEGENERATIVE CHANGES OF THE THORACIC SPINE, TORTUOUS AORTA",
        "FOLEY CATHETER AND SWAN GANZ CATHETER UNCHANGED",
        "PORTABLE CHEST AP 10 MM",
        "NSTEMI, COPD, CHF, CKD STAGE 3",
        "STATUS POST MEDIAN STERNOTOMY AND CABG",
        "Impression: HYPERINFLATED LUNGS",
    ],
)
def test_clinical_text_in_capitals_is_kept(text):
    assert FILTER.redact(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "EL PACIENTE PRESENTÓ FIEBRE Y DOLOR ABDOMINAL",
        "LA PACIENTE CONTINÚA ASINTOMÁTICA",
        "PACIENTE EVOLUCIONA FAVORABLEMENTE",
        "SIN DERRAME PLEURAL NI CONSOLIDACIÓN",
    ],
)
def test_spanish_clinical_text_in_capitals_is_kept(text):
    assert SPANISH.redact(text).text == text


def test_what_the_company_alone_does_not_give_away_is_left():
    """The gap that is left: a sentence, no name that is known, no cue."""
    assert FILTER.redact("THE STUDY OF ZORVAK MIRELIUS SHOWS").text == "THE STUDY OF ZORVAK MIRELIUS SHOWS"


SYLLABLES = st.lists(
    st.sampled_from(["ZOR", "VAK", "MIR", "QUO", "TAN", "DRO", "BEX", "LUP", "KEM", "WIB"]), min_size=2, max_size=4
).map("".join)
PLACES = (
    "{first} {last}",
    "{last}, {first}",
    "GERTRUDE {last} SEEN",
    "{last}, GERTRUDE",
    "{last}^{first}",
    "NAME: {first} {last}",
    "PATIENT NAME {first} {last}, CHEST",
    "The patient name is {first} {last}.",
    "DR. {last} REPORTS",
    "CHEST PA\n{first} {last}\nCLEAR LUNGS",
)


@settings(max_examples=200, deadline=None)
@given(SYLLABLES, SYLLABLES, st.sampled_from(PLACES))
def test_no_name_of_syllables_leaves_beside_a_name_behind_a_cue_or_alone(first, last, place):
    redacted = FILTER.redact(place.format(first=first, last=last)).text
    assert "[NAME]" in redacted
    assert last not in redacted
    assert first not in redacted


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "NO",
                "ACUTE",
                "CLEAR",
                "LUNGS",
                "HEART",
                "SIZE",
                "NORMAL",
                "MILD",
                "EDEMA",
                "LEFT",
                "LOWER",
                "LOBE",
                "OPACITY",
                "IS",
                "SEEN",
            ]
        )
    )
)
def test_words_that_are_known_are_kept_in_any_order(words):
    assert FILTER.redact(" ".join(words)).text == " ".join(words)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(["GERTRUDE ", "ZORVAK, ", "PATIENT: ", "A ", "CHEST\n", "DR. ", "x ", "1950 "])),
    st.integers(1, 9),
)
def test_what_is_found_does_not_depend_on_pieces(parts, length):
    text = "".join(parts)
    stream = FILTER.stream()
    pieces = [text[each : each + length] for each in range(0, len(text), length)]
    whole = "".join([*(stream.push(each) for each in pieces), stream.finish()])
    assert whole == FILTER.redact(text).text
