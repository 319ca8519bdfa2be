"""The share of rows fooled: over all rows, and balanced over classes; what is judged is the larger of the two.

A plain share hides what befalls a rare class: where 27 % of patients are ill, every one of them turned benign is a
plain share of .27. A mean over classes hides what befalls the common one: of two classes, a tenth of whose rows is
rare, half of the common class fooled is .25 balanced and .45 plain. So neither can stand for the other, and an attacker
passes if either shows it. The larger of two true shares is bounded by the larger of their upper ends; the lower end is
corrected for the choice, as it is for radii (`intervals.worst_interval`).

A row counts in the class it is labelled as, for it is patients of that kind who get another answer; without labels in
the class that it was decided as. Findings, numbers and opaque outputs have no classes, and are judged by the plain
share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from medward.attacks.base import Attempt
from medward.attacks.intervals import Interval, balanced_rate, larger_rate, rows_by_class, worst_interval, worst_rate
from medward.guard.data.labels import Labels
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification
from medward.guard.types import Ints

Fooled = NDArray[np.bool_]


def counted_classes(task: Task, decided: Ints, labels: Labels | None) -> Ints | None:
    """The class ``(n,)`` that each row counts in: as labelled, else as `decided`; None of a task without classes."""
    if not isinstance(task, Classification):
        return None
    return np.asarray(decided if labels is None else labels, np.int64)


def larger_share(fooled: Fooled, classes: Ints | None) -> float:
    """The larger of the plain and the balanced share of the rows `fooled (n,)`."""
    shares = [float(rows.mean()) for rows in rows_by_class(fooled, classes).values()]
    return max(float(fooled.mean()), sum(shares) / max(len(shares), 1))


def fooled_interval(attempts: Sequence[Attempt], *, noise: bool = False) -> Interval:
    """What is judged of several `attempts`, of which the attacker takes the best; of random noise with `noise`."""
    return larger_rate([(each.noisy if noise else each.fooled, each.classes) for each in attempts])


def freely_fooled(attempts: Sequence[Attempt]) -> Interval | None:
    """What an attacker reaches who takes, row by row, the radius that serves best; None without attempts.

    Attempts on other rows, as those that aim at another class have, are not mixed.
    """
    groups: dict[bytes, list[Attempt]] = {}
    for each in attempts:
        groups.setdefault(np.asarray(each.decided).tobytes(), []).append(each)
    same = [
        replace(alike[-1], fooled=np.logical_or.reduce([each.fooled for each in alike])) for alike in groups.values()
    ]
    return fooled_interval(same) if same else None


def fooled_shares(attempts: Sequence[Attempt], task: Task) -> dict[str, Interval]:
    """What lies beneath `fooled_interval`, by name: the plain and the balanced share, and that of each class.

    Each is at its own worst attempt, its lower end corrected for that choice. Empty where there are no two classes.
    """
    if not isinstance(task, Classification):
        return {}
    found = [rows_by_class(each.fooled, each.classes) for each in attempts]
    there = sorted({index for groups in found for index in groups})
    if len(there) < 2:
        return {}
    return {
        "plain": worst_rate([each.fooled for each in attempts]),
        "balanced": worst_interval([partial(balanced_rate, list(groups.values())) for groups in found if groups]),
        **{
            f'of "{task.classes[index]}"': worst_rate([groups[index] for groups in found if index in groups])
            for index in there
        },
    }


def noise_shares(attempts: Sequence[Attempt]) -> dict[str, Interval]:
    """What random noise alone does, as it is judged, by name; empty without attempts."""
    return {"noise": fooled_interval(attempts, noise=True)} if attempts else {}


def refused_share(attempts: Sequence[Attempt]) -> Interval | None:
    """The share of attacked rows that were refused, at the radius where that is most; None where nobody counted."""
    refused = [each.refused for each in attempts if each.refused is not None]
    return worst_rate(refused) if refused else None


def denied_share(attempts: Sequence[Attempt]) -> Interval | None:
    """The share of rows that an attack denies their proof, plain or balanced, at its worst; None without proofs."""
    denied = [(each.denied, each.classes) for each in attempts if each.denied is not None]
    return larger_rate(denied) if denied else None


def changed_share(attempts: Sequence[Attempt]) -> Interval | None:
    """The share of rows whose answer an attack changes, certified or not, plain or balanced; None without proofs."""
    proven = [each for each in attempts if each.certified is not None]
    changed = [(each.changed, each.classes) for each in proven if each.changed is not None]
    return larger_rate(changed) if changed else None


def class_counts(attempts: Sequence[Attempt], task: Task) -> dict[str, int]:
    """How many rows of each class that is there `attempts` were judged on, the fewest of any; empty without classes."""
    if not isinstance(task, Classification):
        return {}
    found = [rows_by_class(each.fooled, each.classes) for each in attempts]
    there = sorted({index for groups in found for index in groups})
    return {task.classes[index]: min(len(groups[index]) for groups in found if index in groups) for index in there}
