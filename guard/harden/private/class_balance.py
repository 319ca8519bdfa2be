"""How often each class or finding is, told by the user or counted once with noise, never counted outright.

What makes up for rare classes is part of every gradient, so a raw count would be released by the weights. A noisy one
is a mechanism of its own, composed into epsilon. Reference: Dwork and Roth, "The algorithmic foundations of
differential privacy", 2014, appendix A, for the Gaussian mechanism.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medward.guard.errors import MedwardError
from medward.guard.files import write_durably
from medward.guard.harden.losses.base import TaskLosses
from medward.guard.harden.losses.classes import ClassLosses
from medward.guard.harden.losses.findings import FindingLosses
from medward.guard.harden.losses.numbers import NumberLosses
from medward.guard.harden.private.randomness import Randomness
from medward.guard.harden.private.settings import PrivateSettings
from medward.guard.models.base import read_json_object
from medward.guard.types import Array, Ints

Balance = Literal["counted", "none"] | tuple[float, ...]
"""Counted with noise, no weights at all, or the share of each class (or finding) as the user says it."""
COUNT_NOISE = 10.0
"""The noise multiplier of the count: small beside training, and some ten units of each class."""
_LEAST = 0.02  # a share counted as less may be nothing but noise


def is_counted(losses: TaskLosses, balance: Balance) -> bool:
    """Whether `balance` looks at the labels; refused where it says shares that cannot be those of `losses`."""
    if isinstance(losses, NumberLosses):
        if not isinstance(balance, str):
            raise MedwardError('class_balance: numbers have no classes; leave it out or say "none"')
        return False
    if balance == "counted" or balance == "none":
        return balance == "counted"
    columns = _columns(losses)
    if isinstance(balance, str) or len(balance) != columns or not all(0 < share < 1 for share in balance):
        raise MedwardError(
            f'class_balance: must be "counted", "none" or {columns} shares above 0 and below 1, got {balance!r}'
        )
    if isinstance(losses, ClassLosses) and abs(sum(balance) - 1) > 0.01:
        raise MedwardError(f"class_balance: the shares of classes sum to 1, got {sum(balance):g}")
    return False


def noisy_shares(y: Tensor, owners: Ints, losses: TaskLosses, randomness: Randomness) -> Array:
    """The share ``(K,)`` of each class or finding among units, from counts with noise `COUNT_NOISE` times one unit's.

    A unit counts by the mean of its rows, so it adds a vector of norm 1 at most (of K findings, the root of K).
    """
    columns = _columns(losses)
    table = np.eye(columns)[y.numpy()] if isinstance(losses, ClassLosses) else y.double().numpy()
    units = np.bincount(owners)
    totals = np.zeros((len(units), columns))
    np.add.at(totals, owners, table)
    most = 1.0 if isinstance(losses, ClassLosses) else float(np.sqrt(columns))
    noise = randomness.normals(0, "class balance", columns).numpy() * COUNT_NOISE * most
    counts = (totals / units[:, None]).sum(axis=0) + noise
    whole = max(float(counts.sum()), 1.0) if isinstance(losses, ClassLosses) else len(units)
    return np.asarray(np.clip(counts / whole, _LEAST, 1 - _LEAST))


def balanced_row_losses(losses: TaskLosses, shares: Array | None) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss ``(n,)`` of scores ``(n, K)`` and labels, as if classes of these `shares (K,)` were equally common.

    Scores learn with the log of the share added (of findings its log odds), and are released without it. Weights would
    do as much for plain training, but clipping takes weights back: here it is the rare class that keeps its gradient.
    Numbers count in tolerances, as the spread of the labels is nobody's to know. None adds nothing.

    Reference: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
    """
    if isinstance(losses, NumberLosses):
        return replace(losses, scale=losses.tolerance or 1.0).row_losses
    if shares is None:
        return losses.row_losses
    known = torch.from_numpy(np.asarray(shares, np.float32))
    moved = known.log() if isinstance(losses, ClassLosses) else torch.logit(known)

    def row_losses(scores: Tensor, y: Tensor) -> Tensor:
        return losses.row_losses(scores + moved.to(scores), y)

    return row_losses


def _columns(losses: TaskLosses) -> int:
    if isinstance(losses, ClassLosses):
        return losses.classes
    assert isinstance(losses, FindingLosses)
    return len(losses.findings)


def training_shares(
    y: Tensor, owners: Ints, losses: TaskLosses, balance: Balance, settings: PrivateSettings
) -> Array | None:
    """The shares of classes that scores are moved by in training, as `balance` has them; None to move none."""
    if isinstance(balance, tuple):
        return np.array(balance, np.float64)
    if not is_counted(losses, balance):
        return None
    seed, beside = settings.noise_seed, settings.checkpoint
    source = Randomness.secret() if seed is None else Randomness.seeded(seed)
    path = None if beside is None else beside.with_name(f"{beside.name}.shares")
    counted = counted_digest(y, owners, seed)
    return recorded_shares(path, counted, lambda: noisy_shares(y, owners, losses, source))


def counted_digest(y: Tensor, owners: Ints, noise_seed: int | None) -> str:
    """SHA-256 of what `noisy_shares` counts, for which units, and whether with noise that can be guessed."""
    counted = f"{noise_seed} {y.dtype} {tuple(y.shape)} {owners.dtype}".encode() + y.numpy().tobytes()
    return hashlib.sha256(counted + owners.tobytes()).hexdigest()


def recorded_shares(path: Path | None, counted: str, draw: Callable[[], Array]) -> Array:
    """The shares that `draw` gives, written to `path` before they are used, or those there of what is `counted`.

    A training that goes on after a kill counts once, as it was accounted. Raises `MedwardError` for a file of others.
    """
    if path is None:
        return draw()
    if not path.exists():
        shares = draw()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps({"counted": counted, "shares": shares.tolist()}).encode(), mode=0o600)
        return shares
    found = read_json_object(path)
    if found.get("counted") != counted or not isinstance(found.get("shares"), list):
        raise MedwardError(f"{path}: holds the class counts of other rows, units or noise; give another checkpoint")
    return np.array(found["shares"], np.float64)
