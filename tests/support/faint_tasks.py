"""Images of several findings and of a number, each with a strong sign and a faint one, and small networks for them."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medward.guard.data.split import Split
from medward.guard.tasks.multilabel import Multilabel, packed_findings
from medward.guard.tasks.regression import Regression

SIZE = 8
TASK = Multilabel(findings=("nodule", "effusion", "mass"), output="logits", thresholds=(0.5, 0.3, 0.5))
MONTHS = Regression(quantity="bone age", tolerance=6.0, unit="months")


def finding_images(n, seed):
    """Each finding is a patch at its place and a faint pattern over the whole image; labels are sets."""
    rng = np.random.default_rng(seed)
    has = rng.random((n, 3)) < [0.5, 0.3, 0.5]
    patterns = np.sign(np.random.default_rng(7).normal(size=(3, 1, SIZE, SIZE)))
    faint = 0.03 * np.einsum("nk,kchw->nchw", 2.0 * has - 1, patterns)
    x = 0.4 + 0.04 * rng.normal(size=(n, 1, SIZE, SIZE)) + faint
    for k in range(3):
        x[has[:, k], :, :3, 2 * k : 2 * k + 2] += 0.3 + 0.08 * rng.normal(size=(has[:, k].sum(), 1, 1, 1))
    return Split(np.clip(x, 0, 1).astype(np.float32), packed_findings(has))


def number_images(n, seed):
    """A number around 100 is the brightness of a patch (noisy) and the strength of a faint pattern."""
    rng = np.random.default_rng(seed)
    strength = rng.normal(size=(n, 1, 1, 1))
    pattern = np.sign(np.random.default_rng(7).normal(size=(1, SIZE, SIZE)))
    x = 0.5 + 0.04 * rng.normal(size=(n, 1, SIZE, SIZE)) + 0.02 * strength * pattern
    x[:, :, 2:5, 2:5] += 0.12 * strength + 0.02 * rng.normal(size=(n, 1, 1, 1))
    return Split(np.clip(x, 0, 1).astype(np.float32), 100 + 10 * strength.reshape(-1))


def outputs_net(columns, centre=0.0, scale=1.0):
    """An untrained network whose outputs lie around `centre`, about `scale` apart."""
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(8 * SIZE * SIZE, columns)),
    )
    with torch.no_grad():
        network[-1].weight *= scale
        network[-1].bias += centre
    return network


def fitted_by(network, inputs, y, loss, steps=120):
    """The network after a little ordinary training on `loss`."""
    x = torch.from_numpy(inputs)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        loss(network(x), y).backward()
        optimiser.step()
    return network.eval()
