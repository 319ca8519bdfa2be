"""A small generic network that an attacker trains on what a target answered.

It is the thief's clone (extraction) and the stand-in for gradients the attacker was not given (transfer
attacks). Images get a three-stage CNN with GroupNorm (Wu and He, ECCV 2018: no batch statistics, so eval
equals training), tables a two-layer MLP; both standardise their inputs by the training rows. Soft
cross-entropy serves labels and probabilities alike (Hinton, Vinyals and Dean 2015, temperature 1); what other tasks
learn by is said in `attacks.learners`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medward.guard.errors import MedwardError
from medward.guard.release.scores import probabilities as softmax
from medward.guard.spec import ModelSpec
from medward.guard.tasks.decision import at_threshold, positive_odds
from medward.guard.types import Array, Modality


class Standardise(nn.Module):
    """Centre and scale by fixed statistics; they are buffers, so they move and save with the network."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, *shape)`` to the same shape with mean 0 and spread 1."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (x - mean) / std


TrainingLoss = Callable[[Tensor, Tensor], Tensor]


def fit_classifier(
    inputs: Array,
    targets: NDArray[np.generic],
    *,
    classes: int,
    modality: Modality,
    shape: tuple[int, ...],
    epochs: int,
    seed: int,
    device: str = "cpu",
    normalised: bool = True,
) -> nn.Module:
    """Train on ``(n, *shape)`` inputs and labels ``(n,)`` or probabilities ``(n, classes)``; see `fit_student`.

    Rows labelled below 0 or with a NaN probability (answers that were withheld) are dropped. Returns a
    network from inputs to logits ``(n, classes)``, frozen and in eval mode.
    """
    kept = answered_rows(targets)
    soft = _soft(np.asarray(targets)[kept], classes).numpy() if kept.any() else np.zeros((0, classes))
    return fit_student(
        inputs[kept],
        soft,
        loss=nn.functional.cross_entropy,
        modality=modality,
        shape=shape,
        epochs=epochs,
        seed=seed,
        device=device,
        normalised=normalised,
        offered=len(targets),
    )


def fit_student(
    inputs: Array,
    targets: Array,
    *,
    loss: TrainingLoss,
    modality: Modality,
    shape: tuple[int, ...],
    epochs: int,
    seed: int,
    device: str = "cpu",
    normalised: bool = True,
    offered: int | None = None,
) -> nn.Module:
    """Train a network from ``(n, *shape)`` inputs to outputs ``(n, width)`` to have little `loss` on targets of that
    shape; rows with a NaN are dropped.

    The network is frozen and in eval mode. The same seed gives the same one on the same machine and thread count.
    `normalised` is for images: without GroupNorm the network keeps brightness and contrast, and so what it learned on
    one kind of picture carries further to another. Raises `MedwardError` when no row is left of those that were
    `offered`.
    """
    kept = answered_rows(targets)
    if not kept.any():
        count = len(targets) if offered is None else offered
        raise MedwardError(f"surrogate: none of the {count} training rows has an answer to learn from")
    x = torch.as_tensor(np.ascontiguousarray(inputs[kept]), dtype=torch.float32)
    y = torch.as_tensor(np.ascontiguousarray(targets[kept]), dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _network(x, y.shape[1], modality, shape, normalised).to(device).train()
        _train(net, x.to(device), y.to(device), loss, epochs, seed)
    return net.eval().requires_grad_(False)


def answered_rows(targets: NDArray[np.generic]) -> NDArray[np.bool_]:
    """Which rows ``(n,)`` of labels or probabilities hold an answer at all."""
    values = np.asarray(targets)
    if values.ndim == 1:
        return np.asarray(values >= 0)
    return np.asarray(np.isfinite(np.asarray(values, np.float64)).all(axis=1))


def deciding_probabilities(probabilities: Array, spec: ModelSpec) -> Array:
    """Probabilities ``(n, K)`` of a model of `spec`, moved so that a row's largest is what the model decides.

    What is trained on them decides by its largest score, as what is trained on labels does. Where `spec` has no
    threshold they are left alone; NaN stays.
    """
    return moved_to_threshold(probabilities, spec.threshold)


def moved_to_threshold(probabilities: Array, threshold: float | None) -> Array:
    """The same for a `threshold` alone."""
    if threshold is None:
        return probabilities
    return softmax(at_threshold(probabilities, "probabilities", threshold), "logits")


def as_scored(probabilities: Array, spec: ModelSpec) -> Array:
    """The inverse of `deciding_probabilities`: the model's own probabilities ``(n, K)``, but for zeros and ties."""
    if spec.threshold is None:
        return probabilities
    return softmax(positive_odds(probabilities, "probabilities")[:, None] * [0.0, 1.0] + [0.0, spec.border], "logits")


def _soft(targets: NDArray[np.generic], classes: int) -> Tensor:
    if targets.ndim == 1:
        return nn.functional.one_hot(torch.as_tensor(targets.astype(np.int64)), classes).float()
    probabilities = torch.as_tensor(np.asarray(targets, np.float64)).clamp_min(0)
    return (probabilities / probabilities.sum(dim=1, keepdim=True).clamp_min(1e-12)).float()


def _network(x: Tensor, classes: int, modality: Modality, shape: tuple[int, ...], normalised: bool) -> nn.Module:
    axes = (0, 2, 3) if modality == "image" else (0,)
    mean = x.mean(dim=axes, keepdim=True)
    std = x.std(dim=axes, keepdim=True, correction=0)
    front = Standardise(mean, torch.where(std > 1e-6, std, torch.ones_like(std)))
    if modality == "tabular":
        return nn.Sequential(
            front,
            nn.Linear(shape[0], 128),
            nn.ReLU(),
            nn.Linear(128, 128),
            nn.ReLU(),
            nn.Linear(128, classes),
        )
    layers: list[nn.Module] = [front]
    before = shape[0]
    for width, stride in ((32, 1), (64, 2), (128, 2)):
        layers.append(nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=not normalised))
        layers += [nn.GroupNorm(8, width), nn.ReLU()] if normalised else [nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


def _train(
    net: nn.Module, x: Tensor, y: Tensor, loss: TrainingLoss, epochs: int, seed: int, batch: int = 64, lr: float = 2e-3
) -> None:
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=1e-3)
    steps = epochs * math.ceil(len(x) / batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    for _ in range(epochs):
        shuffled = torch.randperm(len(x), generator=order)
        for start in range(0, len(x), batch):
            rows = shuffled[start : start + batch]
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss(net(x[rows]), y[rows]))
            optimizer.step()
            schedule.step()
