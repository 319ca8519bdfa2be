"""Which rows are trained on and which choose the epoch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from medward.guard.data.labels import Labels
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.tasks.base import Task
from medward.guard.tasks.multilabel import Multilabel, unpacked_findings
from medward.guard.tasks.regression import Regression
from medward.guard.types import Ints

TRAINING, SELECTION = ("train", "data"), ("selection", "val")
SHARE = 5  # without a selection split, one patient (or row) in so many of each stratum is set apart


def needed_splits(splits: Mapping[str, Split]) -> tuple[str, ...]:
    """The names of the splits that hardening reads: rows to train on and, where there are, to choose the epoch on."""
    names = [next((each for each in group if each in splits), None) for group in (TRAINING, SELECTION)]
    if names[0] is None:
        raise MedwardError(f'hardening needs a split "train"; the data has {", ".join(splits)}')
    return tuple(each for each in names if each is not None)


def divide_splits(splits: Mapping[str, Split], seed: int, task: Task | None = None) -> tuple[Split, Split, str]:
    """Rows to train on, rows to choose the epoch on, and where the latter are from.

    Without a selection split a part of train is set apart, by patient where patients are known, stratified by class, by
    the rarest finding or by fifths of a number, as `task` asks (default: by class).
    """
    train, *others = needed_splits(splits)
    rows = splits[train]
    for name in others:
        return rows, splits[name], f'epochs are chosen on the {len(splits[name])} rows of "{name}"'
    if rows.labels is None:
        raise MedwardError("train: hardening needs labels; add train_labels to the data")
    strata = selection_strata(rows.labels, task)
    patients = np.arange(len(rows)) if rows.patients is None else rows.patients
    rng, apart = np.random.default_rng(seed), []
    whose, first = np.unique(patients, return_index=True)
    for stratum in np.unique(strata[first]):
        group = rng.permutation(whose[strata[first] == stratum])
        if len(group) > 1:  # the only one is trained on
            apart.append(group[: -(-len(group) // SHARE)])
    chosen = np.isin(patients, np.concatenate(apart)) if apart else np.zeros(len(rows), bool)
    unit = "rows" if rows.patients is None else f"rows ({sum(map(len, apart))} patients)"
    told = f'the data has no split "selection" or "val": {int(chosen.sum())} {unit} of train are set apart for it'
    return rows.take(np.flatnonzero(~chosen)), rows.take(np.flatnonzero(chosen)), told


def selection_strata(labels: Labels, task: Task | None) -> Ints:
    """The stratum ``(n,)`` of each label: its class, the rarest finding that it has, or which fifth of the numbers."""
    if isinstance(task, Regression):
        return np.searchsorted(np.quantile(labels, [0.2, 0.4, 0.6, 0.8]), labels)
    if not isinstance(task, Multilabel):
        return labels
    table = unpacked_findings(labels, len(task.findings))
    rarest = np.argsort(table.sum(axis=0), kind="stable")
    ranked = np.concatenate([table[:, rarest], np.ones((len(table), 1), bool)], axis=1)
    return np.asarray(ranked.argmax(axis=1), np.int64)
