import torch
from support.searches import searching

from medward.attacks.evasion.fgsm import fgsm
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball


def test_on_a_linear_model_the_one_step_is_the_best_there_is():
    torch.manual_seed(0)
    network = torch.nn.Linear(6, 2).requires_grad_(False)
    x = torch.randn(200, 6)
    y = network_decisions(network, x)
    weights = network.weight[0] - network.weight[1]
    gap = (network(x)[:, 0] - network(x)[:, 1]).abs()
    for norm, dual in (("inf", weights.abs().sum()), ("2", weights.norm())):
        found = fgsm(searching(network, Ball(torch.full((6,), 0.3), norm=norm)), x, y)
        assert torch.equal(found.won, gap < 0.3 * dual)
        assert found.gradients == len(x)
