"""An endpoint around the small linear model, and one around a tiny image model."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from starlette.testclient import TestClient
from support.models import MeanModel, benign_rows

from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.integrations.serving import create_app


@pytest.fixture
def mean_model():
    return MeanModel()


@pytest.fixture(scope="session")
def image_profile():
    return Profile.fit(MeanModel(), benign_rows(MeanModel), risk=0.001)


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
