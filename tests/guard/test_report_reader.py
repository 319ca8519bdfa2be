"""What a report says of a finding: there, may be there, or not; and nothing of what it does not mention."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.errors import MedwardError
from medward.guard.tasks.report_reader import CHEST_TERMS, Mention, ReportReader, clauses

READER = ReportReader(CHEST_TERMS)
THERE, MAYBE, NOT = Mention.PRESENT, Mention.UNCERTAIN, Mention.ABSENT


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Small left pleural effusion.", {"effusion": THERE}),
        ("No pleural effusion or pneumothorax.", {"effusion": NOT, "pneumothorax": NOT}),
        ("No focal consolidation, pneumothorax, or large pleural effusion.", dict.fromkeys(
            ("consolidation", "pneumothorax", "effusion"), NOT)),
        ("Lungs are clear without infiltrate but there is cardiomegaly.", {"infiltration": NOT, "cardiomegaly": THERE}),
        ("The heart is mildly enlarged.", {"cardiomegaly": THERE}),
        ("The heart is not enlarged.", {"cardiomegaly": NOT}),
        ("Heart size is normal.", {}),
        ("Possible small nodule in the right apex.", {"nodule": MAYBE}),
        ("Pneumonia cannot be excluded.", {"pneumonia": MAYBE}),
        ("Cannot exclude pneumonia.", {"pneumonia": MAYBE}),
        ("Effusion is possible; this does not rule out pneumonia.", {"effusion": MAYBE, "pneumonia": MAYBE}),
        ("This excludes pneumonia.", {"pneumonia": NOT}),
        ("Findings may represent atelectasis versus pneumonia.", {"atelectasis": MAYBE, "pneumonia": MAYBE}),
        ("The pneumothorax has resolved.", {"pneumothorax": NOT}),
        ("Pulmonary edema is not seen.", {"edema": NOT}),
        ("Blunting of the left costophrenic angle.", {"effusion": THERE}),
        ("Considerations would include pericardial effusion.", {}),
        ("No effusion. Large right effusion on the lateral view.", {"effusion": THERE}),
        ("NO\nACUTE FRACTURE", {"fracture": NOT}),
        ("No effusion\n\nCardiomegaly", {"effusion": NOT, "cardiomegaly": THERE}),
        ("1. No effusion\n2. Cardiomegaly", {"effusion": NOT, "cardiomegaly": THERE}),
        ("No effusion\nIMPRESSION: cardiomegaly", {"effusion": NOT, "cardiomegaly": THERE}),
        ("Mass effect on the trachea.", {}),
        ("Evaluation for pneumothorax is limited.", {"pneumothorax": NOT}),
        ("Pleural effusion: None.", {"effusion": NOT}),
        ("Effusion: none.\nPneumothorax: No\nThe heart is enlarged.", {
            "effusion": NOT, "pneumothorax": NOT, "cardiomegaly": THERE}),
        ("pneumothorax = no; effusion = yes", {"pneumothorax": NOT, "effusion": THERE}),
        ("Pneumonia: negative Effusion: small", {"pneumonia": NOT, "effusion": THERE}),
        ("Effusion or pneumothorax: none. Left effusion.", {"effusion": THERE, "pneumothorax": NOT}),
        ("Pneumonia: not present.", {"pneumonia": NOT}),
        ("Pneumonia: unlikely given the history.", {"pneumonia": NOT}),
        ("Pneumonia? No.", {"pneumonia": NOT}),
        ("Pneumonia? No effusion.", {"pneumonia": THERE, "effusion": NOT}),
        ("pneumonia (absent), mass - none", {"pneumonia": NOT, "mass": NOT}),
        ("PNEUMONIA ABSENT", {"pneumonia": NOT}),
        ("Pneumonia: No evidence. Mass: none seen", {"pneumonia": NOT, "mass": NOT}),
        ("Small effusion, pneumothorax: none", {"effusion": THERE, "pneumothorax": NOT}),
        ("Effusion: no change.", {"effusion": THERE}),
        ("Effusion: small. Comparison: none.", {"effusion": THERE}),
        ("", {}),
    ],
)  # fmt: skip
def test_a_mention_is_read_as_it_is_meant(text, said):
    assert READER.read(text) == said


def test_the_stronger_of_two_mentions_counts_in_either_order():
    parts = ["No effusion.", "Possible effusion.", "There is an effusion."]
    for first in parts:
        for second in parts:
            read = READER.read(f"{first} {second}")["effusion"]
            assert read == max(READER.read(first)["effusion"], READER.read(second)["effusion"])


def test_findings_come_in_the_order_of_the_terms_and_doubt_counts_as_there():
    assert READER.findings == tuple(CHEST_TERMS)
    present = dict(zip(READER.findings, READER.present("Possible mass. No nodule. Old fracture."), strict=True))
    assert {name for name, there in present.items() if there} == {"mass", "fracture"}


def test_words_that_are_no_pattern_are_named():
    with pytest.raises(MedwardError, match="'effusion' are no pattern"):
        ReportReader({"effusion": "("})
    with pytest.raises(MedwardError, match=r"'effusion' are no pattern within a text.*leave flags such as \(\?i\) out"):
        ReportReader({"effusion": "(?i)effusion"})


@given(st.text(max_size=200))
def test_any_text_is_read_and_cut_into_nothing_but_its_own_words(text):
    words = " ".join(text.lower().split())
    assert all(clause in words for clause in clauses(text))
    assert set(READER.read(text)) <= set(CHEST_TERMS)


def test_capitals_in_a_users_words_are_read_in_small_letters():
    assert ReportReader({"mass": "Tumor|Mass"}).present("No mass. A tumor is seen.") == (True,)
    assert ReportReader({"mass": "Tumor"}).present("No TUMOR is seen.") == (False,)
