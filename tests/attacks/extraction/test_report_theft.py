"""Report models are stolen by their texts, within a budget, and not from behind a guard that says nothing."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import get_args

import numpy as np
import pytest
import torch
from support.report_models import report_guard, report_images, report_policy, report_spec
from support.report_thefts import (
    QUERIES,
    STEP,
    STUDENT,
    ReportVictim,
    coarse_images,
    own_texts,
    text_thief,
    unrelated,
    withheld_half,
)
from support.thefts import Planted
from torch import nn

from medward.attacks.base import ACCURACY, LABEL_F1, PER_CLASS, AttackData
from medward.attacks.extraction import Knockoff
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.judge import CloneJudge, label_f1
from medward.attacks.extraction.reports import (
    AdaSteal,
    CausalOracle,
    ComparingTheft,
    FolderStudent,
    ReportClone,
    SameReports,
    TextDistillation,
)
from medward.attacks.extraction.reports.ada_steal import StealingParts
from medward.attacks.extraction.reports.clone import ImageSource, learned_texts, source_images
from medward.attacks.target import guarded_oracle
from medward.attacks.validation.journal import settings_of
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError

DISTILLATION = TextDistillation(student=STUDENT)
ADA_STEAL = AdaSteal(student=STUDENT, step=STEP, epochs=1, steps=3)
PLAIN = text_thief(DISTILLATION)


@pytest.fixture(scope="module")
def stolen():
    return ReportVictim().stolen(PLAIN)


def gain(result):
    return float(np.mean(result.outcome) - np.mean(result.baseline))


def test_a_clone_that_writes_gains_over_a_thief_without_a_victim(stolen):
    assert gain(stolen) > 0.4
    assert stolen.flags == ()
    assert stolen.curves[f"clone{LABEL_F1}"][1][-1] > stolen.curves[f"no victim{LABEL_F1}"][1][-1] + 0.2
    for name in ("effusion", "cardiomegaly", "pneumothorax"):
        assert stolen.curves[f"clone{PER_CLASS}{name}"][1][-1] > 0.2
        assert stolen.curves[f"no victim{PER_CLASS}{name}"][1][-1] == 0
        assert stolen.curves[f"clone{LABEL_F1} of {name}"][1][-1] > 0.6
    truth = stolen.curves[f"clone{LABEL_F1}{ACCURACY}"]
    assert truth == stolen.curves[f"clone{LABEL_F1}"], "true labels are the victim's own here"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "epochs"),
    [(ADA_STEAL, 10), (ComparingTheft(student=STUDENT, periods=1), 8)],
    ids=["ada-steal", "lord-like"],
)
def test_other_text_thieves_gain_too_and_keep_to_the_budget(strategy, epochs):
    victim = ReportVictim()
    result = victim.stolen(text_thief(strategy, epochs=epochs))
    assert gain(result) > 0.2
    assert result.queries == len(victim.rows) == QUERIES


def test_a_thief_of_findings_alone_steals_report_models_as_well():
    victim = ReportVictim()
    result = victim.stolen(Knockoff(labels="hard", queries=QUERIES, points=1, epochs=15))
    assert gain(result) > 0.3


@pytest.mark.parametrize("strategy", [DISTILLATION, ADA_STEAL], ids=["knockoff", "ada-steal"])
def test_behind_a_guard_that_withholds_nothing_is_learned(strategy):
    victim = ReportVictim()
    guard = report_guard(victim.model, report_policy(budget={"total_bits": 1.0}))  # which covers no answer
    watched = ReportVictim(guarded_oracle(guard, fresh=True))
    result = watched.stolen(text_thief(replace(strategy, step=20), queries=40))
    assert len(watched.rows) == result.queries == 40
    assert gain(result) == 0
    np.testing.assert_array_equal(result.outcome, result.baseline)


def test_answers_that_have_nothing_to_do_with_images_teach_nothing():
    result = ReportVictim(answer=unrelated).stolen(PLAIN)
    assert gain(result) < 0.1


def test_rows_withheld_do_not_stop_a_thief():
    result = ReportVictim(answer=withheld_half).stolen(PLAIN)
    assert gain(result) > 0.2


def test_kept_runs_of_two_text_thieves_are_never_taken_for_each_other():
    strategies = (
        *(AdaSteal(parts=parts) for parts in get_args(StealingParts)),
        AdaSteal(oracle=SameReports()),
        AdaSteal(oracle=CausalOracle(folder="here")),
        AdaSteal(student=FolderStudent(folder="here")),
        *(TextDistillation(source=source) for source in get_args(ImageSource)),
        *(ComparingTheft(source=source) for source in get_args(ImageSource)),
    )
    kept = [settings_of(text_thief(each)) for each in strategies]
    assert all(one != two for one, two in combinations(kept, 2))


def test_where_findings_alone_leave_a_thief_writes_of_those():
    victim = ReportVictim()
    task = victim.model.spec.task
    guard = report_guard(victim.model, report_policy(release={"level": "label"}, screen={"action": "allow"}))
    response = guarded_oracle(guard, fresh=True)(coarse_images(20, 5))
    assert response.texts == (None,) * 20
    sets = np.array([task.said_in(text) for text in own_texts(coarse_images(20, 5))]) > 0
    texts = learned_texts(StolenAnswers(coarse_images(20, 5), sets.astype(float), response.texts), task)
    np.testing.assert_array_equal(np.array([task.said_in(text) for text in texts]) > 0, sets)
    assert len(set(texts)) > 2


@pytest.mark.parametrize("parts", ["plain", "enrich", "align", "both"])
def test_ablations_ask_what_they_say_within_radius_range_and_budget(parts):
    victim, ada_steal = ReportVictim(), replace(ADA_STEAL, parts=parts, epochs=1, considered=2)
    result = victim.stolen(text_thief(ada_steal, queries=2 * STEP, epochs=1))
    asked, pool = victim.rows, victim.data().pool
    assert result.queries == len(asked) == 2 * STEP
    nearest = np.array([np.abs(pool - row).reshape(len(pool), -1).max(axis=1).min() for row in asked])
    assert (nearest[:STEP] == 0).all(), "the first round has nothing to move towards"
    moved = nearest[STEP:] > 0
    assert moved.all() if parts == "align" else moved.any() == (parts == "both")
    assert nearest.max() <= ada_steal.epsilon + 1e-6
    assert asked.min() >= 0
    assert asked.max() <= 1
    plain = ReportVictim()
    plain.stolen(text_thief(replace(ada_steal, parts="plain"), queries=2 * STEP, epochs=1))
    np.testing.assert_array_equal(asked[:STEP], plain.rows[:STEP])
    assert np.array_equal(asked, plain.rows) == (parts == "plain")


@pytest.mark.parametrize("parts", ["enrich", "both"])
def test_with_an_oracle_that_changes_nothing_a_thief_is_the_plain_one(parts):
    asked = []
    for settings in ({"parts": parts, "oracle": SameReports()}, {"parts": "plain"}):
        victim = ReportVictim()
        victim.stolen(text_thief(replace(ADA_STEAL, **settings), epochs=1))
        asked.append(victim.rows)
    np.testing.assert_array_equal(*asked)


def test_diluted_and_many_accounts_run_on_the_same_loop():
    victim = ReportVictim()
    thief = text_thief(DISTILLATION, pool_share=0.25, accounts=None, queries=80, epochs=2)
    assert thief.name == "knockoff-text-diluted-sybil"
    result = victim.stolen(thief)
    craft = {row.tobytes() for row in victim.data().craft.inputs}
    assert sum(row.tobytes() in craft for row in victim.rows) == 60
    assert result.queries == 80


@pytest.mark.slow
def test_who_knows_public_labels_of_like_images_gains_little_from_a_victim(stolen):
    victim = ReportVictim()
    data, images = victim.data(), victim.data().craft.inputs
    known = Split(images, victim.model.spec.decide(victim.model.predict(images).scores))
    thief = text_thief(replace(DISTILLATION, source="in-domain"), labelled=True)
    assert thief.name == "in-domain-text-labelled"
    result = thief.run(victim.target(thief.threat), replace(data, craft=known), seed=0)
    assert np.mean(result.baseline) > np.mean(stolen.baseline) + 0.2
    assert gain(result) < gain(stolen) / 2


def test_sources_are_what_they_say():
    victim = ReportVictim()
    data, spec = victim.data(), victim.model.spec
    noise = source_images("noise", data, spec, 0)
    assert noise.shape == data.pool.shape
    assert 0.28 < noise.std() < 0.3  # of an even draw from 0 to 1
    np.testing.assert_array_equal(source_images("in-domain", data, spec, 0), data.craft.inputs)
    names = [TextDistillation(source=each).name for each in ("pool", "in-domain", "noise")]
    assert names == ["knockoff", "in-domain", "noise"]
    with pytest.raises(MedwardError, match="source: must be one of pool, in-domain, noise"):
        source_images("web", data, spec, 0)


def test_the_same_seed_writes_the_same_clone():
    loot = StolenAnswers(coarse_images(40, 7), np.zeros((40, 3)), tuple(own_texts(coarse_images(40, 7))))
    victim = ReportVictim()
    clones = []
    for seed in (0, 0, 1):
        chooser = DISTILLATION.open(victim.data(), victim.model.spec, seed=0)
        clones.append(chooser.learn(loot, epochs=2, seed=seed))
    assert all(isinstance(each, ReportClone) for each in clones)
    same, again, other = (each.student.writer.network.decoder.lm_head.weight for each in clones)
    assert (same == again).all()
    assert not (same == other).all()


def test_models_of_classes_are_no_prey_of_text_thieves():
    victim = Planted("image", 3)
    with pytest.raises(MedwardError, match="a text thief learns from reports; use knockoff or copycat"):
        PLAIN.run(victim.target(PLAIN.threat), victim.data(), seed=0)


def test_label_f1_of_a_few_cases():
    truth = np.array([[True, False], [True, True], [False, False]])
    assert label_f1(truth, truth) == 1
    assert label_f1(~truth, truth) == 0
    assert label_f1(np.zeros_like(truth), truth) == 0  # a report that always says normal
    assert label_f1(np.zeros_like(truth), np.zeros_like(truth)) == 1
    assert label_f1(np.ones_like(truth), truth) == pytest.approx(2 * 3 / (6 + 3))


class Constant(nn.Module):
    """Says the same findings of every image."""

    def __init__(self, found):
        super().__init__()
        self.logits = torch.where(torch.tensor(found), 5.0, -5.0)

    def forward(self, x):
        return self.logits.repeat(len(x), 1)


def test_who_always_says_one_finding_is_no_better_than_who_says_none():
    spec = report_spec()
    sets = np.array([1] * 60 + [0] * 60)  # half have the first finding alone, half none
    test = Split(coarse_images(120, 1), sets)
    judge = CloneJudge(AttackData(craft=test, test=test, reference=sets), spec)
    for found in ([True, False, False], [False] * 3):
        judge.note(1, Constant(found), None)
    one, none = judge.curves()[f"clone{LABEL_F1}{ACCURACY}"][1]
    assert one == none == 0.5
    assert label_f1(np.ones(120, bool), sets > 0) > 0.6, "the finding alone would favour the first"


def test_a_guard_sees_noise_that_the_bare_model_answers():
    victim = ReportVictim()
    guard = report_guard(victim.model, report_policy())
    odd = np.ones((3, 1, 16, 16), np.float32)
    response = guarded_oracle(guard, fresh=True)(odd)
    assert response.texts == (None,) * 3
    assert (response.labels == -1).all()
    told = guarded_oracle(guard, fresh=True)(report_images(3, 50))
    assert all(told.texts)
