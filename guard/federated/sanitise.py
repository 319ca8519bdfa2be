"""What is refused before anything is averaged: strangers, repeats, broken arrays and boundless claims."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.federated.update import ClientUpdate, Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateBounds:
    """Update bounds say how many examples a client may claim.

    `most_examples` is the largest claim that is believed. `most_share` bounds one client's weight as a share of all;
    a larger claim is lowered to it, for an honest large hospital is no fault.
    """

    most_examples: float = 1e7
    most_share: float = 0.6

    def __post_init__(self) -> None:
        if not 1 <= self.most_examples < math.inf:
            raise MedwardError(f"most examples: must be finite and 1 or more, got {self.most_examples:g}")
        if not 0 < self.most_share <= 1:
            raise MedwardError(f"most share: must be above 0 and at most 1, got {self.most_share:g}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal says which node's update was left out of a round, and why."""

    node: str
    reason: str


def sanitise(
    updates: Sequence[ClientUpdate], start: Parameters, selected: Collection[str], bounds: UpdateBounds
) -> tuple[list[ClientUpdate], list[Refusal]]:
    """The updates that may count in this round, and the refusals of the others.

    An update counts when its node was `selected` this round and sent once, its arrays have the shapes and dtypes of
    `start` with nothing but finite numbers, and it claims a sound number of examples. Of a node that sent twice nothing
    counts: which of both is its own cannot be told.
    """
    counts = {node: 0 for node in selected}
    for update in updates:
        counts[update.node] = counts.get(update.node, 0) + 1
    admitted, refusals = [], []
    chosen = set(selected)
    for update in updates:
        reason = fault(update, start, bounds)
        if update.node not in chosen:
            reason = "was not selected this round"
        elif counts[update.node] > 1:
            reason = f"sent {counts[update.node]} updates in one round"
        if reason is None:
            admitted.append(update)
        else:
            refusals.append(Refusal(update.node, reason))
    return admitted, list(dict.fromkeys(refusals))


def fault(update: ClientUpdate, start: Parameters, bounds: UpdateBounds) -> str | None:
    """What is wrong with an update by itself, or None."""
    if isinstance(update.examples, bool) or not isinstance(update.examples, Real | np.number):
        return f"claims {update.examples!r} examples, which is no number"
    if not math.isfinite(update.examples):
        return f"claims {update.examples} examples"
    if update.examples <= 0:
        return f"claims {update.examples:g} examples; at least 1 is needed"
    if update.examples > bounds.most_examples:
        return f"claims {update.examples:g} examples; at most {bounds.most_examples:g} are believed"
    if len(update.parameters) != len(start):
        return f"sent {len(update.parameters)} arrays; the model has {len(start)}"
    for place, (sent, own) in enumerate(zip(update.parameters, start, strict=True)):
        if sent.shape != own.shape:
            return f"array {place} has shape {sent.shape}; the model's has {own.shape}"
        if sent.dtype != own.dtype:
            return f"array {place} has dtype {sent.dtype}; the model's has {own.dtype}"
        if not all_finite(sent):
            return f"array {place} holds NaN or infinity"
    return None


def all_finite(array: np.ndarray) -> bool:
    """Whether every number of `array` is finite; its sum says so at once unless it overflows."""
    if not np.issubdtype(array.dtype, np.inexact):
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum(dtype=np.float64)) or np.isfinite(array).all())


def example_weights(examples: Sequence[float], most_share: float) -> np.ndarray:
    """(n,) weights that sum to one: shares of the examples, none above `most_share` where others can take the rest.

    What is cut from a large claim goes to the others in proportion; with too few clients for the bound all are alike.
    """
    claimed = np.asarray(examples, dtype=np.float64)
    weights = claimed / claimed.sum()
    if most_share * len(weights) <= 1:
        return np.full(len(weights), 1 / len(weights))
    capped = np.zeros(len(weights), dtype=bool)
    while (weights > most_share * (1 + 1e-12)).any():
        capped |= weights > most_share
        rest = 1 - most_share * capped.sum()
        weights = np.where(capped, most_share, claimed / claimed[~capped].sum() * rest)
    return weights
