from dataclasses import replace

import numpy as np
import pytest
import torch
from support.searches import searching

from medward.attacks.base import AttackData
from medward.attacks.evasion import PGD
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.whitebox.ascent import network_decisions, projected_ascent
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.losses import cross_entropy
from medward.guard.policy import Policy

POLICY = Policy(on_error="flag")
ATTACK = PGD(epsilon=0.12, steps=15, restarts=1)


def run(attack, deployed, data, *, seed=0, **parts):
    return attack.run(deployed.target(attack.threat, **parts), data, seed=seed)


@pytest.fixture(scope="module")
def few(attack_data):
    return AttackData(craft=attack_data.craft.take(slice(0, 120)), test=attack_data.test.take(slice(0, 60)))


@pytest.fixture(scope="module")
def result(plain, attack_data):
    return run(ATTACK, plain, attack_data)


@pytest.fixture(scope="module")
def rows(plain, attack_data):
    x = torch.as_tensor(attack_data.test.inputs)
    return x, network_decisions(plain.network, x)


def attacked(deployed, rows, epsilon, *, steps=15, seed=0):
    ball = Ball.of(deployed.spec, rows[0].numpy(), epsilon)
    return worst_case_pgd(searching(deployed.network, ball, seed), *rows, steps=steps, restarts=1)


def test_it_beats_noise_and_a_single_step(plain, rows, result):
    ball = Ball.of(plain.spec, rows[0].numpy(), ATTACK.epsilon)
    single = projected_ascent(searching(plain.network, ball), *rows, loss=cross_entropy, steps=1, random_start=False)
    assert result.outcome.mean() > 0.5
    assert result.outcome.mean() >= float(single.won.float().mean()) > result.baseline.mean()
    assert result.flags == ()


def test_success_never_falls_as_the_radius_grows_and_is_zero_at_zero(plain, rows):
    success = [float(attacked(plain, rows, e).won.float().mean()) for e in (0.0, 0.03, 0.06, 0.12, 0.25)]
    assert success[0] == 0
    assert success == sorted(success)
    assert success[-1] > 0.9


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.6])
def test_every_example_is_valid_and_in_the_ball(plain, rows, epsilon):
    found = attacked(plain, rows, epsilon, steps=4).adversarial
    assert float((found - rows[0]).abs().max()) <= epsilon + 1e-6
    assert found.min() >= 0
    assert found.max() <= 1


def test_what_won_really_is_decided_otherwise(plain, rows):
    found = attacked(plain, rows, 0.12)
    assert torch.equal(network_decisions(plain.network, found.adversarial) != rows[1], found.won)


def test_leaving_won_rows_alone_saves_gradients(plain, rows):
    found = attacked(plain, rows, 0.25)
    assert found.gradients < 0.7 * len(rows[0]) * 15


def test_same_seed_same_result(plain, few):
    first, again = (run(replace(ATTACK, steps=5), plain, few) for _ in range(2))
    assert np.array_equal(again.outcome, first.outcome)
    assert again.curves == first.curves


def test_the_attacker_who_knows_the_screen_gets_past_it(plain, few, screened, margins):
    parts = {"oracle": screened, "profile": margins}
    naive = run(ATTACK, plain, few, **parts)
    knowing = run(ATTACK.adaptive(POLICY), plain, few, **parts)
    assert knowing.outcome.mean() > naive.outcome.mean() + 0.1


def test_two_classes_are_enough(linear_model):
    torch.manual_seed(0)
    network = torch.nn.Linear(3, 2).requires_grad_(False)
    x = torch.randn(50, 3)
    y = network_decisions(network, x)
    ball = Ball(torch.full((3,), 5.0))
    assert worst_case_pgd(searching(network, ball), x, y, steps=10, restarts=1).won.all()
