"""Models that need no training: a linear one on three features, and one that looks at an image's mean."""

from __future__ import annotations

import numpy as np

from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Outputs
from medward.integrations.contracts.subjects import LinearModel

__all__ = ["LinearModel", "MeanModel", "benign_rows"]


class MeanModel:
    """Probability of "dark" is one minus the mean pixel."""

    def __init__(self, shape=(1, 4, 6), low=0.0, high=1.0):
        self.spec = ModelSpec(
            name="mean",
            modality="image",
            shape=shape,
            task=Classification(classes=("dark", "light"), output="probabilities"),
            low=low,
            high=high,
        )

    def predict(self, inputs):
        mean = (inputs.mean(axis=(1, 2, 3)) - self.spec.low) / (self.spec.high - self.spec.low)
        return Outputs(np.stack([1 - mean, mean], axis=1))


def benign_rows(kind: type[LinearModel] | type[MeanModel]) -> np.ndarray:
    """Rows to calibrate a profile on."""
    rng = np.random.default_rng(0)
    if kind is MeanModel:
        return rng.uniform(size=(400, 1, 4, 6)).astype(np.float32)
    return rng.normal(size=(800, 3)).astype(np.float32)
