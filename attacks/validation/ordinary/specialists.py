"""Who sends other classes than a general hospital: specialists, teaching sets, shifts in which like comes with like."""

from __future__ import annotations

import numpy as np

from medward.attacks.validation.ordinary.behaviour import (
    Behaviour,
    Traffic,
    Visits,
    VisitSettings,
    asked_in_order,
    random_visits,
)
from medward.guard.types import Ints

_RUN = 20.0
"""How many of one class come in a row in a shift, on average."""


def rarest_alone(classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """Rows of the rarest class only, each once."""
    return random_visits(np.flatnonzero(classes == rarest_class(classes)), rng, settings)


def rarest_half(classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """As many rows of the rarest class as of all others, each once."""
    rare = classes == rarest_class(classes)
    half = min(int(rare.sum()), int((~rare).sum()), settings.queries // 2)
    parts = [rng.permutation(np.flatnonzero(side))[:half] for side in (rare, ~rare)]
    return rng.permutation(np.concatenate(parts))


def class_alone(traffic: Traffic, rng: np.random.Generator, settings: VisitSettings) -> Visits:
    """Rows of one class only, each once; the accounts take the classes in turn."""
    known = np.unique(traffic.classes)
    orders = tuple(
        random_visits(np.flatnonzero(traffic.classes == known[account % len(known)]), rng, settings)
        for account in range(settings.accounts)
    )
    return Visits(rows=traffic.inputs, orders=orders)


def teaching_set(classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """Every class as often as any other, while its rows last; each row once."""
    members = [rng.permutation(np.flatnonzero(classes == each)) for each in np.unique(classes)]
    share = max(1, settings.queries // len(members))
    return rng.permutation(np.concatenate([each[:share] for each in members]))


def shift_runs(classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """Each row once, in runs of one class; over time classes are as frequent as ever."""
    rows = random_visits(len(classes), rng, settings)
    runs: list[Ints] = []
    left = {int(each): rows[classes[rows] == each] for each in np.unique(classes[rows])}
    while left:
        sizes = np.array([len(each) for each in left.values()])
        chosen = list(left)[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        length = int(rng.geometric(1 / _RUN))
        runs.append(left[chosen][:length])
        left[chosen] = left[chosen][length:]
        left = {each: some for each, some in left.items() if len(some)}
    return np.concatenate(runs)


def rarest_class(classes: Ints) -> int:
    """The class of which there are fewest rows."""
    known, counts = np.unique(classes, return_counts=True)
    return int(known[np.argmin(counts)])


SPECIALISTS = tuple(
    Behaviour(name=name, group=group, visits=make, forgiven=True, least_classes=2)
    for name, group, make in (
        ("the rarest class alone", "specialists", asked_in_order(rarest_alone)),
        ("one class alone, any", "specialists", class_alone),
        ("half of the rarest class", "specialists", asked_in_order(rarest_half)),
        ("teaching set, classes alike", "teaching", asked_in_order(teaching_set)),
        ("night shift, runs of one class", "shifts", asked_in_order(shift_runs)),
    )
)
