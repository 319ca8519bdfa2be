"""Searches for an input within a certified radius that is decided otherwise: random, by gradients, at splits.

Each row is given the largest radius at which its decision is certain, to a part in a million, so that rounding matters.
A model is asked as it is deployed, and with none or few of the runtime's optimisations, whose sums have other orders.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xgboost
from claim import Claim
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.bounded_networks import LEVELS, session_at
from torch import Tensor, nn

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.whitebox.onnx.to_torch import to_torch
from medward.guard.certify.bounds import Bounds
from medward.guard.certify.tree_bounds import TreeBounds
from medward.guard.errors import MedwardError
from medward.guard.models import wrap
from medward.guard.models.onnx_model import OnnxModel, load_onnx
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.types import Array

CLAIMS = ("certified_soundness",)
RANDOM, ADVERSARIAL, ROWS = 10**6, 10**4, 200
LARGEST, HALVINGS, PRECISION = 1.0, 40, 1e-6
SEED = 0


def measure() -> Iterator[Claim]:
    """Search each model's certified balls, and as the control such with half as much again."""
    found = {name: searched(*make()) for name, make in SUBJECTS.items()}
    changed = sum(each["changed"] for each in found.values())
    tried = sum(each["random"] + each["adversarial"] for each in found.values())
    yield Claim(
        claim=CLAIMS[0],
        value=changed,
        target=f"0 of {tried} inputs within a certified radius decided otherwise, over {len(found)} models",
        met=changed == 0,
        n=tried,
        seed=SEED,
        details=found,
    )


