"""Populations of models for membership benchmarks: in pairs, of which each learned the units that the other did not.

Coins are flipped before any training. Each model can be the target, and all others but its pair its shadows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medward.attacks.benchmarks.networks.architectures import build_network
from medward.guard.data.split import Split

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Train = Callable[[Split, int], nn.Module]
"""Rows and a seed to a trained network of logits, in eval mode."""


@dataclass(frozen=True)
class ModelPopulation:
    """Models trained on halves of `rows`: `members (models, n)` are the rows of each, `logits (models, n, K)` its."""

    rows: Split
    members: Mask
    networks: tuple[nn.Module, ...]
    logits: Array

    @property
    def labels(self) -> NDArray[np.int64]:
        """The true label of each row."""
        return np.asarray(self.rows.labels, np.int64)


def paired_members(units: NDArray[np.int64], models: int, seed: int) -> Mask:
    """Membership ``(models, n)``: models 2k and 2k + 1 divide the units, each with all its rows, by fair coins.

    Who attacks one of them must leave out both: of balanced halves the others' would tell the target's.
    """
    if models % 2:
        raise ValueError(f"an even number of models is needed, got {models}")
    names, row_unit = np.unique(units, return_inverse=True)
    coins = np.random.default_rng(seed).random((models // 2, len(names))) < 0.5
    return np.asarray(np.stack([coins, ~coins], axis=1).reshape(models, -1)[:, row_unit])


def shadows_of(target: int, models: int) -> list[int]:
    """All models but the target and the one that learned what it did not."""
    return [model for model in range(models) if model // 2 != target // 2]


def train_population(rows: Split, models: int, train: Train, *, seed: int) -> ModelPopulation:
    """Train `models` networks, each on its half of `rows`; patients are units where they are known."""
    units = np.arange(len(rows)) if rows.patients is None else np.asarray(rows.patients)
    members = paired_members(units, models, seed)
    networks = tuple(train(rows.take(np.flatnonzero(mine)), seed + each) for each, mine in enumerate(members))
    return ModelPopulation(rows, members, networks, np.stack([network_logits(net, rows.inputs) for net in networks]))


@torch.no_grad()
def network_logits(network: nn.Module, inputs: NDArray[np.floating]) -> Array:
    """Logits ``(n, K)``."""
    batches = torch.split(torch.from_numpy(np.asarray(inputs, np.float32)), 512)
    return np.asarray(torch.cat([network(rows) for rows in batches]).double().numpy())


def overfitted(
    epochs: int,
    *,
    rate: float = 2e-3,
    batch: int = 32,
    hidden: int = 0,
    network: Callable[[], nn.Module] | None = None,
) -> Train:
    """A training that learns its rows by heart: no augmentation, no early stopping.

    Trains what `network` makes; without it images by the small CNN, tables by one hidden layer of `hidden`,
    standardised on its own rows.
    """

    make = network

    def train(rows: Split, seed: int) -> nn.Module:
        x, y = torch.from_numpy(rows.inputs).float(), torch.from_numpy(np.asarray(rows.labels, np.int64))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if make is not None:
                network = make()
            else:
                network = _table_network(x, hidden) if x.ndim == 2 else build_network("cnn", tuple(x.shape[1:]), 2)
        generator = torch.Generator().manual_seed(seed)
        optimiser = torch.optim.Adam(network.parameters(), rate)
        network.train()
        for _ in range(epochs):
            for index in torch.split(torch.randperm(len(x), generator=generator), batch):
                if len(index) > 1:
                    optimiser.zero_grad()
                    nn.functional.cross_entropy(network(x[index]), y[index]).backward()
                    optimiser.step()
        return network.eval()

    return train


class _Standardise(nn.Module):
    """Column means and spreads of the training rows."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", x.mean(0))
        self.register_buffer("spread", x.std(0) + 1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Rows in standard deviations."""
        return (x - self.mean) / self.spread


def _table_network(x: torch.Tensor, hidden: int) -> nn.Module:
    return nn.Sequential(_Standardise(x), nn.Linear(x.shape[1], hidden), nn.ReLU(), nn.Linear(hidden, 2))
