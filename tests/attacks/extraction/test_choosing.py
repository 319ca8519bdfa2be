"""How thieves choose what to ask: farthest points, nearest boundaries, clusters that pay, classes that are rare."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.thefts import Planted, spec_of
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction import ActiveThief, AdaptivePool
from medward.attacks.extraction.active import entropy, k_centers
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.copycat import balanced_rows
from medward.attacks.extraction.deepfool import boundary_distance
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


def linear(weight, bias):
    net = nn.Linear(len(weight[0]), len(weight))
    with torch.no_grad():
        net.weight.copy_(torch.tensor(weight))
        net.bias.copy_(torch.tensor(bias))
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("classes", [2, 5])
def test_deepfool_finds_the_distance_to_a_linear_boundary(classes):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(classes, 6)).astype(np.float32)
    net = linear(weight.tolist(), [0.0] * classes)
    x = rng.normal(size=(50, 6)).astype(np.float32)
    logits = x @ weight.T
    exact = np.full(50, np.inf)
    for i, own in enumerate(logits.argmax(axis=1)):
        for other in set(range(classes)) - {own}:
            gap = abs(logits[i, other] - logits[i, own]) / np.linalg.norm(weight[other] - weight[own])
            exact[i] = min(exact[i], gap)
    found = boundary_distance(net, x)
    assert (found >= exact - 1e-3).all()
    assert np.mean(np.abs(found - exact) < 0.05 * exact + 1e-3) > 0.9
    assert len(boundary_distance(net, x[:0])) == 0


def test_k_centers_cover_what_is_not_covered_yet():
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], float)
    points = np.concatenate([corners + 0.01, corners - 0.01])
    taken = k_centers(points, corners[:1], 3)
    assert {tuple(point) for point in points[taken].round()} == {(0, 1), (1, 0), (1, 1)}
    assert len(set(k_centers(np.zeros((5, 2)), np.zeros((0, 2)), 5))) == 5, "equal points are still taken once each"


def test_entropy_is_largest_where_the_clone_knows_nothing():
    assert entropy(np.array([[0.5, 0.5], [1.0, 0.0]])) == pytest.approx([np.log(2), 0])


@pytest.mark.parametrize("by", ["entropy", "dfal"])
def test_an_active_thief_asks_about_rows_near_the_boundary_once_it_has_a_clone(by):
    pool = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)
    data = AttackData(craft=Split(pool[:0]), test=Split(pool[:0]), pool=pool)
    asker = ActiveThief(by=by).open(data, spec_of("tabular", 2), seed=0)
    first = asker.ask(50, StolenAnswers(pool[:0], np.zeros((0, 2))), None)
    clone = linear([[1.0, 0, 0, 0, 0, 0], [-1.0, 0, 0, 0, 0, 0]], [0.0, 0.0])
    chosen = asker.ask(50, StolenAnswers(first, np.full((50, 2), 0.5)), clone)
    assert np.abs(chosen[:, 0]).max() < np.median(np.abs(pool[:, 0]))
    assert not (chosen[:, None] == first[None]).all(axis=2).any(), "no row is asked twice"
    left = asker.ask(500, StolenAnswers(pool[:100], np.full((100, 2), 0.5)), clone)
    assert len(left) == 200


def test_the_bandit_comes_back_to_the_cluster_that_pays():
    """Every cluster answers one class for sure, but one answers all sorts, which its clone cannot know."""
    rng = np.random.default_rng(0)
    centers = 10 * np.eye(6)[:4]
    own = rng.integers(4, size=2000)
    pool = (centers[own] + rng.normal(0, 0.1, (2000, 6))).astype(np.float32)
    data = AttackData(craft=Split(pool[:0]), test=Split(pool[:0]), pool=pool)
    asker = AdaptivePool(clusters=4).open(data, spec_of("tabular", 5), seed=0)
    clone = linear([[0.0] * 6] * 5, [9.0, 0.0, 0.0, 0.0, 0.0])
    inputs, targets = pool[:0], np.zeros((0, 5))
    for _ in range(25):
        new = asker.ask(16, StolenAnswers(inputs, targets), clone)
        rich = new[:, 2] > 5
        answers = np.eye(5)[np.where(rich, rng.integers(1, 5, len(new)), 0)]
        inputs, targets = np.concatenate([inputs, new]), np.concatenate([targets, answers])
    share = (inputs[200:, 2] > 5).mean()
    assert share > 0.5 > (own == 2).mean() + 0.2
    assert len(np.unique(inputs, axis=0)) == len(inputs)


def test_the_bandit_leaves_a_cluster_that_is_withheld():
    rng = np.random.default_rng(1)
    own = rng.integers(4, size=2000)
    pool = (10 * np.eye(6)[own] + rng.normal(0, 0.1, (2000, 6))).astype(np.float32)
    asker = AdaptivePool(clusters=4).open(
        AttackData(craft=Split(pool[:0]), test=Split(pool[:0]), pool=pool), spec_of("tabular", 2), seed=0
    )
    inputs, targets = pool[:0], np.zeros((0, 2))
    for _ in range(25):
        new = asker.ask(16, StolenAnswers(inputs, targets), None)
        certain = rng.uniform(0.5, 1, len(new))
        answers = np.where((new[:, 2] > 5)[:, None], np.nan, np.stack([certain, 1 - certain], axis=1))
        inputs, targets = np.concatenate([inputs, new]), np.concatenate([targets, answers])
    assert (inputs[200:, 2] > 5).mean() < 0.15


def test_rare_classes_weigh_as_much_as_common_ones():
    labels = np.array([0] * 10 + [1] * 3 + [4])
    rows = balanced_rows(labels)
    assert np.bincount(labels[rows]).tolist() == [10, 10, 0, 0, 10]
    assert set(rows) == set(range(14))


def test_unknown_ways_to_choose_and_missing_pools_are_said():
    with pytest.raises(MedwardError, match="by: must be one of entropy"):
        ActiveThief(by="guess")
    victim = Planted("tabular", 2)
    with pytest.raises(MedwardError, match="needs a pool"):
        AdaptivePool().open(AttackData(craft=victim.data().craft, test=victim.data().test), victim.spec, seed=0)
