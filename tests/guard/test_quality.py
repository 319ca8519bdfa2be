"""Labels say how well a model does: exchanged class names are refused, doubt is told, honest models pass."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from medward.guard.data.quality import (
    balanced_accuracy,
    by_chance,
    exchanged_names,
    mean_auc,
    measure_quality,
    sign_test,
)
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SPEC = ModelSpec(
    name="m", modality="tabular", shape=(2,), task=Classification(classes=("normal", "effusion"), output="logits")
)
FIVE = replace(SPEC, task=replace(SPEC.task, classes=tuple("abcde")))


def two(signal, *, n=300, share=0.2, shift=0.0, seed=0):
    """Logits and labels of a two-class model whose score carries so much `signal`; `shift` moves its threshold."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < share).astype(np.int64)
    score = signal * (labels - 0.5) + rng.normal(size=n) - shift
    return np.stack([-score, score], 1) / 2, labels


def several(signal, order=range(5), *, n=400, seed=0):
    """Logits and labels of a five-class model whose class k gets its score at place ``order[k]``."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 5, n)
    return signal * np.eye(5)[np.asarray(order)[labels]] + rng.normal(size=(n, 5)), labels


def judge(scores, labels, spec=SPEC, patients=None):
    return measure_quality(scores, scores.argmax(1), labels, spec, patients)


def test_the_figures_are_what_they_say():
    scores, labels = two(2.0)
    found = judge(scores, labels)
    decided = scores.argmax(1)
    recalls = [(decided[labels == k] == k).mean() for k in (0, 1)]
    assert found.accuracy == (decided == labels).mean()
    assert found.balanced_accuracy == pytest.approx(np.mean(recalls))
    positive, negative = scores[labels == 1, 1], scores[labels == 0, 1]
    assert found.auc == pytest.approx((positive[:, None] > negative).mean(), abs=1e-9)
    assert (found.rows, found.classes) == (300, 2)
    assert str(found).startswith("on 300 labelled calibration rows: accuracy 0.")
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert judge(
        probabilities, labels, replace(SPEC, task=replace(SPEC.task, output="probabilities"))
    ).auc == pytest.approx(found.auc)


def test_a_good_model_passes_without_a_doubt():
    for seed in range(20):
        assert judge(*two(2.0, seed=seed)).doubt == ""
        assert judge(*several(3.0, seed=seed), FIVE).doubt == ""


def test_a_weak_but_honest_model_on_few_rows_is_warned_at_most():
    told = [judge(*two(0.2, n=80, seed=seed)).doubt for seed in range(60)]
    assert any("no better than chance" in each for each in told)
    for seed in range(60):
        judge(*several(0.2, n=80, seed=seed), FIVE)


def test_a_screening_model_that_always_answers_negative_is_told_but_not_refused():
    found = judge(*two(1.5, shift=5.0))
    assert found.balanced_accuracy == 0.5
    assert found.auc > 0.8
    assert "balanced accuracy 0.500, chance gives 0.500" in found.doubt


def test_exchanged_names_of_two_classes_are_refused():
    scores, labels = two(2.0)
    with pytest.raises(MedwardError, match=r"names look exchanged: 'effusion' .*AUC 0\.\d+; with normal and effusion"):
        judge(scores[:, ::-1], labels)
    positives = np.flatnonzero(labels)[:5]
    few = np.concatenate([positives, np.flatnonzero(labels == 0)])
    with pytest.raises(MedwardError, match="exchanged"):
        judge(two(4.0)[0][few][:, ::-1], labels[few])
    with pytest.raises(MedwardError, match="exchanged"):  # at whatever threshold it decides
        judge(two(1.5, shift=5.0)[0][:, ::-1], labels)


@pytest.mark.parametrize("order", [[1, 0, 2, 3, 4], [1, 2, 3, 4, 0], [4, 3, 2, 1, 0]])
def test_any_other_order_of_many_classes_is_refused_by_the_names_that_moved(order):
    scores, labels = several(4.0, order)
    moved = [(FIVE.classes[k], FIVE.classes[order[k]]) for k in range(5) if order[k] != k]
    with pytest.raises(MedwardError, match="exchanged") as refused:
        judge(scores, labels, FIVE)
    for own, other in moved:
        assert f"{own!r} are decided as {other!r}" in str(refused.value)


def test_labels_counted_from_one_are_found_though_a_class_is_absent():
    scores, labels = several(4.0)
    kept = labels < 4
    with pytest.raises(MedwardError, match="'b' are decided as 'a'"):
        judge(scores[kept], labels[kept] + 1, FIVE)


def test_an_exchange_on_too_few_rows_is_only_told():
    scores, labels = several(4.0, [1, 0, 2, 3, 4], n=40)
    assert judge(scores, labels, FIVE).doubt.startswith(
        "the class names may be exchanged: rows labelled 'a' are decided as 'b', 'b' are decided as 'a'; give --classes"
    )
    assert judge(*several(4.0, n=40), FIVE).doubt == ""


def test_two_classes_that_a_model_confuses_are_no_exchange():
    """Naive: "another class is answered most" refuses a model that calls every e a d."""
    scores, labels = several(4.0, [0, 1, 2, 3, 3])
    assert (scores.argmax(1)[labels == 4] == 3).mean() > 0.9
    assert judge(scores, labels, FIVE).doubt == ""
    assert exchanged_names(scores.argmax(1), labels, 5) is None


def test_rows_of_one_patient_are_one_piece_of_evidence():
    """Naive: 60 copies of three patients' rows make a certainty of three."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(10), 30)
    labels = (patients % 2).astype(np.int64)
    wrong = rng.normal(size=10)[patients] * 0.1 - (labels - 0.5)
    scores = np.stack([-wrong, wrong], 1)
    judge(scores, labels, patients=patients)
    with pytest.raises(MedwardError, match="exchanged"):
        judge(scores, labels)


