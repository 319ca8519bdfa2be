"""Small subjects of private training, and the four broken trainings that audits are tried on.

The hooks that let a broken training through live here alone: the package has none.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medward.guard.data.split import Split
from medward.guard.harden.private import mechanism, randomness, sampling, training, weights_move
from medward.guard.harden.private.settings import PrivateSettings

Broken = Literal["no noise", "no clipping", "shuffled batches", "batch statistics"]
BROKEN: tuple[Broken, ...] = ("no noise", "no clipping", "shuffled batches", "batch statistics")
QUICK = PrivateSettings(target_epsilon=8, epochs=6, optimiser="adam", rate=0.02, noise_seed=1)


def small_cnn(norm: bool = False) -> nn.Sequential:
    """A CNN on 8 x 8 images, with BatchNorm where asked for."""
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    layers = (nn.Conv2d(1, 4, 3, padding=1), middle, nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 2))
    return nn.Sequential(*layers)


def bright_images(count: int, seed: int, patients: int | None = None) -> Split:
    """Images of two classes that differ by a bright square, of `patients` where said."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    x = rng.uniform(0, 0.6, (count, 1, 8, 8)).astype(np.float32)
    x[labels == 1, :, 2:6, 2:6] += 0.4
    whose = None if patients is None else rng.integers(0, patients, count) + 1000 * seed
    return Split(x, labels.astype(np.int64), whose)


def columns_of(split: Split) -> dict[str, Tensor]:
    """Columns that `train_privately` takes."""
    return {"x": torch.from_numpy(split.inputs), "y": torch.from_numpy(np.asarray(split.labels))}


def class_losses(module: nn.Module, rows: dict[str, Tensor]) -> Tensor:
    """Cross-entropy of each row."""
    return F.cross_entropy(module(rows["x"]), rows["y"], reduction="none")


@contextlib.contextmanager
def broken_training(kind: Broken, *, force: bool = False) -> Iterator[None]:
    """Training inside is broken as `kind` says; with `force` the guard is kept from refusing it.

    "batch statistics" leaves BatchNorm in training mode; give a network that has one, "pretrained".
    """
    with pytest.MonkeyPatch.context() as patch:
        if kind == "no noise":
            patch.setattr(
                randomness.Randomness,
                "normals",
                lambda self, step, what, count: torch.zeros(count, dtype=torch.float64),
            )
        elif kind == "no clipping":
            clipped = mechanism.clipped_sum
            patch.setattr(
                mechanism, "clipped_sum", lambda found, owners, units, clip: clipped(found, owners, units, 1e6 * clip)
            )
        elif kind == "shuffled batches":
            patch.setattr(sampling.PoissonSampler, "draw", _shuffled_draw)
        else:
            patch.setattr(training, "training_mode", _everything_in_training)
        if force:
            patch.setattr(weights_move.WeightsWatch, "_check_output", lambda self, output, drawn: None)
            patch.setattr(weights_move.WeightsWatch, "check_clip", lambda self, contribution: None)
            patch.setattr(weights_move.WeightsWatch, "check_draws", lambda self: None)
            patch.setattr(weights_move.WeightsWatch, "check_still", lambda self: None)
            patch.setattr(training, "check_module", lambda module, losses, sample: None)
        yield


def _everything_in_training(module: nn.Module) -> None:
    """BatchNorm with frozen weights in training mode: Opacus' validator lets it pass."""
    module.train()
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):
            each.requires_grad_(False)


def _shuffled_draw(self: sampling.PoissonSampler, step: int) -> sampling.Draw:
    """Batches of one size from a shuffled list, every unit once in a pass."""
    size = max(1, round(len(self) * self.rate))
    batches = max(1, len(self) // size)
    order = np.random.default_rng(step // batches).permutation(len(self))
    chosen = np.sort(order[step % batches * size :][:size])
    counts = np.minimum(self._counts[chosen], self.rows_per_unit)
    owners = np.repeat(np.arange(len(chosen)), counts)
    places = np.arange(len(owners)) - (np.cumsum(counts) - counts)[owners]
    return sampling.Draw(units=chosen, rows=self._order[self._first[chosen][owners] + places], owners=owners)


def with_settings(**changes: object) -> PrivateSettings:
    """Quick settings with changes."""
    return replace(QUICK, **changes)
