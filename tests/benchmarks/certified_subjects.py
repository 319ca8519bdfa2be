"""The models that certified answers are measured on: networks of PneumoniaMNIST, table models of WDBC."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xgboost
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.guard.certify.bounds import Bounds
from medward.guard.errors import MedwardError
from medward.guard.models import wrap
from medward.guard.models.onnx_model import OnnxModel, load_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array

ROWS, SEED = 200, 0


def trained(task: BenchmarkTask, *, certified: bool) -> nn.Sequential:
    """A small convolutional network, trained by cross-entropy, and by that of its interval bounds at 4/255."""
    torch.manual_seed(SEED)
    sides = [(task.shape[1] - 3) // 2 + 1]
    sides.append((sides[0] - 3) // 2 + 1)
    layers = [
        nn.Conv2d(task.shape[0], 16, 3, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
    ]
    net = nn.Sequential(*layers, nn.Linear(32 * sides[1] ** 2, 64), nn.ReLU(), nn.Linear(64, len(task.classes)))
    x, y = (torch.from_numpy(np.asarray(each)) for each in (task.splits["train"].inputs, task.splits["train"].labels))
    optimiser, epochs = torch.optim.Adam(net.parameters(), 1e-3), 12
    for epoch in range(epochs):
        ramp = min(1.0, epoch / (0.6 * epochs)) if certified else 0.0
        for part in torch.randperm(len(x)).split(64):
            low, high = ((x[part] + sign * ramp * 4 / 255).clamp(0, 1) for sign in (-1, 1))
            least, most = interval_bounds(net, low, high)
            worst = torch.where(nn.functional.one_hot(y[part], least.shape[1]) == 1, least, most)
            loss = nn.functional.cross_entropy(net(x[part]), y[part]) * (1 - 0.7 * ramp)
            loss = loss + 0.7 * ramp * nn.functional.cross_entropy(worst, y[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()


def interval_bounds(net: nn.Sequential, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest logits ``(n, K)`` over boxes, differentiable and not rounded outwards."""
    for layer in net:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            centre, spread = layer((low + high) / 2), (high - low) / 2
            kind = nn.functional.conv2d if isinstance(layer, nn.Conv2d) else nn.functional.linear
            more = {"stride": layer.stride} if isinstance(layer, nn.Conv2d) else {}
            reach = kind(spread, layer.weight.abs(), **more)
            low, high = centre - reach, centre + reach
        else:
            low, high = layer(low), layer(high)
    return low, high


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.conv(x)))


def _image_subject(make: Callable[[BenchmarkTask], nn.Module], *, rows: int = ROWS) -> Callable[[], Any]:
    def subject() -> Any:
        task = load_task("pneumoniamnist", seed=SEED)
        inputs = task.splits["test"].inputs[:rows]
        return *exported(make(task), image_spec(task), task.splits["calibration"].inputs[:16]), inputs, np.float64(1)

    return subject


def image_spec(task: BenchmarkTask) -> ModelSpec:
    """What a network of `task` takes and gives."""
    return ModelSpec(
        name="network",
        modality="image",
        shape=task.shape,
        task=Classification(classes=task.classes, output="logits"),
        low=task.low,
        high=task.high,
    )


def _residual(task: BenchmarkTask) -> nn.Module:
    torch.manual_seed(SEED)
    net = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), _Residual(), nn.AvgPool2d(2), _Residual()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)),
    )
    x = torch.from_numpy(task.splits["train"].inputs[:512])
    with torch.no_grad():
        for _ in range(20):
            net(x)  # which fits the normalisation
        gap = net.eval()(x)
        net[-1].bias[0] += (gap[:, 1] - gap[:, 0]).median()
    return net


def _table_subject(make: Callable[[], Any]) -> Callable[[], Any]:
    def subject() -> Any:
        task = load_task("wdbc", seed=SEED)
        fitted = make().fit(task.splits["train"].inputs.astype(np.float32), task.splits["train"].labels)
        spec = ModelSpec(
            name="table",
            modality="tabular",
            shape=task.shape,
            task=Classification(classes=task.classes, output="probabilities"),
            low=task.low,
            high=task.high,
        )
        inputs = np.concatenate([task.splits[name].inputs for name in ("test", "holdout")]).astype(np.float32)[:ROWS]
        scale = task.splits["train"].inputs.std(axis=0).astype(np.float64)
        return *exported(fitted, spec, task.splits["calibration"].inputs[:16]), inputs, scale

    return subject


def exported(model: Any, spec: ModelSpec, sample: Array) -> tuple[OnnxModel, Bounds]:
    """The deployed file of a model, opened, and its bounds."""
    with tempfile.TemporaryDirectory() as folder:
        written = wrap(model, spec=spec, sample=sample, exclusive=True).export(Path(folder))
        data = (Path(folder) / written.file).read_bytes()
    if written.file != "model.onnx":
        raise MedwardError(f"{spec.name}: was written as {written.file}, this needs an ONNX file")
    return load_onnx(data, spec, written.options), Bounds.of(data, spec, written.options)


SUBJECTS: dict[str, Callable[[], Any]] = {
    "certified network": _image_subject(lambda task: trained(task, certified=True)),
    "plain network": _image_subject(lambda task: trained(task, certified=False)),
    "residual network": _image_subject(_residual),
    "logistic regression": _table_subject(lambda: make_pipeline(StandardScaler(), LogisticRegression())),
    "random forest": _table_subject(lambda: RandomForestClassifier(50, max_depth=6, random_state=SEED)),
    "xgboost": _table_subject(lambda: xgboost.XGBClassifier(n_estimators=50, max_depth=4)),
}
