"""Rows dealt to the hospitals of a federation: alike, or unlike in classes and in size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from medward.attacks.benchmarks.base import BenchmarkTask
from medward.guard.data.split import Split
from medward.guard.errors import MedwardError
from medward.guard.types import Ints

Skew = Literal["iid", "dirichlet"]
CONCENTRATION = 0.3
_LEAST_ROWS = 16  # of a hospital: fewer are no training
_DRAWS = 1000  # of proportions, until every hospital has that many


@dataclass(frozen=True, slots=True, kw_only=True)
class Hospitals:
    """Hospitals hold the rows of a federation: `clients` learn, the server has `server`, `extractor` and `test`
    measure.

    No row, and no known patient, is in two of them.
    """

    clients: tuple[Split, ...]
    server: Split
    extractor: Split
    test: Split


def deal_hospitals(task: BenchmarkTask, count: int, *, rows: int, skew: Skew, seed: int) -> Hospitals:
    """Deal about `count` times `rows` rows of the task to hospitals, patients whole.

    "iid": by chance, of about one size. "dirichlet": of each class by proportions from a Dirichlet distribution of
    concentration 0.3, so hospitals differ in their classes and in their size. Raises `MedwardError` for too few rows.
    """
    if skew not in get_args(Skew):
        raise MedwardError(f"skew: must be one of {', '.join(get_args(Skew))}, got {skew!r}")
    pool = _joined(task.splits["train"], task.splits["holdout"])
    if count * rows > len(pool):
        raise MedwardError(
            f"hospitals: {task.name} has {len(pool)} rows to deal, {count} hospitals of {rows} need {count * rows}; "
            f"deal at most {len(pool) // count}"
        )
    pool = pool.take(_some_groups(pool, count * rows, seed))
    owner = _owners(pool, count, skew, np.random.default_rng([seed, count]))
    clients = tuple(pool.take(np.flatnonzero(owner == place)) for place in range(count))
    if min(map(len, clients)) < 2:
        raise MedwardError(f"hospitals: {len(pool)} rows are too few for {count} hospitals")
    return Hospitals(
        clients=clients,
        server=task.splits["selection"],
        extractor=task.splits["calibration"],
        test=task.splits["test"],
    )


def _joined(first: Split, second: Split) -> Split:
    patients = None
    if first.patients is not None and second.patients is not None:
        patients = np.concatenate([first.patients, second.patients])
    labels = np.concatenate([np.asarray(first.labels), np.asarray(second.labels)])
    return Split(np.concatenate([first.inputs, second.inputs]), labels, patients)


def _groups(rows: Split) -> list[Ints]:
    """The rows of each patient, or each row where patients are unknown."""
    if rows.patients is None:
        return [np.array([row]) for row in range(len(rows))]
    order = np.argsort(rows.patients, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(rows.patients[order])) + 1)


def _some_groups(rows: Split, wanted: int, seed: int) -> Ints:
    """Rows of whole patients drawn by chance, until there are `wanted`."""
    chosen: list[Ints] = []
    groups = _groups(rows)
    for place in np.random.default_rng(seed).permutation(len(groups)):
        if sum(map(len, chosen)) >= wanted:
            break
        chosen.append(groups[place])
    return np.sort(np.concatenate(chosen))


def _owners(rows: Split, count: int, skew: Skew, draw: np.random.Generator) -> Ints:
    """(n,): whose each row is. A patient belongs to the class of the first of its rows."""
    groups, labels = _groups(rows), np.asarray(rows.labels)
    classes = np.array([labels[group[0]] for group in groups])
    for _ in range(_DRAWS):
        owner = np.empty(len(rows), np.int64)
        for each in np.unique(classes):
            members = draw.permutation(np.flatnonzero(classes == each))
            shares = np.full(count, 1 / count) if skew == "iid" else draw.dirichlet([CONCENTRATION] * count)
            ends = np.round(np.cumsum(shares) * len(members)).astype(int)[:-1]
            for place, part in enumerate(np.split(members, ends)):
                for group in part:
                    owner[groups[group]] = place
        if np.bincount(owner, minlength=count).min() >= min(_LEAST_ROWS, len(rows) // (2 * count)):
            return owner
    raise MedwardError(f"hospitals: {_DRAWS} draws gave no {count} hospitals of {_LEAST_ROWS} rows; deal more rows")
