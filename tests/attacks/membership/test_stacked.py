"""Networks trained in one stack end where each would have alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.tasks import CUT, FINDINGS, coin_flip, spec_of
from torch import nn

from medward.attacks.learners.table import learner_of
from medward.attacks.membership.stacked import fit_stacked, train_stacked
from medward.attacks.whitebox.surrogate import Standardise
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification


def three(dtype=torch.float64, width=5):
    networks = []
    for seed in range(3):
        torch.manual_seed(seed)
        front = Standardise(torch.full((1, width), 0.1 * seed), torch.full((1, width), 1.0 + seed))
        networks.append(nn.Sequential(front, nn.Linear(width, 7), nn.Tanh(), nn.Linear(7, 2, bias=False)).to(dtype))
    return networks


def train_alone(network, x, y, loss, epochs, seed, batch=64, rate=2e-3):
    """One network by a plain loop."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * math.ceil(len(x) / batch))
    for _ in range(epochs):
        shuffled = torch.randperm(len(x), generator=order)
        for start in range(0, len(x), batch):
            rows = shuffled[start : start + batch]
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
            schedule.step()


@pytest.mark.parametrize("loss", [nn.functional.cross_entropy, nn.functional.mse_loss])
def test_each_ends_where_it_would_have_alone(loss):
    x = [torch.randn(150, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    y = [each[:, :2].softmax(dim=1) for each in x]
    together, alone = three(), three()
    train_stacked(together, x, y, loss=loss, epochs=4, seeds=[3, 1, 2])
    for network, rows, targets, seed in zip(alone, x, y, [3, 1, 2], strict=True):
        train_alone(network, rows, targets, loss, 4, seed)
    for one, other, start in zip(together, alone, three(), strict=True):
        torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=1e-9)
        assert not torch.allclose(one[1].weight, start[1].weight)


TABLE = ModelSpec(
    name="t", modality="tabular", shape=(20,), task=Classification(classes=("a", "b", "c"), output="logits")
)


@pytest.mark.parametrize("task", [None, FINDINGS, CUT], ids=["classes", "findings", "numbers"])
def test_the_learner_of_every_task_makes_the_same_of_tables(task):
    spec = TABLE if task is None else spec_of(task, 20)
    rows = coin_flip(task or FINDINGS).shadow
    if task is None:
        rows = Split(rows.inputs, rows.labels % 3)
    parts = [rows.take(slice(start, start + 150)) for start in (0, 100, 200)]
    together = fit_stacked(spec, parts, epochs=4, seeds=[5, 6, 7])
    learner, x = learner_of(spec), torch.as_tensor(rows.inputs)
    for network, part, seed in zip(together, parts, [5, 6, 7], strict=True):
        alone = learner.fit(spec, part.inputs, learner.known(part.labels), epochs=4, seed=seed)
        np.testing.assert_allclose(network(x).detach(), alone(x), atol=2e-3)
        with torch.no_grad():
            start = learner.fit(spec, part.inputs, learner.known(part.labels), epochs=0, seed=seed)(x)
        assert float((alone(x) - start).abs().max()) > 0.1


def test_different_numbers_of_rows_are_refused():
    x = [torch.zeros(n, 5) for n in (4, 4, 5)]
    with pytest.raises(MedwardError, match=r"got \[4, 5\] rows"):
        train_stacked(
            three(torch.float32), x, [each[:, :2] for each in x], loss=nn.functional.mse_loss, epochs=1, seeds=[0, 1, 2]
        )


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ([nn.Sequential(nn.Conv1d(1, 1, 1)), nn.Sequential(nn.Conv1d(1, 1, 1))], "Conv1d"),
        ([nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.ReLU())], "differ"),
    ],
)
def test_what_cannot_be_stacked_is_refused(networks, message):
    x = [torch.zeros(2, 2)] * 2
    with pytest.raises(MedwardError, match=message):
        train_stacked(networks, x, x, loss=nn.functional.mse_loss, epochs=1, seeds=[0, 1])
