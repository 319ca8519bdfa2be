"""What a membership attacker sees of its candidates: who they are, what was asked of them, and what came back."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_curve

from medward.attacks.base import AttackData
from medward.attacks.candidates.channels import Channel, Mask, read_channel, rounded_to
from medward.attacks.candidates.pools import pooled_rows, read_pools
from medward.attacks.learners.table import learner_of
from medward.attacks.target import Response, Target
from medward.guard.data.labels import Labels
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.spec import ModelSpec
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array


def candidate_rows(data: AttackData) -> tuple[Split, Labels, Mask]:
    """Rows ``(n, ...)`` whose membership is in question, members first; their labels; the truth.

    Raises `MedwardError` when either kind is missing or has no labels.
    """
    members, others = data.members, data.nonmembers
    if members is None or others is None or members.labels is None or others.labels is None:
        raise MedwardError("candidates: needs labelled members and nonmembers, and data has not got both")
    labels = np.concatenate([members.labels, others.labels])
    both_known = members.patients is not None and others.patients is not None
    patients = np.concatenate([members.patients, others.patients]) if both_known else None
    rows = Split(np.concatenate([members.inputs, others.inputs]), labels, patients)
    return rows, labels, np.arange(len(rows)) < len(members)


def noisy_copies(inputs: Array, copies: int, noise: float, spec: ModelSpec, seed: int) -> Array:
    """`inputs (n, ...)` and ``copies - 1`` noisy copies: ``(copies, n, ...)``, within the model's bounds.

    The noise is Gaussian, `noise` times as wide as each value's spread over the rows.
    """
    rng = np.random.default_rng(seed)
    spread = noise * inputs.std(axis=0)
    moved = [inputs + spread * rng.standard_normal(inputs.shape) for _ in range(copies - 1)]
    bounds = (-np.inf if spec.low is None else spec.low, np.inf if spec.high is None else spec.high)
    return np.asarray(np.clip(np.stack([inputs, *moved]), *bounds), np.float32)


def ask_confidences(target: Target, inputs: Array, seed: int) -> tuple[Channel, Array]:
    """Query ``(copies, n, ...)``; return how the answers came and the values shown ``(copies, n, width)``.

    Noisy copies are asked about only where the candidate itself was not answered with scores, or with a confidence that
    is that of a pool. Candidates come
    in random order: behind a guard that turns stricter as an account goes on, any other order would make the
    level of an answer tell the truth.
    """
    copies, n = inputs.shape[:2]
    task, learner = target.spec.task, learner_of(target.spec)
    labels, scores = np.full((copies, n), -1), np.full((copies, n, learner.width), np.nan)
    rows = np.random.default_rng(seed).permutation(n)
    for copy in range(copies):
        if len(rows):
            answer = target.query(inputs[copy, rows])
            labels[copy, rows], scores[copy, rows] = answer.labels, answer.scores
        if copy == 0:
            rows = rows[_coarse_rows(task, learner.released(answer))]
    response = Response(labels.reshape(-1), scores.reshape(-1, learner.width), answer.output)
    channel = read_channel(task, learner, response, copies)
    shown = learner.released(response)
    told = response.labels >= 0
    certain = np.zeros_like(shown)
    certain[told] = learner.certain(response.labels[told])
    seen = np.where(channel.released.reshape(-1, 1), shown, certain)
    return channel, seen.reshape(scores.shape)


def _coarse_rows(task: Task, likely: Array) -> Mask:
    """Rows ``(n,)`` of an answer that show no score, or one that many others show."""
    if isinstance(task, WrittenReport):
        return np.ones(len(likely), bool)
    hidden = np.asarray(np.isnan(likely).any(axis=1))
    if not isinstance(task, Classification | Multilabel) or hidden.all():
        return hidden
    threshold = task.threshold if isinstance(task, Classification) else task.thresholds
    pools = read_pools(likely[~hidden], threshold, rounded_to(likely[~hidden]))
    if pools is not None:
        hidden[~hidden] = pooled_rows(likely[~hidden], threshold, pools)
    return hidden


def check_copies(copies: int, noise: float) -> None:
    """Refuse settings under which a candidate would not be asked about, or its copies would be repeats."""
    if copies < 1 or noise <= 0:
        raise MedwardError(f"candidates: needs copies >= 1 and noise > 0, got {copies} and {noise}")


def roc_points(scores: Array, truth: Mask) -> tuple[list[float], list[float]]:
    """Points of the ROC curve: false and true positive rates, threshold falling."""
    false, true, _ = roc_curve(truth, scores)
    return false.tolist(), true.tolist()
