"""Label F1 is what a count gives, falls where reports are another image's, and words alone do not raise it."""

import numpy as np
import pytest
from support.toy_reports import toy_report_data

from medward.attacks.benchmarks.reports.facts import ImageFacts
from medward.attacks.benchmarks.reports.report_scores import (
    NORMAL_LABEL,
    f1_score,
    fact_labels,
    label_scores,
    report_labels,
    text_scores,
)
from medward.guard.errors import MedwardError
from medward.guard.tasks.report_reader import Mention

FINDINGS = ("pneumonia", "effusion")
DATA = toy_report_data(400)
TRAIN = DATA.splits["train"]
NORMAL = "No pneumonia. No effusion. Both lungs are clear. No acute process."


def scores_of(texts, **settings):
    return label_scores(fact_labels(TRAIN.facts, FINDINGS), report_labels(texts, FINDINGS), FINDINGS, **settings)


def test_references_score_one():
    scores = scores_of(TRAIN.reports)
    for each in (scores.micro, scores.findings_micro, scores.macro, *scores.labels.values()):
        assert (each.value, each.low, each.high) == (1.0, 1.0, 1.0)


def test_the_scores_are_those_of_a_count():
    facts = [ImageFacts(findings={"pneumonia": meant}) for meant in [Mention.PRESENT] * 10 + [Mention.ABSENT] * 10]
    texts = ["Possible pneumonia."] * 6 + ["No pneumonia."] * 4 + ["Pneumonia."] * 2 + ["Clear lungs."] * 8
    scores = label_scores(fact_labels(facts, FINDINGS), report_labels(texts, FINDINGS), FINDINGS)
    assert scores.labels["pneumonia"].value == pytest.approx(2 * 6 / (8 + 10))
    assert scores.labels[NORMAL_LABEL].value == pytest.approx(2 * 8 / (12 + 10))
    assert scores.references == {"pneumonia": 10, "effusion": 0, NORMAL_LABEL: 10}
    assert "effusion" not in scores.labels
    assert scores.micro.value == pytest.approx(2 * 14 / (20 + 20))
    assert scores.macro.value == pytest.approx((2 * 6 / 18 + 2 * 8 / 22) / 2)
    assert scores.micro.low < scores.micro.value < scores.micro.high
    assert f1_score(np.array([0.0]), np.array([0.0])) == 1.0


def test_a_finding_that_no_label_knows_is_no_normal_report():
    assert report_labels(["A fracture is seen.", "No fracture.", ""], FINDINGS).tolist() == [
        [False, False, False],
        [False, False, True],
        [False, False, True],
    ]


def test_shuffled_references_score_as_chance_does():
    shuffled = [TRAIN.reports[at] for at in np.random.default_rng(0).permutation(len(TRAIN))]
    scores = scores_of(shuffled)
    assert scores.micro.high < 0.75 < 1.0
    assert scores.micro.value == pytest.approx(scores_of(list(reversed(shuffled))).micro.value, abs=0.12)


def test_a_model_that_always_says_normal_finds_nothing():
    scores = scores_of([NORMAL] * len(TRAIN))
    assert scores.findings_micro.high == 0.0
    assert scores.labels["pneumonia"].value == scores.labels["effusion"].value == 0.0
    share = np.mean([not each.present for each in TRAIN.facts])
    assert scores.labels[NORMAL_LABEL].value == pytest.approx(2 * share / (1 + share))
    assert scores.macro.value == pytest.approx(scores.labels[NORMAL_LABEL].value / 3)


def test_intervals_of_patients_are_wider_than_those_of_their_rows():
    texts = [report if at % 8 < 4 else NORMAL for at, report in enumerate(TRAIN.reports)]
    rows = scores_of(texts).findings_micro
    patients = scores_of(texts, patients=np.arange(len(TRAIN)) // 4).findings_micro
    assert patients.value == rows.value
    assert patients.n == len(TRAIN) // 4
    assert patients.high - patients.low > 1.2 * (rows.high - rows.low)


def test_tables_that_are_not_alike_are_refused():
    truth = fact_labels(TRAIN.facts, FINDINGS)
    with pytest.raises(MedwardError, match="read the same rows"):
        label_scores(truth, truth[1:], FINDINGS)
    with pytest.raises(MedwardError, match="none has 10 references; judge more rows"):
        label_scores(truth[:3], truth[:3], FINDINGS)


def test_texts_are_alike_by_words_whatever_they_find():
    pytest.importorskip("sacrebleu")
    pytest.importorskip("rouge_score")
    same = text_scores(TRAIN.reports[:40], TRAIN.reports[:40])
    assert same.bleu == pytest.approx(1.0)
    assert same.rouge_l == pytest.approx(1.0)
    assert same.meteor > 0.99
    other = text_scores(TRAIN.reports[:40], TRAIN.reports[40:80])
    assert max(other.bleu, other.rouge_l, other.meteor) < 0.8
    nonsense = text_scores(TRAIN.reports[:40], ["quick brown fox"] * 40)
    assert max(nonsense.bleu, nonsense.rouge_l, nonsense.meteor) < 0.01
    wrong = text_scores(["No pleural effusion is seen today."], ["A pleural effusion is seen today."])
    assert wrong.rouge_l > 0.7  # what words alone cannot tell
    with pytest.raises(MedwardError, match="one for each reference"):
        text_scores(TRAIN.reports[:2], TRAIN.reports[:1])


def test_stems_count_for_meteor_and_synonyms_do_not():
    pytest.importorskip("nltk")
    assert text_scores(["effusions seen"], ["effusion seen"]).meteor > 0.9
    assert text_scores(["large effusion seen"], ["big effusion seen"]).meteor < 0.9
