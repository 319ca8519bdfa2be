"""Dataset inference: was this set of texts trained on, though no single one of them tells?

Weak scores are weighed by a linear model on one half of the suspect texts and of texts known not to be trained on; the
other halves are compared by a t-test. No text weighs scores and is tested, so that the p-value holds when nothing was
trained on, provided that both sets were drawn alike.

Reference: Maini, Jia, Papernot and Dziedzic, "LLM dataset inference: did you train on my dataset?", NeurIPS 2024.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints

FEWEST_UNITS = 20
"""Patients (or texts) of each kind below which a t-test on half of them says nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetInference:
    """A dataset inference says how sure it is that suspect texts were trained on.

    `p_value` is the chance of at least this difference if they were not, `difference` that of the mean weighed scores
    (suspect less known) and `units` how many patients, or texts where no patients are known, were compared.
    """

    p_value: float
    difference: float
    units: int


def infer_dataset(
    suspect: Array,
    known: Array,
    *,
    suspect_groups: Ints | None = None,
    known_groups: Ints | None = None,
    seed: int,
) -> DatasetInference:
    """Test whether scores `suspect (n, F)` are those of members, beside `known (m, F)` of texts that are not.

    A patient's texts, by the groups ``(n,)`` and ``(m,)``, fall in one half and count once. Raises `MedwardError` below
    `FEWEST_UNITS` patients of either kind.
    """
    sides = [_units(suspect, suspect_groups), _units(known, known_groups)]
    if (fewest := min(len(rows) for rows in sides)) < FEWEST_UNITS:
        raise MedwardError(f"dataset inference: needs {FEWEST_UNITS} patients or texts of each kind, got {fewest}")
    rng = np.random.default_rng(seed)
    halves = [np.array_split(rows[rng.permutation(len(rows))], 2) for rows in sides]
    fitted = np.concatenate([halves[0][0], halves[1][0]])
    truth = np.repeat([1.0, 0.0], [len(halves[0][0]), len(halves[1][0])])
    ranks = QuantileTransformer(n_quantiles=min(100, len(fitted)), output_distribution="uniform")
    model = make_pipeline(ranks, Ridge(alpha=1.0)).fit(fitted, truth)
    ours, others = (model.predict(half[1]) for half in halves)
    if np.ptp(np.concatenate([ours, others])) == 0:
        return DatasetInference(p_value=1.0, difference=0.0, units=len(ours) + len(others))
    test = stats.ttest_ind(ours, others, equal_var=False, alternative="greater")
    return DatasetInference(
        p_value=float(test.pvalue), difference=float(ours.mean() - others.mean()), units=len(ours) + len(others)
    )


def _units(scores: Array, groups: Ints | None) -> Array:
    """One row per patient: the mean of its texts'."""
    if groups is None:
        return np.asarray(scores, np.float64)
    _, index, counts = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), scores.shape[1]))
    np.add.at(sums, index, scores)
    return np.asarray(sums / counts[:, None])
