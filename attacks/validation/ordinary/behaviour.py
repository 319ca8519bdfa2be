"""What an ordinary behaviour is: a row of the table `suite.BEHAVIOURS`, made of pure functions.

A behaviour says which of a hospital's rows an account sends, changed how and in which order. Everything that accounts
send is made once (`Visits.rows`), for a guard to look at once, and each account is an order of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.types import Array, Ints, Modality

_BOTH: tuple[Modality, ...] = ("image", "tabular")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Traffic:
    """Traffic is what a hospital has to send: ``inputs (n, *shape)``, all different, in random order.

    ``classes (n,)`` are whole numbers from 0 on, as labelled or as decided. All values lie from `low` to `high`, which
    are infinite where values have no bound.
    """

    inputs: Array
    classes: Ints
    modality: Modality
    low: float
    high: float

    def __post_init__(self) -> None:
        if len(self.inputs) < 2 or len(self.inputs) != len(self.classes):
            raise MedwardError(
                f"traffic: needs two rows or more with a class each, got {len(self.inputs)} rows and "
                f"{len(self.classes)} classes"
            )

    @classmethod
    def of(cls, inputs: Array, classes: Ints, modality: Modality, low: float | None, high: float | None) -> Traffic:
        """The traffic of rows whose bounds may be unknown: images then have those of their own values."""
        image = modality == "image"
        return cls(
            inputs=inputs,
            classes=classes,
            modality=modality,
            low=low if low is not None else float(inputs.min()) if image else -np.inf,
            high=high if high is not None else float(inputs.max()) if image else np.inf,
        )

    @property
    def flat(self) -> bool:
        """Whether rows are images of one plane or of colours ``(C, H, W)``: no tables, signals or volumes."""
        return self.modality == "image" and self.inputs.ndim == 4 and min(self.inputs.shape[2:]) >= _SMALLEST_SIDE

    def bounded(self, inputs: Array) -> Array:
        """`inputs` within the bounds, as float32."""
        return np.clip(inputs, self.low, self.high).astype(np.float32)


_SMALLEST_SIDE = 8
"""Pixels of a side below which marks and letters would be most of the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitSettings:
    """Visit settings are how many `accounts` behave so, how many `queries` each asks, and how many `rounds` of a loop.

    Of `rows` at most changed ones are made, as each is looked at.
    """

    accounts: int = 20
    queries: int = 100
    rounds: int = 20
    rows: int = 150


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Visits:
    """Visits are what accounts ask: `orders`, one each, index the ``rows (m, *shape)``; `batch` go in one query."""

    rows: Array
    orders: tuple[Ints, ...]
    batch: int = 1


MakeVisits = Callable[[Traffic, np.random.Generator, VisitSettings], Visits]
Order = Callable[[Ints, np.random.Generator, VisitSettings], Ints]
"""From the classes ``(n,)`` of all rows to the rows that one account asks, one after the other."""
Change = Callable[[Traffic, Array], Array]
"""From rows to the same number of rows as they are sent."""
DrawnChange = Callable[[Traffic, Array, np.random.Generator], Array]
"""The same, where chance has a part in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """A behaviour is something that hospitals do, and whether the default policy is meant to forgive it.

    Where it is not, `remedy` says in a sentence what a site does instead. `flat` says that it is for images of
    ``(C, H, W)`` only, `least_classes` how many classes traffic needs for it.
    """

    name: str
    group: str
    visits: MakeVisits
    forgiven: bool
    remedy: str = ""
    modalities: tuple[Modality, ...] = _BOTH
    flat: bool = False
    least_classes: int = 1

    def __post_init__(self) -> None:
        if self.forgiven == bool(self.remedy):
            raise ValueError(f"behaviour {self.name!r}: what is not forgiven has a remedy, and only that")

    def suits(self, traffic: Traffic) -> bool:
        """Whether such inputs can behave so."""
        enough = len(np.unique(traffic.classes)) >= self.least_classes
        return traffic.modality in self.modalities and (traffic.flat or not self.flat) and enough


def asked_in_order(order: Order, *, batch: int = 1) -> MakeVisits:
    """Rows as they are, in an `order`."""

    def make(traffic: Traffic, rng: np.random.Generator, settings: VisitSettings) -> Visits:
        orders = tuple(order(traffic.classes, rng, settings) for _ in range(settings.accounts))
        return Visits(rows=traffic.inputs, orders=orders, batch=batch)

    return make


def changed_alike(change: Change) -> MakeVisits:
    """Every row changed alike, each once."""
    return changed_by_chance(lambda traffic, rows, _: change(traffic, rows), versions=1)


def changed_by_chance(change: DrawnChange, *, versions: int) -> MakeVisits:
    """Every row changed, each once; of several `versions` of the change, drawn anew, an account has one."""

    def make(traffic: Traffic, rng: np.random.Generator, settings: VisitSettings) -> Visits:
        some = traffic.inputs[: settings.rows]
        sent = [change(traffic, some, rng) for _ in range(versions)]
        orders = [
            random_visits(len(some), rng, settings) + len(some) * (account % versions)
            for account in range(settings.accounts)
        ]
        return Visits(rows=np.concatenate(sent), orders=tuple(orders))

    return make


def random_visits(rows: int | Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """Some of `rows` (or of so many), each once, in random order: as many as an account asks, or all there are."""
    return rng.permutation(rows)[: settings.queries]
