"""Random numbers that nobody can guess, and that a resumed training draws again.

Every number is a function of a secret key, the step and what it is for: the output of the SHAKE-128 extendable function
(FIPS 202). torch's own generator has 32 bits of seed, which can be tried one by one, and no noise is hidden by it. A
step that is run again after a kill draws the same units and the same noise, so that it is one use of the mechanism and
not two.

References: Holohan and Braghin, "Secure random sampling in differential privacy", ESORICS 2021, for normal numbers as
sums, which close the attack through floating point of Mironov, CCS 2012.
"""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from medward.guard.types import Array

_KEY = 32  # bytes
_SUMMED = 4  # normal numbers in one


@dataclass(frozen=True, slots=True)
class Randomness:
    """Randomness draws numbers for a step of training from `key`; keep that secret: it tells noise from signal."""

    key: bytes = field(repr=False)

    @classmethod
    def secret(cls) -> Randomness:
        """With a key of the operating system's."""
        return cls(os.urandom(_KEY))

    @classmethod
    def seeded(cls, seed: int) -> Randomness:
        """With a key that anyone can guess: for tests, as it makes training repeatable and protects nobody."""
        return cls(hashlib.sha256(f"medward {seed}".encode()).digest())

    def uniforms(self, step: int, what: str, count: int) -> Array:
        """`count` numbers in [0, 1), of 53 bits."""
        words = np.frombuffer(self._bytes(step, what, 8 * count), "<u8")
        return np.asarray((words >> np.uint64(11)) * 2.0**-53, np.float64)

    def normals(self, step: int, what: str, count: int) -> Tensor:
        """`count` standard normal numbers in double precision, each the sum of four halves (TensorBox and Muller)."""
        pairs = -(-count * _SUMMED // 2)
        drawn = torch.from_numpy(self.uniforms(step, what, 2 * pairs)).reshape(2, pairs)
        radius = drawn[0].neg_().log1p_().mul_(-2).sqrt_()  # of 1 - u, which is never 0
        angle = drawn[1].mul_(2 * math.pi)
        both = torch.stack([radius * angle.cos(), radius * angle.sin()]).reshape(-1)
        return both[: _SUMMED * count].reshape(_SUMMED, count).sum(dim=0).div_(math.sqrt(_SUMMED))

    def seed(self, step: int, what: str) -> int:
        """A seed for a generator whose numbers need not be secret, as those of dropout."""
        return int.from_bytes(self._bytes(step, what, 8), "little") >> 1

    def _bytes(self, step: int, what: str, count: int) -> bytes:
        return hashlib.shake_128(self.key + f"{what}:{step}".encode()).digest(count)
