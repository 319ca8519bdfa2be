"""protect -> serve -> HTTP for every kind of model; answers equal the model's own."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from starlette.testclient import TestClient

from guard.data import Split
from guard.policy import Policy
from guard.protect import protect
from integrations.serving import load_app

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 4)).astype(np.float32)
LABELS = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 0.5).astype(int)
OPEN = Policy.model_validate(
    {"on_error": "withhold", "release": {"level": "full"}, "screen": {"action": "allow"}}
)


def torch_model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)), "logits"


def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS), None


def boosting():
    return HistGradientBoostingClassifier(max_iter=10).fit(ROWS, LABELS), None


def own_scores(model):
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.from_numpy(ROWS)).numpy()
    return model.predict_proba(ROWS) if hasattr(model, "predict_proba") else model(ROWS)


def answers(bundle: Path, state: Path, **options):
    with TestClient(load_app(bundle, state=state, anonymous=True, **options)) as client:
        reply = client.post("/v1/predict", json={"inputs": ROWS[:50].tolist()})
        assert reply.status_code == 200, reply.text
        return reply.json()


@pytest.mark.parametrize("make", [torch_model, pipeline, boosting])
def test_what_is_served_is_the_models_own_answer(make, tmp_path):
    model, output = make()
    bundle = protect(model, Split(ROWS), OPEN, tmp_path / "bundle", classes=("no", "yes"), output=output)
    reply = answers(bundle.path, tmp_path / "state")
    own = own_scores(model)[:50]
    assert np.abs(np.array(reply["scores"]) - own).max() <= 1e-5
    assert reply["labels"] == [("no", "yes")[i] for i in own.argmax(1)]
    assert set(reply["levels"]) == {"full"}


def test_an_onnx_file_is_served_as_it_is(tmp_path):
    model, output = torch_model()
    first = protect(model, Split(ROWS), OPEN, tmp_path / "a", classes=("no", "yes"), output=output)
    again = protect(
        str(first.path / "model.onnx"),
        Split(ROWS),
        OPEN,
        tmp_path / "b",
        classes=("no", "yes"),
        output=output,
    )
    reply = answers(again.path, tmp_path / "state")
    assert np.abs(np.array(reply["scores"]) - own_scores(model)[:50]).max() <= 1e-5


def test_a_callable_is_served_when_its_code_is_allowed(tmp_path, monkeypatch):
    (tmp_path / "risk_score_of_site.py").write_text(
        textwrap.dedent("""
        import numpy as np

        def predict(rows):
            risk = 1 / (1 + np.exp(-rows[:, 0]))
            return np.stack([1 - risk, risk], axis=1)
        """)
    )
    monkeypatch.syspath_prepend(tmp_path)
    bundle = protect(
        "risk_score_of_site:predict",
        Split(ROWS),
        OPEN,
        tmp_path / "bundle",
        classes=("no", "yes"),
        output="probabilities",
    )
    from risk_score_of_site import predict

    reply = answers(bundle.path, tmp_path / "state", allow_code=True)
    assert np.abs(np.array(reply["scores"]) - predict(ROWS)[:50]).max() <= 1e-5


def test_serving_an_onnx_bundle_loads_no_torch(tmp_path):
    model, output = torch_model()
    bundle = protect(model, Split(ROWS), OPEN, tmp_path / "bundle", classes=("no", "yes"), output=output)
    script = """
        import json, sys
        import guard, guard.pipeline
        from pathlib import Path
        from starlette.testclient import TestClient
        from integrations.serving import load_app
        with TestClient(load_app(Path(sys.argv[1]), state=Path(sys.argv[2]), anonymous=True)) as client:
            reply = client.post("/v1/predict", json={"inputs": [[0.0, 0.0, 0.0, 0.0]]})
        heavy = {"torch", "sklearn", "scipy", "transformers", "onnx", "skl2onnx", "pandas"} & set(sys.modules)
        print(json.dumps({"status": reply.status_code, "heavy": sorted(heavy)}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(bundle.path), str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"status": 200, "heavy": []}
