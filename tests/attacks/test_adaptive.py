import pytest
import torch
from support.searches import searching

from medward.attacks.base import AttackData
from medward.attacks.evasion import FGSM
from medward.attacks.evasion.pgd import worst_case_pgd
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.forward import input_gradient, scores_and_features
from medward.attacks.whitebox.network import ExpectedOverRandomness, StraightThrough, as_attacker_sees, passes_per_call
from medward.guard.errors import MedwardError


class Steps(torch.nn.Module):
    def forward(self, x):
        return torch.round(x * 15) / 15


class Shaken(torch.nn.Module):
    """Moves each value by at most a hundredth, with a slope so steep and random that the true one drowns in it."""

    def forward(self, x):
        return x + 0.01 * torch.sign(torch.randn_like(x)) * torch.sin(700 * x)


class Front(torch.nn.Module):
    """The digits model behind a front end."""

    def __init__(self, front, network):
        super().__init__()
        self.front, self.network = front, network

    def both(self, x):
        return self.network.both(self.front(x))

    def forward(self, x):
        return self.both(x)[0]


class Stepped(Front):
    def differentiable_surrogate(self):
        return self.network


class Random(Front):
    def randomness(self):
        return 20


@pytest.fixture(scope="module")
def rows(plain, attack_data):
    x = torch.as_tensor(attack_data.test.inputs[:40])
    return x, network_decisions(plain.network, x)


def won(network, rows, epsilon):
    """What PGD finds on `network`."""
    ball = Ball(torch.full((1, 1, 1), epsilon), 0.0, 1.0)
    return worst_case_pgd(searching(network, ball), *rows, steps=10, restarts=1)


def test_without_bpda_nothing_is_found_on_a_quantiser_and_with_it_the_attack_wins(plain, rows):
    network = Stepped(Steps(), plain.network)
    blind, seeing = (won(each, rows, 0.15) for each in (network, as_attacker_sees(network)))
    assert blind.won.float().mean() < 0.1
    assert seeing.won.float().mean() > 0.6
    assert torch.equal(network_decisions(network, seeing.adversarial) != rows[1], seeing.won)


def test_without_eot_little_is_found_behind_noise_and_with_it_the_attack_wins(plain, rows):
    network = Random(Shaken(), plain.network)
    torch.manual_seed(0)
    blind, seeing = (won(each, rows, 0.2).adversarial for each in (network, as_attacker_sees(network)))
    blind, seeing = ((network_decisions(network, each) != rows[1]).float().mean() for each in (blind, seeing))
    assert seeing > blind + 0.3


def test_bpda_is_applied_by_the_attack_itself(plain, attack_data):
    attack = FGSM(epsilon=0.2)
    few = AttackData(craft=attack_data.craft.take(slice(0, 100)), test=attack_data.test.take(slice(0, 40)))
    network = Stepped(Steps(), plain.network)
    result = attack.run(plain.target(attack.threat, network=network), few, seed=0)
    assert result.outcome.mean() > 0.3
    assert not any("gradient" in flag for flag in result.flags)


def test_straight_through_is_exact_forward_and_smooth_backward(plain, rows):
    for exact, smooth in (
        (Steps(), None),
        (plain.network, torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))),
    ):
        network, x = StraightThrough(exact, smooth), rows[0].clone().requires_grad_(True)
        guide = x if smooth is None else smooth(x)
        weights = torch.arange(guide.numel()).view(guide.shape).float()
        assert torch.equal(network(x), exact(x))
        assert torch.allclose(input_gradient((network(x) * weights), x), input_gradient(guide * weights, x))


def test_features_pass_through_the_wrappers(plain, rows):
    scores, features = plain.network.both(rows[0])
    wrapped = ExpectedOverRandomness(StraightThrough(plain.network, plain.network), 2)
    assert torch.allclose(wrapped.both(rows[0])[0], scores)
    assert torch.allclose(wrapped.both(rows[0])[1], features)


def test_the_mean_over_draws_has_less_noise(rows):
    class Noisy(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :4] + torch.randn(len(x), 4)

    torch.manual_seed(0)
    once, often = (ExpectedOverRandomness(Noisy(), draws)(rows[0]) - rows[0].flatten(1)[:, :4] for draws in (1, 100))
    assert often.std() < 0.2 * once.std()


def test_a_network_that_declares_nothing_is_left_alone(plain):
    assert as_attacker_sees(plain.network) is plain.network
    assert passes_per_call(plain.network) == 1


def test_draws_are_counted_and_none_is_refused(plain, rows):
    network = Random(Shaken(), plain.network)
    assert passes_per_call(as_attacker_sees(network)) == 20
    assert scores_and_features(as_attacker_sees(network), rows[0])[1] is not None
    with pytest.raises(MedwardError, match="at least 1 draw, got 0"):
        ExpectedOverRandomness(network, 0)
