"""Recipes of shadow models that another Python can find by name."""

from __future__ import annotations

import os

import torch
from torch import nn


def seeded_linear(rows, seed):
    """A linear network that shows which rows and which seed made it, how many threads there were, and where it was."""
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.fill_(float(rows.inputs.sum()))
        network.bias.fill_(float(seed))
    network.process, network.threads = os.getpid(), torch.get_num_threads()
    return network


def failing_apart(rows, seed):
    """As `seeded_linear` for the first seed; the others fail."""
    if seed:
        raise ValueError(f"seed {seed} is unlucky")
    return seeded_linear(rows, seed)
