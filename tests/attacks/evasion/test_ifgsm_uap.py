from dataclasses import replace

import numpy as np
import pytest
import torch
from support.searches import searching

from medward.attacks.evasion import IterativeFGSM, UniversalPerturbation
from medward.attacks.evasion.ifgsm_uap import INNER, mended_ifgsm, published_ifgsm, zeta_radius
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.criterion import ANY_CLASS
from medward.attacks.whitebox.search import Search
from medward.guard.policy import Policy

BALL = Ball(torch.full((1, 1, 1), 0.3), 0.0, 1.0)
ROWS = 120


@pytest.fixture(scope="module")
def rows(plain, attack_data):
    x = torch.as_tensor(attack_data.craft.inputs[:ROWS])
    return x, network_decisions(plain.network, x)


@pytest.fixture(scope="module")
def repaired(plain, rows):
    return mended_ifgsm(searching(plain.network, BALL), *rows, passes=2)


def as_published(network, rows, *, ball=BALL, goal=None, step=INNER, passes=2, seed=0):
    return published_ifgsm(searching(network, ball, seed, goal=goal), *rows, step=step, passes=passes)


def test_the_published_loop_stalls_at_zero_where_no_single_step_flips_and_the_mended_one_does_not(
    plain, rows, repaired
):
    stalled = as_published(plain.network, rows)
    assert stalled.success == 0.0
    assert not stalled.delta.any()
    assert stalled.gradients == 2 * ROWS
    assert repaired.success > 0.5


def test_with_a_step_that_flips_the_published_loop_moves_but_does_not_clip(plain, rows):
    wide = replace(BALL, radius=torch.full((1, 1, 1), 0.6))
    found = as_published(plain.network, rows, ball=wide, step=0.3)
    moved = rows[0] + found.delta
    assert found.success > 0.3
    assert found.success == pytest.approx(float((network_decisions(plain.network, moved) != rows[1]).float().mean()))
    assert moved.min() < 0
    assert found.delta.abs().max() <= 0.6 + 1e-6


def test_the_published_loop_takes_sign_steps_even_for_the_norm_2_and_keeps_its_ball(plain, rows):
    found = as_published(plain.network, rows, ball=replace(BALL, norm="2"), step=0.3, passes=1)
    assert found.delta.square().sum().sqrt() <= 0.3 + 1e-5
    assert found.delta.any()


def test_the_published_success_counts_rows_that_were_there_already(plain, rows):
    x, y = rows
    stalled = as_published(plain.network, rows, goal=3, passes=1)
    assert not stalled.delta.any()
    assert stalled.success == pytest.approx(float((y == 3).float().mean()))
    honest = mended_ifgsm(searching(plain.network, BALL, goal=3), x[y != 3], y[y != 3], passes=0)
    assert honest.success == 0.0


def test_the_mended_success_is_that_of_its_best_clipped_perturbation(plain, rows, repaired):
    x, y = rows
    moved = network_decisions(plain.network, (x + repaired.delta).clamp(0, 1))
    assert repaired.success == max(repaired.history)
    assert repaired.success == pytest.approx(float((moved != y).float().mean()))
    again = mended_ifgsm(searching(plain.network, BALL), x, y, passes=2)
    assert torch.equal(repaired.delta, again.delta)


@pytest.mark.parametrize(("norm", "radius"), [("inf", 0.3), ("2", 1.8)])
def test_held_out_it_beats_noise_of_the_same_norm(plain, rows, attack_data, norm, radius):
    ball = Ball(torch.full((1, 1, 1), radius), 0.0, 1.0, norm)
    generator = torch.Generator().manual_seed(0)
    found = mended_ifgsm(Search(plain.network, ANY_CLASS, ball, generator), *rows, passes=1)
    x = torch.as_tensor(attack_data.test.inputs)
    y, noise = network_decisions(plain.network, x), ball.surface((1, 1, 8, 8), generator)
    fooled, noisy = (
        (network_decisions(plain.network, (x + d).clamp(0, 1)) != y).float().mean() for d in (found.delta, noise)
    )
    assert fooled > noisy + 0.2
    assert ball.size(found.delta).max() <= 1 + 1e-5


def test_the_norm_of_channel_0_alone_is_sqrt_3_too_small_on_rgb():
    images = np.random.default_rng(0).uniform(size=(50, 3, 16, 16)).astype(np.float32)
    whole, first = (zeta_radius(images, 0.04, norm="2", first_channel=trap) for trap in (False, True))
    assert whole / first == pytest.approx(np.sqrt(3), rel=0.02)
    assert zeta_radius(images * 2 - 1, 0.04, low=-1.0) == pytest.approx(2 * zeta_radius(images, 0.04))
    assert zeta_radius(np.ones((2, 1, 4, 4)), 0.04) == pytest.approx(0.04)


def test_a_run_of_the_published_form_says_that_it_changed_nothing(plain, attack_data):
    few = replace(attack_data, craft=attack_data.craft.take(slice(0, 30)), test=attack_data.test.take(slice(0, 60)))
    attack = IterativeFGSM(epsilon=0.3, passes=1, faithful=True)
    result = attack.run(plain.target(attack.threat), few, seed=0)
    assert attack.name == "ifgsm-uap-as-published"
    assert not result.outcome.any()
    assert any("changed nothing" in flag for flag in result.flags)
    knowing = attack.adaptive(Policy(on_error="flag"))
    assert isinstance(knowing, UniversalPerturbation)
    assert knowing.epsilon == 0.3
