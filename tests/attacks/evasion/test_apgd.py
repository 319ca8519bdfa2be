import pytest
import torch
from support.searches import searching

from medward.attacks.evasion.apgd import apgd, worst_case_apgd
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball
from medward.attacks.whitebox.losses import cross_entropy, margin_loss, margin_ratio


class Scaled(torch.nn.Module):
    def __init__(self, network, scale):
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x):
        return self.network(x) * self.scale


def mlp(classes, seed=0):
    torch.manual_seed(seed)
    layers = torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, classes)
    return torch.nn.Sequential(*layers).requires_grad_(False)


def rows(network, n=80):
    x = torch.randn((n, 8), generator=torch.Generator().manual_seed(1))
    return x, network_decisions(network, x)


def seeded():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("classes", [2, 3, 4, 7])
@pytest.mark.parametrize("targeted", [False, True])
def test_the_margin_ratio_is_defined_for_any_number_of_classes_and_does_not_see_the_scale(classes, targeted):
    scores = torch.randn((50, classes), generator=seeded(), dtype=torch.float64)
    labels = torch.arange(50) % classes
    goals = (labels + 1) % classes if targeted else None
    ratio = margin_ratio(scores, labels, goals)
    assert torch.isfinite(ratio).all()
    if not targeted:
        assert torch.equal(ratio > 0, margin_loss(scores, labels) > 0)
    if classes > 2:
        assert torch.allclose(margin_ratio(1000 * scores, labels, goals), ratio)


@pytest.mark.parametrize("classes", [2, 5])
def test_scaling_the_logits_changes_no_step(classes):
    network = mlp(classes)
    x, y = rows(network)
    ball = Ball(torch.full((8,), 0.2))
    plain, scaled = (
        apgd(searching(each, ball), x, y, loss=margin_ratio, steps=20) for each in (network, Scaled(network, 2.0**20))
    )
    assert plain.won.any()
    assert torch.equal(plain.won, scaled.won)
    assert torch.allclose(plain.adversarial, scaled.adversarial, atol=1e-5)


def test_inflated_logits_kill_cross_entropy_and_not_the_pair():
    network = Scaled(mlp(5), 1e5)
    x, y = rows(network)
    ball = Ball(torch.full((8,), 0.2))
    alone = apgd(searching(network, ball), x, y, loss=cross_entropy, steps=20)
    pair = worst_case_apgd(searching(network, ball), x, y, steps=20, restarts=1, targets=9)
    assert pair.won.float().mean() > alone.won.float().mean() + 0.2


def test_it_sets_its_own_step_where_a_fixed_one_overshoots():
    # The one adversarial point lies between the clean row and the edge: the step must shrink to meet it.
    class Ring(torch.nn.Module):
        def forward(self, x):
            away = (x - 0.37).abs().amax(dim=1)
            return torch.stack([away, torch.full_like(away, 0.01)], dim=1)

    x, y = torch.zeros(20, 2), torch.zeros(20, dtype=torch.int64)
    found = apgd(searching(Ring(), Ball(torch.ones(2))), x, y, loss=margin_ratio, steps=100)
    assert found.won.all()
    assert ((found.adversarial - 0.37).abs() < 0.01).all()


def test_a_won_row_costs_nothing_more():
    network = mlp(3)
    x, y = rows(network)
    wrong = (y + 1) % 3
    half = torch.where(torch.arange(len(y)) < 40, wrong, y)
    settled = apgd(searching(network, Ball(torch.full((8,), 1e-4))), x, half, loss=cross_entropy, steps=10)
    assert settled.won[:40].all()
    assert settled.gradients == 40 * 10 + 40
    assert len(settled.history) == 10


def test_goals_that_another_loss_overlooks_are_tried():
    # Class 1 is nearly first and grows the wrong way, without ever getting there; class 2 wins at the far end.
    class Decoy(torch.nn.Module):
        def forward(self, x):
            there = x[:, 0]
            zero = torch.zeros_like(there)
            return torch.stack([zero, -0.05 * (5 * there).exp(), 20 * there - 11.6, zero - 3], dim=1)

    x, y = torch.zeros(20, 1), torch.zeros(20, dtype=torch.int64)
    one, every = (
        worst_case_apgd(searching(Decoy(), Ball(torch.full((1,), 0.6))), x, y, steps=20, restarts=1, targets=k)
        for k in (1, 3)
    )
    assert every.won.all()
    assert one.won.float().mean() < 0.5


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_without_stop_it_goes_on_to_the_largest_margin(norm):
    network = mlp(3)
    x, y = rows(network)
    ball = Ball(torch.full((8,), 1.0), norm=norm)
    short, full = (
        apgd(searching(network, ball, stop=stop), x, y, loss=cross_entropy, steps=15) for stop in (True, False)
    )
    assert full.gradients == 15 * len(x) > short.gradients
    assert margin_loss(network(full.adversarial), y).mean() > margin_loss(network(short.adversarial), y).mean()
