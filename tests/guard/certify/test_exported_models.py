"""Models as users bring them, exported by the guard's own adapters, have sound bounds."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from support.bounded_networks import inputs_within
from torch import nn

from medward.guard.certify.bounds import Bounds
from medward.guard.certify.output_bounds import UNCERTAIN
from medward.guard.models import wrap
from medward.guard.models.onnx_model import load_onnx
from medward.guard.preparation import Preparation
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.regression import Regression

RADII = (0.002, 0.005, 0.01, 0.05, 0.1, 0.2)
RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(300, 4)).astype(np.float32) * np.float32([1, 10, 0.1, 3])
NUMBER = TABLE @ np.float64([1.0, 0.05, 4.0, 0.2])
YES, GRADE = (NUMBER > 0).astype(int), np.digitize(NUMBER, [-0.5, 0.5])


def with_fits(estimator, labels):
    estimator.fit(TABLE.astype(np.float64), labels)
    return estimator


ESTIMATORS = {
    "logistic": (lambda: make_pipeline(StandardScaler(), LogisticRegression()), YES),
    "logistic-of-three": (lambda: LogisticRegression(max_iter=1000), GRADE),
    "logistic-of-a-range": (lambda: make_pipeline(MinMaxScaler(), LogisticRegression()), YES),
    "linear": (lambda: make_pipeline(StandardScaler(), LinearRegression()), NUMBER),
    "perceptron": (lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=30, random_state=0)), YES),
    "perceptron-of-three": (lambda: MLPClassifier((8,), max_iter=30, random_state=0), GRADE),
    "perceptron-of-a-number": (
        lambda: MLPRegressor(hidden_layer_sizes=(8,), max_iter=30, random_state=0, activation="tanh"),
        NUMBER,
    ),
}


def exported(model, spec, sample, folder):
    """The bundle's own file of a model, opened, and its bounds."""
    written = wrap(model, spec=spec, sample=sample).export(folder)
    assert written.file == "model.onnx"
    data = (folder / "model.onnx").read_bytes()
    return load_onnx(data, spec, written.options), Bounds.of(data, spec, written.options)


def holds(model, bounds, rows, scale=1.0):
    """The certified share at each radius; no input within it may be decided otherwise."""
    own, rng, shares = bounds.spec.decide(model.predict(rows).scores), np.random.default_rng(1), []
    for radius in RADII:
        found = bounds.certain_decisions(rows, radius * np.asarray(scale))
        sure = found != UNCERTAIN
        assert np.array_equal(found[sure], own[sure])
        for _ in range(30):
            steps = inputs_within(np.zeros_like(rows), radius, bounds.spec, rng) if bounds.spec.low is None else None
            near = (
                inputs_within(rows, radius, bounds.spec, rng)
                if steps is None
                else rows + steps * np.float32(scale) * 0.999
            )
            assert np.array_equal(bounds.spec.decide(model.predict(near.astype(np.float32)).scores)[sure], own[sure])
        shares.append(float(sure.mean()))
    return shares


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimators_that_are_networks(name, tmp_path):
    make, labels = ESTIMATORS[name]
    if labels is NUMBER:
        task = Regression(tolerance=1.0, cut_points=(-0.5, 0.5))
    else:
        task = Classification(classes=tuple(map(str, np.unique(labels))), output="probabilities")
    spec = ModelSpec(name=name, modality="tabular", shape=(4,), task=task)
    model, bounds = exported(with_fits(make(), labels), spec, TABLE[:50], tmp_path)
    shares = holds(model, bounds, TABLE, TABLE.std(axis=0))
    assert shares[0] > 0.9
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < 1


class Residual(nn.Module):
    """A block with batch normalisation and a short cut."""

    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x):
        return torch.relu(x + self.norm(self.first(x)))


def networks():
    torch.manual_seed(0)
    plain = [nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2)]
    block = [
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        Residual(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ]
    pooled = [
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(),
        nn.Flatten(),
        nn.Linear(100, 8),
        nn.ReLU6(),
        nn.Linear(8, 2),
    ]
    for each in (plain, block, pooled):
        net = nn.Sequential(*each)
        for norm in (each for each in net.modules() if isinstance(each, nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2)
        yield net.eval()


@pytest.mark.parametrize(("kind", "normalised"), [(0, False), (0, True), (1, True), (2, False)])
def test_networks_of_torch(kind, normalised, tmp_path):
    net = list(networks())[kind]
    rows = np.random.default_rng(2).random((60, 1, 12, 12), dtype=np.float32)
    spec = ModelSpec(
        name="net",
        modality="image",
        shape=(1, 12, 12),
        task=Classification(classes=("a", "b"), output="logits"),
        low=0,
        high=1,
        prepare=Preparation(mean=(0.4,), std=(0.3,)) if normalised else Preparation(),
    )
    with torch.no_grad():  # so that either class is decided
        gap = net((torch.from_numpy(rows) - 0.4) / 0.3 if normalised else torch.from_numpy(rows))
        net[-1].bias[0] += (gap[:, 1] - gap[:, 0]).median() + 1e-4
    model, bounds = exported(net, spec, rows[:8], tmp_path)
    shares = holds(model, bounds, rows)
    assert 0 < shares[0] < 1
    assert shares == sorted(shares, reverse=True)
