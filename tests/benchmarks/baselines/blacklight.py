"""Blacklight-style fingerprints: is a query nearly one that was asked before?

The image (in 8-bit units, a secret salt added) is quantised and flattened; every run of `WINDOW` values is hashed, and
the largest `KEPT` hashes are the fingerprint. A query that shares `MATCHING` of them with one query before alarms. It
knows no accounts: whatever history it is given counts.

Settings for small images as in the re-implementation that Feng et al. (OARS, CCS 2023) published. Hashes are cut to 64
bits, which at these numbers never meet by chance.

Reference: Li et al., "Blacklight: scalable defense for neural networks against query-based black-box attacks", USENIX
Security 2022.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medward.guard.types import Array

WINDOW, STEP, GRAIN, KEPT, MATCHING = 20, 1, 50, 50, 25
UNITS = 255

Fingerprints = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blacklight:
    """The rule; `seed` draws the salt."""

    seed: int = 0

    def start(self) -> Fingerprints:
        """No query so far; ``(n, KEPT)`` after n."""
        return np.zeros((0, KEPT), np.uint64)

    def step(self, state: Fingerprints, features: Array, label: int) -> tuple[Fingerprints, bool]:
        """One more query: the raw image in [0, 1]; the label is not used. A query that alarms is remembered, too."""
        new = self.fingerprint(features)
        shared = np.isin(state, new[new > 0]).sum(axis=1).max(initial=0)
        return np.vstack([state, new]), bool(shared >= MATCHING)

    def fingerprint(self, image: Array) -> Fingerprints:
        """The largest hashes ``(KEPT,)`` of `image`, filled up with zeros where it has fewer."""
        salt = np.random.default_rng(self.seed).integers(UNITS, size=image.size)
        values = (np.ravel(image) * UNITS + salt) % UNITS
        coarse = (np.rint(values / GRAIN) * GRAIN).astype(np.int16)
        runs = {coarse[at : at + WINDOW].tobytes() for at in range(0, len(coarse) - WINDOW + 1, STEP)}
        hashes = sorted((int.from_bytes(hashlib.sha256(run).digest()[:8], "big") for run in runs), reverse=True)
        return np.array((hashes + [0] * KEPT)[:KEPT], np.uint64)
