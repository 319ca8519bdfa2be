"""Victims: the models that get attacked. Good enough to matter, small enough to train while you wait."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from attacks.benchmarks.base import Task
from guard.data import Split
from guard.errors import MedwardError
from guard.types import Array, Ints, ModelSpec, OutputKind

ARCHITECTURES = ("auto", "cnn", "mlp")
FEATURES = 64


def train_victim(task: Task, *, architecture: str = "auto", epochs: int | None = None, seed: int = 0) -> Any:
    """Fit a victim on "train": "cnn" gives a torch module of logits, "mlp" a scikit-learn pipeline.

    "auto" takes what suits the modality, `epochs` None what suits the architecture. The same seed gives the
    same weights on the same machine with as many threads. Raises `MedwardError` for an architecture that does
    not fit.
    """
    if architecture not in ARCHITECTURES:
        raise MedwardError(f"architecture {architecture!r} is not known; there are {', '.join(ARCHITECTURES)}")
    if architecture == "auto":
        architecture = "cnn" if task.modality == "image" else "mlp"
    if (architecture == "cnn") != (task.modality == "image"):
        raise MedwardError(f"architecture {architecture!r} does not fit the {task.modality} task {task.name}")
    if architecture == "mlp":
        return _fit_mlp(task.splits["train"], 2000 if epochs is None else epochs, seed)
    return _fit_cnn(task, 24 if epochs is None else epochs, seed)


def classifier_spec(task: Task, output: OutputKind) -> ModelSpec:
    """What a classifier of `task` takes and gives."""
    return ModelSpec(
        name=task.name,
        modality=task.modality,
        shape=task.shape,
        classes=task.classes,
        output=output,
        low=task.low,
        high=task.high,
    )


def cnn(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    """Four convolutions, about 60,000 weights; standardises its input; ends in ``Linear(64, classes)``."""
    channels, height, _ = shape
    return nn.Sequential(
        nn.BatchNorm2d(channels, affine=False),  # learns the mean and spread of the input, nothing else
        *_block(channels, 16, stride=2 if height > 32 else 1),
        *_block(16, 32, stride=2),
        *_block(32, 64, stride=2),
        *_block(64, FEATURES, stride=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(FEATURES, classes),
    )


def accuracy(labels: Ints, predicted: Ints) -> tuple[float, float]:
    """Accuracy, and balanced accuracy (the mean of the per-class recalls)."""
    hit = labels == predicted
    return float(hit.mean()), float(np.mean([hit[labels == label].mean() for label in np.unique(labels)]))


def predict_labels(victim: Any, inputs: Array) -> Ints:
    """The class index of each row, from either kind of victim."""
    if not isinstance(victim, nn.Module):
        return np.asarray(victim.predict(inputs), np.int64)
    with torch.no_grad():
        parts = [victim(torch.from_numpy(inputs[i : i + 512])).argmax(1) for i in range(0, len(inputs), 512)]
    return torch.cat(parts).numpy()


def _block(inputs: int, outputs: int, *, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


def _fit_mlp(train: Split, epochs: int, seed: int) -> Pipeline:
    network = MLPClassifier((FEATURES,), alpha=3.0, solver="lbfgs", max_iter=epochs, random_state=seed)
    return make_pipeline(StandardScaler(), network).fit(train.inputs, train.labels)


def _fit_cnn(task: Task, epochs: int, seed: int) -> nn.Sequential:
    """AdamW with a one-cycle rate on class-weighted cross-entropy; keeps the epoch best on "selection"."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = cnn(task.shape, len(task.classes))
    x, y = _tensors(task.splits["train"])
    loss = nn.CrossEntropyLoss(weight=len(y) / (len(task.classes) * torch.bincount(y).float()))
    batch = 64
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=epochs * (len(x) // batch))
    best, kept = (-1.0, 0.0), copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        network.train()
        order = torch.randperm(len(x), generator=generator)[: len(x) // batch * batch]
        for rows in torch.split(order, batch):
            optimiser.zero_grad()
            loss(network(augment(x[rows], generator)), y[rows]).backward()
            optimiser.step()
            rate.step()
        if (merit := _merit(network, task.splits["selection"], loss)) > best:
            best, kept = merit, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    return network.eval()


def augment(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Shift by up to a fourteenth of the side, mirror half, vary contrast (30 %) and brightness (a tenth)."""
    n, _, height, width = x.shape
    reach = height // 14
    padded = nn.functional.pad(x, (reach,) * 4, mode="replicate")
    dy, dx = torch.randint(0, 2 * reach + 1, (2, n, 1), generator=generator)
    rows = (dy + torch.arange(height))[:, None, :, None]
    columns = (dx + torch.arange(width))[:, None, None, :]
    channels = torch.arange(x.shape[1])[None, :, None, None]
    moved = padded[torch.arange(n)[:, None, None, None], channels, rows, columns]
    mirror = torch.rand(n, generator=generator) < 0.5
    moved = torch.where(mirror[:, None, None, None], moved.flip(-1), moved)
    contrast, brightness = 2 * torch.rand((2, n, 1, 1, 1), generator=generator) - 1
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    return torch.addcmul(mean + 0.1 * brightness, 1 + 0.3 * contrast, moved - mean)


def _merit(network: nn.Module, selection: Split, loss: nn.Module) -> tuple[float, float]:
    """Balanced accuracy, ties broken by the loss."""
    network.eval()
    x, y = _tensors(selection)
    with torch.no_grad():
        logits = network(x)
    return accuracy(y.numpy(), logits.argmax(1).numpy())[1], -float(loss(logits, y))


def _tensors(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(split.inputs), torch.from_numpy(np.asarray(split.labels))