def test_one_class_alone_shows_neither_chance_nor_exchange():
    scores, labels = two(2.0)
    alone = labels == 0
    found = judge(scores[alone], labels[alone])
    assert (found.auc, found.chance, found.doubt) == (None, None, "")
    assert judge(scores[alone][:, ::-1], labels[alone]).accuracy < 0.5


def test_the_test_of_chance_holds_its_level_and_sees_skill():
    rng = np.random.default_rng(0)
    p = [by_chance(rng.integers(0, 3, 60), rng.integers(0, 3, 60), orders=99, seed=i) for i in range(200)]
    assert 0.01 < np.mean(np.array(p) <= 0.05) < 0.1
    labels = rng.integers(0, 3, 60)
    assert by_chance(labels, labels) == 0.001
    assert by_chance(np.zeros(60, int), labels) == 1


def test_pure_parts():
    assert sign_test(0, 0) == 1
    assert sign_test(10, 0) == pytest.approx(2**-10)
    assert sign_test(5, 5) == pytest.approx(0.623, abs=1e-3)
    assert sign_test(0, 9) == pytest.approx(1)
    assert sign_test(40_000, 10_000) < 1e-100
    labels = np.array([0, 0, 0, 2])
    assert balanced_accuracy(np.array([0, 0, 1, 2]), labels) == pytest.approx((2 / 3 + 1) / 2)
    assert mean_auc(np.eye(3)[labels], labels) == 1


@pytest.mark.parametrize(("classes", "said"), [(("event", "no-event"), True), (("no-event", "event"), False)])
def test_a_threshold_that_is_meant_for_the_first_class_is_told(classes, said):
    """scikit-learn sorts names: of event and no-event the second is no finding."""
    scores, labels = two(2.0, n=1000, share=0.18, shift=1.0)  # the second class is the rare finding
    if said:
        scores, labels = scores[:, ::-1], 1 - labels
    spec = replace(SPEC, task=replace(SPEC.task, classes=classes, threshold=0.1))
    found = measure_quality(scores, spec.decide(scores), labels, spec)
    assert bool(found.other_way) is said
    if said:
        assert "'no-event' is decided from that probability on" in found.doubt
        assert "if 'event' is the finding, give --threshold 0.9" in found.doubt
        turned = replace(spec, task=replace(spec.task, threshold=0.9))
        assert measure_quality(scores, turned.decide(scores), labels, turned).other_way == ""
