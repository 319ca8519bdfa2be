"""The one training loop that every method shares; a method is the loss it hands in.

AdamW with a one-cycle rate and clipped gradients. What is judged and kept is a moving average of the weights
(Izmailov et al., "Averaging weights leads to wider optima and better generalization", UAI 2018, in its exponential
form), at the epoch that does best on the selection rows: by the sum of clean accuracy and that under the
method's own kind of change, then by the latter. (The latter alone let a difference of one row in it cost several points
clean.) Epochs in which the radius still grows are not candidates.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.harden.network import Rows
from medward.guard.harden.robust.augment import augment_images

_log = logging.getLogger("medward.harden")

Objective = Callable[[nn.Module, Tensor, Tensor, float], Tensor]
"""Network in training mode, inputs ``(n, *shape)``, targets of n rows and the share of training done -> a loss."""
Merit = Callable[[nn.Module], tuple[float, float]]
"""Accuracy under attack, and clean."""
USUAL, STEPS = 40, 1500  # epochs, and the steps there are at least
JUDGEMENTS = 12  # about how many epochs are judged at most: judging costs as much as training


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """Training settings: what the one loop is run with.

    `epochs` None takes `USUAL`, or more where rows are few: at least `STEPS` steps; `stretch` times as many. `ramp` is
    the share of training in which the radius grows from nothing to full. `average` is the weight the moving average
    keeps per step. `patience` is how many judged epochs without gain end the training; with `keep_last` no epoch is
    chosen, the last one is kept. `augment_images` is applied to images only, to values scaled to [0, 1]; None for none.
    """

    epochs: int | None = None
    stretch: float = 1.0
    batch: int = 64
    rate: float = 2e-3
    weight_decay: float = 1e-2
    ramp: float = 0.4
    average: float = 0.999
    clip: float = 5.0
    patience: int = 8
    keep_last: bool = False
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = augment_images
    device: str = "cpu"

    def check(self) -> None:
        """Refuse settings that cannot train."""
        for name, low in (("epochs", 1), ("batch", 2), ("patience", 1)):
            if getattr(self, name) is not None and not getattr(self, name) >= low:
                raise MedwardError(f"{name}: must be at least {low}, got {getattr(self, name)}")
        for name in ("rate", "clip", "stretch"):
            if not 0 < getattr(self, name) < math.inf:
                raise MedwardError(f"{name}: must be a finite number above 0, got {getattr(self, name):g}")

    def length(self, per_epoch: int) -> int:
        """How many epochs of `per_epoch` steps."""
        usual = max(USUAL, math.ceil(STEPS / per_epoch))
        return round(self.stretch * usual) if self.epochs is None else self.epochs

    def grown(self, progress: float) -> float:
        """The radius at `progress`, as a share of the full one; never nothing."""
        return min(1.0, max(progress, 1e-3) / self.ramp) if self.ramp > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Trained:
    """The averaged network of the best epoch, in eval mode; epochs run, and the best of them, counted from 1."""

    network: nn.Module
    epochs: int
    best_epoch: int


def train_network(
    network: nn.Module,
    rows: Rows,
    objective: Objective,
    merit: Merit,
    training: Training,
    *,
    bounds: tuple[float, float],
    generator: torch.Generator,
    measure: str = "balanced accuracy",
) -> Trained:
    """Train `network` in place on `objective`; `bounds` are the values that augmentation takes for 0 and 1.

    `measure` names the two accuracies that `merit` gives.
    Logs one line per epoch. Raises `MedwardError` when the loss is no longer a number.
    """
    device = torch.device(training.device)
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    batch = min(training.batch, len(rows))
    per_epoch = len(rows) // batch
    epochs = training.length(per_epoch)
    total = epochs * per_epoch
    optimiser = torch.optim.AdamW(weights, lr=training.rate, weight_decay=training.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.rate, total_steps=total)
    averaged = copy.deepcopy(network).eval()
    kept, best, best_epoch, stale, step = copy.deepcopy(averaged.state_dict()), (-1.0, -1.0), 0, 0, 0
    epoch = 0
    for epoch in range(1, epochs + 1):
        network.train()
        summed = 0.0
        order = torch.randperm(len(rows), generator=generator)[: per_epoch * batch]
        for index in torch.split(order, batch):
            x = _views(rows.x[index].to(device), training, bounds, generator)
            loss = objective(network, x, rows.y[index].to(device), step / total)
            optimiser.zero_grad()
            torch.autograd.backward(loss, inputs=weights)  # none for the changes that the objective adds
            nn.utils.clip_grad_norm_(weights, training.clip)
            optimiser.step()
            schedule.step()
            step += 1
            _average(averaged, network, min(training.average, (1 + step) / (10 + step)))
            summed += float(loss.detach())
        if not math.isfinite(summed):
            raise MedwardError(f"training: the loss of epoch {epoch} is not a number; lower --rate ({training.rate:g})")
        line = f"epoch {epoch}/{epochs}: loss {summed / per_epoch:.3f}"
        if _judged(epoch, epochs, training):
            robust, clean = merit(averaged)
            line += f", {measure} {clean:.3f} clean, {robust:.3f} under attack"
            stale += 1
            if (robust + clean, robust) > best:
                best, best_epoch, stale = (robust + clean, robust), epoch, 0
                kept = copy.deepcopy(averaged.state_dict())
        _log.info("%s", line)
        if stale >= training.patience:
            break
    averaged.load_state_dict(kept)
    return Trained(averaged, epoch, best_epoch)


def _judged(epoch: int, epochs: int, training: Training) -> bool:
    """Whether the epoch is a candidate: the last one is, and some of those after the radius is full."""
    every = max(1, round(epochs * (1 - min(training.ramp, 1)) / JUDGEMENTS))
    after = epoch > training.ramp * epochs and (epochs - epoch) % every == 0
    return epoch == epochs or (after and not training.keep_last)


def _views(x: Tensor, training: Training, bounds: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Augmented images inside their bounds; tables as they are."""
    if training.augment is None or x.ndim != 4:
        return x
    low, high = bounds
    return (training.augment((x - low) / (high - low), generator).clamp(0, 1)) * (high - low) + low


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, keep: float) -> None:
    """Move the average towards the network; counters are copied."""
    for mean, now in zip(averaged.state_dict().values(), network.state_dict().values(), strict=True):
        if mean.dtype.is_floating_point:
            mean.lerp_(now.to(mean.dtype), 1 - keep)
        else:
            mean.copy_(now)
