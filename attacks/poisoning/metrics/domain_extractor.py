"""The fixed network whose features distances between real and generated images are measured in.

No weights of ImageNet are used, so no figure of it is a "FID": it is a domain FID, told with the digest of the network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np

from medward.attacks.benchmarks.federated_classifier import FederatedClassifier
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.federated.update import ModelParameters
from medward.guard.types import Array

FEATURES = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainExtractor:
    """A domain extractor turns images (n, C, S, S) in [0, 1] into 64 features each; it is never trained again."""

    network: FederatedClassifier
    parameters: ModelParameters = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 over the settings, dtypes, shapes and values of the network: names it in every report."""
        sha = hashlib.sha256(repr(self.network).encode())
        for array in self.parameters:
            sha.update(f"{array.dtype}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()

    @property
    def label(self) -> str:
        """What a table calls a Frechet distance of its features."""
        return f"domain FID ({FEATURES}-d, {self.digest[:12]})"

    def features(self, images: Array) -> Array:
        """(n, 64) features, float64."""
        return self.network.features(self.parameters, images).astype(np.float64)


def train_extractor(rows: Split, seed: int, *, epochs: int = 8) -> DomainExtractor:
    """The extractor that learned to tell the classes of labelled real `rows` apart.

    `rows` must be those of no client and of no test. Raises `MedwardError` for rows of one class, for which a network
    need not look at anything.
    """
    labels = np.asarray(rows.labels if rows.labels is not None else [], np.int64)
    if len(np.unique(labels)) < 2:
        raise MedwardError(f"extractor: needs rows of 2 classes or more, got {len(np.unique(labels))}")
    channels, size = rows.inputs.shape[1:3]
    network = FederatedClassifier(
        channels=channels, size=size, classes=int(labels.max()) + 1, epochs=epochs, falling=True
    )
    learned = network.learn(network.initial(seed), rows, None, seed)
    return DomainExtractor(network=network, parameters=learned.parameters)
