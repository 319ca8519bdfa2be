"""Shared small subjects: a linear model on two features and a guard around it, built in milliseconds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from guard.pipeline import Guard
from guard.policy import Policy
from guard.profile import Profile
from guard.types import ModelSpec, Outputs


@dataclass
class LinearModel:
    """scores = x W; features are the input. Deterministic, no training."""

    spec: ModelSpec = field(
        default_factory=lambda: ModelSpec(
            name="linear", modality="tabular", shape=(3,), classes=("a", "b", "c"), output="logits", low=-100, high=100
        )
    )
    weights: np.ndarray = field(default_factory=lambda: np.eye(3, dtype=np.float32))

    def predict(self, inputs):
        return Outputs(inputs @ self.weights)


@pytest.fixture(scope="session")
def linear_model():
    return LinearModel()


@pytest.fixture(scope="session")
def linear_profile(linear_model):
    benign = np.random.default_rng(0).normal(size=(800, 3)).astype(np.float32)
    return Profile.fit(linear_model, benign, risk=0.001)


@pytest.fixture
def make_guard(linear_model, linear_profile):
    def make(policy: Policy | None = None, **parts):
        return Guard(
            model=parts.pop("model", linear_model),
            profile=parts.pop("profile", linear_profile),
            policy=policy or Policy(on_error="withhold"),
            **parts,
        )

    return make
