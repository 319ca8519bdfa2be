"""Offline LiRA: is the target surer of this record than models that never saw it?

Shadow models are trained on rows of the same source that hold no candidate. The signal phi of a candidate
under the shadows is close to a Gaussian; the score is how far the target's phi lies in its upper tail.

Reference: Carlini, Chien, Nasr, Song, Terzis and Tramer, "Membership inference attacks from first
principles", IEEE S&P 2022: the offline attack, with one pooled variance when shadows are few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_ndtr
from torch import nn

from medward.attacks.base import Access, AttackData, AttackResult, ThreatModel
from medward.attacks.candidates.blind import blind_flags, blind_scores, labelled_rows
from medward.attacks.candidates.signals import ask_confidences, candidate_rows, check_copies, noisy_copies, roc_points
from medward.attacks.learners.table import learner_of
from medward.attacks.target import Target
from medward.guard.data.labels import Labels
from medward.guard.data.split import Split, split_digest
from medward.guard.errors import MedwardError
from medward.guard.policy import Policy
from medward.guard.spec import ModelSpec
from medward.guard.types import Array

_FEW = 32  # with fewer shadows than this a variance per candidate is too noisy


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflineLiRA:
    """Score = -log Pr[N(mean, variance of the shadows' phi) > phi]; no answer scores as the shadows' mean.

    `shadows` models train for `epochs` on random `share`s of ``data.shadow``. `copies` and `noise` as in
    `LossThreshold`.
    """

    shadows: int = 16
    epochs: int = 15
    share: float = 0.8
    copies: int = 1
    noise: float = 0.3
    family: ClassVar[str] = "membership"

    def __post_init__(self) -> None:
        check_copies(self.copies, self.noise)
        if self.shadows < 2 or self.epochs < 1 or not 0 < self.share <= 1:
            raise MedwardError(
                f"lira: needs shadows >= 2, epochs >= 1 and 0 < share <= 1, "
                f"got {self.shadows}, {self.epochs}, {self.share}"
            )

    @property
    def name(self) -> str:
        """``membership-lira``, with ``+averaged`` where noisy copies are asked about too."""
        return "membership-lira" + ("+averaged" if self.copies > 1 else "")

    @property
    def threat(self) -> ThreatModel:
        """Scores, the candidates' true labels, and other rows of the same source."""
        return ThreatModel(
            access=Access.SCORES,
            knowledge="each candidate's input and true label, and labelled rows of the same source",
        )

    def adaptive(self, policy: Policy) -> OfflineLiRA:
        """The attacker that knows answers are coarse: it averages over noisy copies, like `LossThreshold`."""
        return replace(self, copies=16)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Score every candidate; raises `MedwardError` without candidates or labelled shadow rows."""
        rows, labels, truth = candidate_rows(data)
        recipe = self._recipe(target.spec, data.shadow, seed)
        inputs = noisy_copies(rows.inputs, self.copies, self.noise, target.spec, seed)
        channel, shown = ask_confidences(target, inputs, seed)
        scores = np.full(len(rows), np.log(2.0))
        if channel.answered.any():
            seen = shadow_values(train_shadows(recipe), inputs, channel.answered, target.spec)
            phi, expected = channel.phi(shown, labels), channel.phi(channel.coarsen(seen), labels)
            known = np.isfinite(phi)
            scores[known] = gaussian_tail(phi[known], expected[:, known])
        blind = blind_scores(labelled_rows(rows, target.spec.task), truth, seed=seed)
        return AttackResult(
            outcome=scores,
            baseline=blind,
            truth=truth,
            queries=target.queries,
            flags=blind_flags(blind, rows, truth, seed=seed),
            curves={"roc": roc_points(scores, truth)},
        )

    def _recipe(self, spec: ModelSpec, rows: Split | None, seed: int) -> Recipe:
        if rows is None or rows.labels is None or len(rows) == 0:
            raise MedwardError("lira: needs labelled shadow rows, and data has none")
        return Recipe(split_digest(rows), rows.inputs, rows.labels, spec, self.shadows, self.epochs, self.share, seed)


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that shadow models depend on; rows are compared by their digest."""

    rows: str
    inputs: Array = field(compare=False)
    labels: Labels = field(compare=False)
    spec: ModelSpec
    shadows: int
    epochs: int
    share: float
    seed: int


@lru_cache(maxsize=1)
def train_shadows(recipe: Recipe) -> tuple[nn.Module, ...]:
    """Models of random shares of the shadow rows; kept, as every arm of an evaluation needs the same ones."""
    n, learner = len(recipe.inputs), learner_of(recipe.spec)
    rng = np.random.default_rng(recipe.seed)
    parts = [rng.permutation(n)[: math.ceil(recipe.share * n)] for _ in range(recipe.shadows)]
    targets = learner.known(recipe.labels)
    return tuple(
        learner.fit(recipe.spec, recipe.inputs[part], targets[part], epochs=recipe.epochs, seed=recipe.seed + shadow)
        for shadow, part in enumerate(parts)
    )


def shadow_values(shadows: Sequence[nn.Module], inputs: Array, answered: NDArray[np.bool_], spec: ModelSpec) -> Array:
    """Values ``(shadows, copies, n, width)`` of the answered rows of `inputs`, 0 elsewhere."""
    learner = learner_of(spec)
    seen = np.zeros((len(shadows), *answered.shape, learner.width))
    x = torch.as_tensor(inputs[answered])
    with torch.no_grad():
        for shadow, network in enumerate(shadows):
            outputs = torch.cat([network(x[i : i + 512]) for i in range(0, len(x), 512)])
            seen[shadow, answered] = learner.values(outputs.double().numpy())
    return seen


def gaussian_tail(phi: Array, expected: Array) -> Array:
    """-log Pr[N(mean, variance) > phi] ``(n,)`` under Gaussians fitted to `expected (shadows, n)`."""
    variance = expected.var(axis=0, ddof=1)
    if len(expected) < _FEW:
        variance = np.full_like(variance, variance.mean())
    z = (phi - expected.mean(axis=0)) / np.sqrt(np.maximum(variance, 1e-6))
    return np.asarray(-log_ndtr(-z))
