"""The share fooled, or denied certificates, of the rows of each class, and whether that leaves nothing of a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medward.attacks.base import Attempt
from medward.attacks.intervals import Interval
from medward.attacks.validation.certified_share import rates_by_class
from medward.guard.tasks.base import Task
from medward.guard.tasks.classification import Classification

EMPTIED, SURELY = 0.9, 0.75
"""The share of a class's rows that must be fooled, and the least that its lower end must say, before it is emptied."""

Classes = Mapping[str, Interval]
"""The share fooled of the rows of each class, the lower ends corrected for how many classes there are."""


def empties_class(share: Interval) -> bool:
    """Whether an attack leaves next to nothing of a class, `share` of whose rows it fools.

    What chance may have done is left to the lower end, which a handful of rows cannot bring that far: it takes about
    twenty, all of them fooled.
    """
    return share.value >= EMPTIED and share.low >= SURELY


def by_class(attempts: Sequence[Attempt], task: Task, *, noise: bool = False) -> dict[str, Interval]:
    """The share fooled of the rows that `task` decided alike, at its worst radius; by random noise with `noise`.

    Lower ends are corrected for the number of classes that are there, as they are for radii.
    """
    return rates_by_class(task, [(each.noisy if noise else each.fooled, each.decided) for each in attempts])


def denied_by_class(attempts: Sequence[Attempt], task: Task) -> dict[str, Interval]:
    """The share of rows of each class, as labelled where that is known, that lose their certificate under attack."""
    return rates_by_class(
        task,
        [
            (each.denied, each.decided if each.classes is None else each.classes)
            for each in attempts
            if each.denied is not None
        ],
    )


def by_direction(classes: Classes, task: Task) -> dict[str, Interval]:
    """Of a model of two classes with an operating point: which positives were hidden, which negatives raised."""
    if not isinstance(task, Classification) or task.threshold is None:
        return {}
    negative, positive = task.classes
    ways = {f"{positive} hidden": classes.get(positive), f"{positive} raised": classes.get(negative)}
    return {way: share for way, share in ways.items() if share is not None}
