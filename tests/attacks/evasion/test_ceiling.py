"""No classifier is right about two rows of different classes that can be moved to one point."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer

from medward.attacks.base import AttackData, AttackResult, Attempt
from medward.attacks.evasion import PGD, UniversalPerturbation
from medward.attacks.evasion.ceiling import (
    Ceiling,
    ball_reach,
    meeting_pairs,
    model_ceiling,
    robust_ceiling,
    unavoidable_share,
)
from medward.attacks.evasion.family import Evasion
from medward.attacks.validation.family import Runs
from medward.attacks.validation.finding import Status
from medward.attacks.validation.gate import judge_cell
from medward.attacks.whitebox.ball import Ball
from medward.guard.data.split import Split
from medward.guard.policy import GatePolicy
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification


def least_wrong(inputs, labels, reach):
    """By brute force: the fewest rows that leave no two of different classes which meet."""
    n = len(inputs)
    pairs = [
        (i, j)
        for i, j in itertools.combinations(range(n), 2)
        if labels[i] != labels[j] and (np.abs(inputs[i] - inputs[j]) <= 2 * reach).all()
    ]
    for size in range(n + 1):
        for wrong in itertools.combinations(range(n), size):
            if all(i in wrong or j in wrong for i, j in pairs):
                return size
    raise AssertionError


@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0.05, 1.0))
def test_with_two_classes_it_is_the_least_that_any_classifier_gets_wrong(seed, n, radius):
    rng = np.random.default_rng(seed)
    inputs, labels = rng.uniform(size=(n, 2)), rng.integers(2, size=n)
    reach = np.array([radius, radius / 2])
    assert robust_ceiling(inputs, labels, reach) == pytest.approx(1 - least_wrong(inputs, labels, reach) / n)


@given(st.integers(0, 10_000), st.floats(0.05, 0.6))
def test_with_more_classes_it_is_never_below_what_is_possible(seed, radius):
    rng = np.random.default_rng(seed)
    inputs, labels = rng.uniform(size=(8, 2)), rng.integers(3, size=8)
    reach = np.full(2, radius)
    assert robust_ceiling(inputs, labels, reach) >= 1 - least_wrong(inputs, labels, reach) / 8 - 1e-12


def test_rows_of_one_class_and_rows_far_apart_are_no_limit():
    rows = np.array([[0.0], [0.1], [5.0]])
    assert robust_ceiling(rows, np.zeros(3, int), np.ones(1)) == 1
    assert robust_ceiling(rows, np.array([0, 0, 1]), np.ones(1)) == 1
    assert robust_ceiling(rows, np.array([0, 1, 1]), np.ones(1)) == pytest.approx(2 / 3)
    assert robust_ceiling(rows[:0], np.zeros(0, int), np.ones(1)) == 1


def test_what_nobody_can_change_keeps_rows_apart_and_whole_numbers_move_in_whole_steps():
    rows, labels = np.array([[0.0, 1.0], [0.5, 2.0]]), np.array([0, 1])
    ball = Ball(torch.tensor([0.5, 0.9]), whole=torch.tensor([False, True]))
    assert ball_reach(ball, (2,)).tolist() == [0.5, 0.0]
    assert robust_ceiling(rows, labels, ball_reach(ball, (2,))) == 1
    assert robust_ceiling(rows, labels, np.array([0.5, 0.9])) == 0.5
    images = Ball(torch.full((1, 1, 1), 0.1))
    assert ball_reach(images, (1, 2, 2)).tolist() == pytest.approx([0.1] * 4)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_the_pairs_are_those_of_every_pair_compared(norm, monkeypatch):
    monkeypatch.setattr("medward.attacks.evasion.ceiling._FEATURES", 3)
    monkeypatch.setattr("medward.attacks.evasion.ceiling._PAIRS", 7)
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(12, 8)), rng.normal(size=(15, 8))
    first[:, 7] = second[:, 7] = 1.0
    reach = np.append(rng.uniform(0.5, 1.5, 7), 0.0)
    found = set(zip(*(each.tolist() for each in meeting_pairs(first, second, reach, norm)), strict=True))
    gaps = np.abs(first[:, None] - second[None])[..., :7] / reach[:7]
    size = gaps.max(axis=2) if norm == "inf" else np.sqrt((gaps**2).sum(axis=2))
    assert found == set(zip(*(each.tolist() for each in np.nonzero(size <= 2)), strict=True))
    assert 0 < len(found) < 180


def test_the_breast_cancer_table_has_the_ceilings_that_are_published_of_it():
    """As notes of an independent computation have it: 1.000 up to .3 of a deviation, .738 at one."""
    data = load_breast_cancer()
    deviation = data.data.std(axis=0)
    found = {share: robust_ceiling(data.data, data.target, share * deviation) for share in (0.25, 0.3, 0.5, 1.0)}
    assert found == {
        0.25: 1.0,
        0.3: 1.0,
        0.5: pytest.approx(0.949, abs=5e-4),
        1.0: pytest.approx(0.738, abs=5e-4),
    }


def test_an_accurate_classifier_can_be_moved_where_none_can_be_right():
    assert unavoidable_share(0.98, 0.738) == pytest.approx(0.242)
    assert unavoidable_share(0.6, 0.738) == 0


TASK = Classification(classes=("benign", "malignant"), output="logits")
SPEC = ModelSpec(name="toy", modality="tabular", shape=(1,), task=TASK)


def one_column(gap):
    """100 rows, each `gap` apart from a row of the other class; the model is right about all."""
    x, labels = np.repeat(np.arange(50) * 100.0, 2), np.tile([0, 1], 50)
    inputs = (x + gap * labels)[:, None].astype(np.float32)
    return AttackData(craft=Split(inputs, labels), test=Split(inputs, labels), reference=labels)


def judged(data, epsilon, fooled, limit=0.2):
    rows = np.arange(100) < fooled
    attempt = Attempt(radius=epsilon, fooled=rows, noisy=rows & False, decided=data.test.labels)
    result = AttackResult(outcome=rows, baseline=rows & False, attempts=(attempt,))
    results = dict.fromkeys(("undefended", "guarded", "adaptive"), result)
    cell = Evasion().judge(Runs(attack=PGD(epsilon=epsilon), results=results, spec=SPEC, seed=0, held=data))
    return cell, judge_cell(cell, limit, GatePolicy())


def test_a_row_says_where_no_classifier_could_keep_the_bound():
    near, far = one_column(1.0), one_column(30.0)
    epsilon = 5.0 / float(near.craft.inputs.std())
    cell, (status, reasons) = judged(near, epsilon, fooled=90)
    assert cell.ceiling == Ceiling(highest=0.5, accuracy=1.0)
    assert cell.figures["least fooled at this clean accuracy"] == 0.5
    assert status is Status.BROKEN
    assert "No classifier that is right about 100.0% of these rows" in " ".join(reasons)
    cell, (status, reasons) = judged(far, epsilon, fooled=90)
    assert cell.ceiling.highest == 1
    assert status is Status.BROKEN
    assert "No classifier" not in " ".join(reasons), "the control: here a classifier could"


def test_a_row_that_is_not_broken_is_not_broken_by_its_ceiling():
    near = one_column(1.0)
    _, (status, reasons) = judged(near, 5.0 / float(near.craft.inputs.std()), fooled=5)
    assert status is not Status.BROKEN
    assert "No classifier" not in " ".join(reasons)


def test_without_labels_or_decisions_or_for_one_change_for_all_there_is_no_ceiling():
    data = one_column(1.0)
    bare = replace(data, test=Split(data.test.inputs))
    for held in (bare, replace(data, reference=None)):
        assert model_ceiling(PGD(epsilon=1.0), SPEC, held) is None
    results = {"undefended": AttackResult(outcome=np.zeros(0, bool))}
    runs = Runs(attack=UniversalPerturbation(epsilon=1.0), results=results, spec=SPEC, seed=0, held=data)
    assert Evasion().judge(runs).ceiling is None
