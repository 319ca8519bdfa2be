"""The sum of all updates of each client so far, for rules that look back at how alike clients have been.

Inner products of sums cannot be kept without the sums themselves: one model for each client, exact and on the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from medward.guard.federated.aggregation import saturated
from medward.guard.federated.geometry import round_geometry
from medward.guard.federated.update import ClientUpdate, ModelParameters, is_learned
from medward.guard.types import Array

Sums = Mapping[str, ModelParameters]
"""The sum of each node's updates: its learned arrays, in their own dtypes."""


def with_updates(sums: Sums, start: ModelParameters, updates: Iterable[ClientUpdate]) -> dict[str, ModelParameters]:
    """The sums after `updates` to `start`; who sent nothing keeps its own."""
    learned = [place for place, array in enumerate(start) if is_learned(array)]
    after = dict(sums)
    for update in updates:
        changes = [model_change(start[place], update.parameters[place]) for place in learned]
        before = sums.get(update.node)
        after[update.node] = (
            changes
            if before is None
            else [
                saturated(np.add(old, new, dtype=np.float64), old.dtype)
                for old, new in zip(before, changes, strict=True)
            ]
        )
    return after


def inner_products(sums: Sums, nodes: Sequence[str]) -> Array:
    """(n, n): inner products of the sums of `nodes`."""
    models = [sums[node] for node in nodes]
    return round_geometry([np.zeros_like(array) for array in models[0]], models).products


def model_change(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """`new` less `old`, in their dtype and within its range."""
    return saturated(np.subtract(new, old, dtype=np.float64), old.dtype)
