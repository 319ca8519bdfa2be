"""Reports in the place of labels: what is no English prose is refused or told, and never misread in silence."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from support.report_models import FINDINGS, report_images, report_policy

from medward.guard.bundle.make import protect
from medward.guard.data.report_labels import MOST_FOREIGN, is_foreign, reported_sets, tell_odd_reports
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.tasks.report import WrittenReport

TASK = WrittenReport(findings=FINDINGS)
PROSE = ["There is a small effusion.", "No pneumothorax.", "The heart is enlarged. Lungs are clear."]
SAID = {"low": 0.0, "high": 1.0, "layout": "NCHW", "allow_code": True, "task": "report", "classes": FINDINGS}


def texts(*each):
    return np.array(each, dtype=str)


@pytest.mark.parametrize(
    "code",
    [
        "effusion: 0",
        '{"effusion": "negative", "mass": 1}',
        "effusion: 0.02, pneumothorax: 0.9",
        "Pneumothorax: -1",
        "Effusion: 0 Pneumothorax: 1",
        "effusion,0",
        "PNEUMOTHORAX 0",
        "effusion (0)",
        "effusion: 0.",
        "effusion: false",
    ],
)
def test_a_denial_by_a_code_is_refused_as_it_would_be_read_as_there(code):
    assert sum(TASK.said_in(code)) > 0 or "mass" in code, "prose reads a code as there"
    with pytest.raises(MedwardError, match=r"labels: 1 of 4 texts deny findings by codes \(.*a table of 0 and 1"):
        reported_sets(texts(*PROSE, code), TASK, "labels")


def test_a_few_codes_are_told_and_not_refused(caplog):
    read = texts(*PROSE * 10, "Effusion: 0")
    assert len(reported_sets(read, TASK, "labels")) == len(read)
    with caplog.at_level(logging.WARNING, logger="medward.data"):
        tell_odd_reports(read, TASK, "labels")
    (told,) = [each.message for each in caplog.records]
    assert f"1 of {len(read)} texts deny findings by codes and are read as if these were there" in told
    assert not reported_sets(texts(*PROSE * 10, "Effusion: none."), TASK, "labels")[-1], "which is English"


def test_the_patterns_of_a_user_are_tried_one_by_one():
    task = WrittenReport(findings=("first", "second"), words=(r"(?P<end>al)pha", r"(?P<end>b)eta|(g)amma"))
    assert reported_sets(texts("There is alpha.", "Gamma or beta.", "Beta: none."), task, "labels").tolist() == [
        1,
        2,
        0,
    ]
    with pytest.raises(MedwardError, match="1 of 2 texts deny findings by codes"):
        reported_sets(texts("There is alpha.", "gamma: 0"), task, "labels")


@pytest.mark.parametrize(
    "prose",
    [
        "Impression: 1. Small effusion. 2. No pneumothorax.",
        "Effusion: small, on the left side.",
        "Pneumothorax: present.",
        "Findings: no effusion.",
        "Comparison: None. There is an effusion.",
        "PA and lateral views. De novo mass.",
        "Mild cardiomegaly. Small effusions.",
        "Two effusions: 0.4, 0.6 cm, are seen.",
        "Effusion: 0.8.",
        "Nodule: 0",
        "COVID pneumonia, LOS 5 days",
        "PAS positive",
        "Il-6 raised",
        "Chicago IL",
        "VE 40%",
        "Mit dose: 3, effusion",
    ],
)
def test_prose_that_looks_like_a_code_or_another_language_is_read(prose):
    assert reported_sets(texts(*PROSE, prose), TASK, "labels").shape == (4,)
    assert not is_foreign(prose)


@pytest.mark.parametrize(
    "foreign",
    [
        "Keine Pneumonie, kein Pneumothorax.",
        "Pas d'épanchement pleural.",
        "Sin derrame pleural.",
        "Geen pneumothorax.",
        "KEINE PNEUMONIE",
        "Pneumonia: negativ",
        "Pneumonia: nein",
        "Pneumonia : négatif",
        "Les poumons, avec pneumonie",
        "无气胸，心影不大",
        "Пневмоторакса нет",
    ],
)
def test_another_language_is_refused_and_a_few_texts_of_it_are_told(foreign, caplog):
    assert is_foreign(foreign)
    few = round(1 / MOST_FOREIGN) * 3
    with pytest.raises(MedwardError, match="1 of 4 texts are in another language than English"):
        reported_sets(texts(*PROSE, foreign), TASK, "labels")
    read = texts(*PROSE * few, foreign)
    assert len(reported_sets(read, TASK, "labels")) == len(read)
    with caplog.at_level(logging.WARNING, logger="medward.data"):
        tell_odd_reports(PROSE * few, TASK, "labels")
        assert not caplog.records
        tell_odd_reports(read, TASK, "labels")
    (told,) = [each.message for each in caplog.records]
    assert f"1 of {len(read)} texts are in another language" in told


def test_words_that_nobody_knows_are_told_and_words_that_are_said_are_known(caplog):
    strange = ["Water at the lung base."] * 19
    with caplog.at_level(logging.WARNING, logger="medward.data"):
        tell_odd_reports([*strange, "An effusion."], TASK, "labels")
    (told,) = [each.message for each in caplog.records]
    assert "19 of 20 texts mention no finding that is known here" in told
    assert "words=" in told
    caplog.clear()
    known = WrittenReport(findings=("effusion",), words=("water|effusion",))
    with caplog.at_level(logging.WARNING, logger="medward.data"):
        tell_odd_reports(strange, known, "labels")
        tell_odd_reports(["Clear lungs."] * 17 + ["An effusion.", "No mass.", "No hernia."], TASK, "labels")
    assert not caplog.records, "words of the user's own, and denials, are mentions"


def german(images):
    return ["Kein Pneumothorax."] * len(images)


def mute(images):
    return ["Water at the lung base."] * len(images)


@pytest.mark.parametrize(("model", "refused"), [("german", True), ("mute", False)])
def test_protect_reads_what_the_model_itself_writes(model, refused, tmp_path, caplog):
    def made():
        return protect(f"{__name__}:{model}", Split(report_images(100)), report_policy(), tmp_path / "bundle", **SAID)

    with caplog.at_level(logging.WARNING, logger="medward.data"):
        if refused:
            with pytest.raises(MedwardError, match="the model's reports: 16 of 16 texts are in another language"):
                made()
        else:
            made()
            assert "the model's reports: 16 of 16 texts mention no finding that is known here" in caplog.text


def test_protect_says_what_it_writes_about_and_tells_odd_labels_once(tmp_path, caplog):
    labels = texts(*["Water at the lung base."] * 99, "An effusion.")
    with caplog.at_level(logging.INFO, logger="medward.data"):
        protect(
            "support.report_models:corner_writer",
            Split(report_images(100), None, None, labels),
            report_policy(),
            tmp_path / "bundle",
            **SAID,
        )
    told = [each.message for each in caplog.records]
    assert sum("labels: 99 of 100 texts mention no finding" in each for each in told) == 1
    written = [each for each in told if each.startswith("reports: ")]
    assert [each.split("about ")[-1].split()[0] for each in written[:2]] == ["16", "100"]
    assert written[2] == "reports: 100 rows are seen for the calibration, and nothing is written"
