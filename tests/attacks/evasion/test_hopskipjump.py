import pytest
import torch
from support.searches import asking

from medward.attacks.evasion.hopskipjump import hopskipjump
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball


@pytest.fixture
def linear():
    torch.manual_seed(0)
    network = torch.nn.Linear(20, 2).requires_grad_(False)
    x = torch.randn(60, 20)
    return network, x, network_decisions(network, x)


@pytest.mark.parametrize("norm", ["inf", "2"])
def test_it_comes_close_to_the_shortest_way_to_a_plane(linear, norm):
    network, x, y = linear
    weights = network.weight[0] - network.weight[1]
    gap = (network(x)[:, 0] - network(x)[:, 1]).abs()
    shortest = gap / (weights.norm() if norm == "2" else weights.abs().sum())
    rows = shortest > 0.02
    ball = Ball(1.6 * shortest[rows].median() * torch.ones(20), norm=norm)
    found = hopskipjump(asking(network, ball), x[rows], y[rows], queries=1500)
    reachable = shortest[rows] < shortest[rows].median()
    assert found.won[reachable].float().mean() > 0.9
    assert not found.won[shortest[rows] > 1.6 * shortest[rows].median()].any()


def test_no_row_asks_for_more_than_its_budget(linear):
    network, x, y = linear
    asked = torch.zeros(len(x))

    def counted(ask):
        def answers(points):
            for point in points:
                # Every point asked lies nearest to its own row: the radius is small and the rows are far apart.
                asked[(x - point).norm(dim=1).argmin()] += 1
            return ask(points)

        return answers

    search = asking(network, Ball(torch.full((20,), 1e-3)), through=counted)
    found = hopskipjump(search, x, y, queries=40)
    assert found.queries == int(asked.sum()) <= 40 * len(x)
    assert not found.won.any()
    assert torch.equal(found.adversarial, x)


def test_withheld_answers_count_as_unchanged(linear):
    network, x, y = linear
    ball = Ball(torch.full((20,), 1.0))

    def hidden(ask):
        return lambda points: (ask(points)[0] * torch.nan, torch.full_like(ask(points)[1], -1))

    open_ = hopskipjump(asking(network, ball), x, y, queries=200)
    closed = hopskipjump(asking(network, ball, through=hidden), x, y, queries=200)
    assert open_.won.float().mean() > 0.9
    assert not closed.won.any()
