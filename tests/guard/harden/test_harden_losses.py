"""Losses say of tensors what the tasks say of arrays: the same decisions, the same errors, goals that are goals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medward.guard.data.number_quality import measure_numbers
from medward.guard.harden.division import selection_strata
from medward.guard.harden.losses.table import losses_of
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, packed_findings
from medward.guard.tasks.regression import Regression

THREE = ("a", "b", "c")
TASKS = {
    "classes": Classification(classes=THREE, output="logits"),
    "probabilities": Classification(classes=THREE, output="probabilities"),
    "operated": Classification(classes=THREE[:2], output="logits", threshold=0.1),
    "operated probabilities": Classification(classes=THREE[:2], output="probabilities", threshold=0.7),
    "one logit": Classification(classes=THREE[:2], output="logits", threshold=0.3, one_column=True),
    "one probability": Classification(classes=THREE[:2], output="probabilities", one_column=True),
    "findings": Multilabel(findings=THREE, output="logits", thresholds=(0.5, 0.1, 0.9)),
    "finding probabilities": Multilabel(findings=THREE, output="probabilities", thresholds=(0.5, 0.1, 0.9)),
    "number": Regression(tolerance=0.5),
    "number with cut points": Regression(tolerance=0.5, cut_points=(-0.25, 1.0)),
}


def raw_outputs(task, rows=200, seed=0):
    """What a network of `task` may give, in single precision."""
    columns = 1 if isinstance(task, Regression) or getattr(task, "one_column", False) else len(task.names)
    z = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (rows, columns)).astype(np.float32))
    if task.output != "probabilities":
        return z
    alone = isinstance(task, Multilabel) or columns == 1
    return torch.sigmoid(z) if alone else torch.softmax(z, dim=1)


def labels_for(task, rows=200, seed=1):
    rng = np.random.default_rng(seed)
    if isinstance(task, Multilabel):
        return packed_findings(rng.random((rows, 3)) < 0.4)
    return rng.normal(0, 2, rows) if isinstance(task, Regression) else rng.integers(len(task.classes), size=rows)


def as_decision(task, decided):
    """What losses decided, as the task writes it."""
    if isinstance(task, Multilabel):
        return packed_findings(decided.numpy())
    return task.decide(decided.numpy()[:, None]) if isinstance(task, Regression) else decided.numpy()


@pytest.mark.parametrize("name", TASKS)
def test_decisions_on_tensors_are_the_tasks_own(name):
    task, losses = TASKS[name], losses_of(TASKS[name])
    raw = raw_outputs(task, rows=2000)
    decided = losses.decide(losses.read(raw))
    own = task.decide(task.read(raw.numpy(), "model"))
    np.testing.assert_array_equal(as_decision(task, decided), own)
    assert len(set(own.tolist())) > 1


@pytest.mark.parametrize("name", TASKS)
def test_the_truth_is_right_and_what_never_looks_is_at_chance(name):
    task = TASKS[name]
    y = losses_of(task).targets(labels_for(task, rows=4000))
    losses = losses_of(task).balanced(y)
    assert losses.accuracy(y, y) == 1
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    assert losses.accuracy(y, shuffled) <= losses.chance(y) + 0.03
    assert not losses.changed(y, y).any()


@pytest.mark.parametrize("name", TASKS)
def test_every_goal_is_climbed_by_what_it_says(name):
    task = TASKS[name]
    y = losses_of(task).targets(labels_for(task))
    losses = losses_of(task).balanced(y)
    for goal in losses.goals:
        raw = raw_outputs(TASKS[name])
        scores = losses.read(raw).detach().requires_grad_(True)
        (slope,) = torch.autograd.grad(losses.gain(scores, y, goal).sum(), scores)
        moved = losses.decide(scores + 60 * slope.sign())
        if goal is None:
            assert losses.accuracy(y, moved) < 0.2
        elif isinstance(task, Regression):
            assert ((moved - losses.decide(scores)) * goal > 50).all()
        else:
            assert (moved == goal).all()


@pytest.mark.parametrize("name", TASKS)
def test_a_divergence_is_nothing_for_the_same_scores_and_grows(name):
    losses = losses_of(TASKS[name])
    scores = losses.read(raw_outputs(TASKS[name]))
    other = losses.read(raw_outputs(TASKS[name], seed=5))
    assert losses.divergences(scores, scores).abs().max() < 1e-5
    near, far = (losses.divergences(scores, scores + share * (other - scores)) for share in (0.1, 1.0))
    assert (far > near).all()
    assert near.min() > -1e-6


def test_rare_findings_count_as_much_as_common_ones():
    task = TASKS["findings"]
    y = torch.tensor([[1.0, 0, 0]] * 5 + [[0.0, 1, 0]] * 45 + [[0.0, 0, 1]] * 50)
    losses = losses_of(task).balanced(y)
    wrong = 5 * (1 - 2 * y)
    for column in range(3):
        missed = torch.where((torch.arange(3) == column) & (y > 0), wrong, -wrong)
        raised = torch.where((torch.arange(3) == column) & (y == 0), wrong, -wrong)
        assert losses.batch_loss(missed, y) == pytest.approx(float(losses.batch_loss(raised, y)), rel=1e-5)
        assert losses.loss(missed, y) == pytest.approx(float(losses.batch_loss(missed, y)), rel=1e-5)
        assert losses.accuracy(y, losses.decide(missed)) == pytest.approx(1 - 0.5 / 3)


@given(st.integers(0, 50), st.sampled_from([(), (0.1,), (-1.0, 0.3, 2.0)]), st.floats(0.05, 3))
def test_the_share_within_the_tolerance_is_that_of_the_card(seed, cut_points, tolerance):
    task = Regression(tolerance=tolerance, cut_points=cut_points)
    losses = losses_of(task)
    rng = np.random.default_rng(seed)
    truth, own = rng.normal(size=50), rng.normal(size=(50, 1))
    card = measure_numbers(own, truth, task)
    assert losses.accuracy(losses.targets(truth), losses.decide(torch.from_numpy(own))) == pytest.approx(card.within)


def test_numbers_are_trained_in_their_own_spread():
    y = torch.tensor([90.0, 100.0, 110.0, 120.0], dtype=torch.float64)
    small, large = (losses_of(TASKS["number"]).balanced(scale * y) for scale in (1, 1000))
    scores = torch.tensor([[95.0], [100.0], [130.0], [100.0]])
    assert small.loss(scores, y) == pytest.approx(float(large.loss(1000 * scores, 1000 * y)), rel=1e-5)
    assert small.loss(scores, y) > 0


def test_rows_that_choose_the_epoch_hold_every_finding_and_the_whole_range():
    task = TASKS["findings"]
    found = np.zeros((200, 3), bool)
    found[:, 0] = np.arange(200) % 2
    found[:10, 1] = True
    found[3, 2] = True
    strata = selection_strata(packed_findings(found), task)
    assert [int((strata == stratum).sum()) for stratum in np.unique(strata)] == [1, 9, 95, 95]
    numbers = np.random.default_rng(0).normal(size=100)
    assert np.bincount(selection_strata(numbers, TASKS["number"])).tolist() == [20] * 5
    np.testing.assert_array_equal(selection_strata(np.array([2, 0, 1]), None), [2, 0, 1])
