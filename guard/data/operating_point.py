"""Operating points that reach a stated sensitivity on labelled calibration rows.

The threshold is the highest at which at least that share of the rows that have the finding are decided so, put half way
to the next lower score, so that rounding moves no row over it. It holds on these rows; what it is worth on others is in
the card's quality, and its interval is that of so many positives.
"""

from __future__ import annotations

import math
from dataclasses import replace
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.release.scores import probabilities
from medward.guard.spec import AnyTask
from medward.guard.tasks.classification import Classification
from medward.guard.tasks.multilabel import Multilabel, pair_of, unpacked_findings
from medward.guard.types import Array, Ints


def sensitive_threshold(likely: Array, positive: NDArray[np.bool_], sensitivity: float) -> float:
    """The highest threshold on probabilities `likely (n,)` at which `sensitivity` of the `positive (n,)` rows pass.

    Raises `MedwardError` without positive rows, and where the threshold would be 0, for it then decides nothing.
    """
    inside = np.sort(likely[positive])[::-1]
    if not len(inside):
        raise MedwardError("sensitivity: no labelled row has the finding; give rows that have it, or a --threshold")
    least = float(inside[max(1, math.ceil(sensitivity * len(inside) - 1e-9)) - 1])
    below = likely[likely < least]
    lower = float(below.max()) if len(below) else 0.0
    found = min((least + lower) / 2, math.nextafter(1.0, 0.0))
    if found <= 0:
        raise MedwardError(
            f"sensitivity: {sensitivity:g} is reached only by deciding every row so; choose a lower one, or a "
            "--threshold"
        )
    return found


def at_sensitivity(task: AnyTask, scores: Array, labels: Ints | None, sensitivity: float) -> AnyTask:
    """`task` with operating points that reach `sensitivity` on rows of `scores (n, K)` and `labels (n,)`."""
    if isinstance(sensitivity, bool) or not isinstance(sensitivity, Real) or not 0 < sensitivity <= 1:
        raise MedwardError(f"sensitivity: must be above 0 and at most 1, got {sensitivity!r}")
    if not isinstance(task, Multilabel) and not (isinstance(task, Classification) and len(task.classes) == 2):
        raise MedwardError(
            f"sensitivity: is for two classes or several findings, and this model {task.rule}; leave it out"
        )
    if labels is None:
        raise MedwardError("sensitivity: needs labels beside the benign rows to choose an operating point on")
    if isinstance(task, Multilabel):
        truth, points = unpacked_findings(labels, len(task.findings)), []
        for column, name in enumerate(task.findings):
            likely = probabilities(pair_of(scores, column, task.output), task.output)[:, 1]
            try:
                points.append(sensitive_threshold(likely, truth[:, column], sensitivity))
            except MedwardError as error:
                raise MedwardError(f"{name}: {error}") from None
        return replace(task, thresholds=tuple(points))
    likely = probabilities(scores, task.output)[:, 1]
    return replace(task, threshold=sensitive_threshold(likely, labels == 1, sensitivity))
