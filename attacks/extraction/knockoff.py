"""Knockoff theft: label a public pool with the target's answers, train a clone on them.

The clone is compared with the undefended model's own decisions on held-out rows, beside a thief without a victim,
who holds the same inputs but no label and so can only give the best constant answer. What lies above this baseline
was learned from the target. A thief who holds labelled rows as well needs the target less, and gains less.

Reference: Orekondy, Schiele and Fritz, "Knockoff Nets", CVPR 2019, random strategy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import nn

from attacks.base import Access, AttackData, AttackResult, Family, ThreatModel
from attacks.surrogate import answered, fit_classifier
from attacks.target import Response, Target
from guard.errors import MedwardError
from guard.policy import Policy
from guard.types import Array, Ints, ModelSpec

PULLS = (1.0, 0.5, 0.25, 0.1)  # what an adaptive thief tries
ENOUGH = 32  # answers from which a clone must at least learn their most common label


@dataclass(frozen=True, slots=True, kw_only=True)
class Knockoff:
    """The thief. It spends its whole budget in client-sized batches, whatever comes back.

    Rows withheld give no label, rows answered with a label only give a hard one. `pool_share` is the share of queries
    that come from the pool; the others are the thief's own in-distribution rows (``data.craft``, their labels unknown
    to it), repeated once all were asked. `accounts` None spreads the queries over as many accounts as there are rows.
    `pulls` are how far pool rows keep from the pool's mean, each for an equal share of them: the mean of a table looks
    ordinary, and a row near it may pass where the row itself would not. `points` clones, at halved budgets, make the
    curve; those with fewer answers train for more epochs, up to four times `epochs`.
    """

    labels: Literal["soft", "hard"] = "soft"
    queries: int = 2000
    pool_share: float = 1.0
    accounts: int | None = 1
    pulls: tuple[float, ...] = (1.0,)
    batch: int = 32
    points: int = 5
    epochs: int = 30
    family: ClassVar[Family] = "extraction"

    def __post_init__(self) -> None:
        if self.labels not in ("soft", "hard"):
            raise MedwardError(f'labels: must be "soft" or "hard", got {self.labels!r}')
        if not 0 < self.pool_share <= 1:
            raise MedwardError(f"pool_share: must be above 0 and at most 1, got {self.pool_share}")
        for key in ("queries", "batch", "points", "epochs"):
            if getattr(self, key) < 1:
                raise MedwardError(f"{key}: must be at least 1, got {getattr(self, key)}")

    @property
    def name(self) -> str:
        """``knockoff-soft`` or ``knockoff-hard``; ``-diluted`` hides the pool, ``-sybil`` hides the account."""
        parts = ["knockoff", self.labels]
        parts += ["diluted"] if self.pool_share < 1 else []
        parts += ["sybil"] if self.accounts is None else []
        return "-".join(parts)

    @property
    def threat(self) -> ThreatModel:
        """Scores or labels, and a budget in rows."""
        own = (
            f"; {1 - self.pool_share:.0%} of the queries are unlabelled in-distribution rows"
            if self.pool_share < 1
            else ""
        )
        return ThreatModel(
            access=Access.SCORES if self.labels == "soft" else Access.LABELS,
            queries=self.queries,
            accounts=self.accounts,
            knowledge=f"a public pool that is not the model's own data{own}",
        )

    def adaptive(self, policy: Policy) -> Knockoff:  # noqa: ARG002
        """The thief that knows it is watched: every row comes from a new account, and some are pulled to the mean.

        So no history builds up, and only what the guard sees in a single row can stop it. Nothing that only observes
        queries stops a patient thief who asks about in-distribution rows (Karchmer, SaTML 2023); `pool_share` below 1
        is that thief.
        """
        return replace(self, accounts=None, pulls=PULLS)

    def run(self, target: Target, data: AttackData, *, seed: int) -> AttackResult:
        """Steal, then judge. Raises `MedwardError` when `data` lacks a pool, a reference or cover rows."""
        if data.pool is None or data.reference is None:
            raise MedwardError("extraction: needs a pool to ask about and the model's labels on the test rows")
        if self.pool_share < 1 and len(data.craft) == 0:
            raise MedwardError("extraction: a diluted thief needs rows to hide its pool among, craft has none")
        classes = len(target.spec.classes)
        own = data.craft if self.pool_share < 1 else data.craft.take(slice(0, 0))
        inputs = np.concatenate([pulled(data.pool, self.pulls), own.inputs]).astype(np.float32)
        asked = plan(len(data.pool), len(own), self.queries, self.pool_share, seed)
        test, reference = data.test.inputs, data.reference

        baseline = reference == np.bincount(reference, minlength=classes).argmax()

        answers = np.full((len(inputs), classes), np.nan)
        checkpoints = sorted({max(1, len(asked) >> halvings) for halvings in range(self.points)})
        curve = []
        for start, stop in pairwise([0, *checkpoints]):
            for first in range(start, stop, self.batch):
                rows = asked[first : min(first + self.batch, stop)]
                answers[rows] = keep_first(answers[rows], clone_targets(target.query(inputs[rows])))
            clone = self._clone(target.spec, inputs, answers, asked[:stop], seed)
            outcome = baseline if clone is None else decide(clone, test) == reference
            curve.append(float(outcome.mean()))

        points = [float(stop) for stop in checkpoints]
        return AttackResult(
            outcome=outcome,
            baseline=baseline,
            queries=target.queries,
            flags=self._flags(inputs, answers, asked, clone),
            curves={"clone": (points, curve), "no victim": (points, [float(baseline.mean())] * len(points))},
        )

    def _clone(self, spec: ModelSpec, inputs: Array, targets: Array, asked: Ints, seed: int) -> nn.Module | None:
        """A clone trained on the asked rows that have a target; None when there is nothing to learn from."""
        rows = np.unique(asked)
        rows = rows[answered(targets[rows])]
        if len(rows) == 0:
            return None
        return fit_classifier(
            inputs[rows],
            targets[rows],
            classes=len(spec.classes),
            modality=spec.modality,
            shape=spec.shape,
            epochs=round(self.epochs * min(4.0, max(1.0, self.queries / len(rows)))),
            seed=seed,
            normalised=False,
        )

    def _flags(self, inputs: Array, answers: Array, asked: Ints, clone: nn.Module | None) -> tuple[str, ...]:
        flags = []
        if len(asked) < self.queries:
            flags.append(f"the pool ended after {len(asked)} of {self.queries} queries")
        rows = np.flatnonzero(answered(answers))
        if clone is not None and len(rows) >= ENOUGH:
            labels = answers[rows].argmax(axis=1)
            fit = float(np.mean(decide(clone, inputs[rows]) == labels))
            if fit < np.bincount(labels).max() / len(labels):
                flags.append(f"the clone failed to learn: it agrees with {fit:.0%} of its own {len(rows)} answers")
        return tuple(flags)


def plan(pool: int, own: int, queries: int, pool_share: float, seed: int) -> Ints:
    """Which row each query asks about: rows below `pool` are the pool's, the others the thief's own.

    Pool rows come once each, in random order and evenly spaced; the plan ends where the pool does. Own rows
    come in random order, lap after lap.
    """
    rng = np.random.default_rng(seed)
    due = np.floor(np.arange(queries + 1) * pool_share + 1e-9)
    strange = np.diff(due) > 0
    if strange.sum() > pool:
        strange = strange[: np.flatnonzero(strange)[pool]]
    rows = np.empty(len(strange), np.int64)
    rows[strange] = rng.permutation(pool)[: strange.sum()]
    cover = int((~strange).sum())
    laps = [rng.permutation(own) for _ in range(-(-cover // max(own, 1)))]
    rows[~strange] = pool + np.concatenate([*laps, np.zeros(0, np.int64)])[:cover]
    return rows


def pulled(pool: Array, pulls: tuple[float, ...]) -> Array:
    """Pool rows ``(n, *shape)`` at the share of their distance from the mean that `pulls` says, taken in turn."""
    mean = pool.mean(axis=0, keepdims=True)
    scale = np.resize(np.asarray(pulls), len(pool)).reshape(-1, *[1] * (pool.ndim - 1))
    return np.asarray(mean + scale * (pool - mean))


def clone_targets(response: Response) -> Array:
    """What to train on ``(n, K)``: probabilities as released, a label's one-hot row, NaN if nothing left."""
    targets = response.probabilities.astype(np.float64)
    hard = ~answered(targets) & (response.labels >= 0)
    targets[hard] = np.eye(targets.shape[1])[response.labels[hard]]
    return targets


def keep_first(known: Array, new: Array) -> Array:
    """`new` where `known` has no answer yet; a guard's ladder only climbs, so no later answer says more."""
    return np.where(answered(known)[:, None], known, new)


def decide(clone: nn.Module, inputs: Array, batch: int = 512) -> Ints:
    """The clone's labels ``(n,)``."""
    x = torch.as_tensor(np.asarray(inputs, np.float32))
    with torch.no_grad():
        labels = [clone(x[i : i + batch]).argmax(dim=1).numpy() for i in range(0, len(x), batch)]
    return np.concatenate(labels).astype(np.int64)
