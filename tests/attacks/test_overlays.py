"""Side markers and letters on every image: forgiven by a calibration that knows markings, and only by such a one."""

import numpy as np
import pytest
import torch
from torch import nn

from medward.attacks.validation.ordinary.behaviour import Traffic, VisitSettings
from medward.attacks.validation.ordinary.measure import WatchedGuard, ordinary_cost
from medward.attacks.validation.ordinary.overlays import OVERLAYS
from medward.guard import profile as profile_module
from medward.guard.models import wrap
from medward.guard.monitors import noise_residuals
from medward.guard.policy import Policy
from medward.guard.profile import Profile
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification

SIDE = 24
SETTINGS = VisitSettings(accounts=8, queries=120, rows=150)
FORGIVEN = [each for each in OVERLAYS if each.forgiven]


def scenes(n, seed):
    """Bright shapes on a dark ground, with grain."""
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE), indexing="ij")
    middles, widths = rng.uniform(-0.3, 0.3, (2, n, 1, 1)), rng.uniform(0.4, 0.8, (n, 1, 1))
    shapes = 0.5 * np.exp(-((y - middles[0]) ** 2 + (x - middles[1]) ** 2) / widths**2)
    return (0.1 + shapes + 0.02 * rng.normal(size=shapes.shape)).clip(0, 1).astype(np.float32)[:, None]


class HowWide(nn.Module):
    """A model without a last layer whose inputs would be its features."""

    def forward(self, images):
        inside = images[:, 0, 6:-6, 6:-6].mean(dim=(1, 2)) - images.mean(dim=(1, 2, 3))
        return torch.stack([inside, 0.1 - inside], dim=1)


@pytest.fixture(scope="module")
def model():
    task = Classification(classes=("small", "large"), output="logits")
    spec = ModelSpec(name="scenes", modality="image", shape=(1, SIDE, SIDE), task=task, low=0.0, high=1.0)
    network = HowWide()
    return wrap(network.eval(), spec=spec, sample=scenes(8, 9))


def calibrated(model):
    return WatchedGuard.of(
        model, Policy(on_error="withhold"), Profile.fit(model, scenes(1200, 0), risk=0.001, secret=0)
    )


def cost(guard, behaviour):
    traffic = Traffic.of(scenes(150, 1), np.zeros(150, np.int64), "image", 0.0, 1.0)
    visits = behaviour.visits(traffic, np.random.default_rng(0), SETTINGS)
    return ordinary_cost(guard, visits, guard.see(visits.rows), behaviour.name, "overlays", behaviour.forgiven)


def test_markers_and_letters_are_forgiven(model):
    guard = calibrated(model)
    assert {each.name: cost(guard, each).acted.value for each in FORGIVEN} == dict.fromkeys(
        ("side marker", "laterality letter"), 0.0
    )


def test_they_are_not_by_screens_that_never_saw_markings(model, monkeypatch):
    monkeypatch.setattr(profile_module, "can_be_marked", lambda _: False)
    guard = calibrated(model)
    found = [cost(guard, each) for each in FORGIVEN]
    assert min(each.acted.value for each in found) > 0.5
    assert max(each.parts["strange"] for each in found) > 0.5


def test_they_are_not_where_directions_know_no_places(model, monkeypatch):
    plain = noise_residuals.direction_bet
    monkeypatch.setattr(noise_residuals, "direction_bet", lambda *some, places, **more: plain(*some, **more))
    found = [cost(calibrated(model), each) for each in FORGIVEN]
    assert min(each.acted.value for each in found) > 0.5
    assert min(each.parts["shared"] for each in found) > 0.5
