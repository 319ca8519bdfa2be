"""A small network that imitates the numbers of another, whatever their shape, by squared error."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from medward.attacks.whitebox.surrogate import fit_student
from medward.guard.types import Array, Modality

SMALLEST_SPREAD = 1e-6  # of a number over the rows, that it is divided by


class Unscaled(nn.Module):
    """A network whose numbers ``(n, width)`` are brought back to the scale and shape of those it imitates."""

    def __init__(self, network: nn.Module, mean: Tensor, spread: Tensor, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.shape = network, shape
        self.register_buffer("mean", mean)
        self.register_buffer("spread", spread)

    def forward(self, x: Tensor) -> Tensor:
        """The numbers ``(n, *shape)``."""
        numbers: Tensor = self.network(x) * self.get_buffer("spread") + self.get_buffer("mean")
        return numbers.reshape(len(x), *self.shape)


def fit_numbers(
    inputs: Array,
    numbers: Array,
    *,
    modality: Modality,
    shape: tuple[int, ...],
    epochs: int,
    seed: int,
    device: str = "cpu",
    normalised: bool = True,
) -> nn.Module:
    """A frozen network from inputs to `numbers (n, ...)`, learned by squared error; rows with a NaN teach nothing.

    Raises `MedwardError` when no row is left.
    """
    flat = np.asarray(numbers, np.float64).reshape(len(numbers), -1)
    told = flat[np.isfinite(flat).all(axis=1)]
    mean = told.mean(axis=0) if len(told) else np.zeros(flat.shape[1])
    spread = np.maximum(told.std(axis=0) if len(told) else np.ones(flat.shape[1]), SMALLEST_SPREAD)
    network = fit_student(
        inputs,
        (flat - mean) / spread,
        loss=nn.functional.mse_loss,
        modality=modality,
        shape=shape,
        epochs=epochs,
        seed=seed,
        device=device,
        normalised=normalised,
    )
    back = [torch.as_tensor(each, dtype=torch.float32) for each in (mean, spread)]
    return Unscaled(network, back[0], back[1], tuple(np.shape(numbers)[1:])).to(device).eval()
