"""Shared small subjects: a linear model on two features and a guard around it, built in milliseconds."""

from __future__ import annotations

import pytest
from hypothesis import settings
from support.models import LinearModel, benign_rows

from medward.guard.pipeline import Guard
from medward.guard.policy import Policy
from medward.guard.profile import Profile

settings.register_profile("medward", settings(), deadline=None)  # nothing is timed in a test
settings.load_profile("medward")


@pytest.fixture(scope="session")
def linear_model():
    return LinearModel()


@pytest.fixture(scope="session")
def linear_profile(linear_model):
    return Profile.fit(linear_model, benign_rows(LinearModel), risk=0.001)


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
