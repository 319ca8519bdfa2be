"""What is refused before anything is averaged: strangers, repeats, broken arrays and boundless claims."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medward.guard.errors import MedwardError
from medward.guard.federated.geometry import change_lengths
from medward.guard.federated.update import ClientUpdate, ModelParameters
from medward.guard.types import Array

_MOST_COUNTED = 1e15  # integers up to here are exact in float64
FURTHEST = 1e60  # how far an update may move the model: any float32 model is nearer, and squares of squares are finite


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateBounds:
    """Update bounds say how many examples a client may claim.

    `most_examples` is the largest claim that is believed. `most_share` bounds one client's weight as a share of all;
    a larger claim is lowered to it, for an honest large hospital is no fault.
    """

    most_examples: float = 1e7
    most_share: float = 0.6

    def __post_init__(self) -> None:
        if not 1 <= self.most_examples <= _MOST_COUNTED:
            raise MedwardError(f"most examples: must be 1 to {_MOST_COUNTED:g}, got {self.most_examples:g}")
        if not 0 < self.most_share <= 1:
            raise MedwardError(f"most share: must be above 0 and at most 1, got {self.most_share:g}")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal says which node's update was left out of a round, and why."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class Admission:
    """An admission holds the updates that may count in a round, how far each moved the model, and the refusals."""

    updates: tuple[ClientUpdate, ...]
    norms: Array
    refusals: tuple[Refusal, ...]

    def where(self, kept: NDArray[np.bool_]) -> Admission:
        """The admission of some of its updates (n,); what is left out is not refused."""
        updates = tuple(update for update, stays in zip(self.updates, kept, strict=True) if stays)
        return Admission(updates, self.norms[kept.astype(bool)], self.refusals)

    def without(self, reasons: Mapping[str, str]) -> Admission:
        """The admission less the nodes that are refused for `reasons`."""
        kept = self.where(np.array([update.node not in reasons for update in self.updates]))
        return Admission(kept.updates, kept.norms, (*self.refusals, *(Refusal(*each) for each in reasons.items())))


def sanitise(
    updates: Sequence[ClientUpdate], start: ModelParameters, selected: Collection[str], bounds: UpdateBounds
) -> Admission:
    """Who may count in this round: whose node was `selected` and sent once, with nothing in it that is broken.

    Its arrays have the shapes and dtypes of `start` with nothing but finite numbers, and it claims a sound number of
    examples. Of a node that sent twice nothing counts: which of both is its own cannot be told. Whatever a client
    sends, nothing is raised; `MedwardError` says that `start` itself is broken.
    """
    require_averageable("start", start)
    chosen, senders = set(selected), Counter(update.node for update in updates if isinstance(update.node, str))
    reasons = [_stranger(update, chosen, senders) or fault(update, start, bounds) for update in updates]
    whole = [place for place, reason in enumerate(reasons) if reason is None]
    norms = change_lengths(start, [updates[place].parameters for place in whole])
    if not whole or not np.isfinite(norms).all():  # a broken model breaks every norm, so else it is sound
        require_sound_model("start", start)
    for place, norm in zip(whole, norms, strict=True):
        reasons[place] = _broken_numbers(updates[place].parameters, float(norm))
    refusals = (Refusal(_node_text(each), reason) for each, reason in zip(updates, reasons, strict=True) if reason)
    return Admission(
        tuple(update for update, reason in zip(updates, reasons, strict=True) if reason is None),
        norms[np.array([reasons[place] is None for place in whole], dtype=bool)],
        tuple(dict.fromkeys(refusals)),
    )


def require_sound_model(name: str, parameters: ModelParameters) -> None:
    """Raise `MedwardError` unless all arrays hold finite real numbers, counters or flags."""
    require_averageable(name, parameters)
    for place, array in enumerate(parameters):
        if not np.isfinite(array).all():
            raise MedwardError(f"{name}: array {place} holds NaN or infinity; begin from a sound model")


def require_averageable(name: str, parameters: ModelParameters) -> None:
    """Raise `MedwardError` unless all arrays are of real numbers, integers or flags."""
    for place, array in enumerate(parameters):
        if not isinstance(array, np.ndarray):
            raise MedwardError(
                f"{name}: must be a list of NumPy arrays in the model's order, got {type(array).__name__} at {place}"
            )
        if array.dtype.kind not in "fiub":
            raise MedwardError(
                f"{name}: array {place} is of {array.dtype}, which cannot be averaged; "
                "send real numbers, integers and flags only"
            )


def fault(update: ClientUpdate, start: ModelParameters, bounds: UpdateBounds) -> str | None:
    """What is wrong with the form of an update by itself, or None; its numbers are not read."""
    if reason := _examples_fault(update.examples, bounds):
        return reason
    if not isinstance(update.metrics, Mapping):
        return f"says of its training {_short(update.metrics)}, which is no table of numbers"
    return form_fault(update.parameters, start)


def form_fault(parameters: ModelParameters, start: ModelParameters) -> str | None:
    """What keeps `parameters` from being averaged with `start`, or None: another number of arrays, shape or dtype."""
    if not isinstance(parameters, list | tuple):
        return f"sent a {type(parameters).__name__}; a list of {len(start)} arrays is needed"
    if len(parameters) != len(start):
        return f"sent {len(parameters)} arrays; the model has {len(start)}"
    for place, (sent, own) in enumerate(zip(parameters, start, strict=True)):
        if type(sent) is not np.ndarray:
            return f"array {place} is a {type(sent).__name__}; a plain NumPy array is needed"
        if sent.shape != own.shape:
            return f"array {place} has shape {sent.shape}; the model's has {own.shape}"
        if sent.dtype != own.dtype:
            return f"array {place} has dtype {sent.dtype}; the model's has {own.dtype}"
    return None


def _examples_fault(examples: Any, bounds: UpdateBounds) -> str | None:
    if isinstance(examples, bool) or not isinstance(examples, int | float | np.integer | np.floating):
        return f"claims {_short(examples)} examples, which is no number"
    if not examples >= 1:  # NaN is not
        return f"claims {_short(examples)} examples; at least 1 is needed"
    if examples > bounds.most_examples:
        return f"claims {_short(examples)} examples; at most {bounds.most_examples:g} are believed"
    return None


def _stranger(update: ClientUpdate, chosen: Collection[str], senders: Mapping[str, int]) -> str | None:
    if not isinstance(update.node, str):
        return f"calls itself {_short(update.node)}, a {type(update.node).__name__}; nodes are known by a text"
    if update.node not in chosen:
        return "was not selected this round"
    return None if senders[update.node] == 1 else f"sent {senders[update.node]} updates in one round; 1 is allowed"


def _broken_numbers(sent: ModelParameters, norm: float) -> str | None:
    """What is wrong with numbers whose change is `norm` long: a finite one says that all are finite."""
    if norm <= FURTHEST:
        return None
    for place, array in enumerate(sent):
        if not np.isfinite(array).all():
            return f"array {place} holds NaN or infinity"
    return f"moves the model by {norm:g}; at most {FURTHEST:g} can be computed with"


def _short(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"
    return reprlib.repr(value.item() if isinstance(value, np.generic) else value)


def _node_text(update: ClientUpdate) -> str:
    return update.node if isinstance(update.node, str) else _short(update.node)


def example_weights(examples: Sequence[float], most_share: float) -> Array:
    """(n,) weights that sum to one: shares of the examples, none above `most_share` where others can take the rest.

    What is cut from a large claim goes to the others in proportion; with too few clients for the bound all are alike.
    """
    if most_share * len(examples) <= 1:
        return np.full(len(examples), 1 / len(examples))
    return bounded_shares(np.asarray(examples, dtype=np.float64), most_share)


def bounded_shares(parts: Array, most_share: float) -> Array:
    """(n,): positive `parts` as shares that sum to one, none above `most_share` where the others can take the rest."""
    shares: Array = parts / parts.sum()
    if most_share * len(shares) <= 1:
        return shares
    bounded = np.zeros(len(shares), dtype=bool)
    while (shares > most_share * (1 + 1e-12)).any():
        bounded |= shares > most_share
        rest = 1 - most_share * bounded.sum()
        shares = np.where(bounded, most_share, parts / parts[~bounded].sum() * rest)
    return shares
