"""CAMIA: signs of memory in how the loss runs along a text, joined by p-values.

The published code takes the sign of every feature from the labels of all candidates, those that it is evaluated on
included. Here signs come from a shadow model, whose members the attacker chose itself, and p-values are ranks among
texts that the attacker knows to be no members; no label of a candidate is ever asked for.

Reference: Chang et al., "Context-aware membership inference attacks against pre-trained large language models", EMNLP
2025.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medward.attacks.membership.language.recall import conditional_losses
from medward.attacks.membership.language.tokens import TokenStatistics
from medward.guard.errors import MedwardError
from medward.guard.types import Array

_PREFIXES = (200, 300)  # besides the whole text
_LEVELS = (-1.0, -2.0, -3.0)
_BINS = (3, 4, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextCalibration:
    """A context calibration holds what CAMIA learned on the attacker's own texts.

    `signs (F,)` are 1 where a feature is larger for members of the shadow model and -1 where smaller; `others (m, F)`
    are the signed features of texts known not to be members of the target.
    """

    signs: Array
    others: Array


def camia_scores(features: Array, calibration: ContextCalibration) -> Array:
    """Fisher's sum ``-2 log p`` over features ``(n, F)``, where p is the share of known non-members at least as high.

    No label of a candidate goes in: scores of a text are the same whoever else is scored.
    """
    signed, others = features * calibration.signs, calibration.others
    above = (others[None] >= signed[:, None]).sum(axis=1)
    return np.asarray(-2 * np.log((above + 1) / (len(others) + 1)).sum(axis=1))


def calibrate_context(shadow_members: Array, shadow_others: Array, others: Array) -> ContextCalibration:
    """Read signs off a shadow model's features on its members and others, p-values off the target's on `others`.

    All ``(m, F)``. Raises `MedwardError` when one of them is empty.
    """
    if not min(len(shadow_members), len(shadow_others), len(others)):
        raise MedwardError(
            "camia: needs members and others of a shadow model and known non-members of the target, "
            f"got {len(shadow_members)}, {len(shadow_others)} and {len(others)}"
        )
    signs = np.where(shadow_members.mean(axis=0) >= shadow_others.mean(axis=0), 1.0, -1.0)
    return ContextCalibration(signs=signs, others=others * signs)


def context_features(own: Sequence[TokenStatistics], repeated: Sequence[TokenStatistics]) -> Array:
    """Features ``(n, F)`` of how log-probabilities run along each text, and of what a second copy of it gains.

    `repeated` are the same texts, each read after itself. Features of the first 200 and 300 tokens are those of the
    whole text where it is shorter.
    """
    gains = conditional_losses(own, repeated)
    rows = []
    for text, second in zip(own, gains, strict=True):
        whole = _run_features(text.log_probabilities, text.tokens)
        long = len(text.tokens)
        parts = [
            _run_features(text.log_probabilities[:most], text.tokens[:most]) if most < long else whole
            for most in _PREFIXES
        ]
        rows.append([*whole, *(each for part in parts for each in part), text.loss - second])
    return np.array(rows)


def lempel_ziv_phrases(symbols: Sequence[int]) -> int:
    """How many distinct phrases the parsing of Lempel and Ziv (1978) finds in `symbols`."""
    phrases: set[tuple[int, ...]] = set()
    phrase: tuple[int, ...] = ()
    for symbol in symbols:
        phrase = (*phrase, symbol)
        if phrase not in phrases:
            phrases.add(phrase)
            phrase = ()
    return len(phrases) + bool(phrase)


def approximate_entropy(values: Array, *, order: int = 2, tolerance: float = 0.2) -> float:
    """Pincus' approximate entropy (1991) of a series; `tolerance` in its own deviations. 0 when it is too short."""
    if len(values) <= order + 1:
        return 0.0
    near = tolerance * values.std()

    def regularity(width: int) -> float:
        windows = np.lib.stride_tricks.sliding_window_view(values, width)
        alike = np.abs(windows[:, None] - windows[None]).max(axis=2) <= near
        return float(np.log(alike.mean(axis=1)).mean())

    return regularity(order) - regularity(order + 1)


def _run_features(log_probabilities: Array, tokens: np.ndarray) -> list[float]:
    mean = float(log_probabilities.mean())
    length = len(log_probabilities)
    slope = float(np.polyfit(np.arange(length), log_probabilities, 1)[0]) if length > 1 else 0.0
    low, high = float(log_probabilities.min()), float(log_probabilities.max())
    scaled = (log_probabilities - low) / (high - low) if high > low else np.zeros(length)
    symbols = [np.minimum((scaled * bins).astype(int), bins - 1).tolist() for bins in _BINS]
    return [
        mean,
        math.exp(-mean),
        *(float((log_probabilities > level).mean()) for level in _LEVELS),
        float((log_probabilities > mean).mean()),
        slope,
        *(lempel_ziv_phrases(each) / length for each in symbols),
        approximate_entropy(log_probabilities),
        mean * len(np.unique(tokens)) / length,
    ]
