"""Temperature: probabilities made softer or sharper, in the same order.

A calibration tool more than a defense: whoever knows T, or guesses it, undoes it by taking the power T. It hides
something only before a coarse release, since rounding then cuts elsewhere. With a threshold it is the distance from
the threshold, in log odds, that is divided by T, so that no row changes sides.

Reference: Guo, Pleiss, Sun, Weinberger, "On calibration of modern neural networks", ICML 2017, sec. 4.2.
"""

from __future__ import annotations

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.release.scores import largest_classes, probabilities
from medward.guard.tasks.decision import decisions, kept_side, positive_odds, threshold_odds
from medward.guard.types import Array, Ints, OutputKind

LOWEST, HIGHEST = 0.05, 20.0
_STEPS = 60  # of the bisection


def temper_scores(scores: Array, output: OutputKind, temperature: float = 1.0, threshold: float | None = None) -> Array:
    """Scores ``(n, K)`` as float64 probabilities at `temperature`: proportional to p^(1 / T), each row summing to 1.

    Guarantee: the winners of each row are those of `scores`, also where floating point can no longer tell them
    from the next class. With a `threshold` what is kept is the decision instead: the second class reads as at least
    `threshold` where that is decided, and only there.
    """
    if threshold is not None:
        return _tempered_about(threshold, scores, output, temperature)
    best = largest_classes(scores)
    if output == "logits":
        powers = probabilities(np.asarray(scores, np.float64) / temperature, output)
    else:
        powers = np.power(np.clip(np.asarray(scores, np.float64), 0.0, None), 1 / temperature)
    likely = powers / powers.sum(axis=1, keepdims=True)
    top = np.where(best, likely, -np.inf).max(axis=1, keepdims=True)
    return np.asarray(np.where(best, top, np.minimum(likely, np.nextafter(top, -np.inf))))


def _tempered_about(threshold: float, scores: Array, output: OutputKind, temperature: float) -> Array:
    """Probabilities ``(n, 2)`` whose log odds lie 1 / T times as far from the threshold's, on the same side."""
    border = threshold_odds(threshold)
    odds = border + (positive_odds(scores, output) - border) / temperature
    likely = kept_side(np.exp(-np.logaddexp(0.0, -odds)), decisions(scores, output, threshold) == 1, threshold)
    return np.stack([1 - likely, likely], axis=1)


def fit_temperature(scores: Array, labels: Ints, output: OutputKind, threshold: float | None = None) -> float:
    """The T between `LOWEST` and `HIGHEST` under which ``labels (n,)`` are likeliest given ``scores (n, K)``.

    The negative log-likelihood is convex in 1 / T, so its slope, E[z] - z_y on average with z what T divides (the
    logits, or with a `threshold` their distance from it), has one sign change and bisection finds it.
    Raises `MedwardError` without rows, or for a label that is no class.
    """
    n, classes = scores.shape
    if n == 0 or len(labels) != n or labels.min() < 0 or labels.max() >= classes:
        raise MedwardError(f"temperature: needs rows, each with a label from 0 to {classes - 1}, got {n} rows")
    likely = np.clip(probabilities(scores, output), 1e-30, None)
    logits = np.log(likely) if output == "probabilities" else np.asarray(scores, np.float64)
    border = np.zeros(classes)
    if threshold is not None:
        border[1] = threshold_odds(threshold)
    logits = logits - border
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(_STEPS):
        middle = (low + high) / 2
        expected = (probabilities(logits * middle + border, "logits") * logits).sum(axis=1)
        if float((expected - logits[np.arange(n), labels]).mean()) > 0:
            high = middle
        else:
            low = middle
    return 2 / (low + high)
