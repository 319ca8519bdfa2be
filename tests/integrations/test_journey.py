"""protect -> serve -> HTTP for every kind of model; answers equal the model's own."""

from __future__ import annotations

import numpy as np
import pytest
from starlette.testclient import TestClient
from support.journeys import CLASSES, KINDS, ROWS, from_boosting, from_torch, heavy_modules, importable

from medward.guard.errors import MedwardError
from medward.integrations.serving import load_app


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_served_is_the_models_own_answer(kind, tmp_path):
    protected = KINDS[kind](tmp_path)
    with importable(tmp_path):
        app = load_app(protected.bundle, state=tmp_path / "state", anonymous=True, **protected.options)
    with TestClient(app) as client:
        reply = client.post("/v1/predict", json={"inputs": ROWS[:50].tolist()})
    assert reply.status_code == 200, reply.text
    own = protected.own[:50]
    assert np.abs(np.array(reply.json()["scores"]) - own).max() <= 1e-5
    assert reply.json()["labels"] == [CLASSES[i] for i in own.argmax(1)]
    assert set(reply.json()["levels"]) == {"full"}


def test_a_callable_is_not_served_unless_its_code_is_allowed(tmp_path):
    protected = KINDS["callable"](tmp_path)
    with importable(tmp_path), pytest.raises(MedwardError, match="allow_code"):
        load_app(protected.bundle, state=tmp_path / "state", anonymous=True)


def test_serving_an_onnx_bundle_loads_no_torch(tmp_path):
    assert heavy_modules(from_torch(tmp_path).bundle, tmp_path / "state") == []


def test_a_heavy_module_would_be_seen(tmp_path):
    # Negative control: a skops bundle needs scikit-learn.
    assert "sklearn" in heavy_modules(from_boosting(tmp_path).bundle, tmp_path / "state")
