"""What certificates cost, as the gate judges it: clean rows without one, and rows that lose theirs under attack.

Either is judged on all rows, plain or balanced over classes, and on each class alone: a class of which nothing is
certified is never fooled, denied or refused, for nobody is told anything of it that counts, and nothing holds of it.
Of classes the lower ends alone are asked, for rare ones have too few rows for an upper end.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medward.attacks.intervals import Interval, worst_rate
from medward.attacks.learners.table import group_names, row_groups
from medward.guard.data.labels import Labels
from medward.guard.tasks.base import Task
from medward.guard.tasks.regression import Regression
from medward.guard.types import Ints

BY_PROOF = "By proof"
"""Begins the reason of a row that rests on no attack."""
DENIABLE = "certificates that any attack can deny"
"""What the share of certified rows is called that can lose their certificate at all, by proof."""


def rates_by_class(task: Task, tries: list[tuple[NDArray[np.bool_], Ints]]) -> dict[str, Interval]:
    """The share of true rows of each class of `task`, the largest of `tries`: rows ``(n,)`` and their classes ``(n,)``.

    Lower ends are corrected for the number of classes that are there.
    """
    groups = [row_groups(task, classes) for _, classes in tries]
    there = [name for name in group_names(task) if any(name in group for group in groups)]
    return {
        name: worst_rate(
            [rows[group[name]] for (rows, _), group in zip(tries, groups, strict=True) if name in group],
            among=len(there),
        )
        for name in there
    }


def patient_classes(task: Task, decided: Ints, labels: Labels | None) -> Ints:
    """What each row ``(n,)`` is of: as labelled, else as `decided`; a labelled number by its cell."""
    if labels is None:
        return decided
    if isinstance(task, Regression):
        return task.decide(np.asarray(labels, np.float64)[:, None])
    return np.asarray(labels, np.int64)


def coverage_harm(whole: Interval | None, classes: Mapping[str, Interval], bound: float) -> tuple[str, ...]:
    """What shows that too little of clean rows is certified: of the `whole`, or of one of the `classes`."""
    reasons = []
    if whole is not None and whole.low > bound:
        reasons.append(
            f"The guard certifies too little: at least {whole.low:.1%} of clean rows, plain or balanced over classes, "
            f"are left to a person, the bound is {bound:.1%}."
        )
    reasons += [
        f'The guard certifies too little of class "{name}": {round(share.n * (1 - share.value))} of its {share.n} '
        f"clean rows, so at least {share.low:.1%} of them are left to a person, the bound is {bound:.1%}."
        for name, share in classes.items()
        if share.low > bound
    ]
    return tuple(reasons)


def denial_harm(who: str, whole: Interval | None, classes: Mapping[str, Interval], bound: float) -> tuple[str, ...]:
    """What shows that `who` takes too many certificates away: of the `whole`, or of one of the `classes`."""
    reasons = []
    if whole is not None and whole.low > bound:
        reasons.append(
            f"{who} takes certificates away: of at least {whole.low:.1%} of rows, plain or balanced over classes, the "
            f"bound is {bound:.1%}."
        )
    reasons += [
        f'{who} takes certificates of class "{name}" away: of at least {share.low:.1%} of its {share.n} rows, the '
        f"bound is {bound:.1%}."
        for name, share in classes.items()
        if share.low > bound
    ]
    return tuple(reasons)
