"""Window hash: a keyed polynomial hash of every stretch of so many letters, all at once.

A stretch c of n letters hashes to sum_j R[c_j] B^j modulo 2^64 with secret numbers R and a secret odd B, from prefix
sums; a last mixing spreads the high bits over the low ones. Two different stretches, chosen without the secret, agree
with a chance of about 2^-64.

Reference: Karp and Rabin, "Efficient randomized pattern-matching algorithms", IBM Journal 1987.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
_PIECE = 1 << 14  # letters whose powers are kept; longer texts are hashed piece by piece


class WindowHash:
    """A window hash holds the numbers that follow from a `secret`, for stretches of `length` letters."""

    def __init__(self, length: int, secret: bytes) -> None:
        self.length = length
        numbers = np.frombuffer(hashlib.shake_256(secret + length.to_bytes(4, "big")).digest(8 * 257), ">u8")
        self._letters = numbers[:256].astype(np.uint64)
        base = int(numbers[256]) | 1
        self._powers = _powers(base, _PIECE + length)
        self._inverse = _powers(pow(base, -1, 1 << 64), _PIECE + length)

    def hash_windows(self, letters: bytes) -> Hashes:
        """``(n - length + 1,)``: one hash for each place at which a stretch can start; none for a shorter text."""
        count = len(letters) - self.length + 1
        if count <= 0:
            return np.zeros(0, np.uint64)
        codes = np.frombuffer(letters, np.uint8)
        pieces = [
            self._hash_piece(codes[start : start + _PIECE + self.length - 1]) for start in range(0, count, _PIECE)
        ]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _hash_piece(self, codes: NDArray[np.uint8]) -> Hashes:
        sums = np.zeros(len(codes) + 1, np.uint64)
        np.cumsum(self._letters[codes] * self._powers[: len(codes)], out=sums[1:])
        count = len(codes) - self.length + 1
        hashes: Hashes = (sums[self.length :] - sums[:count]) * self._inverse[:count]
        return mixed_bits(hashes)


def mixed_bits(hashes: Hashes) -> Hashes:
    """The same number of different values, the low bits of each depending on all bits of the old one."""
    hashes = (hashes ^ (hashes >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    return np.asarray(hashes ^ (hashes >> np.uint64(32)))


def _powers(base: int, count: int) -> Hashes:
    powers = np.empty(count, np.uint64)
    power = 1
    for place in range(count):
        powers[place] = power
        power = power * base & 0xFFFFFFFFFFFFFFFF
    return powers
