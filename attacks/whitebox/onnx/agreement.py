"""Whether a file run by torch says what the deployed model says: its numbers, and what is decided by them."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from medward.attacks.whitebox.outputs import judged_scores
from medward.guard.spec import ModelSpec
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.decision import positive_odds
from medward.guard.tasks.multilabel import Multilabel
from medward.guard.tasks.opaque import Opaque
from medward.guard.tasks.regression import Regression
from medward.guard.types import Array

PRECISION = 1e-4
"""How far torch's scores may be from the deployed ones, relative to scores above 1, of a file in 32 or 64 bits."""
CLOSE, SURE = 1e-2, 9.0
"""How far log odds may be from the deployed ones with a threshold, and from where on those count as saturated."""


def decides_alike(scores: Tensor, deployed: Array, spec: ModelSpec | None) -> bool:
    """Whether every row of `scores` decides as the deployed scores do, which take the first of equals.

    With thresholds log odds must agree too where the deployed ones are not saturated: a sample may have no row
    between two borders. Numbers and opaque outputs must agree themselves.
    """
    if spec is None or (isinstance(spec.task, Classification) and not stands_alone(spec) and spec.threshold is None):
        return bool((scores.numpy().argmax(axis=1) == deployed.argmax(axis=1)).all())
    if isinstance(spec.task, Regression | Opaque):
        bound = PRECISION * max(1.0, float(np.abs(deployed).max(initial=0.0)))
        return bool((np.abs(scores.numpy().reshape(deployed.shape) - deployed) <= bound).all())
    if isinstance(spec.task, Multilabel):
        mine, own = judged_scores(scores, spec).numpy(), spec.task.judged(deployed)
        same = (mine > 0) == (own > 0)
        sure = np.abs(own) > SURE
    elif stands_alone(spec):
        mine = judged_scores(scores, spec).numpy()[:, 1]
        own = positive_odds(deployed, spec.output) - spec.border
        same, sure = (mine > 0) == (spec.decide(deployed) == 1), np.abs(own + spec.border) > SURE
    else:
        mine, own = positive_odds(scores.numpy(), "logits"), positive_odds(deployed, spec.output)
        same, sure = (mine >= spec.border) == (spec.decide(deployed) == 1), np.abs(own) > SURE
    return bool((same & ((np.abs(mine - own) < CLOSE) | sure)).all())


def stands_alone(spec: ModelSpec | None) -> bool:
    """Whether each column of the file stands for itself: a finding, or the second of two classes."""
    task = None if spec is None else spec.task
    return isinstance(task, Multilabel) or (isinstance(task, Classification) and task.one_column)


def are_probabilities(scores: Array, spec: ModelSpec | None) -> bool:
    """Whether the file ends in probabilities: of what stands for itself as `spec` says, of classes if a row sums to 1.

    Numbers and opaque outputs are none.
    """
    if spec is not None and (stands_alone(spec) or not isinstance(spec.task, Classification)):
        return spec.output == "probabilities"
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))


def as_file_gives(scores: Array, spec: ModelSpec | None) -> Array:
    """Scores as the model's file has them: of two classes that it has one column for, the second alone."""
    one = spec is not None and isinstance(spec.task, Classification) and spec.task.one_column
    return scores[:, 1:] if one else scores


def difference_text(what: str, mine: Tensor | None, deployed: Array, tolerance: float) -> str:
    """How what torch gives differs from the `deployed` numbers by more than `tolerance`; "" where it does not."""
    if mine is None:
        return f"torch gives no {what}, the deployed model does"
    if tuple(mine.shape) != deployed.shape:
        return f"torch gives {what} of shape {tuple(mine.shape)}, the deployed model {deployed.shape}"
    worst = float(np.abs(mine.numpy() - np.asarray(deployed, np.float64)).max())
    bound = tolerance * max(1.0, float(np.abs(deployed).max(initial=0.0)))
    if worst <= bound:
        return ""
    return f"{what} of torch and the deployed model differ by {worst:.2g}, more than {bound:g}"
