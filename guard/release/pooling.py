"""Pooling: the surest answers of a decision all leave with one confidence, so that how sure they were tells nothing.

A model is surer of records it trained on than of others, and an attacker reads the difference. Here the surest share of
ordinary answers is one pool for each decision: any confidence above the pool's cut leaves as the mean that unseen
calibration rows have above it. Decisions stay what they were, and so do the mean confidence of ordinary answers and,
within one decision, the order of confidences; between decisions it may change, for each pool has its own mean. The same
output always leaves the same, and pooling twice is pooling once: repeating a question tells no more.

It lowers what scores tell towards what decisions alone tell, and never below: where a model is right more often on its
training records, or more robustly so, every label says it, and noisy copies of a record read that off. What lies below
the cut leaves as it is: a member is rarely found there, so an answer there says "not a member". On overfitted networks
(tables of two and three classes, chest images) a share of 1 took the loss attack to about what labels tell, LiRA and
RMIA near it; 0.8 and 0.9 took less, nothing where the model was nearly always sure, and made the loss attack stronger
where labels were noisy and answers had three decimals. Pools of half of all answers raised what shadow models read.

Reference: in the spirit of Jia, Salem, Backes, Zhang and Gong, "MemGuard", CCS 2019, by a fixed map in the place of
noise; on its limits Choquette-Choo, Tramer, Carlini and Papernot, "Label-only membership inference attacks", ICML 2021.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.release.quantise import LEAST_ROWS
from medward.guard.release.scores import NDArrayBool
from medward.guard.tasks.decision import kept_side
from medward.guard.types import Array, Ints


@dataclass(frozen=True, slots=True, eq=False)
class ConfidencePools:
    """Confidence pools hold for each column and decision from what `cuts (m, G)` on which of `means (m, G)` leaves.

    A classification has one column and a decision for each class; of several findings each is a column, decided absent
    or present. `share` and `temperature` are the settings they were fitted for.
    """

    cuts: Array
    means: Array
    share: float
    temperature: float = 1.0

    def pooled(self, confidences: Array, decided: Ints, column: int = 0) -> Array:
        """What leaves in the place of ``confidences (n,)``, the probabilities of what was ``decided (n,)``."""
        return np.where(confidences >= self.cuts[column, decided], self.means[column, decided], confidences)

    def arrays(self) -> dict[str, Array]:
        """What was fitted, by name."""
        return {"cuts": self.cuts, "means": self.means, "settings": np.array([self.share, self.temperature])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> ConfidencePools:
        """Read back what `arrays` gave; raises `MedwardError` for what are no pools of probabilities."""
        cuts, means, settings = (np.asarray(arrays[name], np.float64) for name in ("cuts", "means", "settings"))
        whole = np.stack([cuts, means]) if cuts.shape == means.shape and cuts.ndim == 2 else np.full(1, np.nan)
        if not ((whole >= 0) & (whole <= 1)).all() or (means < cuts).any() or settings.shape != (2,):
            raise MedwardError("profile: the pools of confidences are none of probabilities; protect the model again")
        return cls(cuts, means, float(settings[0]), float(settings[1]))


def fit_pool(confidences: Array, share: float, least: float) -> tuple[float, float]:
    """The cut and the mean above it of benign ``confidences (n,)`` of one decision, whose smallest possible is `least`.

    The surest `share` of them, five rows at least, are the pool. With fewer than five rows in all nothing is known of
    ordinary confidences: every answer of that decision then leaves as if it had just been reached.
    """
    if len(confidences) < LEAST_ROWS:
        return least, least
    surest = np.sort(confidences)[-max(LEAST_ROWS, math.ceil(share * len(confidences))) :]
    return float(surest[0]), float(np.clip(surest.mean(), surest[0], surest[-1]))


def pool_winners(values: Array, best: NDArrayBool, pools: ConfidencePools) -> Array:
    """Probabilities ``(n, K)`` whose winner in the mask `best (n, K)` has its pooled confidence.

    The other classes share the rest in the proportions they had, or evenly where one of them would reach the winner.
    Rows in which several classes win stay as they are.
    """
    winner = best.argmax(axis=1)
    own = values[np.arange(len(values)), winner]
    new = pools.pooled(own, winner)
    rest = np.where(best, 0.0, values)
    total = rest.sum(axis=1)
    scaled = rest / np.where(total > 0, total, 1.0)[:, None] * (1 - new)[:, None]
    uneven = (total <= 0) | (scaled.max(axis=1) >= new)
    even = ((1 - new) / (values.shape[1] - 1))[:, None]
    others = np.minimum(np.where(uneven[:, None], even, scaled), np.nextafter(new, -np.inf)[:, None])
    moved = (best.sum(axis=1) == 1) & (new != own)
    return np.where(moved[:, None], np.where(best, new[:, None], others), values)


def pool_side(values: Array, positive: NDArrayBool, threshold: float, pools: ConfidencePools, column: int = 0) -> Array:
    """Probabilities ``(n, 2)`` of which the side decided, positive in the mask ``(n,)``, has its pooled confidence."""
    decided = positive.astype(np.int64)
    own = values[np.arange(len(values)), decided]
    new = pools.pooled(own, decided, column)
    second = kept_side(np.where(positive, new, 1 - new), positive, threshold)
    return np.where((new != own)[:, None], np.stack([1 - second, second], axis=1), values)
