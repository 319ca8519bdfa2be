"""The inner maximisation stays in its ball, climbs, and leaves the network as it was."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.faint import EPSILON
from torch.nn import functional as F

from medward.guard.harden.losses.classes import ClassLosses, network_balanced_accuracy
from medward.guard.harden.robust.inner import TrainingBall, climb_shared, frozen_statistics, inner_ascent
from medward.guard.harden.robust.retraining import iterative_fgsm


@pytest.fixture
def rows(data):
    return torch.from_numpy(data[1].inputs), torch.from_numpy(data[1].labels)


def ascent(network, x, y, ball, steps=5, step=0.5):
    start = ball.random(tuple(x.shape), torch.Generator().manual_seed(0))
    return inner_ascent(
        network, x, start, ball, lambda s: F.cross_entropy(s, y, reduction="sum"), steps=steps, step=step
    )


@given(st.floats(1e-3, 10), st.floats(-3, 0), st.floats(0.5, 3), st.integers(0, 100))
def test_projection_and_clipping_keep_their_bounds_and_change_nothing_inside(epsilon, low, high, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(6, 2, 3, 3, generator=generator)
    ball = TrainingBall.around(x, epsilon, low, high)
    delta = 20 * torch.randn(6, 2, 3, 3, generator=generator)
    assert ball.project(delta).abs().max() <= epsilon * (1 + 1e-6)
    assert torch.equal(ball.project(ball.project(delta)), ball.project(delta))
    assert ball.clip(x).min() >= low
    assert ball.clip(x).max() <= high
    drawn = ball.random((50, 2, 3, 3), generator)
    assert torch.equal(ball.project(drawn), drawn)
    assert drawn.abs().max() > 0.8 * epsilon


def test_a_table_has_a_radius_in_each_columns_own_spread():
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0, 0.0])
    ball = TrainingBall.around(x, 0.5, None, None)
    assert torch.allclose(ball.radius, 0.5 * x.std(dim=0))
    assert ball.project(torch.ones(1, 3))[0, 2] == 0, "a constant column may not move"
    assert torch.equal(ball.clip(x * 1e6), x * 1e6)


def test_climbing_finds_what_noise_does_not_and_stays_inside(victim, rows):
    x, y = rows
    ball = TrainingBall.around(x, EPSILON, 0.0, 1.0)
    changed, noisy = ascent(victim, x, y, ball), ascent(victim, x, y, ball, steps=0)
    assert (changed - x).abs().max() <= EPSILON * (1 + 1e-5)
    assert changed.min() >= 0
    assert changed.max() <= 1
    with torch.no_grad():
        assert network_balanced_accuracy(y, victim(changed).argmax(1)) < 0.1
        assert network_balanced_accuracy(y, victim(noisy).argmax(1)) > 0.9


def test_a_network_in_training_mode_is_searched_without_moving_its_statistics(victim, rows):
    x, y = rows
    network = copy.deepcopy(victim).train()
    network[4].eval()
    state, flags = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    ball = TrainingBall.around(x, EPSILON, 0.0, 1.0)
    numbers = torch.random.get_rng_state()
    ascent(network, x, y, ball)
    climb_shared(network, x, y, ball, ClassLosses(), goal=1, epochs=1, batch=32, generator=torch.Generator())
    iterative_fgsm(network, x[:4, None].expand(-1, 2, -1, -1, -1), ball, ClassLosses(), step=0.5)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert [module.training for module in network.modules()] == flags
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), numbers), "dropout was on"


def test_flags_are_put_back_after_an_error(victim):
    network = copy.deepcopy(victim).train()
    with pytest.raises(RuntimeError), frozen_statistics(network):
        network(torch.zeros(1, 9))
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("goal", [None, 0, 1])
def test_one_change_for_all_rows_reaches_its_goal(goal, victim, rows):
    x, y = rows
    ball = TrainingBall.around(x, EPSILON, 0.0, 1.0)
    generator = torch.Generator().manual_seed(0)
    delta = climb_shared(victim, x, y, ball, ClassLosses(), goal=goal, epochs=4, batch=16, generator=generator)
    assert delta.shape == (1, 1, 8, 8)
    assert delta.abs().max() <= EPSILON * (1 + 1e-6)
    with torch.no_grad():
        decided = victim(ball.clip(x + delta)).argmax(1)
    assert (decided != y if goal is None else decided == goal).float().mean() > (0.35 if goal is None else 0.9)


def test_the_papers_perturbations_are_several_and_each_is_in_the_ball(victim, rows):
    x, y = rows
    ball = TrainingBall.around(x, EPSILON, 0.0, 1.0)
    order = np.stack([np.random.default_rng(i).permutation(len(x)) for i in range(3)], axis=1)
    deltas = iterative_fgsm(victim, x[order], ball, ClassLosses(), step=0.5)
    assert deltas.shape == (3, 1, 8, 8)
    assert deltas.abs().max() <= EPSILON * (1 + 1e-6)
    assert not torch.equal(deltas[0], deltas[1])
    with torch.no_grad():
        fooled = [(victim(ball.clip(x + delta)).argmax(1) != y).float().mean() for delta in deltas]
    assert max(fooled) > 0.3


def test_balanced_accuracy_weighs_classes_alike():
    y = torch.tensor([0] * 90 + [1] * 10)
    assert network_balanced_accuracy(y, torch.zeros(100)) == 0.5
    assert network_balanced_accuracy(y, y) == 1
