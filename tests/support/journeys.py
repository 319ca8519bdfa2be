"""One small model of every kind, protected into a bundle, and what a process that serves one loads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medward.guard.bundle.make import protect
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.types import OutputKind

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 4)).astype(np.float32)
LABELS = (ROWS[:, 0] + ROWS[:, 1] ** 2 > 0.5).astype(int)
CLASSES = ("no", "yes")
OPEN = Policy.model_validate(
    {
        "on_error": "withhold",
        "release": {"level": "full"},
        "screen": {"action": "allow"},
        "monitor": {"ladder": [{"false_alarm": 0.01, "action": "flag"}]},
    }
)
"""A policy under which every answer leaves at level full."""
CODE = """
import numpy as np

def predict(rows):
    risk = 1 / (1 + np.exp(-rows[:, 0]))
    return np.stack([1 - risk, risk], axis=1)
"""
HEAVY = ("torch", "sklearn", "scipy", "transformers", "onnx", "skl2onnx", "pandas")
ASK = """
import json, sys
from pathlib import Path
from medward.guard import pipeline
from starlette.testclient import TestClient
from medward.integrations.serving import load_app
with TestClient(load_app(Path(sys.argv[1]), state=Path(sys.argv[2]), anonymous=True)) as client:
    reply = client.post("/v1/predict", json={"inputs": [[0.0, 0.0, 0.0, 0.0]]})
print(json.dumps({"status": reply.status_code, "heavy": sorted(set(sys.argv[3:]) & set(sys.modules))}))
"""


@dataclass(frozen=True, kw_only=True)
class Protected:
    """A bundle, the model's own scores on `ROWS`, and what serving it needs besides."""

    bundle: Path
    own: np.ndarray
    options: dict[str, bool] = field(default_factory=dict)


def from_torch(folder: Path) -> Protected:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    with torch.no_grad():
        own = model(torch.from_numpy(ROWS)).numpy()
    return Protected(bundle=_protect(model, folder / "torch", "logits"), own=own)


def from_sklearn(folder: Path) -> Protected:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)
    return Protected(bundle=_protect(model, folder / "sklearn"), own=model.predict_proba(ROWS))


def from_boosting(folder: Path) -> Protected:
    model = HistGradientBoostingClassifier(max_iter=10).fit(ROWS, LABELS)
    return Protected(bundle=_protect(model, folder / "boosting"), own=model.predict_proba(ROWS))


def from_onnx(folder: Path) -> Protected:
    exported = from_torch(folder)
    return Protected(bundle=_protect(str(exported.bundle / "model.onnx"), folder / "onnx", "logits"), own=exported.own)


def from_callable(folder: Path) -> Protected:
    """Needs `folder` on the import path, here and where it is served; see `importable`."""
    (folder / "risk_score_of_site.py").write_text(CODE)
    with importable(folder):
        bundle = _protect("risk_score_of_site:predict", folder / "callable", "probabilities")
        from risk_score_of_site import predict
    return Protected(bundle=bundle, own=predict(ROWS), options={"allow_code": True})


KINDS: dict[str, Callable[[Path], Protected]] = {
    "torch": from_torch,
    "scikit-learn": from_sklearn,
    "scikit-learn, skops": from_boosting,
    "ONNX": from_onnx,
    "callable": from_callable,
}


@contextmanager
def importable(folder: Path) -> Iterator[None]:
    """`folder` on the import path for a while."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.modules.pop("risk_score_of_site", None)


def heavy_modules(bundle: Path, state: Path) -> list[str]:
    """Those of `HEAVY` that a clean process has loaded once it served `bundle` and answered one request."""
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(bundle), str(state), *HEAVY],
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert answer["status"] == 200, done.stderr
    return answer["heavy"]


def _protect(model: object, out: Path, output: OutputKind | None = None) -> Path:
    return protect(model, Split(ROWS), OPEN, out, classes=CLASSES, output=output).path
