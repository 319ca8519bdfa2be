import pytest
import torch

from medward.attacks.evasion.hopskipjump import hopskipjump
from medward.attacks.whitebox.ascent import network_decisions
from medward.attacks.whitebox.ball import Ball


def seeded():
    return torch.Generator().manual_seed(0)


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
    found = hopskipjump(
        lambda points: network_decisions(network, points),
        x[rows],
        y[rows],
        Ball(1.6 * shortest[rows].median() * torch.ones(20), norm=norm),
        queries=1500,
        generator=seeded(),
    )
    reachable = shortest[rows] < shortest[rows].median()
    assert found.won[reachable].float().mean() > 0.9
    assert not found.won[shortest[rows] > 1.6 * shortest[rows].median()].any()


def test_no_row_asks_for_more_than_its_budget(linear):
    network, x, y = linear
    asked = torch.zeros(len(x))

    def labels(points):
        for point in points:
            # Every point asked lies nearest to its own row: the radius is small and the rows are far apart.
            asked[(x - point).norm(dim=1).argmin()] += 1
        return network_decisions(network, points)

    found = hopskipjump(labels, x, y, Ball(torch.full((20,), 1e-3)), queries=40, generator=seeded())
    assert found.queries == int(asked.sum()) <= 40 * len(x)
    assert not found.won.any()
    assert torch.equal(found.adversarial, x)


def test_withheld_answers_count_as_unchanged(linear):
    network, x, y = linear
    ball = Ball(torch.full((20,), 1.0))

    def hidden(points):
        return torch.where((points - points.mean()).abs().amax(dim=1) >= 0, -1, network_decisions(network, points))

    open_, closed = (
        hopskipjump(labels, x, y, ball, queries=200, generator=seeded())
        for labels in (lambda points: network_decisions(network, points), hidden)
    )
    assert open_.won.float().mean() > 0.9
    assert not closed.won.any()
