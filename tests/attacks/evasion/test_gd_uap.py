from dataclasses import replace

import numpy as np
import pytest
import torch
from support.searches import searching

from medward.attacks.evasion import DataFree
from medward.attacks.evasion.gd_uap import RANGE_IMAGES, gd_uap
from medward.attacks.evasion.setup import EvasionSetup
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.guard.errors import MedwardError

BALL = Ball(torch.full((1, 1, 1), 0.35), 0.0, 1.0)
SHAPE = (1, 8, 8)


def found(network, *, prior="range", seed=0, ball=BALL, steps=80):
    return gd_uap(searching(network, ball, seed), SHAPE, steps=steps, prior=prior)


@pytest.mark.parametrize("prior", ["range", "none"])
def test_without_any_image_it_beats_noise_of_the_same_norm(plain, attack_data, prior):
    x = torch.as_tensor(attack_data.test.inputs)
    y = network_decisions(plain.network, x)
    signs = [BALL.surface((1, *SHAPE), torch.Generator().manual_seed(seed)) for seed in range(5)]
    noisy = max(float((network_decisions(plain.network, (x + d).clamp(0, 1)) != y).float().mean()) for d in signs)
    crafted = found(plain.network, prior=prior)
    assert float((network_decisions(plain.network, (x + crafted.delta).clamp(0, 1)) != y).float().mean()) > noisy + 0.1
    assert crafted.delta.abs().max() <= 0.35 + 1e-6


def test_a_run_judges_it_like_every_universal_attack_and_reads_no_craft_row(plain, attack_data, monkeypatch):
    monkeypatch.setattr(EvasionSetup, "flags", lambda *_, **__: ())
    attack = DataFree(epsilon=0.35, steps=80)
    few = replace(attack_data, craft=attack_data.craft.take(slice(0, 9)))
    result, other = (attack.run(plain.target(attack.threat), data, seed=0) for data in (attack_data, few))
    assert np.array_equal(result.images["perturbation"], other.images["perturbation"])
    assert result.outcome.mean() > result.baseline.mean()
    assert result.gradients == 80 * RANGE_IMAGES


def test_it_sees_layers_that_are_plain_function_calls(plain):
    body = plain.network.body

    class Functional(torch.nn.Module):
        def forward(self, x):
            for layer in body:
                if isinstance(layer, torch.nn.Conv2d):
                    x = torch.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
                else:
                    x = layer(x)
            return x

    assert torch.equal(found(Functional(), steps=3).delta, found(plain.network, steps=3).delta)


def test_same_seed_same_result_and_another_seed_another(plain):
    first, again, other = (found(plain.network, seed=seed, steps=5).delta for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_what_it_cannot_do_it_says(plain, attack_data):
    class Blind(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3]

    with pytest.raises(MedwardError, match="no convolution or linear layer"):
        found(Blind(), steps=1)
    with pytest.raises(MedwardError, match="needs inputs with bounds"):
        found(plain.network, ball=Ball(torch.full((1, 1, 1), 0.3)))
    attack = DataFree(epsilon=0.3, steps=2, target_class=1)
    with pytest.raises(MedwardError, match="there is no class to aim at"):
        attack.run(plain.target(attack.threat), attack_data, seed=0)
