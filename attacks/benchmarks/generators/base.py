"""What a model under federated training is: arrays that are averaged, and a memory that stays with each client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.federated.update import ModelParameters
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True)
class Learned:
    """A local training gives parameters to send, a memory that stays with the client, and what it says of itself."""

    parameters: list[np.ndarray]
    memory: Any
    metrics: Mapping[str, float]


class FederatedModel(Protocol):
    """A federated model is trained by many clients, each on its own rows.

    Images are (n, C, S, S) in [0, 1].
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def classes(self) -> int:
        """How many classes its rows have."""
        ...

    def initial(self, seed: int) -> list[np.ndarray]:
        """The parameters before the first round."""

    def learn(self, start: ModelParameters, rows: Split, memory: Any, seed: int) -> Learned:
        """One local training from `start` on labelled `rows`; `memory` is None in a client's first round."""


class ImageGenerator(FederatedModel, Protocol):
    """An image generator is a federated model that makes images of a class, with S a power of two, 16 or more.

    Parameters that an attack broke may make images that are not finite.
    """

    def images(self, parameters: ModelParameters, labels: Ints, seed: int) -> Array:
        """One image of each of `labels` (n,), the same noise for the same seed."""


def check_side(name: str, size: int) -> None:
    """Raise `MedwardError` unless images of `size` pixels a side can be made."""
    if size < 16 or size & (size - 1):
        raise MedwardError(f"{name}: size must be a power of two, 16 or more, got {size}; pad or resize the images")


def arrays_of(network: nn.Module) -> list[np.ndarray]:
    """Copies of the network's state, in its own order."""
    return [value.detach().cpu().numpy().copy() for value in network.state_dict().values()]


def with_arrays(network: nn.Module, parameters: ModelParameters) -> nn.Module:
    """The network, holding `parameters`."""
    names = network.state_dict().keys()
    state = {name: torch.from_numpy(np.asarray(value).copy()) for name, value in zip(names, parameters, strict=True)}
    network.load_state_dict(state)
    return network
