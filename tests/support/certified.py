"""Models whose certified radii are known: images whose mean decides, tables of which one column does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from sklearn.ensemble import RandomForestClassifier
from torch import nn

from medward.guard.bundle.folder import Bundle
from medward.guard.bundle.make import protect
from medward.guard.certify.network_bounds import RADIUS, NetworkBounds
from medward.guard.certify.output_bounds import OutputBounds
from medward.guard.data.split import Split
from medward.guard.policy import Policy
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.regression import Regression

SHAPE = (1, 4, 4)
RNG = np.random.default_rng(0)


def policy(uncertified="mark", radius=0.0, level="full", **sections):
    """One that certifies answers and in which nothing else acts on them."""
    return Policy.model_validate(
        {
            "on_error": "withhold",
            "release": {"level": level},
            "screen": {"action": "allow"},
            "monitor": {"ladder": [{"false_alarm": 0.01, "action": "flag"}]},
            "duplicates": {"watch": False},
            **sections,
            "certify": {"enabled": True, "uncertified": uncertified, "radius": radius},
        }
    )


def mean_network() -> nn.Module:
    """Decides "light" where the mean of an image's values is above one half."""
    return _summing([[-1.0] * 16, [1.0] * 16], [8.0, -8.0])


def findings_network() -> nn.Module:
    """Finds "light" where the mean is above one half, "top" where that of the upper half is above 0.3."""
    return _summing([[1.0] * 16, [2.0] * 8 + [0.0] * 8], [-8.0, -4.8])


def pixel_network() -> nn.Module:
    """Decides "light" where the first value is above one half: on even images as `mean_network` does."""
    return _summing([[-16.0] + [0.0] * 15, [16.0] + [0.0] * 15], [8.0, -8.0])


def number_network(times: float = 1.0) -> nn.Module:
    """Gives the mean times sixteen, and `times` that."""
    return _summing([[times] * 16], [0.0])


def images(n: int = 300, seed: int = 0) -> np.ndarray:
    """Images of one grey with a little noise, some of them near one half."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.uniform(0.2, 0.8, size=(n, 1, 1, 1)) + rng.uniform(-0.02, 0.02, size=(n, *SHAPE)), 0, 1).astype(
        np.float32
    )


def greys(*levels: float) -> np.ndarray:
    """One even image for each grey level of 255."""
    return np.stack([np.full(SHAPE, level / 255, np.float32) for level in levels])


def protected(folder, kind="classes", chosen: Policy | None = None, **options) -> Bundle:
    """A bundle of one of the models above."""
    chosen = policy() if chosen is None else chosen
    common = {"low": 0.0, "high": 1.0, "overwrite": True, **options}
    if kind in ("classes", "one pixel"):
        network = mean_network() if kind == "classes" else pixel_network()
        return protect(network, Split(images()), chosen, folder, classes=("dark", "light"), output="logits", **common)
    if kind == "findings":
        task = Multilabel(findings=("light", "top"), thresholds=(0.5, 0.5), output="logits")
        return protect(findings_network(), Split(images()), chosen, folder, task=task, **common)
    task = Regression(quantity="sum", tolerance=0.5)
    network = number_network(0.5 if kind == "number halved" else 1.0)
    return protect(network, Split(images()), chosen, folder, task=task, **common)


@dataclass(frozen=True)
class Forest:
    """A forest on a table of which one column decides, and rows of it."""

    bundle: Bundle
    rows: np.ndarray


def forest(folder, chosen: Policy | None = None, column: int = 0) -> Forest:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 3)).astype(np.float32) * np.float32([1, 100, 0.01])
    model = RandomForestClassifier(12, max_depth=4, random_state=0).fit(rows, (rows[:, column] > 0).astype(int))
    chosen = policy() if chosen is None else chosen
    made = protect(model, Split(rows), chosen, folder, classes=("no", "yes"), overwrite=True)
    return Forest(made, rows)


def _summing(weight, bias) -> nn.Module:
    layer = nn.Linear(16, len(bias))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        layer.bias.copy_(torch.tensor(bias))
    return nn.Sequential(nn.Flatten(), layer).eval()


def halved(bundle: Bundle) -> Bundle:
    """The bundle with bounds that are not sound: they say of a radius what is true of half of it."""
    assert bundle.bounds is not None
    held = bundle.bounds.bounds
    model = onnx.load_from_string(held.data)
    for node in model.graph.node:
        node.input[:] = ["half" if name == RADIUS else name for name in node.input]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0.5), "one half"))
    model.graph.node.insert(0, onnx.helper.make_node("Mul", [RADIUS, "one half"], ["half"]))
    wrong = replace(held, model=NetworkBounds.load(model.SerializeToString()))
    return replace(bundle, bounds=replace(bundle.bounds, bounds=wrong))


class Everything:
    """Bounds of a model that certify whatever it decides: the least and the largest are what it says."""

    data = b""

    def __init__(self, model):
        self.model = model

    def between(self, rows, radius):
        scores = self.model.predict(rows).scores
        return OutputBounds(lower=scores, upper=scores)


def certifying_all(bundle: Bundle) -> Bundle:
    """The bundle with bounds that hold of everything."""
    assert bundle.bounds is not None
    wrong = replace(bundle.bounds.bounds, model=Everything(bundle.model))
    return replace(bundle, bounds=replace(bundle.bounds, bounds=wrong))
