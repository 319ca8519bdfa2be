"""The same again: fixed sets for quality assurance, acceptance and teaching, retries, and one patient all day."""

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
from medward.guard.types import Array, Ints

_SET_SIZES = (5, 17, 25, 50)
"""Inputs of a fixed set: an acceptance test, a daily check, a teaching set."""
_DAILY_BATCHES = (17, 25)
LOOPED_INPUTS = sum(_SET_SIZES) + sum(_DAILY_BATCHES)
"""Inputs of all fixed sets together, each sent once a round."""
_STORM = 50
"""How often a client that gets no answer in time asks for one row again."""
_RETRIED, _RETRIES = 0.1, 5.0
"""The share of requests that are asked again, and how often on average."""
_VIEWS = 40
"""Different images, or results, of one patient."""


def fixed_set(size: int, classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """A set of `size` rows in one order, sent again and again."""
    return np.tile(rng.permutation(len(classes))[:size], settings.rounds)


def retry_storm(classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """Ordinary requests, of which one in the middle is asked `_STORM` times in a row."""
    rows = random_visits(len(classes), rng, settings)
    middle = len(rows) // 2
    return np.concatenate([rows[:middle], np.repeat(rows[middle], _STORM), rows[middle + 1 :]])


def retry_bursts(classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
    """Ordinary requests, of which some are asked a few times in a row."""
    rows = random_visits(len(classes), rng, settings)
    again = np.where(rng.random(len(rows)) < _RETRIED, 1 + rng.geometric(1 / _RETRIES, len(rows)), 1)
    return np.repeat(rows, again)


def one_patient(traffic: Traffic, rng: np.random.Generator, settings: VisitSettings) -> Visits:
    """A patient for each account, of whom `_VIEWS` different inputs are sent in random order, some of them twice."""
    patients = rng.integers(len(traffic.inputs), size=settings.accounts)
    seen = [next_views(traffic, np.repeat(traffic.inputs[[each]], _VIEWS, axis=0), rng) for each in patients]
    orders = tuple(
        _VIEWS * account + rng.integers(_VIEWS, size=settings.queries) for account in range(settings.accounts)
    )
    return Visits(rows=np.concatenate(seen), orders=orders)


def next_views(traffic: Traffic, inputs: Array, rng: np.random.Generator) -> Array:
    """What is sent of the same patients next: images moved by up to a pixel, up to 2 % brighter or darker, with 1 %
    noise; tables with each value up to 3 % of its spread away, as a laboratory measures again, whole numbers whole.
    """
    if traffic.modality == "tabular":
        near = inputs + 0.03 * traffic.inputs.std(axis=0) * rng.uniform(-1, 1, inputs.shape)
        return traffic.bounded(np.where(whole_columns(traffic.inputs), inputs, near))
    span = traffic.high - traffic.low
    moved = inputs
    if traffic.flat:
        steps = rng.integers(-1, 2, (len(inputs), 2))
        padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
        high, wide = inputs.shape[2:]
        moved = np.stack(
            [x[:, 1 + i : 1 + i + high, 1 + j : 1 + j + wide] for x, (i, j) in zip(padded, steps, strict=True)]
        )
    gain = rng.uniform(0.98, 1.02, (len(inputs),) + (1,) * (inputs.ndim - 1))
    noisy = traffic.low + gain * (moved - traffic.low) + 0.01 * span * rng.normal(size=inputs.shape)
    return traffic.bounded(noisy)


def whole_columns(table: Array) -> np.typing.NDArray[np.bool_]:
    """Which columns ``(D,)`` of a table hold whole numbers only: counts, codes, categories."""
    return np.asarray((table == np.round(table)).all(axis=0))


def _loop(size: int, *, batch: int = 1) -> Behaviour:
    def order(classes: Ints, rng: np.random.Generator, settings: VisitSettings) -> Ints:
        return fixed_set(size, classes, rng, settings)

    how = "as one batch a day" if batch > 1 else "again and again"
    return Behaviour(
        name=f"{size} fixed inputs, {how}", group="loops", visits=asked_in_order(order, batch=batch), forgiven=True
    )


LOOPS = (
    *(_loop(size) for size in _SET_SIZES),
    *(_loop(size, batch=size) for size in _DAILY_BATCHES),
    Behaviour(
        name=f"one request {_STORM} times in a row", group="retries", visits=asked_in_order(retry_storm), forgiven=True
    ),
    Behaviour(name="bursts of retries", group="retries", visits=asked_in_order(retry_bursts), forgiven=True),
    Behaviour(
        name="one patient again and again",
        group="one patient",
        visits=one_patient,
        forgiven=False,
        remedy="Ask about many views of one patient among other patients', by the ward's key and not by one of its "
        "own: small changes of one image, dozens of times, are what a search around it looks like.",
        modalities=("image",),
    ),
    Behaviour(
        name="one patient again and again, new results",
        group="one patient",
        visits=one_patient,
        forgiven=False,
        remedy="Ask about a patient's new results among other patients', by the ward's key and not by one of its own: "
        "small steps around one row are what a search for the model's border looks like.",
        modalities=("tabular",),
    ),
)
