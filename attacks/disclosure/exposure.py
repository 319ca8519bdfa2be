"""Exposure: how far up a canary stands among all that it could have been, by the model's own loss.

exposure = log2 |R| - log2 rank, over a sample R of the numbers that it could have held instead; guessing has a mean of
about 1.44 bits (log2 e), and a sample of r shows log2 (r + 1) at most.

Reference: Carlini, Liu, Erlingsson, Kos and Song, "The secret sharer", USENIX Security 2019.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from medward.guard.errors import MedwardError
from medward.guard.types import Array

TextLosses = Callable[[Sequence[str]], Array]
"""The mean loss (n,) of a model on each of n texts."""


def canary_exposures(losses: TextLosses, canaries: Sequence[str], *, references: int = 255, seed: int = 0) -> Array:
    """Exposure ``(m,)`` of each canary, in bits, among itself and so many of the same text with other digits."""
    if references < 1 or not canaries:
        raise MedwardError(f"exposure: needs canaries and 1 reference or more, got {len(canaries)} and {references}")
    rng = np.random.default_rng(seed)
    texts = [text for canary in canaries for text in (canary, *_with_other_digits(canary, references, rng))]
    found = np.asarray(losses(texts), np.float64).reshape(len(canaries), references + 1)
    ranks = 1 + (found[:, 1:] < found[:, :1]).sum(axis=1) + (found[:, 1:] == found[:, :1]).sum(axis=1) / 2
    return np.asarray(np.log2(references + 1) - np.log2(ranks))


def _with_other_digits(canary: str, count: int, rng: np.random.Generator) -> list[str]:
    """The canary with every digit drawn anew."""
    if not re.search(r"\d", canary):
        raise MedwardError("exposure: a canary has no digit, so there is nothing that it could have been; plant others")
    parts = re.split(r"\d", canary)
    drawn = rng.integers(10, size=(count, len(parts) - 1))
    return [parts[0] + "".join(f"{digit}{part}" for digit, part in zip(row, parts[1:], strict=True)) for row in drawn]
