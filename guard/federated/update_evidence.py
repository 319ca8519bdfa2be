"""What the server sees in the updates themselves: who pulls the model back from where the others take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medward.guard.types import Array

OPPOSITION = 0.2  # cosine below zero that makes one unit
LOSS = 2.0  # times the median loss, above it, that make one unit
_MOST = 20.0  # times the median loss that are told, so that one round is soon forgotten
_LARGEST = 1e150  # a loss that is still a number to compute with


def opposition(products: Array) -> Array:
    """(n,): how far each update points away from the others, in units; 0 where it shares a direction with most.

    Updates (n, d) are given by their inner products. The cosine to the median other client is told, the upper one of an
    even number, so fewer than half of malicious clients do not make an honest one look opposed. One or two clients
    cannot be told apart.
    """
    clients = len(products)
    if clients < 3:
        return np.zeros(clients)
    lengths = np.sqrt(np.maximum(np.diag(products), np.finfo(np.float64).tiny))
    cosines = products / np.outer(lengths, lengths)
    others = cosines[~np.eye(clients, dtype=bool)].reshape(clients, clients - 1)
    away: Array = np.maximum(-np.sort(others, axis=1)[:, (clients - 1) // 2], 0) / OPPOSITION
    return away


def excess_losses(metrics: Sequence[Mapping[str, float]], name: str) -> Array:
    """(n,): how many times the median loss each client's reported loss is above it, in units; 0 where none is reported.

    A client may lie about its loss, so a small one proves nothing; who reports a large one is believed. Who reports
    none, or one below zero, which nothing is many times of, counts for the median as if it were endless: so fewer than
    half of malicious clients cannot make an honest loss look large, whoever else is silent.
    """
    told = np.array([_sound(each.get(name, 0.0)) for each in metrics])
    median = float(np.median(np.where(told > 1 / _LARGEST, told, np.inf))) if len(told) else np.inf
    excess: Array = np.clip(told / median - 1, 0, _MOST) / LOSS
    return excess


def _sound(loss: Any) -> float:
    """The loss, or 0 where it is none: what a client reports can be anything."""
    if isinstance(loss, bool) or not isinstance(loss, int | float | np.floating):
        return 0.0
    return float(loss) if -_LARGEST <= loss <= _LARGEST else 0.0
