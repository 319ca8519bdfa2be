"""The losses of class scores that attacks climb.

Cross-entropy and margin are both here because either alone can be fooled: cross-entropy has no gradient left on a model
with inflated logits, the margin none on a flat one. The margin is defined for two classes and up.

Reference: Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018, sec. 2.1; margin as
in Carlini and Wagner, S&P 2017, f_6; margin ratio: Croce and Hein, "Reliable evaluation of adversarial robustness with
an ensemble of diverse parameter-free attacks", ICML 2020, eq. 6 and 7.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from medward.attacks.whitebox.ball import SMALLEST_RADIUS

LossFunction = Callable[..., Tensor]
"""Scores ``(n, K)`` and what the clean rows were decided as ``(n,)``, and goals ``(n,)`` for a loss that has them, to
a value per row."""


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """-log softmax of the label, per row ``(n,)``; an attacker raises it."""
    return F.cross_entropy(scores, labels, reduction="none")


def margin_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Best other score minus the label's, per row ``(n,)``; positive where another class wins."""
    own = scores.gather(1, labels[:, None])[:, 0]
    others = scores.scatter(1, labels[:, None], -torch.inf)
    return others.amax(dim=1) - own


def margin_ratio(scores: Tensor, labels: Tensor, goals: Tensor | None = None) -> Tensor:
    """The margin (towards `goals`, where given) over the spread of the scores: ``(n,)``, positive where it wins.

    The spread is z1 - z3 of the sorted scores, and for goals among four classes and up z1 - (z3 + z4) / 2. With
    two classes any such spread is the margin itself, so there the plain margin is returned: Auto-PGD follows only
    the slope's direction and compares losses, which no scale of the scores changes.
    """
    own = scores.gather(1, labels[:, None])[:, 0]
    if goals is None:
        other = scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    else:
        other = scores.gather(1, goals[:, None])[:, 0]
    if scores.shape[1] < 3:
        return other - own
    ordered = scores.sort(dim=1, descending=True).values
    third = ordered[:, 2] if goals is None or scores.shape[1] < 4 else ordered[:, 2:4].mean(dim=1)
    return (other - own) / (ordered[:, 0] - third + SMALLEST_RADIUS)


def log_chance(margin: Tensor) -> Tensor:
    """-log(1 + exp(-margin)) of margins ``(n,)``: the log of the chance of winning, a margin read as log odds.

    Its slope is full on rows far from winning and none on rows that won clearly; inflated logits do not end it.
    """
    return -F.softplus(-margin)
