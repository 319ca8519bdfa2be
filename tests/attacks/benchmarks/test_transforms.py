import pytest
import torch
from support.searches import searching

from medward.attacks.benchmarks.transforms import FewerLevels, MedianFilter, Transformed
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.network import as_attacker_sees
from medward.guard.errors import MedwardError


def test_the_transformation_looks_robust_until_the_attacker_goes_straight_through_it(body, digits):
    network = Transformed(body, bits=4, side=1)
    x = torch.as_tensor(digits.inputs[1400:1450])
    y = network_decisions(network, x)
    ball = Ball(torch.full((1, 1, 1), 0.15), 0.0, 1.0)
    blind, seeing = (
        worst_case_pgd(searching(each, ball), x, y, steps=10, restarts=1)
        for each in (network, as_attacker_sees(network))
    )
    assert blind.won.float().mean() < 0.2
    assert seeing.won.float().mean() > 0.6
    assert torch.equal(network_decisions(network, seeing.adversarial) != y, seeing.won)


def test_levels_are_as_few_as_said_and_nearest():
    x = torch.linspace(-1, 1, 1001).view(1, 1, 1, -1)
    rounded = FewerLevels(2, -1.0, 1.0)(x)
    assert torch.allclose(rounded.unique(), torch.tensor([-1, -1 / 3, 1 / 3, 1]))
    assert (rounded - x).abs().max() <= 1 / 3 + 1e-6


def test_the_median_removes_a_lone_pixel_and_keeps_an_edge():
    x = torch.zeros(1, 2, 7, 7)
    x[..., 3:] = 1.0
    alone = x.clone()
    alone[0, :, 2, 1] = 1.0
    assert torch.equal(MedianFilter(3)(alone), x)


def test_bad_settings_are_refused(body):
    with pytest.raises(MedwardError, match="bits: must be from 1 to 8, got 9"):
        Transformed(body, bits=9)
    with pytest.raises(MedwardError, match="side: must be odd"):
        Transformed(body, side=2)
