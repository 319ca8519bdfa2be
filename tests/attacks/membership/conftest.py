"""Candidates that a model was or was not trained on, and targets that answer about them."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from support.release import ReleaseLevels

from medward.attacks.base import Access, AttackData, ThreatModel
from medward.attacks.target import Response, Target
from medward.guard.data.split import Split
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Level

SPEC = ModelSpec(
    name="digits",
    modality="tabular",
    shape=(64,),
    task=Classification(classes=tuple("0123456789"), output="logits"),
    low=0,
    high=16,
)
RELEASE = ReleaseLevels(output="logits", decimals=2, top=3)


@pytest.fixture(scope="session")
def coin_flip():
    """Digits with four labels in ten redrawn, split by one permutation: 300 + 300 candidates, 600 shadow."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    y = np.where(rng.random(len(y)) < 0.4, rng.integers(0, 10, len(y)), y)
    order = rng.permutation(len(x))
    rows = Split(x[order].astype(np.float32), y[order].astype(np.int64))
    members, others, shadow = rows.take(slice(300)), rows.take(slice(300, 600)), rows.take(slice(600, 1200))
    return AttackData(craft=others, test=others, members=members, nonmembers=others, shadow=shadow)


@pytest.fixture
def target_of():
    """A target on a network. `kind`: exact, rounded, top, label, withheld, or tiring (exact, then labels only)."""

    def build(network, kind="exact"):
        asked = 0

        def oracle(inputs):
            nonlocal asked
            asked += len(inputs)
            scores = network(inputs)
            response = Response(scores.argmax(axis=1), scores, "logits")
            nothing = np.full(scores.shape, np.nan)
            if kind == "rounded":
                return Response(response.labels, response.probabilities.round(2), "probabilities")
            if kind == "top":
                return Response(response.labels, RELEASE.release(scores, Level.TOP), "probabilities")
            if kind == "withheld":
                return Response(np.full(len(inputs), -1), nothing, "probabilities")
            if kind == "label" or (kind == "tiring" and asked > 300):
                return Response(response.labels, nothing, "logits")
            return response

        return Target(SPEC, oracle, ThreatModel(access=Access.SCORES), batch=50)

    return build