def searched(model: OnnxModel, bounds: Bounds, rows: Array, scale: Array) -> dict[str, Any]:
    """How many of the inputs that were tried are decided otherwise, within each row's own radius."""
    rng = np.random.default_rng(SEED)
    radius = largest_radii(bounds, rows, scale)
    kept = radius > 0
    rows, radius = rows[kept], radius[kept]
    around = radius.reshape(-1, *[1] * (rows.ndim - 1)) * scale
    own = bounds.spec.decide(model.predict(rows).scores)
    ask = [_asked(model, level) for level in LEVELS]
    turns = -(-RANDOM // len(rows))
    changed = 0
    for turn in range(turns):
        corner = rng.random((len(rows), *[1] * (rows.ndim - 1))) < 0.5
        steps = rng.uniform(-1, 1, size=rows.shape)
        near = within(rows, around * np.where(corner, np.sign(steps), steps), around, bounds.spec)
        changed += int((ask[turn % len(ask)](near) != own).sum())
    attack = _at_splits if isinstance(bounds.model, TreeBounds) else _by_gradient
    adversarial, beyond = (
        sum(
            int((ask[turn % len(ask)](within(rows, each, reach, bounds.spec)) != own).sum())
            for turn, each in enumerate(attack(model, bounds, rows, reach, own))
        )
        for reach in (around, around * 1.5)
    )
    return {
        "rows": len(rows),
        "random": turns * len(rows),
        "adversarial": adversarial_steps(rows) * len(rows),
        "changed": changed + adversarial,
        "control: changed at half as much again": beyond,
        "median radius": float(np.median(radius)),
    }


def adversarial_steps(rows: Array) -> int:
    """How many steps of every row make up the inputs that an attack is given."""
    return -(-ADVERSARIAL // len(rows))


def largest_radii(bounds: Bounds, rows: Array, scale: Array) -> Array:
    """The largest radius ``(n,)`` of each row at which its decision is certain, by bisection; 0 for none."""
    found = np.zeros(len(rows))
    for place, row in enumerate(rows):
        low, high = 0.0, LARGEST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            certain = bounds.certain_decisions(row[None], middle * scale)[0] >= 0
            low, high = (middle, high) if certain else (low, middle)
            if high - low < PRECISION * low:
                break
        found[place] = low
    return found


def within(rows: Array, change: Array, around: Array, spec: ModelSpec) -> Array:
    """Rows and a change as inputs of single precision, none of whose values is further than `around` from its own."""
    near = (rows.astype(np.float64) + np.clip(change, -around, around)).astype(np.float32)
    outside = np.abs(near.astype(np.float64) - rows) > around
    near = np.where(outside, np.nextafter(near, rows), near)
    return near if spec.low is None else np.clip(near, np.float32(spec.low), np.float32(spec.high))


def _asked(model: OnnxModel, level: str) -> Callable[[Array], Array]:
    session = session_at(model.data, level)

    def decisions(rows: Array) -> Array:
        given = rows.reshape(len(rows), -1) if len(session.get_inputs()[0].shape) == 2 else rows
        scores = session.run([model.scores], {model.input: given})[0]
        return model.spec.decide(model.spec.task.read(scores, "model"))

    return decisions


def _by_gradient(model: OnnxModel, bounds: Bounds, rows: Array, around: Array, own: Array) -> Iterator[Array]:
    """Changes by sign-gradient ascent on the other classes' advantage, from a uniform start; every step counts."""
    network = to_torch(model.data, {"input": model.input, "scores": model.scores}, model.spec.task)
    start = torch.from_numpy(rows.astype(np.float32))
    reach, decided = torch.from_numpy(np.broadcast_to(around, rows.shape).astype(np.float32)), torch.from_numpy(own)
    change = reach * (2 * torch.rand(rows.shape, generator=torch.Generator().manual_seed(SEED)) - 1)
    for _ in range(adversarial_steps(rows)):
        change = change.requires_grad_()
        scores = network.both(start + change, exact=False)[0]
        own_score = scores.gather(1, decided[:, None])[:, 0]
        others = scores.scatter(1, decided[:, None], -torch.inf).amax(dim=1)
        (slope,) = torch.autograd.grad((others - own_score).sum(), change)
        change = torch.minimum(torch.maximum((change + reach / 4 * slope.sign()).detach(), -reach), reach)
        yield change.numpy().astype(np.float64)


def _at_splits(model: OnnxModel, bounds: Bounds, rows: Array, around: Array, own: Array) -> Iterator[Array]:
    """Changes that greedy ascent finds which moves one value of every row at a time just across a split in reach."""
    rng, splits = np.random.default_rng(SEED), bounds.model.ensemble.splits()  # type: ignore[attr-defined]
    best = np.zeros(rows.shape)
    reach = np.broadcast_to(around, rows.shape)

    def advantage(change: Array) -> Array:
        scores = np.asarray(model.predict(within(rows, change, around, bounds.spec)).scores, np.float64)
        mine = scores[np.arange(len(rows)), own]
        scores[np.arange(len(rows)), own] = -np.inf
        return scores.max(axis=1) - mine

    height = advantage(best)
    for _ in range(adversarial_steps(rows)):
        feature = int(rng.choice(list(splits)))
        tried = best.copy()
        beside = rng.choice(splits[feature], len(rows)) * (1 + rng.choice([-1e-6, 0.0, 1e-6], len(rows)))
        tried[:, feature] = np.clip(beside - rows[:, feature], -reach[:, feature], reach[:, feature])
        yield tried
        now = advantage(tried)
        best, height = np.where((now >= height)[:, None], tried, best), np.maximum(now, height)


def trained(task: BenchmarkTask, *, certified: bool) -> nn.Module:
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
            least, most = _interval(net, low, high)
            worst = torch.where(nn.functional.one_hot(y[part], least.shape[1]) == 1, least, most)
            loss = nn.functional.cross_entropy(net(x[part]), y[part]) * (1 - 0.7 * ramp)
            loss = loss + 0.7 * ramp * nn.functional.cross_entropy(worst, y[part])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return net.eval()


def _interval(net: nn.Sequential, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
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
        spec = ModelSpec(
            name="network",
            modality="image",
            shape=task.shape,
            task=Classification(classes=task.classes, output="logits"),
            low=task.low,
            high=task.high,
        )
        return *_exported(make(task), spec, task.splits["calibration"].inputs[:16]), inputs, np.float64(1)

    return subject


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
        return *_exported(fitted, spec, task.splits["calibration"].inputs[:16]), inputs, scale

    return subject


def _exported(model: Any, spec: ModelSpec, sample: Array) -> tuple[OnnxModel, Bounds]:
    with tempfile.TemporaryDirectory() as folder:
        written = wrap(model, spec=spec, sample=sample).export(Path(folder))
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
