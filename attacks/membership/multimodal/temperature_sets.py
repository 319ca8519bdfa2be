"""Temperature sensitivity of a set: answers about records that were trained on change more as sampling gets hotter.

A single record tells little; a patient's study or a hospital's export is a set, and its mean tells more. Cold, the
answers about members are close to the truth; hot, they drift as all others do. Four attackers: with sets like it that
it knows to be members or not (shadow); with one set that it knows (reference); with the truth alone (target only);
without even that, by how alike repeated answers are (image only).

Reference: Hu, Li, Liu et al., "Membership inference attacks against vision-language models", USENIX Security 2025.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

_SURE = 1e6


def target_only_score(similarity: Array) -> float:
    """Student's t of how much similarity ``(m, temperatures)`` of a set falls from coldest to hottest.

    Similarity is that of an answer with the truth, columns in ascending temperature; larger says member.
    """
    fall = _falls(similarity)
    return _student_t(float(fall.mean()), float(fall.var(ddof=1)) / len(fall))


def reference_set_score(similarity: Array, reference: Array) -> float:
    """Welch's t of the fall of a set against that of a `reference` set of known non-members; larger says member."""
    mine, known = _falls(similarity), _falls(reference)
    variance = float(mine.var(ddof=1)) / len(mine) + float(known.var(ddof=1)) / len(known)
    return _student_t(float(mine.mean() - known.mean()), variance)


def image_only_score(answers: Sequence[Sequence[str]], alike: Callable[[str, str], float]) -> float:
    """How alike repeated answers of one temperature are: the mean of `alike` over pairs, then over the set.

    ``answers[i]`` are those about image i, two or more; larger says member.
    """
    if not answers or min(map(len, answers)) < 2:
        raise MedwardError("image-only sets: need at least one image with at least two answers each")
    return float(np.mean([np.mean([alike(*pair) for pair in combinations(each, 2)]) for each in answers]))


def shadow_set_scores(sets: Sequence[Array], shadows: Sequence[Array], truth: Sequence[bool]) -> Array:
    """The log odds of membership of `sets` by a logistic regression on `shadows` whose `truth` is known.

    A set ``(m, temperatures)`` is seen as its mean and spread at each temperature.
    Raises `MedwardError` unless there are shadows of both kinds.
    """
    if len(set(truth)) != 2 or len(truth) != len(shadows):
        raise MedwardError("shadow sets: need sets of members and of non-members, each with its truth")
    model = make_pipeline(StandardScaler(), LogisticRegression())
    model.fit(_set_columns(shadows), np.asarray(truth))
    return np.asarray(model.decision_function(_set_columns(sets)))


def divide_sets(groups: Ints, truth: NDArray[np.bool_], size: int, *, seed: int) -> list[Ints]:
    """Sets of rows, each of `size` patients of one side; rows of a patient stay together, remainders are left out.

    ``groups (n,)`` are patients, ``truth (n,)`` the side of each row. Raises `MedwardError` without a set on a side.
    """
    rng, found = np.random.default_rng(seed), []
    for side in (False, True):
        own = rng.permutation(np.unique(groups[truth == side]))
        whole = len(own) // size
        if size < 2 or not whole:
            raise MedwardError(f"sets: need sets of 2 or more patients, got {size} of {len(own)} on one side")
        found += [
            np.flatnonzero((truth == side) & np.isin(groups, part)) for part in np.split(own[: whole * size], whole)
        ]
    return found


def _set_columns(sets: Sequence[Array]) -> Array:
    return np.stack([np.concatenate([each.mean(axis=0), each.std(axis=0)]) for each in map(_checked_set, sets)])


def _checked_set(similarity: Array) -> Array:
    values = np.asarray(similarity, np.float64)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] < 2 or not np.isfinite(values).all():
        raise MedwardError(f"sets: need finite similarities of 2 or more rows and temperatures, got {values.shape}")
    return values


def _falls(similarity: Array) -> Array:
    """Similarity at the coldest less that at the hottest ``(m,)``."""
    values = _checked_set(similarity)
    return np.asarray(values[:, 0] - values[:, -1])


def _student_t(gap: float, variance: float) -> float:
    """The gap in standard errors; where nothing varies its sign says it all."""
    return gap / math.sqrt(variance) if variance > 0 else float(np.sign(gap)) * _SURE
