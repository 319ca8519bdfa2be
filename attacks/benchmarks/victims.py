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

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.networks.architectures import ARCHITECTURES, build_network
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.harden.certified.architecture import certified_network
from medward.guard.harden.robust.augment import augment_images
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array, Ints, ScoreKind

TABLE_ARCHITECTURES = ("mlp", "network")
"""Of scikit-learn and of torch."""
_HIDDEN = 64
EVALUATED = 512  # rows at a time where nothing is learned


def train_victim(
    task: BenchmarkTask, *, architecture: str = "auto", epochs: int | None = None, seed: int = 0, device: str = "cpu"
) -> Any:
    """Fit a victim on "train": a torch module of logits, or for "mlp" a scikit-learn pipeline.

    `architecture` is one of `ARCHITECTURES` for images and "mlp" or "network" (torch) for tables; "auto" takes "cnn" or
    "mlp". `epochs` None takes what suits the architecture. The same seed gives the same weights on the same machine
    with as many threads. Raises `MedwardError` for an architecture that does not fit.
    """
    names = ("auto", *TABLE_ARCHITECTURES, *ARCHITECTURES)
    if architecture not in names:
        raise MedwardError(f"architecture {architecture!r} is not known; there are {', '.join(names)}")
    if architecture == "auto":
        architecture = "cnn" if task.modality == "image" else "mlp"
    if (architecture in TABLE_ARCHITECTURES) == (task.modality == "image"):
        raise MedwardError(f"architecture {architecture!r} does not fit the {task.modality} task {task.name}")
    if architecture == "mlp":
        return _fit_mlp(task.splits["train"], 2000 if epochs is None else epochs, seed)
    if architecture == "network":
        return _fit_table_network(task, 100 if epochs is None else epochs, seed)
    return _fit_network(task, architecture, 24 if epochs is None else epochs, seed, device)


def classifier_spec(task: BenchmarkTask, output: ScoreKind) -> ModelSpec:
    """What a classifier of `task` takes and gives."""
    return ModelSpec(
        name=task.name,
        modality=task.modality,
        shape=task.shape,
        task=Classification(classes=task.classes, output=output),
        low=task.low,
        high=task.high,
    )


def accuracy(labels: Ints, predicted: Ints) -> tuple[float, float]:
    """Accuracy, and balanced accuracy (the mean of the per-class recalls)."""
    hit = labels == predicted
    return float(hit.mean()), float(np.mean([hit[labels == label].mean() for label in np.unique(labels)]))


def predict_labels(victim: Any, inputs: Array) -> Ints:
    """The class index of each row, from either kind of victim, on the device it is on."""
    if not isinstance(victim, nn.Module):
        return np.asarray(victim.predict(inputs), np.int64)
    return _logits(victim, torch.from_numpy(inputs)).argmax(1).cpu().numpy()


def _fit_mlp(train: Split, epochs: int, seed: int) -> Pipeline:
    network = MLPClassifier((_HIDDEN,), alpha=3.0, solver="lbfgs", max_iter=epochs, random_state=seed)
    return make_pipeline(StandardScaler(), network).fit(train.inputs, train.labels)


def _fit_table_network(task: BenchmarkTask, epochs: int, seed: int) -> nn.Module:
    """Two hidden layers behind standardised columns, by Adam on cross-entropy, as a tutorial would train them."""
    x, y = _tensors(task.splits["train"])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = certified_network(x, len(task.classes))
    optimiser, loss = torch.optim.Adam(network.parameters(), 1e-3), nn.CrossEntropyLoss()
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x), generator=generator), 32):
            optimiser.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimiser.step()
    return network.eval()


def _fit_network(task: BenchmarkTask, architecture: str, epochs: int, seed: int, device: str) -> nn.Module:
    """AdamW with a one-cycle rate on class-weighted cross-entropy; keeps the epoch best on "selection"."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture, task.shape, len(task.classes)).to(device)
    x, y = (part.to(device) for part in _tensors(task.splits["train"]))
    loss = nn.CrossEntropyLoss(weight=len(y) / (len(task.classes) * torch.bincount(y).float()))
    batch, peak = 64, ARCHITECTURES[architecture].rate
    optimiser = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, peak, total_steps=epochs * (len(x) // batch))
    best, kept = (-1.0, 0.0), copy.deepcopy(network.state_dict())
    for _ in range(epochs):
        network.train()
        order = torch.randperm(len(x), generator=generator)[: len(x) // batch * batch].to(device)
        for rows in torch.split(order, batch):
            optimiser.zero_grad()
            loss(network(augment_images(x[rows], generator)), y[rows]).backward()
            optimiser.step()
            rate.step()
        if (merit := _merit(network, task.splits["selection"], loss)) > best:
            best, kept = merit, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    return network.eval()


def _merit(network: nn.Module, selection: Split, loss: nn.Module) -> tuple[float, float]:
    """Balanced accuracy, ties broken by the loss."""
    x, y = _tensors(selection)
    logits = _logits(network.eval(), x)
    return accuracy(y.numpy(), logits.argmax(1).cpu().numpy())[1], -float(loss(logits, y.to(logits.device)))


@torch.no_grad()
def _logits(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Logits ``(n, classes)``, in batches, on the device of the network."""
    device = next(network.parameters()).device
    return torch.cat([network(rows.to(device)) for rows in torch.split(x, EVALUATED)])


def _tensors(split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(split.inputs), torch.from_numpy(np.asarray(split.labels))
