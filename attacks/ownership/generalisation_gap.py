"""Whether a model learned anything from its training rows alone: its generalisation gap, tested.

A model without a gap either did not learn from these rows, or learns nearly the same whatever the rows. Then an honest
model of the same task agrees with it as a clone does, and independent models of other recipes do not show that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medward.guard.data.split import Split
from medward.guard.models.base import Model
from medward.guard.profile import forward_batches

LARGEST_GAP_P = 0.05
"""The p-value up to which a model is called clearly better on its training rows."""
MOST_CHECKED = 5000
"""Rows of either sort that are asked at most."""


def generalisation_gap_p_value(trained: NDArray[np.bool_], held: NDArray[np.bool_]) -> float:
    """The p-value of Fisher's exact test that a model is right no more often on `trained` rows than on `held` ones.

    One-sided; both say of each row whether the model is right. Rows count as independent.
    """
    table = [[int(each.sum()), int((~each).sum())] for each in (trained, held)]
    return float(stats.fisher_exact(table, alternative="greater").pvalue)


def learned_doubt(model: Model, trained: Split, others: Sequence[Split], *, seed: int) -> str | None:
    """What to say, in a sentence, where `model` is not clearly better on `trained` rows than on `others`; else None.

    None as well where no others have labels. The test is weak for few rows, so this is a warning and no refusal.
    """
    known = [each for each in others if each.labels is not None and len(each)]
    if not known:
        return None
    rng = np.random.default_rng(seed)
    held = Split(
        np.concatenate([each.inputs for each in known]), np.concatenate([np.asarray(each.labels) for each in known])
    )
    first, second = (_right(model, each.take(rng.permutation(len(each))[:MOST_CHECKED])) for each in (trained, held))
    p_value = generalisation_gap_p_value(first, second)
    if p_value <= LARGEST_GAP_P:
        return None
    return (
        f'the model is right on {first.mean():.3f} of {len(first)} rows of "train" and on {second.mean():.3f} of '
        f"{len(second)} others, which is not clearly more (Fisher's exact test, p = {p_value:.2g}): if it did not "
        "learn from these rows, or learns much the same from any, honest models of the same kind and task may be "
        "called copies; check the split and give your recipe"
    )


def _right(model: Model, rows: Split) -> NDArray[np.bool_]:
    return np.asarray(model.spec.decide(forward_batches(model, rows.inputs).scores) == rows.labels, bool)
