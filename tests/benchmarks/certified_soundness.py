"""Searches for an input within a certified radius that is decided otherwise: random, by gradients, at splits.

Each row is given the largest radius at which its decision is certain, to a part in a million, so that rounding matters.
A model is asked as it is deployed, and with none or few of the runtime's optimisations, whose sums have other orders.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from certified_subjects import ROWS, SEED, SUBJECTS, exported, image_spec, interval_bounds, trained
from claim import Claim
from support.bounded_networks import LEVELS, session_at
from torch import nn

from medward.attacks.benchmarks.tasks import load_task
from medward.attacks.whitebox.onnx.to_torch import to_torch
from medward.guard.certify.bounds import Bounds
from medward.guard.certify.tree_bounds import TreeBounds
from medward.guard.models.onnx_model import OnnxModel
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

CLAIMS = ("certified_soundness", "certified_answers_flipped")
RANDOM, ADVERSARIAL = 10**6, 10**4
LARGEST, HALVINGS, PRECISION = 1.0, 40, 1e-6


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
    yield flips_claim()


def flips_claim() -> Claim:
    """Of the answers that are certified under attack on the certificate, those that are not the model's own."""
    flips = flipped(ADVERSARIAL)
    certified, asked = flips["certified answers"], flips["answers"]
    return Claim(
        claim=CLAIMS[1],
        value=flips["certified answers flipped"],
        target=f"0 of {certified} certified answers, of {asked} asked within 4/255, are another than without a change",
        met=flips["certified answers flipped"] == 0,
        n=certified,
        seed=SEED,
        details=flips,
    )


def flipped(count: int, radius: float = 4 / 255) -> dict[str, Any]:
    """An attacker who maximises the certificate of another class, of the certified network: every step is asked."""
    task = load_task("pneumoniamnist", seed=SEED)
    net, inputs = trained(task, certified=True), task.splits["test"].inputs[:ROWS]
    model, bounds = exported(net, image_spec(task), task.splits["calibration"].inputs[:16])
    own = bounds.spec.decide(model.predict(inputs).scores)
    found = {"answers": 0, "certified answers": 0, "certified answers flipped": 0, "control: plain answers flipped": 0}
    for change in _on_the_bound(net, inputs, radius, own, -(-count // len(inputs))):
        near = within(inputs, change, np.full(inputs.shape, radius), bounds.spec)
        certain = bounds.certain_decisions(near, radius)
        found["answers"] += len(near)
        found["certified answers"] += int((certain >= 0).sum())
        found["certified answers flipped"] += int(((certain >= 0) & (certain != own)).sum())
        found["control: plain answers flipped"] += int((bounds.spec.decide(model.predict(near).scores) != own).sum())
    shares = {f"{k}/255": float((bounds.certain_decisions(inputs, k / 255) >= 0).mean()) for k in (1, 2, 4, 8)}
    return found | {"certified share without attack": shares}


def _on_the_bound(net: nn.Sequential, rows: Array, radius: float, own: Array, steps: int) -> Iterator[Array]:
    start, decided = torch.from_numpy(rows), torch.from_numpy(own)
    change = radius * (2 * torch.rand(rows.shape, generator=torch.Generator().manual_seed(SEED)) - 1)
    for _ in range(steps):
        change = change.requires_grad_()
        moved = (start + change).clamp(0, 1)
        least, most = interval_bounds(net, (moved - radius).clamp(0, 1), (moved + radius).clamp(0, 1))
        others = least.scatter(1, decided[:, None], -torch.inf).amax(dim=1)
        (slope,) = torch.autograd.grad((others - most.gather(1, decided[:, None])[:, 0]).sum(), change)
        change = (change + radius / 8 * slope.sign()).detach().clamp(-radius, radius)
        yield change.numpy().astype(np.float64)


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
