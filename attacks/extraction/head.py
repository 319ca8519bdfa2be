"""Head algebra: where the encoder is public, its linear head is the solution of a linear system.

The log-odds of two classes are linear in the features, so about as many probability answers as there are features
hold the whole head, up to a shift that no answer shows. Rounded probabilities give it roughly; labels hold no odds.

Reference: Tramer et al., "Stealing machine learning models via prediction APIs", USENIX Security 2016
(equation-solving attacks), on an encoder's features instead of the inputs.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from medward.attacks.base import AttackData
from medward.attacks.extraction.base import StolenAnswers
from medward.attacks.extraction.pool import PoolChooser
from medward.attacks.learners.table import check_classes
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.types import Array, Ints

FINEST = 6  # decimals above which answers count as unrounded
_PRECISION = 1e-7  # relative, of answers that are not rounded
EXACT = 1e-6  # error up to which the linear system has been solved
_BATCH = 512
ITERATIONS, RIDGE = 300, 1e-5


class Head(NamedTuple):
    """``features @ weight.T + bias`` are logits; `weight (K, d)` and `bias (K,)` are 0 for class 0.

    `error` is the root mean square difference between its probabilities and those it was recovered from.
    """

    weight: Array
    bias: Array
    error: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAlgebra:
    """The linear head on the public `encoder`, a frozen module from inputs to features ``(n, ...)``.

    Random in-distribution rows first, then rows of the pool. Learns nothing where only labels leave.
    """

    encoder: nn.Module
    name: str = "head"
    knowledge: str = "the model's encoder, and unlabelled in-distribution rows"
    step: int | None = None
    weights: str = field(init=False, default="")  # tells two encoders apart in kept runs

    def __post_init__(self) -> None:
        sha = hashlib.sha256()
        for key, tensor in sorted(self.encoder.state_dict().items()):
            sha.update(key.encode() + np.ascontiguousarray(tensor.detach().cpu().numpy()).tobytes())
        object.__setattr__(self, "weights", sha.hexdigest())

    def open(self, data: AttackData, spec: ModelSpec, *, seed: int) -> PoolChooser:
        """Begin a theft; see `Strategy`."""
        check_classes(spec, self.name)
        rng = np.random.default_rng(seed)
        parts = [rows[rng.permutation(len(rows))] for rows in (data.craft.inputs, data.pool) if rows is not None]
        return _Algebra(self.encoder, replace(data, pool=np.concatenate(parts)), spec, seed)


class _Algebra(PoolChooser):
    def __init__(self, encoder: nn.Module, data: AttackData, spec: ModelSpec, seed: int) -> None:
        super().__init__(data, spec, seed)
        self._encoder = nn.Sequential(copy.deepcopy(encoder), nn.Flatten()).eval()

    def choose(self, free: Ints, count: int, loot: StolenAnswers, clone: nn.Module | None) -> Ints:
        return free[:count]

    def learn(self, loot: StolenAnswers, *, epochs: int, seed: int) -> nn.Module | None:
        """The encoder with the recovered head; None where no answer holds odds."""
        known = loot.known
        if len(known) == 0 or not (known.targets.max(axis=1) < 1).any():
            return None
        with torch.no_grad():
            rows = torch.split(torch.as_tensor(np.array(known.inputs, np.float32)), _BATCH)
            features = torch.cat([self._encoder(some) for some in rows]).double().numpy()
        head = recover_head(features, known.targets)
        last = nn.Linear(features.shape[1], known.targets.shape[1])
        last.load_state_dict({"weight": torch.as_tensor(head.weight), "bias": torch.as_tensor(head.bias)})
        return nn.Sequential(self._encoder, last).eval().requires_grad_(False)


def recover_head(features: Array, probabilities: Array) -> Head:
    """The head from features ``(n, d)`` and answers ``(n, K)``; exact for d + 1 independent, unrounded answers.

    Weighted least squares on the log-odds with the class that is largest on average. A rounded probability stands
    for anything within its rounding: a row weighs less the coarser its odds are, and 0 is taken for half a unit;
    the head of least cross-entropy is taken instead where it comes closer to the answers.
    With fewer answers than d + 1 it is the smallest of the heads that fit. Raises `MedwardError` where every answer
    is a label.
    """
    p = np.asarray(probabilities, np.float64)
    if not (p.max(axis=1) < 1).any():
        raise MedwardError("head: labels hold no odds, the answers must hold probabilities below 1")
    unit = rounding_unit(p)
    clipped = p.clip(unit / 2 if unit else p[p > 0].min() / 2)
    rows = np.column_stack([features, np.ones(len(p))])
    known = int(p.mean(axis=0).argmax())
    solved = np.zeros((p.shape[1], rows.shape[1]))
    for k in range(p.shape[1]):
        if k != known:
            doubt = _PRECISION**2 + (unit / clipped[:, k]) ** 2 + (unit / clipped[:, known]) ** 2
            weight = (_PRECISION / np.sqrt(doubt))[:, None]
            odds = np.log(clipped[:, [k]] / clipped[:, [known]])
            solved[k] = np.linalg.lstsq(weight * rows, (weight * odds)[:, 0], rcond=None)[0]
    found = [solved, _likeliest(rows, p, solved)] if _error(rows, solved, p) > EXACT else [solved]
    best = min(found, key=lambda head: _error(rows, head, p))
    shifted = best - best[:1]
    return Head(shifted[:, :-1], shifted[:, -1], _error(rows, best, p))


def _error(rows: Array, head: Array, p: Array) -> float:
    """The root mean square difference between the probabilities of `head` and `p`."""
    logits = rows @ head.T
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return float(np.sqrt(np.mean((powers / powers.sum(axis=1, keepdims=True) - p) ** 2)))


def _likeliest(rows: Array, p: Array, start: Array) -> Array:
    """The head ``(K, d + 1)`` of least cross-entropy to `p`, from `start`; a convex problem, slightly regularised."""
    x, y = torch.as_tensor(rows), torch.as_tensor(p)
    head = torch.tensor(start, requires_grad=True)
    search = torch.optim.LBFGS([head], max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        search.zero_grad()
        value = nn.functional.cross_entropy(x @ head.T, y) + RIDGE * head.square().sum()
        torch.autograd.backward(value)
        return value

    step: Callable[[Callable[[], torch.Tensor]], object] = search.step
    step(loss)
    return np.asarray(head.detach().numpy())


def rounding_unit(probabilities: Array) -> float:
    """The last decimal that every probability is rounded to, as 0.01; 0 where they are finer than `FINEST` decimals."""
    for decimals in range(1, FINEST + 1):
        if np.abs(probabilities - probabilities.round(decimals)).max() < 10.0**-FINEST / 100:
            return 10.0**-decimals
    return 0.0
