"""PRADA: are the distances between an account's queries distributed as a normal's would be?

Per class of the model's answers a growing set of queries is kept. A query's distance to the nearest member of its
class's set is noted; a query farther away than the class's cut joins the set, and the cut becomes the mean less the
standard deviation of the distances at which members joined, if that is larger. Every ten queries the noted distances of
all classes that have ten, without those three standard deviations from their mean, are tested: below `delta`,
Shapiro and Wilk's W says that they are not normal, and the account is held for a thief's until the next test.

Settings are those of the authors' code; they choose `delta` per model, so it is to be swept. O(members) per query.

Reference: Juuti, Szyller, Marchal, Asokan, "PRADA: protecting against DNN model stealing attacks", EuroS&P 2019.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from medward.guard.types import Array

EVERY = 10  # queries between two tests
FEWEST = 100  # distances that a test needs more than
LEAST = 10  # distances a class needs to take part
TRIM = 3.0  # standard deviations


@dataclass(frozen=True, slots=True)
class Grown:
    """The set of one class: its members ``(m, d)``, the distances ``(m,)`` they joined at, its cut."""

    members: Array
    joined: Array
    cut: float = 0.0


@dataclass(frozen=True, slots=True)
class PradaState:
    """One account: queries so far, each class's set and noted distances, W at the last test (NaN before it)."""

    n: int = 0
    grown: Mapping[int, Grown] = field(default_factory=dict)
    noted: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    w: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Prada:
    """The rule at one `delta`."""

    delta: float = 0.9

    def start(self) -> PradaState:
        """An account that has asked nothing."""
        return PradaState()

    def step(self, state: PradaState, features: Array, label: int) -> tuple[PradaState, bool]:
        """One more query: the raw input as ``(d,)``, and the model's answer to it."""
        row, grown, noted = np.ravel(features), dict(state.grown), dict(state.noted)
        if label not in grown:
            grown[label] = Grown(row[None], np.zeros(1))
        else:
            own = grown[label]
            gap = float(np.sqrt(((own.members - row) ** 2).sum(axis=1).min()))
            noted[label] = (*noted.get(label, ()), gap)
            if gap > own.cut:
                joined = np.append(own.joined, gap)
                cut = max(own.cut, float(joined.mean() - joined.std()))
                grown[label] = Grown(np.vstack([own.members, row]), joined, cut)
        w = normality(noted) if state.n % EVERY == 0 else math.nan
        state = PradaState(state.n + 1, grown, noted, state.w if math.isnan(w) else w)
        return state, state.w < self.delta


def normality(noted: Mapping[int, tuple[float, ...]]) -> float:
    """W of the distances of all classes together; NaN where there are too few."""
    gaps = np.array([gap for each in noted.values() if len(each) >= LEAST for gap in each])
    if len(gaps) <= FEWEST:
        return math.nan
    gaps = gaps[np.abs(gaps - gaps.mean()) < TRIM * gaps.std()]
    if len(gaps) <= FEWEST:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # above 5,000 values the p-value is rough, and it is not used
        return float(stats.shapiro(gaps).statistic)
