"""How much of a model is stolen by how many answers: from gains in agreement to the two numbers that caps are made of.

Shares are of all that the thief gains with every answer it has. An interval is over test rows; its upper end is the
largest over the random choices of rows, for a thief may be lucky, and its lower end that of their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.attacks.base import TABULATED
from medward.attacks.intervals import surviving_share

Curves = Mapping[str, tuple[Sequence[float], Sequence[float]]]
SHARE, LEAST, MOST = (f"share of the gain{end}{TABULATED}" for end in ("", " at least", " at most"))
OWN_SHARE, OWN_LEAST = (f"share of the gain by own labels{end}{TABULATED}" for end in ("", " at least"))
"""Curves over the number of answers, or of rows that were labelled otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersNeeded:
    """Answers needed to reach a share of the gain: with `within` it surely is not reached, with `reached` it surely is.

    `within` is 0 where not even the fewest answers measured are few enough, `reached` None where all that there
    were are too few. `own_labels` is how many rows of one's own, truly labelled, surely bring as much: None where no
    number measured does, or nobody knows the labels. `measured` is the most answers there were.
    """

    within: int
    reached: int | None
    own_labels: int | None
    measured: int


def theft_curve(
    counts: Sequence[float],
    stolen: Sequence[NDArray[np.float64]],
    own: Sequence[NDArray[np.float64]],
    *,
    seed: int,
) -> dict[str, tuple[list[float], list[float]]]:
    """The shares at each of `counts`, from gains ``(draws, rows)`` over the best constant answer at each.

    `own` are those of the learner of true labels, empty where nobody knows them. Nothing where nothing is gained.
    """
    whole = stolen[-1].mean(axis=0)
    if whole.mean() <= 0:
        return {}

    def share(gain: NDArray[np.float64]) -> tuple[float, float, float]:
        found = surviving_share(gain, whole, seed=seed)
        return (0.0, 0.0, 0.0) if found is None else (found.value, found.low, found.high)

    points = list(counts)
    mean = [share(gains.mean(axis=0)) for gains in stolen]
    curves = {
        SHARE: (points, [value for value, _, _ in mean]),
        LEAST: (points, [low for _, low, _ in mean]),
        MOST: (points, [max(share(each)[2] for each in gains) for gains in stolen]),
    }
    if own:
        taught = [share(gains.mean(axis=0)) for gains in own]
        curves[OWN_SHARE] = (points, [value for value, _, _ in taught])
        curves[OWN_LEAST] = (points, [low for _, low, _ in taught])
    return curves


def answers_needed(curves: Curves, bound: float) -> AnswersNeeded | None:
    """What the curves of `theft_curve` say of a share of `bound`; None where they are not there."""
    if MOST not in curves:
        return None
    counts = [int(each) for each in curves[MOST][0]]
    kept = 0
    for count, most in zip(counts, curves[MOST][1], strict=True):
        if most > bound:
            break
        kept = count

    def first(name: str) -> int | None:
        if name not in curves:
            return None
        return next((count for count, least in zip(counts, curves[name][1], strict=True) if least > bound), None)

    return AnswersNeeded(within=kept, reached=first(LEAST), own_labels=first(OWN_LEAST), measured=counts[-1])
