"""Quantile regression: is the model surer of this record than of records like it that it never saw?

One network of the attacker's learns, on rows that are certainly no members, what phi is to be expected of a row and of
its true label. No shadow of the model is trained.

Reference: Bertran, Tang, Roth, Kearns, Morgenstern and Wu, "Scalable membership inference attacks via quantile
regression", NeurIPS 2023: a Gaussian by its likelihood, or quantiles by the pinball loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medward.attacks.learners.base import Learner
from medward.attacks.membership.evidence import Evidence
from medward.attacks.whitebox.surrogate import TrainingLoss, fit_student
from medward.guard.data.labels import Labels
from medward.guard.errors import MedwardError
from medward.guard.types import Array

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
NARROWEST = -3.0  # log of the least spread, in spreads of the population


def gaussian_quantile(evidence: Evidence, *, epochs: int = 20, seed: int = 0) -> Array:
    """How many standard deviations ``(n,)`` phi lies above what is expected; monotone in the quantile it is at."""
    expected, scale = fit_expected(evidence, 2, gaussian_loss, epochs, seed)
    phi = evidence.phi / scale
    return np.asarray((phi - expected[:, 0]) / np.exp(np.maximum(expected[:, 1], NARROWEST)))


def pinball_quantile(
    evidence: Evidence, *, quantiles: Sequence[float] = QUANTILES, epochs: int = 20, seed: int = 0
) -> Array:
    """How far up ``(n,)`` the quantiles phi lies: the number of those below it, and its place between two of them.

    Beyond the outermost the distance goes on in their mean spacing, so that scores have no ties.
    """
    levels = torch.as_tensor(np.asarray(quantiles), dtype=torch.float32)
    expected, scale = fit_expected(
        evidence, len(levels), lambda found, phi: pinball_loss(found, phi, levels), epochs, seed
    )
    return quantile_places(evidence.phi / scale, np.sort(expected, axis=1))


def fit_expected(evidence: Evidence, width: int, loss: TrainingLoss, epochs: int, seed: int) -> tuple[Array, float]:
    """What a network of `loss` on the population says ``(n, width)`` of the candidates, in the unit that is returned.

    Raises `MedwardError` without population or features.
    """
    others = evidence.population
    if others is None or others.features is None or evidence.features is None or len(others.phi) < 2:
        raise MedwardError("quantile: needs a population of at least 2 rows that the model did not learn; give some")
    scale = max(float(np.std(others.phi)), np.finfo(float).tiny)
    network = fit_student(
        others.features,
        np.repeat((others.phi / scale)[:, None], width, axis=1),
        loss=loss,
        modality="image" if others.features.ndim == 4 else "tabular",
        shape=others.features.shape[1:],
        epochs=epochs,
        seed=seed,
    )
    rows = torch.as_tensor(np.asarray(evidence.features, np.float32))
    with torch.no_grad():
        said = torch.cat([network(rows[i : i + 512]) for i in range(0, len(rows), 512)])
    return said.double().numpy(), scale


def gaussian_loss(found: Tensor, phi: Tensor) -> Tensor:
    """The mean negative log likelihood of `phi (n, 2)`, whose columns are equal, under ``(mean, log spread)``."""
    spread = found[:, 1].clamp_min(NARROWEST)
    return (spread + 0.5 * ((phi[:, 0] - found[:, 0]) / spread.exp()) ** 2).mean()


def pinball_loss(found: Tensor, phi: Tensor, levels: Tensor) -> Tensor:
    """The mean over rows of the pinball losses of `found (n, q)` at quantile `levels (q,)`."""
    gap = phi - found
    return torch.maximum(levels * gap, (levels - 1) * gap).sum(dim=1).mean()


def quantile_places(phi: Array, quantiles: Array) -> Array:
    """The place ``(n,)`` of `phi` among `quantiles (n, q)`, rising: 0 at the first, q - 1 at the last."""
    count = quantiles.shape[1]
    unit = np.maximum((quantiles[:, -1] - quantiles[:, 0]) / max(count - 1, 1), np.finfo(float).tiny)
    below = (quantiles <= phi[:, None]).sum(axis=1)
    at = np.clip(below - 1, 0, max(count - 2, 0))
    rows = np.arange(len(phi))
    gap = np.maximum(quantiles[rows, np.minimum(at + 1, count - 1)] - quantiles[rows, at], np.finfo(float).tiny)
    outside = (below == 0) | (below == count)
    nearest = np.where(below == 0, quantiles[:, 0], quantiles[:, -1])
    inner = at + (phi - quantiles[rows, at]) / gap
    outer = np.where(below == 0, 0.0, count - 1.0) + (phi - nearest) / unit
    return np.asarray(np.where(outside, outer, inner))


def labelled_inputs(inputs: Array, labels: Labels, learner: Learner) -> Array:
    """Rows with what is true of them as further columns ``(n, d + width)``, or planes ``(n, C + width, H, W)``."""
    true = learner.known(labels)
    if inputs.ndim == 2:
        return np.concatenate([inputs, true], axis=1).astype(np.float32)
    planes = np.broadcast_to(true[:, :, None, None], (*true.shape, *inputs.shape[2:]))
    return np.concatenate([inputs, planes], axis=1).astype(np.float32)
