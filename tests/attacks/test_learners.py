"""What attackers learn of each task: values that decide as the model does, whatever left of its answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tasks import CUT, FINDINGS, MONTHS, WHOLE, PlantedTask, rows_of, spec_of

from medward.attacks.base import AttackData
from medward.attacks.learners.numbers import cell_middles
from medward.attacks.learners.table import (
    group_names,
    learner_of,
    matches_labels,
    row_groups,
    task_balanced_accuracy,
)
from medward.attacks.target import Response
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.tasks.classification import Classification
from medward.guard.types import Level

RISK = Classification(classes=("no effusion", "effusion"), output="logits", threshold=0.1)
THREE = Classification(classes=("a", "b", "c"), output="probabilities")
TASKS = {"risk": RISK, "findings": FINDINGS, "months": MONTHS, "cut": CUT}


@pytest.fixture(params=TASKS)
def task(request):
    return TASKS[request.param]


@pytest.mark.parametrize("level", [Level.FULL, Level.ROUNDED, Level.LABEL])
def test_what_is_learned_of_an_answer_decides_as_the_answer(task, level):
    victim = PlantedTask(task, level=level)
    learner, x = learner_of(victim.spec), rows_of(300, 5)
    targets = learner.targets(victim(x))
    assert targets.shape == (300, learner.width)
    assert np.isfinite(targets).all()
    np.testing.assert_array_equal(learner.decided(targets), victim(x).labels)
    assert len(np.unique(learner.decided(targets))) > 1


def test_what_was_withheld_teaches_nothing(task):
    victim = PlantedTask(task)
    learner, response = learner_of(victim.spec), victim(rows_of(4, 5))
    nothing = Response(np.full(4, -1), np.full_like(response.scores, np.nan), response.output)
    assert np.isnan(learner.targets(nothing)).all()
    with pytest.raises(MedwardError, match="none of the 4 training rows"):
        learner.fit(victim.spec, rows_of(4, 5), learner.targets(nothing), epochs=1, seed=0)


def test_a_network_learns_the_task_and_not_from_noise(task):
    victim = PlantedTask(task)
    learner, x, new = learner_of(victim.spec), rows_of(600, 5), rows_of(300, 6)
    targets = learner.targets(victim(x))

    def agreement(answers):
        import torch

        network = learner.fit(victim.spec, x, answers, epochs=30, seed=0)
        values = learner.values(network(torch.as_tensor(new)).double().numpy())
        return learner.same(learner.targets(victim(new)), values).mean()

    constant = np.broadcast_to(learner.constant(targets), (300, learner.width))
    blind = learner.same(learner.targets(victim(new)), constant).mean()
    assert agreement(targets) > blind + 0.15
    shuffled = targets[np.random.default_rng(0).permutation(600)]
    assert agreement(shuffled) < blind + 0.1


def test_true_labels_learned_are_operated_at_the_thresholds():
    learner = learner_of(spec_of(FINDINGS))
    odds = np.log(np.array(FINDINGS.thresholds) / (1 - np.array(FINDINGS.thresholds)))
    import torch

    class Odds(torch.nn.Module):
        def forward(self, x):
            return torch.as_tensor(np.stack([odds - 0.01, odds + 0.01]), dtype=torch.float32)

    values = learner.values(learner.operated(Odds())(torch.zeros(2, 6)).numpy())
    assert learner.decided(values).tolist() == [0, 0b111]
    plain = learner.values(Odds()(torch.zeros(2, 6)).numpy())
    assert learner.decided(plain).tolist() != [0, 0b111], "the control: without operating them they decide at one half"


@given(st.lists(st.integers(0, 7), min_size=1, max_size=40))
def test_the_best_constant_set_agrees_at_least_as_often_as_any_other(sets):
    learner = learner_of(spec_of(FINDINGS))
    values = learner.known(np.array(sets))
    best = learner.same(values, np.broadcast_to(learner.constant(values), values.shape)).mean()
    assert all(
        best >= learner.same(values, np.broadcast_to(learner.known(np.array([each])), values.shape)).mean()
        for each in range(8)
    )


def test_findings_are_compared_with_a_constant_answer():
    learner = learner_of(spec_of(FINDINGS))
    truth = learner.known(np.array([0b001, 0b000, 0b011, 0b010]))
    assert learner.parts(truth, truth) == {"nodule": 0.5, "effusion": 0.5}, "mass is never there"
    constant = np.broadcast_to(learner.known(np.array([0b001])), truth.shape)
    assert learner.parts(constant, truth) == {"nodule": 0.0, "effusion": 0.0}


@given(st.floats(-1e4, 1e4))
def test_the_middle_of_a_cell_lies_in_it(number):
    for task in (MONTHS, CUT):
        cell = task.decide(np.array([[number]]))
        assert task.decide(cell_middles(task, cell)) == cell
    assert abs(cell_middles(MONTHS, MONTHS.decide(np.array([[number]])))[0, 0] - number) <= MONTHS.tolerance / 2 + 1e-6


def test_numbers_are_compared_by_the_tolerance():
    learner = learner_of(spec_of(MONTHS))
    assert learner.same(np.array([[0.0], [0.0]]), np.array([[1.9], [2.1]])).tolist() == [True, False]
    constant = learner.constant(np.array([[1.0], [9.0], [2.0]]))
    assert learner.same(np.array([[1.0], [9.0], [2.0]]), np.full((3, 1), constant)).sum() == 2, "the most there can be"
    with pytest.raises(MedwardError, match="judged by the model's own"):
        learner.reference(AttackData(craft=Split(rows_of(1, 0)), test=Split(rows_of(1, 0))))


def test_nothing_can_be_learned_of_outputs_that_nobody_reads():
    with pytest.raises(MedwardError, match="gives a mask, which leaves whole or not at all"):
        learner_of(spec_of(WHOLE))


@pytest.mark.parametrize(
    ("task", "decided", "groups"),
    [
        (THREE, [0, 2, 2], {"a": [0], "c": [1, 2]}),
        (FINDINGS, [0b001, 0b011, 0], {"nodule": [0, 1], "effusion": [1], "no finding": [2]}),
        (CUT, [0, 2, 0], {"below -4 months": [0, 2], "5 months or more": [1]}),
        (MONTHS, [0, 2, 4], {}),
        (WHOLE, [3, 2**61, 3], {}),
    ],
)
def test_rows_are_grouped_by_what_was_decided(task, decided, groups):
    found = row_groups(task, np.array(decided))
    assert {name: np.flatnonzero(rows).tolist() for name, rows in found.items()} == groups
    assert set(groups) <= set(group_names(task))


def test_labels_are_matched_by_the_task():
    numbers = np.array([[1.0], [8.0]])
    assert matches_labels(MONTHS, numbers, np.array([2.5, 4.0])).tolist() == [True, False]
    assert matches_labels(THREE, np.eye(3), np.array([0, 1, 1])).tolist() == [True, True, False]
    found = np.array([[9.0, 9.0, -9.0], [-9.0, -9.0, -9.0]])
    assert matches_labels(FINDINGS, found, np.array([0b011, 0b001])).tolist() == [True, False]
    assert task_balanced_accuracy(FINDINGS, found, np.array([0b011, 0b000])) == 1.0
    assert task_balanced_accuracy(FINDINGS, found, np.array([0b000, 0b011])) == 0.0
    assert task_balanced_accuracy(MONTHS, numbers, np.array([2.5, 4.0])) is None
