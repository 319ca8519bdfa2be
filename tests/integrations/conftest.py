"""An endpoint around the small linear model, and one around a tiny image model."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from guard.policy import Policy
from guard.profile import Profile
from guard.types import ModelSpec, Outputs
from integrations.serving import create_app


class MeanModel:
    """Probability of "dark" is one minus the mean pixel."""

    def __init__(self, shape=(1, 4, 6), low=0.0, high=1.0):
        self.spec = ModelSpec(
            name="mean",
            modality="image",
            shape=shape,
            classes=("dark", "light"),
            output="probabilities",
            low=low,
            high=high,
        )

    def predict(self, inputs):
        mean = (inputs.mean(axis=(1, 2, 3)) - self.spec.low) / (self.spec.high - self.spec.low)
        return Outputs(np.stack([1 - mean, mean], axis=1))


@pytest.fixture
def mean_model():
    return MeanModel()


@pytest.fixture(scope="session")
def image_profile():
    benign = np.random.default_rng(0).uniform(size=(400, 1, 4, 6)).astype(np.float32)
    return Profile.fit(MeanModel(), benign, risk=0.001)


@pytest.fixture
def client(make_guard):
    """Build a client; `policy` goes to the guard, `app` options to `create_app`."""
    clients = []

    def make(policy=None, *, keys=None, guard_parts=None, **app):
        guard = make_guard(policy, **(guard_parts or {}))
        made = TestClient(create_app(guard, keys=keys, **app), raise_server_exceptions=False)
        clients.append(made)
        return made

    yield make
    for made in clients:
        made.close()


@pytest.fixture
def image_client(client, image_profile):
    """A client of the image model, at level full and with a screen that lets everything pass."""

    def make(**app):
        policy = Policy(on_error="withhold", release={"level": "full"}, screen={"action": "allow"})
        return client(policy, guard_parts={"model": MeanModel(), "profile": image_profile}, **app)

    return make


@pytest.fixture
def png():
    """Encode an array, or any Pillow image, as a file."""

    def encode(pixels, kind="PNG", **options):
        buffer = io.BytesIO()
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode
