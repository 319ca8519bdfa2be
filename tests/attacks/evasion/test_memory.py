"""The same search is run once; whatever differs in anything is searched anew."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from medward.attacks.evasion import memory
from medward.attacks.evasion.memory import remembered
from medward.attacks.whitebox.ball import Ball


@dataclass(frozen=True)
class Found:
    change: torch.Tensor


def searching(network, runs, *parts, generator=None):
    def search():
        runs.append(1)
        drawn = torch.rand(3, generator=generator)
        return Found(drawn + torch.rand(3))

    return remembered(network, search, *parts, generator=generator)


def seeded(seed=0):
    torch.manual_seed(5)
    return torch.Generator().manual_seed(seed)


def test_an_equal_search_is_not_run_again_and_leaves_the_generators_as_the_first_did():
    network, runs = nn.Linear(3, 2), []
    with torch.random.fork_rng():
        first, second = seeded(), None
        found = searching(network, runs, "settings", torch.ones(2), generator=first)
        after = torch.rand(2, generator=first), torch.rand(2)
        second = seeded()
        again = searching(network, runs, "settings", torch.ones(2), generator=second)
        torch.testing.assert_close((torch.rand(2, generator=second), torch.rand(2)), after)
    assert len(runs) == 1
    torch.testing.assert_close(again.change, found.change)
    again.change.zero_()  # a copy: what is kept does not change with it
    with torch.random.fork_rng():
        assert searching(network, runs, "settings", torch.ones(2), generator=seeded()).change.abs().sum() > 0


def test_whatever_differs_is_searched_anew():
    network, runs = nn.Linear(3, 2), []
    ball = Ball(torch.ones(2))
    with torch.random.fork_rng():
        searching(network, runs, ball, torch.ones(2), 1, generator=seeded())
        for other in (
            lambda: searching(nn.Linear(3, 2), runs, ball, torch.ones(2), 1, generator=seeded()),
            lambda: searching(network, runs, ball.scaled(0.5), torch.ones(2), 1, generator=seeded()),
            lambda: searching(network, runs, replace(ball, norm="2"), torch.ones(2), 1, generator=seeded()),
            lambda: searching(network, runs, ball, torch.zeros(2), 1, generator=seeded()),
            lambda: searching(network, runs, ball, torch.ones(2), 2, generator=seeded()),
            lambda: searching(network, runs, ball, torch.ones(2), 1, generator=seeded(1)),
        ):
            before = len(runs)
            other()
            assert len(runs) == before + 1
        with torch.no_grad():
            network.weight.add_(1)
        searching(network, runs, ball, torch.ones(2), 1, generator=seeded())
    assert len(runs) == 8


def test_a_twin_with_the_same_weights_is_another_network():
    """A planted fake may have the weights and the scores of an honest network, and another gradient."""
    honest, runs = nn.Linear(3, 2), []
    fake = nn.Linear(3, 2)
    fake.load_state_dict(honest.state_dict())
    with torch.random.fork_rng():
        for network in (honest, fake, honest):
            searching(network, runs, 1, generator=seeded())
    assert len(runs) == 3


def test_old_searches_make_room(monkeypatch):
    monkeypatch.setattr(memory, "MEMORY_ROOM", 30)  # two results of three floats
    network, runs = nn.Linear(3, 2), []
    with torch.random.fork_rng():
        for part in (1, 2, 3, 3, 1):
            searching(network, runs, part, generator=seeded())
    assert len(runs) == 4


def test_what_has_no_digest_is_an_error():
    with pytest.raises(TypeError, match="no digest of object"):
        remembered(nn.Linear(1, 1), lambda: None, object())
