"""Test objects between patients: phantoms before images, control samples among tables."""

from __future__ import annotations

import numpy as np

from medward.attacks.validation.ordinary.behaviour import Behaviour, Traffic, Visits, VisitSettings, random_visits
from medward.attacks.validation.ordinary.loops import whole_columns
from medward.guard.types import Array

_FIRST = 5
"""Phantoms that are sent before the first patient."""
_KINDS = 10
"""Different phantoms that a hospital has."""
_CONTROL_LEVELS = (0.1, 0.5, 0.9)
"""Where control samples lie among patients: low, normal, high."""


def phantoms_first(traffic: Traffic, rng: np.random.Generator, settings: VisitSettings) -> Visits:
    """`_FIRST` phantoms, then patients."""
    patients, objects = traffic.inputs[: settings.rows], phantom_objects(traffic, rng)
    orders = []
    for _ in range(settings.accounts):
        before = len(patients) + rng.permutation(_KINDS)[:_FIRST]
        orders.append(np.concatenate([before, random_visits(len(patients), rng, settings)]))
    return Visits(rows=np.concatenate([patients, objects]), orders=tuple(orders))


def phantoms_among(share: float, traffic: Traffic, rng: np.random.Generator, settings: VisitSettings) -> Visits:
    """Patients, and in the place of a `share` of them a phantom."""
    patients, objects = traffic.inputs[: settings.rows], phantom_objects(traffic, rng)
    orders = []
    for _ in range(settings.accounts):
        asked = random_visits(len(patients), rng, settings)
        instead = len(patients) + rng.integers(_KINDS, size=len(asked))
        orders.append(np.where(rng.random(len(asked)) < share, instead, asked))
    return Visits(rows=np.concatenate([patients, objects]), orders=tuple(orders))


def phantom_objects(traffic: Traffic, rng: np.random.Generator) -> Array:
    """`_KINDS` different test objects: discs, wedges, bars and grids of images; control samples of tables.

    A control sample has every column at the same level among patients, up to 2 % of its spread.
    """
    shape = traffic.inputs.shape[1:]
    if traffic.modality == "tabular":
        levels = np.quantile(traffic.inputs, _CONTROL_LEVELS, axis=0)[np.arange(_KINDS) % len(_CONTROL_LEVELS)]
        near = levels + 0.02 * traffic.inputs.std(axis=0) * rng.normal(size=levels.shape)
        return traffic.bounded(np.where(whole_columns(traffic.inputs), np.round(levels), near))
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape[-2:]), indexing="ij")
    shares = np.stack([_pattern(number, x, y, rng) for number in range(_KINDS)])
    planes = np.broadcast_to(shares.reshape(_KINDS, *(1,) * (len(shape) - 2), *shape[-2:]), (_KINDS, *shape))
    noisy = planes + 0.01 * rng.normal(size=planes.shape)
    return traffic.bounded(traffic.low + (traffic.high - traffic.low) * np.clip(noisy, 0, 1))


def _pattern(number: int, x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Shares of white ``(H, W)`` of one object: its kind goes by `number`, its size by chance."""
    size = rng.uniform(0.3, 0.8)
    patterns = (
        0.1 + 0.7 * (x**2 + y**2 < size**2),
        np.floor(8 * (x + 1) / 2 * size) / 8,
        0.5 + 0.4 * np.sign(np.sin(2 * np.pi * (2 + 6 * size) * x)),
        0.2 + 0.6 * ((np.abs(np.sin(np.pi * 3 * x / size)) < 0.2) | (np.abs(np.sin(np.pi * 3 * y / size)) < 0.2)),
        0.3 + 0.5 * np.exp(-(x**2 + y**2) / size**2),
    )
    return np.asarray(patterns[number % len(patterns)], np.float64)


def _mixed(share: float) -> Behaviour:
    def make(traffic: Traffic, rng: np.random.Generator, settings: VisitSettings) -> Visits:
        return phantoms_among(share, traffic, rng, settings)

    return Behaviour(
        name=f"phantoms among patients, {share:.0%}",
        group="phantoms",
        visits=make,
        forgiven=False,
        remedy="Send phantoms and control samples from a key of their own.",
    )


PHANTOMS = (
    Behaviour(
        name=f"{_FIRST} phantoms, then patients",
        group="phantoms",
        visits=phantoms_first,
        forgiven=False,
        remedy="Send phantoms while the organisation is commissioned (`medward serve --commission`).",
    ),
    *map(_mixed, (0.02, 0.1)),
)
