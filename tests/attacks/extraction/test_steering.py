"""Rows moved on a clone: they stay near, reach their goals, and spread what is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.thefts import Planted, spec_of
from torch import nn

from medward.attacks.extraction import DFME, Alignment, Jacobian, SemiSupervised
from medward.attacks.extraction.alignment import wanted_classes
from medward.attacks.extraction.base import StolenAnswers, clone_decisions
from medward.attacks.extraction.steering import steer_towards
from medward.attacks.whitebox.ball import Ball
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError


def skewed():
    """A linear network on images that takes most for class 0; brighter parts make the others."""
    net = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(4, 3))
    with torch.no_grad():
        net[2].weight.copy_(4 * torch.eye(4)[:3])
        net[2].bias.copy_(torch.tensor([0.6, 0.0, 0.0]))
    return net.eval().requires_grad_(False)


def images(n, seed=0):
    return np.random.default_rng(seed).uniform(0, 1, (n, 1, 8, 8)).astype(np.float32)


@pytest.mark.parametrize("steps", [1, 10])
def test_steered_rows_stay_near_and_reach_their_goals(steps):
    net, x = skewed(), images(600)
    ball = Ball.of(spec_of("image", 3), x, 0.4)
    goals = np.random.default_rng(1).integers(3, size=600)
    moved = steer_towards(net, x, goals, ball, steps=steps, generator=torch.Generator().manual_seed(0))
    assert np.abs(moved - x).max() <= 0.4 + 1e-6
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert np.mean(clone_decisions(net, moved) == goals) > np.mean(clone_decisions(net, x) == goals) + 0.3
    still = steer_towards(None, x, goals, ball, steps=steps, generator=torch.Generator().manual_seed(0))
    assert np.abs(still - x).max() <= 0.4 + 1e-6
    assert np.mean(clone_decisions(net, still) == goals) < np.mean(clone_decisions(net, x) == goals) + 0.1
    assert len(steer_towards(net, x[:0], goals[:0], ball, steps=steps, generator=torch.Generator())) == 0


def test_a_round_moves_rows_asked_before_and_none_twice():
    victim, strategy = Planted("image", 2), Jacobian(seeds=20, step=20, epochs=2, epsilon=0.1)
    asker = strategy.open(victim.data(), victim.spec, seed=0)
    loot = StolenAnswers(images(0), np.zeros((0, 2)))
    for count in (20, 20, 40, 80):
        new = asker.ask(count, loot, None)
        assert len(new) == count
        if len(loot):
            gap = np.abs(new[:, None] - loot.inputs[None]).reshape(count, len(loot), -1).max(axis=2)
            assert gap.min(axis=1).max() <= 0.1 + 1e-6
            assert gap.min(axis=1).min() > 1e-4
        answers = np.eye(2)[victim.logits(new).argmax(axis=1)]
        loot = StolenAnswers(np.concatenate([loot.inputs, new]), np.concatenate([loot.targets, answers]))


@pytest.mark.parametrize(("modality", "epsilon"), [("tabular", 0.3), ("image", 0.15)])
def test_a_round_crosses_to_other_classes(modality, epsilon):
    victim = Planted(modality, 3)
    asker = Jacobian(seeds=60, step=60, epochs=30, epsilon=epsilon).open(victim.data(), victim.spec, seed=0)
    first = asker.ask(60, StolenAnswers(victim.rows(0, 0), np.zeros((0, 3))), None)
    own = victim.logits(first).argmax(axis=1)
    second = asker.ask(60, StolenAnswers(first, np.eye(3)[own]), None)
    parent = np.abs(second[:, None] - first[None]).reshape(60, 60, -1).max(axis=2).argmin(axis=1)
    assert np.mean(victim.logits(second).argmax(axis=1) != own[parent]) > 0.25


def test_goals_are_rarer_classes():
    share = wanted_classes(np.eye(3)[[0] * 9 + [1]])
    assert share.sum() == pytest.approx(1)
    assert share == pytest.approx(np.array([0.1, 0.5, 1.0]) / 1.6)
    assert wanted_classes(np.zeros((0, 4))) == pytest.approx([0.25] * 4)


def test_alignment_spreads_the_answers_from_the_first_clone_on():
    net, pool = skewed(), images(800, 2)
    data = replace(Planted("image", 2).data(), pool=pool)
    asker = Alignment(epsilon=0.3).open(data, spec_of("image", 3), seed=0)
    loot, shares = StolenAnswers(pool[:0], np.zeros((0, 3))), []
    for clone in (None, net):
        for _ in range(8):
            new = asker.ask(50, loot, clone)
            answers = np.eye(3)[clone_decisions(net, new)]
            loot = StolenAnswers(np.concatenate([loot.inputs, new]), np.concatenate([loot.targets, answers]))
        shares.append(loot.targets[-400:].mean(axis=0))
    rows = pool.reshape(800, -1)
    gaps = np.abs(loot.inputs.reshape(800, 1, -1) - rows[asker.asked][:, None]).max(axis=(1, 2))
    assert gaps[:400].max() == 0 < gaps[400:].max() <= 0.3 + 1e-6
    assert shares[0].max() > 0.8
    assert shares[1].max() < 0.6


@pytest.mark.parametrize("strategy", [Jacobian(), SemiSupervised()])
def test_a_thief_without_the_rows_it_needs_says_so(strategy):
    victim = Planted("tabular", 2)
    bare = replace(victim.data(), craft=Split(victim.rows(0, 0)))
    with pytest.raises(MedwardError, match="needs in-distribution rows"):
        strategy.open(bare, victim.spec, seed=0)


def test_settings_out_of_bounds_are_refused():
    with pytest.raises(MedwardError, match="at least 1"):
        Jacobian(seeds=0)
    with pytest.raises(MedwardError, match="probed from 1 to batch"):
        DFME(batch=10, probed=11)
