"""A classifier of images that can be trained by one site or by a federation: every array of it is averaged."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from medward.attacks.benchmarks.generators.base import Learned, arrays_of, with_arrays
from medward.attacks.benchmarks.networks.architectures import build_network
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.federated.update import ModelParameters
from medward.guard.types import Array, Ints

_LEAST_BATCH = 8  # rows without which batch statistics mean nothing
_READ = 512  # images read at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class FederatedClassifier:
    """A federated classifier tells `classes` classes of images (channels, size, size) apart.

    `architecture` is one of `ARCHITECTURES`. A client keeps no memory; where the rate is `falling` it ends near zero,
    for who trains once. The same seed gives the same parameters on the same machine with as many threads.
    """

    channels: int
    size: int
    classes: int
    architecture: str = "cnn"
    epochs: int = 1
    batch: int = 32
    rate: float = 1e-3
    falling: bool = False
    name: str = "classifier"

    def __post_init__(self) -> None:
        if self.batch < _LEAST_BATCH:
            raise MedwardError(f"batch: must be {_LEAST_BATCH} or more, got {self.batch}")

    def initial(self, seed: int) -> list[np.ndarray]:
        """The parameters of a fresh network."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            return arrays_of(self._network())

    def learn(self, start: ModelParameters, rows: Split, memory: Any, seed: int) -> Learned:
        """`epochs` epochs of cross-entropy; metrics "loss" (last batch) and "mean-loss".

        Raises `MedwardError` for fewer than 8 rows.
        """
        del memory
        if len(rows) < _LEAST_BATCH:
            raise MedwardError(f"classifier: needs {_LEAST_BATCH} rows or more to learn from, got {len(rows)}")
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            network = with_arrays(self._network(), start).train()
            losses = self._train(network, rows)
        return Learned(arrays_of(network), None, {"loss": losses[-1], "mean-loss": float(np.mean(losses))})

    def decide(self, parameters: ModelParameters, images: Array) -> Ints:
        """(n,): the class decided for each image."""
        return np.asarray(self._read(with_arrays(self._network(), parameters), images).argmax(axis=1), np.int64)

    def features(self, parameters: ModelParameters, images: Array) -> Array:
        """(n, d): what the last layer of the network is given."""
        network = with_arrays(self._network(), parameters)
        if not isinstance(network, nn.Sequential):
            raise MedwardError(f"features: architecture {self.architecture!r} is no sequence of layers; take 'cnn'")
        return self._read(network[:-1], images)

    def _read(self, network: nn.Module, images: Array) -> Array:
        with torch.no_grad():
            parts = torch.split(torch.from_numpy(np.asarray(images, np.float32)), _READ)
            read: Array = torch.cat([network.eval()(part) for part in parts]).numpy()
        return read

    def _network(self) -> nn.Module:
        return build_network(self.architecture, (self.channels, self.size, self.size), self.classes)

    def _train(self, network: nn.Module, rows: Split) -> list[float]:
        images = torch.from_numpy(np.asarray(rows.inputs, np.float32))
        labels = torch.from_numpy(np.asarray(rows.labels, np.int64))
        optimiser = torch.optim.AdamW(network.parameters(), self.rate)
        losses: list[float] = []
        total = self.epochs * math.ceil(len(images) / self.batch)
        for _ in range(self.epochs):
            for chosen in torch.split(torch.randperm(len(images)), self.batch):
                if len(chosen) < _LEAST_BATCH:
                    continue
                loss = functional.cross_entropy(network(images[chosen]), labels[chosen])
                optimiser.param_groups[0]["lr"] = self.rate * (1 - len(losses) / total if self.falling else 1)
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                losses.append(float(loss.detach()))
        return losses
