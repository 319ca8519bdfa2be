"""The decision: which class a row of scores stands for, and what may be done to the scores without changing it.

Without a threshold it is the largest class. With one (two classes, the second is the positive one) it is the positive
class where its probability is at least the threshold. That is how screening and triage models are operated. All of the
guard and of the attacks decides by `decisions`.

The log odds of a threshold t are log(t / (1 - t)); a model decides positive where the log odds of the positive class
reach them. `at_threshold` moves scores by that much, so that the larger of two is the decision again.
"""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.types import OutputKind

Scores = NDArray[np.floating]
LEAST_LIKELY = 1e-30  # a probability of zero, on a logarithmic scale
TIE = 1e-6  # how far log odds at the threshold itself are moved to the side they are decided for


def checked_threshold(threshold: object, classes: int) -> float | None:
    """The operating point as a float, None for none; refuses one outside 0 to 1, and one for other than two classes."""
    if threshold is None:
        return None
    if isinstance(threshold, bool) or not isinstance(threshold, Real) or not 0 < float(threshold) < 1:
        raise MedwardError(
            f"threshold: must be a probability above 0 and below 1, got {threshold!r}; leave it out to decide the "
            "largest class"
        )
    if classes != 2:
        raise MedwardError(
            f"threshold: is for models of two classes, the second of them positive, got {classes} classes; leave it "
            "out to decide the largest"
        )
    return float(threshold)


def decisions(scores: Scores, output: OutputKind, threshold: float | None = None) -> NDArray[np.int64]:
    """The class index ``(...)`` that each row of ``scores (..., K)`` decides, compared in double precision.

    Probabilities in single precision are compared with the threshold in single precision, as torch and NumPy do: 0.7
    there is at least 0.7.
    """
    if threshold is None:
        return np.asarray(np.argmax(scores, axis=-1), np.int64)
    given = np.asarray(scores)
    values = given.astype(np.float64)
    if output == "probabilities":
        least = float(np.asarray(threshold, given.dtype)) if given.dtype == np.float32 else threshold
        return np.asarray(values[..., 1] >= least, np.int64)
    return np.asarray(values[..., 1] - values[..., 0] >= threshold_odds(threshold), np.int64)


def threshold_odds(threshold: float) -> float:
    """The log odds of a threshold, 0 for one half."""
    return math.log(threshold) - math.log1p(-threshold)


def positive_odds(scores: Scores, output: OutputKind) -> Scores:
    """The log odds ``(...)`` of the second of two classes; finite also where a probability is zero."""
    values = np.asarray(scores, np.float64)
    if output == "probabilities":
        values = np.log(np.maximum(values, LEAST_LIKELY))
    return np.asarray(values[..., 1] - values[..., 0])


def at_threshold(scores: Scores, output: OutputKind, threshold: float) -> Scores:
    """Logits ``(..., 2)`` moved so that the larger one is the decision: zero, and the log odds less the threshold's.

    Guarantee: their largest is what `decisions` says of `scores`, also at the threshold itself. NaN stays NaN.
    """
    positive = decisions(scores, output, threshold) == 1
    beyond = positive_odds(scores, output) - threshold_odds(threshold)
    beyond = np.where(positive, np.maximum(beyond, TIE), np.minimum(beyond, -TIE))
    return np.stack([np.where(np.isnan(beyond), np.nan, 0.0), beyond], axis=-1)


def in_full(scores: Scores, output: OutputKind, threshold: float | None) -> Scores:
    """Scores ``(n, 2)`` as they leave in full: the model's own, but for the last digit of one that rounding would turn.

    A probability in single precision is at least 0.7 where 0.7 is written in single precision; whoever reads it in
    double precision would find it below. Such a one leaves as the threshold itself.
    """
    if threshold is None or output != "probabilities" or np.asarray(scores).dtype != np.float32:
        return scores
    positive, wide = decisions(scores, output, threshold) == 1, np.asarray(scores, np.float64)
    return np.stack([wide[..., 0], kept_side(wide[..., 1], positive, threshold)], axis=-1)


def kept_side(positive_probability: Scores, positive: NDArray[np.bool_], threshold: float) -> Scores:
    """Probabilities ``(...)`` of the positive class, those on the wrong side of the threshold moved just across it."""
    below = math.nextafter(threshold, 0.0)
    return np.asarray(
        np.where(positive, np.maximum(positive_probability, threshold), np.minimum(positive_probability, below))
    )
