"""Images with a strong sign that survives small changes and a weak one, easier to learn, that does not."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from medward.guard.data.split import Split

SIZE = 8
EPSILON = 0.08


def images(n, seed, classes=2):
    """A patch at one of `classes` places (noisy), and a faint pattern over the whole image that always tells."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    patterns = np.sign(np.random.default_rng(7).normal(size=(classes, 1, SIZE, SIZE)))
    x = 0.5 + 0.04 * rng.normal(size=(n, 1, SIZE, SIZE)) + 0.03 * patterns[labels]
    for k in range(classes):
        x[labels == k, :, :3, 2 * k : 2 * k + 2] += 0.25 + 0.08 * rng.normal(size=((labels == k).sum(), 1, 1, 1))
    return Split(np.clip(x, 0, 1).astype(np.float32), labels.astype(np.int64))


def net(classes=2):
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(8 * SIZE * SIZE, classes),
    )


def fitted(network, split, steps=80):
    """The network after a little ordinary training."""
    x, y = torch.from_numpy(split.inputs), torch.from_numpy(split.labels)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    network.train()
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    return network.eval()
