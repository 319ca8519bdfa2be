"""Shared small subjects: a linear model on two features and a guard around it, built in milliseconds."""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from support.models import LinearModel, benign_rows

from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile

settings.register_profile("medward", settings(), deadline=None)  # nothing is timed in a test
settings.load_profile("medward")

GENERATORS = pytest.StashKey[list[tuple[np.random.Generator, dict]]]()


def pytest_collection_finish(session):
    here = str(Path(__file__).parent)
    found = {
        id(value): value
        for module in list(sys.modules.values())
        if (getattr(module, "__file__", None) or "").startswith(here)
        for value in vars(module).values()
        if isinstance(value, np.random.Generator)
    }
    session.stash[GENERATORS] = [(each, each.bit_generator.state) for each in found.values()]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Every test draws from its module's generators as if it ran alone: a failure comes back when it is run again."""
    for generator, state in item.session.stash[GENERATORS]:
        generator.bit_generator.state = state
    if item.get_closest_marker("data") and "MEDWARD_DATA" not in os.environ:
        pytest.skip("MEDWARD_DATA is not set: it names the folder of data sets")


@pytest.fixture(scope="session", autouse=True)
def _operators_read_once():
    """torch.onnx reads the source of its 500 operators anew for each export, most of what a small one takes."""
    if "torch" not in sys.modules:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        with contextlib.suppress(ImportError, AttributeError):  # of another torch, whose exports take their time
            registry = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
            patch.setattr(registry, "from_torchlib", staticmethod(functools.cache(registry.from_torchlib)))
        yield


@pytest.fixture(scope="session", autouse=True)
def _few_ordinary_accounts():
    """Validations in tests look at ordinary behaviour in passing; its own tests say how much."""
    with pytest.MonkeyPatch.context() as patch:
        with contextlib.suppress(ImportError):  # where nothing is validated
            measure = importlib.import_module("medward.attacks.validation.ordinary.measure")
            behaviour = importlib.import_module("medward.attacks.validation.ordinary.behaviour")
            few = behaviour.VisitSettings(accounts=2, queries=5, rounds=2, rows=5)
            patch.setattr(measure, "FULL_LOOK", few)
            patch.setattr(measure, "QUICK_LOOK", few)
        yield


@pytest.fixture(scope="session")
def linear_model():
    return LinearModel()


@pytest.fixture(scope="session")
def linear_profile(linear_model):
    return Profile.fit(linear_model, benign_rows(LinearModel), risk=0.001, secret=0)


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
