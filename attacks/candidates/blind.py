"""The blind gate: can members be told from non-members without asking the model at all?

If they can, the two were not drawn alike, and a membership attack's success says nothing about the model. It
is so for eight published benchmarks.

Reference: Das, Zhang and Tramer, "Blind baselines beat membership inference attacks for foundation models",
2024.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from medward.attacks.intervals import Interval, auc_interval
from medward.guard.data.split import Split
from medward.guard.tasks.base import Task
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.report import WrittenReport
from medward.guard.types import Array

_FOLDS = 5
TREES = 100
GRID = 6
INVALID_SHIFT = "INVALID-SHIFT"
"""Begins the flag of candidates whose two kinds were not drawn alike: no membership attack on them says anything."""


def blind_scores(rows: Split, truth: NDArray[np.bool_], *, seed: int) -> Array:
    """Scores ``(n,)`` of candidates by a cross-validated random forest on inputs and labels alone.

    Where patients are known, no patient is on both sides of a fold. All zero with fewer than `_FOLDS` members
    or non-members.
    """
    scores = np.zeros(len(rows))
    if min(truth.sum(), (~truth).sum()) < _FOLDS:
        return scores
    x = row_statistics(rows)
    kind = StratifiedKFold if rows.patients is None else StratifiedGroupKFold
    for train, test in kind(_FOLDS, shuffle=True, random_state=seed).split(x, truth, rows.patients):
        forest = RandomForestClassifier(TREES, min_samples_leaf=3, random_state=seed)
        scores[test] = forest.fit(x[train], truth[train]).predict_proba(x[test])[:, 1]
    return scores


def labelled_rows(rows: Split, task: Task) -> Split:
    """`rows` with labels as columns that a forest can cut: sets of findings as their bits ``(n, K)``."""
    if rows.labels is None or not isinstance(task, Multilabel | WrittenReport):
        return rows
    return replace(rows, labels=unpacked_findings(rows.labels, len(task.findings)).astype(np.int64))


def blind_flags(scores: Array, rows: Split, truth: NDArray[np.bool_], *, seed: int) -> tuple[str, ...]:
    """One flag when `scores` without the model tell members; see `shift_flags`."""
    return shift_flags(auc_interval(scores, truth, seed=seed, groups=rows.patients))


def shift_flags(blind: Interval) -> tuple[str, ...]:
    """One flag when the AUC `blind`, of scores without the model, is above 0.5 with its whole interval.

    An interval below 0.5 is no shift: cross-validation on rows drawn alike leans that way, since a fold with
    more members leaves fewer to learn from.
    """
    if blind.low <= 0.5:
        return ()
    return (f"{INVALID_SHIFT}: members and non-members differ without the model (blind AUC {blind})",)


def row_statistics(rows: Split) -> Array:
    """Features ``(n, d)`` of inputs and labels: table rows as they are, images as thumbnail and moments."""
    x = np.asarray(rows.inputs, np.float64)
    if x.ndim == 4:
        flat = x.reshape(len(x), -1)
        moments = [flat.mean(axis=1), flat.std(axis=1), flat.min(axis=1), flat.max(axis=1)]
        moments += [np.abs(np.diff(x, axis=axis)).mean(axis=(1, 2, 3)) for axis in (2, 3) if x.shape[axis] > 1]
        quantiles = np.quantile(flat, [0.05, 0.25, 0.5, 0.75, 0.95], axis=1)
        x = np.column_stack([grid_means(x.mean(axis=1)), *moments, *quantiles])
    return x if rows.labels is None else np.column_stack([x, rows.labels])


def grid_means(images: Array) -> Array:
    """Means over a `GRID` x `GRID` grid of ``(n, H, W)``, flattened."""
    return np.asarray(averaging_matrix(images.shape[1]) @ images @ averaging_matrix(images.shape[2]).T).reshape(
        len(images), -1
    )


def averaging_matrix(length: int) -> Array:
    """The matrix ``(GRID, length)`` that averages over `GRID` runs of about equal length."""
    inside = np.arange(length) * GRID // length == np.arange(GRID)[:, None]
    return np.asarray(inside / np.maximum(inside.sum(axis=1, keepdims=True), 1))
